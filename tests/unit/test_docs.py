"""The pages say what is there: every link, path, command, target, RPC and reason in them exists."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

from policyd.cli import main
from policyd.reasons import GATE_OF, Reason

ROOT = Path(__file__).parents[2]
NOT_OURS = re.compile(r"\.git|\.venv|\.policyd|\.hypothesis|\..*_cache|build|dist|.*\.egg-info")
LINK = re.compile(r"(?<!`)\[[^\]\n]*\]\(([^()\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
RPC = re.compile(r"((?:[ \t]*//[^\n]*\n)*)[ \t]*rpc (\w+)\(")
CODE_PATH = re.compile(
    r"(?<![\w/.-])(?:policyd|clients|docs|tools|bench|proto|policies|tests/[a-z]+)/[\w/.-]*\.\w+"
)
COMMAND = re.compile(r"(?:^\$ |`)policyd ([a-z]+)(?: ([a-z]+(?:-[a-z]+)*))?", re.MULTILINE)
TARGET = re.compile(r"(?:^\$ |`)(?:[A-Z]+=\S+ )*make ([a-z]+)", re.MULTILINE)


def pages(folder: Path = ROOT) -> Iterator[Path]:
    """Yield every Markdown page that somebody wrote."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink() and not NOT_OURS.fullmatch(path.name):
            yield from pages(path)
        elif path.suffix == ".md":
            yield path


PAGES = [path.relative_to(ROOT).as_posix() for path in pages()]


