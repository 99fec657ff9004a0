"""The client's own tree arithmetic agrees with the vectors, and with the server's on every small tree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from policyd_client.expect import Unexpected
from policyd_client.note import open_checkpoint, read_logs
from policyd_client.tree import holds_consistency, holds_inclusion, leaf_hash

from policyd import merkle

VECTORS = Path(__file__).parents[2] / "vectors" / "merkle"
SIZES = range(1, 20)


def read(name: str) -> Any:
    return json.loads((VECTORS / name).read_text("utf-8"))


def stored(size: int) -> tuple[dict[tuple[int, int], bytes], list[bytes]]:
    """Return every complete subtree over `size` leaves, and the roots as it grew."""
    frontier, nodes, roots = merkle.Frontier(), {}, [merkle.EMPTY_ROOT]
    for index in range(size):
        for level, each in enumerate(frontier.push(leaf_hash(bytes([index])))):
            nodes[level, index >> level] = each
        roots.append(frontier.root())
    return nodes, roots


def test_inclusion_vectors_hold_as_they_say() -> None:
    """Every corruption of an inclusion proof is refused, every true one is accepted."""
    wrong = [
        case
        for case in read("inclusion.json")["cases"]
        if holds_inclusion(
            bytes.fromhex(case["leaf_hash"]),
            case["index"],
            case["size"],
            proof=[bytes.fromhex(each) for each in case["proof"]],
            root=bytes.fromhex(case["root"]),
        )
        is not case["valid"]
    ]

    assert wrong == []


def test_consistency_vectors_hold_as_they_say() -> None:
    """Every corruption of a consistency proof is refused; an empty old tree proves nothing here."""
    wrong = [
        case
        for case in read("consistency.json")["cases"]
        if holds_consistency(
            case["old_size"],
            bytes.fromhex(case["old_root"]),
            size=case["size"],
            root=bytes.fromhex(case["root"]),
            proof=[bytes.fromhex(each) for each in case["proof"]],
        )
        is not (case["valid"] and case["old_size"] > 0)
    ]

    assert wrong == []


@pytest.mark.parametrize("size", SIZES)
def test_every_proof_of_a_small_tree_holds(size: int) -> None:
    """What the server's arithmetic makes, the client's accepts: all leaves and all older sizes."""
    nodes, roots = stored(size)

    def node(level: int, position: int) -> bytes:
        return nodes[level, position]

    for index in range(size):
        proof = merkle.inclusion_proof(index, size, node)
        assert holds_inclusion(leaf_hash(bytes([index])), index, size, proof=proof, root=roots[size])
    for old in range(1, size + 1):
        proof = merkle.consistency_proof(old, size, node)
        assert holds_consistency(old, roots[old], size=size, root=roots[size], proof=proof)
        assert not holds_consistency(old, roots[old], size=size, root=roots[old - 1], proof=proof)


def test_note_vectors_hold_as_they_say() -> None:
    """Good checkpoints of the server's vectors open, malformed and badly signed ones do not."""
    vectors = read("notes.json")
    pins = read_logs({vectors["name"]: vectors["vkey"]})
    good = [case for case in vectors["good"] if "\n\n" not in case["text"]]

    assert good
    for case in good:
        assert open_checkpoint(case["note"], pins).note == case["note"]
    for case in vectors["bad"]:
        with pytest.raises(Unexpected):
            open_checkpoint(case["note"], pins)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names no log"),
        ("quorum none\n", "names no log"),
        ("log {vkey}\nlog {vkey}\n", "logs.txt:2: log `policyd.test/node-1` has two keys"),
        ("log {vkey}\nquorum all\n", "logs.txt:2: it is no line `log <vkey>`"),
        (
            "log policyd.test/node-1+00000000+AddamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea\n",
            "is not that of its key",
        ),
        ("log {vkey}A\n", "is no vkey of an Ed25519 key"),
        ("policy {vkey}\n", "it is no line `log <vkey>`"),
    ],
)
def test_a_policy_that_cannot_be_met_is_refused(text: str, says: str, tmp_path: Path) -> None:
    """What is pinned is said exactly; a quorum of witnesses is not quietly left out."""
    path = tmp_path / "logs.txt"
    path.write_text(text.replace("{vkey}", read("notes.json")["vkey"]), "utf-8")

    with pytest.raises(ValueError, match=says.replace("`", ".").replace("<", ".")):
        read_logs(path)


def test_a_policy_file_pins_its_logs(tmp_path: Path) -> None:
    """Comments, blank lines, addresses and witnesses that no quorum needs are passed over."""
    vectors = read("notes.json")
    path = tmp_path / "logs.txt"
    path.write_text(
        f"# trusted\n\nlog {vectors['vkey']} https://log.test/\nwitness w x\nquorum none\n", "utf-8"
    )

    assert set(read_logs(path)) == {vectors["name"]}


def test_a_log_has_the_key_of_its_own_name() -> None:
    """A key under the name of another log is a mistake of the caller."""
    with pytest.raises(ValueError, match="gives log `other` the key of"):
        read_logs({"other": read("notes.json")["vkey"]})
