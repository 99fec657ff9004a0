"""A kept entitlement answers as a fresh one would: at every instant, for every input, in every thread."""

from __future__ import annotations

import threading
from dataclasses import fields, replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from support import tiny_registry as tiny
from support.tiny_policy import load_tiny
from support.tiny_registry import EVERYTHING, NOW, accreditation, agreement, ask, at, organisation, requester

from policyd.decision import cache
from policyd.decision.cache import Decider, cache_key
from policyd.decision.decide import Ruling, decide, rule
from policyd.decision.entitlement import FOREVER, Entitlement, _instants, entitle
from policyd.decision.gates import admit
from policyd.decision.snapshot import Snapshot, advance, build_snapshot
from policyd.model import (
    AccreditationLevel,
    Action,
    Claimed,
    Decision,
    Registry,
    Request,
    Seal,
    Token,
    Verified,
    Visas,
)
from policyd.policy.attributes import DERIVED, Type
from policyd.policy.policyset import PolicySet

DATED_RULES = """
- uid: w10-soon-over
  why: Scores come coarser where the accreditation is soon over.
  effect: allow
  rules: {resource: {$.field: {condition: Equals, value: Pupil.Score}}}
  where: {subject: {$.accreditation.until: {condition: Before, days_from_now: 6}}}
  grant: {band: {width: 15}}
- uid: w20-not-in-spring
  why: Sizes stay in for a while.
  effect: deny
  targets: {resource_id: School.Size}
  rules: {}
  where: {context: {$.now: {condition: Within, from: 2026-03-04, until: "2026-03-05T06:00:00Z"}}}
- uid: w30-later
  why: The day of birth stays in from a date on, or for those whose accreditation was over long ago.
  effect: deny
  targets: {resource_id: Pupil.Dob}
  rules: {}
  where:
    subject:
      - $.accreditation.until: {condition: Not, value: {condition: After, days_from_now: -2}}
      - $.accreditation.until: {condition: After, value: 2026-04-01}
    context: {$.now: {condition: AnyOf, values: [{condition: After, value: 2026-03-08}]}}
"""


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> PolicySet:
    return load_tiny(tmp_path_factory.mktemp("tiny"), rules=DATED_RULES)


def kept_for(decider: Decider, service: str) -> dict[Any, Any]:
    """Return what is kept for a data service of the tiny registry."""
    kept: dict[Any, Any] = decider._shelves[f"spiffe://test/{service}"].kept
    return kept


def rulings_for(decider: Decider, service: str) -> list[Any]:
    """Return the keys of all rulings kept for it."""
    return [asked for kept in kept_for(decider, service).values() for asked in kept.rulings]


def busy_registry() -> Registry:
    """Return a registry in which much starts and ends: people, bodies and agreements."""
    day = 86_400_000
    provisional = {"level": AccreditationLevel.PROVISIONAL, "supervisor": "researcher-9"}
    return tiny.registry(
        organisation(changed_at=NOW - 30 * day, verified_at=NOW - 20 * day),
        organisation("org-2", changed_at=NOW + 11 * day),
        requester("researcher-2"),
        requester("researcher-9"),
        requester("researcher-3", organisation="org-2"),
        accreditation("ACC-1", from_at=NOW - 40 * day, until_at=NOW + 40 * day),
        accreditation(
            "ACC-2", requester="researcher-2", from_at=NOW - day, until_at=NOW + 9 * day, **provisional
        ),
        accreditation("ACC-3", requester="researcher-2", from_at=NOW + 3 * day, until_at=NOW + 5 * day),
        accreditation("ACC-9", requester="researcher-9", from_at=NOW - 5 * day, until_at=NOW + 7 * day),
        accreditation("ACC-8", requester="researcher-9", from_at=NOW + day, until_at=NOW + 2 * day),
        accreditation("ACC-4", requester="researcher-3", organisation="org-2"),
        agreement("AG-1", requesters=frozenset({"researcher-1", "researcher-2"}), until_at=NOW + 13 * day),
        agreement("AG-2", requesters=frozenset({"researcher-2"}), from_at=NOW + 2 * day, gateway="PAST-1"),
        agreement("AG-3", requesters=frozenset({"researcher-3"}), organisation="org-2", gateway="STRICT-1"),
        agreement(
            "AG-4", requesters=frozenset({"researcher-1"}), from_at=0, until_at=FOREVER // 2, gateway="PAST-1"
        ),
    )


