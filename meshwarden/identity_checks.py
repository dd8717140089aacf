"""What the settings of [identity] must hold together."""

from collections.abc import Iterator

from ca.spiffe_id import InvalidSpiffeIdError, parse
from meshwarden import plugins
from meshwarden.node_checks import node_faults
from meshwarden.settings import Settings

__all__ = ["identity_faults"]

_Fault = tuple[tuple[str, ...], str]


def identity_faults(settings: Settings) -> Iterator[_Fault]:
    """Give each fault, with the keys it depends on; the first of them gets the blame."""
    identity = settings.identity
    if not identity.is_on:
        return
    try:
        parse(f"spiffe://{identity.trust_domain}/x")
        if "/" in identity.trust_domain:
            raise InvalidSpiffeIdError("it has a path")  # noqa: TRY301 - the same fault
    except InvalidSpiffeIdError as error:
        yield (
            ("identity.trust_domain",),
            f"{identity.trust_domain!r} is no trust domain: {error}; write one as mesh.example",
        )
    yield from _authority(settings)
    yield from _keys(settings)
    yield from node_faults(settings)
    for kind in ("x509", "jwt"):
        default, most = f"identity.{kind}_ttl_s", f"identity.max_{kind}_ttl_s"
        given, limit = getattr(identity, f"{kind}_ttl_s"), getattr(identity, f"max_{kind}_ttl_s")
        if given > limit:
            yield (default, most), f"{given} s is above {most}, which is {limit}"


def _authority(settings: Settings) -> Iterator[_Fault]:
    identity = settings.identity
    for name, file in (("ca_chain", identity.ca_chain), ("ca_key", identity.ca_key)):
        key = f"identity.{name}"
        if identity.ca == "files" and file is None:
            yield (key, "identity.ca"), "identity.ca is 'files', which needs it"
        if identity.ca != "files" and file is not None:
            yield (
                (key, "identity.ca"),
                f"identity.ca is {identity.ca!r}, which reads no file; set it to 'files'",
            )


def _keys(settings: Settings) -> Iterator[_Fault]:
    identity = settings.identity
    known = plugins.names("keepers")
    if identity.keeper not in known:
        yield (
            ("identity.keeper",),
            f"no adapter {identity.keeper!r}; there are: {', '.join(known)}",
        )
    if identity.keeper == "memory" and settings.store.url:
        yield (
            ("identity.keeper", "store.url"),
            "each replica would make an authority of its own; with store.url, take 'sealed'",
        )
    if identity.keeper == "memory" and identity.ca == "offline":
        yield (
            ("identity.keeper", "identity.ca"),
            "a restart would lose the key whose certificate somebody has signed; take 'sealed'",
        )
    if identity.keeper == "sealed":
        file = identity.passphrase_file or identity.key_file
        key = "identity.passphrase_file" if identity.passphrase_file else "identity.key_file"
        folder = settings.runtime.state_dir
        # By links and ".." as well: whoever copies the folder copies what they lead to in it.
        if file.is_relative_to(folder) or file.resolve().is_relative_to(folder.resolve()):
            yield (
                (key, "runtime.state_dir"),
                f"{file} lies in the state folder, beside the keys that it opens; put it elsewhere",
            )
