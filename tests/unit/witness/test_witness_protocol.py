"""A witness answers add-checkpoint exactly as C2SP tlog-witness says, and never signs two histories."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from support.witness import NAME, TreeLog, make_witness, open_witness

from policyd import clock, merkle
from policyd.errors import ConfigError
from policyd.ledger import note
from policyd.witness.protocol import EVIDENCE, MAX_PROOF_LINES, Witness
from policyd.witness.store import WitnessStore

LOG = TreeLog().grow(40)
FORK = TreeLog().grow(6).grow(40, salt=b"other")
STRANGER = TreeLog(key=Ed25519PrivateKey.from_private_bytes(b"\x08" * 32)).grow(40)
UNKNOWN = TreeLog(origin="log.test/unknown").grow(40)


def test_a_cosignature_holds_and_states_the_time(tmp_path: Path) -> None:
    """200: signature lines that make the checkpoint a note that log and witness have signed, now."""
    with open_witness(tmp_path / "w", LOG.verifier) as witness:
        before_s = clock.now() // 1000
        answer = witness.add_checkpoint(LOG.request(0, 7))
        vkey = witness.verifier.vkey
        after_s = clock.now() // 1000

    cosigned = LOG.checkpoint(7) + answer.body
    checkpoint = note.verify_checkpoint(
        cosigned, origin=LOG.origin, verifier=LOG.verifier, witness=note.WitnessVerifier.from_vkey(vkey)
    )
    stamp = note.parse(cosigned).signatures[1].value[:8]
    assert (answer.status, answer.body.count("\n")) == (200, 1)
    assert (checkpoint.size, checkpoint.root) == (7, LOG.root(7))
    assert before_s <= int.from_bytes(stamp, "big") <= after_s


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (LOG.request(10, 10), 200),
        (LOG.request(10, 11), 200),
        (LOG.request(10, 40), 200),
        (LOG.request(12, 11, proof=[]), 400),
        (STRANGER.request(10, 20), 403),
        (UNKNOWN.request(0, 20), 404),
        (LOG.request(0, 20), 409),
        (LOG.request(9, 20), 409),
        (LOG.request(11, 20), 409),
        (LOG.request(0, 10), 409),
        (LOG.request(9, 9), 409),
        (FORK.request(10, 10), 409),
        (FORK.request(10, 20), 422),
        (LOG.request(10, 20, proof=[]), 422),
        (LOG.request(10, 20, proof=LOG.proof(10, 20)[:-1]), 422),
        (LOG.request(10, 20, proof=[*LOG.proof(10, 20), bytes(32)]), 422),
        (LOG.request(10, 20, proof=LOG.proof(10, 21)), 422),
        (LOG.request(10, 10, proof=[bytes(32)]), 422),
    ],
)
def test_each_request_has_its_status(tmp_path: Path, body: bytes, status: int) -> None:
    """With 10 records held: what is cosigned, and which status refuses the rest; those change nothing."""
    with open_witness(tmp_path / "w", LOG.verifier) as witness:
        assert witness.add_checkpoint(LOG.request(0, 10)).status == 200

        answer = witness.add_checkpoint(body)

        assert answer.status == status
        assert ("\N{EM DASH}" in answer.body) is (status == 200)
        if status == 409:
            assert (answer.body, answer.content_type) == ("10\n", "text/x.tlog.size")
        if status != 200:
            assert witness.add_checkpoint(LOG.request(10, 10)).status == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [(LOG.request(0, 0), 200), (LOG.request(0, 5), 200), (LOG.request(5, 5), 409), (LOG.request(3, 5), 409)],
)
def test_a_log_that_was_never_cosigned_starts_from_zero(tmp_path: Path, body: bytes, status: int) -> None:
    """The empty tree is known of every log; a proof from zero is empty."""
    with open_witness(tmp_path / "w", LOG.verifier) as witness:
        answer = witness.add_checkpoint(body)

        assert answer.status == status
        assert answer.body == "0\n" or status == 200


def test_an_empty_tree_has_one_root(tmp_path: Path) -> None:
    """A signed checkpoint over no records with a root of its own is refused as another root."""
    text = note.sign_checkpoint(note.Checkpoint(LOG.origin, 0, bytes(32)), LOG.key)
    with open_witness(tmp_path / "w", LOG.verifier) as witness:
        assert witness.add_checkpoint(f"old 0\n\n{text}".encode()).status == 409


GOOD = LOG.request(0, 5)
MALFORMED: dict[str, bytes] = {
    "nothing": b"",
    "no old line": GOOD.split(b"\n", 1)[1],
    "old without a number": GOOD.replace(b"old 0", b"old "),
    "a leading zero": GOOD.replace(b"old 0", b"old 00"),
    "a sign": GOOD.replace(b"old 0", b"old +0"),
    "two spaces": GOOD.replace(b"old 0", b"old  0"),
    "upper case": GOOD.replace(b"old 0", b"Old 0"),
    "digits of another script": GOOD.replace(b"old 0", "old \u0660".encode()),
    "a size beyond 2^63": GOOD.replace(b"old 0", b"old 9223372036854775808"),
    "a size of 20 digits": GOOD.replace(b"old 0", b"old 10000000000000000000"),
    "carriage returns": GOOD.replace(b"\n", b"\r\n"),
    "no empty line": GOOD.replace(b"\n\n", b"\n", 1),
    "no checkpoint": b"old 0\n\n",
    "a proof line that is no base64": GOOD.replace(b"old 0\n", b"old 0\n!!!\n"),
    "a proof line of 31 bytes": GOOD.replace(b"old 0\n", b"old 0\n" + b"A" * 40 + b"AA==\n"),
    "a proof line of 33 bytes": GOOD.replace(b"old 0\n", b"old 0\n" + b"A" * 44 + b"\n"),
    "a proof line with loose bits": GOOD.replace(b"old 0\n", b"old 0\n" + b"A" * 42 + b"B=\n"),
    "64 proof lines": GOOD.replace(b"old 0\n", b"old 0\n" + (b"A" * 43 + b"=\n") * (MAX_PROOF_LINES + 1)),
    "no newline at the end": GOOD[:-1],
    "not UTF-8": GOOD.replace(b"log.test", b"log\xff.test"),
    "a checkpoint size beyond 2^63": b"old 0\n\n"
    + note.sign(f"{LOG.origin}\n9223372036854775808\n{'A' * 43}=\n", LOG.origin, key=LOG.key).encode(),
    "a note of more than 64 KiB": b"old 0\n\n"
    + note.sign(f"{LOG.origin}\n5\n{'A' * 43}=\n" + "x\n" * 40_000, LOG.origin, key=LOG.key).encode(),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_request_is_400(tmp_path: Path, case: str) -> None:
    """Whatever is not exactly of the form is refused before anything is looked up."""
    with open_witness(tmp_path / "w", LOG.verifier) as witness:
        assert witness.add_checkpoint(GOOD).status == 200
        assert witness.add_checkpoint(MALFORMED[case]).status == 400


def test_63_proof_lines_are_read(tmp_path: Path) -> None:
    """The most that the protocol allows is no mistake of form; the proof is wrong all the same."""
    with open_witness(tmp_path / "w", LOG.verifier) as witness:
        body = LOG.request(0, 5, proof=[bytes(32)] * MAX_PROOF_LINES)
        assert witness.add_checkpoint(body).status == 422


def test_signatures_of_others_are_ignored(tmp_path: Path) -> None:
    """Sixteen signatures of unknown keys, one by the log's name, do no harm; a bad one of the log does."""
    others = [Ed25519PrivateKey.from_private_bytes(bytes([each]) * 32) for each in range(30, 45)]
    text = note.parse(LOG.checkpoint(5)).text
    lines = [
        note.sign(text, f"other.test/{n}", key=key).removeprefix(f"{text}\n") for n, key in enumerate(others)
    ]
    lines.append(note.sign(text, LOG.origin, key=others[0]).removeprefix(f"{text}\n"))
    bad = note.sign("x\n", LOG.origin, key=LOG.key).removeprefix("x\n\n")
    with open_witness(tmp_path / "w", LOG.verifier) as witness:
        assert (
            witness.add_checkpoint(b"old 0\n\n" + (LOG.checkpoint(5) + "".join(lines)).encode()).status == 200
        )
        assert witness.add_checkpoint(b"old 5\n\n" + (LOG.checkpoint(5) + bad).encode()).status == 403


