"""A client of any SPIFFE Workload API, ours or another's.

Source: SPIFFE Workload Endpoint, sections 3 and 4; SPIFFE Workload API, sections 5 and 6.
"""

import ipaddress
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import grpc
from cryptography import x509

from ca.der import split_der
from ca.keys import private_from_der
from ca.spiffe_id import parse
from meshwarden.errors import WorkloadApiError
from protos.spiffe.workload import workload_pb2 as pb
from protos.spiffe.workload import workload_pb2_grpc

__all__ = ["ENDPOINT_VARIABLE", "FetchedSvid", "Update", "WorkloadClient", "target_of"]

ENDPOINT_VARIABLE = "SPIFFE_ENDPOINT_SOCKET"
_HEADER = (("workload.spiffe.io", "true"),)
_SECOND_NS = 1_000_000_000
_MAX_CERTIFICATES = 64
# How grpcio begins to tell that it found nobody; the system's own word comes last.
_NOT_CONNECTED = "failed to connect to all addresses"


@dataclass(frozen=True, slots=True)
class FetchedSvid:
    """An X509-SVID as a workload gets it.

    Attributes:
        spiffe_id: Whose.
        hint: What it is for, where there are several.
        chain: DER, the leaf first.
        key: PKCS#8 in DER.
        serial: Of the leaf, in hex.
        not_after_ns: When it expires.
    """

    spiffe_id: str
    hint: str
    chain: tuple[bytes, ...]
    key: bytes = field(repr=False)
    serial: str
    not_after_ns: int


@dataclass(frozen=True, slots=True)
class Update:
    """All that a workload has at one time.

    Attributes:
        svids: The default identity first.
        bundles: Trust domain to its authorities, DER each; the own one first.
    """

    svids: tuple[FetchedSvid, ...]
    bundles: Mapping[str, tuple[bytes, ...]]

    def choose(self, spiffe_id: str, hint: str) -> FetchedSvid:
        """Give the default identity, or the one that is asked for.

        Raises:
            WorkloadApiError: There is none such.
        """
        for svid in self.svids:
            if spiffe_id in {"", svid.spiffe_id} and hint in {"", svid.hint}:
                return svid
        there = ", ".join(
            f"{each.spiffe_id} ({each.hint})" if each.hint else each.spiffe_id
            for each in self.svids
        )
        raise WorkloadApiError(f"no such identity; there are: {there}", "PERMISSION_DENIED")


def target_of(endpoint: str) -> str:
    """Turn an endpoint, as SPIFFE_ENDPOINT_SOCKET has it, into gRPC's name of it.

    Raises:
        WorkloadApiError: It is none (section 4), or empty.
    """
    if not endpoint:
        raise WorkloadApiError(
            f"name the Workload API by --socket or {ENDPOINT_VARIABLE}, such as "
            "unix:///run/meshwarden-agent/api.sock",
            "INVALID_ARGUMENT",
        )
    if endpoint.startswith("/"):  # What people write.
        return f"unix:{endpoint}"
    parts = urlsplit(endpoint)
    extra = parts.query or parts.fragment or parts.username
    if parts.scheme == "unix" and not parts.netloc and parts.path.startswith("/") and not extra:
        return f"unix:{unquote(parts.path)}"
    if parts.scheme == "tcp" and not parts.path and not extra:
        try:
            ip, port = ipaddress.ip_address(parts.hostname or ""), parts.port
        except ValueError:
            port = None
        else:
            if port is not None:
                return f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"  # noqa: PLR2004
    raise WorkloadApiError(
        f"{endpoint!r} is no endpoint; write unix:///PATH or tcp://IP:PORT", "INVALID_ARGUMENT"
    )


