"""Decide one question, one name and one purpose at a time, gate after gate (DESIGN.md section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from policyd.model import (
    NO_OBLIGATIONS,
    Action,
    Agreement,
    DataService,
    Obligations,
    Organisation,
    Registry,
    Request,
    Requester,
    Status,
    Transform,
    Visas,
)
from policyd.reasons import Reason
from reference import purpose as purposes
from reference.column import Named, resolve
from reference.condition import ERROR, NO, YES, rule_holds
from reference.protection import SUPPRESS, accumulate, grant_of, obligations_of, strictest, with_epoch
from reference.source import Field, Source, instant
from reference.standing import accreditation_of, is_usable

RELEASE, TRANSFORM, WITHHOLD, PARTIAL = "release", "transform", "withhold", "partial"
ORDER = list(Reason)
LARGEST_ROUND_TO = 2**31 - 1


@dataclass(frozen=True)
class Verdict:
    """The verdict on one name; ``owed`` are the obligations that come with letting it go."""

    effect: str
    reason: Reason
    rule: str
    transform: Transform = ()
    owed: Obligations = NO_OBLIGATIONS


@dataclass(frozen=True)
class Answer:
    """The verdict on each name as it was asked for, on the whole question, and what is owed."""

    outcome: str
    verdicts: dict[str, Verdict]
    obligations: Obligations


@dataclass(frozen=True)
class Parties:
    """Who asks, through what, under what: known once gates 1 to 3 have passed."""

    service: DataService
    requester: Requester
    organisation: Organisation
    agreement: Agreement


@dataclass(frozen=True)
class Question:
    """Everything that one decision looks at."""

    source: Source
    registry: Registry
    request: Request
    now: int
    epoch: int


def evaluate(source: Source, registry: Registry, request: Request, now: int, *, epoch: int) -> Answer:
    """Return the answer to ``request`` at ``now``."""
    question = Question(source, registry, request, now, epoch)
    names = [*request.claimed.fields, *request.claimed.used_fields]
    parties = _gates_1_to_3(question)
    if isinstance(parties, Verdict):
        return _all_withheld(names, parties)
    refusal = _gate_4(question, parties) or _gate_5(question, parties)
    if refusal is None and any("*" in name for name in names):
        refusal = _withheld(Reason.FIELD_WILDCARD, "gate:6:wildcard")
    if refusal is not None:
        return _all_withheld(names, refusal)
    named = {name: resolve(source.fields, name) for name in names}
    verdicts = {name: _judge_name(question, parties, named[name]) for name in names}
    if any(verdicts[name].effect == WITHHOLD for name in request.claimed.used_fields):
        _withhold_the_rest(verdicts, Reason.USED_FIELD_WITHHELD, "gate:9:used-fields")
    owed = _whole_obligations(question, named, verdicts)
    if _is_unmeetable(owed):
        _withhold_the_rest(verdicts, Reason.OBLIGATION_CONFLICT, "gate:9:obligations")
    effects = {verdict.effect for verdict in verdicts.values()}
    if effects <= {WITHHOLD}:
        return Answer(WITHHOLD, verdicts, NO_OBLIGATIONS)
    return Answer(PARTIAL if WITHHOLD in effects else RELEASE, verdicts, with_epoch(owed, epoch))


def attributes_of(
    source: Source, registry: Registry, request: Request, now: int, *, name: str
) -> dict[str, object] | None:
    """Return what rules may look at for one name and the first declared purpose; None before gate 9."""
    question = Question(source, registry, request, now, epoch=0)
    parties, named = _gates_1_to_3(question), resolve(source.fields, name)
    if isinstance(parties, Verdict) or named is None or _gate_4(question, parties) is not None:
        return None
    return _attributes(question, parties, named.field, request.claimed.purposes[0])


def _withheld(reason: Reason, rule: str) -> Verdict:
    return Verdict(WITHHOLD, reason, rule)


def _all_withheld(names: Sequence[str], verdict: Verdict) -> Answer:
    return Answer(WITHHOLD, dict.fromkeys(names, verdict), NO_OBLIGATIONS)


def _withhold_the_rest(verdicts: dict[str, Verdict], reason: Reason, rule: str) -> None:
    for name, verdict in verdicts.items():
        if verdict.effect != WITHHOLD:
            verdicts[name] = _withheld(reason, rule)


def _gates_1_to_3(question: Question) -> Parties | Verdict:
    registry, claimed, verified = question.registry, question.request.claimed, question.request.verified
    # Gate 1: the data service is the SPIFFE ID of the caller's certificate.
    services = [each for each in registry.data_services.values() if each.spiffe_id == verified.spiffe_id]
    if not services:
        return _withheld(Reason.DATA_SERVICE_UNKNOWN, "gate:1:data-service")
    service = services[0]
    if service.status is not Status.ACTIVE:
        return _withheld(Reason.DATA_SERVICE_SUSPENDED, "gate:1:data-service")
    operator = registry.organisations.get(service.organisation)
    if operator is None or not is_usable(operator, question.now):
        return _withheld(Reason.DATA_SERVICE_SUSPENDED, "gate:1:operator")
    # Gate 2: the requester is the subject that one issuer vouches for.
    token = verified.token
    if token is None:
        return _withheld(Reason.REQUESTER_UNVERIFIED, f"gate:2:{verified.token_error}")
    people = [
        each
        for each in registry.requesters.values()
        if each.issuer == token.issuer and each.subject == token.subject
    ]
    if not people:
        return _withheld(Reason.REQUESTER_UNKNOWN, "gate:2:requester")
    requester = people[0]
    if requester.status is not Status.ACTIVE:
        return _withheld(Reason.REQUESTER_SUSPENDED, "gate:2:requester")
    organisation = registry.organisations.get(requester.organisation)
    if organisation is None or not is_usable(organisation, question.now):
        return _withheld(Reason.ORGANISATION_SUSPENDED, "gate:2:organisation")
    # Gate 3: whose agreement it is comes first, so that nobody learns the state of someone else's.
    agreement = registry.agreements.get(claimed.agreement)
    if agreement is None:
        return _withheld(Reason.AGREEMENT_UNKNOWN, "gate:3:agreement")
    if (
        agreement.organisation != organisation.id
        or requester.id not in agreement.requesters
        or service.id not in agreement.data_services
    ):
        return _withheld(Reason.AGREEMENT_NOT_YOURS, "gate:3:agreement")
    if agreement.status is not Status.ACTIVE:
        return _withheld(Reason.AGREEMENT_SUSPENDED, "gate:3:agreement")
    if question.now < agreement.from_at:
        return _withheld(Reason.AGREEMENT_NOT_STARTED, "gate:3:agreement")
    if agreement.until_at <= question.now:
        return _withheld(Reason.AGREEMENT_EXPIRED, "gate:3:agreement")
    if service.setting != agreement.setting:
        return _withheld(Reason.SETTING_NOT_APPROVED, "gate:3:setting")
    if claimed.action not in agreement.actions:
        return _withheld(Reason.ACTION_NOT_APPROVED, "gate:3:action")
    return Parties(service, requester, organisation, agreement)


def _gate_4(question: Question, parties: Parties) -> Verdict | None:
    declared, known = question.request.claimed.purposes, question.source.purposes
    if not declared:
        return _withheld(Reason.PURPOSE_MISSING, "gate:4:purpose")
    for name in declared:
        if name not in known:
            return _withheld(Reason.PURPOSE_UNKNOWN, "gate:4:purpose")
        if not known[name].get("requestable", True):
            return _withheld(Reason.PURPOSE_NOT_REQUESTABLE, "gate:4:purpose")
        if not purposes.at_or_below(known, name, list(parties.agreement.purposes)):
            return _withheld(Reason.PURPOSE_NOT_IN_AGREEMENT, "gate:4:purpose")
    return None


def _gate_5(question: Question, parties: Parties) -> Verdict | None:
    """The gateway that the agreement names, never another that would fit."""
    gateway = question.source.gateways.get(parties.agreement.gateway)
    if gateway is None or not _is_in_force(gateway["valid_from"], gateway["valid_until"], question.now):
        return _withheld(Reason.GATEWAY_NOT_IN_FORCE, "gate:5:gateway")
    status, _ = accreditation_of(
        question.registry, parties.requester, parties.agreement.scheme, question.now, _visas(question)
    )
    for name in question.request.claimed.purposes:
        for each in gateway.get("preconditions", []):
            met = {
                "organisation_kind": parties.organisation.kind in each.get("kinds", []),
                "accredited_person": status == "valid",
                "accredited_project": parties.agreement.project_accredited
                or any(
                    grant.agreement == parties.agreement.id
                    and question.now >= grant.from_at
                    and question.now < grant.until_at
                    for grant in _visas(question).projects
                ),
                "accredited_setting": parties.service.setting in each.get("settings", []),
                "not_individual_decision": not purposes.at_or_below(
                    question.source.purposes, name, ["individual-decision"]
                ),
                # These two are over fields: see _gates_5_to_8.
                "deidentified": True,
                "article9": True,
            }[each["check"]]
            if not met:
                return _withheld(Reason.GATEWAY_PRECONDITION, f"gate:5:{each['check']}")
    return None


def _visas(question: Question) -> Visas:
    token = question.request.verified.token
    return Visas() if token is None else token.visas


def _is_in_force(valid_from: object, valid_until: object, now: int) -> bool:
    if "unknown" in (valid_from, valid_until):
        return False
    return instant(valid_from) <= now and (valid_until == "open" or now < instant(valid_until))


def _judge_name(question: Question, parties: Parties, named: Named | None) -> Verdict:
    """Judge one name for each declared purpose on its own; the most protective verdict wins."""
    if named is None:
        return _withheld(Reason.FIELD_UNKNOWN, "gate:6:field")
    each = [_judge(question, parties, named, purpose) for purpose in question.request.claimed.purposes]
    withheld = [verdict for verdict in each if verdict.effect == WITHHOLD]
    if withheld:
        return min(withheld, key=lambda verdict: (ORDER.index(verdict.reason), verdict.rule))
    transform = strictest(verdict.transform for verdict in each)
    rules = sorted(verdict.rule for verdict in each)
    giving = sorted(verdict.rule for verdict in each if verdict.transform == transform)
    if transform == SUPPRESS:
        return Verdict(WITHHOLD, Reason.SUPPRESSED, rules[0])
    return Verdict(
        TRANSFORM if transform else RELEASE,
        Reason.NONE,
        (giving or rules)[0],
        transform,
        accumulate([verdict.owed for verdict in each]),
    )


def _judge(question: Question, parties: Parties, named: Named, purpose: str) -> Verdict:
    field = named.field
    refusal = _gates_5_to_7(question, parties, named)
    if refusal is not None:
        return refusal
    # Gate 8: intended purposes.
    judgement, conditions = purposes.judge(question.source.purposes, field.intended, purpose)
    if judgement == purposes.PROHIBITED:
        return _withheld(Reason.PURPOSE_PROHIBITED, "gate:8:intended-purposes")
    if judgement == purposes.NOT_ALLOWED:
        return _withheld(Reason.PURPOSE_NOT_ALLOWED, "gate:8:intended-purposes")
    authorities = parties.organisation.local_authorities
    owed = [obligations_of(each, authorities) for each in conditions]
    if question.request.claimed.action is Action.COUNT:
        owed.append(Obligations(min_cell_count=question.source.cell_floor))
    return _gate_9(question, parties, field, purpose, owed)


def _gates_5_to_7(question: Question, parties: Parties, named: Named) -> Verdict | None:
    field, agreement = named.field, parties.agreement
    # Gate 5, preconditions over fields.
    for each in question.source.gateways[agreement.gateway].get("preconditions", []):
        identifies = each["check"] == "deidentified" and field.risk in (1, 2)
        special = each["check"] == "article9" and "D" in field.letters and agreement.article9 == "none"
        if identifies or special:
            return _withheld(Reason.GATEWAY_PRECONDITION, f"gate:5:{each['check']}")
    # Gate 6: the catalogue.
    if field.text.get("withdrawn"):
        return _withheld(Reason.FIELD_WITHDRAWN, "gate:6:withdrawn")
    if "A" in field.letters and parties.organisation.kind != "department":
        return _withheld(Reason.FIELD_NEVER_EXTERNAL, "gate:6:never-external")
    # Gate 7: the agreement's fields, then its years.
    if field.id.lower() not in {name.lower() for name in agreement.fields}:
        return _withheld(Reason.FIELD_NOT_IN_AGREEMENT, "gate:7:agreement-fields")
    stated = question.request.claimed.years
    years = stated if named.year is None else (named.year,)
    if not years:
        return _withheld(Reason.YEAR_MISSING, "gate:7:years")
    own = [of for table, of in agreement.table_years if table.lower() == field.table.lower()]
    approved = own[-1] if own else agreement.years
    if not set(years) <= approved:
        return _withheld(Reason.YEAR_NOT_IN_AGREEMENT, "gate:7:years")
    return None


def _gate_9(
    question: Question, parties: Parties, field: Field, purpose: str, owed: list[Obligations]
) -> Verdict:
    """Deny rules first: true, then in error. Then at least one allow rule must be true."""
    attributes = _attributes(question, parties, field, purpose)
    held = [(rule, rule_holds(rule, attributes)) for rule in question.source.rules]
    for answer, reason in ((YES, Reason.DENIED_BY_RULE), (ERROR, Reason.RULE_ERROR)):
        for rule, holds in held:
            if rule["effect"] == "deny" and holds == answer:
                return _withheld(reason, rule["uid"])
    allowing = [rule for rule, holds in held if rule["effect"] == "allow" and holds == YES]
    if not allowing:
        return _withheld(Reason.NO_RULE_ALLOWS, "gate:9:rules")
    # A rule in error grants nothing and still imposes what it would have imposed.
    imposing = [rule for rule, holds in held if rule["effect"] == "allow" and holds != NO]
    transform = strictest(grant_of(rule) for rule in imposing)
    authorities = parties.organisation.local_authorities
    owed += [obligations_of(rule.get("obligations", {}), authorities) for rule in imposing]
    total = accumulate(owed)
    deciding = next((rule for rule in allowing if grant_of(rule) == transform), allowing[0])["uid"]
    if transform == SUPPRESS:
        return _withheld(Reason.SUPPRESSED, deciding)
    if total.setting is not None and parties.service.setting not in total.setting:
        return _withheld(Reason.OBLIGATION_CONFLICT, deciding)
    return Verdict(TRANSFORM if transform else RELEASE, Reason.NONE, deciding, transform, total)


def _attributes(question: Question, parties: Parties, field: Field, purpose: str) -> dict[str, object]:
    """Return what rules may look at (docs/policy-set.md); an attribute that is missing has no entry."""
    agreement, organisation = parties.agreement, parties.organisation
    status, record = accreditation_of(
        question.registry, parties.requester, agreement.scheme, question.now, _visas(question)
    )
    found: dict[str, object] = {
        "requester.id": parties.requester.id,
        "organisation.id": organisation.id,
        "organisation.kind": organisation.kind,
        "organisation.commercial": organisation.commercial,
        "accreditation.scheme": agreement.scheme,
        "accreditation.status": status,
        "roles": parties.requester.roles,
        "field": field.id,
        "table": field.table,
        "level": field.table_level,
        "sections": frozenset(field.text.get("sections", [])),
        "identification_risk": field.risk,
        "sensitivity": frozenset(field.letters),
        "action": question.request.claimed.action.value,
        "data_service.id": parties.service.id,
        "setting": parties.service.setting,
        "purpose": purpose,
        "purpose_within": frozenset(purposes.up(question.source.purposes, purpose)),
        "purpose_notice": bool(question.source.purposes[purpose].get("notice")),
        "gateway": agreement.gateway,
        "agreement.id": agreement.id,
        "agreement.basis": agreement.basis,
        "agreement.article9": agreement.article9,
        "agreement.compatibility": agreement.compatibility,
        "agreement.exemption": agreement.exemption,
        "now": question.now,
    }
    if record is not None:
        found["accreditation.level"] = record.level.value
        found["accreditation.until"] = record.until_at
    if "by_request" in field.text:
        found["by_request"] = field.text["by_request"]
    return found


def _whole_obligations(
    question: Question, named: dict[str, Named | None], verdicts: dict[str, Verdict]
) -> Obligations:
    """Add up what all names that are let go owe; one without a year binds the rows to the stated years."""
    let_go = [name for name, verdict in verdicts.items() if verdict.effect != WITHHOLD]
    owed = [verdicts[name].owed for name in let_go]
    for name in let_go:
        found = named[name]
        if found is not None and found.year is None:
            owed.append(Obligations(row_years=frozenset(question.request.claimed.years)))
    return accumulate(owed)


def _is_unmeetable(owed: Obligations) -> bool:
    return (
        owed.row_years == frozenset()
        or owed.setting == frozenset()
        or (owed.round_to or 0) > LARGEST_ROUND_TO
    )
