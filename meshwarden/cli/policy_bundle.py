"""`meshwarden policy bundle`: a policy folder as one file for a web server, and what is in one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from meshwarden.cli.options import ConfigFile, Output, load_folder_settings, load_settings
from meshwarden.cli.output import FAULT, Form, complain, show, show_data
from meshwarden.files import replace_file

if TYPE_CHECKING:
    from authz.policy.errors import PolicyError
    from authz.policy.rules import PolicyText
    from authz.policy.snapshot import Snapshot
    from authz.policy_bundle.bundle import Bundle
    from authz.policy_bundle.keys import PrivateKey, PublicKey
    from meshwarden.settings import Settings

__all__ = ["app"]

_SHORT_DIGEST = 12

app = typer.Typer(
    name="bundle", help="Make a policy bundle, or look into one.", no_args_is_help=True
)


@app.command()
def build(  # noqa: PLR0913 - each is an option
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The policy's folder.")],
    out: Annotated[
        Path, typer.Option("--file", "-f", metavar="FILE", help="Where to write it: *.tar.gz.")
    ],
    *,
    sign_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="PEM of an Ed25519 or P-256 key to sign it with."),
    ] = None,
    revision: Annotated[
        int,
        typer.Option(min=0, metavar="NUMBER", help="Greater than that of the bundle before."),
    ] = 0,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Write a folder's policy and tests as one file: the same bytes for the same input.

    The policy is checked first, as the server checks it. Exits with 2 when it has a fault.
    """
    # The engine takes a while to import: other commands need not wait for it.
    from adapters.policies.folder import read_files  # noqa: PLC0415
    from authz.errors import AuthzError  # noqa: PLC0415
    from authz.policy.errors import PolicyError  # noqa: PLC0415
    from authz.policy_bundle.bundle import make_bundle, read_bundle  # noqa: PLC0415

    settings = load_folder_settings(config, "FOLDER", folder)
    key = _sign_key(sign_key) if sign_key else None
    try:
        files = read_files(settings.policy.path)
        archive = make_bundle(files, revision, key)
        # Read again as a server would: what it refuses is not worth writing.
        limit = settings.policy.bundle.max_unpacked_bytes
        bundle = read_bundle(archive, [key.public_key()] if key else [], limit)
        snapshot = _built(bundle.text(str(folder)), settings)
    except PolicyError as error:
        _fail(error, str(folder), output)
    except AuthzError as error:
        complain(f"{folder}: {error}")
        raise typer.Exit(FAULT) from None
    # A web server may be reading it, and may be somebody else: the umask says who may read.
    replace_file(out, archive, mode=0o666)
    _tell(out, len(archive), bundle, snapshot, output)


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The bundle.")],
    public_key: Annotated[
        Path | None,
        typer.Option(
            "--key", metavar="FILE", help="PEM of the keys; else policy.bundle.public_key."
        ),
    ] = None,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Read a bundle as the server does: digests, signature, policy.

    Exits with 2 when the server would refuse it.
    """
    from authz.errors import AuthzError, BundleError  # noqa: PLC0415
    from authz.policy.errors import PolicyError  # noqa: PLC0415
    from authz.policy_bundle.bundle import read_bundle  # noqa: PLC0415

    settings = load_settings(config, {"policy.bundle.public_key": ("--key", public_key)}).settings
    limits = settings.policy.bundle
    try:
        with file.open("rb") as stream:
            archive = stream.read(limits.max_bytes + 1)
        if len(archive) > limits.max_bytes:
            raise BundleError(f"is larger than {limits.max_bytes} bytes")
        keys = _public_keys(limits.public_key) if limits.public_key else ()
        bundle = read_bundle(archive, keys, limits.max_unpacked_bytes)
        snapshot = _built(bundle.text(str(file)), settings)
    except PolicyError as error:
        _fail(error, str(file), output)
    except AuthzError as error:
        if output.is_data:
            show_data({"ok": False, "error": f"{file}: {error}"}, output)
        complain(f"{file}: {error}")
        raise typer.Exit(FAULT) from None
    _tell(file, len(archive), bundle, snapshot, output)


def _built(text: "PolicyText", settings: "Settings") -> "Snapshot":
    from meshwarden.follower import build_text  # noqa: PLC0415

    return build_text(text, settings.policy.bind, settings).snapshot


def _sign_key(path: Path) -> "PrivateKey":
    from authz.errors import BundleError  # noqa: PLC0415
    from authz.policy_bundle.keys import read_private_key  # noqa: PLC0415

    try:
        return read_private_key(path.read_bytes())
    except BundleError as error:
        raise typer.BadParameter(f"{path} {error}", param_hint="--sign-key") from None


def _public_keys(path: Path) -> "tuple[PublicKey, ...]":
    from authz.errors import BundleError  # noqa: PLC0415
    from authz.policy_bundle.keys import read_public_keys  # noqa: PLC0415

    try:
        return read_public_keys(path.read_bytes())
    except BundleError as error:
        raise typer.BadParameter(f"{path} {error}", param_hint="--key") from None


def _fail(error: "PolicyError", where: str, output: Form) -> NoReturn:
    """Show every fault of the policy in it, and end."""
    faults = [
        {"file": fault.file, "line": fault.line, "message": fault.message} for fault in error.faults
    ]
    if output.is_data:
        show_data({"ok": False, "faults": faults}, output)
    for fault in error.faults:
        complain(str(fault) if fault.file == where else f"{where}: {fault}")
    raise typer.Exit(FAULT) from None


def _tell(
    file: Path, size_bytes: int, bundle: "Bundle", snapshot: "Snapshot", output: Form
) -> None:
    digest = f"sha256:{bundle.digest}"
    if output.is_data:
        told = {
            "ok": True,
            "file": str(file),
            "bytes": size_bytes,
            "digest": digest,
            "revision": bundle.revision,
            "signed": bundle.is_signed,
            "signer": bundle.signer,
            "policy": snapshot.digest,
            "rules": snapshot.rule_count,
            "files": sorted(bundle.files),
        }
        show_data(told, output)
        return
    signature = f"signed by {bundle.signer}" if bundle.signer else "not signed"
    if bundle.is_signed and not bundle.signer:
        signature = "signed, not verified: no key is given"
    number = f"revision {bundle.revision}" if bundle.revision else "no revision"
    show(f"{file}: {number}, {signature}, {size_bytes} bytes")
    show(f"digest  {digest}")
    files = ", ".join(sorted(bundle.files))
    show(f"policy  {snapshot.digest[:_SHORT_DIGEST]}, {snapshot.rule_count} rules, of {files}")
