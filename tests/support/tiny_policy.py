"""A small policy set that has one of everything, as texts that a test may change before they are loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from policyd.policy.attributes import DERIVED
from policyd.policy.load import load_policy_set
from policyd.policy.policyset import PolicySet

Files = dict[str, str]

_HEAD = """\
name: tiny
version: 3
description: A policy set for tests.
effective_from: 2025-01-01
combining: deny-overrides
"""

_PURPOSES = """\
root: any
purposes:
  any: {label: Any use, requestable: false}
  research: {label: Research, parents: [any], notice: notice/research}
  academic: {label: Research at a university, parents: [research], notice: notice/academic}
  commercial: {label: For gain, parents: [any]}
  industry: {label: Research for gain, parents: [research, commercial]}
  statistics: {label: Statistics, parents: [any]}
  marketing: {label: Marketing, parents: [any]}
  individual-decision: {label: Decisions about one pupil, parents: [any]}
  exclusion-review: {label: Review of one exclusion, parents: [individual-decision]}
"""

_GATEWAYS = """\
min_cell_count_floor: 10
gateways:
  - {id: OPEN-1, label: Open, valid_from: 2020-01-01, valid_until: open, source: made for tests}
  - {id: PAST-1, label: Past, valid_from: 2020-01-01, valid_until: 2026-06-01, source: made for tests}
  - {id: NEVER-1, label: Never, valid_from: unknown, valid_until: open, source: made for tests}
  - {id: NEVER-2, label: Never, valid_from: 2020-01-01, valid_until: unknown, source: made for tests}
  - id: STRICT-1
    label: Everything that can be asked for
    valid_from: 2020-01-01
    valid_until: open
    source: made for tests
    preconditions:
      - {check: organisation_kind, kinds: [university, department]}
      - {check: accredited_person}
      - {check: accredited_project}
      - {check: accredited_setting, settings: [secure, vault]}
      - {check: not_individual_decision}
      - {check: deidentified}
      - {check: article9}
"""

_DEFAULTS = """\
catalogue: {allowed: [any], prohibited: [marketing]}
classes:
  - match: {identification_risk: [1, 2]}
    purposes: {prohibited: [commercial]}
"""

_PUPIL = """\
table: Pupil
label: One row a pupil
level: pupil
sections:
  - {name: Care, purposes: {allowed: [academic, statistics]}}
fields:
  - {name: Name, label: Name, identification_risk: 1, sensitivity: [E]}
  - {name: Upn, label: Number, identification_risk: 2, sensitivity: [E], columns: ["UPN_[term][yy]"]}
  - {name: Ref, label: Reference, identification_risk: 3, sensitivity: [E]}
  - {name: Dob, label: Date of birth, identification_risk: 4, sensitivity: [E], columns: ["Dob_SPR[yy]"]}
  - name: Ethnicity
    label: Ethnic group
    identification_risk: 5
    sensitivity: [D]
    by_request: true
    columns: ["Ethnicity_[term][yy]", "Ethnicity_ab[yy]"]
  - {name: Fsm, label: Free meals, identification_risk: 5, sensitivity: [C], by_request: false}
  - {name: Score, label: Score, identification_risk: 5, sensitivity: [E]}
  - {name: Care, label: In care, identification_risk: 5, sensitivity: [B], sections: [Care]}
  - name: Nationality
    label: Nationality
    identification_risk: 5
    sensitivity: [D]
    withdrawn: Withdrawn for tests.
  - {name: Secret, label: Never leaves, identification_risk: 5, sensitivity: [A]}
"""

_SCHOOL = """\
table: School
label: One row a school
level: school
purposes:
  allowed: [research]
  conditional:
    - {purpose: statistics, obligations: {min_cell_count: 20, output_check: true}}
fields:
  - {name: Size, label: Pupils on roll, identification_risk: 5, sensitivity: [E]}
  - name: Laestab
    label: Number
    identification_risk: 5
    sensitivity: [E]
    columns: ["LAESTAB", "Code_[n]_ex[yy]"]
