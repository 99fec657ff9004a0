"""The embedded store's file: every way to alter it is found, and unfit places are refused."""

from __future__ import annotations

import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path

import pytest
from support.administration import AT, NODE_A, TRUST, Key, make, propose

from policyd.errors import ConfigError, NotServing, PolicydError, StateCorrupt
from policyd.model import Organisation, Registry, Status
from policyd.registry import database
from policyd.registry.change import Change, State
from policyd.registry.draft import Proposal
from policyd.registry.lease import Acknowledgement
from policyd.registry.store import EmbeddedStore


def _entry(number: int) -> Registry:
    entry = Organisation(f"org-{number}", "school", False, Status.ACTIVE, f"School {number}", AT)
    return Registry(organisations={entry.id: entry})


def _next(state: State) -> Proposal:
    return propose(_entry(9), state)


def _open(path: Path, node: Key = NODE_A) -> EmbeddedStore:
    return EmbeddedStore(path, trust=TRUST, signer=node)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with four changes, closed: a trust document and three organisations."""
    path = tmp_path / "data" / "state.db"
    with _open(path) as store:
        make(store, TRUST)
        for number in (1, 2, 3):
            make(store, _entry(number))
    return path


@pytest.fixture
def four(path: Path) -> State:
    """The state after the four."""
    with _open(path) as store:
        return store.load()


def _execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE change SET previous = x'00' WHERE epoch = 2", "change 2 does not follow from change 1"),
        ("UPDATE change SET kind = 'seal' WHERE epoch = 2", "change 2 cannot be read: it holds other"),
        ("UPDATE change SET kind = 'other' WHERE epoch = 2", "change 2 has a kind"),
        ("UPDATE change SET body = x'7b7d' WHERE epoch = 2", "change 2 cannot be read"),
        (
            "UPDATE change SET body = replace(body, 'org-1', 'org-9') WHERE epoch = 2",
            "change 2 does not bear",
        ),
        ("UPDATE change SET who = 'admin-2' WHERE epoch = 2", "change 2 does not bear"),
        ("UPDATE change SET why = 'another' WHERE epoch = 2", "change 2 does not bear"),
        ("UPDATE change SET at = at + 1 WHERE epoch = 2", "change 2 does not bear"),
        ("UPDATE change SET at = 9223372036854775807 WHERE epoch = 2", "change 2 has a kind or date"),
        ("UPDATE change SET change_id = 'x' WHERE epoch = 2", "change 2 does not bear"),
        ("UPDATE change SET change_id = '' WHERE epoch = 2", "change 2 cannot be read: `change_id`"),
        ("UPDATE change SET planned_on = zeroblob(32) WHERE epoch = 2", "change 2 does not bear"),
        ("UPDATE change SET planned_on = x'' WHERE epoch = 2", "change 2 cannot be read: `planned_on`"),
        ("UPDATE change SET signatures = '' WHERE epoch = 2", "change 2 does not bear"),
        ("UPDATE change SET signatures = signatures || ' x' WHERE epoch = 2", "change 2 has signatures"),
        ("UPDATE change SET signatures = substr(signatures, 1, 145) WHERE epoch = 2", "2 does not bear"),
        ("UPDATE change SET node = 'node-b' WHERE epoch = 2", "change 2 does not bear"),
        ("UPDATE change SET node = 'node-2' WHERE epoch = 2", "change 2 .* not trusted"),
        ("UPDATE change SET signature = x'' WHERE epoch = 2", "change 2 does not bear"),
        ("UPDATE change SET signature = zeroblob(64) WHERE epoch = 2", "change 2 does not bear"),
        ("DELETE FROM change WHERE epoch = 1", "change 1 is missing"),
        ("DELETE FROM change WHERE epoch = 2", "change 2 is missing"),
        ("DELETE FROM change WHERE epoch IN (2, 3)", "change 2 is missing"),
        ("UPDATE change SET epoch = 9 WHERE epoch = 4", "change 4 is missing"),
        ("UPDATE change SET epoch = 0 WHERE epoch = 1", "change 1 is missing"),
        (
            "INSERT INTO change SELECT 5, previous, kind, body, who, why, at, 'x', planned_on, signatures,"
            " node, signature FROM change WHERE epoch = 4",
            "change 5 does not follow from change 4",
        ),
    ],
)
def test_an_altered_change_is_named_and_refused(path: Path, statement: str, message: str) -> None:
    """Whatever of a stored change is altered, the load stops and says at which."""
    _execute(
        path,
        statement.replace("replace(body,", "CAST(replace(CAST(body AS TEXT),").replace(
            "-9')", "-9') AS BLOB)"
        ),
    )

    with _open(path) as store, pytest.raises(StateCorrupt, match=message):
        store.load()


def test_two_changes_that_swap_places_are_refused(path: Path) -> None:
    """Order is part of what is signed."""
    _execute(
        path,
        "UPDATE change SET epoch = -1 WHERE epoch = 2",
        "UPDATE change SET epoch = 2 WHERE epoch = 3",
        "UPDATE change SET epoch = 3 WHERE epoch = -1",
    )

    with _open(path) as store, pytest.raises(StateCorrupt, match="change 2 does not follow"):
        store.load()


def test_nothing_is_appended_to_a_broken_chain(path: Path, four: State) -> None:
    """A store that does not verify takes no further change."""
    _execute(path, "UPDATE change SET who = 'admin-2' WHERE epoch = 2")

    with _open(path) as store, pytest.raises(StateCorrupt, match="change 2"):
        store.append(_next(four), 4)


def test_a_follower_notices_changes_that_are_gone(path: Path) -> None:
    """Cut off at the end, the chain still verifies by itself; whoever has seen more refuses it."""
    with _open(path) as store, store.follow(store.load()) as follower:
        _execute(path, "DELETE FROM change WHERE epoch = 4")

        with pytest.raises(StateCorrupt, match="change 4 is no longer"):
            follower.poll(10.0)


def test_a_store_that_saw_more_appends_nothing_to_less(path: Path, four: State) -> None:
    """A process that has verified change 4 does not append a second one of that number."""
    with _open(path) as store:
        store.load()
        _execute(path, "DELETE FROM change WHERE epoch = 4")

        with pytest.raises(StateCorrupt, match="change 4 is no longer"):
            store.append(_next(four), 3)


@pytest.mark.parametrize("replacement", [True, False], ids=["replaced", "removed"])
def test_a_store_whose_file_was_replaced_says_so(path: Path, four: State, *, replacement: bool) -> None:
    """Nobody goes on with a file that was moved away, where the changes of others would never be seen."""
    copy = path.read_bytes()
    with _open(path) as store, store.follow(store.load()) as follower:
        path.rename(path.with_name("old.db"))
        if replacement:
            path.write_bytes(copy)
            path.chmod(0o600)

        for use in (store.load, lambda: store.append(_next(four), 4), lambda: follower.poll(10.0)):
            with pytest.raises(StateCorrupt, match="removed or replaced"):
                use()


def test_bytes_flipped_in_the_file_are_found_or_harmless(path: Path) -> None:
    """With any byte of the file altered, the load gives the same state or an error, never another state."""
    with _open(path) as store:
        want = store.load()
    content = path.read_bytes()
    found = 0
    for position in range(0, len(content), 17):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :])
        try:
            with _open(path) as store:
                assert store.load() == want
        except PolicydError:
            found += 1
    assert found > 60


def test_the_file_is_for_its_owner_alone(path: Path, four: State) -> None:
    """The store holds names of people: mode 0600, also of SQLite's files beside it."""
    with _open(path) as store:
        store.append(_next(four), 4)
        modes = {item.name: stat.S_IMODE(item.stat().st_mode) for item in path.parent.iterdir()}

    assert set(modes.values()) == {0o600}
    assert "state.db-wal" in modes


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_file_open_to_others_is_refused(path: Path, mode: int) -> None:
    """The message has the command that mends it."""
    path.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        _open(path)


