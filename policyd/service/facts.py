"""What `decide` read for one question, as the bytes that a detail seals, and back (docs/ledger.md)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from policyd import canonical
from policyd.canonical import canonical_json, decode_mask, encode_mask
from policyd.decision.accreditation import supervisors
from policyd.decision.snapshot import Snapshot, build_snapshot
from policyd.errors import LedgerCorrupt
from policyd.model import (
    NO_VISAS,
    Accreditation,
    AccreditationLevel,
    Action,
    Agreement,
    Claimed,
    DataService,
    FieldMask,
    Instant,
    Organisation,
    Registry,
    Request,
    Requester,
    Token,
    Verified,
    VisaAccreditation,
    VisaProject,
    Visas,
)
from policyd.policy.policyset import PolicySet
from policyd.registry.entry import from_dict, to_dict

LISTING = "ListFields"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Question:
    """One question as it was read and verified; ``rpc`` is Check, Explain or ListFields.

    ``token_digest`` is of the token as sent, whether or not it held. ``table`` is of ListFields alone,
    ``record_tokens`` and ``want_receipt`` of the others.
    """

    rpc: str
    request: Request
    token_digest: bytes
    at_least_epoch: int
    record_tokens: tuple[bytes, ...] = ()
    want_receipt: bool = False
    table: str = ""

    @property
    def digest(self) -> bytes:
        """The digest that binds a record to the question (docs/digests.md)."""
        if self.rpc == LISTING:
            return canonical.listing_digest(
                self.request.claimed, self.token_digest, table=self.table, at_least_epoch=self.at_least_epoch
            )
        return canonical.request_digest(
            self.request.claimed,
            self.token_digest,
            record_tokens=self.record_tokens,
            want_receipt=self.want_receipt,
            at_least_epoch=self.at_least_epoch,
        )


@dataclass(frozen=True, slots=True)
class Detail:
    """What a detail says: the question, when it was asked, and the facts, still as bytes."""

    question: Question
    at: Instant
    policy_digest: str
    policy_version: int
    facts: bytes


class _Found:
    """Registry entries that are still being gathered."""

    def __init__(self) -> None:
        self.organisations: dict[str, Organisation] = {}
        self.requesters: dict[str, Requester] = {}
        self.accreditations: dict[str, Accreditation] = {}
        self.data_services: dict[str, DataService] = {}
        self.agreements: dict[str, Agreement] = {}

    @property
    def registry(self) -> Registry:
        """All of them."""
        return Registry(
            self.organisations, self.requesters, self.accreditations, self.data_services, self.agreements
        )


def facts_of(snapshot: Snapshot, request: Request) -> bytes:
    """Return the facts that a decision on `request` read: the same for every question of one kind.

    Of the registry only the entries that were looked at, and of the agreement not who else is in it.
    """
    verified, claimed = request.verified, request.claimed
    found = _Found()
    agreed: FieldMask = 0
    service = snapshot.services.get(verified.spiffe_id)
    if service is not None:
        found.data_services[service.id] = service
        operator = snapshot.organisations.get(service.organisation)
        if operator is not None:
            found.organisations[operator.id] = operator
    requester = _requester(snapshot, verified) if service is not None else None
    if service is not None and requester is not None:
        _add_person(snapshot, requester, found, visas=verified.token.visas if verified.token else NO_VISAS)
        compiled = snapshot.agreements.get(claimed.agreement)
        if compiled is not None:
            agreement = compiled.agreement
            agreed = compiled.fields
            found.agreements[agreement.id] = replace(
                agreement,
                requesters=agreement.requesters & {requester.id},
                data_services=agreement.data_services & {service.id},
                fields=frozenset(),  # as bits beside it
            )
    document = {
        "v": _VERSION,
        "epoch": snapshot.epoch,
        "policy_digest": snapshot.policy.digest,
        "policy_version": snapshot.policy.version,
        "registry": to_dict(found.registry),
        "agreement_fields": encode_mask(agreed),
    }
    return canonical_json(document)


def _requester(snapshot: Snapshot, verified: Verified) -> Requester | None:
    token = verified.token
    return None if token is None else snapshot.requesters.get((token.issuer, token.subject))


def _add_person(snapshot: Snapshot, requester: Requester, found: _Found, *, visas: Visas) -> None:
    """Add a requester with organisation and accreditations, and as much of those who supervise them."""
    found.requesters[requester.id] = requester
    organisation = snapshot.organisations.get(requester.organisation)
    if organisation is not None:
        found.organisations[organisation.id] = organisation
    for record in snapshot.accreditations.get(requester.id, ()):
        found.accreditations[record.id] = record
    for name in supervisors(snapshot, requester, visas=visas):
        supervisor = snapshot.requesters_by_id.get(name)
        if supervisor is not None:
            found.requesters[supervisor.id] = supervisor
        others: tuple[Accreditation, ...] = snapshot.accreditations.get(name, ())
        found.accreditations.update({other.id: other for other in others})


def write_detail(facts: bytes, question: Question, at: Instant) -> bytes:
    """Return the bytes to seal: two lines of canonical JSON, the facts and the question."""
    claimed, verified = question.request.claimed, question.request.verified
    token: dict[str, object] = {"digest": question.token_digest.hex()}
    if verified.token is None:
        token["error"] = str(verified.token_error)  # an enumerated word has no JSON form
    else:
        token |= {
            "issuer": verified.token.issuer,
            "subject": verified.token.subject,
            "expires_at": verified.token.expires_at,
            "roles": sorted(verified.token.roles),
        }
        if verified.token.visas != NO_VISAS:
            token["visas"] = _write_visas(verified.token.visas)
    document = {
        "v": _VERSION,
        "rpc": question.rpc,
        "at": at,
        "request_id": claimed.request_id,
        "agreement": claimed.agreement,
        "purposes": claimed.purposes,
        "action": claimed.action.value,
        "fields": claimed.fields,
        "used_fields": claimed.used_fields,
        "years": claimed.years,
        "spiffe_id": verified.spiffe_id,
        "token": token,
        "at_least_epoch": question.at_least_epoch,
        "record_tokens": [each.hex() for each in question.record_tokens],
        "want_receipt": question.want_receipt,
        "table": question.table,
    }
    return facts + b"\n" + canonical_json(document)


def read_detail(plain: bytes) -> Detail:
    """Read what `write_detail` wrote.

    Raises:
        LedgerCorrupt: it is nothing that this program writes.
    """
    facts, _, asked = plain.partition(b"\n")
    try:
        document, known = json.loads(asked), json.loads(facts)
        if (document["v"], known["v"]) != (_VERSION, _VERSION):
            raise ValueError("another version")
        return Detail(
            question=_question(document),
            at=document["at"],
            policy_digest=known["policy_digest"],
            policy_version=known["policy_version"],
            facts=facts,
        )
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise LedgerCorrupt(f"the detail cannot be read: {error}") from None


def registry_in(facts: bytes) -> Registry:
    """Return the registry entries that a detail's facts hold; agreements are without their fields.

    Raises:
        LedgerCorrupt: they are nothing that this program writes.
    """
    try:
        return from_dict(json.loads(facts)["registry"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise LedgerCorrupt(f"the facts of the detail cannot be read: {error}") from None


def snapshot_of(facts: bytes, policy: PolicySet) -> Snapshot:
    """Return the snapshot that gives the decisions that the whole one gave; `policy` is that of the facts.

    Raises:
        LedgerCorrupt: the facts are nothing that this program writes.
    """
    registry = registry_in(facts)
    try:
        known = json.loads(facts)
        agreed = frozenset(policy.index.names(decode_mask(known["agreement_fields"])))
        version, epoch = int(known["policy_version"]), int(known["epoch"])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise LedgerCorrupt(f"the facts of the detail cannot be read: {error}") from None
    agreements = {id_: replace(each, fields=agreed) for id_, each in registry.agreements.items()}
    whole = replace(registry, agreements=agreements)
    return build_snapshot(replace(policy, version=version), whole, epoch=epoch)


def _write_visas(visas: Visas) -> dict[str, object]:
    return {
        "accreditations": [
            {
                "scheme": each.scheme,
                "level": each.level.value,
                "organisation": each.organisation,
                "from_at": each.from_at,
                "until_at": each.until_at,
                "source": each.source,
                "supervisor": list(each.supervisor) if each.supervisor else [],
            }
            for each in visas.accreditations
        ],
        "projects": [
            {
                "agreement": each.agreement,
                "from_at": each.from_at,
                "until_at": each.until_at,
                "source": each.source,
            }
            for each in visas.projects
        ],
    }


def _read_visas(document: Mapping[str, Any]) -> Visas:
    return Visas(
        accreditations=tuple(
            VisaAccreditation(
                each["scheme"],
                AccreditationLevel(each["level"]),
                each["organisation"],
                each["from_at"],
                each["until_at"],
                each["source"],
                (each["supervisor"][0], each["supervisor"][1]) if each["supervisor"] else None,
            )
            for each in document["accreditations"]
        ),
        projects=tuple(
            VisaProject(each["agreement"], each["from_at"], each["until_at"], each["source"])
            for each in document["projects"]
        ),
    )


def _question(document: Mapping[str, Any]) -> Question:
    claimed = Claimed(
        request_id=document["request_id"],
        agreement=document["agreement"],
        purposes=tuple(document["purposes"]),
        action=Action(document["action"]),
        fields=tuple(document["fields"]),
        used_fields=tuple(document["used_fields"]),
        years=tuple(document["years"]),
    )
    token = document["token"]
    digest = bytes.fromhex(token["digest"])
    if len(digest) != hashlib.sha256().digest_size:
        raise ValueError("a digest of another length")
    if "error" in token:
        verified = Verified(document["spiffe_id"], None, token["error"])
    else:
        verified = Verified(
            document["spiffe_id"],
            Token(
                token["issuer"],
                token["subject"],
                digest,
                token["expires_at"],
                frozenset(token["roles"]),
                _read_visas(token["visas"]) if "visas" in token else NO_VISAS,
            ),
        )
    return Question(
        rpc=document["rpc"],
        request=Request(claimed, verified),
        token_digest=digest,
        at_least_epoch=document["at_least_epoch"],
        record_tokens=tuple(map(bytes.fromhex, document["record_tokens"])),
        want_receipt=document["want_receipt"],
        table=document["table"],
    )
