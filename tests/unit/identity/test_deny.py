"""The deny-list: what it may say, and how it is added to without losing anything."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from policyd.clock import parse_instant
from policyd.errors import ConfigError, SourceError
from policyd.identity.deny import (
    EMPTY_LIST,
    Denial,
    DenyList,
    add_denial,
    check_why,
    parse_denied,
    read_deny_list,
)

DOMAIN = "policyd.test"
SERVICE = f"spiffe://{DOMAIN}/data-service/npd-secure"
PRINT = "0123456789abcdef" * 4
TEXT = f"""\
denied:
  - spiffe_id: {SERVICE}
    why: its key was found in a public repository
    at: "2026-11-24T15:00:00Z"
  - {{certificate_sha256: "{PRINT}", why: lost laptop}}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return _write(tmp_path / "deny.yaml", TEXT)


def _write(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    path.chmod(0o644)
    return path


def _read(path: Path) -> DenyList:
    return read_deny_list(path, trust_domain=DOMAIN)


def test_a_caller_is_met_by_id_or_by_certificate(path: Path) -> None:
    """Each denial meets what it names, character by character, and nothing beside it."""
    denied = _read(path)

    assert denied.denials == (
        Denial("its key was found in a public repository", SERVICE, at=parse_instant("2026-11-24T15:00:00Z")),
        Denial("lost laptop", certificate_sha256=PRINT),
    )
    assert denied.find(SERVICE, "f" * 64) == denied.denials[0]
    assert denied.find(f"{SERVICE}-2", PRINT) == denied.denials[1]
    for near in (f"{SERVICE}-2", SERVICE[:-1], SERVICE.upper(), f"{SERVICE}/x"):
        assert denied.find(near, "f" * 64) is None


def test_an_empty_list_denies_nobody(tmp_path: Path) -> None:
    """What `policyd dev` writes, and what is in force where no list is configured."""
    assert _read(_write(tmp_path / "deny.yaml", EMPTY_LIST)) == DenyList()
    assert DenyList().find(SERVICE, PRINT) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("denied:\n", "no value"),
        ("deny: []\n", "unknown key `deny`"),
        ("denied: {}\n", "must be a list"),
        (f"denied: [{SERVICE}]\n", "must be a mapping"),
        (f"denied:\n  - spiffe_id: {SERVICE}\n", "key `why` is missing"),
        (f'denied:\n  - {{spiffe_id: "{SERVICE}", why: ""}}\n', "must not be empty"),
        ("denied:\n  - {why: no reason}\n", "name either"),
        (
            f'denied:\n  - {{spiffe_id: "{SERVICE}", certificate_sha256: "{PRINT}", why: both}}\n',
            "name either",
        ),
        ('denied:\n  - {spiffe_id: "spiffe://policyd.tset/a", why: a slip}\n', "can be no caller's id"),
        ('denied:\n  - {spiffe_id: "spiffe://policyd.test/", why: a slip}\n', "can be no caller's id"),
        ("denied:\n  - {spiffe_id: npd-secure, why: a slip}\n", "can be no caller's id"),
        (f'denied:\n  - {{certificate_sha256: "{PRINT.upper()}", why: x}}\n', "not 64 lower-case hex digits"),
        (f'denied:\n  - {{certificate_sha256: "{PRINT[:-1]}", why: x}}\n', "not 64 lower-case hex digits"),
        (f'denied:\n  - {{spiffe_id: "{SERVICE}", why: x, at: today}}\n', "is not an instant"),
        (TEXT + f"  - {{spiffe_id: {SERVICE}, why: again}}\n", "is denied twice"),
        (TEXT + "denied: []\n", "twice"),
        ("denied: [\n", "deny.yaml:"),
    ],
)
def test_one_mistake_and_none_of_it_is_taken(tmp_path: Path, text: str, message: str) -> None:
    """A slip in a denial would let its caller in; it is named with its place instead."""
    with pytest.raises(SourceError) as caught:
        _read(_write(tmp_path / "deny.yaml", text))

    assert any(message in str(problem) for problem in caught.value.problems), str(caught.value)
    assert all(problem.place.file.endswith("deny.yaml") for problem in caught.value.problems)


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_list_that_others_can_write_is_refused(path: Path, mode: int) -> None:
    """Whoever can write it can let a denied caller in."""
    path.chmod(mode)

    with pytest.raises(ConfigError, match="chmod go-w"):
        _read(path)


