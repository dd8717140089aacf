"""The path and host of a request, in the one form that policies are written in.

Servers disagree on what a path means: some resolve `..`, some merge `//`, some cut `;params`, some
take `%2F` for a slash. The decision is about the form of RFC 3986, but the upstream gets the path
as it was sent, so a path that another server would read differently is handled by three rules:

- An allow rule must match the normal form: percent-encoded unreserved characters decoded, what
  else is encoded left so in upper case, `;params` cut from each segment, empty and dot segments
  resolved, the trailing slash kept, letter case kept, query gone.
- A deny rule that matches any other `reading` of the path (as sent, decoded, unresolved)
  denies too: `/admin/../x` and `/%61dmin;x` don't get past a deny on `/admin/**`.
- A `suspect` path has no form that everybody agrees on (an encoded slash, a backslash, a NUL, a
  broken encoding, ...). No honest client sends one, and no allow rule is satisfied by it unless
  the setting `ambiguous_paths` says so. Two slashes at the start are among them: to a URL parser
  `//public/admin` is the path `/admin` on a host named public (RFC 3986, section 4.2). So is `..`:
  a server that routes by prefix and resolves no dots takes `/admin/../public` for something below
  `/admin`, and beside `//` or `;` even those that do resolve it disagree on what it takes back.
  Clients resolve it before they send.

Source: RFC 3986, sections 3.3, 6.2.2 and 5.2.4; RFC 9112, section 3.2 (forms of a request target).
"""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

__all__ = ["RequestPath", "host", "normalise"]

# RFC 3986, section 3.3: unreserved, sub-delims, ":" and "@", but for ";", which some servers cut.
_PLAIN = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,=:@/]*").fullmatch
_ABSOLUTE_FORM = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/]*(/.*)?", re.DOTALL)
_ENCODED = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
# What may stand in a path unencoded, and what is treated before or after quoting.
_SAFE = "/%!$&'()*+,;=:@[]~"

# In this order the first that is found is the reason given.
_SUSPECT = (
    ("two slashes at its start", re.compile(r"\A//")),
    ("a control character or space", re.compile(r"[\x00-\x20\x7f-\x9f]")),
    ("an encoded control character", re.compile(r"%(?:[01][0-9A-Fa-f]|7[Ff])")),
    ("a backslash", re.compile(r"\\|%5[Cc]")),
    ("an encoded slash", re.compile(r"%2[Ff]")),
    ("a fragment", re.compile(r"#")),
    ("a broken percent-encoding", re.compile(r"%(?![0-9A-Fa-f]{2})")),
    ("a percent-encoded percent-encoding", re.compile(r"%25[0-9A-Fa-f]{2}")),
)


@dataclass(slots=True)  # Made on every request: frozen would cost 0.5 us more.
class RequestPath:
    """A path as the decision sees it.

    Attributes:
        path: The normal form; "" where the request has none (CONNECT), "*" for `OPTIONS *`.
        suspect: Why no form of it can be relied on, in words that complete "it has ...", or None.
        readings: Other paths that a server may take it for, without `path` itself; at most five.
    """

    path: str
    suspect: str | None = None
    readings: tuple[str, ...] = ()


def normalise(raw: str) -> RequestPath:
    """Bring a request target to its normal path.

    Args:
        raw: The `:path` of the request, with its query; any text.

    Cost: 0.6 us for a path that is normal already, linear in its length for any.
    """
    target = raw.partition("?")[0]
    if _PLAIN(target) is not None and "//" not in target and "/." not in target:
        return RequestPath(target)
    return _normalise_odd(target)


def _normalise_odd(target: str) -> RequestPath:
    if target in {"", "*"}:
        return RequestPath(target)
    if not target.startswith("/"):
        absolute = _ABSOLUTE_FORM.fullmatch(target)
        if absolute is None:
            return RequestPath(target, "no slash at its start")
        target = absolute.group(1) or "/"

    suspect = next((reason for reason, found in _SUSPECT if found.search(target)), None)
    # A lone surrogate can't come from protobuf text, but it can from a command line.
    sent = target.encode("utf-8", "surrogateescape")
    decoded = unquote_to_bytes(sent)
    try:
        decoded.decode()
    except UnicodeDecodeError:
        suspect = suspect or "bytes that are not UTF-8"

    path = _resolve(quote(_ENCODED.sub(_decode_unreserved, target), _SAFE, errors="replace"))
    # Decoded once is what most servers work on; twice, what a proxy before one makes of it.
    once = decoded.decode("utf-8", "replace").replace("\\", "/")
    twice = unquote_to_bytes(decoded).decode("utf-8", "replace").replace("\\", "/")
    resolved = _resolve(once)
    if suspect is None and _has_parent_segment(once):
        suspect = "a segment '..'"
    readings = dict.fromkeys((target, once, _resolve(once, dots=False), resolved, _resolve(twice)))
    readings.pop(path, None)
    return RequestPath(path, suspect, tuple(readings))


def _decode_unreserved(encoded: re.Match[str]) -> str:
    character = chr(int(encoded.group(1), 16))
    return character if character in _UNRESERVED else encoded.group().upper()


def _has_parent_segment(path: str) -> bool:
    return ".." in path and any(segment.partition(";")[0] == ".." for segment in path.split("/"))


def _resolve(path: str, *, dots: bool = True) -> str:
    """Cut parameters, then resolve empty and dot segments (RFC 3986, section 5.2.4)."""
    segments: list[str] = []
    segment = ""
    for with_parameters in path.split("/"):
        segment = with_parameters.partition(";")[0]
        if dots and segment == "..":
            if segments:
                segments.pop()
        elif segment and not (dots and segment == "."):
            segments.append(segment)
    # The last segment said "this folder", so the path is one.
    slash = "/" if segments and segment in {"", ".", ".."} else ""
    return "/" + "/".join(segments) + slash


def host(raw: str) -> str:
    """Bring the `:authority` or Host of a request to lower case, without port and final dot.

    Example:
        >>> host("Shop.Example.:8443"), host("[2001:DB8::1]:443")
        ('shop.example', '[2001:db8::1]')
    """
    name = raw.lower()
    if name.startswith("["):
        return name.partition("]")[0] + "]"
    return name.partition(":")[0].removesuffix(".")