def test_commits_are_synced(path: Path) -> None:
    """The store runs in WAL mode with synchronous=FULL, so an acknowledged change survives power loss."""
    with _open(path) as store:
        have = [
            store._database.connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous")
        ]

    assert have == ["wal", 2]


def test_many_that_open_a_new_store_share_it(tmp_path: Path) -> None:
    """Threads that make the store at once all get the same whole one, and no scratch file stays."""
    path = tmp_path / "state.db"
    start = threading.Barrier(8)
    failed: list[Exception] = []

    def open_it() -> None:
        start.wait()
        try:
            database.make(path)
            _open(path).close()
        except PolicydError as error:
            failed.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []
    assert [item.name for item in tmp_path.iterdir() if item.name.endswith(".new")] == []


@pytest.mark.parametrize("content", [b"", b"x" * 8192], ids=["empty", "text"])
def test_a_file_that_is_no_store_is_refused(tmp_path: Path, content: bytes) -> None:
    """A file of something else is neither used nor changed."""
    path = tmp_path / "state.db"
    path.write_bytes(content)
    path.chmod(0o600)

    with pytest.raises((ConfigError, StateCorrupt)):
        _open(path)

    assert path.read_bytes() == content


def test_a_store_of_another_format_is_refused(path: Path) -> None:
    """Neither what an older policyd wrote nor what a newer one did is touched."""
    for other in (1, 3):
        _execute(path, f"PRAGMA user_version = {other}")
        with pytest.raises(ConfigError, match=f"format {other}, and .* reads format 2 alone; move it away"):
            _open(path)


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    """Only a file that carries policyd's mark is opened."""
    path = tmp_path / "state.db"
    _execute(path, "PRAGMA journal_mode = WAL", "CREATE TABLE change (epoch INTEGER)")
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="not a state store"):
        _open(path)