def test_two_keys_of_one_log_are_both_trusted(tmp_path: Path) -> None:
    """A log whose key was rotated goes on under the new one."""
    renewed = TreeLog(key=STRANGER.key).grow(40)
    with open_witness(tmp_path / "w", LOG.verifier, renewed.verifier) as witness:
        assert witness.add_checkpoint(LOG.request(0, 5)).status == 200
        assert witness.add_checkpoint(renewed.request(5, 9)).status == 200


def test_logs_do_not_touch_each_other(tmp_path: Path) -> None:
    """Each log has its own newest checkpoint."""
    other = TreeLog(origin="log.test/b").grow(40, salt=b"b")
    with open_witness(tmp_path / "w", LOG.verifier, other.verifier) as witness:
        assert witness.add_checkpoint(LOG.request(0, 30)).status == 200
        assert witness.add_checkpoint(other.request(0, 3)).status == 200
        assert witness.add_checkpoint(LOG.request(30, 31)).status == 200
        newest = witness.newest()
    sizes = {name: note.parse_checkpoint(note.parse(each).text).size for name, each in newest.items()}
    assert sizes == {LOG.origin: 31, other.origin: 3}


@pytest.mark.parametrize(
    ("asked", "fault"),
    [
        (lambda: FORK.request(10, 10), "two roots over one size"),
        (lambda: FORK.request(10, 20), "no proof that it grew"),
    ],
)
def test_two_histories_are_said_loudly_and_kept(
    tmp_path: Path, asked: Callable[[], bytes], fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Both signed checkpoints are kept in a file, once, and the log gets an error each time."""
    with open_witness(tmp_path / "w", LOG.verifier) as witness:
        witness.add_checkpoint(LOG.request(0, 10))
        witness.add_checkpoint(asked())
        witness.add_checkpoint(asked())

    (file,) = (tmp_path / "w" / EVIDENCE).iterdir()
    kept = file.read_text("utf-8")
    submitted = asked().partition(b"\n\n")[2].decode()
    assert LOG.checkpoint(10) in kept
    assert submitted in kept
    assert caplog.text.count(fault) == 2


def test_no_forged_proof_moves_a_witness(tmp_path: Path) -> None:
    """Every bit of every hash, every hash left out or doubled, every other root: none moves it."""
    chance = random.Random(20261124)  # noqa: S311  # a fixed seed
    with open_witness(tmp_path / "w", LOG.verifier) as witness:
        assert witness.add_checkpoint(LOG.request(0, 11)).status == 200
        proof = LOG.proof(11, 37)
        forged = []
        for number, each in enumerate(proof):
            for _ in range(8):
                bit = chance.randrange(256)
                changed = (int.from_bytes(each, "big") ^ (1 << bit)).to_bytes(32, "big")
                forged.append([*proof[:number], changed, *proof[number + 1 :]])
            forged += [
                proof[:number] + proof[number + 1 :],
                [*proof[:number], each, each, *proof[number + 1 :]],
            ]
        forged += [proof[::-1], [*proof, merkle.EMPTY_ROOT], [LOG.root(11), *proof]]
        for each in forged:
            assert witness.add_checkpoint(LOG.request(11, 37, proof=each)).status == 422
        assert witness.add_checkpoint(LOG.request(11, 37)).status == 200


def test_what_is_held_outlives_the_process(tmp_path: Path) -> None:
    """Opened again, the witness goes on from the newest checkpoint."""
    with open_witness(tmp_path / "w", LOG.verifier) as witness:
        witness.add_checkpoint(LOG.request(0, 12))
    with open_witness(tmp_path / "w", LOG.verifier) as witness:
        assert witness.add_checkpoint(LOG.request(0, 20)).body == "12\n"


def test_a_witness_that_cannot_store_signs_nothing(tmp_path: Path) -> None:
    """500 and no signature, then and ever after, until it is started again."""
    with open_witness(tmp_path / "w", LOG.verifier) as witness:
        assert witness.add_checkpoint(LOG.request(0, 5)).status == 200
        _break(witness)

        answers = [witness.add_checkpoint(LOG.request(5, size)) for size in (6, 5)]

        assert [answer.status for answer in answers] == [500, 500]
        assert not any("\N{EM DASH}" in answer.body for answer in answers)
        assert "readonly" in witness.failure


def _break(witness: Witness) -> None:
    witness._store._connection.execute("PRAGMA query_only=ON")


def test_a_witness_keeps_its_name(tmp_path: Path) -> None:
    """The name is part of the key id, so another one would be another witness."""
    make_witness(tmp_path / "w")
    with pytest.raises(ConfigError, match=f"is `{NAME}`, not `other`"):
        WitnessStore(tmp_path / "w", name="other")
    with pytest.raises(ConfigError, match="no witness in"):
        WitnessStore(tmp_path)
