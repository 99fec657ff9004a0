"""A policy set loads whole or not at all, with every mistake and its place (tests/vectors/policy_errors)."""

from __future__ import annotations

import gc
import itertools
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from py_abac import Policy
from support.tiny_policy import Files, load_files, load_tiny, tiny_files, write_files
from support.tiny_registry import EVERYTHING, NOW, agreement, ask, snapshot, spell

from policyd.decision.decide import decide
from policyd.errors import SourceError
from policyd.model import Action
from policyd.policy import rules as rules_module
from policyd.policy.load import load_policy_set

_VECTORS = Path(__file__).parents[2] / "vectors" / "policy_errors"
_FAULTS = yaml.load((_VECTORS / "faults.yaml").read_text(encoding="utf-8"), yaml.BaseLoader)  # noqa: S506  (every value is text)
_PATHS = yaml.safe_load((_VECTORS / "paths.yaml").read_text(encoding="utf-8"))


def planted(fault: dict[str, Any], files: Files | None = None) -> Files:
    files = tiny_files() if files is None else files
    text = files[fault["file"]]
    if fault["find"]:
        assert text.count(fault["find"]) == 1, f"`{fault['find']}` must stand once in {fault['file']}"
        files[fault["file"]] = text.replace(fault["find"], fault["put"])
    else:
        files[fault["file"]] = text + fault["put"]
    return planted({"file": fault["file"], **fault["also"]}, files) if "also" in fault else files


def place_of(fault: dict[str, Any], text: str) -> str:
    start = text.index(fault["at"], text.index(fault.get("after", ""))) + int(fault.get("shift", "0"))
    line_start = text.rfind("\n", 0, start) + 1
    return f"{text.count(chr(10), 0, start) + 1}:{start - line_start + 1}"


def problems(directory: Path, files: Files) -> list[str]:
    with pytest.raises(SourceError) as caught:
        load_files(directory, files)
    return [str(each).removeprefix(f"{directory}/") for each in caught.value.problems]


@pytest.mark.parametrize("fault", _FAULTS, ids=lambda fault: f"{fault['file']}: {fault['why']}")
def test_a_planted_fault_is_reported_at_its_place(fault: dict[str, Any], tmp_path: Path) -> None:
    """Each mistake is named in words, with file, line and column, and nothing loads."""
    files = planted(fault)

    found = problems(tmp_path, files)

    where = fault.get("in", fault["file"])
    start = f"{where}:{place_of(fault, files[where])}: "
    assert any(line.startswith(start) and fault["says"] in line for line in found), found


def test_several_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    """One load names the mistakes of every file that can be read, sorted by place, each once."""
    chosen = ["no floor", "a risk of six", "a misspelt status", "version zero", "an unknown source"]
    files = tiny_files()
    for fault in _FAULTS:
        if fault["why"] in chosen:
            planted(fault, files)

    found = problems(tmp_path, files)

    for fault in _FAULTS:
        if fault["why"] in chosen:
            assert any(fault["says"] in line for line in found), (fault["why"], found)
    assert len(found) == len(set(found))


