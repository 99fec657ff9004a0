"""What a verification of a log or of an export found, for people and for machines."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong; `index` is the first record at fault, None where it is not about one record."""

    index: int | None
    message: str


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a verification found.

    ``records`` were hashed again, ``size`` are stored, ``signed`` of them are under a checkpoint of
    the log's own (the rest were written by the last commit before a crash). ``key_pinned`` says
    whether the key was given from outside. ``marker_cleared`` and ``marker_kept`` are about the mark
    that a failed log leaves: cleared when everything passed, otherwise why not. ``witnessed`` counts the
    checkpoints and receipts, held by others, that were compared with the log.
    """

    origin: str
    vkey: str
    key_pinned: bool
    records: int
    size: int
    signed: int
    root: bytes
    faults: tuple[Fault, ...]
    elapsed_s: float
    bare_records_per_s: float = 0.0
    marker_cleared: bool = False
    marker_kept: str = ""
    witnessed: int = 0

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults

    @property
    def records_per_s(self) -> float:
        """How many records were verified each second."""
        return self.records / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def of_bare_sha256(self) -> float:
        """The rate as a part of what SHA-256 alone would reach."""
        return self.records_per_s / self.bare_records_per_s if self.bare_records_per_s else 0.0

    def _key(self) -> str:
        if not self.vkey:
            return "none given: the signature was not checked"
        return self.vkey + ("" if self.key_pinned else " (from the log itself: not pinned)")

    def __str__(self) -> str:
        lines = [
            f"log       {self.origin}",
            f"key       {self._key()}",
            f"records   {self.records} verified of {self.size}, {self.signed} under a checkpoint",
            f"root      {self.root.hex()}",
            f"rate      {self.records_per_s:,.0f} records/s, {self.of_bare_sha256:.2f} of bare SHA-256",
        ]
        if self.witnessed:
            lines.append(f"held      {self.witnessed} checkpoints and receipts of others compared")
        lines += [f"FAULT     {fault.message}" for fault in self.faults]
        if self.marker_cleared:
            lines.append("marker    cleared: the log may be opened again")
        elif self.marker_kept:
            lines.append(f"marker    kept: {self.marker_kept}")
        verified = "verified" if self.vkey else "verified, but for the signature"
        lines.append(verified if self.passed else "NOT VERIFIED")
        return "\n".join(lines)
