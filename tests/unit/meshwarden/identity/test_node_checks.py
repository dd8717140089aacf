"""What settings of [identity.nodes] are refused together."""

from pathlib import Path
from typing import Any

from meshwarden.node_checks import node_faults
from meshwarden.settings import Identity, Runtime, Settings
from meshwarden.settings.nodes import Nodes

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
