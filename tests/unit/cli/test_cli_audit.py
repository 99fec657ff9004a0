"""`policyd audit`: verify, export, prove and show a log that holds, and each way in which it does not."""

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
        stub(channel).Check(site.question(3, agreement_id="DS99999"), timeout=10)
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

    keys = [
        *("origin", "passed", "records", "root", "key_pinned"),
        *("witnessed", "records_per_s", "of_bare_sha256", "faults"),
    ]
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


def decision_ids(log: Path) -> list[str]:
    with LedgerReader(log) as reader:
        return [each.columns.decision_id for each in reader.records() if each.columns.decision_id]


def vkey_of(log: Path) -> str:
    with LedgerReader(log) as reader:
        return reader.vkey


def test_an_export_verifies_without_the_log(run: Any, log: Path, tmp_path: Path) -> None:
    """The log as plain files, added to by a second run, and verified from them alone."""
    target, key = tmp_path / "tiles", vkey_of(log)
    first = run("audit", "export", log, target)
    again = json.loads(run("audit", "export", log, target, "--key", key, "--json").stdout)
    size = again["size"]
    shutil.rmtree(log)
    result = run("audit", "verify", "--tiles", target, "--key", key, "--since", target / "checkpoint")

    assert (first.exit_code, f"records   {size}, {size} of them new" in first.stdout) == (0, True)
    assert list(again) == ["origin", "size", "added", "files", "target"]
    assert (again["added"], again["files"]) == (0, 0)
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "verified")
    assert "signature was not checked" in run("audit", "verify", "--tiles", target).stdout


def test_an_altered_export_ends_with_1(run: Any, log: Path, tmp_path: Path) -> None:
    """A changed byte of an entry is found, and its record named."""
    run("audit", "export", log, tmp_path / "tiles")
    (path,) = (tmp_path / "tiles/tile/entries/000.p").iterdir()
    path.write_bytes(path.read_bytes()[:-1] + b"?")

    result = run("audit", "verify", "--tiles", tmp_path / "tiles")

    assert result.exit_code == 1
    assert f"record {int(path.name) - 1}: its bytes" in result.stdout


def test_a_log_and_an_export_are_not_verified_at_once(run: Any, log: Path, tmp_path: Path) -> None:
    """One or the other; neither is wrong usage, too."""
    for arguments in ((), (log, "--tiles", tmp_path)):
        result = run("audit", "verify", *arguments)
        assert (result.exit_code, "and not both" in result.stderr) == (2, True)


def test_evidence_of_a_decision_is_checked_offline(run: Any, log: Path, tmp_path: Path) -> None:
    """A decision's evidence file verifies with the key alone, when the log is gone."""
    decision, key, file = decision_ids(log)[1], vkey_of(log), tmp_path / "one.tlog-proof"
    made = run("audit", "prove", log, decision, "-o", file, "--key", key)
    shutil.rmtree(log)
    result = run("audit", "verify-proof", file, "--key", key)
    document = json.loads(run("audit", "verify-proof", file, "--key", key, "--json").stdout)

    assert (made.exit_code, f"wrote {file}" in made.stdout) == (0, True)
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "proved")
    assert f"decision  {decision}" in result.stdout
    assert list(document) == ["origin", "index", "size", "root", "record"]
    assert document["record"]["decision_id"] == decision


