"""What settings must hold together, beyond the type and bounds of each key alone.

Files are looked at here too: a certificate that can't be read should stop a start, not a front
some seconds later.
"""

import difflib
import ipaddress
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import starmap
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from meshwarden import plugins
from meshwarden.agent_checks import agent_faults
from meshwarden.identity_checks import identity_faults
from meshwarden.settings import STORE, Bundle, Settings
from meshwarden.settings.checks import PLACEHOLDERS

__all__ = ["CrossFault", "cross_faults", "did_you_mean"]

# RFC 9110 section 5.6.2, in lower case as HTTP/2 has it (RFC 9113 section 8.2.1).
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
# The message's own framing and routing: another value would break what Envoy then sends.
_FRAMING_HEADERS = frozenset({"connection", "content-length", "host", "te", "transfer-encoding"})
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_SCHEMA_NAME = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
# sun_path holds 108 bytes with its final NUL (unix(7)); 41 are left for a socket's own name.
_RUNTIME_DIR_BYTES = 66
_MOST_NAMED = 2


class CrossFault(NamedTuple):
    """What is wrong, and the keys it depends on; the first of them gets the blame."""

    keys: tuple[str, ...]
    message: str


def cross_faults(settings: Settings) -> Iterator[CrossFault]:
    """Give each fault of settings whose every value is fit by itself."""
    yield from _plaintext(settings)
    yield from _tls(settings)
    yield from _runtime(settings)
    yield from starmap(CrossFault, identity_faults(settings))
    yield from starmap(CrossFault, agent_faults(settings))
    yield from _names(settings)
    yield from _bundle(settings.policy.bundle, is_used=settings.policy.source == "bundle")
    yield from _headers("check.allowed.request_headers", settings.check.allowed.request_headers)
    yield from _headers("check.allowed.response_headers", settings.check.allowed.response_headers)
    yield from _headers("check.denied.response_headers", settings.check.denied.response_headers)
    yield from _challenge(settings.check.denied.challenge)
    removed = dict.fromkeys(settings.check.allowed.remove_request_headers, "")
    yield from _headers("check.allowed.remove_request_headers", removed)
    yield from _decisions(settings)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Give "; did you mean NEAREST?", or nothing where nothing is near."""
    names = list(known)
    # The right word in the wrong section is nearer than any spelling.
    word = name.rpartition(".")[2]
    same = [other for other in names if other.rpartition(".")[2] == word]
    near = same if 0 < len(same) <= _MOST_NAMED else difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _plaintext(settings: Settings) -> Iterator[CrossFault]:
    listen, fallback = settings.listen, settings.fallback.http_address
    asked = "listen.allow_plaintext_beyond_loopback"
    if not (listen.address.is_loopback or listen.tls.is_on or _asked(settings)):
        yield CrossFault(
            ("listen.address", asked, "listen.tls.certificate"),
            f"{listen.address} can be reached from other machines and there is no TLS; set "
            f"listen.tls.certificate or listen.tls.svid, or ask for plain text by {asked} = true",
        )
    if not (fallback.is_loopback or _asked(settings)):
        yield CrossFault(
            ("fallback.http_address", asked),
            f"{fallback} can be reached from other machines and is always plain text; ask for it "
            f"by {asked} = true",
        )
    if fallback.port == listen.address.port:
        yield CrossFault(
            ("fallback.http_address", "listen.address"),
            f"port {fallback.port} is that of listen.address; take another one",
        )


def _asked(settings: Settings) -> bool:
    return settings.listen.allow_plaintext_beyond_loopback


def _server_names(settings: Settings) -> Iterator[CrossFault]:
    if settings.server.names:
        from ca.errors import OrderError  # noqa: PLC0415 - it takes a while; few have names
        from ca.profile import check_names  # noqa: PLC0415

        try:
            check_names(settings.server.names)
        except OrderError as error:
            yield CrossFault(("server.names",), str(error))


def _tls(settings: Settings) -> Iterator[CrossFault]:
    tls = settings.listen.tls
    certificate, key, client_ca = (
        "listen.tls.certificate",
        "listen.tls.key",
        "listen.tls.client_ca",
    )
    if tls.certificate and not tls.key:
        yield CrossFault((certificate, key), f"needs {key} too")
    if tls.key and not tls.certificate:
        yield CrossFault((key, certificate), f"needs {certificate} too")
    if tls.client_ca and not tls.is_on:
        yield CrossFault((client_ca, certificate), f"needs {certificate} too")
    if tls.require_client_certificate and not (tls.client_ca or tls.svid):
        required = "listen.tls.require_client_certificate"
        yield CrossFault((required, client_ca), f"needs {client_ca} too")
    if tls.svid and tls.certificate:
        yield CrossFault(
            ("listen.tls.svid", certificate), f"and {certificate} exclude each other: take one"
        )
    if tls.svid and not settings.identity.is_on:
        yield CrossFault(
            ("listen.tls.svid", "identity.trust_domain"), "needs identity.trust_domain too"
        )
    yield from _server_names(settings)
    for name, file, label in (
        (certificate, tls.certificate, "CERTIFICATE"),
        (key, tls.key, "PRIVATE KEY"),
        (client_ca, tls.client_ca, "CERTIFICATE"),
    ):
        if file and (fault := _pem_fault(file, label)):
            yield CrossFault((name,), fault)


def _pem_fault(file: Path, label: str) -> str:
    """Say what is wrong with a PEM file; "" for nothing."""
    try:
        text = file.read_bytes().decode("ascii", "replace")
    except OSError as error:
        return f"{file} can't be read: {error.strerror}"
    if "ENCRYPTED" in text:
        return f"{file} is encrypted, and at a start nobody is there to type its password"
    # A key may be "EC PRIVATE KEY" or "RSA PRIVATE KEY" too.
    return "" if f"{label}-----" in text else f"{file} is no PEM file with a {label.lower()}"


def _runtime(settings: Settings) -> Iterator[CrossFault]:
    folder = settings.runtime.runtime_dir
    length = len(os.fsencode(folder))
    if length > _RUNTIME_DIR_BYTES:
        yield CrossFault(
            ("runtime.runtime_dir",),
            f"{folder} has {length} bytes: sockets in it would pass the kernel's 107; take a path "
            f"of at most {_RUNTIME_DIR_BYTES}",
        )


def _names(settings: Settings) -> Iterator[CrossFault]:
    source, known = settings.policy.source, [*plugins.names("policies"), STORE]
    if source not in known:
        hint = did_you_mean(source, known) or f"; there are: {', '.join(known)}"
        yield CrossFault(("policy.source",), f"no adapter {source!r}{hint}")
    sinks = plugins.names("decisions")
    for sink in settings.decisions.sinks:
        if sink not in sinks:
            hint = did_you_mean(sink, sinks) or f"; there are: {', '.join(sinks)}"
            yield CrossFault(("decisions.sinks",), f"no adapter {sink!r}{hint}")
    for module in settings.engine.functions:
        if not _MODULE.fullmatch(module):
            yield CrossFault(
                ("engine.functions",), f"{module!r} is no module name, such as company.functions"
            )


def _bundle(bundle: Bundle, *, is_used: bool) -> Iterator[CrossFault]:
    if bundle.url:
        yield from _bundle_url(bundle)
    elif is_used:
        yield CrossFault(
            ("policy.bundle.url", "policy.source"), "is needed by policy.source = 'bundle'"
        )
    if bundle.digest and not _DIGEST.fullmatch(bundle.digest):
        yield CrossFault(("policy.bundle.digest",), "must be sha256: and 64 hexadecimal digits")
    if not _HEADER_NAME.fullmatch(bundle.header):
        yield CrossFault(
            ("policy.bundle.header",), f"{bundle.header!r} is no header name in lower case"
        )
    for name, file, label in (
        ("policy.bundle.public_key", bundle.public_key, "PUBLIC KEY"),
        ("policy.bundle.ca", bundle.ca, "CERTIFICATE"),
    ):
        if file and (fault := _pem_fault(file, label)):
            yield CrossFault((name,), fault)


def _bundle_url(bundle: Bundle) -> Iterator[CrossFault]:
    key = "policy.bundle.url"
    try:
        url = urlsplit(bundle.url)
        host, _ = url.hostname, url.port
    except ValueError as error:
        yield CrossFault((key,), f"is no URL: {error}")
        return
    if url.scheme not in {"http", "https"} or not host:
        yield CrossFault((key,), "must begin with https:// or http:// and name a server")
        return
    if not (bundle.url.isascii() and bundle.url.isprintable()) or " " in bundle.url:
        yield CrossFault((key,), "holds what a URL can't: write it as %XX")
    if url.username is not None:
        yield CrossFault((key,), "holds a name or password; use policy.bundle.token_file")
    if url.scheme == "https" or _is_here(host):
        return
    if not (bundle.digest or bundle.public_key):
        yield CrossFault(
            (key, "policy.bundle.digest", "policy.bundle.public_key"),
            "whoever is on the way could change it: write https://, or set "
            "policy.bundle.public_key",
        )
    if bundle.token_file:
        yield CrossFault(
            ("policy.bundle.token_file", key),
            "whoever is on the way could read it: write https:// in policy.bundle.url",
        )


def _is_here(host: str) -> bool:
    """Whether a name is this machine's own, without asking anybody for its address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _decisions(settings: Settings) -> Iterator[CrossFault]:
    decisions = settings.decisions
    for header in decisions.headers:
        if not _HEADER_NAME.fullmatch(header):
            yield CrossFault(
                ("decisions.headers",),
                f"{header!r} is no header name; write it in lower case, without a colon",
            )
    if not _SCHEMA_NAME.fullmatch(decisions.schema):
        yield CrossFault(
            ("decisions.schema",), f"{decisions.schema!r} is no plain name, such as decisions_2"
        )
    if "postgresql" in decisions.sinks and not (decisions.url or settings.store.url):
        yield CrossFault(
            ("decisions.sinks", "decisions.url", "store.url"),
            "postgresql needs to know where that is: set decisions.url, or store.url",
        )


def _challenge(challenge: str) -> Iterator[CrossFault]:
    if not (challenge.isascii() and challenge.isprintable()):
        yield CrossFault(("check.denied.challenge",), "holds what a header can't: write ASCII")


def _headers(key: str, headers: Mapping[str, str]) -> Iterator[CrossFault]:
    for name, value in headers.items():
        for message in _header_faults(name, value):
            yield CrossFault((key,), message)


def _header_faults(name: str, value: str) -> Iterator[str]:
    if not _HEADER_NAME.fullmatch(name):
        yield f"{name!r} is no header name; write it in lower case, without a colon"
    elif name in _FRAMING_HEADERS:
        yield f"{name} belongs to HTTP itself and can't be changed"
    if not value.isprintable():
        yield f"the value of {name} holds a line break or a control character"
    for placeholder in _PLACEHOLDER.findall(value):
        if placeholder not in PLACEHOLDERS:
            hint = did_you_mean(placeholder, PLACEHOLDERS)
            hint = hint or f"; there are: {', '.join(PLACEHOLDERS)}"
            yield f"the value of {name} has no placeholder {{{placeholder}}}{hint}"
