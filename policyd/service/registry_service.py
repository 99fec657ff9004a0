"""RegistryService: administrators read the registry, and bring changes that are signed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import grpc
from pbac.v1 import registry_pb2 as pb
from pbac.v1 import registry_pb2_grpc

from policyd.errors import InvalidRequest, NotFound, NotPermitted
from policyd.interceptors.call import call_of
from policyd.model import Registry, Status
from policyd.registry.change import State
from policyd.registry.check import RegistryError
from policyd.registry.draft import Proposal, read_body
from policyd.registry.entry import Entry, Section, entries
from policyd.registry.reach import gives_more
from policyd.registry.state import Effect, plan
from policyd.registry.store import StateStore
from policyd.service.change_wire import read_change, write_differences, write_faults
from policyd.service.changing import Changer, Made, Progress
from policyd.service.node import Node
from policyd.service.registry_list import Listings
from policyd.service.registry_past import entry_at
from policyd.service.registry_wire import KINDS, named_in, read_entries, write_entry
from policyd.service.roles import Roles

_STATE = {
    Progress.AWAITING_APPROVAL: pb.CHANGE_STATE_AWAITING_APPROVAL,
    Progress.PENDING: pb.CHANGE_STATE_PENDING,
    Progress.IN_FORCE: pb.CHANGE_STATE_IN_FORCE,
}


class RegistryServicer(registry_pb2_grpc.RegistryServiceServicer):
    """Apply, Get, List and Suspend. Which roles may call them stands in `policyd.service.roles`."""

    def __init__(self, node: Node, store: StateStore, changer: Changer, roles: Roles) -> None:
        self._node = node
        self._store = store
        self._changer = changer
        self._roles = roles
        self._listings = Listings()

    def Apply(self, request: pb.ApplyRequest, context: grpc.ServicerContext) -> pb.ApplyResponse:  # noqa: N802
        """Make a change of entries, or say what it would change."""
        timeout_s = context.time_remaining()
        state = self._node.current.state
        # What was made before is not judged again: the registry may have changed since.
        again = not request.dry_run and state.history.used(request.change.change_id)
        content, problems = read_entries(request.entries, base=None if again else state.registry)
        if problems:
            return pb.ApplyResponse(state=pb.CHANGE_STATE_REFUSED, problems=problems)
        proposal = None if request.dry_run else self._signed(request.change, content, context)
        if proposal is not None and again:
            return _applied(self._changer.make(proposal, content, timeout_s=timeout_s))
        found = plan(state.registry, content)
        answer = pb.ApplyResponse(
            differences=write_differences(found, named_in(request.entries)),
            needs_two_people=next(gives_more(state.registry, content), None) is not None,
        )
        if proposal is None:
            answer.state, answer.chain_hash = pb.CHANGE_STATE_PLANNED, state.chain_hash
            return answer
        if all(each.effect is Effect.UNCHANGED for each in found):
            answer.state = pb.CHANGE_STATE_REFUSED
            answer.problems.add(message="every entry is registered as it was sent, so nothing would change")
            return answer
        try:
            made = self._changer.make(proposal, content, timeout_s=timeout_s)
        except RegistryError as error:
            # Others changed the registry between the check above and this.
            answer.state = pb.CHANGE_STATE_REFUSED
            answer.problems.extend(write_faults(error.faults))
            return answer
        answer.MergeFrom(_applied(made))
        return answer

    def Get(self, request: pb.GetRequest, context: grpc.ServicerContext) -> pb.GetResponse:  # noqa: N802
        """Return one entry, of now or of an epoch."""
        state = self._node.current.state
        section = _section(request.kind)
        epoch = request.epoch or state.epoch
        if epoch > state.epoch:
            raise NotFound(f"this node is at epoch {state.epoch}; there is no {epoch} here yet")
        found = entry_at(self._store, section, request.id, epoch=epoch, state=state)
        if found is None:
            when = f" at epoch {epoch}" if request.epoch else ""
            raise NotFound(f"there is no {section.noun} of this id{when}")
        entry, changed_at = found
        return pb.GetResponse(entry=write_entry(entry), epoch=epoch, changed_at_epoch=changed_at)

    def List(self, request: pb.ListRequest, context: grpc.ServicerContext) -> pb.ListResponse:  # noqa: N802
        """Return a page of entries of one kind."""
        return self._listings.page(request, self._node.current.state)

    def Suspend(self, request: pb.SuspendRequest, context: grpc.ServicerContext) -> pb.SuspendResponse:  # noqa: N802
        """Take one entry out of use."""
        timeout_s = context.time_remaining()
        state = self._node.current.state
        section = _section(request.kind)
        entry = section.of(state.registry).get(request.id)
        if entry is None:
            raise NotFound(f"there is no {section.noun} of this id")
        change, again = suspension(section, entry), state.history.used(request.change.change_id)
        if again:
            # What was made before is not judged again: the entry may have changed since.
            change = self._made(request, section) or change
        proposal = self._signed(request.change, change, context)
        if section.of(change)[request.id] == entry and not again:
            return self._suspended_already(section, request.id, state)
        made = self._changer.make(proposal, change, timeout_s=timeout_s)
        return pb.SuspendResponse(
            state=_STATE[made.progress],
            epoch=made.epoch,
            chain_hash=made.chain_hash,
            receipt=made.receipt,
            waiting_for=made.waiting_for,
        )

    def _made(self, request: pb.SuspendRequest, section: Section) -> Registry | None:
        """Return the suspension that was made under the id of this one, if it was of this entry alone."""
        made = self._changer.find(request.change.change_id)
        content = None if made is None else read_body(made.draft)
        if not isinstance(content, Registry):
            return None
        return (
            content if [(each, one.id) for each, one in entries(content)] == [(section, request.id)] else None
        )

    def _suspended_already(self, section: Section, id_: str, state: State) -> pb.SuspendResponse:
        found = entry_at(self._store, section, id_, epoch=state.epoch, state=state)
        if found is None:
            raise AssertionError("an entry that is there was put there by a change")
        made = self._changer.reached(found[1])
        return pb.SuspendResponse(
            state=_STATE[made.progress],
            epoch=made.epoch,
            chain_hash=made.chain_hash,
            waiting_for=made.waiting_for,
        )

    def _signed(self, change: pb.Change, content: Registry, context: grpc.ServicerContext) -> Proposal:
        """Return the change that a caller brings.

        Raises:
            InvalidRequest: it is not one that anybody could have signed.
            NotPermitted: the caller did not sign it.
        """
        proposal = read_change(change, content)
        admin = self._roles.administrator(call_of(context).spiffe_id)
        if admin is None or admin.key_id not in {each.key_id for each in proposal.signatures}:
            # SECURITY: a signature alone is not enough, or whoever sees one on its way could choose when
            # it takes effect (test_a_change_is_brought_by_one_of_its_signers).
            raise NotPermitted("the caller is none of those who signed: send it with your own certificate")
        return proposal


def suspension(section: Section, entry: Entry) -> Registry:
    """Return the change that takes an entry out of use and leaves all else of it as it is."""
    stopped = cast("Any", replace)(entry, status=Status.SUSPENDED)
    return Registry(**{section.key: {entry.id: stopped}})


def _applied(made: Made) -> pb.ApplyResponse:
    return pb.ApplyResponse(
        state=_STATE[made.progress],
        epoch=made.epoch,
        chain_hash=made.chain_hash,
        receipt=made.receipt,
        waiting_for=made.waiting_for,
    )


def _section(kind: pb.EntryKind) -> Section:
    section = KINDS.get(kind)
    if section is None:
        raise InvalidRequest("kind must be one of the kinds of entries")
    return section
