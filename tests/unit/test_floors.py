"""A module imports only from lower floors and its own package, and says in one sentence what it is for."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

FLOORS: dict[int, str] = {
    0: "model errors reasons clock ids names files sqlite deadline",
    1: "persistent purpose fieldset merkle canonical transform obligation",
    2: "policy",
    3: "decision",
    4: "registry ledger identity",
    5: "service interceptors policytest",
    6: "server config issuerconfig telemetry state devsetup",
    7: "cli console demo witness",
}
"""DESIGN.md section 9: the parts of policyd on each floor, a module or a package each."""
FLOOR_OF = {part: floor for floor, parts in FLOORS.items() for part in parts.split()}
PACKAGE = "policyd"
LAZY = "policyd.cli.exits"
"""It loads commands, all on its own floor, when they are wanted."""
SIDEWAYS = {
    ("policyd.service", "policyd.interceptors.call"): "who calls, as the interceptors verified it",
    ("policyd.cli", "policyd.demo"): "the command that starts the demo",
    ("policyd.server", "policyd.telemetry"): "the composition root starts the projector",
    ("policyd.cli", "policyd.witness"): "the command that starts a witness",
}
"""Packages of one floor that may import a module of another, and why."""
ONLY = {
    "py_abac": r"policyd\.policy\.",
    "policyd_client": r"policyd\.(cli|demo)\.",
}
"""Libraries that only modules of these names import: the server shares no code with its client."""
WIRE = {"grpc", "grpc_health", "grpc_reflection", "pbac"}
"""From floor 5 up: below it nothing knows how a question arrived."""
PURE = {
    "__future__",
    "collections",
    "dataclasses",
    "enum",
    "functools",
    "itertools",
    "math",
    "operator",
    "re",
    "typing",
}
"""What floor 3 may import of the standard library: no I/O, clock, logging, randomness or locks."""
IMPURE = {("policyd.decision.cache", "threading"): "guards the cache; `decide` itself never waits"}

TIME_AND_CHANCE = re.compile(
    r"time\.(time|monotonic|perf_counter|process_time)(_ns)?|time\.clock_gettime(_ns)?|time\.(gm|local)time"
    r"|datetime\.(datetime|date)\.(now|utcnow|today)|os\.(urandom|getrandom)|(uuid|secrets|random)\..*"
    r"|.*\.random_serial_number|.*\.generate(_private)?_key|.*PrivateKey\.generate"
)
SOURCES = {
    "policyd.clock": (r"time\.(time_ns|monotonic|clock_gettime)", "the one clock"),
    "policyd.ids": (r"time\.time_ns|os\.urandom", "the one source of random ids, which sort by time"),
    "policyd.identity.keys": (r".*\.generate(_key)?", "key material"),
    "policyd.ledger.vault": (r"os\.urandom", "keys of records and persons, and their nonces"),
    "policyd.identity.pki": (r".*\.(generate_private_key|random_serial_number)", "key material and serials"),
    "policyd.demo.synthetic": (r"random\.Random", "seeded: the same invented pupils each time"),
    "policyd_client._clock": (r"time\.(clock_gettime|monotonic)", "the client's one clock"),
    "policyd_client.model": (r"secrets\.token_hex", "ids of questions and reports that nobody can guess"),
    "policyd_client.calls": (r"secrets\.randbelow", "callers must not try again all at once"),
    "policyd_client.witnessing": (r"secrets\.SystemRandom", "a node must not foresee what it has to prove"),
}
"""The modules that may ask for the time or draw at random: what exactly, and why."""
CHARTER_MAX, LINES_MAX = 110, 400
LONGER: dict[str, str] = {}
"""Modules above the ceiling, and why."""


class Module:
    """One source file: its dotted name, and every import and dotted use in it with its line."""

    def __init__(self, root: Path, path: Path) -> None:
        parts = path.relative_to(root).with_suffix("").parts
        self.name = ".".join(part for part in parts if part != "__init__")
        self.path = path.relative_to(root).as_posix()
        self.source = path.read_text(encoding="utf-8")
        self.tree = ast.parse(self.source)
        self.is_package = path.name == "__init__.py"
        self.imports: list[tuple[str, int]] = []
        self.names: dict[str, str] = {}
        for node in ast.walk(self.tree):  # also below TYPE_CHECKING and inside functions
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self.imports.append((alias.name, node.lineno))
                    self.names[alias.asname or alias.name.split(".")[0]] = (
                        alias.name if alias.asname else alias.name.split(".")[0]
                    )
            elif isinstance(node, ast.ImportFrom):
                base = self._base(node)
                for alias in node.names:
                    self.imports.append((f"{base}.{alias.name}", node.lineno))
                    self.names[alias.asname or alias.name] = f"{base}.{alias.name}"

    @property
    def part(self) -> str:
        """The part of the floor table it belongs to; empty for the package itself."""
        return _part(self.name)

    def uses(self) -> Iterator[tuple[str, int]]:
        """Yield every dotted name that starts at an import, spelled in full."""
        for node in ast.walk(self.tree):
            chain: list[str] = []
            inner: ast.AST = node
            while isinstance(inner, ast.Attribute):
                chain.insert(0, inner.attr)
                inner = inner.value
            if isinstance(inner, ast.Name) and inner.id in self.names:
                yield ".".join([self.names[inner.id], *chain]), inner.lineno

    def _base(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        above = self.name.split(".")
        above = above[: len(above) - node.level + self.is_package]
        return ".".join([*above, *([node.module] if node.module else [])])


Check = Callable[[list[Module]], Iterator[str]]


def modules(root: Path) -> list[Module]:
    """Read policyd and its client below ``root``."""
    sources = [*root.glob("policyd/**/*.py"), *root.glob("clients/python/policyd_client/**/*.py")]
    clients = root / "clients/python"
    return [Module(clients if clients in path.parents else root, path) for path in sorted(sources)]


def unplaced(found: list[Module]) -> Iterator[str]:
    for module in _of_policyd(found):
        if module.part and module.part not in FLOOR_OF:
            yield f"{module.path}:1: `{module.part}` stands on no floor; add it to FLOORS"


def upward(found: list[Module]) -> Iterator[str]:
    for module in _of_policyd(found):
        own = FLOOR_OF.get(module.part, 0)
        for name, line in module.imports:
            part = _part(name)
            if not name.startswith(f"{PACKAGE}.") or part not in FLOOR_OF:
                continue
            floor = FLOOR_OF[part]
            if floor > own:
                yield f"{module.path}:{line}: floor {own} imports `{name}` of floor {floor}"
            elif (
                floor == own
                and _home(module.part, found) != _home(part, found)
                and not _sideways(module, name)
            ):
                yield f"{module.path}:{line}: `{module.part}` imports `{name}` beside it on floor {own}"


def out_of_bounds(found: list[Module]) -> Iterator[str]:
    redis = {module.path for module in found for name, _ in module.imports if name.split(".")[0] == "redis"}
    if len(redis) > 1:
        yield f"{', '.join(sorted(redis))}: `redis` is imported in more than one module"
    for module in found:
        floor = FLOOR_OF.get(module.part, 0)
        for name, line in module.imports:
            top = name.split(".")[0]
            where = f"{module.path}:{line}: imports `{name}`"
            if not module.name.startswith(f"{PACKAGE}."):
                if top == PACKAGE:
                    yield f"{where}, but the client shares no code with the server"
                continue
            if top in WIRE and floor < 5:
                yield f"{where} on floor {floor}; the wire starts on floor 5"
            elif top in ONLY and not re.match(ONLY[top], module.name):
                yield f"{where}; only modules of {ONLY[top]} may"
            elif floor < 2 and top != PACKAGE and top not in sys.stdlib_module_names:
                yield f"{where} on floor {floor}, which has the standard library alone"
            elif floor == 3 and _impure(module, top, name):
                yield f"{where}, but a decision has no I/O, clock, logging, randomness or locks"
            if name.split(".")[:2] == ["importlib", "import_module"] and module.name != LAZY:
                yield f"{where}, which hides what is imported from this test"


def time_and_chance(found: list[Module]) -> Iterator[str]:
    for module in found:
        allowed, _ = SOURCES.get(module.name, ("", ""))
        for name, line in module.uses():
            if TIME_AND_CHANCE.fullmatch(name) and not re.fullmatch(allowed, name):
                yield f"{module.path}:{line}: `{name}`; ask clock.py or ids.py"
            if name in ("policyd.clock.now", "policyd.clock.monotonic") and _untimed(module):
                yield f"{module.path}:{line}: `{name}`; below floor 4 the time is an argument"


def uncharted(found: list[Module]) -> Iterator[str]:
    for module in found:
        if not module.source.strip() and module.is_package:
            continue  # an empty marker holds nothing to describe
        first = (ast.get_docstring(module.tree) or "").split("\n")[0]
        if not first.endswith(".") or len(first) > CHARTER_MAX:
            yield f"{module.path}:1: no charter of one sentence in {CHARTER_MAX} characters"
        lines = len(module.source.splitlines())
        if lines > LINES_MAX and module.name not in LONGER:
            yield f"{module.path}:{LINES_MAX}: {lines} lines; split it at a seam, or say why in LONGER"


CHECKS: dict[str, Check] = {
    check.__name__: check for check in (unplaced, upward, out_of_bounds, time_and_chance, uncharted)
}


def _part(name: str) -> str:
    return f"{name}.".split(".")[1]


def _of_policyd(found: list[Module]) -> list[Module]:
    return [module for module in found if module.name.split(".")[0] == PACKAGE]


def _home(part: str, found: list[Module]) -> str:
    """Return the package of a part: its own, or the root for a module that stands alone."""
    return part if any(module.part == part and module.path.count("/") > 1 for module in found) else ""


def _sideways(module: Module, name: str) -> bool:
    return any(f"{module.name}.".startswith(f"{a}.") and f"{name}.".startswith(f"{b}.") for a, b in SIDEWAYS)


def _untimed(module: Module) -> bool:
    """Return whether the module may not ask what time it is; what only waits by a deadline may."""
    return FLOOR_OF.get(module.part, 0) < 4 and module.part != "deadline"


def _impure(module: Module, top: str, name: str) -> bool:
    if top == PACKAGE:
        return name.split(".")[1] in ("clock", "ids")
    return top not in PURE and (module.name, top) not in IMPURE


@pytest.mark.parametrize("check", CHECKS)
def test_every_module_keeps_to_its_floor(check: str) -> None:
    """Nothing imports upward or sideways, tells the time, or hides what it is for."""
    found = modules(ROOT)
    faults = list(CHECKS[check](found))

    assert len(found) > 80
    assert not faults, "\n" + "\n".join(faults)


def test_no_exception_is_left_over() -> None:
    """Every exception in the tables above is still used, so that none waits for a new fault to cover."""
    found = {module.name: module for module in modules(ROOT)}
    imports = [(module, name) for module in found.values() for name, _ in module.imports]

    for source, target in SIDEWAYS:
        assert any(
            f"{m.name}.".startswith(f"{source}.") and f"{n}.".startswith(f"{target}.") for m, n in imports
        )
    for name, library in IMPURE:
        assert any(module.name == name and each == library for module, each in imports)
    for name, (allowed, _) in SOURCES.items():
        assert any(re.fullmatch(allowed, use) for use, _ in found[name].uses()), name
    for name in LONGER:
        assert len(found[name].source.splitlines()) > LINES_MAX


PLANTED = {
    "a module without a floor": ("unplaced", "policyd/shiny.py", "'''Is new.'''"),
    "a package without a floor": ("unplaced", "policyd/shiny/thing.py", "'''Is new.'''"),
    "an upward import": ("upward", "policyd/decision/x.py", "from policyd.registry import store"),
    "an upward import of a module": ("upward", "policyd/policy/x.py", "from policyd import server"),
    "an upward import for types": (
        "upward",
        "policyd/decision/x.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from policyd.ledger.writer import Ledger",
    ),
    "an upward import in a function": (
        "upward",
        "policyd/merkle.py",
        "def f():\n    import policyd.policy.load",
    ),
    "an upward relative import": ("upward", "policyd/decision/x.py", "from ..service import node"),
    "a relative import of a sibling above": ("upward", "policyd/reasons.py", "from . import purpose"),
    "a sideways import": ("upward", "policyd/registry/x.py", "from policyd.ledger import writer"),
    "a sideways import outside the exception": (
        "upward",
        "policyd/service/x.py",
        "from policyd.interceptors import limits",
    ),
    "gRPC below floor 5": ("out_of_bounds", "policyd/ledger/x.py", "import grpc.aio"),
    "messages below floor 5": ("out_of_bounds", "policyd/decision/x.py", "from pbac.v1 import decision_pb2"),
    "redis twice": ("out_of_bounds", "policyd/registry/x.py", "import redis"),
    "py-abac outside the policy set": ("out_of_bounds", "policyd/decision/x.py", "from py_abac import PDP"),
    "the client in the server": ("out_of_bounds", "policyd/service/x.py", "import policyd_client"),
    "the server in the client": (
        "out_of_bounds",
        "clients/python/policyd_client/x.py",
        "from policyd.model import Action",
    ),
    "a library in the vocabulary": ("out_of_bounds", "policyd/names.py", "import opentelemetry"),
    "a clock in a decision": ("out_of_bounds", "policyd/decision/x.py", "from policyd import clock"),
    "a log in a decision": ("out_of_bounds", "policyd/decision/x.py", "import logging"),
    "a hidden import": ("out_of_bounds", "policyd/cli/x.py", "from importlib import import_module"),
    "wall time": ("time_and_chance", "policyd/service/x.py", "import time\nat = time.time()"),
    "wall time by another name": (
        "time_and_chance",
        "policyd/service/x.py",
        "from time import time as t\nat = t()",
    ),
    "today": ("time_and_chance", "policyd/cli/x.py", "from datetime import date\nday = date.today()"),
    "now": ("time_and_chance", "policyd/cli/x.py", "import datetime as d\nat = d.datetime.now(d.UTC)"),
    "a random id": ("time_and_chance", "policyd/service/x.py", "import uuid\nid = uuid.uuid4()"),
    "random bytes": ("time_and_chance", "policyd/ledger/x.py", "from os import urandom\nkey = urandom(32)"),
    "a key made elsewhere": (
        "time_and_chance",
        "policyd/server.py",
        "from cryptography.hazmat.primitives.ciphers.aead import AESGCM\nkey = AESGCM.generate_key(256)",
    ),
    "more than the exception says": ("time_and_chance", "policyd/clock.py", "import time\nat = time.time()"),
    "the present in a rule": (
        "time_and_chance",
        "policyd/policy/x.py",
        "from policyd import clock\nclock.now()",
    ),
    "no charter": ("uncharted", "policyd/cli/x.py", "print(1)"),
    "a charter that is no sentence": ("uncharted", "policyd/cli/x.py", "'''Helpers'''"),
    "a module too long": ("uncharted", "policyd/cli/x.py", "'''Is long.'''" + "\nX = 1" * LINES_MAX),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found(fault: str, tmp_path: Path) -> None:
    """Each check reports its fault, with file and line, in an otherwise good tree."""
    check, path, source = PLANTED[fault]
    good = {
        "policyd/__init__.py": '"""Is good."""',
        "policyd/state.py": '"""Is good."""\nimport redis\nfrom policyd import server, errors',
        "policyd/decision/__init__.py": "",
        "policyd/service/node.py": '"""Is good."""\nfrom policyd.interceptors.call import Call\nimport grpc',
        "policyd/interceptors/call.py": '"""Is good."""\nfrom policyd import clock\nclock.now()',
        "policyd/ledger/writer.py": '"""Is good."""',
        "policyd/registry/store.py": '"""Is good."""\nfrom . import state',
    }
    _write(tmp_path, good)
    before = [each for check_ in CHECKS.values() for each in check_(modules(tmp_path))]
    _write(tmp_path, {path: source})
    faults = list(CHECKS[check](modules(tmp_path)))

    assert before == []
    assert len(faults) == 1
    assert path.removeprefix("clients/python/") in faults[0]
    assert re.search(r"\.py(:\d+|, )", faults[0])


def _write(root: Path, files: dict[str, str]) -> None:
    for name, source in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(source, encoding="utf-8")
