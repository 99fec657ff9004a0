"""Policy sets that were in force are kept by digest, as the very files that were loaded."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.tiny_policy import tiny_files, write_files

from policyd.errors import ConfigError, LedgerCorrupt, SourceError
from policyd.policy import archive as archive_module
from policyd.policy.archive import adopt, find
from policyd.policy.load import load_policy_set
from policyd.policy.policyset import PolicySet


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_files(tmp_path / "source", {**tiny_files(), "tests/cases.yaml": "[]\n"})


def test_what_was_loaded_is_kept_by_its_digest(source: Path, tmp_path: Path) -> None:
    """The copy loads as the same policy set, cases are kept with it, and nothing else is left."""
    policy = adopt(source, tmp_path / "archive")

    kept = tmp_path / "archive" / policy.digest
    assert policy.digest == load_policy_set(source).digest == find(tmp_path / "archive", policy.digest).digest
    assert [path.name for path in (tmp_path / "archive").iterdir()] == [policy.digest]
    assert (kept / "tests" / "cases.yaml").read_bytes() == (source / "tests" / "cases.yaml").read_bytes()


def test_a_set_is_kept_once_and_never_written_again(source: Path, tmp_path: Path) -> None:
    """Another number or another comment is the same content: what was kept first stays."""
    archive = tmp_path / "archive"
    first = adopt(source, archive)
    kept = archive / first.digest / "policyset.yaml"
    before = kept.read_bytes(), kept.stat().st_ino
    head = source / "policyset.yaml"
    head.write_text(head.read_text("utf-8").replace("version: 3", "version: 4"), "utf-8")

    again = adopt(source, archive)

    assert (again.digest, again.version) == (first.digest, first.version + 1)
    assert (kept.read_bytes(), kept.stat().st_ino) == before


def test_two_sets_stand_side_by_side(source: Path, tmp_path: Path) -> None:
    """A changed set gets a folder of its own, and the old one is still found."""
    archive = tmp_path / "archive"
    first = adopt(source, archive)
    rules = source / "rules" / "rules.yaml"
    rules.write_text(rules.read_text("utf-8").replace("why: ", "why: Indeed, ", 1), "utf-8")

    second = adopt(source, archive)

    assert second.digest != first.digest
    assert {path.name for path in archive.iterdir()} == {first.digest, second.digest}
    assert find(archive, first.digest).digest == first.digest


def test_mistakes_are_named_where_the_author_made_them(source: Path, tmp_path: Path) -> None:
    """Problems are told by the path that was given, not by that of the copy; nothing is kept."""
    (source / "rules" / "rules.yaml").write_text("- nonsense\n", "utf-8")

    with pytest.raises(SourceError) as caught:
        adopt(source, tmp_path / "archive")

    assert {each.place.file for each in caught.value.problems} == {str(source / "rules" / "rules.yaml")}
    assert list((tmp_path / "archive").iterdir()) == []


@pytest.mark.parametrize("odd", ["rules/more/deny.yaml", "rules/deny.yml", "rules/deny.YAML"])
def test_what_the_loader_objects_to_is_not_lost_in_the_copy(source: Path, tmp_path: Path, odd: str) -> None:
    """A deny rule where nobody reads it stays a mistake, as it is in the source."""
    write_files(source, {odd: "[]\n"})

    with pytest.raises(SourceError, match="is not read"):
        adopt(source, tmp_path / "archive")


def test_other_files_are_not_kept(source: Path, tmp_path: Path) -> None:
    """Notes and pictures beside the policy set are nobody's to read later."""
    write_files(source, {"rules/notes.txt": "x", "notes.txt": "x"})

    kept = tmp_path / "archive" / adopt(source, tmp_path / "archive").digest

    assert not [path for path in kept.rglob("*") if path.suffix == ".txt"]


