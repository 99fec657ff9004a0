"""Decides whether the signatures under a change carry it: who may ask for what, and when it takes two."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from policyd.errors import ApprovalMissing, NotAuthorised, StateConflict
from policyd.model import Registry
from policyd.registry.draft import MAX_SIGNATURES, ChangeKind, Content, Draft, Proposal, names_in
from policyd.registry.history import History, Name
from policyd.registry.reach import gives_more
from policyd.registry.trust import Administrator, Role, Trust

ASKS: Mapping[ChangeKind, Role] = MappingProxyType(
    {
        ChangeKind.REGISTRY: Role.REGISTRAR,
        ChangeKind.SEAL: Role.SEALING_OFFICER,
        ChangeKind.LIFT: Role.SEALING_OFFICER,
        ChangeKind.ACTIVATION: Role.POLICY_AUTHOR,
        ChangeKind.TRUST: Role.REGISTRAR,
    }
)
"""The role that asking for each kind of change takes."""


def authorise(
    proposal: Proposal, *, content: Content, registry: Registry, trust: Trust | None, history: History
) -> None:
    """Return if the signatures under `proposal` carry it, on a state of these parts; raise if not.

    ``content`` is what `read_body` gave. Each signature is verified once. Every node calls this before it
    applies a change, so it depends on nothing but its arguments.

    Raises:
        StateConflict: the id was used before, or what the change names has changed since it was planned.
        ApprovalMissing: it takes the signature of one more person.
        NotAuthorised: a signature does not hold, or those who signed may not do this.
    """
    check_plan(proposal.draft, content=content, history=history)
    if isinstance(content, Trust):
        _authorise_trust(proposal, old=trust, new=content)
        return
    if trust is None:
        raise NotAuthorised("the first change of a state puts a trust document in force")
    asker, others = _people(proposal, trust)
    _check_asker(proposal.draft, asker)
    wanted = _other_roles(content, asker)
    _check_others(asker, others, wanted=wanted)
    held = {role for each in others for role in each.roles}
    for role in sorted(wanted - held):
        raise ApprovalMissing(f"it holds seals, which takes the signature of a {role.value}, too")
    reason = next(gives_more(registry, content), None)
    if reason is not None and Role.APPROVER not in held:
        raise ApprovalMissing(f"{reason}: this takes a second person, who is an {Role.APPROVER.value}")


def check_plan(draft: Draft, *, content: Content, history: History) -> None:
    """Return if a change with a new id, planned on a state that still holds, is what `draft` is.

    Raises:
        StateConflict: its id was used, or what it names has changed since it was planned.
    """
    if history.used(draft.change_id):
        raise StateConflict(f"change id `{draft.change_id}` was used before; plan the change again")
    missed = history.since(draft.planned_on)
    if missed is None:
        raise StateConflict("it was planned on a state that is unknown here or too long ago; plan it again")
    names = names_in(content)
    # A trust document vouches for the whole history before it, so nothing may slip in between.
    for link in missed:
        if names is None or link.names is None or names & link.names:
            named = _shown(names, link.names)
            raise StateConflict(f"{named} changed since it was planned; plan it again")


def _shown(names: frozenset[Name] | None, others: frozenset[Name] | None) -> str:
    if names is None or others is None:
        return "the state"
    section, id_ = min(names & others)
    return f"`{id_}` in {section}" if id_ else f"the {section}"


def _authorise_trust(proposal: Proposal, *, old: Trust | None, new: Trust) -> None:
    """A trust document needs two people of the one before it, and two of its own."""
    documents = [("new", new)] if old is None else [("present", old), ("new", new)]
    keys = _verified(proposal, [trust for _, trust in documents])
    asker = documents[0][1].administrator(keys[0])
    if asker is None:
        raise NotAuthorised(f"key `{keys[0]}` asks, but is none of the {documents[0][0]} trust document's")
    _check_asker(proposal.draft, asker)
    for key in keys:
        roles = {role for _, trust in documents for role in _roles(trust.administrator(key))}
        if not roles & {Role.REGISTRAR, Role.APPROVER}:
            raise NotAuthorised(f"key `{key}` is neither a registrar's nor an approver's")
    for name, trust in documents:
        signed = [each for each in map(trust.administrator, keys) if each is not None]
        askers = {each.person for each in signed if Role.REGISTRAR in each.roles}
        approvers = {each.person for each in signed if Role.APPROVER in each.roles}
        if not any(one != other for one in askers for other in approvers):
            raise ApprovalMissing(
                f"a trust document takes a registrar and an approver of the {name} one, two persons"
            )


def _people(proposal: Proposal, trust: Trust) -> tuple[Administrator, list[Administrator]]:
    signed = map(trust.administrator, _verified(proposal, [trust]))
    asker, *others = [each for each in signed if each is not None]
    return asker, others


def _verified(proposal: Proposal, trusts: Sequence[Trust]) -> list[str]:
    """Return the ids of the keys that signed, the asker's first, every signature verified.

    Raises:
        NotAuthorised: there is none, one does not hold, one is of no administrator, or a key signed twice.
    """
    if not 0 < len(proposal.signatures) <= MAX_SIGNATURES:
        raise NotAuthorised(f"it bears {len(proposal.signatures)} signatures, not 1 to {MAX_SIGNATURES}")
    request = proposal.draft.request
    found: list[str] = []
    for each in proposal.signatures:
        holders = [trust.administrator(each.key_id) for trust in trusts]
        keys = {holder.key for holder in holders if holder is not None}
        if len(keys) != 1:
            raise NotAuthorised(f"key `{each.key_id}` belongs to no administrator")
        if each.key_id in found:
            raise NotAuthorised(f"key `{each.key_id}` signed it twice")
        (public,) = keys
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(each.signature, request)
        except (InvalidSignature, ValueError):
            raise NotAuthorised(f"the signature of key `{each.key_id}` is not over this change") from None
        found.append(each.key_id)
    return found


def _check_asker(draft: Draft, asker: Administrator) -> None:
    if asker.id != draft.who:
        raise NotAuthorised(f"`{draft.who}` asks, but the first signature is that of `{asker.id}`")
    if ASKS[draft.kind] not in asker.roles:
        raise NotAuthorised(
            f"`{asker.id}` may not ask for a change of kind {draft.kind.value}:"
            f" this takes the role {ASKS[draft.kind].value}"
        )


def _other_roles(content: Content, asker: Administrator) -> frozenset[Role]:
    """Return the roles that must be among the signers beside the asker's own."""
    sealing = isinstance(content, Registry) and bool(content.seals)
    return frozenset({Role.SEALING_OFFICER} if sealing else ()) - asker.roles


def _check_others(asker: Administrator, others: Iterable[Administrator], *, wanted: frozenset[Role]) -> None:
    seen = {asker.person: asker.id}
    for each in others:
        if each.person in seen:
            raise NotAuthorised(
                f"`{seen[each.person]}` and `{each.id}` are one person; nobody approves a change of their own"
            )
        seen[each.person] = each.id
        if not each.roles & (wanted | {Role.APPROVER}):
            raise NotAuthorised(f"`{each.id}` signed it, but is no {Role.APPROVER.value}")


def _roles(administrator: Administrator | None) -> frozenset[Role]:
    return frozenset() if administrator is None else administrator.roles
