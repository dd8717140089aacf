"""The end user's token, as Envoy's jwt_authn filter verified it and put it into metadata.

The filter does so where a provider has `payload_in_metadata`, and ext_authz passes it on where
`metadata_context_namespaces` lists the filter. No caller can write there: a token that did not
verify leaves nothing.

Source: RFC 7519, section 4.1 (claims); Istio, `request.auth.principal` is ISSUER/SUBJECT.
"""

from authz.values import Fields, fields_of
from protos.envoy.config.core.v3.base_pb2 import Metadata

__all__ = ["audiences", "claims_of", "presenter", "principal", "user", "user_parts"]

_NAMESPACE = "envoy.filters.http.jwt_authn"
# Where one request has the payloads of several tokens, the one under these keys is the user's.
_USUAL_KEYS = ("jwt_payload", "payload")


def claims_of(metadata: Metadata) -> Fields:
    """Find the claims of the one token that says who the user is; empty if none or no one does.

    A token counts if it has the texts `iss` and `sub`. Of several, the one under `jwt_payload` or
    `payload` counts, and else none: an identity is never a guess.
    """
    namespaces = metadata.filter_metadata
    if _NAMESPACE not in namespaces:
        return Fields()
    users = {}
    for key, value in namespaces[_NAMESPACE].fields.items():
        if value.HasField("struct_value"):
            claims = fields_of(value.struct_value)
            if principal(claims):
                users[key] = claims
    if len(users) == 1:
        return next(iter(users.values()))
    return next((users[key] for key in _USUAL_KEYS if key in users), Fields())


def principal(claims: Fields) -> str:
    """Give ISSUER/SUBJECT, or "" where either is missing."""
    issuer, subject = claims["iss"], claims["sub"]
    if isinstance(issuer, str) and isinstance(subject, str) and issuer and subject:
        return f"{issuer}/{subject}"
    return ""


def user(claims: Fields) -> str:
    """Give ISSUER/SUBJECT so that no two pairs come to one text, or "" where either is missing.

    Slashes of a subject are written %2F, and its percent signs %25. Else the user b/c of issuer
    https://id would be the user c of issuer https://id/b: whoever may choose a subject at one
    issuer would choose whom to be at the other.

    Example:
        >>> user(Fields({"iss": "https://id", "sub": "repo:a/b"}))
        'https://id/repo:a%2Fb'
    """
    if not principal(claims):
        return ""
    subject = claims["sub"].replace("%", "%25").replace("/", "%2F")
    return f"{claims['iss']}/{subject}"


def user_parts(user: str) -> tuple[str, str]:
    """Take ISSUER/SUBJECT apart as user() has put it together; two empty texts if it is neither.

    Example:
        >>> user_parts("https://id/repo:a%2Fb")
        ('https://id', 'repo:a/b')
    """
    issuer, slash, subject = user.rpartition("/")
    if not (issuer and slash and subject):
        return "", ""
    return issuer, subject.replace("%2F", "/").replace("%25", "%")


def audiences(claims: Fields) -> list[str]:
    """Whom the token is for: its `aud`, which may be one text or several."""
    audience = claims["aud"]
    several = audience if isinstance(audience, list) else [audience]
    return [name for name in several if isinstance(name, str) and name]


def presenter(claims: Fields) -> str:
    """Who was given the token: its `azp`, or ""."""
    party = claims["azp"]
    return party if isinstance(party, str) else ""
