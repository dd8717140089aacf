"""The end user's token, as Envoy's jwt_authn filter verified it and put it into metadata.

The filter does so where a provider has `payload_in_metadata`, and ext_authz passes it on where
`metadata_context_namespaces` lists the filter. No caller can write there: a token that did not
verify leaves nothing.

Source: RFC 7519, section 4.1 (claims); Istio, `request.auth.principal` is ISSUER/SUBJECT.
"""

from authz.values import Fields, fields_of
from protos.envoy.config.core.v3.base_pb2 import Metadata

__all__ = ["audiences", "claims_of", "presenter", "principal"]

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


def audiences(claims: Fields) -> list[str]:
    """Whom the token is for: its `aud`, which may be one text or several."""
    audience = claims["aud"]
    several = audience if isinstance(audience, list) else [audience]
    return [name for name in several if isinstance(name, str) and name]


def presenter(claims: Fields) -> str:
    """Who was given the token: its `azp`, or ""."""
    party = claims["azp"]
    return party if isinstance(party, str) else ""
