"""YAML is read strictly: a file means what it shows, and every mistake has its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from policyd.errors import Place, SourceError
from policyd.policy import source
from policyd.policy.source import Node, read_text, read_yaml

VECTORS = yaml.safe_load((Path(__file__).parents[2] / "vectors/yaml/strict.yaml").read_text("utf-8"))


def plain(node: Node) -> Any:
    if isinstance(node.value, dict):
        return {key: plain(value) for key, value in node.value.items()}
    if isinstance(node.value, tuple):
        return [plain(value) for value in node.value]
    return node.value


def problems(text: str) -> list[tuple[str, str]]:
    with pytest.raises(SourceError) as caught:
        read_text(text, "f.yaml")
    return [(f"{p.place.line}:{p.place.column}", p.message) for p in caught.value.problems]


@pytest.mark.parametrize("parser", ["CSafeLoader", "SafeLoader"])
@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: case["name"])
def test_what_readers_disagree_on_is_refused_in_its_place(
    case: dict[str, Any], parser: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each text gives exactly the problems that the table states, from either of PyYAML's parsers."""
    monkeypatch.setattr(source, "_PARSER", getattr(yaml, parser))
    have = problems(case["text"])

    assert len(have) == len(case["want"]), have
    for (place, message), (want_place, fragment) in zip(have, case["want"], strict=True):
        assert fragment in message
        if parser == "CSafeLoader" or "well-formed" not in fragment:  # the parsers mark syntax apart
            assert place == want_place


@pytest.mark.parametrize("case", VECTORS["accepted"], ids=lambda case: case["name"])
def test_what_every_reader_agrees_on_is_accepted(case: dict[str, Any]) -> None:
    """Each text has the value and the types that the table states."""
    have = plain(read_text(case["text"], "f.yaml"))

    assert have == case["value"]
    assert repr(have) == repr(case["value"])  # 1 is not True


def test_every_value_and_key_knows_its_place() -> None:
    """Nodes carry file, line and column; mappings the places of their keys."""
    node = read_text("a: 1\nb:\n  - {c: x}\n", "rules/x.yaml")
    assert isinstance(node.value, dict)
    entries = node.value["b"].value
    assert isinstance(entries, tuple)

    assert node.key_places == {"a": Place("rules/x.yaml", 1, 1), "b": Place("rules/x.yaml", 2, 1)}
    assert node.value["a"].place == Place("rules/x.yaml", 1, 4)
    assert entries[0].key_places["c"] == Place("rules/x.yaml", 3, 6)


@pytest.mark.parametrize("word", ["yes", "~", "012", "1.5", "<<", "12:30", "0x1F", "1_0", "+5"])
def test_the_safe_spelling_in_a_message_is_accepted(word: str) -> None:
    """What the message proposes for text really is text."""
    message = problems(f"a: {word}\n")[0][1]
    safe = f'"{word}"'

    assert safe in message or word == "<<"
    assert plain(read_text(f"a: {safe}\n", "f.yaml")) == {"a": word}


def test_a_file_is_called_by_the_name_given(tmp_path: Path) -> None:
    """Messages name the file as the caller does, not by where it lies."""
    path = tmp_path / "x.yaml"
    path.write_text("a: yes\n", "utf-8")

    with pytest.raises(SourceError, match=r"^rules/x\.yaml:1:4: "):
        read_yaml(path, name="rules/x.yaml")


def test_bytes_that_are_not_utf8_are_refused_in_their_place(tmp_path: Path) -> None:
    """Line and column count characters before the first wrong byte."""
    path = tmp_path / "x.yaml"
    path.write_bytes("é: x\nü: ".encode() + b"\xff\n")

    with pytest.raises(SourceError, match=r"x\.yaml:2:4: byte 0xff is not UTF-8"):
        read_yaml(path)


def test_utf16_is_refused(tmp_path: Path) -> None:
    """No other encoding is guessed."""
    path = tmp_path / "x.yaml"
    path.write_bytes("a: 1\n".encode("utf-16"))

    with pytest.raises(SourceError, match="not UTF-8"):
        read_yaml(path)


def test_a_file_that_is_not_there_is_a_problem_not_a_crash(tmp_path: Path) -> None:
    """The message names the file and the system's reason."""
    with pytest.raises(SourceError, match=r"gone\.yaml:1:1: cannot be read: No such file"):
        read_yaml(tmp_path / "gone.yaml")


def test_a_file_over_the_size_limit_is_not_parsed(tmp_path: Path) -> None:
    """One byte more than 4 MiB is refused; the limit itself is read."""
    path = tmp_path / "x.yaml"
    path.write_bytes(b"a: 1\n" + b"#" * (source.MAX_BYTES - 5))
    assert plain(read_yaml(path)) == {"a": 1}
    path.write_bytes(b"a: 1\n" + b"#" * (source.MAX_BYTES - 4))

    with pytest.raises(SourceError, match="over 4194304 bytes"):
        read_yaml(path)


def test_a_file_with_too_many_values_is_refused() -> None:
    """The 200,001st value stops the reading."""
    with pytest.raises(SourceError, match="more than 200000 values"):
        read_text("[" + "0," * source.MAX_NODES + "]", "f.yaml")


def test_forbidden_characters_are_reported_up_to_a_limit_in_linear_time() -> None:
    """A megabyte of tabs gives a hundred problems, not a million."""
    assert len(problems("a: 1\n" + "#\t\n" * 350_000)) == source.MAX_HIDDEN


@pytest.mark.parametrize("text", ["a: &a [*a]\n", "{" * 40_000, "- " * 40_000, "? " * 40_000])
def test_bombs_are_refused(text: str) -> None:
    """Self-reference and deep nesting end in a problem."""
    assert problems(text)


def test_a_text_over_the_size_limit_is_not_parsed() -> None:
    """The limit counts bytes of UTF-8 and not characters."""
    text = "a: 1\n#" + "é" * (source.MAX_BYTES // 2 - 3)
    assert plain(read_text(text, "f.yaml")) == {"a": 1}

    assert problems(text + "é") == [("1:1", "is over 4194304 bytes; split it")]


def test_an_error_of_the_parser_without_a_place_is_a_problem_of_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the parser gives up with, the file is refused and the words are kept, on one line."""

    class GivesUp(yaml.SafeLoader):
        def get_event(self) -> yaml.Event:
            raise yaml.YAMLError("out\nof memory")

    monkeypatch.setattr(source, "_PARSER", GivesUp)

    assert problems("a: 1\n") == [("1:1", "is not well-formed YAML: out of memory")]


def test_a_parser_that_skips_a_value_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a value must come and an end comes, reading stops: nothing is made up for it."""

    class Skips(yaml.SafeLoader):
        def get_event(self) -> yaml.Event:
            event = super().get_event()
            return super().get_event() if isinstance(event, yaml.ScalarEvent) else event

    monkeypatch.setattr(source, "_PARSER", Skips)

    assert problems("1\n") == [("2:1", "is not well-formed YAML: a value was expected")]
