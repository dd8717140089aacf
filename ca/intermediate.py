"""An intermediate whose root is elsewhere: a request goes out, a certificate comes in.

Source: X509-SVID standard, section 3.2; RFC 2986.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca.authority import Authorities, Authority, Kind, State
from ca.errors import CertificateError, ConflictingAuthorityError
from ca.keeper import KeyKeeper
from ca.keys import KeyType, PrivateKey, generate, hash_for, key_id, key_type, public_der
from ca.verify import VerifiedChain, times_of
from ca.x509 import AuthorityProfile, authority_extensions, authority_subject

__all__ = ["authorities_of_chain", "imported", "request_for", "waiting_key"]


def waiting_key(
    there: Authorities, kind: KeyType, keeper: KeyKeeper, now_ns: int
) -> Sequence[Authority]:
    """Make the key that a certificate is asked for, unless one waits already."""
    if _waiting(there) is not None:
        return ()
    key = generate(kind)
    public = key.public_key()
    name = key_id(public)
    return (
        Authority(
            authority_id=name,
            trust_domain=there.trust_domain,
            kind=Kind.INTERMEDIATE,
            state=State.WAITING,
            key_type=key_type(public),
            issuer_id="",
            serial="",
            not_before_ns=0,
            not_after_ns=0,
            certificate=b"",
            public_key=public_der(public),
            handle=keeper.put(name, key),
            created_ns=now_ns,
        ),
    )


def request_for(there: Authorities, key_of: Callable[[Authority], PrivateKey]) -> tuple[str, bytes]:
    """Write the request for the key that waits; give the authority's id and PKCS#10 in DER.

    Raises:
        ConflictingAuthorityError: No key waits.
        KeyNotOpenedError: It can't be had.
    """
    waiting = _waiting(there)
    if waiting is None:
        raise ConflictingAuthorityError("no key waits for a certificate")
    key = key_of(waiting)
    profile = AuthorityProfile(there.trust_domain, "intermediate", 0)
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        authority_subject(profile, key.public_key())
    )
    for extension, critical in authority_extensions(profile, key.public_key()):
        builder = builder.add_extension(extension, critical=critical)
    # The library's types don't know that None goes with Ed25519 alone.
    request = builder.sign(key, hash_for(key))  # type: ignore[arg-type]
    return waiting.authority_id, request.public_bytes(Encoding.DER)


def imported(there: Authorities, chain: Sequence[bytes], now_ns: int) -> Sequence[Authority]:
    """Take the certificate of the key that waits; what signed before it signs no more.

    Args:
        there: What there is.
        chain: DER, the intermediate first, the root last.
        now_ns: Nanoseconds since the epoch.

    Raises:
        CertificateError: It is no chain that could sign for this trust domain now.
        ConflictingAuthorityError: It is for no key that waits, or brings another root than the one
            that is trusted: changing that is a rotation, in steps of its own.
    """
    added = authorities_of_chain(there.trust_domain, chain, now_ns)
    signer, root = added[0], added[-1]
    waiting = _waiting(there)
    if waiting is None or waiting.authority_id != signer.authority_id:
        raise ConflictingAuthorityError(
            "the certificate is not for the key that waits: ask for one by 'meshwarden ca csr'"
        )
    if signer is root:
        raise CertificateError("the certificate is self-signed: a root elsewhere has to sign it")
    roots = {each.authority_id for each in there.all if each.kind is Kind.ROOT}
    if roots and root.authority_id not in roots:
        raise ConflictingAuthorityError(
            "its root is another than the one that is trusted: every workload would have to know "
            "it first, which is a rotation"
        )
    before = there.active(Kind.INTERMEDIATE)
    changes = [replace(before, state=State.TRUSTED)] if before else []
    changes += [each for each in added[1:] if there.by_id(each.authority_id) is None]
    return [*changes, replace(signer, handle=waiting.handle, created_ns=waiting.created_ns)]


def authorities_of_chain(
    trust_domain: str, chain: Sequence[bytes], now_ns: int
) -> Sequence[Authority]:
    """Read a chain that others made: the first signs, the others are believed.

    Raises:
        CertificateError: It is no chain that could sign for this trust domain now.
    """
    verified = VerifiedChain(chain, trust_domain)
    if not verified.not_before_ns <= now_ns < verified.not_after_ns:
        raise CertificateError("a certificate of the chain has expired, or does not hold yet")
    names = [key_id(verified.public_key(index)) for index in range(len(chain))]
    made = []
    for index, der in enumerate(chain):
        serial, begin_ns, end_ns = times_of(der)
        is_root = index == len(chain) - 1
        public = verified.public_key(index)
        made.append(
            Authority(
                authority_id=names[index],
                trust_domain=trust_domain,
                kind=Kind.ROOT if is_root else Kind.INTERMEDIATE,
                state=State.ACTIVE if index == 0 else State.TRUSTED,
                key_type=key_type(public),
                issuer_id=names[min(index + 1, len(chain) - 1)],
                serial=f"{serial:032x}",
                not_before_ns=begin_ns,
                not_after_ns=end_ns,
                certificate=der,
                public_key=public_der(public),
                handle=b"",
                created_ns=now_ns,
            )
        )
    return made


def _waiting(there: Authorities) -> Authority | None:
    return next((each for each in there.all if each.state is State.WAITING), None)
