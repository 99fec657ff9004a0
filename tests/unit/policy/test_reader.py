"""Typed reading collects every mistake and goes on with harmless defaults."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from policyd.clock import parse_instant
from policyd.errors import SourceError
from policyd.model import Status
from policyd.policy.reader import FIELD_ID, ID, Reader, nearest
from policyd.policy.source import Node, read_text

Read = Callable[[Reader, Node], Any]


def read(text: str, how: Read) -> tuple[Any, list[str]]:
    """Return what ``how`` reads from the key `v`, and the problems as text."""
    reader = Reader()
    node = read_text(f"v: {text}\n", "f.yaml")
    assert isinstance(node.value, dict)
    value = how(reader, node.value["v"])
    return value, [str(problem) for problem in reader.problems]


GOOD: list[tuple[str, Read, Any]] = [
    ("some text", lambda r, n: r.text(n), "some text"),
    ("'12'", lambda r, n: r.text(n), "12"),
    ("12", lambda r, n: r.integer(n, minimum=12, maximum=12), 12),
    ("true", lambda r, n: r.boolean(n), True),
    ("2026-02-05", lambda r, n: r.instant(n), parse_instant("2026-02-05")),
    ("suspended", lambda r, n: r.one_of(n, Status), Status.SUSPENDED),
    ("npd-secure", lambda r, n: r.ident(n, ID), "npd-secure"),
    ("[a, b]", lambda r, n: r.texts(n), ("a", "b")),
    ("[2018, 2019]", lambda r, n: r.integers(n, minimum=1900), (2018, 2019)),
    ("[KS4.ATT8]", lambda r, n: r.idents(n, FIELD_ID), ("KS4.ATT8",)),
    ("{a: 1}", lambda r, n: {k: v.value for k, v in r.table(n).items()}, {"a": 1}),
]

BAD: list[tuple[str, Read, Any, str]] = [
    ("12", lambda r, n: r.text(n), "", 'must be text, not the integer 12 (write "12" for text)'),
    ("true", lambda r, n: r.text(n), "", 'must be text, not true (write "true" for text)'),
    ("null", lambda r, n: r.text(n, default="d"), "d", "must be text, not null"),
    ("' '", lambda r, n: r.text(n), "", "must not be empty"),
    ("[a]", lambda r, n: r.text(n), "", "must be text, not a list"),
    ("'12'", lambda r, n: r.integer(n, default=3), 3, "must be an integer, not the text `12`"),
    ("true", lambda r, n: r.integer(n), 0, "must be an integer, not true"),
    ("0", lambda r, n: r.integer(n, minimum=1, default=1), 1, "must be at least 1, not 0"),
    ("9", lambda r, n: r.integer(n, minimum=1, maximum=5), 0, "must be from 1 to 5, not 9"),
    ("9", lambda r, n: r.integer(n, maximum=5), 0, "must be at most 5, not 9"),
    ("1", lambda r, n: r.boolean(n), False, "must be true or false, not the integer 1"),
    ("2026-02-30", lambda r, n: r.instant(n), 0, "`2026-02-30` is not a date"),
    ("tomorrow", lambda r, n: r.instant(n), 0, "`tomorrow` is not an instant; write 2026-02-05"),
    ("activ", lambda r, n: r.one_of(n, Status), Status.ACTIVE, "`activ`; did you mean `active`?"),
    ("zzz", lambda r, n: r.one_of(n, ["a", "b"]), "a", "`zzz`; expected one of `a`, `b`"),
    ("NPD", lambda r, n: r.ident(n, ID), "", "`NPD` is not an id of the form [a-z0-9]"),
    ("Α.b", lambda r, n: r.ident(n, FIELD_ID), "", "is not an id"),  # noqa: RUF001  (a Greek letter)
    ("SC_Pupil.*", lambda r, n: r.ident(n, FIELD_ID), "", "`SC_Pupil.*` is not an id"),
    ("a", lambda r, n: r.texts(n), (), "must be a list, not the text `a`"),
    ("[a, 1, b]", lambda r, n: r.texts(n), ("a", "b"), "f.yaml:1:8: must be text"),
    ("[a, b, a]", lambda r, n: r.texts(n), ("a", "b"), "f.yaml:1:11: `a` is listed twice"),
    ("[1]", lambda r, n: r.table(n), {}, "must be a mapping, not a list"),
    (
        "{naem: x}",
        lambda r, n: r.mapping(n, optional={"name"}),
        {},
        "f.yaml:1:5: unknown key `naem`; did you mean",
    ),
]


@pytest.mark.parametrize(
    ("text", "how", "want"), GOOD, ids=lambda case: case if isinstance(case, str) else ""
)
def test_a_value_of_the_right_kind_is_read(text: str, how: Read, want: Any) -> None:
    """The value comes back typed and nothing is on record."""
    have, problems = read(text, how)

    assert have == want
    assert type(have) is type(want)
    assert problems == []


@pytest.mark.parametrize(
    ("text", "how", "default", "message"), BAD, ids=lambda case: case if isinstance(case, str) else ""
)
def test_a_value_of_the_wrong_kind_gives_the_default_and_one_problem(
    text: str, how: Read, default: Any, message: str
) -> None:
    """The problem says what is wrong and where; reading goes on."""
    have, problems = read(text, how)

    assert have == default
    assert len(problems) == 1
    assert message in problems[0]


def test_missing_keys_are_named_once_and_read_as_defaults() -> None:
    """A required key that is missing is one problem, however often its value is then read."""
    reader = Reader()
    fields = reader.mapping(read_text("a: 1\n", "f.yaml"), required={"a", "id", "until"}, optional={"note"})

    assert (reader.text(fields["id"]), reader.ident(fields["id"], ID), reader.instant(fields["until"])) == (
        "",
        "",
        0,
    )
    assert reader.entries(fields["until"]) == ()
    assert reader.mapping(fields["id"], required={"deeper"})["deeper"].value is fields["id"].value
    assert [str(p) for p in reader.problems] == [
        "f.yaml:1:1: key `id` is missing",
        "f.yaml:1:1: key `until` is missing",
    ]


def test_an_optional_key_that_is_not_there_gives_the_default() -> None:
    """None in place of a node is no mistake."""
    reader = Reader()

    assert reader.text(None, default="x") == "x"
    assert reader.boolean(None, default=True) is True
    assert reader.one_of(None, Status, default=Status.SUSPENDED) is Status.SUSPENDED
    assert reader.texts(None) == ()
    assert reader.mapping(None, optional={"a"}) == {}
    reader.finish()


def test_finish_raises_all_problems_of_all_files(tmp_path: Path) -> None:
    """Problems of files that do not read and of values that do not fit come together, sorted."""
    (tmp_path / "b.yaml").write_text("a: yes\n", "utf-8")
    reader = Reader()
    assert reader.mapping(reader.file(tmp_path / "b.yaml", name="b.yaml"), required={"a"})
    reader.text(read_text("1\n", "a.yaml"))

    with pytest.raises(SourceError) as caught:
        reader.finish()

    assert [str(p).split(": ")[0] for p in caught.value.problems] == ["a.yaml:1:1", "b.yaml:1:4"]


def test_a_hint_proposes_the_nearest_word_or_all_or_nothing() -> None:
    """Near words are proposed in their own spelling, else twelve at most are listed, else nothing is said."""
    assert nearest("reserch", ["Research", "other"]) == "; did you mean `Research`?"
    assert nearest("x", ["b", "a"]) == "; expected one of `a`, `b`"
    assert nearest("x", [f"word-{n:02}" for n in range(13)]).endswith("`word-11` ...")
    assert nearest("x", []) == ""
