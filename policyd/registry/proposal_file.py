"""A proposal as a JSON file: what one person hands to another for a second signature (docs/registry.md)."""

from __future__ import annotations

import json
import re

from policyd.canonical import canonical_json
from policyd.registry.draft import MAX_SIGNATURES, AdminSignature, ChangeKind, Draft, Proposal, read_body

FORMAT = "policyd change proposal, format 2"
ENDING = ".change.json"

_HEX = re.compile(r"(?:[0-9a-f]{2})*", re.ASCII)
_MEMBERS = {"format", "kind", "change_id", "who", "why", "at", "planned_on", "signatures", "body"}


def write_proposal(proposal: Proposal) -> str:
    """Return the text of the file; people can read it, and every byte that was signed follows from it."""
    draft = proposal.draft
    document = {
        "format": FORMAT,
        "kind": draft.kind.value,
        "change_id": draft.change_id,
        "who": draft.who,
        "why": draft.why,
        "at": draft.at,
        "planned_on": draft.planned_on.hex(),
        "signatures": [
            {"key_id": each.key_id, "signature": each.signature.hex()} for each in proposal.signatures
        ],
        "body": json.loads(draft.body),
    }
    return json.dumps(document, indent=2, ensure_ascii=False, sort_keys=False) + "\n"


def parse_proposal(text: str) -> Proposal:
    """Read what `write_proposal` wrote; the signatures are still to be verified.

    Raises:
        ValueError: it is no proposal, or its content is not that of a change.
    """
    try:
        document = json.loads(text)
        body = canonical_json(document.get("body") if isinstance(document, dict) else None)
    except (ValueError, RecursionError):
        raise ValueError("is not JSON that can be signed") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f"is no `{FORMAT}`")
    if document.keys() != _MEMBERS:
        raise ValueError(f"has not exactly the members {', '.join(sorted(_MEMBERS))}")
    for name in ("kind", "change_id", "who", "why", "planned_on"):
        if not isinstance(document[name], str):
            raise ValueError(f"`{name}` must be text")
    if type(document["at"]) is not int:
        raise ValueError("`at` must be an integer")
    if document["kind"] not in set(ChangeKind):
        raise ValueError(f"unknown kind `{document['kind']}`")
    draft = Draft(
        kind=ChangeKind(document["kind"]),
        body=body,
        who=document["who"],
        why=document["why"],
        at=document["at"],
        change_id=document["change_id"],
        planned_on=_bytes(document["planned_on"]),
    )
    read_body(draft)
    signatures = document["signatures"]
    if not isinstance(signatures, list) or len(signatures) > MAX_SIGNATURES:
        raise ValueError(f"`signatures` must be a list of at most {MAX_SIGNATURES}")
    return Proposal(draft, tuple(_signature(each) for each in signatures))


def _signature(value: object) -> AdminSignature:
    if not isinstance(value, dict) or value.keys() != {"key_id", "signature"}:
        raise ValueError("a signature has the members `key_id` and `signature`")
    if not isinstance(value["key_id"], str):
        raise ValueError("`key_id` must be text")
    return AdminSignature(value["key_id"], _bytes(value["signature"]))


def _bytes(value: object) -> bytes:
    if not isinstance(value, str) or _HEX.fullmatch(value) is None:
        raise ValueError("a digest or signature is not lower-case hex digits")
    return bytes.fromhex(value)
