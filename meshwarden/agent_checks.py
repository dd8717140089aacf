"""What the agent's settings must hold together, beyond the type and bounds of each key alone."""

import os
from collections.abc import Iterator

from meshwarden import plugins
from meshwarden.agent.places import places
from meshwarden.settings import Settings
from meshwarden.settings.agent import Agent

__all__ = ["agent_faults"]

_FOLDER_BYTES = 66
_SOCKET_BYTES = 107


def agent_faults(settings: Settings) -> Iterator[tuple[tuple[str, ...], str]]:
    """Give each fault with the keys it depends on; the first of them gets the blame."""
    own = settings.agent
    if settings.server.embedded_agent and not settings.identity.is_on:
        yield (
            ("server.embedded_agent", "identity.trust_domain"),
            "there are no identities to give: set identity.trust_domain too",
        )
    known = plugins.names("workload_attestors")
    for name in own.attestors:
        if name not in known:
            yield ("agent.attestors",), f"no attestor {name!r}; there are: {', '.join(known)}"
    if own.server:
        # Only the agent itself pays for what that stands on.
        from meshwarden.agent.uplink import ServerAddress  # noqa: PLC0415

        try:
            ServerAddress.parse(own.server)
        except ValueError as error:
            yield ("agent.server",), str(error)
    if own.attestor == "x509pop" and not (own.x509pop_certificate and own.x509pop_key):
        yield (
            ("agent.attestor", "agent.x509pop_certificate", "agent.x509pop_key"),
            "x509pop needs agent.x509pop_certificate and agent.x509pop_key",
        )
    if own.kubelet_url and not own.kubelet_url.startswith("https://"):
        yield ("agent.kubelet_url",), "must begin with https://: a token is sent there"
    yield from _metrics(own)
    where = places(settings)
    if own.runtime_dir and len(os.fsencode(where.runtime)) > _FOLDER_BYTES:
        yield (
            ("agent.runtime_dir",),
            f"{where.runtime} is too long to hold sockets; at most {_FOLDER_BYTES} bytes",
        )
    if own.socket and len(os.fsencode(where.socket)) > _SOCKET_BYTES:
        yield (
            ("agent.socket",),
            f"{where.socket} is longer than the {_SOCKET_BYTES} bytes of a socket's path",
        )


def _metrics(own: Agent) -> Iterator[tuple[tuple[str, ...], str]]:
    asked = "agent.allow_plaintext_beyond_loopback"
    if own.metrics and not (own.metrics.is_loopback or own.allow_plaintext_beyond_loopback):
        message = (
            f"{own.metrics} can be reached from other machines and is always plain text; ask for "
            f"it by {asked} = true"
        )
        yield ("agent.metrics", asked), message