def test_a_set_mended_while_it_was_loaded_is_still_refused(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy had mistakes; that the source has none by now does not put the copy in force."""
    rules = source / "rules" / "rules.yaml"
    good = rules.read_text("utf-8")
    rules.write_text("- nonsense\n", "utf-8")
    load = archive_module.load_policy_set

    def load_and_mend(directory: Path, **options: Any) -> PolicySet:
        try:
            return load(directory, **options)
        finally:
            rules.write_text(good, "utf-8")

    monkeypatch.setattr(archive_module, "load_policy_set", load_and_mend)

    with pytest.raises(SourceError):
        adopt(source, tmp_path / "archive")

    assert list((tmp_path / "archive").iterdir()) == []


def test_of_processes_that_keep_one_set_all_have_it(source: Path, tmp_path: Path) -> None:
    """Whoever comes second finds the same content in place, and is content with it."""
    archive = tmp_path / "archive"
    script = (
        "import sys; from pathlib import Path; from policyd.policy.archive import adopt; "
        "print(adopt(Path(sys.argv[1]), Path(sys.argv[2])).digest)"
    )
    command = [sys.executable, "-c", script, str(source), str(archive)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    digests = {process.communicate()[0].strip() for process in running}

    assert [process.returncode for process in running] == [0, 0, 0]
    assert {path.name for path in archive.iterdir()} == digests
    assert len(digests) == 1


@pytest.mark.parametrize("in_the_way", [True, False], ids=["another was faster", "it cannot be put there"])
def test_a_copy_that_cannot_be_put_in_place(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_the_way: bool
) -> None:
    """If the same set is there by then, that one is kept; if not, nothing is put in force."""
    archive = tmp_path / "archive"
    rename = Path.rename

    def lose_the_race(path: Path, target: Path) -> Path:
        if in_the_way:
            shutil.copytree(path, target)
            return rename(path, target)
        raise PermissionError(13, "not permitted")

    monkeypatch.setattr(Path, "rename", lose_the_race)

    if in_the_way:
        assert find(archive, adopt(source, archive).digest)
    else:
        with pytest.raises(ConfigError, match="not permitted"):
            adopt(source, archive)
    assert len(list(archive.iterdir())) == in_the_way


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    """Without a policy set there is nothing to keep."""
    with pytest.raises(SourceError, match=r"policyset\.yaml"):
        adopt(tmp_path / "nowhere", tmp_path / "archive")


def test_an_archive_that_cannot_be_written_is_named(source: Path, tmp_path: Path) -> None:
    """A set that cannot be kept is not put in force."""
    (tmp_path / "archive").write_text("in the way", "utf-8")

    with pytest.raises(ConfigError, match="cannot keep a copy"):
        adopt(source, tmp_path / "archive")


def test_a_kept_set_that_was_changed_is_not_found(source: Path, tmp_path: Path) -> None:
    """What is under a digest has that digest, or says that it has not."""
    archive = tmp_path / "archive"
    digest = adopt(source, archive).digest
    rules = archive / digest / "rules" / "rules.yaml"
    text = rules.read_text("utf-8")

    rules.write_text(text.replace("why: ", "why: Indeed, ", 1), "utf-8")
    with pytest.raises(LedgerCorrupt, match="by now"):
        find(archive, digest)
    rules.write_text("- nonsense\n", "utf-8")
    with pytest.raises(LedgerCorrupt, match="does not load any more"):
        find(archive, digest)
    shutil.rmtree(archive / digest)
    with pytest.raises(LedgerCorrupt, match="is not in"):
        find(archive, digest)


@pytest.mark.parametrize("digest", ["", "..", "ab" * 31, "AB" * 32])
def test_only_a_digest_names_a_set(source: Path, tmp_path: Path, digest: str) -> None:
    """A record that was altered cannot make a replay read some other directory."""
    adopt(source, tmp_path / "archive")

    with pytest.raises(LedgerCorrupt, match="is not in"):
        find(tmp_path / "archive", digest)
