"""`meshwarden ca`: the authorities, what they issued, and the ledger that tells of it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meshwarden import clock
from meshwarden.cli.durations import age
from meshwarden.cli.options import ConfigFile, Output, load_settings
from meshwarden.cli.output import FAULT, Form, complain, show, show_data, styled, table
from meshwarden.cli.policy_history import time_text
from meshwarden.cli.remote import RemoteCommand

if TYPE_CHECKING:
    from rich.tree import Tree

    from protos.meshwarden.v1 import authority_pb2
    from protos.meshwarden.v1.authority_pb2_grpc import AuthorityStub

__all__ = ["app", "authority_service"]

app = typer.Typer(name="ca", help="Look after the certificate authority.", no_args_is_help=True)
ledger = typer.Typer(name="ledger", help="Prove what was issued.", no_args_is_help=True)
app.add_typer(ledger)

_ID_SHOWN = 16
_SIGNERS = {"root", "intermediate"}
_SOON_S, _VERY_SOON_S = 30 * 86_400, 7 * 86_400
_HEAD = re.compile(r"(\d{1,18}):([0-9a-f]{64})")
Heads = Annotated[
    list[str] | None,
    typer.Option(
        "--head",
        metavar="NUMBER:HASH",
        help="Where the ledger ended once, as 'ca ledger head' told it then; may be repeated.",
    ),
]


@contextmanager
def authority_service(config: Path | None) -> "Iterator[AuthorityStub]":
    """Call the Authority service of the running service."""
    from meshwarden.cli.policy_client import admin_service  # noqa: PLC0415
    from protos.meshwarden.v1.authority_pb2_grpc import AuthorityStub  # noqa: PLC0415

    runtime_dir = load_settings(config).settings.runtime.runtime_dir
    with admin_service(runtime_dir, AuthorityStub) as service:
        yield service


@app.command("show", cls=RemoteCommand)
def show_authorities(config: ConfigFile = None, output: Output = Form.HUMAN) -> None:
    """Show the authorities as a tree, each with its expiry."""
    from protos.meshwarden.v1 import authority_pb2  # noqa: PLC0415

    with authority_service(config) as service:
        reply = service.Show(authority_pb2.ShowRequest())
    if output.is_data:
        authorities = [_as_dict(each) for each in reply.authorities]
        show_data(
            {
                "trust_domain": reply.trust_domain,
                "sequence": reply.bundle.sequence,
                "authorities": authorities,
            },
            output,
        )
    else:
        show(_tree(reply, clock.now_ns()))


@app.command(cls=RemoteCommand)
def issued(  # noqa: PLR0913, PLR0917 - each is an option
    spiffe_id: Annotated[
        str, typer.Argument(metavar="[SPIFFE_ID]", show_default=False, help="Whose; else all.")
    ] = "",
    serial: Annotated[
        str, typer.Option(metavar="HEX", help="Of a certificate, or a token's jti.")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    refused: Annotated[  # noqa: FBT002 - an option
        bool, typer.Option("--refused", help="What was refused instead, and why.")
    ] = False,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """List what was issued, newest first, and to whom."""
    from protos.meshwarden.v1 import authority_pb2  # noqa: PLC0415

    request = authority_pb2.ListIssuedRequest(
        spiffe_id=spiffe_id, serial=serial, limit=limit, refused=refused
    )
    with authority_service(config) as service:
        found = service.ListIssued(request).issued
    if refused and any(each.outcome != "refused" for each in found):
        complain("the service is an older version, which lists no refusals")
        raise typer.Exit(FAULT)
    if output.is_data:
        show_data([_issued_dict(each) for each in found], output)
    elif not found:
        show("nothing was refused" if refused else "nothing was issued")
    elif refused:
        names = ("row", "when", "kind", "for", "asked by", "why")
        show(
            table(
                names,
                [
                    (
                        str(each.row), time_text(each.time_ns), each.kind, each.spiffe_id,
                        each.requester, each.detail,
                    )
                    for each in found
                ],
            )
        )  # fmt: skip
    else:
        rows = [
            (
                str(each.row),
                time_text(each.time_ns),
                each.kind,
                each.spiffe_id,
                each.outcome,
                time_text(each.not_after_ns),
                each.serial,
                each.requester,
            )
            for each in found
        ]
        show(table(("row", "when", "kind", "for", "outcome", "until", "serial", "asked by"), rows))


@app.command(cls=RemoteCommand)
def csr(config: ConfigFile = None, output: Output = Form.HUMAN) -> None:
    """Print the request for an intermediate's certificate, for a root elsewhere to sign.

    Only with identity.ca = "offline". The key stays in the service; asked again, the same request
    comes until a certificate for it is imported.
    """
    from meshwarden.pem import csr_pem  # noqa: PLC0415
    from protos.meshwarden.v1 import authority_pb2  # noqa: PLC0415

    with authority_service(config) as service:
        reply = service.RequestCertificate(authority_pb2.RequestCertificateRequest())
    if output.is_data:
        show_data({"id": reply.authority_id, "csr": csr_pem(reply.csr)}, output)
    else:
        typer.echo(csr_pem(reply.csr), nl=False)


@app.command("import", cls=RemoteCommand)
def import_certificate(
    chain: Annotated[
        Path, typer.Argument(metavar="CHAIN", help="PEM: the intermediate first, the root last.")
    ],
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Take the certificate that the root has signed: it signs from then on."""
    from ca.errors import CertificateError  # noqa: PLC0415
    from meshwarden.pem import certificates_of  # noqa: PLC0415
    from protos.meshwarden.v1 import authority_pb2  # noqa: PLC0415

    try:
        certificates = certificates_of(chain.read_bytes())
    except CertificateError as error:
        complain(f"{chain}: {error}")
        raise typer.Exit(FAULT) from None
    if len(certificates) > 1 and _is_root(certificates[0]):
        complain(f"{chain}: it begins with a root: write the intermediate first, the root last")
        raise typer.Exit(FAULT)
    request = authority_pb2.ImportCertificateRequest(chain=certificates)
    with authority_service(config) as service:
        taken = service.ImportCertificate(request)
    if output.is_data:
        show_data(_as_dict(taken), output)
    else:
        show(f"{taken.subject} signs from now on, until {time_text(taken.not_after_ns)}")