@pytest.mark.parametrize("path", _PATHS, ids=ascii)
def test_an_evil_path_is_refused_before_py_abac_sees_it(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but `$.name(.name)*` of the closed list reaches py-abac, whose validator executes paths."""
    seen: list[str] = []

    class Watched:
        @staticmethod
        def load(document: dict[str, Any]) -> Policy:
            seen.extend(key for part in document["rules"].values() for key in part)
            return Policy.from_json(document)

    monkeypatch.setattr(rules_module, "_SCHEMA", Watched)
    files = tiny_files()
    quoted = yaml.safe_dump(path, default_style='"').strip()
    files["rules/evil.yaml"] = (
        "- uid: z-evil\n  why: Evil.\n  effect: deny\n  rules:\n"
        f"    context: {{{quoted}: {{condition: Equals, value: a}}}}\n"
    )

    found = problems(tmp_path, files)

    assert any(line.startswith("rules/evil.yaml:5:15: ") for line in found), found
    assert seen
    assert path not in seen


@pytest.mark.parametrize("name", sorted(tiny_files()))
def test_every_file_is_needed(name: str, tmp_path: Path) -> None:
    """Without one of its files nothing loads, but for the defaults of the catalogue."""
    files = tiny_files()
    del files[name]

    if name == "catalogue/defaults.yaml":
        assert load_files(tmp_path, files).digest != load_tiny(tmp_path / "other").digest
    elif name.startswith("catalogue/"):
        assert problems(tmp_path, files)  # rules aim at fields of both tables
    else:
        found = problems(tmp_path, files)
        folder = name.split("/", maxsplit=1)[0] if "/" in name else name
        assert any(line.startswith(folder) for line in found), found


def test_a_folder_that_is_no_policy_set_says_so(tmp_path: Path) -> None:
    """An empty directory, and one that does not exist, name every file that is missing."""
    for directory in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(SourceError) as caught:
            load_policy_set(directory)
        text = str(caught.value)
        assert "policyset.yaml" in text
        assert "purposes.yaml" in text
        assert "holds no .yaml file" in text


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "null\n", "[]\n", "{}\n", "text\n", "root: any\npurposes: {}\n"]
)
@pytest.mark.parametrize("name", sorted(tiny_files()))
def test_a_hollow_file_is_a_mistake_and_never_a_crash(name: str, text: str, tmp_path: Path) -> None:
    """Whatever valid or invalid YAML stands in for a file, the answer is a list of mistakes or a set."""
    files = {**tiny_files(), name: text}

    if text in ("[]\n", "{}\n") and (name, text) in (
        ("rules/rules.yaml", "[]\n"),
        ("catalogue/defaults.yaml", "{}\n"),
    ):
        assert load_files(tmp_path, files)
    else:
        assert problems(tmp_path, files)


@pytest.mark.parametrize(
    "name", ["rules/deny.yml", "rules/deny.YAML", "rules/more/deny.yaml", "catalogue/x.yml"]
)
def test_a_file_that_looks_read_but_is_not_is_a_mistake(name: str, tmp_path: Path) -> None:
    """A deny rule in a `.yml` file or in a folder below would be lost without a word; so it is refused."""
    found = problems(tmp_path, {**tiny_files(), name: "[]\n"})

    assert any("is not read" in line for line in found), found


def test_notes_beside_the_rules_are_left_alone(tmp_path: Path) -> None:
    """Files that nobody takes for YAML change nothing."""
    plain = load_tiny(tmp_path / "plain")

    noted = load_files(
        tmp_path / "noted", {**tiny_files(), "rules/README.md": "Notes.\n", "tests/t.yaml": "x\n"}
    )

    assert noted.digest == plain.digest


def _shuffled(text: str, rng: random.Random) -> str:
    """Return a list file with its entries in another order, rewritten in another style."""
    entries = yaml.safe_load(text)
    rng.shuffle(entries)
    return yaml.safe_dump(entries, sort_keys=rng.random() < 0.5, default_flow_style=rng.random() < 0.5)


def _decisions(directory: Path, files: Files) -> tuple[str, list[tuple[object, ...]]]:
    policy = load_files(directory, files)
    told = []
    for purpose, action, setting in itertools.product(
        ("academic", "statistics", "industry"), (Action.RELEASE, Action.MATCH), ("secure", "open")
    ):
        seen = snapshot(policy, agreement(purposes=frozenset({"any"}), setting=setting))
        decision = decide(seen, ask(*sorted(EVERYTHING), purposes=(purpose,), action=action), NOW)
        rules = {name: group.rule for group in decision.groups for name in group.names}
        told.append((decision.outcome, spell(decision), rules, decision.obligations))
    return policy.digest, told


def test_the_order_of_rules_and_files_changes_neither_digest_nor_decisions(tmp_path: Path) -> None:
    """Rules shuffled, rewritten and spread over other files are the same policy set."""
    seed = 20261124
    print(f"seed {seed}")
    rng = random.Random(seed)  # noqa: S311  (cases, not secrets)
    digest, told = _decisions(tmp_path / "base", tiny_files())
    for turn in range(4):
        files = tiny_files()
        entries = yaml.safe_load(files.pop("rules/rules.yaml"))
        rng.shuffle(entries)
        cut = rng.randint(1, len(entries) - 1)
        files[f"rules/{turn}-b.yaml"] = yaml.safe_dump(entries[:cut], default_flow_style=bool(turn % 2))
        files[f"rules/{turn}-a.yaml"] = yaml.safe_dump(entries[cut:], sort_keys=False)
        files["attributes.yaml"] = _shuffled(files["attributes.yaml"], rng)
        files["catalogue/0.yaml"] = files.pop("catalogue/School.yaml")

        assert _decisions(tmp_path / str(turn), files) == (digest, told)


def test_the_order_of_fields_changes_no_decision(tmp_path: Path) -> None:
    """Fields written in another order have the same positions and verdicts."""
    files = tiny_files()
    table = yaml.safe_load(files["catalogue/Pupil.yaml"])
    table["fields"].reverse()
    files["catalogue/Pupil.yaml"] = yaml.safe_dump(table)

    assert _decisions(tmp_path / "b", files)[1] == _decisions(tmp_path / "a", tiny_files())[1]


_EDITS: list[tuple[str, str, str]] = [
    ("purposes.yaml", "requestable: false", "requestable: true"),
    ("purposes.yaml", "label: Research,", "label: Other research,"),
    ("purposes.yaml", "parents: [research, commercial]", "parents: [commercial, research]"),
    ("attributes.yaml", "about: Of tests.\n- name: now", "about: Of more tests.\n- name: now"),
    ("gateways.yaml", "floor: 10", "floor: 11"),
    ("gateways.yaml", "2026-06-01", "2026-06-02"),
    ("gateways.yaml", "      - {check: accredited_project}\n", ""),
    ("catalogue/defaults.yaml", "[1, 2]", "[1]"),
    ("catalogue/Pupil.yaml", "label: Free meals", "label: Meals"),
    ("catalogue/Pupil.yaml", "by_request: false", "by_request: true"),
    ("catalogue/Pupil.yaml", "sensitivity: [C]", "sensitivity: [C, E]"),
    ("catalogue/Pupil.yaml", "withdrawn: Withdrawn for tests.", "withdrawn: Withdrawn."),
    ("catalogue/School.yaml", "min_cell_count: 20", "min_cell_count: 21"),
    ("rules/rules.yaml", "why: Names leave", "why: No names leave"),
    ("rules/rules.yaml", "value: vault", "value: cellar"),
    ("rules/rules.yaml", "{width: 5}", "{width: 6}"),
    ("rules/rules.yaml", "retention_days: 365", "retention_days: 366"),
    ("rules/rules.yaml", "uid: d40-", "uid: d41-"),
    ("rules/rules.yaml", "[match, ver*]", "[match]"),
]


def test_every_edit_of_content_changes_the_digest(tmp_path: Path) -> None:
    """No two of these policy sets, each one edit away from the first, share a digest."""
    digests = [load_tiny(tmp_path / "base").digest]
    for number, (name, find, put) in enumerate(_EDITS):
        files = planted({"file": name, "find": find, "put": put})
        digests.append(load_files(tmp_path / str(number), files).digest)

    assert len(set(digests)) == len(_EDITS) + 1
    assert all(len(digest) == 64 for digest in digests)


@pytest.mark.parametrize(
    ("name", "find", "put"),
    [
        ("policyset.yaml", "name: tiny", "name: large"),
        ("policyset.yaml", "version: 3", "version: 4"),
        ("policyset.yaml", "2025-01-01", "2026-01-01"),
        ("rules/rules.yaml", "# never there", ""),
        (
            "rules/rules.yaml",
            "  rules: {}\n  grant: {generalise",
            "  # a comment\n  rules: {}\n  grant: {generalise",
        ),
    ],
)
def test_names_numbers_dates_and_layout_leave_the_digest_alone(
    name: str, find: str, put: str, tmp_path: Path
) -> None:
    """The content digest is of what decides; the envelope signs the rest."""
    files = tiny_files()
    files[name] = files[name].replace(find, put)

    assert load_files(tmp_path / "b", files).digest == load_tiny(tmp_path / "a").digest


def _rule(uid: str, grant: str, rules: str) -> str:
    return f"- uid: {uid}\n  why: {uid}\n  effect: allow\n  rules: {rules}\n  grant: {grant}\n"


_ON_FSM = "resource: {$.field: {condition: Equals, value: Pupil.Fsm}}"
_BAND, _ROUND = "{band: {width: 5}}", "{round: {to: 5}}"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (
            "{resource: {$.field: {condition: Equals, value: Pupil.Fsm}}}",
            "{resource: {$.field: {condition: Equals, value: School.Size}}}",
        ),
        (
            f"{{{_ON_FSM}, context: {{$.setting: {{condition: Equals, value: a}}}}}}",
            f"{{{_ON_FSM}, context: {{$.setting: {{condition: Equals, value: b}}}}}}",
        ),
        (
            f"{{{_ON_FSM}, context: {{$.purpose: {{condition: IsIn, values: [academic, industry]}}}}}}",
            f"{{{_ON_FSM}, context: {{$.purpose: {{condition: Equals, value: statistics}}}}}}",
        ),
        (
            f"{{{_ON_FSM}, subject: {{$.organisation.commercial: {{condition: IsIn, values: [true]}}}}}}",
            f"{{{_ON_FSM}, subject: {{$.organisation.commercial: {{condition: IsIn, values: [false]}}}}}}",
        ),
    ],
)
def test_rules_that_never_meet_may_differ(first: str, second: str, tmp_path: Path) -> None:
    """Transforms that cannot be combined are fine on different fields, purposes or settings."""
    assert load_tiny(tmp_path, rules=_rule("x1", _BAND, first) + _rule("x2", _ROUND, second))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (f"{{{_ON_FSM}}}", f"{{{_ON_FSM}}}"),
        (f"{{{_ON_FSM}}}", "{resource: {$.sensitivity: {condition: AnyIn, values: [C]}}}"),
        (
            f"{{{_ON_FSM}, context: {{$.setting: {{condition: Equals, value: a}}}}}}",
            f"{{{_ON_FSM}, context: {{$.setting: {{condition: IsIn, values: [a, b]}}}}}}",
        ),
        (
            f"{{{_ON_FSM}, context: {{$.setting: {{condition: Equals, value: a}}}}}}",
            f"{{{_ON_FSM}, context: {{$.purpose: {{condition: Equals, value: academic}}}}}}",
        ),
        (
            f"{{{_ON_FSM}, context: {{$.setting: {{condition: Equals, value: a}}}}}}",
            f"{{{_ON_FSM}, context: [{{$.setting: {{condition: Equals, value: b}}}}, "
            "{$.purpose: {condition: Equals, value: academic}}]}",
        ),
        (
            f"{{{_ON_FSM}, context: {{$.setting: {{condition: Equals, value: a}}}}}}",
            f"{{{_ON_FSM}, context: {{$.setting: {{condition: NotEquals, value: a}}}}}}",
        ),
        (
            f"{{{_ON_FSM}, subject: {{$.roles: {{condition: AnyIn, values: [a]}}}}}}",
            f"{{{_ON_FSM}, subject: {{$.roles: {{condition: AnyIn, values: [b]}}}}}}",
        ),
        (
            "{resource: {$.by_request: {condition: IsIn, values: [true]}}}",
            "{resource: {$.field: {condition: Equals, value: Pupil.Score}}}",
        ),
        (
            "{resource: {$.field: {condition: Equals, value: Pupil.Score}}}",
            "{resource: {$.by_request: {condition: IsIn, values: [true]}}}",
        ),
        (  # never both true, but both in error where it is unknown
            "{resource: {$.by_request: {condition: IsIn, values: [true]}}}",
            "{resource: {$.by_request: {condition: IsIn, values: [false]}}}",
        ),
    ],
)
def test_rules_that_may_meet_must_agree(first: str, second: str, tmp_path: Path) -> None:
    """Two allow rules that a question could bring together, true or in error, need a common transform."""
    with pytest.raises(SourceError) as caught:
        load_tiny(tmp_path, rules=_rule("x1", _BAND, first) + _rule("x2", _ROUND, second))

    assert "rule `x2` grants `round:5` and rule `x1` `band:5`" in str(caught.value)


def test_a_loaded_set_says_what_it_is(tmp_path: Path) -> None:
    """Name, version and date come from policyset.yaml; rules are in order of uid."""
    policy = load_tiny(tmp_path)

    assert (policy.name, policy.version, policy.description) == ("tiny", 3, "A policy set for tests.")
    assert [rule.uid for rule in policy.rules] == sorted(rule.uid for rule in policy.rules)
    assert tuple(field.id for field in policy.fields) == policy.index.ids


def _without_line(text: str, rng: random.Random) -> str:
    lines = text.splitlines(keepends=True)
    del lines[rng.randrange(len(lines))]
    return "".join(lines)


def _with_line_twice(text: str, rng: random.Random) -> str:
    lines = text.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    return "".join([*lines[: at + 1], *lines[at:]])


def _with_other_character(text: str, rng: random.Random) -> str:
    at = rng.randrange(len(text))
    return text[:at] + rng.choice("{}[]:,-#&*!|>'\"%@` \n0a\u00e9\u202e$.") + text[at + 1 :]


_MUTATIONS: list[Callable[[str, random.Random], str]] = [
    _without_line,
    _with_line_twice,
    _with_other_character,
    lambda text, rng: text[: rng.randrange(len(text))],
]


def test_a_damaged_file_never_crashes_the_loader(tmp_path: Path) -> None:
    """Whatever a slip of the hand does to a file, the result is a policy set or a list of mistakes."""
    seed = 20261125
    print(f"seed {seed}")
    rng = random.Random(seed)  # noqa: S311  (cases, not secrets)
    loaded = refused = 0
    for _ in range(120):
        files = tiny_files()
        name = rng.choice(sorted(files))
        mutate = rng.choice(_MUTATIONS)
        files[name] = mutate(files[name], rng)
        try:
            load_policy_set(write_files(tmp_path, files))
            loaded += 1
        except SourceError as error:
            refused += bool(error.problems)
    assert loaded + refused == 120
    assert min(loaded, refused) > 4


def test_progress_tells_each_step_to_its_end(tmp_path: Path) -> None:
    """Files, then rules checked, then rules compiled: each counts up to its total."""
    told: list[tuple[str, int, int]] = []

    policy = load_policy_set(
        write_files(tmp_path / "tiny", tiny_files()), progress=lambda *each: told.append(each)
    )

    rules = len(policy.rules)
    assert list(dict.fromkeys(what for what, _, _ in told)) == [
        "reading files of rules",
        "checking rules",
        "compiling rules",
    ]
    assert [(done, total) for what, done, total in told if what == "compiling rules"] == [
        (done, rules) for done in range(1, rules + 1)
    ]


@pytest.mark.parametrize("enabled", [True, False])
def test_loading_leaves_the_garbage_collector_as_it_was(enabled: bool, tmp_path: Path) -> None:
    """It is off while rules are read, and afterwards what it was, also when nothing loads."""
    seen: list[bool] = []
    broken = {**tiny_files(), "rules/broken.yaml": "- uid: 1\n"}
    was_on = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        for number, files in enumerate((tiny_files(), broken)):
            directory = write_files(tmp_path / str(number), files)
            with suppress(SourceError):
                load_policy_set(directory, progress=lambda *_: seen.append(gc.isenabled()))
            assert gc.isenabled() is enabled
    finally:
        (gc.enable if was_on else gc.disable)()

    assert seen
    assert not any(seen)
