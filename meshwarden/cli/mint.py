"""`meshwarden x509 mint` and `jwt mint`: an SVID for an ID of the operator's choice."""

from pathlib import Path
from typing import Annotated

import typer

from meshwarden.cli.ca import authority_service
from meshwarden.cli.durations import age, lifetime_s
from meshwarden.cli.options import ConfigFile, Output
from meshwarden.cli.output import FAULT, Form, complain, show, show_data
from meshwarden.cli.policy_history import time_text
from meshwarden.cli.remote import RemoteCommand
from meshwarden.files import replace_file

__all__ = ["jwt", "x509"]

_SECOND_NS = 1_000_000_000

x509 = typer.Typer(name="x509", help="Certificates by hand.", no_args_is_help=True)
jwt = typer.Typer(name="jwt", help="Tokens by hand.", no_args_is_help=True)

SpiffeId = Annotated[
    str, typer.Argument(metavar="SPIFFE_ID", help="Such as spiffe://mesh.example/ns/shop/sa/web.")
]
Ttl = Annotated[
    int | None,
    typer.Option(
        metavar="TIME", parser=lifetime_s, help="How long it holds, such as 30m; else as settings."
    ),
]


@x509.callback()
def _x509() -> None:
    """Keep `mint` a word of its own: there may be others."""


@jwt.callback()
def _jwt() -> None:
    """Likewise."""


@x509.command("mint", cls=RemoteCommand)
def mint_x509(  # noqa: PLR0913, PLR0917 - each is an option
    spiffe_id: SpiffeId,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--to",
            metavar="FOLDER",
            help="Make a key here and write svid.pem, svid.key (mode 0600) and bundle.pem.",
        ),
    ] = None,
    csr: Annotated[
        Path | None,
        typer.Option("--csr", metavar="FILE", help="For the key of this request, PEM; printed."),
    ] = None,
    dns: Annotated[
        list[str] | None,
        typer.Option("--dns", metavar="NAME", help="DNS name or IP address; may be repeated."),
    ] = None,
    ttl: Ttl = None,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Have a certificate signed. It is on the ledger like any other."""
    if (folder is None) == (csr is None):
        complain("say either --to FOLDER or --csr FILE")
        raise typer.Exit(FAULT)
    from ca.local_keys import new_request  # noqa: PLC0415
    from meshwarden.pem import certificates_pem  # noqa: PLC0415
    from protos.meshwarden.v1 import authority_pb2  # noqa: PLC0415

    key, request = b"", b"" if csr is None else _request_of(csr)
    with authority_service(config) as service:
        if csr is None:
            key, request = new_request()
        svid = service.MintX509(
            authority_pb2.MintX509Request(
                spiffe_id=spiffe_id, csr=request, ttl_s=ttl or 0, dns_names=dns or ()
            )
        )
        bundle = service.GetBundle(authority_pb2.GetBundleRequest())
    _tell_if_shorter(ttl, svid.not_after_ns - svid.not_before_ns, "identity.max_x509_ttl_s")
    chain = certificates_pem(svid.chain)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / "svid.key", key, durable=False)
        (folder / "svid.pem").write_text(chain)
        (folder / "bundle.pem").write_text(certificates_pem(bundle.x509_authorities))
    told = {
        "spiffe_id": svid.spiffe_id,
        "not_before_ns": svid.not_before_ns,
        "not_after_ns": svid.not_after_ns,
    }
    if output.is_data:
        written = {"folder": str(folder)} if folder is not None else {"chain": chain}
        show_data({**told, **written}, output)
    elif folder is None:
        typer.echo(chain, nl=False)
    else:
        show(f"{svid.spiffe_id} in {folder}, until {time_text(svid.not_after_ns)}")


@jwt.command("mint", cls=RemoteCommand)
def mint_jwt(
    spiffe_id: SpiffeId,
    audience: Annotated[
        list[str],
        typer.Option(
            "--audience", "-a", metavar="TEXT", help="Who shall accept it; best only one."
        ),
    ],
    ttl: Ttl = None,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Have a token signed, and print it. It is on the ledger; the token itself is nowhere."""
    from protos.meshwarden.v1 import authority_pb2  # noqa: PLC0415

    request = authority_pb2.MintJwtRequest(spiffe_id=spiffe_id, audiences=audience, ttl_s=ttl or 0)
    with authority_service(config) as service:
        made = service.MintJwt(request)
    _tell_if_shorter(ttl, made.expires_ns - made.issued_ns, "identity.max_jwt_ttl_s")
    if output.is_data:
        show_data(
            {
                "spiffe_id": made.spiffe_id,
                "token": made.token,
                "issued_ns": made.issued_ns,
                "expires_ns": made.expires_ns,
            },
            output,
        )
    else:
        typer.echo(made.token)


def _request_of(path: Path) -> bytes:
    from ca.errors import CsrError  # noqa: PLC0415
    from ca.local_keys import request_der  # noqa: PLC0415

    try:
        return request_der(path.read_bytes())
    except CsrError as error:
        complain(f"{path}: {error}")
        raise typer.Exit(FAULT) from None


def _tell_if_shorter(asked_s: int | None, given_ns: int, setting: str) -> None:
    """Say on stderr that something holds for less time than was asked for."""
    if asked_s and given_ns < asked_s * _SECOND_NS:
        complain(
            f"it holds for {age(given_ns / _SECOND_NS)} and not for the {age(asked_s)} that were "
            f"asked for: {setting}, or what signs it, gives no more"
        )
