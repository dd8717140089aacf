"""One machine, one command: the service with an agent of its own."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.support.agent import TRUST_DOMAIN, create_entry, served
from tests.e2e.support.clients import send
from tests.e2e.support.instance import Place
from tests.e2e.support.service import service_port

POLICY = {"policy.csv": "p, *, *, *, /**, allow\n"}
AGENT = f"spiffe://{TRUST_DOMAIN}/meshwarden/agent/embedded/local"


def embedded(folder: Path, **settings: object) -> Place:
    """Choose a place for a service with an embedded agent; its port is plain text."""
    return Place(
        folder,
        POLICY,
        {
            "identity.trust_domain": TRUST_DOMAIN,
            "identity.key_file": str(folder / "sealing.key"),
            "server.embedded_agent": True,
            **settings,
        },
    )


@pytest.mark.parametrize("transport", ["auto", "grpcio"])
def test_workloads_get_identities_without_a_token(
    new_folder: Callable[[], Path], transport: str
) -> None:
    """With fronts and without; the agent is part of the service, and has metrics of its own."""
    port = service_port()
    settings = {"server.transport": transport, "agent.metrics": f"127.0.0.1:{port}"}
    place = embedded(new_folder(), **settings, **{"server.embedded_agent": False})
    path = place.folder / "run-agent" / "api.sock"
    with place.start("--embedded-agent") as instance:
        instance.wait_ready()
        create_entry(place, AGENT, "web", f"unix:uid:{os.getuid()}")
        before = served(path, timeout_s=30).svids[0]
        assert before.spiffe_id == f"spiffe://{TRUST_DOMAIN}/web"
        # The status is a file, written a moment after what it tells.
        instance.wait_for(lambda: place.command("agent", "status").returncode == 0)
        assert AGENT in place.command("agent", "status", "-o", "json").stdout
        told = send(port, path="/metrics").body.decode()
        assert "meshwarden_agent_connected 1.0\n" in told
        assert 'meshwarden_agent_svids{kind="x509"} 1.0\n' in told
        assert "meshwarden_checks" not in told
    assert not path.exists()


def test_an_agent_that_starts_again_serves_what_it_had(new_folder: Callable[[], Path]) -> None:
    """Promise 16: the embedded one keeps valid SVIDs as well."""
    place = embedded(new_folder())
    path = place.folder / "run-agent" / "api.sock"
    with place.start() as instance:
        instance.wait_ready()
        create_entry(place, AGENT, "web", f"unix:uid:{os.getuid()}")
        before = served(path, timeout_s=30).svids[0].x509_svid
        (kept,) = place.folder.rglob("agent/identities")
        instance.wait_for(lambda: before[:200] in kept.read_bytes())
    with place.start() as instance:
        instance.wait_ready()
        assert served(path, timeout_s=30).svids[0].x509_svid == before


def test_a_socket_that_can_not_be_made_fails_the_whole_start(
    new_folder: Callable[[], Path],
) -> None:
    """Loudly: a service that quietly gives no identities is none."""
    folder = new_folder()
    (folder / "taken").write_text("")
    place = embedded(folder, **{"agent.socket": str(folder / "taken")})
    with place.start() as instance:
        assert instance.ended(60) == 2
        assert "agent.socket" in instance.said()


def test_without_a_trust_domain_there_is_nothing_to_embed(
    new_folder: Callable[[], Path],
) -> None:
    """A setting that would do nothing is a fault."""
    place = embedded(new_folder(), **{"identity.trust_domain": ""})
    with place.start() as instance:
        assert instance.ended(60) == 2
        assert "server.embedded_agent" in instance.said()
