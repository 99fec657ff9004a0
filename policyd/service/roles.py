"""Which callers a method is for: data services, or administrators with one of its roles; the one table."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from policyd.errors import NotPermitted
from policyd.registry.trust import Administrator, Role, Trust

_READS_REGISTRY = frozenset({Role.REGISTRAR, Role.APPROVER, Role.AUDITOR, Role.SEALING_OFFICER})
_READS_POLICY = frozenset({Role.POLICY_AUTHOR, Role.APPROVER, Role.AUDITOR})

DATA_SERVICES = frozenset(
    {
        *(
            f"/pbac.v1.DecisionService/{name}"
            for name in ("Check", "BatchCheck", "StreamChecks", "Explain", "ListFields", "ReportRelease")
        ),
        *(f"/pbac.v1.SealService/{name}" for name in ("WatchSeals", "AcknowledgeSeals")),
        *(
            f"/pbac.v1.AuditService/{name}"
            for name in ("GetCheckpoint", "GetInclusionProof", "GetConsistencyProof")
        ),
    }
)
"""Methods for data services; which of them are registered is asked where the method is."""

ROLES: Mapping[str, frozenset[Role]] = MappingProxyType(
    {
        "/pbac.v1.RegistryService/Apply": frozenset({Role.REGISTRAR, Role.APPROVER}),
        "/pbac.v1.RegistryService/Suspend": frozenset({Role.REGISTRAR}),
        "/pbac.v1.RegistryService/Get": _READS_REGISTRY,
        "/pbac.v1.RegistryService/List": _READS_REGISTRY,
        "/pbac.v1.SealService/Seal": frozenset({Role.SEALING_OFFICER}),
        "/pbac.v1.SealService/Lift": frozenset({Role.SEALING_OFFICER, Role.APPROVER}),
        "/pbac.v1.PolicyService/ListVersions": _READS_POLICY,
        "/pbac.v1.PolicyService/GetVersion": _READS_POLICY,
        "/pbac.v1.PolicyService/Publish": frozenset({Role.POLICY_AUTHOR}),
        "/pbac.v1.PolicyService/Approve": frozenset({Role.APPROVER}),
        "/pbac.v1.PolicyService/Activate": frozenset({Role.POLICY_AUTHOR, Role.APPROVER}),
        "/pbac.v1.PolicyService/Simulate": frozenset({Role.POLICY_AUTHOR, Role.APPROVER}),
        "/pbac.v1.AuditService/SearchDecisions": frozenset({Role.AUDITOR}),
        "/pbac.v1.AuditService/GetDecision": frozenset({Role.AUDITOR}),
        "/pbac.v1.AuditService/ReplayDecision": frozenset({Role.AUDITOR}),
        "/pbac.v1.AuditService/StreamRecords": frozenset({Role.AUDITOR}),
    }
)
"""Methods for administrators, each with the roles of which one is enough to call it.

Calling is not doing: what a change takes is decided from its signatures (`policyd.registry.authority`).
"""


class Roles:
    """Who may call what, by the trust document of this node. Immutable.

    A node that has another document than the one in force serves nothing, so this one is in force whenever
    it matters.
    """

    def __init__(self, trust: Trust) -> None:
        self._administrators = {each.spiffe_id: each for each in trust.administrators.values()}

    def administrator(self, spiffe_id: str) -> Administrator | None:
        """Return whose certificate this is, or None."""
        return self._administrators.get(spiffe_id)

    def permit(self, method: str, spiffe_id: str) -> None:
        """Return if this caller may call the method ``/package.Service/Name``.

        Raises:
            NotPermitted: it may not; a method that stands in no table is for nobody.
        """
        admin = self._administrators.get(spiffe_id)
        if method in DATA_SERVICES:
            if admin is not None:
                # SECURITY: who decides on access does not have any by that: one certificate, one job
                # (test_an_administrator_asks_no_questions).
                raise NotPermitted(f"this is for data services, and the certificate is that of `{admin.id}`")
            return
        roles = ROLES.get(method, frozenset())
        wanted = " or ".join(sorted(roles)) or "no role that exists"
        if admin is None:
            raise NotPermitted(f"this is for administrators with the role {wanted}")
        if not roles & admin.roles:
            held = ", ".join(sorted(admin.roles))
            raise NotPermitted(f"this takes the role {wanted}; `{admin.id}` has {held}")
