"""What of a request may be told: in records, near misses and the text of rules.

Headers and claims are nobody's business but for those that the settings name, and of these a value
that opens doors is never told, whatever the settings say. A name that only looks like one that
does is masked as well: too little in a log is mended by another name, too much is not.
"""

import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from authz.policy.options import MASKED, Privacy
from authz.values import ABSENT

__all__ = ["is_secret", "kept", "masked_text", "privacy"]

_LONGEST = 256

_SECRET_NAME = re.compile(
    r"authorization|authentication|(?<![a-z])auth(?![a-z])|cookie|token|secret|passw|credential"
    r"|session|signature|api[-_]?key|access[-_]?key|private[-_]?key|jwt|assertion|[cx]srf|nonce"
    r"|client-cert|(?<![a-z])(?:sid|otp|pin|pwd|sig)(?![a-z])"
)
# RFC 9110 section 11.4 and RFC 7519: credentials are told from other text by their form too.
_CREDENTIALS = re.compile(
    r"\s*(?:basic|bearer|digest|dpop|hoba|mutual|negotiate|ntlm|scram-\S+|vapid|aws4-\S+)\s+\S"
    r"|.*\beyJ[\w-]{8,}\.[\w-]+\.",
    re.IGNORECASE | re.DOTALL,
)
_PART = re.compile(r"""\[\s*(?:'([^']*)'|"([^"]*)")\s*\]""")
# The keys above, or a literal; one that was cut off ends where the text does.
_LITERAL = re.compile(r"""\[\s*(?:'[^']*'|"[^"]*")\s*\]|'[^']*(?:'|$)|"[^"]*(?:"|$)""")

_BY_NAME = re.compile(
    r"""(request\.(?:raw_)?headers|request\.auth\.claims)\[(?:'([^']*)'|"([^"]*)")\]"""
)
_PRIVATE = (
    "request.headers",
    "request.raw_headers",
    "request.auth.claims",
    "request.query",
    "request.query_params",
    "request.raw_path",
    "request.body",
    "metadata.",
)


@lru_cache(maxsize=4096)
def is_secret(name: str) -> bool:
    """Whether the value of a header or a claim of this name may open doors."""
    return _SECRET_NAME.search(name.lower()) is not None


def privacy(attribute: str, headers: Iterable[str] = (), claims: Iterable[str] = ()) -> Privacy:
    """Tell how much of an attribute may be told.

    Args:
        attribute: As in a binding, such as `request.headers["x-env"]`.
        headers: Names of headers whose values may be told.
        claims: Likewise.
    """
    if any(is_secret(double or single) for double, single in _PART.findall(attribute)):
        return Privacy.SECRET
    named = _BY_NAME.fullmatch(attribute)
    if named is not None:
        told = claims if named[1].endswith("claims") else [each.lower() for each in headers]
        name = named[2] or named[3]
        if (name if named[1].endswith("claims") else name.lower()) in told:
            return Privacy.TOLD
    return Privacy.PRIVATE if attribute.startswith(_PRIVATE) else Privacy.TOLD


def kept(names: Iterable[str], values: Mapping[str, Any]) -> dict[str, str]:
    """Give those of some values that may be kept, as text; what opens doors is masked.

    Args:
        names: Which are asked for; one that is not there is left out.
        values: Headers or claims.
    """
    found: dict[str, str] = {}
    for name in names:
        value = values.get(name, ABSENT)
        if value is not ABSENT and value is not None:
            found[name] = MASKED if is_secret(name) else _text(value)
    return found


def _text(value: Any) -> str:
    shown = _unmasked(value)
    # Sorted: the maps of a message come in any order.
    is_text = isinstance(shown, str)
    text = shown if is_text else json.dumps(shown, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _unmasked(value: Any) -> Any:
    """A value without what opens doors, at any depth."""
    match value:
        case str():
            return MASKED if _CREDENTIALS.match(value) else value
        case Mapping():
            return {
                name: MASKED if is_secret(name) else _unmasked(each) for name, each in value.items()
            }
        case list() | tuple():
            return [_unmasked(each) for each in value]
        case _:
            return value


@lru_cache(maxsize=4096)
def masked_text(text: str) -> str:
    """Take literals out of a rule or a condition that compares a secret header or claim.

    `request.headers['x-api-key'] == 's3cret'` says of a request that matched what it held.
    """
    if not any(is_secret(single or double) for single, double in _PART.findall(text)):
        return text
    return _LITERAL.sub(lambda found: found[0] if found[0][0] == "[" else f"'{MASKED}'", text)
