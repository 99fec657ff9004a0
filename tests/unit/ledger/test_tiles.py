"""An exported log is C2SP tlog-tiles, only ever grows, and proves itself from its files alone."""

from __future__ import annotations

import ast
import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from ledger_cases import AT, DECISION, ORIGIN, make_change, make_entry

from policyd import merkle
from policyd.errors import ConfigError, LedgerClosed, LedgerCorrupt
from policyd.ledger import note, store, tile_verify, tiles
from policyd.ledger.tile_export import export
from policyd.ledger.tile_verify import verify_tiles
from policyd.ledger.writer import Ledger
from policyd.model import Effect, VerdictGroup
from policyd.reasons import Reason

KEY = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
VKEY = note.Verifier(ORIGIN, KEY.public_key()).vkey


def grow(log: Path, to: int) -> None:
    """Append state changes until the log has so many records, and close it."""
    with Ledger.open(log, origin=ORIGIN, signing_key=KEY) as ledger:
        if to > ledger.size:
            ledger.append([make_change(number, at=AT + number) for number in range(ledger.size, to)])


def files(target: Path) -> dict[str, bytes]:
    return {
        path.relative_to(target).as_posix(): path.read_bytes()
        for path in sorted(target.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of 600 records: two full tiles and a partial one on level 0, a partial one on level 1."""
    folder = tmp_path_factory.mktemp("tiles")
    grow(folder / "log", 600)
    export(folder / "log", folder / "tiles")
    return folder / "tiles"


@pytest.fixture
def target(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "tiles"))


def holds(target: Path) -> bool:
    """Whether an export verifies; one whose checkpoint cannot even be read does not."""
    try:
        return verify_tiles(target, public_key=VKEY).passed
    except LedgerCorrupt:
        return False


def test_paths_are_those_of_the_specification() -> None:
    """Numbers are groups of three digits, all but the last with an x; a partial tile says its width."""
    assert tiles.tile_path(0, 1_234_067) == "tile/0/x001/x234/067"
    assert tiles.tile_path(2, 0, width=17) == "tile/2/000.p/17"
    assert tiles.entries_path(999) == "tile/entries/999"
    assert tiles.entries_path(1_000, width=255) == "tile/entries/x001/000.p/255"


def test_a_tree_of_70_000_has_the_tiles_of_the_specification() -> None:
    """The example of C2SP tlog-tiles: 273 full tiles and one of 112, one full and one of 17, one of 1."""
    edge = tiles.Edge()
    full = [0, 0, 0]
    for number in range(70_000):
        for level, position, tile in edge.push(number.to_bytes(32, "big")):
            assert (position, len(tile)) == (full[level], 8_192)
            full[level] += 1

    assert full == [273, 1, 0]
    assert [(level, number, len(tile) // 32) for level, number, tile in edge.partial()] == [
        (0, 273, 112),
        (1, 1, 17),
        (2, 0, 1),
    ]


def test_the_edge_has_the_root_of_the_tree() -> None:
    """Growing by tiles and growing by leaves give one root, whatever the size, also after going back."""
    edge, frontier = tiles.Edge(), merkle.Frontier()
    assert edge.root() == merkle.EMPTY_ROOT
    for number in range(1_030):
        edge.push(merkle.leaf_hash(b"%d" % number))
        frontier.push(merkle.leaf_hash(b"%d" % number))
        assert edge.root() == frontier.root(), number + 1
    beyond = edge.rewind()
    assert (edge.size, len(beyond)) == (1_024, 6)
    for hashed in beyond:
        edge.push(hashed)
    assert edge.root() == frontier.root()


@pytest.mark.parametrize(
    ("size", "partial"), [(1, []), (1, [[]]), (0, [[bytes(32)]]), (256, [[]]), (5, [[bytes(32)] * 4])]
)
def test_an_edge_fits_its_size(size: int, partial: list[list[bytes]]) -> None:
    """Tiles that are not those of a size are refused."""
    with pytest.raises(LedgerCorrupt):
        tiles.Edge(size, partial)


def test_bundles_are_framed_with_sixteen_bits() -> None:
    """Each entry stands behind its length; a bundle cut anywhere but between entries is refused."""
    leaves = [b"", b"a", b"x" * 300, b"y" * 65_535]
    bundle = tiles.pack_entries(leaves[:3])

    assert bundle == b"\x00\x00" + b"\x00\x01a" + b"\x01\x2c" + b"x" * 300
    assert tiles.unpack_entries(tiles.pack_entries(leaves)) == leaves
    whole = {0, 2, 5, len(bundle)}
    for cut in range(len(bundle) + 1):
        if cut in whole:
            assert tiles.pack_entries(tiles.unpack_entries(bundle[:cut])) == bundle[:cut]
        else:
            with pytest.raises(LedgerCorrupt, match="cut short"):
                tiles.unpack_entries(bundle[:cut])
    with pytest.raises(LedgerCorrupt, match="65536 bytes"):
        tiles.pack_entries([b"z" * 65_536])


def test_exporting_again_adds_only_what_is_new(tmp_path: Path) -> None:
    """Each export holds the whole log, equals a fresh one, and leaves every full tile as it was."""
    log, target = tmp_path / "log", tmp_path / "tiles"
    held, full = 0, {}
    for size in (0, 1, 255, 256, 257, 511, 512, 700):
        grow(log, size)
        report = export(log, target, public_key=VKEY)
        assert (report.size, report.added) == (size, size - held)
        found = verify_tiles(target, public_key=VKEY)
        assert (found.passed, found.size, found.records) == (True, size, size)
        for name, (data, written) in full.items():
            assert (target / name).read_bytes() == data
            assert (target / name).stat().st_mtime_ns == written
        full = {
            name: (data, (target / name).stat().st_mtime_ns)
            for name, data in files(target).items()
            if name != "checkpoint" and ".p/" not in name
        }
        shutil.rmtree(tmp_path / "fresh", ignore_errors=True)
        export(log, tmp_path / "fresh")
        assert files(tmp_path / "fresh").items() <= files(target).items()
        held = size
    before = files(target)
    assert export(log, target).files == 0
    assert files(target) == before
    # Partial tiles stay for those who hold an older checkpoint, until the full one is there.
    assert [name for name in before if ".p/" in name and "/1/" not in name] == [
        "tile/0/002.p/188",
        "tile/entries/002.p/188",
    ]
    assert {name for name in before if name.startswith("tile/1/")} == {"tile/1/000.p/1", "tile/1/000.p/2"}


def test_what_a_leaf_only_commits_to_is_not_exported(tmp_path: Path) -> None:
    """The private part of a record, with the reason that its caller may not know, stays in the log."""
    group = VerdictGroup(Effect.WITHHOLD, Reason.AGREEMENT_UNKNOWN, "gate:3:agreement", (), ("A.b",))
    entry = make_entry(0, replace(DECISION, groups=(group,)))
    with Ledger.open(tmp_path / "log", origin=ORIGIN, signing_key=KEY) as ledger:
        ledger.append([entry])
    export(tmp_path / "log", tmp_path / "tiles")
    held = b"".join(files(tmp_path / "tiles").values())

    assert entry.leaf in held
    assert b"AGREEMENT_UNKNOWN" in entry.private
    assert b"AGREEMENT_UNKNOWN" not in held
    assert verify_tiles(tmp_path / "tiles", public_key=VKEY).passed


def test_every_file_of_an_export_matters(target: Path) -> None:
    """Flipping a bit of any file, cutting it, adding to it or losing it is found; the rest is whole."""
    for name, data in files(target).items():
        path = target / name
        places = {0, 1, 2, len(data) // 2, len(data) - 1} | set(range(0, len(data), max(1, len(data) // 12)))
        damaged = [data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :] for at in sorted(places)]
        for changed in (*damaged, data[:-1], data + b"\0", data[32:], b""):
            path.write_bytes(changed)
            assert not holds(target), name
        path.unlink()
        if name == "checkpoint":
            with pytest.raises(LedgerCorrupt, match="no export"):
                verify_tiles(target, public_key=VKEY)
        else:
            report = verify_tiles(target, public_key=VKEY)
            assert "is missing" in report.faults[0].message
            assert f"`{name}`" in report.faults[0].message
        path.write_bytes(data)
    assert verify_tiles(target, public_key=VKEY).passed


def test_the_record_at_fault_is_named(target: Path) -> None:
    """A changed record is found by its number, and so is one that changed places with its neighbour."""
    path = target / tiles.entries_path(1)
    leaves = tiles.unpack_entries(path.read_bytes())
    path.write_bytes(tiles.pack_entries([*leaves[:44], leaves[44].replace(b"first", b"other"), *leaves[45:]]))
    assert verify_tiles(target, public_key=VKEY).faults[0].index == 300
    path.write_bytes(tiles.pack_entries([*leaves[:44], leaves[45], leaves[44], *leaves[46:]]))
    fault = verify_tiles(target, public_key=VKEY).faults[0]
    assert (fault.index, fault.message) == (
        300,
        "record 300: its bytes do not give its hash in `tile/0/001`",
    )


def test_records_and_tiles_changed_together_are_found_by_the_root(target: Path) -> None:
    """Somebody without the key who rebuilds every tile cannot make the signature fit."""
    rebuilt = tiles.Edge()
    for number, width in ((0, 256), (1, 256), (2, 88)):
        path = target / tiles.entries_path(number, width=width)
        leaves = [
            leaf.replace(b"first load", b"other load") for leaf in tiles.unpack_entries(path.read_bytes())
        ]
        path.write_bytes(tiles.pack_entries(leaves))
        for leaf in leaves:
            for level, at, tile in rebuilt.push(merkle.leaf_hash(leaf)):
                (target / tiles.tile_path(level, at)).write_bytes(tile)
    for level, at, tile in rebuilt.partial():
        (target / tiles.tile_path(level, at, width=len(tile) // 32)).write_bytes(tile)

    report = verify_tiles(target)
    assert [fault.message for fault in report.faults] == [
        "the 600 records do not give the root of the checkpoint"
    ]
    text = note.checkpoint_text(note.Checkpoint(ORIGIN, 600, rebuilt.root()))
    signed = note.sign(text, ORIGIN, key=Ed25519PrivateKey.from_private_bytes(b"\x09" * 32))
    (target / "checkpoint").write_text(signed, "utf-8")
    assert verify_tiles(target).passed, "without a key, an export can only agree with itself"
    assert "does not hold" in verify_tiles(target, public_key=VKEY).faults[0].message


def test_without_a_key_the_report_says_so(target: Path) -> None:
    """What could not be checked is said in the report."""
    lines = str(verify_tiles(target)).splitlines()

    assert "key       none given: the signature was not checked" in lines
    assert lines[-1] == "verified, but for the signature"
    assert str(verify_tiles(target, public_key=VKEY)).endswith("\nverified")


def test_a_record_that_is_none_is_found(tmp_path: Path) -> None:
    """A leaf that is signed for and is no record was not written by a node: it is named."""
    for leaf in (
        b"x",
        b'{"v":1,"kind":"other"}',
        b'{"v":1,"kind":"state-change"}',
        make_entry(0).leaf.replace(b":17", b':"17', 1),
    ):
        root = merkle.leaf_hash(leaf)
        for name, data in (
            ("checkpoint", note.sign_checkpoint(note.Checkpoint(ORIGIN, 1, root), KEY).encode()),
            (tiles.tile_path(0, 0, width=1), root),
            (tiles.entries_path(0, width=1), tiles.pack_entries([leaf])),
        ):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(data)
        fault = verify_tiles(tmp_path, public_key=VKEY).faults[0]
        assert (fault.index, fault.message.startswith("record 0: ")) == (0, True)


def test_records_far_out_of_order_are_found(tmp_path: Path) -> None:
    """A record more than two seconds older than one before it was not written by this writer."""
    with Ledger.open(tmp_path / "log", origin=ORIGIN, signing_key=KEY) as ledger:
        ledger.append([make_change(at=AT)])
        ledger._last_at = 0
        ledger.append([make_change(at=AT - 2_001)])
    export(tmp_path / "log", tmp_path / "tiles")

    assert (
        verify_tiles(tmp_path / "tiles").faults[0].message == "record 1 is 2001 ms older than one before it"
    )


def signed_at(exported: Path, size: int) -> str:
    """The checkpoint that the log of the export had at a size."""
    frontier = merkle.Frontier()
    for leaf in leaves_of(exported):
        if frontier.size == size:
            break
        frontier.push(merkle.leaf_hash(leaf))
    return note.sign_checkpoint(note.Checkpoint(ORIGIN, size, frontier.root()), KEY)


def leaves_of(exported: Path) -> Iterator[bytes]:
    for number, width in ((0, 256), (1, 256), (2, 88)):
        yield from tiles.unpack_entries((exported / tiles.entries_path(number, width=width)).read_bytes())


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 512, 599, 600])
def test_only_newer_records_are_read_from_a_checkpoint_on(exported: Path, size: int) -> None:
    """With a checkpoint held elsewhere, what is under it is proved by its root."""
    report = verify_tiles(exported, public_key=VKEY, since=signed_at(exported, size))

    assert (report.passed, report.records, report.root) == (True, 600 - size, verify_tiles(exported).root)


@pytest.mark.parametrize(
    ("since", "want"),
    [
        (note.Checkpoint(ORIGIN, 13, bytes(32)), "does not begin with the 13 records"),
        (note.Checkpoint(ORIGIN, 601, bytes(32)), "record 600 is missing"),
        (note.Checkpoint("policyd.test/other", 13, bytes(32)), "not signed by a key"),
    ],
    ids=str,
)
def test_checkpoint_that_the_export_does_not_begin_with_is_a_fault(
    exported: Path, since: note.Checkpoint, want: str
) -> None:
    """A fork, a truncated export and another log's checkpoint are told apart and all found."""
    report = verify_tiles(exported, public_key=VKEY, since=note.sign_checkpoint(since, KEY))

    assert want in report.faults[0].message


def test_tampering_after_a_checkpoint_is_found_from_it_on(target: Path) -> None:
    """A record between the last full tile and the checkpoint held elsewhere is compared as well."""
    since = signed_at(target, 520)
    path = target / tiles.entries_path(2, width=88)
    leaves = tiles.unpack_entries(path.read_bytes())
    path.write_bytes(tiles.pack_entries([leaves[0].replace(b"first", b"other"), *leaves[1:]]))

    assert verify_tiles(target, public_key=VKEY, since=since).faults[0].index == 512


def test_a_log_that_does_not_hold_is_not_exported(tmp_path: Path, exported: Path) -> None:
    """The checkpoint is published only over records that give its root; the one before it stays."""
    log, target = tmp_path / "log", tmp_path / "tiles"
    grow(log, 300)
    export(log, target)
    before = (target / "checkpoint").read_bytes()
    grow(log, 600)
    whole = (log / store.DATABASE).read_bytes()
    for statement, want in {
        "UPDATE record SET leaf = x'7b7d' WHERE idx = 400": "do not give the root",
        "UPDATE record SET leaf = x'7b7d' WHERE idx = 260": "record 260 is not the one",
        "DELETE FROM record WHERE idx = 400": "record 400 is missing",
        "UPDATE record SET nodes = zeroblob(32) WHERE idx = 598": "",
    }.items():
        (log / store.DATABASE).write_bytes(whole)
        connection = sqlite3.connect(log / store.DATABASE)
        with connection:
            connection.execute(statement)
        connection.close()
        if want:
            with pytest.raises(LedgerCorrupt, match=want):
                export(log, target)
            assert (target / "checkpoint").read_bytes() == before
            assert verify_tiles(target, public_key=VKEY).size == 300
    (log / store.DATABASE).write_bytes(whole)
    export(log, target)
    report = verify_tiles(target, public_key=VKEY)
    assert (report.passed, report.root) == (True, verify_tiles(exported).root)


def test_a_target_of_another_log_is_left_alone(tmp_path: Path, target: Path) -> None:
    """An export of another key, of a fork or of a longer log is not overwritten."""
    before = files(target)
    other = Ed25519PrivateKey.from_private_bytes(b"\x02" * 32)
    with Ledger.open(tmp_path / "other", origin=ORIGIN, signing_key=other) as ledger:
        ledger.append([make_change(number) for number in range(3)])
    with pytest.raises(LedgerCorrupt, match="holds another export"):
        export(tmp_path / "other", target)
    grow(tmp_path / "short", 10)
    with pytest.raises(LedgerCorrupt, match="holds 600 records, the log 10"):
        export(tmp_path / "short", target)
    with Ledger.open(tmp_path / "fork", origin=ORIGIN, signing_key=KEY) as ledger:
        ledger.append([make_change(number, why="a fork") for number in range(700)])
    with pytest.raises(LedgerCorrupt, match="record 512 is not the one"):
        export(tmp_path / "fork", target)
    assert files(target) == before


def test_an_export_cut_short_is_taken_up(tmp_path: Path) -> None:
    """An export that ends half-way leaves the checkpoint before it; the next one completes it."""
    log, target = tmp_path / "log", tmp_path / "tiles"
    grow(log, 300)
    export(log, target)
    with Ledger.open(log, origin=ORIGIN, signing_key=KEY, queue_limit=20_000) as ledger:
        ledger.append([make_change(number, at=AT + number) for number in range(300, 10_500)])

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(log, target, progress=stop)
    report = verify_tiles(target, public_key=VKEY)
    assert (report.passed, report.size) == (True, 300)
    (target / tiles.tile_path(0, 20)).write_bytes(b"half")
    export(log, target)
    report = verify_tiles(target, public_key=VKEY)
    assert (report.passed, report.size) == (True, 10_500)


def test_a_tile_beyond_the_checkpoint_takes_no_partial_one_away(tmp_path: Path) -> None:
    """A full tile left by an export cut short replaces nothing until an export has written it itself."""
    log, target = tmp_path / "log", tmp_path / "tiles"
    grow(log, 300)
    export(log, target)
    for path in (tiles.tile_path(0, 1), tiles.entries_path(1)):
        (target / path).write_bytes(b"half")
    grow(log, 400)
    export(log, target)
    assert verify_tiles(target, public_key=VKEY).passed
    grow(log, 512)
    export(log, target)

    assert verify_tiles(target, public_key=VKEY).passed
    assert not [name for name in files(target) if name.startswith(("tile/0/001.p", "tile/entries/001.p"))]


def test_two_exports_into_one_directory_do_not_mix(tmp_path: Path, target: Path) -> None:
    """The second is refused while the first is at work."""
    grow(tmp_path / "log", 601)
    descriptor = os.open(target, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with pytest.raises(LedgerClosed, match="another export"):
            export(tmp_path / "log", target)
    finally:
        os.close(descriptor)
    assert export(tmp_path / "log", target).added == 1


def test_a_target_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A file in the place of the directory is said to be in the way."""
    grow(tmp_path / "log", 1)
    (tmp_path / "tiles").write_text("x", "utf-8")
    with pytest.raises(ConfigError, match="cannot be written"):
        export(tmp_path / "log", tmp_path / "tiles")


def test_a_huge_file_is_not_read_whole(target: Path) -> None:
    """A file larger than any of its kind is a fault, and is not taken into memory."""
    for name in ("checkpoint", tiles.tile_path(0, 0), tiles.entries_path(0)):
        data = (target / name).read_bytes()
        with (target / name).open("r+b") as file:
            file.truncate(2**40)
        if name == "checkpoint":
            with pytest.raises(LedgerCorrupt, match="more than 65536"):
                verify_tiles(target)
        else:
            assert "more than" in verify_tiles(target).faults[0].message
        (target / name).write_bytes(data)


def test_progress_is_told(tmp_path: Path) -> None:
    """A long export and a long verification say how far they are."""
    with Ledger.open(tmp_path / "log", origin=ORIGIN, signing_key=KEY, queue_limit=30_000) as ledger:
        ledger.append([make_change(number) for number in range(20_480)])
    told: list[tuple[int, int]] = []
    export(tmp_path / "log", tmp_path / "tiles", progress=lambda *p: told.append(p))
    verify_tiles(tmp_path / "tiles", progress=lambda *p: told.append(p))

    assert told == [(10_000, 20_480), (20_000, 20_480), (10_240, 20_480), (20_480, 20_480)]


def test_verifier_of_tiles_stands_on_its_own() -> None:
    """It opens no database of its log and imports neither the writer nor anything of the server."""
    imported = {
        f"{node.module}.{alias.name}"
        for module in (tile_verify, tiles)
        for node in ast.walk(ast.parse(Path(module.__file__).read_text("utf-8")))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    assert {name.rsplit(".", 1)[0] for name in imported if name.startswith("policyd")} <= {
        "policyd",
        "policyd.errors",
        "policyd.ledger",
        "policyd.ledger.bare_hashing",
        "policyd.ledger.columns",
        "policyd.ledger.entry",
        "policyd.ledger.report",
        "policyd.ledger.verify",
        "policyd.ledger.witnessed",
    }
    assert not {"policyd.ledger.store", "policyd.ledger.reader", "policyd.ledger.writer"} & imported