@ledger.command(cls=RemoteCommand)
def verify(head: Heads = None, config: ConfigFile = None, output: Output = Form.HUMAN) -> None:
    """Read the ledger from its first row and prove that nothing was changed or taken out.

    That its end was not cut off shows by heads it had once: those that the service remembers, and
    those you give. Exits with 2 when something is wrong.
    """
    from protos.meshwarden.v1 import authority_pb2  # noqa: PLC0415

    request = authority_pb2.VerifyLedgerRequest(known=[_head(each) for each in head or ()])
    with authority_service(config) as service:
        reply = service.VerifyLedger(request)
    if output.is_data:
        show_data(
            {
                "ok": not reply.fault,
                "rows": reply.rows,
                "head": reply.head.hex(),
                "fault": reply.fault,
            },
            output,
        )
    elif reply.fault:
        complain(reply.fault)
    else:
        show(f"{reply.rows} rows hang together, up to {reply.head.hex()}")
    if reply.fault:
        raise typer.Exit(FAULT)


@ledger.command("head", cls=RemoteCommand)
def show_head(config: ConfigFile = None, output: Output = Form.HUMAN) -> None:
    """Print where the ledger ends, to be kept elsewhere and shown to 'ca ledger verify' later."""
    from protos.meshwarden.v1 import authority_pb2  # noqa: PLC0415

    with authority_service(config) as service:
        reply = service.VerifyLedger(authority_pb2.VerifyLedgerRequest())
    if reply.fault:
        complain(reply.fault)
        raise typer.Exit(FAULT)
    if output.is_data:
        show_data({"number": reply.rows, "hash": reply.head.hex()}, output)
    else:
        typer.echo(f"{reply.rows}:{reply.head.hex()}")


def _head(text: str) -> "authority_pb2.LedgerHead":
    from protos.meshwarden.v1 import authority_pb2  # noqa: PLC0415

    found = _HEAD.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter(f"{text!r} is no head; one is NUMBER:HASH, with 64 hex digits")
    return authority_pb2.LedgerHead(number=int(found[1]), hash=bytes.fromhex(found[2]))


def _tree(reply: "authority_pb2.ShowReply", now_ns: int) -> "Tree":
    from rich.tree import Tree  # noqa: PLC0415

    top = Tree(f"{reply.trust_domain}, bundle {reply.bundle.sequence}")
    branches: dict[str, Tree] = {}
    # Issuers come before what they issued.
    for each in reply.authorities:
        above = branches.get(each.issuer_id, top) if each.issuer_id != each.id else top
        branches[each.id] = above.add(_line(each, now_ns))
    if not any(each.active and each.kind in _SIGNERS for each in reply.authorities):
        top.add(
            "nothing signs certificates yet: 'meshwarden ca csr' asks for one that does, "
            "'meshwarden ca import' brings it"
        )
    return top


def _is_root(certificate: bytes) -> bool:
    from cryptography import x509  # noqa: PLC0415

    read = x509.load_der_x509_certificate(certificate)
    return read.issuer == read.subject


def _line(each: "authority_pb2.AuthorityInfo", now_ns: int) -> Any:
    name = each.subject or each.id[:_ID_SHOWN]
    does = "signs" if each.active else each.state
    if not each.not_after_ns:
        return styled((each.kind, "bold"), f"  {name}  {each.key_type}  {does}")
    left_s = (each.not_after_ns - now_ns) / 1e9
    until = f"until {time_text(each.not_after_ns)}"
    if left_s <= 0:
        expiry = (f"{until}, EXPIRED {age(-left_s)} ago", "bold red")
    elif left_s < _SOON_S:
        expiry = (f"{until}, {age(left_s)} left", "red" if left_s < _VERY_SOON_S else "yellow")
    else:
        expiry = (f"{until}, {age(left_s)} left", "")
    return styled((each.kind, "bold"), f"  {name}  {each.key_type}  {does}  ", expiry)


def _as_dict(each: "authority_pb2.AuthorityInfo") -> dict[str, object]:
    return {
        "id": each.id,
        "kind": each.kind,
        "state": each.state,
        "active": each.active,
        "subject": each.subject,
        "issuer_id": each.issuer_id,
        "key_type": each.key_type,
        "serial": each.serial,
        "not_before_ns": each.not_before_ns,
        "not_after_ns": each.not_after_ns,
    }


def _issued_dict(each: "authority_pb2.Issued") -> dict[str, object]:
    return {
        "row": each.row,
        "time_ns": each.time_ns,
        "kind": each.kind,
        "spiffe_id": each.spiffe_id,
        "serial": each.serial,
        "not_after_ns": each.not_after_ns,
        "authority_id": each.authority_id,
        "requester": each.requester,
        "selectors": [*each.selectors],
        "outcome": each.outcome,
        "detail": each.detail,
    }
