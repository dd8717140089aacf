"""What an agent keeps on disk over a restart: its own identity, the bundle, what it had signed.

Each file is mode 0600 in a folder of mode 0700, and replaced whole. What can't be read is as good
as not there: the agent attests again, and says so.
"""

import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from ca.bundle import Bundle
from ca.entries import WorkloadEntry
from ca.keys import PrivateKey, private_from_der
from ca.selectors import Selector
from ca.spiffe_id import parse
from meshwarden.agent.svids import UNFIT, Claim, Svid
from meshwarden.files import replace_file

__all__ = ["Keep", "OwnIdentity"]

_LOG = logging.getLogger(__name__)
_SECOND_NS = 1_000_000_000
_FORM = 1
_Kind = TypeVar("_Kind")


@dataclass(frozen=True, slots=True)
class OwnIdentity:
    """An agent's own certificate and key.

    Attributes:
        spiffe_id: Its ID.
        chain: DER, the leaf first.
        key: Of the leaf.
        not_after_ns: When it expires.
    """

    spiffe_id: str
    chain: tuple[bytes, ...]
    key: PrivateKey = field(repr=False)
    not_after_ns: int


class _Entry(msgspec.Struct, array_like=True):
    id: str
    spiffe_id: str
    selectors: list[tuple[str, str]]
    x509_ttl_s: int
    jwt_ttl_s: int
    dns_names: list[str]
    hint: str
    version: int


class _Svid(msgspec.Struct, array_like=True):
    entry_id: str
    spiffe_id: str
    dns_names: list[str]
    chain: list[bytes]
    key: bytes
    arrived_ns: int
    not_after_ns: int
    version: int


class _Known(msgspec.Struct):
    form: int
    agent: str
    entries: list[_Entry]
    svids: list[_Svid]


class _Bundle(msgspec.Struct):
    trust_domain: str
    x509_authorities: list[bytes]
    jwks: bytes
    sequence: int
    refresh_hint_s: int


class Keep:
    """One agent's folder.

    Attributes:
        identity: PEM file of the own chain and key, as TLS reads it.
    """

    def __init__(self, folder: Path) -> None:
        """Use a folder, which is there and ours alone."""
        self.identity = folder / "agent.pem"
        self._pending = folder / "pending.pem"
        self._bundles = folder / "bundles"
        self._known = folder / "identities"

    def load_identity(self) -> OwnIdentity | None:
        """Give the own identity, expired or not; None where there is none that can be read."""
        try:
            data = self.identity.read_bytes()
            chain = x509.load_pem_x509_certificates(data)
            key = load_pem_private_key(data, None)
            names = chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
            if chain[0].public_key() != key.public_key() or not isinstance(key, PrivateKey):
                raise ValueError("certificate and key are not of each other")  # noqa: TRY301
            spiffe_id = str(parse(uri))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, *UNFIT) as error:
            _LOG.warning("%s is not used: %s", self.identity, error)
            return None
        return OwnIdentity(
            spiffe_id,
            tuple(each.public_bytes(Encoding.DER) for each in chain),
            key,
            int(chain[0].not_valid_after_utc.timestamp()) * _SECOND_NS,
        )

    def save_identity(self, own: OwnIdentity) -> None:
        """Keep the own identity, and forget the key that was made for it."""
        replace_file(self.identity, (_chain_pem(own.chain) + _key_pem(own.key)).encode())
        self._pending.unlink(missing_ok=True)

    def pending_key(self, make: Callable[[], PrivateKey]) -> PrivateKey:
        """Give the key to attest with, made once: an attestation whose answer was lost is repeated.

        A join token that was used for a key is still good for that key.
        """
        with contextlib.suppress(OSError, ValueError, TypeError):
            key = load_pem_private_key(self._pending.read_bytes(), None)
            if isinstance(key, PrivateKey):
                return key
        key = make()
        replace_file(self._pending, _key_pem(key).encode())
        return key

    def load_bundles(self) -> tuple[Bundle, ...]:
        """Give the bundles; none where they can't be read."""
        found = self._load(self._bundles, list[_Bundle]) or []
        return tuple(
            Bundle(
                each.trust_domain, tuple(each.x509_authorities), each.jwks, each.sequence,
                each.refresh_hint_s,
            )
            for each in found
        )  # fmt: skip

    def save_bundles(self, bundles: Sequence[Bundle]) -> None:
        """Keep the bundles, the own first."""
        kept = [
            _Bundle(
                each.trust_domain, list(each.x509_authorities), each.jwks, each.sequence,
                each.refresh_hint_s,
            )
            for each in bundles
        ]  # fmt: skip
        replace_file(self._bundles, msgspec.msgpack.encode(kept))

    def load_known(self, agent: str) -> tuple[list[WorkloadEntry], list[Svid]] | None:
        """Give entries and certificates of an agent; None where none are kept for it."""
        known = self._load(self._known, _Known)
        if known is None or known.form != _FORM or known.agent != agent:
            return None
        try:
            return [_entry(each) for each in known.entries], [_svid(each) for each in known.svids]
        except ValueError as error:
            _LOG.warning("%s is not used: %s", self._known, error)
            return None

    def save_known(
        self, agent: str, entries: Mapping[str, WorkloadEntry], svids: Iterable[Svid]
    ) -> None:
        """Keep entries and certificates with their keys."""
        known = _Known(
            _FORM,
            agent,
            [
                _Entry(
                    each.id, each.spiffe_id,
                    [(selector.kind, selector.value) for selector in each.selectors],
                    each.x509_ttl_s, each.jwt_ttl_s, list(each.dns_names), each.hint, each.version,
                )
                for each in entries.values()
            ],
            [
                _Svid(
                    each.claim.entry_id, each.spiffe_id, list(each.claim.dns_names),
                    list(each.chain), each.key, each.arrived_ns, each.not_after_ns, each.version,
                )
                for each in svids
            ],
        )  # fmt: skip
        replace_file(self._known, msgspec.msgpack.encode(known))

    def forget_known(self) -> None:
        """Remove entries, certificates and keys."""
        self._known.unlink(missing_ok=True)

    def _load(self, path: Path, kind: type[_Kind]) -> _Kind | None:
        try:
            return msgspec.msgpack.decode(path.read_bytes(), type=kind)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            _LOG.warning("%s is not used: %s", path, error)
            return None


def _entry(kept: _Entry) -> WorkloadEntry:
    return WorkloadEntry(
        kept.id, kept.spiffe_id, tuple(Selector(*each) for each in kept.selectors),
        kept.x509_ttl_s, kept.jwt_ttl_s, tuple(kept.dns_names), kept.hint, kept.version,
    )  # fmt: skip


def _svid(kept: _Svid) -> Svid:
    private_from_der(kept.key)
    claim = Claim(kept.entry_id, parse(kept.spiffe_id), tuple(kept.dns_names))
    return Svid(
        claim, tuple(kept.chain), kept.key, kept.arrived_ns, kept.not_after_ns, kept.version
    )


def _chain_pem(chain: Iterable[bytes]) -> str:
    certificates = map(x509.load_der_x509_certificate, chain)
    return "".join(each.public_bytes(Encoding.PEM).decode() for each in certificates)


def _key_pem(key: PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
