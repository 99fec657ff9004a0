"""No file names this machine or a package registry, locks carry hashes, and no test is for show."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = sorted(path.stem for path in (ROOT / "requirements").glob("*.in"))
PROJECTS = ("pyproject.toml", "proto/pyproject.toml", "clients/python/pyproject.toml")

NOT_OURS = re.compile(r"\.git|\.venv|\.policyd|\.hypothesis|\..*_cache|__pycache__|build|dist|.*\.egg-info")
"""Folders that are made, not written."""

# Written in pieces, so that this file holds none of what it looks for.
_FOLDERS = ["ho" + "me", "Us" + "ers", "ro" + "ot", "wo" + "rk", "t" + "mp", "fa" + "rm"]
MACHINE = re.compile(rf"(?<![\w./~:>-])/(?:{'|'.join(_FOLDERS)})(?:/[\w.-]+|(?=[\s\"'`)]))")
_HOSTS = {
    "org": [
        "py" + "pi",
        "python" + "hosted",
        "npm" + "js",
        "ana" + "conda",
        "ruby" + "gems",
        "maven",
        "go" + "lang",
    ],
    "io": ["crates", "docker", "gh" + "cr", "quay", "js" + "r"],
    "com": ["yarn" + "pkg"],
}
REGISTRY = re.compile(
    "|".join(rf"\b(?:{'|'.join(names)})\.{tld}\b" for tld, names in _HOSTS.items()), re.IGNORECASE
)
INDEX = re.compile(
    r"(?<![\w-])(?:--(?:extra-)?index" + r"-url|--find" + r"-links|--trusted" + r"-host|PIP_(?:EXTRA_)?INDEX)"
)
UNOWNED = re.compile(r"\b(?:TO" + r"DO\b(?!\(#\d+\):)|FIX" + r"ME\b|X" + r"XX\b)")

PIN = re.compile(r"([A-Za-z0-9._-]+)==(\S+)")
OFF = re.compile(r"pytest\.(?:mark\.)?(?:skip|skipif|xfail)")
MAY_CHECK = re.compile(r"raises|warns|fail|assert|check|expect|verify|\.use$", re.IGNORECASE)
"""What a call is named that can fail a test."""


def files(root: Path) -> Iterator[Path]:
    """Yield every file that somebody wrote."""
    for path in sorted(root.iterdir()):
        if path.is_symlink() or NOT_OURS.fullmatch(path.name):
            continue
        if path.is_dir():
            yield from files(path)
        else:
            yield path


def found(root: Path, pattern: re.Pattern[str]) -> list[str]:
    """Return every place in a text file of ``root`` that matches, with file and line."""
    places = []
    for path in files(root):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # not text
        for number, line in enumerate(text.splitlines(), start=1):
            if match := pattern.search(line):
                places.append(f"{path.relative_to(root)}:{number}: `{match[0]}`")
    return places


def locked(text: str) -> dict[str, tuple[str, int]]:
    """Return the version and the number of hashes of each requirement of a lock file.

    Raises:
        ValueError: a line is neither a pin, a hash nor a comment.
    """
    pins: dict[str, tuple[str, int]] = {}
    name = ""
    for line in text.splitlines():
        bare = line.strip().removesuffix("\\").strip()
        if match := PIN.fullmatch(bare.split(" ; ")[0]):
            name = canonicalize_name(match[1])
            pins[name] = (match[2], 0)
        elif re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", bare):
            pins[name] = (pins[name][0], pins[name][1] + 1)
        elif bare and not bare.startswith("#"):
            raise ValueError(f"`{bare}` is no pin and no hash")
    return pins


def for_show(source: str) -> Iterator[str]:
    """Yield each test that cannot fail, or is switched off without a reason, with its line."""
    tree = ast.parse(source)
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert) and isinstance(node.test, ast.Constant | ast.Tuple):
            yield f"{node.lineno}: an assertion that is always the same"
        elif isinstance(node, ast.Call):
            name, keywords = ast.unparse(node.func), {each.arg for each in node.keywords}
            reason = "reason" in keywords or (bool(node.args) and not name.endswith(("skipif", "mark.xfail")))
            if OFF.fullmatch(name) and not reason:
                yield f"{node.lineno}: `{name}` without a reason"
        elif isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            if any(OFF.fullmatch(ast.unparse(each)) for each in node.decorator_list):
                yield f"{node.lineno}: `{node.name}` is switched off without a reason"
            if not _can_fail(node, functions):
                yield f"{node.lineno}: `{node.name}` asserts nothing"


def _can_fail(test: ast.AST, functions: dict[str, ast.FunctionDef]) -> bool:
    """Return whether there is an assertion in the test, or in a function of the same file that it calls."""
    for node in ast.walk(test):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            others = {known: each for known, each in functions.items() if known != name}
            if MAY_CHECK.search(name) or (name in functions and _can_fail(functions[name], others)):
                return True
    return False


@pytest.mark.parametrize(
    ("what", "pattern"),
    [("a path of a machine", MACHINE), ("a package registry", REGISTRY), ("a package index", INDEX)],
    ids=["path", "registry", "index"],
)
def test_no_file_names(what: str, pattern: re.Pattern[str]) -> None:
    """A checkout works on every machine and with every mirror, because no file names one."""
    places = found(ROOT, pattern)

    assert len(list(files(ROOT))) > 200
    assert not places, f"{what}:\n" + "\n".join(places)


def test_no_file_names_this_checkout() -> None:
    """Nothing generated has taken the place of this checkout with it."""
    if len(ROOT.parts) < 3:
        pytest.skip(f"the checkout is `{ROOT}`, too short a name to look for")

    assert found(ROOT, re.compile(rf"{re.escape(str(ROOT))}\b")) == []


def test_unfinished_work_names_its_issue() -> None:
    """What is left to do is in the tracker, and the comment says under which number."""
    assert found(ROOT, UNOWNED) == []


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_hashes(name: str) -> None:
    """pip checks what it downloads against the lock, for every package."""
    pins = locked((ROOT / f"requirements/{name}.txt").read_text(encoding="utf-8"))

    assert pins
    assert [package for package, (_, hashes) in pins.items() if not hashes] == []


@pytest.mark.parametrize("name", LOCKS)
def test_everything_asked_for_is_locked(name: str) -> None:
    """Each package of requirements/*.in is pinned in the lock beside it."""
    lines = (ROOT / f"requirements/{name}.in").read_text(encoding="utf-8").splitlines()
    wanted = {canonicalize_name(line) for line in lines if line and not line.startswith(("-", "#"))}
    pins = locked((ROOT / f"requirements/{name}.txt").read_text(encoding="utf-8"))

    assert wanted
    assert wanted <= set(pins)


def test_locks_agree() -> None:
    """What is tested is what runs: a package in two locks has one version."""
    versions: dict[str, set[str]] = {}
    for name in LOCKS:
        for package, (version, _) in locked((ROOT / f"requirements/{name}.txt").read_text("utf-8")).items():
            versions.setdefault(package, set()).add(version)

    assert {package: each for package, each in versions.items() if len(each) > 1} == {}


@pytest.mark.parametrize("project", PROJECTS)
def test_locks_satisfy_the_projects(project: str) -> None:
    """Every dependency that a project states is locked for running, at a version that it admits."""
    pins = locked((ROOT / "requirements/run.txt").read_text(encoding="utf-8"))
    stated = tomllib.loads((ROOT / project).read_text(encoding="utf-8"))["project"]["dependencies"]
    needed = [each for each in map(Requirement, stated) if not each.name.startswith("policyd")]

    assert needed
    for each in needed:
        assert pins[canonicalize_name(each.name)][0] in each.specifier, each


def test_no_test_is_for_show() -> None:
    """Every test can fail, and one that is switched off says why."""
    tests = sorted((ROOT / "tests").rglob("*.py"))
    faults = [
        f"{path.relative_to(ROOT)}:{fault}"
        for path in tests
        for fault in for_show(path.read_text(encoding="utf-8"))
    ]

    assert not faults, "\n" + "\n".join(faults)


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        (MACHINE, f"cd /{_FOLDERS[0]}/someone/policyd"),
        (MACHINE, f"open('/{_FOLDERS[4]}/x')"),
        (MACHINE, f"in `/{_FOLDERS[3]}`"),
        (REGISTRY, f"see https://{_HOSTS['org'][0]}.org/project/x"),
        (REGISTRY, f"from files.{_HOSTS['org'][1]}.org"),
        (INDEX, "--index" + "-url http://mirror.example/simple"),
        (INDEX, "pip install --extra-index" + "-url=x"),
        (UNOWNED, "# TO" + "DO: later"),
        (UNOWNED, "# FIX" + "ME"),
    ],
)
def test_a_planted_name_is_found(pattern: re.Pattern[str], line: str, tmp_path: Path) -> None:
    """Each pattern finds its fault in a tree, and nothing in a folder that is made."""
    for name in ("docs", "build"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.md").write_text(f"good\n{line}\n", encoding="utf-8")

    assert [each.split(" ")[0] for each in found(tmp_path, pattern)] == ["docs/x.md:2:"]


@pytest.mark.parametrize(
    "line",
    [
        "a/home" + "/b and npd/work" + "/x",
        "# pip-compile --no-emit-index-url --no-emit-trusted-host",
        "# TO" + "DO(#12): take the other branch",
        "crates of ionised water",
    ],
)
def test_what_is_allowed_is_not_found(line: str, tmp_path: Path) -> None:
    """Relative paths, pip-compile's own header and owned work pass."""
    (tmp_path / "x.md").write_text(line, encoding="utf-8")

    assert [
        each for pattern in (MACHINE, REGISTRY, INDEX, UNOWNED) for each in found(tmp_path, pattern)
    ] == []


@pytest.mark.parametrize(
    "source",
    [
        "def test_a():\n    assert True",
        "def test_a():\n    assert (1, 'always')",
        "def test_a():\n    print(1)",
        "def test_a():\n    show(1)\ndef show(x):\n    show(x)",
        "@pytest.mark.skip\ndef test_a():\n    assert x",
        "@pytest.mark.skip()\ndef test_a():\n    assert x",
        "@pytest.mark.skipif(x)\ndef test_a():\n    assert x",
        "@pytest.mark.xfail(strict=True)\ndef test_a():\n    assert x",
        "def test_a():\n    pytest.skip()\n    assert x",
    ],
)
def test_a_test_for_show_is_found(source: str) -> None:
    """Each way of writing a test that proves nothing is found once."""
    assert len(list(for_show(source))) == 1


def test_a_lock_without_a_hash_is_found() -> None:
    """A pin alone counts no hash, and a line that is neither is refused."""
    digest = "0" * 64

    assert locked(f"a-b==1.0 \\\n    --hash=sha256:{digest}\n    # via c\nc==2.0\n") == {
        "a-b": ("1.0", 1),
        "c": ("2.0", 0),
    }
    with pytest.raises(ValueError, match="no pin"):
        locked("a>=1.0\n")
