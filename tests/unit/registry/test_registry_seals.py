"""Seals in compact form: the same as the seals that went in, at the size of a whole country."""

from __future__ import annotations

import random
from hashlib import sha256

import pytest

from policyd.model import Seal
from policyd.persistent import LEAVES
from policyd.registry.seals import SealMap

SEED = 20261124


def made(name: str, **tokens: int) -> Seal:
    """Return a seal with a token for each service, spelled by a number."""
    return Seal(name, tuple(sorted((service, token(number)) for service, number in tokens.items())))


def token(number: int) -> bytes:
    return sha256(b"%d" % number).digest()


def test_the_map_says_what_a_dict_says_over_any_changes() -> None:
    """Seals come, change their tokens and services, and are lifted; every earlier map stays what it was."""
    print(f"seed {SEED}")
    chance = random.Random(SEED)  # noqa: S311  # seeded test data
    want: dict[str, Seal] = {}
    have = SealMap()
    names, kept = [*_in_one_leaf(12), *(f"SEAL-{number}" for number in range(18))], []
    for _ in range(40):
        edit = have.edit()
        for _ in range(chance.randrange(12)):
            name = chance.choice(names)
            if chance.random() < 0.3:
                assert edit.pop(name, None) == want.pop(name, None)
            else:
                services = chance.sample(("a", "b", "c"), chance.randrange(1, 4))
                edit[name] = want[name] = made(name, **{each: chance.randrange(20) for each in services})
            assert (len(edit), dict(edit)) == (len(want), want)
            lacking = [each for each, seal in want.items() if "a" not in dict(seal.tokens)]
            assert sorted(edit.lacking("a")) == sorted(lacking)
        have = edit.done()
        kept.append((have, dict(want)))
    for each, then in kept:
        assert each == then
        assert sorted(each) == sorted(then)
        assert sorted(each.values(), key=lambda seal: seal.id) == [seal for _, seal in sorted(then.items())]
        assert {service: set(tokens) for service, tokens in each.tokens.items()} == by_service(then)
        for service in ("a", "b", "c", "d"):
            lacking = [name for name, seal in then.items() if service not in dict(seal.tokens)]
            assert sorted(each.lacking(service)) == sorted(lacking)


def by_service(seals: dict[str, Seal]) -> dict[str, set[bytes]]:
    found: dict[str, set[bytes]] = {}
    for seal in seals.values():
        for service, each in seal.tokens:
            found.setdefault(service, set()).add(each)
    return found


def test_a_child_under_two_seals_stays_sealed_when_one_is_lifted() -> None:
    """The token is under seal as long as any seal has it."""
    both = SealMap({"SEAL-1": made("SEAL-1", a=1), "SEAL-2": made("SEAL-2", a=1)})
    edit = both.edit()
    del edit["SEAL-1"]
    one = edit.done()

    assert list(one.tokens["a"]) == [token(1)]
    edit = one.edit()
    del edit["SEAL-2"]
    assert (edit.done().tokens, both.tokens["a"].since(one.tokens["a"])) == ({}, ([], []))


def test_an_id_inside_another_record_is_not_taken_for_a_seal() -> None:
    """The bytes of an id may stand in a token or in a longer id; only a record's own id counts."""
    hidden = "SEAL-1"
    sneaky = Seal("X", (("a", hidden.encode().ljust(32, b"\0")),))
    seals = SealMap({"X": sneaky, "SEAL-12": made("SEAL-12", a=2)})

    for name in (hidden, "SEAL", "EAL-12", ""):
        assert name not in seals
        assert seals.get(name) is None
    # In one leaf of 4,096 only by chance; here for certain.
    beside = SealMap({name: made(name, a=number) for number, name in enumerate(_in_one_leaf(3))})
    assert all(beside[name].id == name for name in beside)
    assert len(list(beside)) == 3


def _in_one_leaf(count: int) -> list[str]:
    leaf = hash("0") % LEAVES
    found, number = ["0"], 1
    while len(found) < count:
        if hash(str(number)) % LEAVES == leaf:
            found.append(str(number))
        number += 1
    return found


def test_an_edit_that_changes_nothing_gives_the_same_map() -> None:
    """Who compares by identity sees at once that no seal was changed."""
    seals = SealMap({"SEAL-1": made("SEAL-1", a=1)})

    assert seals.edit().done() is seals


def test_what_does_not_fit_into_a_record_is_refused() -> None:
    """Rather than kept in another form than it came."""
    with pytest.raises(ValueError, match="a token has 31 bytes"):
        SealMap({"S": Seal("S", (("a", bytes(31)),))})
    with pytest.raises(ValueError, match="its id is longer than"):
        SealMap({"S" * 10_001: Seal("S" * 10_001, (("a", bytes(32)),))})
    many = Seal("S", tuple((f"service-{number}", bytes(32)) for number in range(65_536)))
    with pytest.raises(ValueError, match="more than 65535 data services"):
        SealMap({"S": many})


def test_order_and_repetition_of_tokens_are_kept() -> None:
    """A seal comes back as it was given, not as it should have been given."""
    odd = Seal("S", (("b", token(1)), ("a", token(2)), ("b", token(3))))

    assert SealMap({"S": odd})["S"] == odd
