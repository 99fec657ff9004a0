"""Each bench owns one section of a page, and the benches of the ledger run, small, as they stand."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def benches() -> Iterator[None]:
    """Let the benches, which stand outside the installed packages, be imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "bench"))
        yield


@pytest.fixture
def page(benches: None) -> ModuleType:
    """The module that writes sections."""
    return importlib.import_module("peers.page")


def test_a_bench_replaces_its_own_section_alone(page: ModuleType, tmp_path: Path) -> None:
    """Running one bench again leaves what the others found."""
    path = tmp_path / "page.md"
    page.put_section(path, "one", "first")
    page.put_section(path, "two", "second")
    page.put_section(path, "one", "third")
    text = path.read_text(encoding="utf-8")
    assert text.startswith(page.HEAD)
    assert "first" not in text
    assert text.index("third") < text.index("second")
    page.put_section(path, "one", "third")
    assert path.read_text(encoding="utf-8") == text


def test_a_section_without_an_end_is_not_overwritten(page: ModuleType, tmp_path: Path) -> None:
    """Where a section ends is not guessed: what follows it may be another's."""
    path = tmp_path / "page.md"
    path.write_text("<!-- begin one -->\nmine, and\n<!-- begin two -->\ntheirs\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="end one"):
        page.put_section(path, "one", "new")


def test_the_bench_of_the_ledger_runs(
    benches: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It measures a small log from end to end, and says of every target whether it is met."""
    path = tmp_path / "page.md"
    importlib.import_module("ledger").main(
        ["--rounds=1", "--seconds=0.1", "--records=600", f"--directory={tmp_path}", f"--out={path}"]
    )
    text = path.read_text(encoding="utf-8")
    assert text.count("| yes |") + text.count("| **no** |") == 7
    assert "<!-- begin bench/ledger.py -->" in text
    assert "There, an inclusion proof" in capsys.readouterr().out


def test_the_bench_of_the_witness_runs(
    benches: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It compares appends with and without a witness, for every number of callers."""
    importlib.import_module("witness").main(["--rounds=1", "--seconds=0.1", f"--directory={tmp_path}"])
    assert capsys.readouterr().out.count("of the rate") == 3


def test_the_bench_of_a_national_registry_runs(
    benches: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It starts two nodes, asks, changes and watches, and says of every target whether it is met."""
    path = tmp_path / "page.md"
    importlib.import_module("scale").main(
        ["--divide=1000", "--changes=2", "--runs=1", f"--directory={tmp_path}", f"--out={path}"]
    )
    text = path.read_text(encoding="utf-8")
    assert text.count(": met.") + text.count(": MISSED.") == 4
    assert "<!-- begin bench/scale.py -->" in text
    assert "| seals | 1,000 | 1,000 |" in text
    assert "made 1,214 entries in 8 changes" in capsys.readouterr().out


def test_the_bench_of_seals_runs(benches: None, tmp_path: Path) -> None:
    """Two nodes on a file and two on a Redis hear of every seal and have it in force."""
    path = tmp_path / "page.md"
    importlib.import_module("seals").main(
        ["--seals=2", "--nodes=2", f"--directory={tmp_path}", f"--out={path}"]
    )
    text = path.read_text(encoding="utf-8")

    assert "<!-- begin bench/seals.py -->" in text
    assert [
        text.count(f"| {state} | {what} |")
        for state in ("a file of one host", "Redis")
        for what in ("heard of", "in force")
    ] == [1, 1, 1, 1]
