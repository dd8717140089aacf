"""Which role each method asks for, and which services ask for none.

Apart from the code that obeys it: the supervisor, which speaks no gRPC, tells fronts from it which
services a remote caller may reach at all.
"""

from collections.abc import Mapping
from typing import Literal

__all__ = ["GUARDED_SERVICES", "NEEDS", "OPEN_SERVICES", "Role", "needed"]

Role = Literal["viewer", "author", "admin"]

NEEDS: Mapping[str, Role] = {
    "/meshwarden.v1.Access/Me": "viewer",
    "/meshwarden.v1.Access/Members": "viewer",
    "/meshwarden.v1.Access/Grant": "admin",
    "/meshwarden.v1.Access/Revoke": "admin",
    "/meshwarden.v1.Access/Apply": "admin",
    "/meshwarden.v1.Access/Rollback": "admin",
    "/meshwarden.v1.Access/Get": "viewer",
    "/meshwarden.v1.Access/History": "viewer",
    "/meshwarden.v1.Access/CreateToken": "admin",
    "/meshwarden.v1.Access/ListTokens": "viewer",
    "/meshwarden.v1.Access/RevokeToken": "admin",
    "/meshwarden.v1.Admin/Status": "viewer",
    "/meshwarden.v1.Admin/Reload": "author",
    "/meshwarden.v1.Authority/GetBundle": "viewer",
    "/meshwarden.v1.Authority/ImportCertificate": "admin",
    "/meshwarden.v1.Authority/ListIssued": "viewer",
    "/meshwarden.v1.Authority/MintJwt": "admin",
    "/meshwarden.v1.Authority/MintX509": "admin",
    "/meshwarden.v1.Authority/RequestCertificate": "admin",
    "/meshwarden.v1.Authority/Show": "viewer",
    "/meshwarden.v1.Authority/VerifyLedger": "viewer",
    "/meshwarden.v1.Live/Get": "viewer",
    "/meshwarden.v1.Live/Replicas": "viewer",
    "/meshwarden.v1.Policy/Apply": "author",
    "/meshwarden.v1.Policy/Rollback": "author",
    "/meshwarden.v1.Policy/Get": "viewer",
    "/meshwarden.v1.Policy/Diff": "viewer",
    "/meshwarden.v1.Policy/History": "viewer",
    "/meshwarden.v1.Policy/Audit": "viewer",
    "/meshwarden.v1.Registration/CreateJoinToken": "admin",
    "/meshwarden.v1.Registration/DeleteEntries": "admin",
    "/meshwarden.v1.Registration/EvictAgent": "admin",
    "/meshwarden.v1.Registration/ListAgents": "viewer",
    "/meshwarden.v1.Registration/ListEntries": "viewer",
    "/meshwarden.v1.Registration/ListJoinTokens": "viewer",
    "/meshwarden.v1.Registration/PruneAgents": "admin",
    "/meshwarden.v1.Registration/PutEntries": "admin",
    "/meshwarden.v1.Registration/RevokeJoinToken": "admin",
    "/meshwarden.v1.Shadow/Set": "author",
    "/meshwarden.v1.Shadow/Show": "viewer",
    "/meshwarden.v1.Shadow/Stop": "author",
}
"""The least role that a method asks for; one of a guarded service that isn't here needs admin."""

GUARDED_SERVICES = tuple(sorted({method.split("/")[1] for method in NEEDS}))
"""Services that a remote caller reaches where `admin.remote` is on, and only by a role."""

OPEN_SERVICES = frozenset(
    {
        "envoy.service.auth.v3.Authorization",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
        "meshwarden.v1.Agent",
        "meshwarden.v1.Attestation",
        "meshwarden.v1.Identity",
    }
)
"""Services that anybody may call by their nature; every other one is guarded wherever it is."""


def needed(method: str) -> Role:
    """Give the role that a method, as "/package.Service/Method", asks for."""
    return NEEDS.get(method, "admin")
