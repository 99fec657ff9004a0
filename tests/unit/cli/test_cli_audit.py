"""`policyd audit verify`: a log that holds, and every way in which it does not."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.server import Site, make_site, serving, stub

from policyd.ledger.reader import LedgerReader


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A log of a few decisions, closed."""
    site = make_site(tmp_path_factory.mktemp("audit") / "data")
    with serving(site) as running, site.channel(running.address) as channel:
        for number in range(3):
            stub(channel).Check(site.question(number), timeout=10)
    return site


@pytest.fixture
def log(written: Site, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written.config.ledger, tmp_path / "log"))


def test_a_log_that_holds_ends_with_0(run: Any, log: Path) -> None:
    """All records verified, and that the key is the log's own word."""
    result = run("audit", "verify", log)

    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "verified"
    assert "from the log itself: not pinned" in result.stdout


def test_json_has_the_documented_keys(run: Any, log: Path) -> None:
    """One object that says whether it passed and what is wrong."""
    document = json.loads(run("audit", "verify", log, "--json").stdout)

    keys = ["origin", "passed", "records", "root", "key_pinned", "witnessed", "records_per_s", "faults"]
    assert list(document) == keys
    assert (document["passed"], document["faults"], document["key_pinned"]) == (True, [], False)


def test_a_pinned_key_and_a_kept_checkpoint_are_checked(run: Any, log: Path, tmp_path: Path) -> None:
    """With what is kept elsewhere the log proves more than that it agrees with itself."""
    with LedgerReader(log) as reader:
        key, signed = reader.vkey, reader.stored_checkpoint()
    kept = tmp_path / "checkpoint"
    kept.write_text(signed, "utf-8")

    result = run("audit", "verify", log, "--key", key, "--since", kept, "--json")

    assert result.exit_code == 0
    assert json.loads(result.stdout)["key_pinned"] is True


def test_an_altered_record_ends_with_1_and_its_number(run: Any, log: Path) -> None:
    """One changed byte of one leaf is found, and named."""
    with closing(sqlite3.connect(log / "ledger.db")) as connection:
        connection.execute("UPDATE record SET leaf = CAST(leaf || x'20' AS BLOB) WHERE idx = 3")
        connection.commit()

    result = run("audit", "verify", log)

    assert result.exit_code == 1
    assert "record 3" in result.stdout
    assert "NOT VERIFIED" in result.stdout
    assert "the ledger did not verify" in result.stderr


def test_another_key_does_not_vouch_for_it(run: Any, log: Path, site: Site, server: Any) -> None:
    """A log is checked against the key that is given."""
    result = run("audit", "verify", log, "--key", server.ledger.vkey)

    assert result.exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("--key", "garbage"), 2, "`garbage` is no vkey"),
        (("--since", "no-such-file"), 2, "does not exist"),
    ],
    ids=["key", "since"],
)
def test_wrong_usage_is_said(run: Any, log: Path, arguments: Any, code: int, text: str) -> None:
    """A malformed key and a missing file are named."""
    result = run("audit", "verify", log, *arguments)

    assert (result.exit_code, text in result.stderr) == (code, True)


def test_a_checkpoint_that_is_no_text_ends_with_2(run: Any, log: Path, tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are the wrong file."""
    file = tmp_path / "checkpoint"
    file.write_bytes(b"\xff\xfe")

    result = run("audit", "verify", log, "--since", file)

    assert (result.exit_code, "is not UTF-8 text" in result.stderr) == (2, True)


def test_a_checkpoint_of_another_log_ends_with_1(run: Any, log: Path, server: Any, tmp_path: Path) -> None:
    """A kept checkpoint that this log does not contain fails it."""
    file = tmp_path / "checkpoint"
    file.write_text(server.ledger.checkpoint, "utf-8")

    assert run("audit", "verify", log, "--since", file).exit_code == 1


def test_a_directory_without_a_log_is_named(run: Any, tmp_path: Path) -> None:
    """Nothing to verify is no pass."""
    result = run("audit", "verify", tmp_path)

    assert result.exit_code == 1
    assert f"no log in `{tmp_path}`" in result.stderr


def test_receipts_that_are_not_of_the_log_end_with_1(run: Any, log: Path, tmp_path: Path) -> None:
    """A journal with a receipt for another record convicts the log, and the record is named."""
    with LedgerReader(log) as reader:
        origin, record = reader.origin, reader.record(2)
        assert record is not None
        line = {"v": 1, "kind": "leaf", "origin": origin, "index": 2, "leaf_hash": record.leaf_hash.hex()}
    (tmp_path / "receipts").mkdir()
    journal = tmp_path / "receipts" / "npd-secure.jsonl"
    journal.write_text(json.dumps(line) + "\n", "utf-8")
    true = run("audit", "verify", log, "--receipts", journal.parent)
    journal.write_text(json.dumps({**line, "index": 3}) + "\n", "utf-8")
    false = run("audit", "verify", log, "--receipts", journal.parent)

    assert (true.exit_code, false.exit_code) == (0, 1)
    assert "held      1 checkpoints and receipts of others compared" in true.stdout
    assert "record 3 is not the one for which `npd-secure.jsonl` line 1 is a receipt" in false.stdout


def test_a_directory_without_receipts_ends_with_2(run: Any, log: Path, tmp_path: Path) -> None:
    """A mistyped path is wrong usage, not a verification that passed."""
    (tmp_path / "empty").mkdir()

    assert run("audit", "verify", log, "--receipts", tmp_path / "empty").exit_code == 2