def test_evidence_of_a_record_is_found_by_its_index(
    run: Any, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An activation has no decision id; its file is named by its index."""
    monkeypatch.chdir(tmp_path)
    assert run("audit", "prove", log, "--index", 1).exit_code == 0
    assert run("audit", "prove", log, decision_ids(log)[0]).exit_code == 0

    assert (tmp_path / "record-1.tlog-proof").is_file()
    assert (tmp_path / f"{decision_ids(log)[0]}.tlog-proof").is_file()
    result = run("audit", "verify-proof", "record-1.tlog-proof", "--key", vkey_of(log))
    assert (result.exit_code, "kind      activation" in result.stdout) == (0, True)


def test_evidence_that_does_not_hold_ends_with_1(run: Any, log: Path, tmp_path: Path, server: Any) -> None:
    """A changed file, another log's key and a file of another kind prove nothing."""
    file = tmp_path / "one.tlog-proof"
    run("audit", "prove", log, "--index", 1, "-o", file)
    other = run("audit", "verify-proof", file, "--key", server.ledger.vkey)
    assert (other.exit_code, "proves nothing" in other.stderr, other.stdout) == (1, True, "")
    file.write_bytes(file.read_bytes().replace(b"index 1", b"index 2"))
    changed = run("audit", "verify-proof", file, "--key", vkey_of(log))
    assert (changed.exit_code, "the proof does not lead" in changed.stderr) == (1, True)
    file.write_bytes(b"\xff" * 300_000)
    assert run("audit", "verify-proof", file, "--key", vkey_of(log)).exit_code == 1


@pytest.mark.parametrize(
    ("command", "code", "text"),
    [
        (("prove", "LOG"), 2, "and not both"),
        (("prove", "LOG", "x", "--index", "1"), 2, "and not both"),
        (("prove", "LOG", "no-such-decision"), 1, "no decision `no-such-decision`"),
        (("prove", "LOG", "--index", "99"), 1, "no record 99"),
        (("prove", "LOG", "--index", "0", "-o", "LOG/none/x"), 2, "cannot be written"),
        (("prove", "LOG", "--index", "0", "--key", "garbage"), 2, "`garbage` is no vkey"),
        (("show", "LOG", "no-such-decision"), 1, "no decision `no-such-decision`"),
        (("show", "LOG", ""), 1, "no decision ``"),
        (("verify-proof", "LOG/checkpoint", "--key", "garbage"), 2, "`garbage` is no vkey"),
        (("verify-proof", "LOG/checkpoint"), 2, "--key"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_usage_of_evidence_is_said(
    run: Any, log: Path, command: tuple[str, ...], code: int, text: str
) -> None:
    """What is missing, twice there, or not in the log is named."""
    result = run("audit", *(each.replace("LOG", str(log)) for each in command))

    assert (result.exit_code, text in result.stderr) == (code, True), result.stderr


def test_a_decision_is_shown_on_one_screen(run: Any, log: Path) -> None:
    """What was asked, by whom, what was decided and why, where it is, and that it is proved."""
    decision = decision_ids(log)[0]
    result = run("audit", "show", log, decision)

    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) < 40
    assert result.stdout.startswith(f"decision   {decision}  ")
    for label in (
        "record",
        "proof      holds",
        "at",
        "requester",
        "agreement",
        "purposes",
        "policy     version",
    ):
        assert f"\n{label}" in result.stdout, label


def test_show_in_json_has_the_documented_keys(run: Any, log: Path) -> None:
    """The record as it is in the tree, the exact reasons, and whether it is proved."""
    document = json.loads(
        run("audit", "show", log, decision_ids(log)[0], "--key", vkey_of(log), "--json").stdout
    )

    keys = ["origin", "index", "record", "not_told", "proof", "others"]
    assert list(document) == keys
    assert document["proof"] == {
        "status": "proved",
        "size": document["proof"]["size"],
        "key_pinned": True,
        "fault": "",
    }
    assert document["not_told"] == {"agreement": "", "reasons": [], "verdicts": []}


def test_the_exact_reason_is_shown_to_the_auditor(run: Any, log: Path) -> None:
    """What the caller could not be told, and what it was told instead."""
    decision = decision_ids(log)[-1]
    result = run("audit", "show", log, decision)
    document = json.loads(run("audit", "show", log, decision, "--json").stdout)

    assert ": AGREEMENT_UNKNOWN (told: AGREEMENT_NOT_YOURS) by " in result.stdout
    assert document["not_told"]["reasons"] == ["AGREEMENT_UNKNOWN"]


def test_a_changed_decision_is_shown_with_its_fault(run: Any, log: Path) -> None:
    """A record that is not the one that was signed is shown as such, and ends with 1."""
    decision = decision_ids(log)[0]
    with closing(sqlite3.connect(log / "ledger.db")) as connection:
        changed = "CAST(replace(leaf, 'Check', 'Chick') AS BLOB)"
        connection.execute(f"UPDATE record SET leaf = {changed} WHERE decision_id = ?", (decision,))  # noqa: S608
        connection.commit()
    result = run("audit", "show", log, decision)

    assert result.exit_code == 1
    assert "proof      FAULT: " in result.stdout
    assert "not under the root that is signed" in result.stderr


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

    run("audit", "export", log, tmp_path / "tiles")
    tiles = ("audit", "verify", "--tiles", tmp_path / "tiles", "--receipts", journal.parent)
    exported, keyless = run(*tiles, "--key", vkey_of(log)), run(*tiles)

    assert (true.exit_code, false.exit_code, exported.exit_code, keyless.exit_code) == (0, 1, 1, 2)
    assert "name it" in keyless.stderr
    assert "held      1 checkpoints and receipts of others compared" in true.stdout
    assert "record 3 is not the one for which `npd-secure.jsonl` line 1 is a receipt" in false.stdout


def test_a_directory_without_receipts_ends_with_2(run: Any, log: Path, tmp_path: Path) -> None:
    """A mistyped path is wrong usage, not a verification that passed."""
    (tmp_path / "empty").mkdir()

    assert run("audit", "verify", log, "--receipts", tmp_path / "empty").exit_code == 2
