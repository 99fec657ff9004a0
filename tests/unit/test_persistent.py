"""Maps and sets that share: they are what a dict and a Counter say, and a copy costs what it changes."""

from __future__ import annotations

import random
from collections import Counter
from hashlib import sha256

import pytest

from policyd.persistent import LEAVES, MapEdit, PersistentMap, TokenSet, differences

SEED = 20261124


def token(number: int) -> bytes:
    return sha256(b"%d" % number).digest()


def test_a_map_says_what_a_dict_says() -> None:
    """Over random steps, the map in the making and the finished one equal a dict that took the same."""
    print(f"seed {SEED}")
    chance = random.Random(SEED)  # noqa: S311  # seeded test data
    want: dict[str, int] = {}
    have: PersistentMap[str, int] = PersistentMap()
    kept = []
    for _ in range(40):
        edit = have.edit()
        for _ in range(chance.randrange(20)):
            key = f"key-{chance.randrange(60)}"
            if chance.random() < 0.4:
                assert edit.pop(key, None) == want.pop(key, None)
            else:
                edit[key] = want[key] = chance.randrange(1000)
            assert (len(edit), dict(edit)) == (len(want), want)
        have = edit.done()
        kept.append((have, dict(want)))
    for made, then in kept:
        assert made == then
        assert len(made) == len(then) == len(list(made))
        for number in range(60):
            key = f"key-{number}"
            assert made.get(key, -1) == then.get(key, -1)
            assert (key in made) == (key in then)


def test_a_missing_key_is_missed() -> None:
    """As in a dict: an error for the map and for one in the making, and for taking it out."""
    made = PersistentMap({"a": 1})

    assert (made["a"], made.get("b")) == (1, None)
    with pytest.raises(KeyError):
        made["b"]
    with pytest.raises(KeyError):
        made.edit()["b"]
    with pytest.raises(KeyError):
        del made.edit()["b"]


def test_what_is_made_is_not_changed_by_going_on() -> None:
    """An edit may be used after `done`; a map once given out stays what it was."""
    edit = PersistentMap({"a": 1}).edit()
    edit["b"] = 2
    first = edit.done()
    edit["b"] = 3
    del edit["a"]
    second = edit.done()

    assert (first, second) == ({"a": 1, "b": 2}, {"b": 3})


def test_an_edit_that_changes_nothing_gives_the_same_map() -> None:
    """Who compares by identity sees at once that nothing was changed."""
    made = PersistentMap({"a": 1})

    assert made.edit().done() is made
    assert MapEdit[str, int](None).done() == {}


def test_a_copy_shares_every_leaf_that_it_does_not_change() -> None:
    """One other entry among 20,000 costs one leaf of 4,096."""
    made = PersistentMap({f"key-{number}": number for number in range(20_000)})
    edit = made.edit()
    edit["key-7"] = -7
    other = edit.done()

    changed = [old for old, new in zip(made.leaves(), other.leaves(), strict=True) if old is not new]
    assert len(changed) == 1
    assert len(changed[0]) < 20_000 / LEAVES * 10


def test_differences_are_what_was_put_replaced_and_taken_out() -> None:
    """Between maps that share, between dicts, and between one of each; nothing between one and itself."""
    before = {"a": "1", "b": "2", "c": "3"}
    after = {"a": before["a"], "b": "two", "d": "4"}
    want = {("b", "2", "two"), ("c", "3", None), ("d", None, "4")}
    shared = PersistentMap(before)
    edit = shared.edit()
    edit.update(b="two", d="4")
    del edit["c"]

    assert set(differences(before, after)) == want
    assert set(differences(shared, edit.done())) == want
    assert set(differences(shared, after)) == want
    assert set(differences(before, edit.done())) == want
    assert list(differences(before, before)) == []
    assert list(differences(shared, shared)) == []


def test_a_token_set_says_what_a_counter_says() -> None:
    """Over random steps: which tokens there are, in order, each once, and what changed since any earlier."""
    print(f"seed {SEED}")
    chance = random.Random(SEED)  # noqa: S311  # seeded test data
    want: Counter[bytes] = Counter()
    have = TokenSet()
    kept: list[tuple[TokenSet, set[bytes]]] = [(have, set())]
    for _ in range(60):
        added = [token(chance.randrange(40)) for _ in range(chance.randrange(6))]
        want.update(added)
        there = [each for each, count in want.items() for _ in range(count)]
        removed = chance.sample(there, chance.randrange(min(5, len(there)) + 1))
        want.subtract(removed)
        have = have.changed(added=added, removed=removed)
        kept.append((have, {each for each, count in want.items() if count}))
    for now, then in kept:
        assert list(now) == sorted(then)
        assert len(now) == len(then)
        assert all((token(number) in now) == (token(number) in then) for number in range(40))
    for (old, had), (new, has) in zip(kept, kept[3:], strict=False):
        assert new.since(old) == (sorted(has - had), sorted(had - has))


def test_equal_token_sets_are_equal_however_they_came_about() -> None:
    """What was added and removed on the way leaves no trace."""
    tokens = [token(number) for number in range(5)]

    assert TokenSet(tokens[:3]) == TokenSet(tokens).changed(removed=tokens[3:])
    assert TokenSet(tokens) != TokenSet(tokens[:3])
    assert TokenSet() != frozenset()


def test_a_token_stays_until_its_last_seal_goes() -> None:
    """Two seals may protect one child; it is unsealed when neither is left."""
    twice = TokenSet([token(1), token(1)])

    once = twice.changed(removed=[token(1)])
    assert (len(twice), list(once), once.since(twice)) == (1, [token(1)], ([], []))
    assert list(once.changed(removed=[token(1)])) == []


def test_parts_hold_every_token_once() -> None:
    """In lists of the size that was asked for, the last of them shorter; none of them empty."""
    tokens = TokenSet(token(number) for number in range(25))

    parts = list(tokens.parts(10))
    assert [len(part) for part in parts] == [10, 10, 5]
    assert [each for part in parts for each in part] == sorted(tokens)
    assert list(TokenSet().parts(10)) == []
    assert [len(part) for part in tokens.parts(5)] == [5] * 5


def test_only_tokens_of_32_bytes_are_kept() -> None:
    """Another length could shift all that follow it; one that is not there cannot be taken out."""
    for wrong in (b"", bytes(31), bytes(33)):
        with pytest.raises(ValueError, match=f"a token has {len(wrong)} bytes"):
            TokenSet([wrong])
        assert wrong not in TokenSet([bytes(32)])
    assert "text" not in TokenSet()
    assert TokenSet([bytes(32)]).changed() == TokenSet([bytes(32)])
    with pytest.raises(ValueError, match="not in list"):
        TokenSet([token(1)]).changed(removed=[token(2)])
