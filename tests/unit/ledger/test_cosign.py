"""A node has its checkpoints cosigned, and believes a witness nothing that does not prove itself."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from ledger_cases import ORIGIN, OpenLedger, make_entry
from support.witness import TreeLog, make_witness, open_witness, serving_witness

from policyd import clock
from policyd.errors import LedgerClosed, LedgerForked, NotServing
from policyd.ledger import note, store
from policyd.ledger.cosign import BackgroundCosigner, Cosigner
from policyd.ledger.reader import LedgerReader
from policyd.ledger.verify import verify
from policyd.ledger.writer import Ledger

KEY = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
LOG = note.Verifier(ORIGIN, KEY.public_key())
WAIT_S = 20.0


def cosigner_of(
    address: str, witness: note.WitnessVerifier, *, required: bool = True, deadline_s: float = 5.0
) -> Cosigner:
    return Cosigner(f"http://{address}", witness=witness, log=LOG, required=required, deadline_s=deadline_s)


def tree(size: int, *, salt: bytes = b"") -> TreeLog:
    return TreeLog(origin=ORIGIN, key=KEY).grow(size, salt=salt)


def wait_until(holds: Callable[[], object]) -> None:
    until_s = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < until_s
        time.sleep(0.01)


@contextmanager
def hostile(*replies: bytes, pause_s: float = 0.0) -> Iterator[str]:
    """Answer each request with the next of `replies`, one connection each; with a pause, byte by byte."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def run() -> None:
        for reply in replies:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                read = b""
                while b"\r\n\r\n" not in read or len(read.partition(b"\r\n\r\n")[2]) < _length(read):
                    if not (part := connection.recv(65_536)):
                        break
                    read += part
                try:
                    if not pause_s:
                        connection.sendall(reply)
                    for byte in reply if pause_s else b"":
                        connection.sendall(bytes([byte]))
                        if over.wait(pause_s):
                            return
                except OSError:
                    continue

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def _length(read: bytes) -> int:
    return int(read.split(b"Content-Length: ")[1].split(b"\r\n")[0])


