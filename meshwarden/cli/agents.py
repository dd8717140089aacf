"""`meshwarden agent list` and the like: the agents that the service knows."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from meshwarden import clock
from meshwarden.cli.durations import age, duration_s
from meshwarden.cli.options import ConfigFile, Output
from meshwarden.cli.output import Form, show, show_data, table
from meshwarden.cli.prompts import Yes, confirm
from meshwarden.cli.registration import registration_service, selectors_text
from meshwarden.cli.remote import RemoteCommand

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from protos.meshwarden.v1 import registration_pb2

__all__ = ["add_to"]

_SECOND_NS = 1_000_000_000
AgentId = Annotated[str, typer.Argument(metavar="SPIFFE_ID", help="As 'agent list' tells it.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the group that has the agent itself."""
    app.command("list", cls=RemoteCommand)(list_agents)
    app.command("evict", cls=RemoteCommand)(evict)
    app.command("ban", cls=RemoteCommand)(ban)
    app.command("unban", cls=RemoteCommand)(unban)
    app.command("prune", cls=RemoteCommand)(prune)


def list_agents(config: ConfigFile = None, output: Output = Form.HUMAN) -> None:
    """List agents: how each was believed, and until when its certificate holds."""
    with registration_service(config) as service:
        found = [*_all(service)]
    if output.is_data:
        show_data([_as_dict(each) for each in found], output)
    elif not found:
        show("no agent: 'meshwarden token create' makes a token for one to join with")
    else:
        now_ns = clock.now_ns()
        rows = [
            (
                each.spiffe_id,
                _state(each, now_ns),
                age((now_ns - each.attested_ns) / _SECOND_NS) + " ago",
                ", ".join(selectors_text(each.selectors)),
            )
            for each in found
        ]
        show(table(("agent", "certificate", "attested", "of its node"), rows))


def evict(
    spiffe_id: AgentId,
    yes: Yes = False,  # noqa: FBT002 - an option
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Take an agent's identity away; it may attest again."""
    confirm(f"Evict {spiffe_id}? Its workloads get no new certificates by it.", yes=yes)
    _change(config, spiffe_id, output, "evicted")


def ban(
    spiffe_id: AgentId,
    yes: Yes = False,  # noqa: FBT002 - an option
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Take an agent's identity away, and never let it attest again."""
    confirm(f"Ban {spiffe_id}? Its workloads get no new certificates by it.", yes=yes)
    _change(config, spiffe_id, output, "banned", ban=True)


def unban(spiffe_id: AgentId, config: ConfigFile = None, output: Output = Form.HUMAN) -> None:
    """Let a banned agent attest again; it has to, since none of its certificates is good."""
    _change(config, spiffe_id, output, "unbanned", unban=True)


def prune(
    expired_for: Annotated[
        int,
        typer.Option(
            metavar="AGE",
            parser=duration_s,
            help="Whose certificate expired so long ago or longer, such as 12h, 30d.",
        ),
    ],
    dry_run: Annotated[  # noqa: FBT002 - an option
        bool, typer.Option("--dry-run", help="Say how many there are, and forget none.")
    ] = False,
    yes: Yes = False,  # noqa: FBT002 - an option
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Forget agents that expired long ago, but no banned one.

    A node that is forgotten attests as at first: its last certificate does not let it come back.
    The service forgets by itself those that expired
    identity.nodes.forget_agents_days ago.
    """
    from protos.meshwarden.v1 import registration_pb2  # noqa: PLC0415

    request = registration_pb2.PruneAgentsRequest(expired_for_s=expired_for, dry_run=True)
    with registration_service(config) as service:
        count = service.PruneAgents(request).count
        if count and not dry_run:
            confirm(
                f"Forget {_agents(count)} that expired {age(expired_for)} ago or more?", yes=yes
            )
            request.dry_run = False
            count = service.PruneAgents(request).count
    if output.is_data:
        show_data({"forgotten": count, "dry_run": dry_run}, output)
    else:
        show(f"{_agents(count)} {'would be ' if dry_run else ''}forgotten")


def _agents(count: int) -> str:
    return f"{count} agent" if count == 1 else f"{count} agents"


def _change(config: "Path | None", spiffe_id: str, output: Form, done: str, **how: bool) -> None:
    from protos.meshwarden.v1 import registration_pb2  # noqa: PLC0415

    with registration_service(config) as service:
        service.EvictAgent(registration_pb2.EvictAgentRequest(spiffe_id=spiffe_id, **how))
    if output.is_data:
        show_data({"spiffe_id": spiffe_id, "done": done}, output)
    else:
        show(f"{done} {spiffe_id}")


def _all(service: Any) -> "Iterator[registration_pb2.AgentInfo]":
    from protos.meshwarden.v1 import registration_pb2  # noqa: PLC0415

    after = ""
    while True:
        reply = service.ListAgents(registration_pb2.ListAgentsRequest(after=after))
        yield from reply.agents
        after = reply.next
        if not after:
            return


def _state(agent: "registration_pb2.AgentInfo", now_ns: int) -> str:
    if agent.banned:
        return "banned"
    if not agent.serial:
        return "none: has to attest"
    left_s = (agent.svid_expires_ns - now_ns) / _SECOND_NS
    if left_s > 0:
        return f"good for {age(left_s)}"
    return f"expired {age(-left_s)} ago"


def _as_dict(agent: "registration_pb2.AgentInfo") -> dict[str, object]:
    return {
        "spiffe_id": agent.spiffe_id,
        "attestor": agent.attestor,
        "selectors": selectors_text(agent.selectors),
        "attested_ns": agent.attested_ns,
        "svid_expires_ns": agent.svid_expires_ns,
        "serial": agent.serial,
        "banned": agent.banned,
        "can_reattest": agent.can_reattest,
    }
