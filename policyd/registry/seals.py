"""All seals in compact form: by id, and the tokens of each data service; national size is a million."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import ItemsView, Iterator, Mapping, MutableMapping, ValuesView
from struct import Struct

from policyd.model import Seal
from policyd.persistent import LEAVES, TOKEN_BYTES, TokenSet

_LAST = LEAVES - 1
_NUMBER = Struct(">H")
_MOST = 0xFFFF
_LONGEST_ID = 10_000
_NO_TOKENS = TokenSet()

# A leaf is a run of records: length of the id, the id, how many tokens, then their data services by
# number, and the tokens in the same order. As objects a seal takes six times as much.
_Header = bytes
_Leaf = dict[str, bytes]


class SealMap(Mapping[str, Seal]):
    """Seals by id that never change; each is made anew when it is looked up.

    A copy with some seals added or lifted shares the rest (`policyd.persistent`). ``tokens`` are those
    under seal by data service. Looking one up takes as long as reading through a leaf: 0.1 ms at a million.
    """

    __slots__ = ("_kinds", "_leaves", "_size", "services", "tokens")

    def __init__(self, seals: Mapping[str, Seal] | None = None) -> None:
        """Take ``seals``.

        Raises:
            ValueError: a token is not 32 bytes long.
        """
        self._leaves: tuple[bytes, ...] = (b"",) * LEAVES
        self._kinds: Counter[_Header] = Counter()
        self._size = 0
        self.services: tuple[str, ...] = ()
        self.tokens: Mapping[str, TokenSet] = {}
        if seals:
            edit = self.edit()
            edit.update(seals)
            edit.fill(self)

    def __getitem__(self, key: str) -> Seal:
        leaf = self._leaves[hash(key) & _LAST]
        name = key.encode()
        # Most ids that are asked for are new: to look for the bytes is quicker than to read all records.
        if name not in leaf:
            raise KeyError(key)
        return _seal(key, _opened(leaf)[key], self.services)

    def __iter__(self) -> Iterator[str]:
        for leaf in self._leaves:
            if leaf:
                yield from _opened(leaf)

    def __len__(self) -> int:
        return self._size

    def items(self) -> ItemsView[str, Seal]:
        """Return all ids and seals; to go through them reads each leaf once."""
        return _Items(self)

    def values(self) -> ValuesView[Seal]:
        """Return all seals; to go through them reads each leaf once."""
        return _Values(self)

    def all(self) -> Iterator[Seal]:
        """Yield all seals, leaf by leaf."""
        for leaf in self._leaves:
            for key, record in _opened(leaf).items():
                yield _seal(key, record, self.services)

    def edit(self) -> SealEdit:
        """Return a map to change, which starts as this one."""
        return SealEdit(self)

    def lacking(self, service: str) -> Iterator[str]:
        """Yield the ids of seals without a token for ``service``; at once over when there are none."""
        number = self.services.index(service) if service in self.services else None
        if any(count and number not in _numbers(kind) for kind, count in self._kinds.items()):
            for leaf in self._leaves:
                for key, record in _opened(leaf).items():
                    if number not in _numbers(record):
                        yield key


class _Items(ItemsView[str, Seal]):
    _mapping: SealMap

    def __iter__(self) -> Iterator[tuple[str, Seal]]:
        return ((seal.id, seal) for seal in self._mapping.all())


class _Values(ValuesView[Seal]):
    _mapping: SealMap

    def __iter__(self) -> Iterator[Seal]:
        return self._mapping.all()


class SealEdit(MutableMapping[str, Seal]):
    """A changed copy in the making. Belongs to one thread; the map it starts from stays as it is."""

    def __init__(self, base: SealMap) -> None:
        self._base = base
        self._own: dict[int, _Leaf] = {}
        # Put behind leaves as they are: thousands of new seals at once touch every leaf, and to read all of
        # them would take a second at a million.
        self._new: dict[int, _Leaf] = {}
        self._services = list(base.services)
        self._numbers = {service: number for number, service in enumerate(base.services)}
        self._kinds = Counter(base._kinds)  # noqa: SLF001  # the two classes are one structure
        self._size = len(base)
        self._added: defaultdict[str, list[bytes]] = defaultdict(list)
        self._removed: defaultdict[str, list[bytes]] = defaultdict(list)
        self._kind_of: dict[tuple[str, ...], _Header] = {}

    def __getitem__(self, key: str) -> Seal:
        place = hash(key) & _LAST
        own = self._own.get(place)
        if own is None and key in self._new.get(place, ()):
            own = self._new[place]
        return self._base[key] if own is None else _seal(key, own[key], self._services)

    def __setitem__(self, key: str, seal: Seal) -> None:
        """Put ``seal`` in place of any of that id.

        Raises:
            ValueError: a token is not 32 bytes long, or an id or a list of data services is too long.
        """
        services = tuple([service for service, _ in seal.tokens])
        tokens = [token for _, token in seal.tokens]
        kind = self._kind_of.get(services)
        if kind is None:
            kind = self._kind(services)
        if len(key) > _LONGEST_ID:
            raise ValueError(f"seal `{key[:100]}`: its id is longer than {_LONGEST_ID} characters")
        for token in tokens:
            if len(token) != TOKEN_BYTES:
                raise ValueError(
                    f"seal `{key[:100]}`: a token has {len(token)} bytes; HMAC-SHA-256 gives {TOKEN_BYTES}"
                )
        leaf = self._grown(hash(key) & _LAST, key)
        if key in leaf:
            self._forget(key, leaf.pop(key))
        leaf[key] = kind + b"".join(tokens)
        self._kinds[kind] += 1
        self._size += 1
        for service, token in seal.tokens:
            self._added[service].append(token)

    def __delitem__(self, key: str) -> None:
        self._forget(key, self._owned(hash(key) & _LAST).pop(key))

    def __iter__(self) -> Iterator[str]:
        for place, leaf in enumerate(self._base._leaves):  # noqa: SLF001
            own = self._own.get(place)
            yield from _opened(leaf) if own is None else own
            yield from self._new.get(place, ())

    def __len__(self) -> int:
        return self._size

    def lacking(self, service: str) -> Iterator[str]:
        """Yield the ids of seals without a token for ``service``; at once over when there are none."""
        number = self._numbers.get(service)
        if any(count and number not in _numbers(kind) for kind, count in self._kinds.items()):
            yield from (key for key, seal in self.items() if service not in dict(seal.tokens))

    def done(self) -> SealMap:
        """Return the map as it is now: the one it started from, if that was not touched.

        The edit is spent by it: start another from what is returned.
        """
        if not self._own and not self._new:
            return self._base
        made = SealMap()
        self.fill(made)
        return made

    def fill(self, made: SealMap) -> None:
        """Put what is here into ``made``, which nobody has seen yet."""
        leaves = list(self._base._leaves)  # noqa: SLF001
        # One by one, so that a million seals are not in memory in both forms.
        while self._own:
            place, leaf = self._own.popitem()
            leaves[place] = b"".join([_record(key, record) for key, record in leaf.items()])
        while self._new:
            place, leaf = self._new.popitem()
            leaves[place] += b"".join([_record(key, record) for key, record in leaf.items()])
        tokens = dict(self._base.tokens)
        for service in self._added.keys() | self._removed.keys():
            tokens[service] = tokens.get(service, _NO_TOKENS).changed(
                added=self._added.pop(service, ()), removed=self._removed.pop(service, ())
            )
        made._leaves, made._kinds, made._size = tuple(leaves), self._kinds, self._size  # noqa: SLF001
        made.services = tuple(self._services)
        made.tokens = {service: kept for service, kept in sorted(tokens.items()) if len(kept)}

    def _kind(self, services: tuple[str, ...]) -> _Header:
        """Return the header of a seal with tokens for ``services``, numbering those that are new."""
        for service in services:
            if service not in self._numbers:
                self._numbers[service] = len(self._services)
                self._services.append(service)
        if max(len(services), len(self._services)) > _MOST:
            raise ValueError(f"seals name more than {_MOST} data services")
        numbers = [self._numbers[service] for service in services]
        kind = _NUMBER.pack(len(numbers)) + b"".join(map(_NUMBER.pack, numbers))
        self._kind_of[services] = kind
        return kind

    def _forget(self, key: str, record: bytes) -> None:
        seal = _seal(key, record, self._services)
        self._kinds[record[: 2 + 2 * len(seal.tokens)]] -= 1
        self._size -= 1
        for service, token in seal.tokens:
            self._removed[service].append(token)

    def _owned(self, place: int) -> _Leaf:
        leaf = self._own.get(place)
        if leaf is None:
            leaf = self._own[place] = _opened(self._base._leaves[place])  # noqa: SLF001
            leaf.update(self._new.pop(place, {}))
        return leaf

    def _grown(self, place: int, key: str) -> _Leaf:
        """Return where to put a record, in which any that the key has now can be found."""
        if place in self._own or key.encode() in self._base._leaves[place]:  # noqa: SLF001
            return self._owned(place)
        return self._new.setdefault(place, {})


def _record(key: str, record: bytes) -> bytes:
    name = key.encode()
    return _NUMBER.pack(len(name)) + name + record


def _opened(leaf: bytes) -> _Leaf:
    found: _Leaf = {}
    at, end = 0, len(leaf)
    while at < end:
        (length,) = _NUMBER.unpack_from(leaf, at)
        name = leaf[at + 2 : at + 2 + length].decode()
        at += 2 + length
        (count,) = _NUMBER.unpack_from(leaf, at)
        after = at + 2 + count * (2 + TOKEN_BYTES)
        found[name] = leaf[at:after]
        at = after
    return found


def _numbers(record: bytes) -> tuple[int, ...]:
    (count,) = _NUMBER.unpack_from(record)
    return tuple(_NUMBER.unpack_from(record, 2 + 2 * each)[0] for each in range(count))


def _seal(key: str, record: bytes, services: tuple[str, ...] | list[str]) -> Seal:
    numbers = _numbers(record)
    start = 2 + 2 * len(numbers)
    return Seal(
        key,
        tuple(
            (services[number], record[start + TOKEN_BYTES * at : start + TOKEN_BYTES * (at + 1)])
            for at, number in enumerate(numbers)
        ),
    )
