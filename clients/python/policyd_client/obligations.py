"""Read the obligations of an answer: every one must be known, for what is not known cannot be met."""

from __future__ import annotations

import re
from typing import TypeVar

from pbac.v1 import decision_pb2 as pb

from policyd_client.expect import Unexpected, at_least, refuse_unknown
from policyd_client.model import Obligations, Outcome

_T = TypeVar("_T")
_AUTHORITY = re.compile(r"[0-9]{3}", re.ASCII)


def read_obligations(answer: pb.CheckResponse | pb.ListFieldsResponse, outcome: Outcome) -> Obligations:
    """Return the obligations; every one must be known, and each kind but `rows` and `setting` comes once."""
    once: dict[str, int] = {}
    years: frozenset[int] | None = None
    authorities: frozenset[str] | None = None
    settings: set[str] = set()
    for obligation in answer.obligations:
        refuse_unknown(obligation, "an obligation")
        kind = obligation.WhichOneof("kind")
        if kind == "rows":
            more_years, more_authorities = _read_rows(obligation.rows)
            years = _both(years, more_years)
            authorities = _both(authorities, more_authorities)
        elif kind == "setting":
            if not obligation.setting:
                raise Unexpected("obligation `setting` is empty")
            settings.add(obligation.setting)
        elif kind is None:
            raise Unexpected("an obligation is not known")
        elif kind in once:
            raise Unexpected(f"obligation `{kind}` comes twice")
        else:
            once[kind] = _read_amount(kind, obligation, answer.epoch)
    if outcome is Outcome.WITHHOLD and answer.obligations:
        raise Unexpected("outcome withhold does not go with obligations")
    if outcome is not Outcome.WITHHOLD and "exclude_sealed" not in once:
        raise Unexpected("it does not say to leave out sealed records (`exclude_sealed` is absent)")
    return Obligations(
        exclude_sealed_epoch=once.get("exclude_sealed"),
        row_years=years,
        row_local_authorities=authorities,
        min_cell_count=once.get("min_cell_count"),
        round_to=once.get("round_to"),
        retention_days=once.get("retention_days"),
        output_check="output_check" in once,
        publish_in_register="publish_in_register" in once,
        settings=frozenset(settings),
    )


def _read_amount(kind: str, obligation: pb.Obligation, epoch: int) -> int:
    """Return what an obligation that comes once asks for, as a number."""
    match kind:
        case "exclude_sealed":
            refuse_unknown(obligation.exclude_sealed, "obligation `exclude_sealed`")
            sealed_epoch = obligation.exclude_sealed.epoch
            if sealed_epoch != epoch:
                raise Unexpected(f"`exclude_sealed` is for epoch {sealed_epoch}, the decision for {epoch}")
            return epoch
        case "min_cell_count":
            return at_least(1, obligation.min_cell_count, "obligation `min_cell_count`")
        case "round_to":
            return at_least(2, obligation.round_to, "obligation `round_to`")
        case "retention_days":
            return at_least(1, obligation.retention_days, "obligation `retention_days`")
        case "output_check":
            return at_least(1, int(obligation.output_check), "obligation `output_check`")
        case "publish_in_register":
            return at_least(1, int(obligation.publish_in_register), "obligation `publish_in_register`")
        case _:
            raise Unexpected(f"obligation `{kind}` is not known")


def _read_rows(rows: pb.Rows) -> tuple[frozenset[int] | None, frozenset[str] | None]:
    refuse_unknown(rows, "obligation `rows`")
    if rows.local_authorities and not rows.by_local_authority:
        raise Unexpected("obligation `rows` names local authorities and does not limit by them")
    if not rows.years and not rows.by_local_authority:
        raise Unexpected("obligation `rows` limits nothing")
    if any(not 1900 <= year <= 2200 for year in rows.years):
        raise Unexpected("obligation `rows` names a year outside 1900 to 2200")
    if not all(_AUTHORITY.fullmatch(code) for code in rows.local_authorities):
        raise Unexpected("obligation `rows` names a local authority that is not three digits")
    years = frozenset(rows.years) if rows.years else None
    return years, frozenset(rows.local_authorities) if rows.by_local_authority else None


def _both(one: frozenset[_T] | None, other: frozenset[_T] | None) -> frozenset[_T] | None:
    """Return what satisfies both; None limits nothing."""
    if one is None or other is None:
        return other if one is None else one
    return one & other
