"""The trust document: nodes that order changes, administrators who sign them (docs/registry.md)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from policyd.canonical import canonical_json
from policyd.errors import Place, SourceError
from policyd.policy.reader import CODE, ID, Reader
from policyd.policy.source import Node
from policyd.registry.check import is_spiffe_id

_KEY = re.compile(r"[0-9a-f]{64}", re.ASCII)
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}", re.ASCII)
_BODY = "trust document"


class Role(StrEnum):
    """What an administrator may do; nobody may do anything that no role of theirs names."""

    REGISTRAR = "registrar"
    POLICY_AUTHOR = "policy-author"
    APPROVER = "approver"
    SEALING_OFFICER = "sealing-officer"
    AUDITOR = "auditor"


@dataclass(frozen=True, slots=True)
class TrustedNode:
    """A node and its raw Ed25519 public key; ``address`` is where other nodes ask it, or empty."""

    id: str
    key: bytes
    address: str = ""


@dataclass(frozen=True, slots=True)
class Administrator:
    """One key of one person. Two administrators of one ``person`` count as one where two are needed."""

    id: str
    person: str
    spiffe_id: str
    key: bytes
    roles: frozenset[Role]

    @property
    def key_id(self) -> str:
        """The id by which signatures name the key."""
        return key_id(self.key)


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose signatures count. ``digest`` is the SHA-256 of its canonical JSON in lower-case hex."""

    nodes: Mapping[str, TrustedNode]
    administrators: Mapping[str, Administrator]
    digest: str = field(init=False, compare=False)
    _by_key: Mapping[str, Administrator] = field(init=False, compare=False, repr=False)
    _nodes_by_key: Mapping[bytes, TrustedNode] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        found = {
            "digest": hashlib.sha256(canonical_json(self.document)).hexdigest(),
            "_by_key": {each.key_id: each for each in self.administrators.values()},
            "_nodes_by_key": {each.key: each for each in self.nodes.values()},
        }
        for name, value in found.items():
            object.__setattr__(self, name, value)  # the way of frozen dataclasses

    @property
    def document(self) -> dict[str, object]:
        """The document as plain values, ready for canonical JSON: each trust has exactly one."""
        return {
            "nodes": {
                each.id: {"key": each.key.hex(), **({"address": each.address} if each.address else {})}
                for each in self.nodes.values()
            },
            "administrators": {
                each.id: {
                    "person": each.person,
                    "spiffe_id": each.spiffe_id,
                    "key": each.key.hex(),
                    "roles": sorted(role.value for role in each.roles),
                }
                for each in self.administrators.values()
            },
        }

    def administrator(self, key: str) -> Administrator | None:
        """Return whose key has the id `key`, or None."""
        return self._by_key.get(key)

    def node(self, public_key: bytes) -> TrustedNode | None:
        """Return the node with this raw public key, or None."""
        return self._nodes_by_key.get(public_key)


def key_id(public_key: bytes) -> str:
    """Return the first 16 hex digits of the SHA-256 of a raw public key, as key files carry them."""
    return hashlib.sha256(public_key).hexdigest()[:16]


def read_trust(path: Path, *, name: str | None = None) -> Trust:
    """Read a trust document; ``name`` is what messages call the file.

    Raises:
        SourceError: it does not read, or could not work; holds every mistake.
    """
    reader = Reader()
    node = reader.file(path, name=name)
    reader.finish()
    return _parse(reader, node)


def trust_of(value: object) -> Trust:
    """Read what `Trust.document` gave.

    Raises:
        ValueError: it is no trust document, or not in the one form that it has.
    """
    try:
        trust = _parse(Reader(), _node(value))
    except SourceError as error:
        raise ValueError(error.problems[0].message) from None
    if trust.document != value:
        raise ValueError("the trust document is not in canonical form")
    return trust


T = TypeVar("T")


def _parse(reader: Reader, node: Node) -> Trust:
    top = reader.mapping(node, required={"nodes", "administrators"})
    trust = Trust(
        nodes=_each(reader, top["nodes"], lambda id_, part: _trusted_node(reader, id_, part)),
        administrators=_each(
            reader, top["administrators"], lambda id_, part: _administrator(reader, id_, part)
        ),
    )
    if not reader.problems:
        for section, id_, member, message in _faults(trust):
            reader.fail(_place(top[section], id_, member), message)
    reader.finish()
    return trust


