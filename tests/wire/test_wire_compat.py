"""Envoy and we mean the same bytes."""

from pathlib import Path

import pytest

from tests.wire.compare import differences
from tests.wire.describe import Declared, declared
from tests.wire.oracle import CLIENTS, declared_by_oracle

PROTOS = Path(__file__).resolve().parents[2] / "protos"

# A field left out of these is a fact about a request, or a power over it, that we could not use.
WHOLE = frozenset(
    f"envoy.service.auth.v3.{name}"
    for name in (
        "AttributeContext",
        "AttributeContext.HttpRequest",
        "AttributeContext.Peer",
        "AttributeContext.Request",
        "AttributeContext.TLSSession",
        "Authorization",
        "CheckRequest",
        "CheckResponse",
        "DeniedHttpResponse",
        "OkHttpResponse",
    )
)


def ours() -> tuple[list[str], Declared]:
    """Envoy's names for our modules of its messages, and what those declare."""
    modules = [
        source.relative_to(PROTOS).as_posix().replace(".proto", "_pb2").replace("/", ".")
        for source in sorted(PROTOS.glob("envoy/**/*.proto"))
    ]
    found: Declared = {}
    for module in modules:
        found.update(declared(f"protos.{module}"))
    return modules, found


# The first run installs the oracle.
@pytest.mark.timeout(600)
def test_every_envoy_message_of_ours_is_envoys() -> None:
    """Each field, enum value and method of ours is in xds-protos with the same facts."""
    modules, mine = ours()
    assert mine.keys() >= WHOLE
    assert differences(mine, declared_by_oracle(modules), WHOLE) == []


@pytest.mark.timeout(600)
def test_the_workload_api_is_spiffes() -> None:
    """Each field and method of ours is in a SPIFFE client with the same facts, and whole."""
    mine = declared("protos.spiffe.workload.workload_pb2")
    theirs = declared_by_oracle(["spiffe._proto.workload_pb2"], CLIENTS)
    assert differences(mine, theirs, frozenset(mine)) == []