"""

_RULES = """\
- uid: a10-research
  why: Accredited people research.
  effect: allow
  rules:
    subject: {$.accreditation.status: {condition: Equals, value: valid}}
    context: {$.purpose_within: {condition: AnyIn, values: [research]}}
  grant: release
- uid: a20-statistics
  why: Statistics come from everything that does not identify.
  effect: allow
  rules:
    resource: {$.identification_risk: {condition: Gte, value: 3}}
    context: {$.purpose: {condition: Equals, value: statistics}}
  grant: release
  obligations: {round_to: 5, retention_days: 365}
- uid: a30-dob-by-month
  why: The month of birth is enough.
  effect: allow
  targets: {resource_id: "*.Dob"}
  rules: {}
  grant: {generalise: {to: month}}
- uid: a31-dob-by-year-for-industry
  why: For gain the year is enough.
  effect: allow
  targets: {resource_id: Pupil.Dob}
  rules:
    context: {$.purpose_within: {condition: AnyIn, values: [commercial]}}
  grant: {generalise: {to: year}}
  obligations: {retention_days: 30}
- uid: a40-score-in-bands
  why: Scores leave in bands where the level of accreditation is known.
  effect: allow
  rules:
    subject: {$.accreditation.level: {condition: Equals, value: provisional}}
    resource: {$.field: {condition: Equals, value: Pupil.Score}}
  grant: {band: {width: 5}}
  obligations: {min_cell_count: 15}
- uid: a50-pseudonyms
  why: References leave under a pseudonym.
  effect: allow
  rules:
    resource: {$.identification_risk: {condition: Eq, value: 3}}
  grant: pseudonymise
- uid: a60-own-area
  why: An authority sees its own rows.
  effect: allow
  targets: {resource_id: School.Size}
  rules:
    subject: {$.organisation.kind: {condition: Equals, value: local-authority}}
  grant: release
  obligations: {rows: {local_authority: own}}
- uid: d10-names-stay-in
  why: Names leave the vault for nobody.
  effect: deny
  rules:
    resource: {$.identification_risk: {condition: Lte, value: 1}}
    context: {$.setting: {condition: NotEquals, value: vault}}
- uid: d20-no-matching-on-ethnicity
  why: Nobody is matched by ethnic group.
  effect: deny
  targets: {resource_id: Pupil.Ethnicity, action_id: [match, ver*]}
  rules: {}
- uid: d30-by-request-is-known
  why: In the annexe only fields known not to be by request leave.
  effect: deny
  rules:
    resource: {$.by_request: {condition: IsIn, values: [true]}}
    context: {$.setting: {condition: Equals, value: annexe}}
- uid: d40-suspended-people
  why: Suspended people get nothing.
  effect: deny
  rules:
    subject: {$.accreditation.status: {condition: Equals, value: suspended}}
"""


def attributes() -> str:
    """Return an `attributes.yaml` that lists what policyd derives."""
    lines = []
    for each in DERIVED.values():
        lines.append(f"- name: {each.name}\n  part: {each.part}\n  type: {each.type}\n  source: registry")
        lines.append(f"  always: {'true' if each.always else 'false'}\n  about: Of tests.")
    return "\n".join(lines) + "\n"


def tiny_files() -> Files:
    """Return the texts of the policy set by file name; the caller may change them."""
    return {
        "policyset.yaml": _HEAD,
        "purposes.yaml": _PURPOSES,
        "attributes.yaml": attributes(),
        "gateways.yaml": _GATEWAYS,
        "catalogue/defaults.yaml": _DEFAULTS,
        "catalogue/Pupil.yaml": _PUPIL,
        "catalogue/School.yaml": _SCHOOL,
        "rules/rules.yaml": _RULES,
    }


def write_files(directory: Path, files: Mapping[str, str]) -> Path:
    """Write the texts below ``directory``, which is returned."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return directory


def load_files(directory: Path, files: Mapping[str, str]) -> PolicySet:
    """Write the texts and load what they say."""
    return load_policy_set(write_files(directory, files))


def load_tiny(directory: Path, *, rules: str = "") -> PolicySet:
    """Load the policy set; ``rules`` is the text of one more file of rules."""
    files = tiny_files()
    if rules:
        files["rules/more.yaml"] = rules
    return load_files(directory, files)
