"""Fields as bits: positions of one catalogue, and names resolved to them (DESIGN.md section 3.1).

A concrete column such as ``SC_Pupil.Ethnicity_SPR19`` matches one pattern ``Ethnicity_[term][yy]`` of
one field. Resolution is a few dictionary look-ups: the name is generalised back to the patterns that
could have made it, never matched against every pattern.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from operator import or_

from policyd.model import FieldMask

TERMS = ("AUT", "SPR", "SUM")
MAX_REPEAT = 40
"""The highest ``[n]``: exclusions come in at most 40 repeated blocks (domain.md section 1)."""
_MEMO_LIMIT = 65_536
_LISTS_LIMIT = 100_000
"""What all kept lists of names may weigh: a name is 1, the rest of a list and each of its sheets 10.

A unit is about 100 bytes, so that all of them take about 10 MB.
"""

Sheet = tuple[str, int]
"""What a column says of its rows: term and academic year."""
NO_SHEET: Sheet = ("", 0)

_ID = re.compile(r"[A-Za-z0-9_]+\.[A-Za-z0-9_]+", re.ASCII)
_PLACEHOLDER = re.compile(r"\[[^\]]*\]")
_YEAR_PREFIX = re.compile(r"(\[term\]|AUT|SPR|SUM|ab|ex)\[yy\]$", re.IGNORECASE)
_CONCRETE = re.compile(r"(?P<stem>.*?)(?P<term>aut|spr|sum)?(?P<yy>\d\d)", re.ASCII | re.DOTALL)
_REPEAT = re.compile(r"(?<=_)[1-9]\d?(?=_)", re.ASCII)


class NameClash(ValueError):
    """Two fields of one table could be meant by the same name; ``first`` and ``second`` are their ids."""

    def __init__(self, name: str, first: str, second: str) -> None:
        self.name, self.first, self.second = name, first, second
        super().__init__(f"`{name}` could mean `{first}` or `{second}`")


@dataclass(frozen=True, slots=True)
class Column:
    """A resolved name: ``bit`` is ``1 << position``; an empty term or year 0 where the name has none."""

    position: int
    bit: FieldMask
    sheet: Sheet = NO_SHEET

    @property
    def term(self) -> str:
        """AUT, SPR or SUM; empty where the name has none."""
        return self.sheet[0]

    @property
    def year(self) -> int:
        """The academic year; 0 where the name has none."""
        return self.sheet[1]


@dataclass(frozen=True, slots=True)
class NameList:
    """A list of names resolved: those that are columns, in order and with their fields, and the others.

    ``sheets`` are the fields by term and year, in order. ``repeats`` says that some field is named twice.
    """

    columns: tuple[str, ...]
    positions: tuple[int, ...]
    sheets: tuple[tuple[Sheet, FieldMask], ...]
    unknown: tuple[str, ...]
    repeats: bool


def academic_year(term: str, yy: int) -> int:
    """Return the first calendar year of the academic year that ``term`` and two digits name.

    AUT19 is the autumn of 2019/20; every other suffix (SPR, SUM, ``_ab``, ``_ex``) names the year in
    which the academic year ends. The NPD begins in 1995/96, so 90 to 99 are of the last century.
    """
    calendar = 1900 + yy if yy >= 90 else 2000 + yy
    return calendar if term.upper() == "AUT" else calendar - 1


@cache  # at most four terms and a hundred years; one object each, so that `is` can compare them
def _sheet(term: str, yy: int) -> Sheet:
    return term.upper(), academic_year(term, yy)


def pattern_problem(pattern: str) -> str:
    """Say what is wrong with a column pattern; empty when nothing is."""
    if not pattern.isascii():
        return f"column `{pattern}` is not ASCII; no question can name it"
    if "*" in pattern:
        return f"column `{pattern}` has a `*`, which a question may not hold"
    placeholders = _PLACEHOLDER.findall(pattern)
    if "[" in (rest := _PLACEHOLDER.sub("", pattern)) or "]" in rest:
        return f"column `{pattern}` has a bracket that is no placeholder; use [term], [yy] or [n]"
    for placeholder in placeholders:
        if placeholder not in ("[term]", "[yy]", "[n]"):
            return f"column `{pattern}` has the unknown placeholder `{placeholder}`; use [term], [yy] or [n]"
    if len(placeholders) != len(set(placeholders)):
        return f"column `{pattern}` repeats a placeholder"
    if "[yy]" in placeholders and _YEAR_PREFIX.search(pattern) is None:
        return (
            f"column `{pattern}`: [yy] must stand last, after [term], AUT, SPR, SUM, ab or ex, "
            "so that its academic year is known"
        )
    if "[term]" in placeholders and "[yy]" not in placeholders:
        return f"column `{pattern}` has [term] without [yy]"
    if "[n]" in placeholders and not re.search(r"_\[n\]_", pattern):
        return f"column `{pattern}`: [n] must stand between underscores"
    return ""


def positions(mask: FieldMask) -> Iterator[int]:
    """Yield the positions in ``mask``, lowest first."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