def instants_of(registry: Registry, policy: PolicySet) -> list[int]:
    """Return every instant that the registry or the policy set names, whatever it is for."""
    found: set[int] = set()
    for section in fields(registry):
        for entry in getattr(registry, section.name).values():
            named = [getattr(entry, each.name) for each in fields(entry) if each.name.endswith("_at")]
            found |= {instant for instant in named if instant is not None}
    for gateway in policy.gateways.by_id.values():
        found |= {each for each in (gateway.valid_from, gateway.valid_until) if each is not None}
    found |= {at(date) for date in ("2026-03-04", "2026-03-05T06:00:00Z", "2026-03-08", "2026-04-01")}
    # Around every instant, as far from it as a duration of the rules reaches.
    return sorted(found | {instant + days * 86_400_000 for instant in found for days in (-6, 2)})


QUESTIONS = [
    ask("Pupil.Fsm", "Pupil.Score", "School.Size", "Pupil.Dob", who=who, agreement=name, purposes=purposes)
    for who, name, purposes in product(
        ("researcher-1", "researcher-2", "researcher-3", "nobody"),
        ("AG-1", "AG-2", "AG-3", "AG-4", "AG-9"),
        (("academic",), ("academic", "statistics")),
    )
]


def test_a_cached_answer_is_the_fresh_one_around_every_boundary(policy: PolicySet) -> None:
    """One cache, asked forwards and backwards through time at each boundary, -1, +0 and +1 ms."""
    registry = busy_registry()
    snapshot = build_snapshot(policy, registry, epoch=1)
    times = [instant + by for instant in instants_of(registry, policy) for by in (-1, 0, 1)]
    assert len(times) > 60
    decider = Decider(snapshot)
    told, rules = set(), set()
    for now in [*times, *reversed(times)]:
        for request in QUESTIONS:
            fresh = decide(snapshot, request, now)
            assert decider.decide(request, now) == fresh, (request.claimed.agreement, now)
            told |= {group.reason for group in fresh.groups}
            rules |= {group.rule for group in fresh.groups}
    assert len(told) >= 8
    assert {"w10-soon-over", "w20-not-in-spring", "w30-later"} <= rules


def test_an_entitlement_is_valid_only_between_the_nearest_boundaries(policy: PolicySet) -> None:
    """At any instant its validity holds that instant, and no instant that the parties name is inside."""
    registry = busy_registry()
    snapshot = build_snapshot(policy, registry, epoch=1)
    for instant, by in product(instants_of(registry, policy), (-1, 0, 1)):
        for request in QUESTIONS:
            found = entitle(snapshot, request, now=instant + by)
            assert found.valid_from <= instant + by < found.valid_until
            same = [
                entitle(snapshot, request, now=each) for each in (found.valid_from, found.valid_until - 1)
            ]
            assert [(e.refusal, e.grades, e.by_position) for e in same] == [
                (found.refusal, found.grades, found.by_position)
            ] * 2


def test_an_edge_belongs_to_what_begins_there(policy: PolicySet) -> None:
    """Up to the last instant before an edge one entitlement is valid, from the edge on another."""
    snapshot = tiny.snapshot(policy, agreement(until_at=NOW + 10))

    before, after = (entitle(snapshot, _ASKED, now=NOW + 10 + by) for by in (-1, 0))

    assert before.valid_until == after.valid_from == NOW + 10
    assert before.valid_from < NOW + 10 < after.valid_until


def test_what_no_instant_bounds_is_valid_for_ever(policy: PolicySet) -> None:
    """Ever is beyond every date, and a number that the wire can carry."""
    found = entitle(tiny.snapshot(policy), ask("Pupil.Fsm", service="nobody"), now=NOW)

    assert (found.valid_from, found.valid_until) == (-FOREVER, FOREVER)
    assert at("9999-12-31") < FOREVER < 2**63


def test_what_is_kept_is_used_from_its_first_instant(policy: PolicySet) -> None:
    """At the edge itself the second question finds what the first left."""
    decider = Decider(tiny.snapshot(policy, agreement(from_at=NOW)))
    decider.decide(_ASKED, NOW)
    (kept,) = kept_for(decider, "svc-secure").values()
    assert kept.entitlement.valid_from == NOW

    decider.decide(_ASKED, NOW)

    (now_kept,) = kept_for(decider, "svc-secure").values()
    assert now_kept is kept


