"""Answers `add-checkpoint` of C2SP tlog-witness: which status when, and what is remembered before it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from policyd import clock, merkle
from policyd.errors import LedgerCorrupt
from policyd.ledger import note
from policyd.witness.store import Held, WitnessStore, keep_evidence

MAX_PROOF_LINES = 63
MAX_BODY_BYTES = 64 * 1024 + 4 * 1024
"""A note of the largest size that is read, and what may stand before it."""
EVIDENCE = "evidence"
_MAX_EVIDENCE = 1_000
_MAX_SIZE = 2**63 - 1
_OLD = re.compile(rb"old (0|[1-9][0-9]{0,18})", re.ASCII)
_LOG = logging.getLogger("policyd.witness")


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back: an HTTP status, and a body with its type."""

    status: int
    body: str
    content_type: str = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Submission:
    """One request as read; nothing in it is checked."""

    old_size: int
    proof: tuple[bytes, ...]
    signed: str
    checkpoint: note.Checkpoint


class Witness:
    """Cosigns checkpoints of the logs it knows, each consistent with all it has cosigned of that log."""

    def __init__(
        self, directory: Path, store: WitnessStore, *, key: Ed25519PrivateKey, logs: Sequence[note.Verifier]
    ) -> None:
        """Take the logs to watch; several keys of one origin are all trusted for it."""
        self.verifier = note.WitnessVerifier(store.name, key.public_key())
        self._directory = directory
        self._store = store
        self._key = key
        self._logs: dict[str, list[note.Verifier]] = {}
        for log in logs:
            self._logs.setdefault(log.name, []).append(log)

    @property
    def failure(self) -> str:
        """Why nothing is cosigned any more; empty while all is well."""
        return self._store.failure

    def add_checkpoint(self, body: bytes) -> Answer:
        """Answer one request. What is cosigned is durable before this returns.

        SPEC: C2SP tlog-witness, add-checkpoint; the checks are in the order given there.
        """
        try:
            asked = parse_submission(body)
        except LedgerCorrupt as error:
            return Answer(400, f"{error}\n")
        origin = asked.checkpoint.origin
        verifiers = self._logs.get(origin)
        if verifiers is None:
            return Answer(404, "this log is not known here\n")
        try:
            text = note.verify(asked.signed, verifiers)
        except LedgerCorrupt:
            return Answer(403, "no signature of a key that is trusted for this log\n")
        if asked.old_size > asked.checkpoint.size:
            return Answer(400, "the old size is larger than the checkpoint's\n")
        try:
            return self._advance(asked, text)
        except sqlite3.Error as error:
            _LOG.error("nothing is cosigned any more: %s", error)
            return Answer(500, "this witness cannot remember what it signs, so it signs nothing\n")

    def newest(self) -> dict[str, str]:
        """Return the newest checkpoint of each log by its origin, cosigned now."""
        with self._store.exclusive() as store:
            notes = {origin: store.held(origin).note for origin in store.origins()}
            return {origin: each + self._cosign(note.parse(each).text) for origin, each in notes.items()}

    def _advance(self, asked: Submission, text: str) -> Answer:
        wanted = asked.checkpoint
        # INVARIANT: between reading what is held and having stored what comes next, nobody else does
        # either; else an older request could roll the log back (the race that the specification shows).
        with self._store.exclusive() as store:
            held = store.held(wanted.origin)
            fault = None
            if asked.old_size != held.size:
                answer = _conflict(held)
            elif wanted.size == held.size and wanted.root != held.root:
                answer, fault = _conflict(held), "two roots over one size"
            elif not merkle.verify_consistency(
                held.size, held.root, size=wanted.size, root=wanted.root, proof=asked.proof
            ):
                answer, fault = Answer(422, "the consistency proof does not hold\n"), "no proof that it grew"
            else:
                if wanted.size > held.size or not held.note:
                    store.hold(wanted.origin, Held(wanted.size, wanted.root, asked.signed))
                answer = Answer(200, self._cosign(text))
        if fault is not None:
            self._accuse(fault, held, asked)
        return answer

    def _cosign(self, text: str) -> str:
        return note.cosign(text, self.verifier.name, key=self._key, at_s=clock.now() // 1000)

    def _accuse(self, fault: str, held: Held, asked: Submission) -> None:
        """Say loudly, and keep, what may prove that a log has shown two histories."""
        ours, theirs = asked.checkpoint, held
        _LOG.error(
            "log `%s`: %s (%d records held with root %s, %d submitted with root %s)",
            ours.origin,
            fault,
            theirs.size,
            theirs.root.hex(),
            ours.size,
            ours.root.hex(),
        )
        text = f"{fault}\n\nheld:\n{held.note}\nsubmitted from {asked.old_size}:\n{asked.signed}"
        name = hashlib.sha256(f"{ours.origin}\n{ours.size}\n{ours.root.hex()}".encode()).hexdigest()[:32]
        try:
            if keep_evidence(self._directory / EVIDENCE, f"{name}.txt", text=text, most=_MAX_EVIDENCE):
                _LOG.error("both checkpoints are kept in %s/%s.txt", EVIDENCE, name)
        except OSError as error:
            _LOG.error("the evidence cannot be kept: %s", error.strerror)


def parse_submission(body: bytes) -> Submission:
    """Read the body of one request.

    Raises:
        LedgerCorrupt: it is not of the form that C2SP tlog-witness gives.
    """
    head, blank, rest = body.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    old = _OLD.fullmatch(first)
    if not blank or old is None:
        raise LedgerCorrupt("the body is an old size line, proof lines, an empty line and a checkpoint")
    if len(lines) > MAX_PROOF_LINES:
        raise LedgerCorrupt(f"more than {MAX_PROOF_LINES} proof lines")
    try:
        signed = rest.decode("utf-8")
    except UnicodeDecodeError:
        raise LedgerCorrupt("the checkpoint is not UTF-8") from None
    checkpoint = note.parse_checkpoint(note.parse(signed).text)
    if max(checkpoint.size, int(old[1])) > _MAX_SIZE:
        raise LedgerCorrupt(f"a size is larger than {_MAX_SIZE}")
    return Submission(int(old[1]), tuple(_hash(line) for line in lines), signed, checkpoint)


def _hash(line: bytes) -> bytes:
    try:
        value = base64.b64decode(line, validate=True)
    except (ValueError, binascii.Error):
        value = b""
    if len(value) != merkle.HASH_BYTES or base64.b64encode(value) != line:
        raise LedgerCorrupt("a proof line is not one hash in base64")
    return value


def _conflict(held: Held) -> Answer:
    return Answer(409, f"{held.size}\n", content_type="text/x.tlog.size")