def reply(status: int, body: bytes, content_type: str = "text/plain") -> bytes:
    return (
        f"HTTP/1.1 {status} x\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    ).encode() + body


# --- the protocol, as a client -----------------------------------------------------------------------


def test_a_checkpoint_is_cosigned_and_then_its_successors(tmp_path: Path) -> None:
    """The size is remembered: one request each, whatever the steps."""
    log = tree(30)
    with serving_witness(tmp_path / "w", LOG) as server:
        cosigner = cosigner_of(server.address, server.witness.verifier)
        for size in (0, 1, 5, 5, 8, 30):
            cosigned = cosigner.cosign(log.checkpoint(size), proof=log.proof)
            have = note.verify_checkpoint(
                cosigned, origin=ORIGIN, verifier=LOG, witness=server.witness.verifier
            )
            assert (have.size, have.root) == (size, log.root(size))
        cosigner.close()


def test_a_client_that_knows_nothing_learns_the_size(tmp_path: Path) -> None:
    """After a restart the 409 says what the witness holds, and the next request starts from there."""
    log = tree(30)
    with serving_witness(tmp_path / "w", LOG) as server:
        for size in (7, 30):
            cosigner = cosigner_of(server.address, server.witness.verifier)
            assert "witness.test" in cosigner.cosign(log.checkpoint(size), proof=log.proof)
            cosigner.close()


def test_a_kept_connection_that_was_closed_is_made_anew(tmp_path: Path) -> None:
    """A witness that was started again in between is no failure."""
    log = tree(9)
    with serving_witness(tmp_path / "w", LOG) as server:
        cosigner = cosigner_of(server.address, server.witness.verifier)
        cosigner.cosign(log.checkpoint(4), proof=log.proof)
        port = int(server.address.rsplit(":", 1)[1])
    with serving_witness(tmp_path / "w", LOG, port=port):
        assert "witness.test" in cosigner.cosign(log.checkpoint(9), proof=log.proof)
    cosigner.close()


@pytest.mark.parametrize(
    ("held", "ours", "message"),
    [
        (tree(12), tree(9), "the log has gone back: the witness `witness.test/w1` cosigned 12 records"),
        (tree(9), tree(4).grow(9, salt=b"x"), "another root over the first 9 records"),
        (tree(9), tree(4).grow(20, salt=b"x"), "are not the beginning of this log of 20"),
    ],
    ids=["gone back", "another root", "another history"],
)
def test_a_log_that_the_witness_knows_otherwise_is_forked(
    tmp_path: Path, held: TreeLog, ours: TreeLog, message: str
) -> None:
    """A longer log, another root, another history: this copy must not go on."""
    with serving_witness(tmp_path / "w", LOG) as server:
        size = len(held.leaves)
        assert server.witness.add_checkpoint(held.request(0, size)).status == 200
        cosigner = cosigner_of(server.address, server.witness.verifier)

        with pytest.raises(LedgerForked, match=message):
            cosigner.cosign(ours.checkpoint(len(ours.leaves)), proof=ours.proof)
        cosigner.close()


def test_a_witness_that_does_not_know_the_log_says_what_to_do(tmp_path: Path) -> None:
    """404 and 403 name the option that the witness needs."""
    log = tree(3)
    stranger = note.Verifier(ORIGIN, Ed25519PrivateKey.from_private_bytes(b"\x02" * 32).public_key())
    for logs in ((), (stranger,)):
        with serving_witness(tmp_path / "w", *logs) as server:
            cosigner = cosigner_of(server.address, server.witness.verifier)
            with pytest.raises(NotServing, match="start it with `--log`"):
                cosigner.cosign(log.checkpoint(3), proof=log.proof)
            cosigner.close()


def test_a_witness_of_another_key_is_not_believed(tmp_path: Path) -> None:
    """A cosignature by a key that the node was not given counts for nothing."""
    log = tree(3)
    other = make_witness(tmp_path / "other")
    with serving_witness(tmp_path / "w", LOG) as server:
        cosigner = cosigner_of(server.address, other)
        with pytest.raises(NotServing, match="is its key the one in `witness: vkey`"):
            cosigner.cosign(log.checkpoint(3), proof=log.proof)
        cosigner.close()


SIZE = "text/x.tlog.size"
NONSENSE: dict[str, tuple[bytes, ...]] = {
    "no HTTP": (b"hello\r\n\r\n",),
    "nothing": (b"",),
    "an empty 200": (reply(200, b""),),
    "a 200 of another text": (reply(200, b"all is well\n"),),
    "a 200 that is no UTF-8": (reply(200, b"\xff\xfe\n"),),
    "a 200 without its newline": (reply(200, "\N{EM DASH} witness.test/w1 AAAAAAAA".encode()),),
    "a bad signature": (reply(200, note.cosign("x\n", "witness.test/w1", key=KEY, at_s=1).encode()),),
    "a 500": (reply(500, b"sorry\x1b[31m\n"),),
    "a redirect": (reply(302, b""),),
    "a 409 of another type": (reply(409, b"2\n"),),
    "a 409 without a size": (reply(409, b"two\n", SIZE),),
    "a 409 without a newline": (reply(409, b"2", SIZE),),
    "a 409 with a leading zero": (reply(409, b"02\n", SIZE),),
    "a 409 with too many digits": (reply(409, b"9" * 20 + b"\n", SIZE),),
    "the size that was sent": (reply(409, b"2\n", SIZE), reply(409, b"2\n", SIZE)),
    "another size each time": tuple(reply(409, b"%d\n" % size, SIZE) for size in (2, 1, 2, 1)),
    "too long": (reply(200, b"x" * 70_000),),
    "a length that is a lie": (b"HTTP/1.1 200 x\r\nContent-Length: 10\r\n\r\nx",),
    "headers without end": (b"HTTP/1.1 200 x\r\n" + b"a: b\r\n" * 1_000,),
}


@pytest.mark.parametrize("case", NONSENSE)
def test_nonsense_from_a_witness_is_a_witness_that_is_away(tmp_path: Path, case: str) -> None:
    """Whatever comes that is neither a good cosignature nor a clear refusal: not serving, never forked."""
    log = tree(3)
    with hostile(*NONSENSE[case]) as address:
        cosigner = cosigner_of(address, make_witness(tmp_path / "w"))
        with pytest.raises(NotServing) as caught:
            cosigner.cosign(log.checkpoint(3), proof=log.proof)
        cosigner.close()
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("pause_s", [0.05, 30.0])
def test_a_slow_witness_is_waited_for_no_longer_than_the_deadline(tmp_path: Path, pause_s: float) -> None:
    """The deadline is for the whole exchange, not for each byte."""
    log = tree(3)
    with hostile(reply(200, b"x" * 1_000), pause_s=pause_s) as address:
        cosigner = cosigner_of(address, make_witness(tmp_path / "w"), deadline_s=0.5)
        begin_s = clock.monotonic()
        with pytest.raises(NotServing, match="TimeoutError"):
            cosigner.cosign(log.checkpoint(3), proof=log.proof)
        assert clock.monotonic() - begin_s < 5
        cosigner.close()


# --- a log with a witness ----------------------------------------------------------------------------


def test_a_required_witness_has_signed_every_receipt_and_the_anchor(
    tmp_path: Path, open_ledger: OpenLedger
) -> None:
    """Log and witness have signed the checkpoint of each receipt, once each, and the file beside the log."""
    with serving_witness(tmp_path / "w", LOG) as server:
        ledger = open_ledger(cosigner=cosigner_of(server.address, server.witness.verifier))
        for number in range(5):
            receipts = ledger.append([make_entry(number), make_entry(100 + number)])
            have = note.verify_checkpoint(
                receipts.checkpoint, origin=ORIGIN, verifier=LOG, witness=server.witness.verifier
            )
            assert have.size == receipts.size == 2 * number + 2
            assert len(note.parse(receipts.checkpoint).signatures) == 2
        ledger.close()
        anchor = (tmp_path / "log" / store.ANCHOR).read_text("utf-8")
        assert anchor == receipts.checkpoint
        newest = server.witness.newest()[ORIGIN]
        vkey = server.witness.verifier.vkey
    assert verify(tmp_path / "log", cosigned=[newest], witness=vkey).passed


def test_the_proof_of_a_fresh_group_is_the_stored_one(
    tmp_path: Path, open_ledger: OpenLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is sent with each group is made from memory alone, for every shape of group, and holds."""
    read: list[tuple[int, int]] = []
    real = LedgerReader.consistency_proof

    def counted(reader: LedgerReader, old_size: int, size: int) -> list[bytes]:
        read.append((old_size, size))
        return real(reader, old_size, size)

    with serving_witness(tmp_path / "w", LOG) as server:
        ledger = open_ledger(cosigner=cosigner_of(server.address, server.witness.verifier))
        monkeypatch.setattr(LedgerReader, "consistency_proof", counted)
        for count in (1, 1, 2, 3, 1, 7, 64, 5, 1, 33):
            ledger.append([make_entry(ledger.size + number) for number in range(count)])
        ledger.close()
    assert read == []


def test_a_witness_that_goes_away_stops_answers_and_nothing_else(
    tmp_path: Path, open_ledger: OpenLedger
) -> None:
    """Not serving while it is away, at once from the second call on; then serving again by itself."""
    with serving_witness(tmp_path / "w", LOG) as server:
        ledger = open_ledger(cosigner=cosigner_of(server.address, server.witness.verifier, deadline_s=1.0))
        ledger.append([make_entry(0)])
        port = int(server.address.rsplit(":", 1)[1])
    with pytest.raises(NotServing, match="no answer without a witness, and it is away"):
        ledger.append([make_entry(1)])
    assert ledger.size == 2  # it was under way, so it is recorded; it was not answered
    begin_s = clock.monotonic()
    with pytest.raises(NotServing):
        ledger.append([make_entry(2)])
    assert clock.monotonic() - begin_s < 0.5
    assert (ledger.size, ledger.failure) == (2, "")
    assert "away" in ledger.refusing

    with serving_witness(tmp_path / "w", LOG, port=port) as server:
        wait_until(lambda: not ledger.refusing)
        receipts = ledger.append([make_entry(3)])
        held = server.witness.add_checkpoint(tree(9).request(9, 9)).body
    assert (receipts.first_index, held) == (2, "3\n")
    assert not (tmp_path / "log" / store.MARKER).exists()
    ledger.close()
    assert verify(tmp_path / "log").passed


def test_those_who_queue_behind_an_absent_witness_are_turned_away_together(
    tmp_path: Path, open_ledger: OpenLedger
) -> None:
    """Nobody waits for longer than the exchange under way; what was queued is not recorded."""
    with serving_witness(tmp_path / "w", LOG) as server:
        ledger = open_ledger(cosigner=cosigner_of(server.address, server.witness.verifier, deadline_s=1.0))
        ledger.append([make_entry(0)])
        entered, leave = threading.Event(), threading.Event()
        real = server.witness.add_checkpoint

        def hang(body: bytes) -> object:
            entered.set()
            leave.wait(WAIT_S)
            return real(body)

        server.witness.add_checkpoint = hang  # type: ignore[method-assign,assignment]  # a witness that hangs
        refused: list[str] = []

        def ask(number: int) -> None:
            try:
                ledger.append([make_entry(number)])
            except NotServing as error:
                refused.append(str(error))

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(1, 9)]
        threads[0].start()
        assert entered.wait(WAIT_S)
        for thread in threads[1:]:
            thread.start()
        begin_s = clock.monotonic()
        for thread in threads:
            thread.join()
        assert clock.monotonic() - begin_s < 5
        assert len(refused) == 8
        assert ledger.size == 2
        server.witness.add_checkpoint = real  # type: ignore[method-assign]  # and is back
        leave.set()
        wait_until(lambda: not ledger.refusing)
        ledger.close()


@pytest.mark.parametrize("required", [True, False])
def test_a_log_that_has_gone_back_is_not_opened(
    tmp_path: Path, open_ledger: OpenLedger, *, required: bool
) -> None:
    """A whole directory set back to an older copy, checkpoint file and all, is found by the witness alone."""
    with serving_witness(tmp_path / "w", LOG) as server:
        ledger = open_ledger()
        ledger.append([make_entry(0)])
        ledger.close()
        copies = {file.name: file.read_bytes() for file in (tmp_path / "log").iterdir()}
        ledger = open_ledger(cosigner=cosigner_of(server.address, server.witness.verifier))
        ledger.append([make_entry(1)])
        ledger.close()
        for name, content in copies.items():
            (tmp_path / "log" / name).write_bytes(content)
        assert verify(tmp_path / "log").passed

        with pytest.raises(LedgerForked, match=r"the log has gone back: .* 2 records .* 1 are here"):
            open_ledger(cosigner=cosigner_of(server.address, server.witness.verifier, required=required))
        newest = server.witness.newest()[ORIGIN]
        vkey = server.witness.verifier.vkey
    report = verify(tmp_path / "log", cosigned=[newest], witness=vkey)
    assert [fault.index for fault in report.faults] == [1]


def test_two_logs_of_one_name_stop_each_other(tmp_path: Path, open_ledger: OpenLedger) -> None:
    """The second copy of a node is refused as soon as it is behind or different; the first goes on."""
    with serving_witness(tmp_path / "w", LOG) as server:
        first = open_ledger(cosigner=cosigner_of(server.address, server.witness.verifier))
        second = Ledger.open(
            tmp_path / "second",
            origin=ORIGIN,
            signing_key=KEY,
            cosigner=cosigner_of(server.address, server.witness.verifier),
        )
        first.append([make_entry(0)])
        with pytest.raises(LedgerClosed, match="two logs go by one name"):
            second.append([make_entry(1)])
        assert "two logs" in second.refusing
        with pytest.raises(LedgerClosed):
            second.append([make_entry(2)])
        assert not (tmp_path / "second" / store.MARKER).exists()
        with pytest.raises(LedgerClosed, match="two logs"):
            second.close()
        assert first.append([make_entry(3)]).size == 2
        first.close()


def test_a_required_witness_that_is_away_at_start_keeps_the_log_shut(
    tmp_path: Path, open_ledger: OpenLedger
) -> None:
    """Without its word nobody knows whether the log has gone back; the log is given back for another try."""
    with serving_witness(tmp_path / "w", LOG) as server:
        address, verifier = server.address, server.witness.verifier
    with pytest.raises(NotServing, match="no answer from"):
        open_ledger(cosigner=cosigner_of(address, verifier))
    ledger = open_ledger(cosigner=cosigner_of(address, verifier, required=False))
    assert ledger.append([make_entry(0)]).size == 1
    ledger.close()


def test_in_the_background_the_newest_checkpoint_is_cosigned_and_kept(
    tmp_path: Path, open_ledger: OpenLedger
) -> None:
    """No answer waits for it; a witness that comes late is caught up with."""
    with serving_witness(tmp_path / "w", LOG) as server:
        port, verifier = int(server.address.rsplit(":", 1)[1]), server.witness.verifier
    cosigner = cosigner_of(f"127.0.0.1:{port}", verifier, required=False)
    ledger = open_ledger(cosigner=cosigner)
    background = BackgroundCosigner(ledger, cosigner)
    background.start()
    ledger.append([make_entry(0), make_entry(1)])
    assert not ledger.refusing
    kept = tmp_path / "log" / store.COSIGNED
    with serving_witness(tmp_path / "w", LOG, port=port):
        wait_until(kept.exists)
        have = note.verify_checkpoint(kept.read_text("utf-8"), origin=ORIGIN, verifier=LOG, witness=verifier)
        background.stop()
    assert have.size == 2
    ledger.close()


def test_a_fork_found_in_the_background_stops_the_node(tmp_path: Path, open_ledger: OpenLedger) -> None:
    """Whether answers wait for the witness or not: a log of which there is another does not go on."""
    with serving_witness(tmp_path / "w", LOG) as server:
        cosigner = cosigner_of(server.address, server.witness.verifier, required=False)
        ledger = open_ledger(cosigner=cosigner)
        server.witness.add_checkpoint(tree(5, salt=b"another").request(0, 5))
        background = BackgroundCosigner(ledger, cosigner)
        ledger.append([make_entry(number) for number in range(6)])
        background.start()
        wait_until(lambda: ledger.failure)
        with pytest.raises(LedgerClosed, match="two logs go by one name"):
            ledger.append([make_entry(9)])
        background.stop()
        with pytest.raises(LedgerClosed):
            ledger.close()


def test_the_witness_of_a_log_can_be_opened_twice_over_time(tmp_path: Path, open_ledger: OpenLedger) -> None:
    """Restart after restart the root of each size is the same one, so the witness cosigns it again."""
    with serving_witness(tmp_path / "w", LOG) as server:
        for number in range(4):
            ledger = open_ledger(cosigner=cosigner_of(server.address, server.witness.verifier))
            assert ledger.append([make_entry(number)]).size == number + 1
            ledger.close()
    with open_witness(tmp_path / "w", LOG) as witness:
        assert note.parse_checkpoint(note.parse(witness.newest()[ORIGIN]).text).size == 4
