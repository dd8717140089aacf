"""`meshwarden bundle`: what SVIDs are verified with."""

import enum
from typing import Annotated

import typer

from meshwarden.cli.ca import authority_service
from meshwarden.cli.options import ConfigFile
from meshwarden.cli.output import FAULT, complain
from meshwarden.cli.remote import RemoteCommand

__all__ = ["app"]

app = typer.Typer(
    name="bundle", help="Hand out what identities are verified with.", no_args_is_help=True
)


class BundleForm(enum.StrEnum):
    """What --format takes."""

    PEM = "pem"
    SPIFFE = "spiffe"
    JWKS = "jwks"
    SHA256 = "sha256"


@app.callback()
def _bundle() -> None:
    """Keep `show` a word of its own: there will be others."""


@app.command("show", cls=RemoteCommand)
def show_bundle(
    form: Annotated[
        BundleForm,
        typer.Option(
            "--format",
            "-f",
            help="pem: the roots. spiffe: roots and keys of tokens, as the standard writes them. "
            "jwks: keys of tokens for who knows JWT and not SPIFFE. sha256: what an agent can be "
            "told to expect.",
        ),
    ] = BundleForm.PEM,
    config: ConfigFile = None,
) -> None:
    """Print the bundle of the trust domain."""
    from ca.bundle import Bundle  # noqa: PLC0415
    from protos.meshwarden.v1 import authority_pb2  # noqa: PLC0415

    with authority_service(config) as service:
        told = service.GetBundle(authority_pb2.GetBundleRequest())
    bundle = Bundle(
        told.trust_domain,
        tuple(told.x509_authorities),
        told.jwks,
        told.sequence,
        told.refresh_hint_s,
    )
    if form is BundleForm.PEM and not bundle.x509_authorities:
        complain(
            "there is no root yet: 'meshwarden ca csr' asks for a certificate under one, "
            "'meshwarden ca import' brings both"
        )
        raise typer.Exit(FAULT)
    match form:
        case BundleForm.PEM:
            typer.echo(bundle.to_pem(), nl=False)
        case BundleForm.SPIFFE:
            typer.echo(bundle.to_spiffe().decode())
        case BundleForm.JWKS:
            typer.echo(bundle.to_jwks().decode())
        case BundleForm.SHA256:
            typer.echo(bundle.sha256)
