"""A server that signs, in memory: an authority of its own, and whatever is to go wrong."""

import secrets
from collections.abc import Callable, Sequence

from cryptography import x509
from typing_extensions import override

from ca import jwt_svid
from ca.bundle import Bundle
from ca.csr import check_csr
from ca.keys import KeyType, generate
from ca.profile import Validity, serial_from, validity
from ca.selectors import Selector
from ca.spiffe_id import parse
from ca.x509 import AuthorityProfile, sign, sign_authority
from ca.x509 import Signer as Authority
from meshwarden.agent.renewer import LinkDownError, Order, Refused, Signed, Signer
from meshwarden.agent.tokens import SignedToken, TokenSigner

__all__ = ["FakeSigner"]

SECOND_NS = 1_000_000_000


class FakeSigner(Signer, TokenSigner):
    """Signs what it is asked to, by its request alone.

    Attributes:
        ttl_s: Of what it signs.
        is_down: Whether it gives no answer.
        most: Certificates that it has room for at a time: more in one call are refused whole.
        refusal: Why it signs nothing; "" where it does.
        batches: The orders that it got, each call's together.
        tokens: How many tokens it signed.
        trust_domain: Whose authority it is.
    """

    def __init__(self, now_ns: Callable[[], int], ttl_s: float = 3600) -> None:
        self.ttl_s = ttl_s
        self.is_down = False
        self.most = 1_000_000
        self.refusal = ""
        self.batches: list[Sequence[Order]] = []
        self.tokens = 0
        self.trust_domain = "td.example"
        self._now_ns = now_ns
        key = generate(KeyType.EC_P256)
        now_s = now_ns() // SECOND_NS
        self._times = Validity((now_s - 60) * SECOND_NS, (now_s + 864_000) * SECOND_NS)
        profile = AuthorityProfile(self.trust_domain, "root", 0)
        self._root = sign_authority(key, profile, key.public_key(), self._times, _serial())
        self._authority = Authority(self._root, key)
        self._tokens = jwt_svid.JwtSigner(key)

    def bundle(self, sequence: int = 1) -> Bundle:
        """Give what its signatures are verified with."""
        jwks = jwt_svid.jwk_set([self._tokens.public_key])
        return Bundle(self.trust_domain, (self._root,), jwks, sequence, 60)

    @override
    async def sign(self, orders: Sequence[Order]) -> list[Signed | Refused]:
        self.batches.append(orders)
        if self.is_down:
            raise LinkDownError("nobody answers")
        if len(orders) > self.most:
            raise LinkDownError("RESOURCE_EXHAUSTED: too many")
        if self.refusal:
            return [Refused(self.refusal)] * len(orders)
        return [self._sign(order) for order in orders]

    @override
    async def sign_token(
        self, entry_id: str, audiences: Sequence[str], selectors: tuple[Selector, ...]
    ) -> SignedToken | Refused:
        if self.is_down:
            raise LinkDownError("nobody answers")
        if self.refusal:
            return Refused(self.refusal)
        self.tokens += 1
        now_ns = self._now_ns()
        checked = jwt_svid.check_jwt(parse(f"spiffe://{self.trust_domain}/{entry_id}"), audiences)
        end_ns = now_ns + int(self.ttl_s * SECOND_NS)
        token = jwt_svid.sign(self._tokens, checked, str(self.tokens), now_ns, end_ns)
        return SignedToken(token, now_ns, end_ns)

    def _sign(self, order: Order) -> Signed:
        names = x509.load_der_x509_csr(order.csr).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
        (uri,) = names.value.get_values_for_type(x509.UniformResourceIdentifier)
        times = validity(self._now_ns(), int(self.ttl_s), [self._times])
        checked = check_csr(order.csr, allowed_id=parse(uri))
        leaf = sign(self._authority, checked, times, _serial())
        return Signed(uri, (leaf,), times.not_after_ns)


def _serial() -> int:
    return serial_from(secrets.token_bytes(16))