def test_what_replaces_itself_pushes_nothing_out(policy: PolicySet) -> None:
    """When one entitlement has run out and is worked out anew, the others stay, though the cache is full."""
    decider = Decider(tiny.snapshot(policy, agreement(until_at=NOW + 10)), limit=2)
    other = ask("Pupil.Fsm", purposes=("statistics",))
    for request in (other, _ASKED):
        decider.decide(request, NOW)

    decider.decide(_ASKED, NOW + 10)

    assert set(kept_for(decider, "svc-secure")) == {cache_key(other), cache_key(_ASKED)}


def test_a_clock_that_steps_back_gets_the_answer_of_then(policy: PolicySet) -> None:
    """An entitlement has a first instant as well as a last."""
    snapshot = tiny.snapshot(policy, agreement(from_at=NOW))
    decider = Decider(snapshot)

    late = decider.decide(ask("Pupil.Fsm"), NOW)
    early = decider.decide(ask("Pupil.Fsm"), NOW - 1)

    assert tiny.spell(late) == {"Pupil.Fsm": "release"}
    assert tiny.spell(early) == {"Pupil.Fsm": "withhold AGREEMENT_NOT_STARTED"}


_ASKED = ask("Pupil.Fsm", "Pupil.Ref")
_TOKEN = _ASKED.verified.token
assert _TOKEN is not None
_EXPIRED = "expired"
_CLAIMS: dict[str, object] = {
    "agreement": "AG-2",
    "purposes": ("statistics",),
    "action": Action.MATCH,
}
_NOT_IN_KEY = {"request_id", "fields", "used_fields", "years"}
_TOKEN_CLAIMS: dict[str, object] = {
    "issuer": "issuer-2",
    "subject": "researcher-2",
    "roles": frozenset({"administrator"}),
    "visas": Visas((tiny.visa(),)),
}
_TOKEN_NOT_IN_KEY = {"digest", "expires_at"}


def test_every_part_of_a_question_is_in_the_key_or_known_to_be_left_out() -> None:
    """A new part of a question fails here until somebody decides which it is."""
    assert {each.name for each in fields(Claimed)} == set(_CLAIMS) | _NOT_IN_KEY
    assert {each.name for each in fields(Token)} == set(_TOKEN_CLAIMS) | _TOKEN_NOT_IN_KEY
    assert {each.name for each in fields(Verified)} == {"spiffe_id", "token", "token_error"}
    assert {each.name for each in fields(Request)} == {"claimed", "verified"}


def variants() -> list[Request]:
    found = [_ASKED]
    found += [replace(_ASKED, claimed=replace(_ASKED.claimed, **{n: v})) for n, v in _CLAIMS.items()]  # type: ignore[arg-type]
    for name, value in _TOKEN_CLAIMS.items():
        token = replace(_TOKEN, **{name: value})  # type: ignore[type-var,arg-type]
        found.append(replace(_ASKED, verified=replace(_ASKED.verified, token=token)))
    found.append(replace(_ASKED, claimed=replace(_ASKED.claimed, purposes=("academic", "statistics"))))
    return found


def test_every_input_makes_a_key_of_its_own() -> None:
    """Changing any one claim changes the key."""
    keys = [cache_key(request) for request in variants()]

    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("warm", range(len(variants())))
def test_no_question_gets_the_answer_of_another(warm: int, policy: PolicySet) -> None:
    """Whichever variant warms the cache, each variant gets its own answer, by each of two services."""
    other = tiny.data_service("svc-open", setting="open")
    registry = tiny.registry(
        requester("researcher-2"),
        agreement("AG-2", fields=frozenset({"Pupil.Ref"})),
        other,
    )
    snapshot = build_snapshot(policy, registry, epoch=1)
    decider = Decider(snapshot)
    decider.decide(variants()[warm], NOW)
    for request in variants():
        for service in ("svc-secure", "svc-open", "svc-none"):
            asked = replace(request, verified=replace(request.verified, spiffe_id=f"spiffe://test/{service}"))
            assert decider.decide(asked, NOW) == decide(snapshot, asked, NOW)


def test_fields_years_and_ids_of_questions_share_an_entitlement(policy: PolicySet) -> None:
    """What is left out of the key changes the answer and not the entitlement."""
    decider = Decider(tiny.snapshot(policy))
    for number in range(20):
        for names, years in (
            (("Pupil.Fsm",), (2018,)),
            (("Pupil.Ref", "Pupil.Name"), ()),
            (("No.Such",), (2014,)),
        ):
            request = ask(*names, years=years, request_id=f"q{number}")
            assert decider.decide(request, NOW) == decide(decider.snapshot, request, NOW)

    assert sum(len(shelf.kept) for shelf in decider._shelves.values()) == 1


