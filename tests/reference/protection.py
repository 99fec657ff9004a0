"""Transforms and obligations: what several of them come to (DESIGN.md section 3.5, AMENDMENTS.md item 12)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import lcm
from typing import Any

from policyd.model import Obligations, Step, Transform, TransformKind
from reference.source import Document

SUPPRESS: Transform = (Step(TransformKind.SUPPRESS),)
LARGEST = 2**31
COARSER = {("month", "year"), ("month", "academic-year"), ("outward-postcode", "postcode-area")}


def grant_of(rule: Document) -> Transform:
    """Return what an allow rule grants; the empty transform is a plain release."""
    grant = rule["grant"]
    if grant == "release":
        return ()
    if isinstance(grant, str):
        return (Step(TransformKind(grant)),)
    ((kind, detail),) = grant.items()
    (value,) = detail.values()
    if kind == "generalise":
        return (Step(TransformKind.GENERALISE, to=value),)
    return (Step(TransformKind(kind), amount=value),)


def strictest(transforms: Iterable[Transform]) -> Transform:
    """Return what protects at least as much as each of these; ``suppress`` where nothing is known to."""
    steps = {step for transform in transforms for step in transform}
    if not steps:
        return ()
    kinds = {step.kind for step in steps}
    caps = [step.amount for step in steps if step.kind is TransformKind.TOP_CODE]
    rest = kinds - {TransformKind.TOP_CODE}
    before = (Step(TransformKind.TOP_CODE, amount=min(caps)),) if caps else ()
    if not rest:
        return before
    if len(rest) > 1 or (caps and not rest & {TransformKind.BAND, TransformKind.ROUND}):
        return SUPPRESS
    (kind,) = rest
    if kind is TransformKind.GENERALISE:
        units = {step.to for step in steps if step.kind is kind}
        for unit in units:
            if all(other == unit or (other, unit) in COARSER for other in units):
                return (*before, Step(kind, to=unit))
        return SUPPRESS
    if kind in (TransformKind.BAND, TransformKind.ROUND):
        amounts = {step.amount for step in steps if step.kind is kind}
        common = lcm(*amounts)
        # Rounding to b leaves whole cells of rounding to a only when b is an odd multiple of a.
        if common > LARGEST or (kind is TransformKind.ROUND and any(common // a % 2 == 0 for a in amounts)):
            return SUPPRESS
        return (*before, Step(kind, amount=common))
    return (Step(kind),)


def obligations_of(text: Document, authorities: frozenset[str]) -> Obligations:
    """Return obligations as a document states them; ``own`` are the authorities of the requester."""
    rows = text.get("rows", {})
    return Obligations(
        row_years=frozenset(rows["years"]) if "years" in rows else None,
        row_local_authorities=authorities if "local_authority" in rows else None,
        min_cell_count=text.get("min_cell_count"),
        round_to=text.get("round_to"),
        retention_days=text.get("retention_days"),
        output_check=text.get("output_check", False),
        publish_in_register=text.get("publish_in_register", False),
        setting=frozenset([text["setting"]]) if "setting" in text else None,
    )


def accumulate(several: Sequence[Obligations]) -> Obligations:
    """Return what meets all of them: the strictest value of each kind, rows and settings in all of them."""

    def given(name: str) -> list[Any]:
        return [getattr(each, name) for each in several if getattr(each, name) is not None]

    def common(name: str) -> frozenset[Any] | None:
        sets = given(name)
        return frozenset.intersection(*sets) if sets else None

    return Obligations(
        row_years=common("row_years"),
        row_local_authorities=common("row_local_authorities"),
        min_cell_count=max(given("min_cell_count"), default=None),
        round_to=lcm(*given("round_to")) if given("round_to") else None,
        retention_days=min(given("retention_days"), default=None),
        output_check=any(each.output_check for each in several),
        publish_in_register=any(each.publish_in_register for each in several),
        setting=common("setting"),
    )


def with_epoch(owed: Obligations, epoch: int) -> Obligations:
    """Add ``exclude_sealed``, which is on every answer that is not withheld (gate 10)."""
    return replace(owed, exclude_sealed_epoch=epoch)
