"""Says of a change whether it can give anyone more than before; what cannot, takes one person alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from itertools import islice

from policyd.model import Accreditation, Agreement, Organisation, Registry, Seal, Status
from policyd.registry.draft import Activation, Content, Lift
from policyd.registry.entry import Entry, entries
from policyd.registry.trust import Trust

_SHORTER = {
    Organisation: frozenset({"local_authorities"}),
    Agreement: frozenset({"requesters", "data_services", "purposes", "fields", "actions"}),
}
"""Lists of which every word grants something: without a word there is less, and never more.

Not a requester's roles: a rule may deny for a role, and taking it away would then give more.
"""

_EARLIER = {Accreditation: frozenset({"until_at"}), Agreement: frozenset({"until_at", "destroy_by"})}
"""Ends, which may come sooner.

Not the start of an accreditation: the latest that has started counts, so moving one may uncover another.
"""


def gives_more(before: Registry, content: Content) -> Iterator[str]:
    """Yield each thing in a change to `before` that may give somebody more; nothing: one person will do.

    Closed: what is not known to take away, yields.
    """
    match content:
        case Registry():
            for section, entry in entries(content):
                current = section.of(before).get(entry.id)
                where = f"{section.noun} `{entry.id}`"
                if current is None:
                    if not isinstance(entry, Seal):
                        yield f"{where} is new"
                elif current != entry:
                    for member in _wider(current, entry):
                        yield f"{where} changes `{member}`"
        case Lift(seals):
            for seal in seals:
                yield f"seal `{seal}` is lifted"
        case Activation():
            yield "a policy set is put in force"
        case Trust():
            yield "the trust document is replaced"


def told(reasons: Iterator[str], *, at_most: int = 3) -> str:
    """Write the first reasons for people; empty when there are none."""
    first = list(islice(reasons, at_most))
    rest = sum(1 for _ in reasons)
    return "; ".join([*first, *([f"and {rest} more"] if rest else [])])


def _wider(before: Entry, after: Entry) -> Iterator[str]:
    """Yield the members of an entry whose change may give more."""
    kind = type(after)
    for item in fields(after):
        old, new = getattr(before, item.name), getattr(after, item.name)
        if old == new or (item.name in ("years", "table_years") and isinstance(before, Agreement)):
            continue
        if item.name == "status":
            narrower = new is Status.SUSPENDED
        elif item.name in _SHORTER.get(kind, ()) or item.name in _EARLIER.get(kind, ()):
            # Of sets, `<` says that one is inside the other; of instants, that one is earlier.
            narrower = new < old
        elif item.name == "tokens":
            narrower = set(old) < set(new)
        elif item.name == "from_at":
            narrower = kind is Agreement and new > old
        else:
            # A change of name or control suspends until it is verified; moving its date could resume.
            narrower = item.name == "changed_at" and old is None
        if not narrower:
            yield item.name
    if isinstance(before, Agreement) and isinstance(after, Agreement) and not _fewer_years(before, after):
        yield "years"


def _fewer_years(before: Agreement, after: Agreement) -> bool:
    """Say whether no field of the agreement gets a year that it did not have, as a snapshot reads them."""
    old = {table.lower(): years for table, years in before.table_years}
    new = {table.lower(): years for table, years in after.table_years}
    tables = {name.split(".", 1)[0].lower() for name in after.fields}
    return all(new.get(each, after.years) <= old.get(each, before.years) for each in tables)