class WorkloadClient:
    """One connection to a Workload API."""

    def __init__(self, endpoint: str) -> None:
        """Connect when something is asked.

        Raises:
            WorkloadApiError: The endpoint is none.
        """
        options = (("grpc.enable_retries", 0), ("grpc.default_authority", "localhost"))
        self._endpoint = endpoint
        self._channel = grpc.insecure_channel(target_of(endpoint), options=options)
        self._stub = workload_pb2_grpc.SpiffeWorkloadAPIStub(self._channel)

    def close(self) -> None:
        """End the connection."""
        self._channel.close()

    def follow(self, timeout_s: float | None = None) -> Iterator[Update]:
        """Give what this process has, and again whole on each change.

        Raises:
            WorkloadApiError: The API refuses, or went away.
        """
        with self._told():
            replies: Any = self._stub.FetchX509SVID(
                pb.X509SVIDRequest(), metadata=_HEADER, timeout=timeout_s
            )
            try:
                for reply in replies:
                    yield _update(reply)
            finally:
                replies.cancel()

    def fetch(self, timeout_s: float) -> Update:
        """Give what this process has now.

        Raises:
            WorkloadApiError: Nothing, or the API can't be asked.
        """
        for update in self.follow(timeout_s):
            return update
        raise WorkloadApiError("the API ended without an answer", "UNAVAILABLE")

    def tokens(self, audiences: list[str], spiffe_id: str, timeout_s: float) -> list[pb.JWTSVID]:
        """Give JWT-SVIDs, of one identity or of all.

        Raises:
            WorkloadApiError: There are none.
        """
        with self._told():
            request = pb.JWTSVIDRequest(audience=audiences, spiffe_id=spiffe_id)
            reply = self._stub.FetchJWTSVID(request, metadata=_HEADER, timeout=timeout_s)
        return [*reply.svids]

    def jwt_bundles(self, timeout_s: float) -> Mapping[str, bytes]:
        """Give the JWK set of each trust domain.

        Raises:
            WorkloadApiError: There are none.
        """
        with self._told():
            replies: Any = self._stub.FetchJWTBundles(
                pb.JWTBundlesRequest(), metadata=_HEADER, timeout=timeout_s
            )
            try:
                return dict(next(replies).bundles)
            finally:
                replies.cancel()

    def validate(self, token: str, audience: str, timeout_s: float) -> pb.ValidateJWTSVIDResponse:
        """Have a token verified.

        Raises:
            WorkloadApiError: INVALID_ARGUMENT where it doesn't hold.
        """
        with self._told():
            request = pb.ValidateJWTSVIDRequest(audience=audience, svid=token)
            return self._stub.ValidateJWTSVID(request, metadata=_HEADER, timeout=timeout_s)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            code = error.code()
            told = error.details() or code.name
            if code is grpc.StatusCode.UNAVAILABLE and told.startswith(_NOT_CONNECTED):
                why = told.rpartition(": ")[2]
                told = f"{self._endpoint}: no Workload API answers: {why}"
            raise WorkloadApiError(told, code.name) from error
        except (ValueError, IndexError) as error:
            raise WorkloadApiError(
                f"the API's answer makes no sense: {error}", "INTERNAL"
            ) from error


def _update(reply: pb.X509SVIDResponse) -> Update:
    """Read an answer. Raises ValueError or IndexError where it is none."""
    svids = tuple(_svid(each) for each in reply.svids)
    own = parse(svids[0].spiffe_id).trust_domain
    bundles = {own: split_der(reply.svids[0].bundle, _MAX_CERTIFICATES)}
    for name, authorities in sorted(reply.federated_bundles.items()):
        # Files are called by it: a name that is no trust domain's might lead anywhere.
        domain = parse(f"spiffe://{name.removeprefix('spiffe://')}")
        if domain.path:
            raise ValueError(f"{domain} is no trust domain")
        bundles[domain.trust_domain] = split_der(authorities, _MAX_CERTIFICATES)
    return Update(svids, {name: tuple(each) for name, each in bundles.items()})


def _svid(message: pb.X509SVID) -> FetchedSvid:
    chain = tuple(split_der(message.x509_svid, _MAX_CERTIFICATES))
    leaf = x509.load_der_x509_certificate(chain[0])
    if private_from_der(message.x509_svid_key).public_key() != leaf.public_key():
        raise ValueError(f"the key of {message.spiffe_id} is not its certificate's")
    return FetchedSvid(
        message.spiffe_id,
        message.hint,
        chain,
        message.x509_svid_key,
        f"{leaf.serial_number:032x}",
        int(leaf.not_valid_after_utc.timestamp()) * _SECOND_NS,
    )
