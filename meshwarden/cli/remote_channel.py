"""The way to a service on another machine: TLS always, and what goes wrong told in plain words."""

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc
from typing_extensions import override

from meshwarden.cli.remote import Remote, address_of, token_of
from meshwarden.errors import SupervisorError

__all__ = ["remote_service"]

_Stub = TypeVar("_Stub")
_LOOK_S = 5.0
_ANSWER_S = 60.0
# TLS 1.3 has a server refuse a certificate after the client believes that all is well.
_REFUSAL_S = 0.3
_DENIED = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)


@contextmanager
def remote_service(
    remote: Remote, stub: Callable[[grpc.Channel], _Stub], options: tuple[tuple[str, Any], ...]
) -> Iterator[_Stub]:
    """Call a service.

    Raises:
        SupervisorError: It can't be reached or believed, or it says no.
        BadParameter: The token's file holds none.
        OSError: A file can't be read.
    """
    with grpc.secure_channel(
        remote.address, _credentials(remote), options=(*options, *_name(remote))
    ) as channel:
        try:
            yield stub(grpc.intercept_channel(channel, _Deadline()))
        except grpc.RpcError as error:
            raise SupervisorError(_told(remote, error)) from error


def _credentials(remote: Remote) -> grpc.ChannelCredentials:
    credentials = grpc.ssl_channel_credentials(
        remote.authority.read_bytes() if remote.authority else None,
        remote.key.read_bytes() if remote.key else None,
        remote.certificate.read_bytes() if remote.certificate else None,
    )
    if remote.token_file is None:
        return credentials
    # The library itself keeps these off connections that are not TLS.
    bearer = grpc.access_token_call_credentials(token_of(remote.token_file))
    return grpc.composite_channel_credentials(credentials, bearer)


def _name(remote: Remote) -> tuple[tuple[str, Any], ...]:
    # A proxy of the environment is for the web, not for the address that somebody wrote out.
    plain = (("grpc.enable_http_proxy", 0),)
    return (*plain, ("grpc.ssl_target_name_override", remote.name)) if remote.name else plain


class _Deadline(grpc.UnaryUnaryClientInterceptor):  # type: ignore[type-arg] # to type checkers only
    """Gives each call an end: a network may swallow it, which a socket of this machine does not."""

    @override
    def intercept_unary_unary(
        self, continuation: Callable[[Any, Any], Any], client_call_details: Any, request: Any
    ) -> Any:
        details = client_call_details
        if details.timeout is None:
            details = details._replace(timeout=_ANSWER_S)
        return continuation(details, request)


def _told(remote: Remote, error: Any) -> str:
    code, details = error.code(), error.details() or error.code().name
    if code is grpc.StatusCode.UNAVAILABLE:
        return f"{remote.address}: {_diagnosis(remote) or details}"
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return (
            f"{remote.address} does not serve this to other machines: its settings say "
            "admin.remote = false, or it is an older version"
        )
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"{remote.address}: no answer within {_ANSWER_S:g} s"
    return f"{remote.address}: {details}" if code in _DENIED else details


def _diagnosis(remote: Remote) -> str:
    """Find out why no connection came about, as gRPC says it in words for its authors.

    Returns:
        One sentence; "" where a connection comes about now, so that it was something else.
    """
    host, port = address_of(remote.address)
    try:
        with socket.create_connection((host, port), _LOOK_S) as plain:
            return _tls_diagnosis(remote, plain, remote.name or host)
    except ConnectionRefusedError:
        return "nobody listens there: is the service running, and on that port?"
    except socket.gaierror:
        return f"there is no host of the name {host}"
    except TimeoutError:
        return f"no connection within {_LOOK_S:g} s: is a firewall in between?"
    except OSError as error:
        return f"no connection: {error.strerror or error}"


def _tls_diagnosis(remote: Remote, plain: socket.socket, name: str) -> str:
    try:
        context = ssl.create_default_context(cafile=remote.authority)
        context.set_alpn_protocols(["h2"])
        if remote.certificate and remote.key:
            context.load_cert_chain(remote.certificate, remote.key)
        with context.wrap_socket(plain, server_hostname=name) as connection:
            connection.settimeout(_REFUSAL_S)
            try:
                connection.recv(1)
            except TimeoutError:
                return ""
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is not believed: {_why(error, name)}"
    except ssl.SSLError as error:
        return _refusal(error)
    return ""


def _why(error: ssl.SSLCertVerificationError, name: str) -> str:
    # The numbers are OpenSSL's X509_V_ERR_*: see x509_vfy.h.
    match error.verify_code:
        case 62 | 64:
            return f"it is not for {name}; --server-name says which name it is for"
        case 10:
            return "it has expired"
        case 9:
            return "it is not valid yet: is a clock wrong?"
        case 18 | 19 | 20 | 21:
            return "--server-ca is not who vouches for it"
        case _:
            return error.verify_message or str(error)


def _refusal(error: ssl.SSLError) -> str:
    reason = (error.reason or "").replace("_", " ").lower()
    if "wrong version number" in reason or "record layer failure" in reason:
        return "it speaks plain text there, over which neither a token nor a certificate is shown"
    if "certificate required" in reason:
        return "it lets nobody in without a certificate: give --client-cert and --client-key"
    if "alert" in reason:
        return f"it does not take the certificate of --client-cert: {reason}"
    return f"no TLS: {reason or error}"
