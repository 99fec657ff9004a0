"""Who may call what: one table, closed, with every method of the API in it."""

from __future__ import annotations

import pytest
from pbac.v1 import audit_pb2, decision_pb2, policy_pb2, registry_pb2, seal_pb2
from support.administration import ROLES as HOLDERS
from support.administration import TRUST, administrator, trust

from policyd.errors import NotPermitted
from policyd.registry.trust import Role
from policyd.service.roles import DATA_SERVICES, ROLES, Roles

SERVICE = "spiffe://policyd.test/data-service/npd-secure"
METHODS = {
    f"/{service.full_name}/{method.name}"
    for file in (audit_pb2, decision_pb2, policy_pb2, registry_pb2, seal_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


def test_every_method_is_for_data_services_or_for_administrators() -> None:
    """No method of the protocol is left out, none is in both tables, and none is for nobody."""
    assert DATA_SERVICES | ROLES.keys() == METHODS
    assert DATA_SERVICES.isdisjoint(ROLES)
    assert all(ROLES.values())


@pytest.mark.parametrize("method", sorted(METHODS))
def test_each_role_may_call_what_the_table_says_and_nothing_else(method: str) -> None:
    """An administrator of each role, and a data service, at each method."""
    roles = Roles(TRUST)
    let_in = set()
    for key, role in HOLDERS.items():
        try:
            roles.permit(method, f"spiffe://policyd.test/admin/{key.name}")
        except NotPermitted:
            continue
        let_in.add(role)

    assert let_in == ROLES.get(method, frozenset())
    if method in DATA_SERVICES:
        roles.permit(method, SERVICE)
    else:
        with pytest.raises(NotPermitted, match="this is for administrators with the role"):
            roles.permit(method, SERVICE)


def test_one_of_several_roles_is_enough() -> None:
    """Who is registrar and auditor may call what either may."""
    roles = Roles(trust(administrator("both-1", Role.REGISTRAR, Role.AUDITOR)))
    caller = "spiffe://policyd.test/admin/both-1"

    roles.permit("/pbac.v1.RegistryService/Apply", caller)
    roles.permit("/pbac.v1.AuditService/GetDecision", caller)
    with pytest.raises(NotPermitted, match=r"role policy-author; `both-1` has auditor, registrar"):
        roles.permit("/pbac.v1.PolicyService/Publish", caller)


def test_a_method_that_is_in_no_table_is_for_nobody() -> None:
    """What a later version adds is closed until somebody says whom it is for."""
    roles = Roles(TRUST)
    for caller in (SERVICE, *(each.spiffe_id for each in TRUST.administrators.values())):
        with pytest.raises(NotPermitted, match="no role that exists"):
            roles.permit("/pbac.v1.RegistryService/Erase", caller)
