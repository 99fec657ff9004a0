"""Make a failing question smaller, and write it as files that can be read and replayed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, is_dataclass, replace
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml

from policyd.errors import SourceError
from policyd.model import Registry, Request
from reference.duel import Mismatch, ask_both, load, write_files
from reference.policies import write
from reference.source import read_texts
from reference.worlds import World


def save(mismatch: Mismatch, directory: Path) -> None:
    """Write the policy set, the registry, the question and the differences below ``directory``."""
    write_files(directory / "policy", mismatch.world.files)
    question = {
        "now": mismatch.now,
        "request": asdict(mismatch.request),
        "registry": asdict(mismatch.world.registry),
        "differences": list(mismatch.differences),
    }
    text = json.dumps(question, indent=1, default=_plain)
    (directory / "question.json").write_text(text + "\n", encoding="utf-8")


def read(directory: Path) -> Mismatch:
    """Read what ``save`` wrote."""
    question = json.loads((directory / "question.json").read_text(encoding="utf-8"))
    policy = directory / "policy"
    files = {path.relative_to(policy).as_posix(): path.read_text("utf-8") for path in policy.rglob("*.yaml")}
    world = World(files, _typed(question["registry"], Registry), ())
    request = _typed(question["request"], Request)
    return Mismatch(world, request, question["now"], tuple(question["differences"]))


def again(mismatch: Mismatch) -> list[str]:
    """Ask both evaluators the same question again and return the differences.

    Raises:
        SourceError: the loader refuses the policy set.
    """
    files, registry = mismatch.world.files, mismatch.world.registry
    return ask_both(load(files), read_texts(files), registry, mismatch.request, mismatch.now)


def shrink(mismatch: Mismatch) -> Mismatch:
    """Leave out names, purposes, rules and registry entries one by one while the two still differ."""
    smaller = True
    while smaller:
        smaller = False
        for candidate in _candidates(mismatch):
            try:
                found = again(candidate)
            except SourceError:
                continue
            if found:
                mismatch, smaller = replace(candidate, differences=tuple(found)), True
                break
    return mismatch


def _candidates(mismatch: Mismatch) -> Iterator[Mismatch]:
    world, request = mismatch.world, mismatch.request
    for member in ("fields", "used_fields", "purposes", "years"):
        values = getattr(request.claimed, member)
        for at in range(len(values)):
            claimed = replace(request.claimed, **{member: values[:at] + values[at + 1 :]})
            yield replace(mismatch, request=replace(request, claimed=claimed))
    for name, text in world.files.items():
        if name.startswith("rules/"):
            rules = yaml.safe_load(text)
            for at, rule in enumerate(rules):
                fewer = rules[:at] + rules[at + 1 :]
                files = {**world.files, name: write(fewer)} if fewer else {**world.files}
                if not fewer:
                    del files[name]
                yield replace(mismatch, world=replace(world, files=files))
                for part in rule["rules"]:
                    lesser = {**rule, "rules": {k: v for k, v in rule["rules"].items() if k != part}}
                    files = {**world.files, name: write([*rules[:at], lesser, *rules[at + 1 :]])}
                    yield replace(mismatch, world=replace(world, files=files))
    for section in ("accreditations", "agreements", "requesters", "data_services"):
        entries = getattr(world.registry, section)
        for name in entries:
            kept = {key: entry for key, entry in entries.items() if key != name}
            yield replace(mismatch, world=replace(world, registry=replace(world.registry, **{section: kept})))


def _plain(value: object) -> object:
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"`{value!r}` has no form in JSON")


def _typed(value: Any, kind: Any) -> Any:
    """Turn plain JSON back into the type that the dataclasses of the model give."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        (inner,) = [part for part in parts if part is not type(None)]
        return None if value is None else _typed(value, inner)
    if origin is frozenset:
        return frozenset(_typed(each, parts[0]) for each in value)
    if origin is tuple and parts[-1:] == (Ellipsis,):
        return tuple(_typed(each, parts[0]) for each in value)
    if origin is tuple:
        return tuple(_typed(each, part) for each, part in zip(value, parts, strict=True))
    if origin in (dict, Mapping):
        return {key: _typed(each, parts[1]) for key, each in value.items()}
    if isinstance(kind, type) and is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{name: _typed(each, hints[name]) for name, each in value.items()})
    if kind is bytes:
        return bytes.fromhex(value)
    return kind(value) if isinstance(kind, type) and issubclass(kind, Enum) else value