_ON_FIELDS = [
    ("Pupil.Fsm",),
    ("pupil.fsm",),
    ("Pupil.Fsm", "Pupil.Ref"),
    ("Pupil.Ref", "Pupil.Fsm"),
    ("Pupil.Fsm", "Pupil.Fsm"),
    ("Pupil.Fsm", "No.Such"),
    ("Pupil.*",),
    (),
]


def test_a_kept_ruling_answers_its_own_fields_used_fields_and_years(policy: PolicySet) -> None:
    """Each question gets, twice, the answer that it gets alone, whatever was ruled before."""
    decider = Decider(tiny.snapshot(policy))
    questions = [
        replace(_ASKED, claimed=replace(_ASKED.claimed, fields=names, used_fields=used, years=years))
        for names, used, years in product(_ON_FIELDS, _ON_FIELDS, ((), (2018,), (2014,), (2018, 2014)))
        if names or used
    ]
    for request in questions + questions:
        assert decider.decide(request, NOW) == decide(decider.snapshot, request, NOW)

    known = [each for each in questions if not {"No.Such", "Pupil.*"} & {*_names(each)}]
    assert len(rulings_for(decider, "svc-secure")) == len(known)


def test_a_zero_character_in_a_name_gets_no_ruling_of_another_list(policy: PolicySet) -> None:
    """However zeros are put between or into the names of a list that was ruled on, the answer is its own."""
    decider = Decider(tiny.snapshot(policy))
    known = ("Pupil.Fsm", "Pupil.Ref", "Pupil.Fsm")
    decider.decide(ask(*known), NOW)
    text = "\0".join(known)
    joined = (text, text.replace("\0", "", 1), *(f"{each}\0" for each in known), "\0", "")
    for names in product(joined + known, repeat=3):
        for used in ((), ("",), ("\0",)):
            request = replace(_ASKED, claimed=replace(_ASKED.claimed, fields=names, used_fields=used))
            assert decider.decide(request, NOW) == decide(decider.snapshot, request, NOW)
    for names in (("Pupil.Fsm\0Pupil.Ref", "Pupil.Fsm"), (text,), (text, ""), ("", text)):
        assert decider.decide(ask(*names), NOW) == decide(decider.snapshot, ask(*names), NOW)


def _names(request: Request) -> tuple[str, ...]:
    return request.claimed.fields + request.claimed.used_fields


