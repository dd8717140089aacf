"""An agent whose certificate ran out comes back by the key of that certificate.

A laptop that was shut, a server that was away for longer than an SVID lives: the node is the same,
and nobody has to carry a new token to it. What it takes is the newest certificate that the agent
was given, and its key; a stolen older one is of no use, and neither is any once the agent was
evicted or banned. It is good for `identity.nodes.reattest_grace_s` after the expiry; 0 is never.
"""

import secrets
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from typing_extensions import override

from adapters.spec import Adapter
from ca.attestation import Attempt, AttestationError, NodeAttestor, NodeIdentity
from ca.der import split_der
from ca.entry_draft import agent_spiffe_id
from ca.errors import CertificateError, IdentityStoreError
from ca.possession import CHALLENGE_BYTES, holds
from ca.registry import AgentRecord, RegistryStore
from ca.verify import parse_certificate

__all__ = ["ADAPTER", "Config"]

_MAX_PAYLOAD = 64 * 1024
_MAX_CERTIFICATES = 8
_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Config:
    """What it stands on.

    Attributes:
        store: Where agents are.
        trust_domain: The own one.
        reattest_grace_s: How long after its expiry a certificate is good for this.
    """

    store: RegistryStore
    trust_domain: str
    reattest_grace_s: int


class ExpiredSvidAttestor(NodeAttestor):
    """Believes who has the key of an agent's newest certificate."""

    def __init__(self, config: Config) -> None:
        self._store = config.store
        self._grace_s = config.reattest_grace_s
        self._prefix = agent_spiffe_id(config.trust_domain, "")

    @override
    async def attest(self, attempt: Attempt) -> NodeIdentity:
        if not self._grace_s:
            raise AttestationError(
                "an agent does not come back by its expired certificate here: "
                "identity.nodes.reattest_grace_s is 0; attest as at first"
            )
        leaf, agent_id = _leaf(attempt.payload)
        try:
            agent = await self._store.agent(agent_id)
        except IdentityStoreError as error:
            raise AttestationError(str(error), error.code) from error
        if agent is None or not agent_id.startswith(self._prefix):
            raise AttestationError(f"there is no agent {agent_id}: attest as at first")
        self._check(agent, leaf, attempt.now_ns)
        # The certificate is of the registry's own knowledge: who made it need not be asked.
        challenge = secrets.token_bytes(CHALLENGE_BYTES)
        answer = await attempt.challenge(challenge)
        if not holds(leaf.public_key(), challenge, attempt.key_sha256, answer):
            raise AttestationError(f"the answer is not by the key of {agent_id}'s certificate")
        # An answer may be long in coming: who was evicted meanwhile is found where it is kept.
        return NodeIdentity(
            agent_id.removeprefix(self._prefix),
            agent.selectors,
            agent.can_reattest,
            by_certificate=leaf.fingerprint(hashes.SHA256()),
        )

    def _check(self, agent: AgentRecord, leaf: x509.Certificate, now_ns: int) -> None:
        if agent.banned:
            raise AttestationError(f"the agent {agent.spiffe_id} is banned")
        if not agent.certificate_sha256:
            raise AttestationError(
                f"the agent {agent.spiffe_id} was banned, which ended all its certificates: "
                "attest as at first"
            )
        shown = leaf.fingerprint(hashes.SHA256())
        # The one before counts too: the newest may have been lost on its way.
        if agent.end_ns(shown) is None:
            raise AttestationError(
                f"this is not the newest certificate of {agent.spiffe_id}: attest as at first"
            )
        late_s = (now_ns - agent.svid_expires_ns) // _SECOND_NS
        if late_s > self._grace_s:
            raise AttestationError(
                f"the certificate of {agent.spiffe_id} expired {late_s} s ago, and "
                f"identity.nodes.reattest_grace_s is {self._grace_s}: attest as at first"
            )


def _leaf(payload: bytes) -> tuple[x509.Certificate, str]:
    """Read the first certificate and its one URI."""
    if len(payload) > _MAX_PAYLOAD:
        raise AttestationError("the certificate chain is too long", "INVALID_ARGUMENT")
    try:
        leaf = parse_certificate(split_der(payload, _MAX_CERTIFICATES)[0], "the first one")
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (ValueError, CertificateError, x509.ExtensionNotFound) as error:
        raise AttestationError(
            "the evidence is no certificate of an agent in DER", "INVALID_ARGUMENT"
        ) from error
    return leaf, uri


ADAPTER: Adapter[NodeAttestor, Config] = Adapter(config=Config, build=ExpiredSvidAttestor)
