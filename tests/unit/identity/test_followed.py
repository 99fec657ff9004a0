"""Files that are replaced under a running process: what is taken, what stays, and what is said."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from policyd import clock
from policyd.errors import ConfigError, Place, Problem, SourceError
from policyd.identity import followed
from policyd.identity.followed import Followed


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return _put(tmp_path / "file", "one")


class Ticking:
    """A clock that a test moves."""

    now_s = 100.0


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> Ticking:
    made = Ticking()
    monkeypatch.setattr(clock, "monotonic", lambda: made.now_s)
    return made


def _put(path: Path, text: str) -> Path:
    """Replace the file as a renewer does: written beside, then renamed."""
    scratch = path.with_name(f"{path.name}.new")
    scratch.write_text(text, "utf-8")
    return scratch.replace(path)


def _follow(path: Path, *, reads: list[str] | None = None) -> Followed[str]:
    def read() -> str:
        try:
            text = path.read_text("utf-8")
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}") from None
        if reads is not None:
            reads.append(text)
        if text == "bad":
            raise SourceError([Problem(Place("file", 1), "bad"), Problem(Place("file", 2), "worse")])
        return text

    return Followed((path,), read, called="the file")


def test_a_file_is_read_when_it_changes_and_not_otherwise(path: Path) -> None:
    """Asking costs a look; a replaced file is read at the next one."""
    reads: list[str] = []
    file = _follow(path, reads=reads)

    assert [file.current for _ in range(3)] == ["one"] * 3
    _put(path, "two")
    assert [file.current for _ in range(3)] == ["two"] * 3
    assert reads == ["one", "two"]


def test_a_file_that_is_not_there_at_first_is_an_error(tmp_path: Path) -> None:
    """There is nothing good to go on with."""
    with pytest.raises(ConfigError, match="cannot read"):
        _follow(tmp_path / "file")


@pytest.mark.parametrize("break_it", [lambda path: _put(path, "bad"), Path.unlink], ids=["bad", "gone"])
def test_the_last_good_content_stays(
    path: Path, break_it: Callable[[Path], object], caplog: pytest.LogCaptureFixture, ticking: Ticking
) -> None:
    """What cannot be used is said once, not at each look, and what was good goes on being current."""
    file = _follow(path)

    with caplog.at_level(logging.ERROR):
        break_it(path)
        for _ in range(100):
            assert file.current == "one"
            ticking.now_s += 0.1

    assert file.problem
    assert [record.message for record in caplog.records] == [
        f"the file cannot be used, the one read before stays in force: {file.problem}"
    ]
    _put(path, "two")
    assert (file.current, file.problem) == ("two", "")


def test_what_is_bad_for_a_moment_is_not_said(
    path: Path, caplog: pytest.LogCaptureFixture, ticking: Ticking
) -> None:
    """A renewal writes one file after the other; each new trouble gets its own time."""
    file = _follow(path)
    with caplog.at_level(logging.ERROR):
        for number in range(3):
            _put(path, "bad")
            assert (file.current, file.problem) == ("one" if not number else "good", "")
            ticking.now_s += followed.PATIENCE_S - 0.01
            assert file.current
            assert file.problem == ""
            _put(path, "good")
            assert (file.current, file.problem) == ("good", "")

    assert caplog.records == []


def test_all_mistakes_are_said_in_one_line(path: Path, ticking: Ticking) -> None:
    """A log has one line an event."""
    file = _follow(path)
    _put(path, "bad")

    assert file.current == "one"
    ticking.now_s += followed.PATIENCE_S
    assert file.current == "one"
    assert file.problem == "file:1:1: bad; file:2:1: worse"


def test_a_file_is_read_again_when_only_its_mode_changed(path: Path) -> None:
    """Who may read a key is part of whether it is good."""
    reads: list[str] = []
    file = _follow(path, reads=reads)

    path.chmod(0o600)

    assert file.current == "one"
    assert reads == ["one", "one"]


def test_a_link_that_leads_elsewhere_is_a_change(path: Path, tmp_path: Path) -> None:
    """Volumes of Kubernetes change by one link above the file."""
    for name, text in (("a", "first"), ("b", "second")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(text, "utf-8")
    (tmp_path / "now").symlink_to("a")
    file = _follow(tmp_path / "now" / "file")
    assert file.current == "first"

    (tmp_path / "next").symlink_to("b")
    (tmp_path / "next").replace(tmp_path / "now")

    assert file.current == "second"


def test_what_could_not_be_used_is_tried_again_by_itself(path: Path, ticking: Ticking) -> None:
    """A certificate that begins later becomes good without being touched; not at each look."""
    ready = False
    tries = 0

    def read() -> str:
        nonlocal tries
        tries += 1
        text = path.read_text("utf-8")
        if text == "later" and not ready:
            raise ConfigError("not valid yet")
        return text

    file = Followed((path,), read, called="the file")
    _put(path, "later")
    assert [file.current for _ in range(5)] == ["one"] * 5
    assert tries == 2
    ready = True
    assert file.current == "one"
    ticking.now_s += followed.RETRY_S
    assert (file.current, file.problem, tries) == ("later", "", 3)


def test_who_asks_after_a_change_gets_the_change(path: Path) -> None:
    """With many threads asking, none that asks after the file was replaced gets what was before."""
    file = _follow(path)
    stop, wrong = threading.Event(), []
    written = 0

    def ask() -> None:
        while not stop.is_set():
            at_least = written
            have = file.current
            if (0 if have == "one" else int(have)) < at_least:
                wrong.append((have, at_least))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(1, 60):
        _put(path, str(number))
        written = number
        os.sched_yield()
    stop.set()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert file.current == "59"