class FieldIndex:
    """The positions and names of one catalogue. Immutable; safe to share between threads.

    Positions follow the ids sorted without case, so they depend on what the catalogue holds and not
    on the order in which files were read.
    """

    def __init__(self, fields: Mapping[str, Sequence[str]]) -> None:
        """Index ``fields``: id to column patterns.

        Raises:
            ValueError: an id or a pattern has the wrong form.
            NameClash: a name would resolve to two fields.
        """
        self.ids: tuple[str, ...] = tuple(sorted(fields, key=lambda name: (name.casefold(), name)))
        self.all: FieldMask = (1 << len(self.ids)) - 1
        self._exact: dict[str, int] = {}
        self._patterns: dict[str, int] = {}
        self._memo: dict[str, Column] = {}
        self._lists: dict[tuple[str, ...], NameList] = {}
        self._lists_weight = 0
        self._met: set[int] = set()  # hashes of lists: those asked once are not worth their room
        self._lists_lock = threading.Lock()  # held to make room and to keep, never to look up
        for position, name in enumerate(self.ids):
            if _ID.fullmatch(name) is None:
                raise ValueError(f"`{name}` is not a field id; write Table.name with letters, digits and _")
            self._add(self._exact, name.lower(), position)
        for position, name in enumerate(self.ids):
            table = name.split(".", 1)[0].lower()
            for pattern in fields[name]:
                if problem := pattern_problem(pattern):
                    raise ValueError(problem)
                keys = self._patterns if "[" in pattern else self._exact
                self._add(keys, f"{table}.{pattern.lower()}", position)
        self._refuse_overlaps()

    def __len__(self) -> int:
        return len(self.ids)

    def position(self, field_id: str) -> int | None:
        """Return the position of a field id (case ignored), or None. Concrete columns are not ids."""
        # SECURITY: lower() maps the KELVIN SIGN to `k`
        found = self._exact.get(field_id.lower()) if field_id.isascii() else None
        return found if found is not None and self.ids[found].lower() == field_id.lower() else None

    def mask(self, field_ids: Iterable[str]) -> tuple[FieldMask, tuple[str, ...]]:
        """Return the mask of the known ids and the ids that are not known, in order."""
        mask, unknown = 0, []
        for name in field_ids:
            position = self.position(name)
            if position is None:
                unknown.append(name)
            else:
                mask |= 1 << position
        return mask, tuple(unknown)

    def names(self, mask: FieldMask) -> tuple[str, ...]:
        """Return the ids in ``mask``, by position."""
        return tuple(self.ids[position] for position in positions(mask))

    def resolve(self, name: str) -> Column | None:
        """Resolve an id or a concrete column, ignoring case; None when it is no field, or not just one."""
        column = self._memo.get(name)
        if column is None:
            column = self._resolve(name)
            if column is not None:
                if len(self._memo) >= _MEMO_LIMIT:  # every spelling of a name is an entry of its own
                    self._memo.clear()
                self._memo[name] = column
        return column

    def resolve_all(self, names: tuple[str, ...]) -> NameList:
        """Resolve each name of a list. A list that comes again and again becomes one look-up."""
        found = self._lists.get(names)
        if found is None:
            found = self._resolve_all(names)
            if not found.unknown:  # what is no field may be anything, and is not ours to keep
                self._keep(names, found)
        return found

    def _resolve_all(self, names: tuple[str, ...]) -> NameList:
        columns = list(map(self._memo.get, names))
        unknown: tuple[str, ...] = ()
        if not all(columns):
            columns = [column or self.resolve(name) for column, name in zip(columns, names, strict=True)]
            unknown = tuple([name for column, name in zip(columns, names, strict=True) if column is None])
            names = tuple([name for column, name in zip(columns, names, strict=True) if column is not None])
        known = [column for column in columns if column is not None]
        at = tuple([column.position for column in known])
        bits: dict[Sheet, list[FieldMask]] = {}
        sheet: Sheet | None = None
        for column in known:
            if column.sheet is not sheet:  # names of one term and year mostly come together
                sheet = column.sheet
                of_sheet = bits.setdefault(sheet, [])
            of_sheet.append(column.bit)
        return NameList(
            columns=names,
            positions=at,
            sheets=tuple([(sheet, reduce(or_, bits[sheet])) for sheet in sorted(bits)]),
            unknown=unknown,
            repeats=len(set(at)) < len(at),
        )

    def _keep(self, names: tuple[str, ...], found: NameList) -> None:
        """Keep a list that comes a second time, in the place of the oldest if need be."""
        mark, weight = hash(names), _weight(names, found)
        if mark not in self._met or weight > _LISTS_LIMIT:
            if len(self._met) >= _MEMO_LIMIT:
                self._met.clear()
            self._met.add(mark)
            return
        with self._lists_lock:
            if names in self._lists:
                return
            while self._lists_weight + weight > _LISTS_LIMIT:
                oldest = next(iter(self._lists))
                self._lists_weight -= _weight(oldest, self._lists.pop(oldest))
            self._lists[names] = found
            self._lists_weight += weight

    def _resolve(self, name: str) -> Column | None:
        if not name.isascii() or "[" in name:  # SECURITY: lower() maps the KELVIN SIGN to `k`
            return None
        name = name.lower()
        found = {Column(p, 1 << p) for p in (self._exact.get(name),) if p is not None}
        found.update(self._pattern_matches(name))
        if len({column.position for column in found}) != 1:
            return None
        # A former name spelled out may also fit a pattern of its field: the one that tells the year counts.
        return max(found, key=lambda column: column.year)

    def _pattern_matches(self, name: str) -> Iterator[Column]:
        for stem in _with_repeat(name):
            if (p := self._patterns.get(stem)) is not None:
                yield Column(p, 1 << p)
        match = _CONCRETE.fullmatch(name)
        if match is None:
            return
        yy, term = int(match["yy"]), match["term"] or ""
        for stem in _with_repeat(match["stem"] + (f"{term}" if term else "")):
            if (p := self._patterns.get(f"{stem}[yy]")) is not None:
                yield Column(p, 1 << p, _sheet(term, yy))
        if term:
            for stem in _with_repeat(match["stem"]):
                if (p := self._patterns.get(f"{stem}[term][yy]")) is not None:
                    yield Column(p, 1 << p, _sheet(term, yy))

    def _add(self, keys: dict[str, int], key: str, position: int) -> None:
        other = keys.setdefault(key, position)
        if other != position:
            raise NameClash(key, self.ids[other], self.ids[position])

    def _refuse_overlaps(self) -> None:
        for key, position in self._exact.items():
            for column in self._pattern_matches(key):
                if column.position != position:
                    raise NameClash(key, self.ids[position], self.ids[column.position])
        for key, position in self._patterns.items():
            for sample in _samples(key):
                for column in self._pattern_matches(sample):
                    if column.position != position:
                        raise NameClash(sample, self.ids[position], self.ids[column.position])


def _weight(names: tuple[str, ...], found: NameList) -> int:
    return len(names) + 10 * (1 + len(found.sheets))


def _with_repeat(stem: str) -> Iterator[str]:
    """Yield ``stem``, and ``stem`` with its repeat number generalised to ``[n]``."""
    yield stem
    for match in _REPEAT.finditer(stem):
        if int(match[0]) <= MAX_REPEAT:
            yield f"{stem[: match.start()]}[n]{stem[match.end() :]}"


def _samples(pattern: str) -> Iterator[str]:
    """Yield concrete names that a pattern stands for: enough to meet any other pattern that overlaps."""
    terms = [term.lower() for term in TERMS] if "[term]" in pattern else [""]
    numbers = [str(number) for number in range(1, MAX_REPEAT + 1)] if "[n]" in pattern else [""]
    for term in terms:
        for number in numbers:
            yield pattern.replace("[term]", term).replace("[n]", number).replace("[yy]", "19")
