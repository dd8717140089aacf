"""Join tokens: an operator hands a node a secret that is good for one attestation."""

from dataclasses import dataclass

from typing_extensions import override

from adapters.spec import Adapter
from ca.attestation import Attempt, AttestationError, NodeAttestor, NodeIdentity
from ca.entry_draft import agent_spiffe_id
from ca.errors import IdentityStoreError
from ca.join_token import InvalidTokenError, parse_token
from ca.registry import RegistryStore, TokenRefusal

__all__ = ["ADAPTER", "Config"]

_MAX_PAYLOAD = 256


@dataclass(frozen=True, slots=True)
class Config:
    """What it stands on.

    Attributes:
        store: Where tokens are.
        trust_domain: The own one.
    """

    store: RegistryStore
    trust_domain: str


class JoinTokenAttestor(NodeAttestor):
    """Believes who has a token that nobody used yet."""

    def __init__(self, config: Config) -> None:
        self._store = config.store
        self._prefix = agent_spiffe_id(config.trust_domain, "")

    @override
    async def attest(self, attempt: Attempt) -> NodeIdentity:
        if len(attempt.payload) > _MAX_PAYLOAD:
            raise AttestationError("this is no join token: it is too long", "INVALID_ARGUMENT")
        try:
            token = parse_token(attempt.payload.decode("ascii"))
        except UnicodeDecodeError:
            # Not chained: it would quote the token.
            raise AttestationError("this is no join token", "INVALID_ARGUMENT") from None
        except InvalidTokenError as error:
            raise AttestationError(str(error), "INVALID_ARGUMENT") from error
        try:
            taken = await self._store.take_token(token.sha256, attempt.key_sha256, attempt.now_ns)
        except IdentityStoreError as error:
            raise AttestationError(str(error), error.code) from error
        if isinstance(taken, TokenRefusal):
            raise AttestationError(taken.reason)
        return NodeIdentity(
            taken.agent_id.removeprefix(self._prefix), taken.selectors, can_reattest=False
        )


ADAPTER: Adapter[NodeAttestor, Config] = Adapter(config=Config, build=JoinTokenAttestor)
