"""Maps and sets that never change: a changed copy shares all that it did not change with the first one.

A map is spread over a fixed number of small leaves by the hash of its keys. A copy with one other entry
costs one leaf, a hundredth of a millisecond at a million entries, and what differs between two copies is
found by comparing the identity of their leaves. Nothing is ever folded or rebuilt.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from copy import copy
from typing import Generic, TypeVar, overload

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")

LEAVES = 4096
"""At a million entries 244 a leaf, and the list of leaves is copied in the time that a leaf is."""

_LAST = LEAVES - 1
TOKEN_BYTES = 32


class PersistentMap(Mapping[K, V], Generic[K, V]):
    """A map that never changes; its order is any. Look-ups cost about as much again as those of a dict."""

    __slots__ = ("_leaves", "_size")

    _leaves: tuple[dict[K, V], ...]
    _size: int

    def __init__(self, entries: Mapping[K, V] | Iterable[tuple[K, V]] = ()) -> None:
        """Take ``entries``; a later one replaces an earlier one of the same key."""
        edit = MapEdit[K, V](None)
        edit.update(entries)
        self._leaves, self._size = edit.leaves()

    def __getitem__(self, key: K) -> V:
        return self._leaves[hash(key) & _LAST][key]

    @overload
    def get(self, key: K, /) -> V | None: ...  # pragma: no cover  (types alone)
    @overload
    def get(self, key: K, /, default: V | D) -> V | D: ...  # pragma: no cover  (types alone)
    def get(self, key: K, /, default: V | D | None = None) -> V | D | None:
        """Return the value of ``key``, or ``default``."""
        return self._leaves[hash(key) & _LAST].get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in self._leaves[hash(key) & _LAST]

    def __iter__(self) -> Iterator[K]:
        for leaf in self._leaves:
            yield from leaf

    def __len__(self) -> int:
        return self._size

    def edit(self) -> MapEdit[K, V]:
        """Return a map to change, which starts as this one."""
        return MapEdit(self)

    def leaves(self) -> tuple[dict[K, V], ...]:
        """Return what the entries are spread over; never to be changed."""
        return self._leaves


_NOTHING: dict[object, object] = {}


class MapEdit(MutableMapping[K, V], Generic[K, V]):
    """A changed copy in the making. Belongs to one thread; the map it starts from stays as it is."""

    def __init__(self, base: PersistentMap[K, V] | None) -> None:
        self._whole = base
        self._base: tuple[dict[K, V], ...] = (
            (_NOTHING,) * LEAVES if base is None else base.leaves()  # type: ignore[assignment]  # stays empty
        )
        self._own: dict[int, dict[K, V]] = {}
        self._size = 0 if base is None else len(base)

    def __getitem__(self, key: K) -> V:
        return self._leaf(hash(key) & _LAST)[key]

    def __setitem__(self, key: K, value: V) -> None:
        leaf = self._owned(hash(key) & _LAST)
        before = len(leaf)
        leaf[key] = value
        self._size += len(leaf) - before

    def __delitem__(self, key: K) -> None:
        del self._owned(hash(key) & _LAST)[key]
        self._size -= 1

    def __iter__(self) -> Iterator[K]:
        for place in range(LEAVES):
            yield from self._leaf(place)

    def __len__(self) -> int:
        return self._size

    def done(self) -> PersistentMap[K, V]:
        """Return the map as it is now: the one it started from, if that was not touched.

        What is changed afterwards does not change what is returned.
        """
        if self._own or self._whole is None:
            self._whole = self._made()
        return self._whole

    def _made(self) -> PersistentMap[K, V]:
        made: PersistentMap[K, V] = PersistentMap.__new__(PersistentMap)
        made._leaves, made._size = self.leaves()  # noqa: SLF001  # its own parts, before anybody sees it
        return made

    def leaves(self) -> tuple[tuple[dict[K, V], ...], int]:
        """Give the leaves and the number of entries; what is changed afterwards is changed in copies."""
        if self._own:
            leaves = list(self._base)
            for place, leaf in self._own.items():
                leaves[place] = leaf
            self._base, self._own = tuple(leaves), {}
        return self._base, self._size

    def _leaf(self, place: int) -> dict[K, V]:
        own = self._own.get(place)
        return self._base[place] if own is None else own

    def _owned(self, place: int) -> dict[K, V]:
        leaf = self._own.get(place)
        if leaf is None:
            leaf = self._own[place] = dict(self._base[place])
        return leaf


def differences(before: Mapping[K, V], after: Mapping[K, V]) -> Iterator[tuple[K, V | None, V | None]]:
    """Yield each key whose value is not the same object, with both values; None where there is none.

    Linear in what was changed where ``after`` was made from ``before``, otherwise in both.
    """
    if isinstance(before, PersistentMap) and isinstance(after, PersistentMap):
        for old, new in zip(before.leaves(), after.leaves(), strict=True):
            if old is not new:
                yield from _differing(old, new)
    elif before is not after:
        yield from _differing(before, after)


def _differing(before: Mapping[K, V], after: Mapping[K, V]) -> Iterator[tuple[K, V | None, V | None]]:
    for key, old in before.items():
        new = after.get(key)
        if new is not old:
            yield key, old, new
    for key, new in after.items():
        if key not in before:
            yield key, None, new


class TokenSet:
    """A set of tokens of 32 bytes that never changes, in order, 33 bytes a token.

    It counts how often a token was added: two seals may protect one child, and lifting one of them must
    not lift the other (test_a_token_stays_until_its_last_seal_goes).
    """

    __slots__ = ("_leaves", "_size")

    def __init__(self, tokens: Iterable[bytes] = ()) -> None:
        """Take ``tokens``, each as often as it is given.

        Raises:
            ValueError: one of them is not 32 bytes long.
        """
        self._leaves: tuple[bytes, ...] = (b"",) * LEAVES
        self._size = 0
        self._take(self._opened_for(tokens, ()))

    def __len__(self) -> int:
        """Return how many different tokens there are."""
        return self._size

    def __contains__(self, token: object) -> bool:
        if not isinstance(token, bytes) or len(token) != TOKEN_BYTES:
            return False
        return token in _split(self._leaves[_place(token)])

    def __iter__(self) -> Iterator[bytes]:
        """Yield each token once, in order: whose they are cannot be told from where they stand."""
        for leaf in self._leaves:
            if leaf:
                yield from dict.fromkeys(_split(leaf))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TokenSet) and self._leaves == other._leaves

    __hash__ = None  # type: ignore[assignment]  # nothing keeps sets of sets

    def parts(self, most: int) -> Iterator[list[bytes]]:
        """Yield all tokens in lists of at most ``most``, each made when it is asked for."""
        part: list[bytes] = []
        for token in self:
            part.append(token)
            if len(part) == most:
                yield part
                part = []
        if part:
            yield part

    def changed(self, *, added: Iterable[bytes] = (), removed: Iterable[bytes] = ()) -> TokenSet:
        """Return a copy with tokens added, and then others removed once; linear in these.

        Raises:
            ValueError: a token is not 32 bytes long, or one to be removed is not there.
        """
        leaves = self._opened_for(added, removed)
        if not leaves:
            return self
        made = copy(self)
        made._take(leaves)  # noqa: SLF001  # its own copy, before anybody sees it
        return made

    def since(self, before: TokenSet) -> tuple[list[bytes], list[bytes]]:
        """Return which tokens are here and not in ``before``, and the other way round, both in order.

        Linear in what was changed where this one was made from ``before``.
        """
        added: list[bytes] = []
        removed: list[bytes] = []
        for old, new in zip(before._leaves, self._leaves, strict=True):
            if old is not new and old != new:
                had, has = set(_split(old)), set(_split(new))
                added += sorted(has - had)
                removed += sorted(had - has)
        return added, removed

    def _opened_for(self, added: Iterable[bytes], removed: Iterable[bytes]) -> dict[int, list[bytes]]:
        """Return the leaves that change, as lists that have changed."""
        leaves: dict[int, list[bytes]] = {}
        for tokens, change in ((added, list.append), (removed, list.remove)):
            for token in tokens:
                if len(token) != TOKEN_BYTES:
                    raise ValueError(f"a token has {len(token)} bytes; HMAC-SHA-256 gives {TOKEN_BYTES}")
                place = _place(token)
                leaf = leaves.get(place)
                if leaf is None:
                    leaf = leaves[place] = _split(self._leaves[place])
                change(leaf, token)
        return leaves

    def _take(self, leaves: Mapping[int, list[bytes]]) -> None:
        every = list(self._leaves)
        for place, tokens in leaves.items():
            self._size += len(set(tokens)) - len(set(_split(every[place])))
            every[place] = b"".join(sorted(tokens))
        self._leaves = tuple(every)


def _place(token: bytes) -> int:
    """Return the leaf of a token: its first 12 bits, so that the leaves too are in order."""
    return token[0] << 4 | token[1] >> 4


def _split(leaf: bytes) -> list[bytes]:
    return [leaf[start : start + TOKEN_BYTES] for start in range(0, len(leaf), TOKEN_BYTES)]
