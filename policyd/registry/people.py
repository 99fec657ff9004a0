"""The requesters by id, and who goes by which identity, in step with each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from policyd.model import Requester
from policyd.persistent import MapEdit, PersistentMap

Identity = tuple[str, str]
"""The issuer of a token, and whom it names."""

_Holders = PersistentMap[Identity, tuple[str, ...]]


class Requesters(PersistentMap[str, Requester]):
    """Requesters that never change, with an index of their identities."""

    __slots__ = ("_holders",)

    _holders: _Holders

    def __init__(self, entries: Mapping[str, Requester] | Iterable[tuple[str, Requester]] = ()) -> None:
        """Take ``entries``; a later one replaces an earlier one of the same id."""
        edit = RequestersEdit(None)
        edit.update(entries)
        self._leaves, self._size, self._holders = *edit.leaves(), edit.holders.done()

    def holders(self, issuer: str, subject: str) -> tuple[str, ...]:
        """Return the ids of all who go by this identity, sorted: at most one, unless two entries clash."""
        return self._holders.get((issuer, subject), ())

    def edit(self) -> RequestersEdit:
        """Return a map to change, which starts as this one."""
        return RequestersEdit(self)


class RequestersEdit(MapEdit[str, Requester]):
    """A changed copy in the making. Belongs to one thread; the map it starts from stays as it is."""

    def __init__(self, base: Requesters | None) -> None:
        super().__init__(base)
        self.holders: MapEdit[Identity, tuple[str, ...]] = (
            MapEdit(None) if base is None else base._holders.edit()  # noqa: SLF001  # one structure
        )

    def __setitem__(self, key: str, value: Requester) -> None:
        self._forget(key)
        super().__setitem__(key, value)
        identity = value.issuer, value.subject
        self.holders[identity] = tuple(sorted((*self.holders.get(identity, ()), key)))

    def __delitem__(self, key: str) -> None:
        self._forget(key)
        super().__delitem__(key)

    def _made(self) -> Requesters:
        made: Requesters = Requesters.__new__(Requesters)
        made._leaves, made._size = self.leaves()  # noqa: SLF001
        made._holders = self.holders.done()  # noqa: SLF001
        return made

    def _forget(self, key: str) -> None:
        entry = self.get(key)
        if entry is not None:
            identity = entry.issuer, entry.subject
            left = tuple(id_ for id_ in self.holders[identity] if id_ != key)
            if left:
                self.holders[identity] = left
            else:
                del self.holders[identity]
