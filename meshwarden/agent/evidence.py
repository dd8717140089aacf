"""What an agent shows to prove which node it is on: the other side of adapters/node_attestors."""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from adapters.files.privacy import is_private
from ca.join_token import InvalidTokenError, parse_token
from ca.keys import PrivateKey
from ca.possession import sign
from meshwarden.agent.keep import OwnIdentity

__all__ = [
    "Embedded",
    "Evidence",
    "EvidenceError",
    "ExpiredSvid",
    "JoinToken",
    "K8sPsat",
    "X509Pop",
]


_MOST_BYTES = 4096


class EvidenceError(Exception):
    """There is nothing to show; the message says what is missing, and has no secret."""


class Evidence(Protocol):
    """One way to be believed."""

    @property
    def attestor(self) -> str:
        """Name of the server's node attestor."""
        ...

    def payload(self) -> bytes:
        """Give what is shown at first; read anew each time, since files are replaced.

        Raises:
            EvidenceError: There is nothing.
        """
        ...

    def answer(self, challenge: bytes, new_key_sha256: bytes) -> bytes:
        """Answer the server's challenge.

        Raises:
            EvidenceError: There is nothing to answer with.
        """
        ...


class _Unchallenged:
    def answer(self, challenge: bytes, new_key_sha256: bytes) -> bytes:
        """Refuse: what is shown by itself needs no challenge."""
        del challenge, new_key_sha256
        raise EvidenceError("the server sent a challenge where there is none")


@dataclass(frozen=True, slots=True)
class JoinToken(_Unchallenged):
    """A token that an operator made.

    Attributes:
        text: The token itself; "" reads it from the file.
        file: Holds it.
    """

    text: str = field(default="", repr=False)
    file: Path | None = None
    attestor: str = "join_token"

    def payload(self) -> bytes:
        """Give the token's text."""
        return self._text().encode()

    def authorities(self) -> str:
        """Give the hash by which the server is known; "" where the token has none.

        Raises:
            EvidenceError: There is no token.
        """
        return parse_token(self._text()).authorities

    def _text(self) -> str:
        text = self.text
        if not text and self.file is not None:
            text = _private_text(self.file)
        if not text:
            raise EvidenceError(
                "there is no join token: make one by 'meshwarden token create' at the service, "
                "and name its file by --join-token-file"
            )
        try:
            parse_token(text)
        except InvalidTokenError as error:
            raise EvidenceError(str(error)) from None
        return text


def _private_text(file: Path) -> str:
    """Read a secret of one line.

    Raises:
        EvidenceError: It can't be read, or others can read it, too.
    """
    try:
        with file.open("rb") as opened:
            status = os.fstat(opened.fileno())
            # A pipe or a terminal has no mode that says who reads what goes through it.
            if stat.S_ISREG(status.st_mode) and not is_private(opened.fileno()):
                mode = stat.S_IMODE(status.st_mode)
                raise EvidenceError(
                    f"{file} has mode {mode:04o}, which is open to others: 'chmod 600' it"
                )
            return opened.read(_MOST_BYTES).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it holds no token"
        raise EvidenceError(f"{file}: {reason}") from None


@dataclass(frozen=True, slots=True)
class Embedded(_Unchallenged):
    """Nothing: being able to call is the proof, on the service's own socket."""

    attestor: str = "embedded"

    def payload(self) -> bytes:
        """Give nothing."""
        return b""


@dataclass(frozen=True, slots=True)
class K8sPsat(_Unchallenged):
    """The projected service account token of the agent's pod."""

    file: Path
    attestor: str = "k8s_psat"

    def payload(self) -> bytes:
        """Give the token, as the kubelet last renewed it."""
        try:
            return self.file.read_bytes().strip()
        except OSError as error:
            raise EvidenceError(f"{self.file}: {error.strerror}") from None


@dataclass(frozen=True, slots=True)
class X509Pop:
    """The node's own certificate and key."""

    certificate: Path
    key: Path
    attestor: str = "x509pop"

    def payload(self) -> bytes:
        """Give the chain."""
        try:
            chain = x509.load_pem_x509_certificates(self.certificate.read_bytes())
        except OSError as error:
            raise EvidenceError(f"{self.certificate}: {error.strerror}") from None
        except ValueError:
            raise EvidenceError(f"{self.certificate} holds no certificate in PEM") from None
        return b"".join(each.public_bytes(Encoding.DER) for each in chain)

    def answer(self, challenge: bytes, new_key_sha256: bytes) -> bytes:
        """Sign the challenge by the node's key."""
        try:
            key = load_pem_private_key(self.key.read_bytes(), None)
        except OSError as error:
            raise EvidenceError(f"{self.key}: {error.strerror}") from None
        except (ValueError, TypeError):
            raise EvidenceError(f"{self.key} holds no unencrypted private key in PEM") from None
        if not isinstance(key, PrivateKey):
            raise EvidenceError(f"{self.key} is of a kind that is not used here")
        return sign(key, challenge, new_key_sha256)


@dataclass(frozen=True, slots=True)
class ExpiredSvid:
    """The agent's own certificate of an earlier time."""

    own: OwnIdentity
    attestor: str = "expired_svid"

    def payload(self) -> bytes:
        """Give the chain."""
        return b"".join(self.own.chain)

    def answer(self, challenge: bytes, new_key_sha256: bytes) -> bytes:
        """Sign the challenge by its key."""
        return sign(self.own.key, challenge, new_key_sha256)
