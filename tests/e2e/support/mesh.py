"""Who lives in the small mesh that the scenarios share."""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.demo.certificates import Credential
from tests.e2e.support.certificates import CarelessAuthority
from tests.e2e.support.clients import Answer
from tests.e2e.support.service import Service
from tests.e2e.support.sidecar import Sidecar

__all__ = ["Identities", "Mesh", "make_identities"]


@dataclass(frozen=True, slots=True)
class Identities:
    """An authority and the workloads it vouches for: spiffe://mesh.example/ns/shop/sa/NAME.

    `signer` makes more of them.
    """

    authority: Path
    signer: CarelessAuthority
    web: Credential
    batch: Credential
    catalog: Credential


def make_identities(folder: Path) -> Identities:
    """Make certificates with one SPIFFE ID each, in a folder that is there or not."""
    now = dt.datetime.now(dt.UTC)  # noqa: TID251 - certificates are checked by real clocks
    signer = CarelessAuthority(folder, now)
    web, batch, catalog = (
        signer.issue(name, f"spiffe://mesh.example/ns/shop/sa/{name}")
        for name in ("web", "batch", "catalog")
    )
    return Identities(signer.certificate, signer, web, batch, catalog)


@dataclass(frozen=True, slots=True)
class Mesh:
    """A service, the sidecar of `catalog` that asks it, and callers."""

    service: Service
    sidecar: Sidecar
    identities: Identities

    def send(self, inbound: str, method: str, path: str, **kwargs: Any) -> Answer:
        """Send as the workload `web`, unless `credential` says otherwise."""
        kwargs.setdefault("credential", self.identities.web)
        return self.sidecar.send(inbound, method, path, **kwargs)

    def metadata(self, answer: Answer) -> dict[str, Any]:
        """What the sidecar's access log knows of Meshwarden's answer."""
        said = self.sidecar.log_of(answer.request_id)["meshwarden"]
        assert said is not None, "the sidecar got no dynamic metadata"
        return dict(said)
