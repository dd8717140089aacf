"""What settings of [identity.nodes] are refused together."""

from pathlib import Path
from typing import Any

from meshwarden.node_checks import node_faults
from meshwarden.settings import Identity, Runtime, Settings
from meshwarden.settings.nodes import K8sPsat, Nodes

DAY_S = 86_400


def faults(**changes: Any) -> dict[str, str]:
    """Blamed key to message."""
    identity = Identity(trust_domain="mesh.example", nodes=Nodes(**changes))
    runtime = Runtime(state_dir=Path("/var/lib/meshwarden"), runtime_dir=Path("/run/meshwarden"))
    settings = Settings(runtime=runtime, identity=identity)
    return {keys[0]: message for keys, message in node_faults(settings)}


def test_no_agent_is_forgotten_while_its_certificate_lets_it_come_back() -> None:
    """Unless nothing does, or none is ever forgotten."""
    key = "identity.nodes.forget_agents_days"
    assert not faults()
    assert not faults(forget_agents_days=1, reattest_grace_s=DAY_S)
    told = faults(forget_agents_days=1, reattest_grace_s=DAY_S + 1)
    assert "less than the 86401 of reattest_grace_s" in told[key]
    assert not faults(forget_agents_days=0, reattest_grace_s=365 * DAY_S)
    others = ("join_token",)
    assert not faults(forget_agents_days=1, reattest_grace_s=2 * DAY_S, attestors=others)


def test_keys_of_a_cluster_are_an_address_or_a_file_that_is_there(tmp_path: Path) -> None:
    """A path that depends on where the service was started from is neither."""
    file = tmp_path / "jwks"
    file.touch()

    def told(jwks: str) -> str:
        found = faults(
            attestors=("k8s_psat",), k8s_psat=K8sPsat(jwks=jwks, service_accounts=("mesh:agent",))
        )
        return found.get("identity.nodes.k8s_psat.jwks", "")

    assert not told("https://10.0.0.1/openid/v1/jwks")
    assert not told(str(file))
    assert "whole path" in told("jwks")
    assert "http" in told("http://10.0.0.1/openid/v1/jwks")
    assert "is no file" in told(f"{file}2")
