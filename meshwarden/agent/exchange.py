"""One attestation, from evidence to a certificate, on a channel that is there."""

import asyncio

import grpc
import grpc.aio
from cryptography import x509

from ca.bundle import Bundle
from ca.keys import PrivateKey
from ca.possession import key_sha256
from meshwarden.agent.evidence import Evidence
from meshwarden.agent.renewer import LinkDownError, request_for_key
from meshwarden.agent.svids import UNFIT
from protos.meshwarden.v1 import agent_pb2 as pb
from protos.meshwarden.v1 import agent_pb2_grpc

__all__ = ["REFUSALS", "NotBelievedError", "as_bundle", "attested", "told"]

_TIMEOUT_S = 30.0
REFUSALS = (
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
)
"""Codes by which a server says that evidence will not do, now or later."""


class NotBelievedError(Exception):
    """The server does not believe this node, as the message says; somebody has to do something."""


async def attested(
    channel: grpc.aio.Channel, evidence: Evidence, payload: bytes, key: PrivateKey
) -> pb.AttestReply:
    """Show evidence and answer challenges, until there is a certificate for a key.

    Raises:
        NotBelievedError: The server doesn't believe it.
        LinkDownError: It gave no answer.
        EvidenceError: It was challenged, and there is nothing to answer with.
    """
    asked = pb.Evidence(attestor=evidence.attestor, payload=payload, csr=request_for_key(key, None))
    call = agent_pb2_grpc.AttestationStub(channel).Attest(None, timeout=_TIMEOUT_S)
    try:
        await call.write(pb.AttestRequest(evidence=asked))
        while True:
            reply = await call.read()
            if not isinstance(reply, pb.AttestReply):
                raise LinkDownError("the server ended the attestation without a word")
            if reply.WhichOneof("step") == "svid":
                return reply
            answer = evidence.answer(reply.challenge, key_sha256(key.public_key()))
            await call.write(pb.AttestRequest(answer=answer))
    except grpc.aio.AioRpcError as error:
        if error.code() in REFUSALS:
            raise NotBelievedError(told(error)) from error
        raise LinkDownError(told(error)) from error
    except (asyncio.InvalidStateError, grpc.aio.UsageError) as error:
        raise LinkDownError("the call ended early") from error
    finally:
        call.cancel()


def as_bundle(message: pb.Bundle) -> Bundle:
    """Read a bundle of the server's.

    Raises:
        LinkDownError: It holds what is no certificate: nobody could be verified by it.
    """
    try:
        for each in message.x509_authorities:
            x509.load_der_x509_certificate(each)
    except (ValueError, *UNFIT) as error:
        raise LinkDownError("the server's bundle holds what is no certificate") from error
    return Bundle(
        message.trust_domain,
        tuple(message.x509_authorities),
        message.jwks,
        message.sequence,
        message.refresh_hint_s,
    )


def told(error: BaseException) -> str:
    """Say what went wrong, in the server's words where it has any."""
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error)
