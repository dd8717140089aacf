"""What it takes to sign, made ready once and used many times; a change makes a new one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ca.authority import Authorities, Authority, Kind
from ca.bundle import Bundle
from ca.csr import CheckedCsr
from ca.errors import CertificateError, NoAuthorityError, OrderError
from ca.issue import X509Svid
from ca.jwt_svid import CheckedJwt, JwtSigner, validate
from ca.jwt_svid import sign as sign_jwt
from ca.keys import PrivateKey
from ca.profile import SECOND_NS, Validity, validity
from ca.verify import Expected, VerifiedChain
from ca.x509 import Signer, sign

__all__ = ["Signing", "X509Intent", "make_signing"]


@dataclass(frozen=True, slots=True)
class X509Intent:
    """A certificate that is about to be signed, as the ledger has it.

    Attributes:
        request: What was checked.
        times: From when to when it shall hold.
        serial: Its number.
    """

    request: CheckedCsr
    times: Validity
    serial: int


@dataclass(frozen=True, slots=True)
class _X509:
    """A signer, and the one who looks at what it has signed."""

    signer: Signer
    verifier: VerifiedChain
    issuers: Sequence[Validity]
    chain: tuple[bytes, ...]


class Signing:
    """The authorities of one moment, their keys opened.

    Attributes:
        authorities: What they are.
        bundle: What others verify with.
        ledger_key: What signs heads of the ledger.
    """

    def __init__(
        self,
        authorities: Authorities,
        bundle: Bundle,
        x509: _X509 | None,
        jwt: JwtSigner | None,
        ledger_key: Ed25519PrivateKey,
    ) -> None:
        self.authorities = authorities
        self.bundle = bundle
        self.ledger_key = ledger_key
        self._x509 = x509
        self._times_key = (0, 0)
        self._times = Validity(0, 0)
        self._jwt = jwt

    @property
    def x509_authority_id(self) -> str:
        """Whose key signs certificates.

        Raises:
            NoAuthorityError: Nobody's, yet.
        """
        return self._certificates.signer.authority_id

    @property
    def signer_id(self) -> str:
        """Likewise; "" for nobody's."""
        return self._x509.signer.authority_id if self._x509 else ""

    @property
    def jwt_authority_id(self) -> str:
        """Whose key signs tokens.

        Raises:
            NoAuthorityError: Nobody's.
        """
        return self._tokens.authority_id

    def times(self, now_ns: int, ttl_s: int) -> Validity:
        """Give the times of a certificate that is signed now.

        Raises:
            NoAuthorityError: There is no authority that could sign it.
        """
        # A batch asks the same for each of its orders.
        key = (now_ns // SECOND_NS, ttl_s)
        if key != self._times_key:
            self._times = validity(now_ns, ttl_s, self._certificates.issuers)
            self._times_key = key
        return self._times

    def jwt_times(self, now_ns: int, ttl_s: int) -> Validity:
        """Give the times of a token that is signed now; the key of tokens has an end too.

        Raises:
            NoAuthorityError: There is no key that could sign it.
        """
        authority = self.authorities.by_id(self.jwt_authority_id)
        return validity(now_ns, ttl_s, [authority.validity] if authority else ())

    def check_names(self, names: Sequence[str]) -> None:
        """Check that a certificate with these DNS names and addresses would hold.

        Raises:
            OrderError: The authority that signs, or one above it, has constraints against one.
            NoAuthorityError: There is none.
        """
        if fault := self._certificates.verifier.name_fault(names):
            raise OrderError(f"no certificate with these names would hold: {fault}")

    def sign_x509(self, intent: X509Intent, now_ns: int) -> X509Svid:
        """Sign, look at what came out, and give it only then.

        Raises:
            CertificateError: What came out is not what was intended; it is nobody's.
        """
        own, request, times = self._certificates, intent.request, intent.times
        leaf = sign(own.signer, request, times, intent.serial)
        expected = Expected(
            request.spiffe_id,
            request.public_key,
            request.names,
            intent.serial,
            times.not_before_ns,
            times.not_after_ns,
        )
        own.verifier.check(leaf, expected, now_ns)
        return X509Svid(
            request.spiffe_id,
            (leaf, *own.chain),
            times.not_before_ns,
            times.not_after_ns,
            f"{intent.serial:032x}",
        )

    def sign_jwt(self, order: CheckedJwt, token_id: str, issued_ns: int, expires_ns: int) -> str:
        """Sign a token, verify it as its audience would, and give it only then.

        Raises:
            CertificateError: What came out is not what was intended.
        """
        token = sign_jwt(self._tokens, order, token_id, issued_ns, expires_ns)
        found = validate(
            token,
            order.audiences[0],
            self.bundle.jwks,
            self.authorities.trust_domain,
            issued_ns,
        )
        if (found.spiffe_id, found.audiences, found.expires_ns) != (
            order.spiffe_id,
            order.audiences,
            expires_ns,
        ):
            raise CertificateError("the token is not what was ordered")
        return token

    @property
    def _certificates(self) -> _X509:
        if self._x509 is None:
            raise NoAuthorityError(
                "there is no authority that signs certificates yet: 'meshwarden ca csr' asks for "
                "one, 'meshwarden ca import' brings it"
            )
        return self._x509

    @property
    def _tokens(self) -> JwtSigner:
        if self._jwt is None:
            raise NoAuthorityError("there is no key that signs tokens")
        return self._jwt


def make_signing(
    authorities: Authorities,
    key_of: Callable[[Authority], PrivateKey],
    refresh_hint_s: int,
    x509_id: str = "",
) -> Signing:
    """Open the keys of those that sign, and verify their chain.

    Args:
        authorities: What there is.
        key_of: Gives an authority's private key; raises KeyNotOpenedError.
        refresh_hint_s: For the bundle.
        x509_id: The authority that signs certificates here, whichever is active elsewhere; "" for
            the active one.

    Raises:
        KeyNotOpenedError: A key can't be had.
        CertificateError: A chain does not hold.
        NoAuthorityError: The ledger has no key.
    """
    ledger = authorities.active(Kind.LEDGER)
    key = key_of(ledger) if ledger else None
    if not isinstance(key, Ed25519PrivateKey):
        raise NoAuthorityError("there is no key that signs the ledger")
    jwt = authorities.active(Kind.JWT)
    active = authorities.active(Kind.INTERMEDIATE, Kind.ROOT)
    x509 = authorities.by_id(x509_id) if x509_id else active
    return Signing(
        authorities,
        authorities.bundle(refresh_hint_s),
        _x509(authorities, x509, key_of(x509)) if x509 else None,
        JwtSigner(key_of(jwt)) if jwt else None,
        key,
    )


def _x509(authorities: Authorities, authority: Authority, key: PrivateKey) -> _X509:
    links = authorities.chain(authority)
    # The root is in the bundle: who needs it from us would be told whom to trust by who asks it.
    below_root = tuple(each.certificate for each in links if each.kind is not Kind.ROOT)
    return _X509(
        signer=Signer(authority.certificate, key),
        verifier=VerifiedChain([each.certificate for each in links], authorities.trust_domain),
        issuers=[each.validity for each in links],
        chain=below_root,
    )
