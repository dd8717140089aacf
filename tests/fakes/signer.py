"""A server that signs, in memory: an authority of its own, and whatever is to go wrong."""

import datetime as dt
from collections.abc import Callable, Sequence

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from typing_extensions import override

from ca.bundle import Bundle
from ca.jwt_svid import jwk_set
from ca.keys import key_id
from ca.selectors import Selector
from meshwarden.agent.renewer import LinkDownError, Order, Refused, Signed, Signer
from meshwarden.agent.tokens import SignedToken, TokenSigner

__all__ = ["FakeSigner"]

SECOND_NS = 1_000_000_000


class FakeSigner(Signer, TokenSigner):
    """Signs what it is asked to, by its request alone.

    Attributes:
        ttl_s: Of what it signs.
        is_down: Whether it gives no answer.
        refusal: Why it signs nothing; "" where it does.
        batches: The orders that it got, each call's together.
        tokens: How many tokens it signed.
        trust_domain: Whose authority it is.
    """

    def __init__(self, now_ns: Callable[[], int], ttl_s: float = 3600) -> None:
        self.ttl_s = ttl_s
        self.is_down = False
        self.refusal = ""
        self.batches: list[Sequence[Order]] = []
        self.tokens = 0
        self.trust_domain = "td.example"
        self._now_ns = now_ns
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "fake")])
        self._root = (
            self._builder(3600)
            .subject_name(self._name)
            .public_key(self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def bundle(self, sequence: int = 1) -> Bundle:
        """Give what its signatures are verified with."""
        root = self._root.public_bytes(Encoding.DER)
        jwks = jwk_set([self._key.public_key()])
        return Bundle(self.trust_domain, (root,), jwks, sequence, 60)

    @override
    async def sign(self, orders: Sequence[Order]) -> list[Signed | Refused]:
        self.batches.append(orders)
        if self.is_down:
            raise LinkDownError("nobody answers")
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
        end_ns = now_ns + int(self.ttl_s * SECOND_NS)
        claims = {
            "sub": f"spiffe://{self.trust_domain}/{entry_id}",
            "aud": list(audiences),
            "exp": end_ns // SECOND_NS,
            "iat": now_ns // SECOND_NS,
            "jti": str(self.tokens),
        }
        header = {"kid": key_id(self._key.public_key())}
        return SignedToken(jwt.encode(claims, self._key, "ES256", header), now_ns, end_ns)

    def _sign(self, order: Order) -> Signed:
        request = x509.load_der_x509_csr(order.csr)
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        leaf = (
            self._builder(self.ttl_s)
            .subject_name(x509.Name([]))
            .public_key(request.public_key())
            .add_extension(names, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
        end_ns = self._now_ns() + int(self.ttl_s * SECOND_NS)
        return Signed(uri, (leaf.public_bytes(Encoding.DER),), end_ns)

    def _builder(self, ttl_s: float) -> x509.CertificateBuilder:
        now = dt.datetime.fromtimestamp(self._now_ns() / SECOND_NS, dt.UTC)
        return (
            x509.CertificateBuilder()
            .issuer_name(self._name)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(seconds=60))
            .not_valid_after(now + dt.timedelta(seconds=ttl_s))
        )