def test_a_writer_that_waits_too_long_is_told_so(path: Path, four: State) -> None:
    """While another process holds the file for writing, an append ends with NotServing and stores nothing."""
    with _open(path) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        store._database.connection.execute("PRAGMA busy_timeout = 10")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(NotServing, match="locked"):
            store.append(_next(four), 4)
        other.execute("ROLLBACK")

        assert store.load().epoch == 4


def test_a_commit_that_fails_stores_nothing(path: Path) -> None:
    """When the disk takes no more pages, the append fails and the state is the old one."""
    with _open(path) as store:
        store._database.connection.execute("PRAGMA max_page_count = 1")
        entries = {f"org-x{n}": _organisation(n) for n in range(500)}
        with pytest.raises(NotServing, match="full"):
            make(store, Registry(organisations=entries))

        assert store.load().epoch == 4


def _organisation(number: int) -> Organisation:
    return Organisation(
        f"org-x{number}", "school", False, Status.ACTIVE, "A school with a long name " * 8, AT
    )


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store is not made where SQLite's locks do not hold."""
    monkeypatch.setattr("policyd.registry.database.network_file_system", lambda _: "nfs4")

    with pytest.raises(ConfigError, match="network file system"):
        _open(tmp_path / "state.db")

    assert not (tmp_path / "state.db").exists()


def _changes(path: Path, numbers: list[int]) -> tuple[Change, ...]:
    """Return the changes of a new store: a trust document, and one that brings an organisation a number."""
    with _open(path) as store, closing(store.follow(State())) as follower:
        make(store, TRUST, change_id="the-first")
        for number in numbers:
            make(store, _entry(number), change_id=f"of-{number}")
        update = follower.poll(0.0)
    assert update is not None
    return update.changes


def test_changes_of_another_store_are_kept_as_they_were_signed(tmp_path: Path) -> None:
    """Kept one by one, together or again, they make the same state; what is there already is left."""
    changes = _changes(tmp_path / "a" / "state.db", [1, 2, 3])
    with _open(tmp_path / "b" / "state.db") as copy:
        copy.keep(changes[:1])
        copy.keep(changes)
        copy.keep(changes[1:])

        assert copy.highest() == 4
        assert copy.load().chain_hash == changes[-1].chain_hash


def test_changes_that_do_not_fit_the_copy_are_not_kept(tmp_path: Path) -> None:
    """A gap, another history or another change under one number: refused, and nothing of them is stored."""
    ours, theirs = _changes(tmp_path / "a" / "s.db", [1, 2]), _changes(tmp_path / "b" / "s.db", [1, 7, 8])
    assert ours[:2] == theirs[:2]
    with _open(tmp_path / "c" / "state.db") as copy:
        with pytest.raises(StateCorrupt, match="change 2 does not follow from this node's own copy"):
            copy.keep(ours[1:])
        copy.keep(ours)
        with pytest.raises(StateCorrupt, match="own copy has another change 3; two histories"):
            copy.keep(theirs[2:])
        with pytest.raises(StateCorrupt, match="change 4 does not follow"):
            copy.keep(theirs[3:])
        three = _changes(tmp_path / "d" / "s.db", [1, 2, 3])
        with pytest.raises(StateCorrupt):
            copy.keep([three[3], theirs[2]])

        assert copy.highest() == 3
        assert copy.load().chain_hash == ours[2].chain_hash


def test_an_acknowledgement_in_the_file_is_read_strictly(tmp_path: Path) -> None:
    """One that was altered, or stands under another node's id, is damage."""
    path = tmp_path / "state.db"
    with _open(path) as store:
        state = store.load()
        store.renew(Acknowledgement("node-1", state.epoch, state.chain_hash, 5, b"\1" * 64))
        for statement, message in (
            ("UPDATE acknowledgement SET node = 'node-2'", "another node's id"),
            ("UPDATE acknowledgement SET words = x'7b7d'", "cannot be read"),
        ):
            _execute(path, statement)
            with pytest.raises(StateCorrupt, match=message):
                store.acknowledgements()
