"""Makes the CheckRequest that a command asks about, puts it to a service, and reads the answer.

A policy here is asked with the same message (explaining.py) and its answer read alike: what the
command prints is what a sidecar would be told.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf import json_format

from authz.check import ActivePolicy
from authz.token import user_parts
from ca import spiffe_id
from meshwarden import clock, plugins
from meshwarden.errors import NoVerdictError
from meshwarden.follower import build_text
from meshwarden.settings import Settings
from protos.envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse

if TYPE_CHECKING:
    import grpc

__all__ = [
    "Answer",
    "Asked",
    "Tls",
    "ask_server",
    "load_policy",
    "read_answer",
    "request_from_flags",
    "request_from_json",
]

_MESSAGE_BYTES = 256 * 1024 * 1024
_CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", _MESSAGE_BYTES),
    ("grpc.max_receive_message_length", _MESSAGE_BYTES),
    # A proxy of the environment is for the web, not for the address that somebody wrote out.
    ("grpc.enable_http_proxy", 0),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as flags describe it; "" is left out."""

    principal: str = ""
    user: str = ""
    service: str = ""
    method: str = "GET"
    path: str = "/"
    host: str = ""
    source_ip: str = ""
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    claims: Mapping[str, str] = dataclasses.field(default_factory=dict)
    context: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files to ask a service with; no authority is plain text."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A verdict and why.

    Attributes:
        allowed: Whether the request may pass.
        status: HTTP status that the caller would get; 200 for an allowed request.
        reason: Why, in one clause.
        rule: The deciding rule as "file:line", or "".
        rule_text: It as one line of policy; "" where a service was asked, which does not tell.
        misses: The nearest rules that did not match, in words.
        faults: Rules whose condition raised on this request's values, as "file:line".
        digest: Digest of the policy that decided.
        id: The decision's id; a service has it in its decision log.
        request: What was decided on, as the policy saw it; empty where a service was asked.
        source: Where the policy is from, for people; "" where a service was asked.
        revision: Its number in the store; 0 where it is from elsewhere.
        live: Whether a running service decides by it.
    """

    allowed: bool
    status: int
    reason: str
    rule: str
    rule_text: str
    misses: tuple[str, ...]
    faults: tuple[str, ...]
    digest: str
    id: str
    request: Mapping[str, str]
    source: str = ""
    revision: int = 0
    live: bool = False


def request_from_flags(asked: Asked) -> CheckRequest:
    """Build the CheckRequest that a sidecar would send.

    Raises:
        NoVerdictError: A value could never come from a sidecar, so its verdict would mislead.
    """
    request = CheckRequest()
    context = request.attributes
    http = context.request.http
    http.method, http.path, http.host = asked.method, asked.path, asked.host
    http.protocol, http.scheme = "HTTP/2", "http"
    http.headers.update({name.lower(): value for name, value in asked.headers.items()})
    context.request.time.FromNanoseconds(clock.now_ns())
    if asked.source_ip:
        context.source.address.socket_address.address = asked.source_ip
    if asked.principal:
        uri = f"spiffe://{asked.principal.removeprefix('spiffe://')}"
        try:
            spiffe_id.parse(uri)
        except spiffe_id.InvalidSpiffeIdError as error:
            raise NoVerdictError(f"--principal {asked.principal}: {error}") from error
        context.source.principal = uri
    if asked.user or asked.claims:
        issuer, subject = user_parts(asked.user)
        if not issuer:
            raise NoVerdictError(
                f"--user {asked.user}: write ISSUER/SUBJECT; --claim needs one too"
            )
        token = context.metadata_context.filter_metadata["envoy.filters.http.jwt_authn"]
        token["jwt_payload"] = {**asked.claims, "iss": issuer, "sub": subject}
    context.context_extensions.update(asked.context)
    if asked.service:
        context.context_extensions["service"] = asked.service
    return request


def request_from_json(text: str | bytes) -> CheckRequest:
    """Read a CheckRequest in protobuf's JSON.

    Raises:
        NoVerdictError: It is none.
    """
    try:
        return json_format.Parse(text, CheckRequest())
    except (json_format.ParseError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())
        raise NoVerdictError(f"no CheckRequest in JSON: {said}") from error


def load_policy(settings: Settings) -> ActivePolicy:
    """Build the policy that the settings name, as control does before it publishes one.

    Raises:
        PolicyError: The policy has faults.
        OSError: Its source can't be reached.
    """
    return build_text(plugins.policy_source(settings).load(), settings.policy.bind, settings)


def ask_server(request: CheckRequest, address: str, tls: Tls, timeout_s: float) -> Answer:
    """Ask a running service.

    Args:
        request: What to ask about.
        address: HOST:PORT of its public port.
        tls: Files for TLS.
        timeout_s: Longest wait, in seconds.

    Raises:
        NoVerdictError: It could not be reached, or answered with an RPC error.
        OSError: A file for TLS can't be read.
    """
    # A policy here is asked without it, and it takes a while to import.
    import grpc  # noqa: PLC0415

    from protos.envoy.service.auth.v3.external_auth_pb2_grpc import (  # noqa: PLC0415
        AuthorizationStub,
    )

    with _channel(address, tls) as channel:
        try:
            response = AuthorizationStub(channel).Check(request, timeout=timeout_s)
        except grpc.RpcError as error:
            code, details = error.code().name, error.details()
            raise NoVerdictError(f"{address}: {code}: {details}") from error
    return dataclasses.replace(read_answer(response, "", {}), live=True)


def _channel(address: str, tls: Tls) -> "grpc.Channel":
    import grpc  # noqa: PLC0415

    if tls.ca is None:
        if tls.certificate or tls.key:
            raise NoVerdictError("--cert and --key need --ca: who is the service's authority?")
        return grpc.insecure_channel(address, options=_CHANNEL_OPTIONS)
    if bool(tls.certificate) != bool(tls.key):
        raise NoVerdictError("--cert and --key belong together")
    credentials = grpc.ssl_channel_credentials(
        tls.ca.read_bytes(),
        tls.key.read_bytes() if tls.key else None,
        tls.certificate.read_bytes() if tls.certificate else None,
    )
    return grpc.secure_channel(address, credentials, options=_CHANNEL_OPTIONS)


def read_answer(response: CheckResponse, rule_text: str, seen: Mapping[str, str]) -> Answer:
    """Read a response as a sidecar does, and what Meshwarden says beside it.

    Args:
        response: What the service answered.
        rule_text: The deciding rule as one line of policy, or "".
        seen: What was decided on, or nothing.
    """
    allowed = response.status.code == 0
    said = {}
    if "meshwarden" in response.dynamic_metadata.fields:
        said = json_format.MessageToDict(response.dynamic_metadata.fields["meshwarden"])
    status = response.denied_response.status.code or 403
    return Answer(
        allowed=allowed,
        status=200 if allowed else int(status),
        reason=said.get("reason", ""),
        rule=said.get("rule", ""),
        rule_text=rule_text,
        misses=tuple(said.get("misses", ())),
        faults=tuple(said.get("faults", ())),
        digest=said.get("digest", ""),
        id=said.get("id", ""),
        request=seen,
    )