def _each(reader: Reader, node: Node, read: Callable[[str, Node], T]) -> dict[str, T]:
    found = {}
    for id_, part in reader.table(node).items():
        if ID.fullmatch(id_) is None:
            reader.fail(node.key_places[id_], f"`{id_}` is not an id of the form {ID.pattern}")
        found[id_] = read(id_, part)
    return found


def _trusted_node(reader: Reader, id_: str, node: Node) -> TrustedNode:
    part = reader.mapping(node, required={"key"}, optional={"address"})
    address = reader.text(part.get("address"))
    if address and _ADDRESS.fullmatch(address) is None:
        reader.fail(part["address"], f"`{address}` is not an address such as 127.0.0.1:50151")
    return TrustedNode(id_, _key(reader, part["key"]), address)


def _administrator(reader: Reader, id_: str, node: Node) -> Administrator:
    part = reader.mapping(node, required={"person", "spiffe_id", "key", "roles"})
    roles = reader.each(part["roles"], lambda item: reader.one_of(item, Role))
    if isinstance(part["roles"].value, tuple) and not part["roles"].value:
        reader.fail(part["roles"], "is empty; an administrator without a role can do nothing")
    spiffe_id = reader.text(part["spiffe_id"])
    if spiffe_id and not is_spiffe_id(spiffe_id):
        reader.fail(part["spiffe_id"], f"`{spiffe_id}` is not a SPIFFE ID")
    return Administrator(
        id=id_,
        person=reader.ident(part["person"], CODE),
        spiffe_id=spiffe_id,
        key=_key(reader, part["key"]),
        roles=frozenset(roles),
    )


def _key(reader: Reader, node: Node) -> bytes:
    text = reader.text(node)
    if text and _KEY.fullmatch(text) is None:
        reader.fail(node, "must be an Ed25519 public key as 64 lower-case hex digits, in quotes")
        return b""
    try:
        if text:
            Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))
    except ValueError:
        reader.fail(node, "is no Ed25519 public key")
    return bytes.fromhex(text)


def _faults(trust: Trust) -> Iterator[tuple[str, str, str, str]]:
    """Yield what does not hold between the entries: section, id, member and message."""
    if not trust.nodes:
        yield "nodes", "", "", "is empty; no node could order a change"
    keys: dict[str, str] = {}
    spiffe_ids: dict[str, str] = {}
    for section, entries in (("nodes", trust.nodes), ("administrators", trust.administrators)):
        for id_, entry in entries.items():
            first = keys.setdefault(key_id(entry.key), id_)
            if first != id_ or (section == "administrators" and id_ in trust.nodes):
                # SECURITY: with a key of two people, or of a node and a person, one could sign as the
                # other (test_mistakes_of_a_trust_document_have_their_place).
                yield section, id_, "key", f"`{first}` has this key or name already; one key, one holder"
    for id_, admin in trust.administrators.items():
        first = spiffe_ids.setdefault(admin.spiffe_id, id_)
        if first != id_:
            yield "administrators", id_, "spiffe_id", f"`{first}` has this SPIFFE ID already"
    holders = {
        role: {each.person for each in trust.administrators.values() if role in each.roles} for role in Role
    }
    askers, approvers = holders[Role.REGISTRAR], holders[Role.APPROVER]
    if not any(asker != approver for asker in askers for approver in approvers):
        why = "names no registrar and approver who are two persons, so nothing could ever change"
        yield "administrators", "", "", why


def _place(section: Node, id_: str, member: str) -> Place:
    if not isinstance(section.value, dict) or id_ not in section.value:
        return section.place
    entry = section.value[id_]
    return entry.value[member].place if isinstance(entry.value, dict) else entry.place


def _node(value: object) -> Node:
    """Return plain values as if they had been read from a file."""
    place = Place(_BODY)
    if isinstance(value, dict):
        inner = {str(key): _node(item) for key, item in value.items()}
        return Node(inner, place, dict.fromkeys(inner, place))
    if isinstance(value, list):
        return Node(tuple(_node(item) for item in value), place)
    return Node(value if isinstance(value, str | int | bool) else None, place)