def anchors(text: str) -> set[str]:
    """Return the fragments that the headings of a page can be reached by, as forges make them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> Iterator[str]:
    """Yield each link of ``page`` that leads to no file, or to no heading."""
    for target in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"https?:|mailto:", target):
            continue
        name, _, fragment = target.partition("#")
        path = page.parent / name if name else page
        if not path.exists() or (fragment and fragment not in anchors(path.read_text(encoding="utf-8"))):
            yield target


def unknown_commands(text: str, root: click.Group) -> Iterator[str]:
    """Yield each `policyd ...` of a page that the command line does not have."""
    context = click.Context(root)
    for first, second in COMMAND.findall(text):
        command = root.get_command(context, first)
        if command is None:
            yield first
        elif isinstance(command, click.Group) and second and second not in command.list_commands(context):
            yield f"{first} {second}"


def unexplained(proto: str) -> list[str]:
    """Return the RPCs of a .proto file that have no comment above them."""
    return [name for comment, name in RPC.findall(proto) if len(comment.split()) < 5]


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    """A link in a page names a file that is there, and a heading that is in it."""
    assert list(broken_links(ROOT / page)) == []


@pytest.mark.parametrize("page", PAGES)
def test_every_path_in_a_page_exists(page: str) -> None:
    """A file that a page names is there, so that a rename is not forgotten."""
    named = set(CODE_PATH.findall((ROOT / page).read_text(encoding="utf-8")))

    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_every_page_that_the_code_names_exists() -> None:
    """A comment that sends the reader to a page does not send him nowhere."""
    sources = [
        path
        for folder in ("policyd", "clients", "proto", "tools", "bench")
        for path in (ROOT / folder).rglob("*.p[yr]*")
    ]
    named = {
        (path.name, page)
        for path in sources
        if path.suffix in (".py", ".proto")
        for page in re.findall(r"\bdocs/[\w/.-]+\.md\b", path.read_text(encoding="utf-8"))
    }

    assert named
    assert [each for each in sorted(named) if not (ROOT / each[1]).exists()] == []


@pytest.mark.parametrize("page", [page for page in PAGES if not page.startswith("docs/adr/")])
def test_every_command_in_a_page_exists(page: str) -> None:
    """What a page tells the reader to type is there; decisions in docs/adr may speak of what is to come."""
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))

    assert list(unknown_commands(text, main)) == []
    assert [name for name in TARGET.findall(text) if name not in targets] == []


def test_the_readme_shows_the_two_commands() -> None:
    """A new user finds how to see it and how to test it in a block to copy from."""
    blocks = "\n".join(FENCE.findall((ROOT / "README.md").read_text(encoding="utf-8")))

    assert "make run" in blocks
    assert "make test" in blocks


def test_every_command_is_documented() -> None:
    """docs/commands.md has each command by its full name, and is what the generator makes today."""
    generator = _load(ROOT / "tools/commands_doc.py")
    names = [name for name, _, _ in generator.commands()]
    page = (ROOT / "docs/commands.md").read_text(encoding="utf-8")

    assert {"policyd check", "policyd policy lint", "policyd audit verify"} <= set(names)
    assert [name for name in names if not re.search(rf"^#+ {name}$", page, re.MULTILINE)] == []
    assert page == generator.render(), "docs/commands.md is out of date; run: make proto"


def test_the_table_of_conditions_is_that_of_the_vectors() -> None:
    """docs/conditions.md has a row for each vector, as the generator writes it today, and no other."""
    generator = _load(ROOT / "tools/conditions_doc.py")
    page = (ROOT / "docs/conditions.md").read_text(encoding="utf-8")

    assert page == generator.render(page), "docs/conditions.md is out of date; run: make proto"
    assert page.count("\n| `{condition: ") == len(list(generator.rows())) > 40


def test_every_rpc_is_explained() -> None:
    """Each RPC has a comment in its .proto file that says what it does."""
    protos = sorted((ROOT / "proto/pbac/v1").glob("*.proto"))
    rpcs = [name for proto in protos for _, name in RPC.findall(proto.read_text(encoding="utf-8"))]

    assert len(rpcs) > 25
    assert [name for proto in protos for name in unexplained(proto.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_is_documented_at_its_gate(reason: Reason) -> None:
    """The table of gates has each reason, in the row of the gate that gives it."""
    page = (ROOT / "docs/life-of-a-decision.md").read_text(encoding="utf-8")
    rows = [
        line.split("|")[1].strip()
        for line in page.splitlines()
        if f"`{reason.value}`" in line and "|" in line
    ]

    assert str(GATE_OF[reason]) in rows


def test_decisions_are_numbered_and_state_their_cost() -> None:
    """Each page of docs/adr has its number, status, context, decision, and what is worse because of it."""
    adrs = sorted((ROOT / "docs/adr").glob("[0-9]*.md"))
    index = (ROOT / "docs/adr/README.md").read_text(encoding="utf-8")

    assert len({path.name[:4] for path in adrs}) == len(adrs) > 5
    for path in adrs:
        text = path.read_text(encoding="utf-8")
        assert re.match(rf"# {int(path.name[:4])}\. ", text), path.name
        for part in ("* Status: ", "## Context", "## Decision", "## Consequences", "* Bad: "):
            assert part in text, f"{path.name} has no `{part}`"
        assert f"({path.name})" in index, f"{path.name} is not in the list"


@pytest.mark.parametrize("library", (ROOT / "requirements/run.in").read_text(encoding="utf-8").split())
def test_every_dependency_has_its_line(library: str) -> None:
    """Each direct dependency says in ADR 1 what for, instead of what, and how to leave."""
    if library in ("-r", "build.in"):
        library = "setuptools"
    rows = (ROOT / "docs/adr/0001-dependencies.md").read_text(encoding="utf-8").splitlines()

    assert any(
        library in re.split(r"[,\s]+", row.split("|")[1].strip()) for row in rows if row.count("|") == 5
    )


def test_planted_faults_in_pages_are_found(tmp_path: Path) -> None:
    """A broken link, a lost heading, a command that is not there and a bare RPC are found."""
    page = tmp_path / "a.md"
    page.write_text(
        "# One & two\n[here](#one--two) [there](b.md) [web](https://example.org/x)\n"
        "[lost](c.md) [gone](#three)\n```\n[not a](link)\n```\n",
        encoding="utf-8",
    )
    (tmp_path / "b.md").write_text("# B\n", encoding="utf-8")

    assert list(broken_links(page)) == ["c.md", "#three"]
    assert list(unknown_commands("`policyd check` and `policyd fly`\n$ policyd policy bake x\n", main)) == [
        "fly",
        "policy bake",
    ]
    assert unexplained("  // Decides one question, and records it.\n  rpc A(X) returns (Y);\n  rpc B(X)") == [
        "B"
    ]


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
