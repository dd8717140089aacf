"""`meshwarden token`: join tokens, by which a machine's agent attests for the first time."""

from typing import TYPE_CHECKING, Annotated

import typer

from meshwarden import clock
from meshwarden.cli.durations import age, lifetime_s
from meshwarden.cli.options import ConfigFile, Output
from meshwarden.cli.output import Form, complain, show, show_data, table
from meshwarden.cli.policy_history import time_text
from meshwarden.cli.registration import registration_service, selector_messages, selectors_text
from meshwarden.cli.remote import RemoteCommand

if TYPE_CHECKING:
    from protos.meshwarden.v1 import registration_pb2

__all__ = ["app"]

_SECOND_NS = 1_000_000_000

app = typer.Typer(
    name="token", help="Make, list and revoke join tokens of agents.", no_args_is_help=True
)


@app.command(cls=RemoteCommand)
def create(
    ttl: Annotated[
        int | None,
        typer.Option(metavar="AGE", parser=lifetime_s, help="Until it expires; else 10m."),
    ] = None,
    agent_path: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="The agent's SPIFFE ID ends in it; else in the token's id. The same name again "
            "takes that agent's place.",
        ),
    ] = "",
    selector: Annotated[
        list[str] | None,
        typer.Option(
            "--selector", metavar="KIND:VALUE", help="Of its node, as rack:a1; may be repeated."
        ),
    ] = None,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Make a join token, and print it once: on stdout, and nothing else there.

    Put it where only the agent reads: (umask 077; meshwarden token create > join.token)
    """
    from protos.meshwarden.v1 import registration_pb2  # noqa: PLC0415

    request = registration_pb2.CreateJoinTokenRequest(
        ttl_s=ttl or 0, agent_path=agent_path, selectors=selector_messages(selector or ())
    )
    with registration_service(config) as service:
        reply = service.CreateJoinToken(request)
    if output.is_data:
        told = {
            "token": reply.token,
            "id": reply.id,
            "agent_id": reply.agent_id,
            "expires_ns": reply.expires_ns,
        }
        show_data(told, output)
        return
    typer.echo(reply.token)
    complain(f"for {reply.agent_id}; good once, until {time_text(reply.expires_ns)}", prefix="")
    complain("The token is shown this once; only its hash is kept.", prefix="")


@app.command("list", cls=RemoteCommand)
def list_tokens(config: ConfigFile = None, output: Output = Form.HUMAN) -> None:
    """List join tokens, those of the last day included that have ended; never their secrets."""
    from protos.meshwarden.v1 import registration_pb2  # noqa: PLC0415

    with registration_service(config) as service:
        found = service.ListJoinTokens(registration_pb2.ListJoinTokensRequest()).tokens
    if output.is_data:
        show_data([_as_dict(each) for each in found], output)
    elif not found:
        show("no join token: 'meshwarden token create' makes one")
    else:
        now_ns = clock.now_ns()
        rows = [
            (
                each.id,
                _state(each, now_ns),
                time_text(each.created_ns),
                each.agent_id,
                ", ".join(selectors_text(each.selectors)),
            )
            for each in found
        ]
        show(table(("token", "state", "made", "for", "of its node"), rows))


@app.command(cls=RemoteCommand)
def revoke(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="As 'token list' tells it.")],
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Make a join token useless; an agent that has used it stays (see 'agent evict')."""
    from protos.meshwarden.v1 import registration_pb2  # noqa: PLC0415

    with registration_service(config) as service:
        service.RevokeJoinToken(registration_pb2.RevokeJoinTokenRequest(id=token_id))
    if output.is_data:
        show_data({"revoked": token_id}, output)
    else:
        show(f"revoked {token_id}")


def _state(token: "registration_pb2.JoinTokenInfo", now_ns: int) -> str:
    if token.used_ns:
        return f"used {age((now_ns - token.used_ns) / _SECOND_NS)} ago"
    left_s = (token.expires_ns - now_ns) / _SECOND_NS
    if left_s > 0:
        return f"good for {age(left_s)}"
    return f"expired {age(-left_s)} ago"


def _as_dict(token: "registration_pb2.JoinTokenInfo") -> dict[str, object]:
    return {
        "id": token.id,
        "agent_id": token.agent_id,
        "selectors": selectors_text(token.selectors),
        "created_ns": token.created_ns,
        "expires_ns": token.expires_ns,
        "used_ns": token.used_ns,
    }