def test_a_ruling_that_is_kept_is_not_worked_out_again(
    policy: PolicySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second question with the same lists is a look-up; one with a name that is no field is not."""
    decider = Decider(tiny.snapshot(policy))
    ruled: list[tuple[str, ...]] = []

    def counted(snapshot: Snapshot, claimed: Claimed, entitlement: Entitlement) -> Ruling:
        ruled.append(claimed.fields)
        return rule(snapshot, claimed, entitlement)

    monkeypatch.setattr(cache, "rule", counted)
    for names in (("Pupil.Fsm",), ("Pupil.Fsm",), ("No.Such",), ("No.Such",)):
        decider.decide(ask(*names), NOW)

    assert ruled == [("Pupil.Fsm",), ("No.Such",), ("No.Such",)]


def test_rulings_are_bounded_by_their_names(policy: PolicySet) -> None:
    """Names of fields and used fields and years count; what alone is over the bound is never kept."""
    snapshot = tiny.snapshot(policy, tiny.data_service("svc-quiet"))
    decider = Decider(snapshot, names_limit=6)
    quiet = ask("Pupil.Fsm", service="svc-quiet", years=(2018,))
    pair = ask("Pupil.Fsm", "Pupil.Ref", years=(2018,))
    decider.decide(quiet, NOW)
    decider.decide(pair, NOW)
    used = replace(pair.claimed, fields=("Pupil.Fsm",), used_fields=("Pupil.Ref",))
    decider.decide(replace(pair, claimed=used), NOW)
    assert len(rulings_for(decider, "svc-secure")) == 2

    decider.decide(ask(*["Pupil.Fsm"] * 6, years=(2018,)), NOW)
    assert len(rulings_for(decider, "svc-secure")) == 2

    decider.decide(ask("Pupil.Ref", years=(2018,)), NOW)
    assert rulings_for(decider, "svc-secure") == [(7, 1, "Pupil.Ref", 0, "", (2018,))]
    assert len(rulings_for(decider, "svc-quiet")) == 1

    decider.decide(ask("Pupil.Ref", "Pupil.Fsm", "Pupil.Ref", years=(2018,)), NOW)
    assert len(rulings_for(decider, "svc-secure")) == 2


def test_as_many_names_are_kept_as_there_is_room_for(policy: PolicySet) -> None:
    """From the first and again after everything has made room; a list that fills it alone is kept."""
    decider = Decider(tiny.snapshot(policy), names_limit=4)
    spellings = ("pupil.fsm", "PUPIL.FSM", "Pupil.Fsm", "Pupil.fsm", "pupil.Fsm", "PUPIL.fsm", "Pupil.FSM")
    sizes_and_kept = ((3, 1), (1, 2), (1, 1), (3, 2), (1, 1), (4, 1), (1, 1))
    for name, (size, kept) in zip(spellings, sizes_and_kept, strict=True):
        decider.decide(ask(*[name] * size, years=()), NOW)
        assert len(rulings_for(decider, "svc-secure")) == kept


def test_what_is_refused_at_gates_1_and_2_is_not_kept(policy: PolicySet) -> None:
    """Strangers cannot fill the cache."""
    decider = Decider(tiny.snapshot(policy))
    no_token = replace(_ASKED, verified=replace(_ASKED.verified, token=None, token_error=_EXPIRED))
    for request in (no_token, ask("Pupil.Fsm", service="nobody")):
        assert decider.decide(request, NOW) == decide(decider.snapshot, request, NOW)

    assert sum(len(shelf.kept) for shelf in decider._shelves.values()) == 0
    with pytest.raises(ValueError, match="no cache key"):
        cache_key(no_token)


def test_the_cache_is_bounded_for_each_data_service(policy: PolicySet) -> None:
    """One service that asks under ever new agreements pushes out only its own entries, oldest first."""
    snapshot = tiny.snapshot(policy, tiny.data_service("svc-quiet"))
    decider = Decider(snapshot, limit=10)
    quiet = ask("Pupil.Fsm", service="svc-quiet")
    decider.decide(quiet, NOW)
    for number in range(200):
        request = ask("Pupil.Fsm", agreement=f"AG-{number}")
        assert decider.decide(request, NOW) == decide(snapshot, request, NOW)
        assert all(len(shelf.kept) <= 10 for shelf in decider._shelves.values())

    assert cache_key(quiet) in kept_for(decider, "svc-quiet")
    assert cache_key(ask(agreement="AG-199")) in kept_for(decider, "svc-secure")


def test_eight_threads_get_the_answers_of_one(policy: PolicySet) -> None:
    """Threads that share one small cache, in another order each, never see another's answer."""
    registry = busy_registry()
    snapshot = build_snapshot(policy, registry, epoch=1)
    times = [NOW, NOW + 86_400_000, NOW + 4 * 86_400_000]
    work = [(request, now) for request in QUESTIONS for now in times]
    want: dict[int, Decision] = {at: decide(snapshot, *each) for at, each in enumerate(work)}
    decider = Decider(snapshot, limit=7)
    start = threading.Barrier(8)
    wrong: list[Any] = []

    def run(step: int) -> None:
        start.wait()
        for turn in range(8 * len(work)):
            at = turn * step % len(work)
            if decider.decide(*work[at]) != want[at]:
                wrong.append(at)

    threads = [threading.Thread(target=run, args=(step,)) for step in (1, 7, 11, 13, 17, 19, 23, 29)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert all(len(shelf.kept) <= 7 for shelf in decider._shelves.values())


def test_nothing_starts_or_ends_that_the_cache_does_not_know(policy: PolicySet) -> None:
    """Whatever dated entry is changed, an answer kept before its date is not used after it."""
    entries: list[object] = [
        organisation(changed_at=NOW + 5),
        organisation(changed_at=NOW - 5, verified_at=NOW + 5),
        accreditation(until_at=NOW + 5),
        accreditation("ACC-2", from_at=NOW + 5, level=AccreditationLevel.PROVISIONAL),
        agreement(until_at=NOW + 5),
        agreement(from_at=NOW + 5),
        agreement(gateway="PAST-1", until_at=at("2027-01-01")),
    ]
    for entry in entries:
        snapshot: Snapshot = tiny.snapshot(policy, entry)
        decider = Decider(snapshot)
        edge = at("2026-06-01") if getattr(entry, "gateway", "") == "PAST-1" else NOW + 5
        request = ask(*sorted(EVERYTHING))
        kept = decider.decide(request, edge - 1)
        assert decider.decide(request, edge).groups != kept.groups, entry
        assert decider.decide(request, edge) == decide(snapshot, request, edge)


def test_every_attribute_that_is_an_instant_bounds_what_is_kept(policy: PolicySet) -> None:
    """A new attribute of type instant fails here until the validity of an entitlement knows it."""
    _, admitted, _ = admit(tiny.snapshot(policy), _ASKED, now=NOW)
    assert admitted is not None

    instants = {name for name, each in DERIVED.items() if each.type is Type.INSTANT}
    assert {*_instants(admitted), "now"} == instants


@pytest.mark.parametrize(
    ("where", "edge"),
    [
        ("{context: {$.now: {condition: Before, value: 2026-03-09}}}", "2026-03-09"),
        ("{context: {$.now: {condition: After, value: 2026-03-09}}}", "2026-03-09"),
        ("{context: {$.now: {condition: Within, from: 2026-03-09, until: 2027-01-01}}}", "2026-03-09"),
        ("{context: {$.now: {condition: Within, from: 2026-01-01, until: 2026-03-09}}}", "2026-03-09"),
        (
            "{subject: {$.accreditation.until: {condition: After, days_from_now: 5}}}",
            "2026-03-04T00:00:00.001Z",
        ),
        (
            "{subject: {$.accreditation.until: {condition: Before, days_from_now: 5}}}",
            "2026-03-04T00:00:00.001Z",
        ),
    ],
)
def test_an_answer_is_kept_up_to_the_edge_of_a_condition_and_no_longer(
    where: str, edge: str, tmp_path: Path
) -> None:
    """The answer changes at the edge, to the millisecond, and what is kept before it ends there."""
    target = "targets: {resource_id: Pupil.Fsm}, rules: {}"
    rule = f"- {{uid: x, why: x, effect: deny, {target}, where: {where}}}"
    policy = load_tiny(tmp_path, rules=rule)
    entry = accreditation(until_at=at("2026-03-09"))
    snapshot = tiny.snapshot(policy, entry)
    decider, instant, request = Decider(snapshot), at(edge), ask("Pupil.Fsm")

    found = [decider.decide(request, now).groups for now in (instant - 1, instant, instant - 1)]

    assert found[0] != found[1]
    assert found[0] == found[2]
    assert entitle(snapshot, request, now=instant - 1).valid_until == instant
    assert entitle(snapshot, request, now=instant).valid_from == instant


def test_what_was_worked_out_stays_when_only_seals_change(policy: PolicySet) -> None:
    """The commonest change of state does not make the next questions slow; the answers name its epoch."""
    base = tiny.registry()
    decider = Decider(build_snapshot(policy, base, epoch=1), limit=3, names_limit=9)
    question = tiny.ask("Pupil.Fsm")
    decider.decide(question, NOW)
    sealed = replace(base, seals={"SEAL-1": Seal("SEAL-1", (("svc-secure", bytes(32)),))})
    later = decider.advanced(advance(decider.snapshot, sealed, epoch=2))

    assert later._shelves is decider._shelves
    assert later._lock is decider._lock
    assert (later._limit, later._names_limit) == (3, 9)
    assert later.decide(question, NOW) == decide(later.snapshot, question, NOW)
    assert later.decide(question, NOW).epoch == 2


@pytest.mark.parametrize(
    "section", ["organisations", "requesters", "accreditations", "data_services", "agreements"]
)
def test_nothing_is_kept_when_what_it_was_worked_out_from_may_have_changed(
    policy: PolicySet, section: str
) -> None:
    """Any other section of the registry may change an entitlement, and so may the policy set."""
    base = tiny.registry()
    decider = Decider(build_snapshot(policy, base, epoch=1))
    changed = replace(base, **{section: dict(getattr(base, section))})
    other = replace(build_snapshot(policy, base, epoch=2), policy=replace(policy, version=2))

    assert decider.advanced(advance(decider.snapshot, changed, epoch=2))._shelves is not decider._shelves
    assert decider.advanced(other)._shelves is not decider._shelves
