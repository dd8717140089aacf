"""SPIFFE IDs: text in, checked value out.

Nothing here is lenient. Two spellings of one identity, or one spelling of two, is how a policy
about identities gets evaded, so an ID is either in the one form that the standard allows or it is
no ID at all.

Source: SPIFFE-ID standard, section 2 (SPIFFE identity); Istio's form of a principal leaves the
scheme off (AuthorizationPolicy, `source.principals`).
"""

import re
from dataclasses import dataclass

from typing_extensions import override

__all__ = ["InvalidSpiffeIdError", "SpiffeId", "parse"]

_SCHEME = "spiffe://"
_MAX_ID_BYTES = 2048  # Section 2.3: no longer ID has to be, and none here may be, accepted.
_MAX_TRUST_DOMAIN_BYTES = 255  # Section 2.1.

# Section 2.1: lower case only; no port, user info or percent-encoding can be written with these.
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]+")
# Section 2.2: letters, digits, '.', '-', '_'.
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+")

# Istio's path of a workload: /ns/NAMESPACE/sa/SERVICE_ACCOUNT.
_ISTIO_SEGMENTS = 4


class InvalidSpiffeIdError(ValueError):
    """The text is no SPIFFE ID; the message says which rule it breaks."""


@dataclass(frozen=True, slots=True)
class SpiffeId:
    """A valid SPIFFE ID.

    Attributes:
        trust_domain: Its trust domain, in lower case, such as "mesh.example".
        path: "" or a path with its leading slash, such as "/ns/shop/sa/web".
    """

    trust_domain: str
    path: str

    @property
    def principal(self) -> str:
        """Istio's form, without the scheme: "mesh.example/ns/shop/sa/web"."""
        return self.trust_domain + self.path

    @property
    def namespace(self) -> str:
        """The namespace of an ID of the form /ns/N/sa/A, else ""."""
        return self._istio()[0]

    @property
    def service_account(self) -> str:
        """The service account of an ID of the form /ns/N/sa/A, else ""."""
        return self._istio()[1]

    def _istio(self) -> tuple[str, str]:
        segments = self.path[1:].split("/")
        if len(segments) == _ISTIO_SEGMENTS and segments[0] == "ns" and segments[2] == "sa":
            return segments[1], segments[3]
        return "", ""

    @override
    def __str__(self) -> str:
        """The ID as a URI."""
        return _SCHEME + self.trust_domain + self.path


def parse(text: str) -> SpiffeId:
    """Parse one SPIFFE ID.

    The scheme must be written in lower case. RFC 3986 (section 3.1) calls schemes case-insensitive,
    but IDs are compared as text, and a second spelling is what a deny rule would miss.

    Args:
        text: A URI such as "spiffe://mesh.example/ns/shop/sa/web".

    Raises:
        InvalidSpiffeIdError: The text breaks a rule of the standard.

    Example:
        >>> parse("spiffe://mesh.example/ns/shop/sa/web").principal
        'mesh.example/ns/shop/sa/web'
    """
    if not text.startswith(_SCHEME):
        raise InvalidSpiffeIdError('it does not begin with "spiffe://"')
    # Every character allowed is one byte long, so counting characters counts bytes.
    if len(text) > _MAX_ID_BYTES:
        raise InvalidSpiffeIdError(f"it is longer than {_MAX_ID_BYTES} bytes")
    trust_domain, slash, path = text[len(_SCHEME) :].partition("/")
    if not trust_domain:
        raise InvalidSpiffeIdError("its trust domain is empty")
    if len(trust_domain) > _MAX_TRUST_DOMAIN_BYTES:
        raise InvalidSpiffeIdError(
            f"its trust domain is longer than {_MAX_TRUST_DOMAIN_BYTES} bytes"
        )
    if _TRUST_DOMAIN.fullmatch(trust_domain) is None:
        raise InvalidSpiffeIdError(
            "its trust domain may hold only lower-case letters, digits, '.', '-' and '_'"
        )
    if slash:
        _check_path(path)
    return SpiffeId(trust_domain, slash + path)


def _check_path(path: str) -> None:
    """Check the segments of a path, given without its first slash (section 2.2)."""
    for segment in path.split("/"):
        if not segment:
            raise InvalidSpiffeIdError("its path has an empty segment or a slash at the end")
        if segment in {".", ".."}:
            raise InvalidSpiffeIdError("its path has a '.' or '..' segment")
        if _SEGMENT.fullmatch(segment) is None:
            raise InvalidSpiffeIdError(
                "its path may hold only letters, digits, '.', '-', '_' and slashes"
            )