def test_a_list_that_is_not_there_says_what_an_empty_one_is(tmp_path: Path) -> None:
    """No file is not an empty list: it may have been moved away with everything in it."""
    with pytest.raises(ConfigError, match=r"cannot read .* an empty one is `denied: \[\]`"):
        _read(tmp_path / "deny.yaml")
    with pytest.raises(ConfigError, match="cannot read"):
        add_denial(tmp_path / "deny.yaml", Denial("x", SERVICE), trust_domain=DOMAIN)


def test_adding_keeps_what_is_there(path: Path) -> None:
    """Others stay with reason and instant, what is denied already is not added, and all may read it."""
    before = _read(path).denials
    new = Denial('said "stop": 1 # no', f"spiffe://{DOMAIN}/data-service/npd-second", at=before[0].at)

    assert add_denial(path, new, trust_domain=DOMAIN)
    assert _read(path).denials == (*before, new)
    assert not add_denial(path, Denial("another reason", SERVICE), trust_domain=DOMAIN)
    assert _read(path).denials == (*before, new)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [each.name for each in path.parent.iterdir()] == ["deny.yaml"]


def test_adding_to_a_list_with_mistakes_changes_nothing(path: Path) -> None:
    """What cannot be read cannot be kept, so it is not written over."""
    text = TEXT.replace("why: lost laptop", "who: lost laptop")
    _write(path, text)

    with pytest.raises(SourceError):
        add_denial(path, Denial("x", f"spiffe://{DOMAIN}/other"), trust_domain=DOMAIN)
    assert path.read_text("utf-8") == text


def test_what_would_not_read_back_is_not_written(path: Path) -> None:
    """A reason that YAML cannot hold as it stands must not break the list."""
    with pytest.raises((SourceError, ConfigError)):
        add_denial(path, Denial("hidden \u200b space", f"spiffe://{DOMAIN}/other"), trust_domain=DOMAIN)
    assert path.read_text("utf-8") == TEXT


def test_a_link_to_the_list_stays_a_link(path: Path, tmp_path: Path) -> None:
    """The list itself is replaced, where the link leads."""
    link = tmp_path / "elsewhere.yaml"
    link.symlink_to(path)

    assert add_denial(link, Denial("x", f"spiffe://{DOMAIN}/other"), trust_domain=DOMAIN)

    assert link.is_symlink()
    assert len(_read(path).denials) == 3


def test_nobody_who_adds_at_the_same_time_is_lost(tmp_path: Path) -> None:
    """Under the lock each addition is made to what the one before left."""
    path = _write(tmp_path / "deny.yaml", EMPTY_LIST)
    start = threading.Barrier(8)

    def add(number: int) -> None:
        start.wait()
        for step in range(5):
            name = f"spiffe://{DOMAIN}/caller-{number}-{step}"
            add_denial(path, Denial("x", name), trust_domain=DOMAIN)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(_read(path).denials) == 40


@pytest.mark.parametrize(
    ("typed", "want"),
    [
        (SERVICE, (SERVICE, "")),
        (PRINT, ("", PRINT)),
        (PRINT.upper(), ("", PRINT)),
        (":".join(PRINT.upper()[at : at + 2] for at in range(0, 64, 2)), ("", PRINT)),
        (f"sha256 Fingerprint={PRINT.upper()}", ("", PRINT)),
    ],
)
def test_a_caller_is_typed_in_any_usual_form(typed: str, want: tuple[str, str]) -> None:
    """A SPIFFE ID as it stands, or a fingerprint as openssl prints it."""
    assert parse_denied(typed, trust_domain=DOMAIN) == want


@pytest.mark.parametrize("typed", ["", "npd-secure", PRINT[:-2], "spiffe://other.test/a", f"{SERVICE}/"])
def test_what_can_meet_no_caller_is_refused(typed: str) -> None:
    """A denial that denies nobody would be believed."""
    with pytest.raises(ValueError):
        parse_denied(typed, trust_domain=DOMAIN)


@pytest.mark.parametrize("why", ["", "  ", "two\nlines", "x" * 301, "a\u202eb"])
def test_a_reason_is_one_visible_line(why: str) -> None:
    """Empty, long or hidden text is no reason."""
    with pytest.raises(ValueError, match="one line"):
        check_why(why)
