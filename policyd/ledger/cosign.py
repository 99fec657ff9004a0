"""Has a log's checkpoints cosigned by a witness. SPEC: C2SP tlog-witness, the client's side."""

from __future__ import annotations

import base64
import logging
import re
import threading
from collections.abc import Callable
from typing import Protocol

from policyd.errors import LedgerClosed, LedgerCorrupt, LedgerForked, NotServing
from policyd.ledger import note
from policyd.ledger.post import Poster, Reply
from policyd.ledger.reader import LedgerReader

DEADLINE_S = 2.0
"""How long one request to the witness may take as a whole."""
RETRY_S = 0.5
"""How long after a failure the witness is asked again."""
_ATTEMPTS = 4
_SIZE = re.compile(rb"(0|[1-9][0-9]{0,18})\n")
_TWO_LOGS = "two logs go by one name, or this one was changed; find out which is right before either is used"
_LOG = logging.getLogger("policyd")

Proof = Callable[[int, int], list[bytes]]
"""Gives the consistency proof from an older size to a newer one."""


class Cosigner:
    """Asks one witness to cosign one log's checkpoints; from one thread at a time.

    With `required` no answer leaves before its checkpoint is cosigned.
    """

    def __init__(
        self,
        url: str,
        *,
        witness: note.WitnessVerifier,
        log: note.Verifier,
        required: bool,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        """Name the witness by its submission prefix and key.

        Raises:
            ValueError: the URL cannot be used.
        """
        self.witness = witness
        self.required = required
        self._log = log
        self._poster = Poster(f"{url.rstrip('/')}/add-checkpoint", deadline_s=deadline_s)
        self._size: int | None = None

    def cosign(self, signed: str, *, proof: Proof) -> str:
        """Return the checkpoint note `signed` with the witness's signature added to it.

        `proof` reads the log's stored tree. Blocks for up to a few deadlines.

        Raises:
            NotServing: no cosignature could be had now; ask again later.
            LedgerForked: the witness has cosigned more records than this log has, or other ones.
        """
        ours = note.parse_checkpoint(note.parse(signed).text)
        # At first nobody knows what the witness holds; where it is not our size, it says so.
        old = ours.size if self._size is None else min(self._size, ours.size)
        for _ in range(_ATTEMPTS):
            reply = self._poster.post(_request(old, proof(old, ours.size), signed))
            if reply.status == 200:
                cosigned = self._add(reply, signed)
                self._size = ours.size
                return cosigned
            if reply.status == 422:
                raise LedgerForked(
                    f"the witness `{self.witness.name}` cosigned {old} records of `{ours.origin}` that are "
                    f"not the beginning of this log of {ours.size}: {_TWO_LOGS}"
                )
            if reply.status != 409:
                raise NotServing(f"the witness `{self.witness.name}` {_refusal(reply)}")
            old = self._held(reply, sent=old, ours=ours)
        raise NotServing(f"the witness `{self.witness.name}` keeps changing its mind about this log's size")

    def cosign_at_start(self, signed: str, *, proof: Proof) -> str:
        """Return the newest checkpoint cosigned; as it is where the witness is away and not required.

        Raises:
            NotServing: the witness is required, and no cosignature could be had.
            LedgerForked: as `cosign`, whether it is required or not.
        """
        try:
            return self.cosign(signed, proof=proof)
        except NotServing as error:
            if self.required:
                raise
            _LOG.warning("checkpoints are not cosigned now: %s", error)
            return signed

    def close(self) -> None:
        """Give the connection to the witness back."""
        self._poster.close()

    def _held(self, reply: Reply, *, sent: int, ours: note.Checkpoint) -> int:
        """Return the size that the witness says it holds, where that can be the beginning of this log."""
        match = _SIZE.fullmatch(reply.body)
        if match is None or reply.content_type != "text/x.tlog.size":
            raise NotServing(f"the witness `{self.witness.name}` answers 409 without a size")
        held = int(match[1])
        if held > ours.size:
            raise LedgerForked(
                f"the log has gone back: the witness `{self.witness.name}` cosigned {held} records of "
                f"`{ours.origin}`, {ours.size} are here; restore the newest copy"
            )
        if held == sent == ours.size:
            raise LedgerForked(
                f"the witness `{self.witness.name}` cosigned another root over the first {held} records of "
                f"`{ours.origin}`: {_TWO_LOGS}"
            )
        if held == sent:
            raise NotServing(f"the witness `{self.witness.name}` refuses the size that it names itself")
        return held

    def _add(self, reply: Reply, signed: str) -> str:
        """Return the note with the line of our witness, if that holds; lines of others are left out."""
        mine = (self.witness.name, self.witness.key_id)
        try:
            lines = [f"{line}\n" for line in reply.body.decode("utf-8").split("\n")[:-1]]
            cosigned = signed + "".join(
                line
                for line in lines
                if any((each.name, each.key_id) == mine for each in note.parse(f"x\n\n{line}").signatures)
            )
            note.verify_checkpoint(cosigned, origin=self._log.name, verifier=self._log, witness=self.witness)
        except (LedgerCorrupt, UnicodeDecodeError) as error:
            raise NotServing(
                f"what came back is no cosignature of the witness `{self.witness.name}` "
                f"({error}): is its key the one in `witness: vkey`?"
            ) from error
        return cosigned


class CosignedLog(Protocol):
    """What of a log the background work needs; `policyd.ledger.writer.Ledger` is one."""

    @property
    def checkpoint(self) -> str:
        """The newest signed checkpoint."""

    @property
    def reader(self) -> LedgerReader:
        """What proofs are made from."""

    def wait_beyond(self, size: int, *, timeout_s: float) -> int:
        """Wait for more records."""

    def keep_cosigned(self, cosigned: str) -> None:
        """Keep a cosigned checkpoint beside the log."""

    def condemn(self, why: str) -> None:
        """Stop for good."""


class BackgroundCosigner:
    """Has the newest checkpoint cosigned now and then, where no answer waits for it."""

    def __init__(self, log: CosignedLog, cosigner: Cosigner) -> None:
        self._log = log
        self._cosigner = cosigner
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cosigner", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, and wait for a request under way."""
        self._stopping.set()
        self._thread.join()
        self._cosigner.close()

    def _run(self) -> None:
        done, away = -1, False
        while not self._stopping.wait(RETRY_S):
            if self._log.wait_beyond(done, timeout_s=RETRY_S) <= done:
                continue
            signed = self._log.checkpoint
            try:
                cosigned = self._cosigner.cosign(signed, proof=self._log.reader.consistency_proof)
                self._log.keep_cosigned(cosigned)
            except NotServing as error:
                if not away:
                    _LOG.warning("checkpoints are not cosigned now: %s", error)
                away = True
                continue
            except (LedgerCorrupt, LedgerClosed, OSError) as error:
                # SECURITY: another history of this log exists; this one may be the false one
                # (test_a_fork_found_in_the_background_stops_the_node).
                self._log.condemn(f"{error}")
                return
            if away:
                _LOG.warning("checkpoints are cosigned again")
            done, away = note.parse_checkpoint(note.parse(signed).text).size, False


def _request(old: int, proof: list[bytes], signed: str) -> bytes:
    lines = [f"old {old}", *(base64.b64encode(each).decode("ascii") for each in proof), "", signed]
    return "\n".join(lines).encode()


def _refusal(reply: Reply) -> str:
    hint = {
        403: "does not take this log's key: start it with `--log` and the vkey of this log",
        404: "does not know this log: start it with `--log` and the vkey of this log",
    }.get(reply.status)
    if hint is not None:
        return hint
    said = reply.body[:120].decode("ascii", errors="replace").split("\n")[0]
    return f"answers {reply.status} (`{said}`)" if said.isprintable() else f"answers {reply.status}"
