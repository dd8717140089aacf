"""What the settings of [identity.nodes] must hold together."""

from collections.abc import Iterator
from pathlib import Path

from meshwarden import plugins
from meshwarden.settings import Settings

__all__ = ["node_faults"]

_Fault = tuple[tuple[str, ...], str]
_NODES = "identity.nodes"
_DAY_S = 86_400


def node_faults(settings: Settings) -> Iterator[_Fault]:
    """Give each fault, with the keys it depends on; the first of them gets the blame."""
    nodes = settings.identity.nodes
    known = plugins.names("node_attestors")
    for name in nodes.attestors:
        if name not in known:
            yield (
                (f"{_NODES}.attestors",),
                f"no adapter {name!r}; there are: {', '.join(known)}",
            )
    if nodes.ttl_s > settings.identity.max_x509_ttl_s:
        yield (
            (f"{_NODES}.ttl_s", "identity.max_x509_ttl_s"),
            f"{nodes.ttl_s} s is above the {settings.identity.max_x509_ttl_s} of max_x509_ttl_s",
        )
    kept_s = nodes.forget_agents_days * _DAY_S
    if "expired_svid" in nodes.attestors and 0 < kept_s < nodes.reattest_grace_s:
        yield (
            (f"{_NODES}.forget_agents_days", f"{_NODES}.reattest_grace_s"),
            (
                f"{nodes.forget_agents_days} days are {kept_s} s, less than the "
                f"{nodes.reattest_grace_s} of reattest_grace_s: an agent that is forgotten can't "
                "come back by its certificate"
            ),
        )
    if "x509pop" in nodes.attestors and nodes.x509pop.ca is None:
        yield (
            (f"{_NODES}.x509pop.ca", f"{_NODES}.attestors"),
            "x509pop needs the roots of nodes' certificates",
        )
    for name, file in (
        ("x509pop.ca", nodes.x509pop.ca),
        ("k8s_psat.server_ca", nodes.k8s_psat.server_ca),
        ("k8s_psat.token", nodes.k8s_psat.token),
    ):
        if file is not None and not file.is_file():
            yield (f"{_NODES}.{name}",), f"{file} is no file"
    if "k8s_psat" in nodes.attestors:
        yield from _k8s_psat(settings)
    entries = settings.identity.entries
    if entries is not None and not entries.exists():
        yield ("identity.entries",), f"{entries} is not there"


def _k8s_psat(settings: Settings) -> Iterator[_Fault]:
    k8s_psat = settings.identity.nodes.k8s_psat
    key = f"{_NODES}.k8s_psat"
    if bool(k8s_psat.jwks) == bool(k8s_psat.token_review):
        yield (
            (f"{key}.jwks", f"{key}.token_review"),
            f"set one of {key}.jwks and {key}.token_review",
        )
    if k8s_psat.token_review and not k8s_psat.token_review.startswith("https://"):
        yield (f"{key}.token_review",), "must be an https:// address"
    if k8s_psat.jwks and not k8s_psat.jwks.startswith("https://"):
        file = Path(k8s_psat.jwks)
        # It may be an address as well, so nobody has made it relative to the settings' folder.
        if not file.is_absolute():
            yield (f"{key}.jwks",), "must be an https:// address, or a file's whole path"
        elif not file.is_file():
            yield (f"{key}.jwks",), f"{file} is no file"
    if not k8s_psat.audiences:
        yield (f"{key}.audiences",), "name at least one: a token for anybody is anybody's"
    if not k8s_psat.service_accounts:
        yield (f"{key}.service_accounts",), "name at least one, as NAMESPACE:NAME"
    for account in k8s_psat.service_accounts:
        if account.count(":") != 1 or not all(account.split(":")):
            yield (f"{key}.service_accounts",), f"{account!r} is not NAMESPACE:NAME"
