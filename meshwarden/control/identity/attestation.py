"""The Attestation service: a node becomes an agent, or one comes back.

Anybody may ask, so everything is bounded: messages, time, how many ask at once, and how often each
address may. Only over TLS: a join token in plain text is everybody's.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from ca import spiffe_id
from ca.attestation import Attempt, AttestationError, NodeAttestor, NodeIdentity
from ca.csr import check_csr
from ca.entry_draft import agent_id_fault, agent_spiffe_id
from ca.errors import IdentityError
from ca.issue import X509Order, X509Svid
from ca.keys import public_der
from ca.pace import Pace
from ca.registry import AgentRecord, Audit
from meshwarden.caller import Caller
from meshwarden.control.identity.edge import (
    Context,
    Handler,
    MessageError,
    Messages,
    handlers,
    one,
)
from meshwarden.control.identity.parts import Parts
from meshwarden.control.identity.source import source_key
from meshwarden.crowd import Crowd
from meshwarden.identity_messages import bundle_message, svid_message
from protos.meshwarden.v1 import agent_pb2

__all__ = ["AttestationService"]

_NAME = "meshwarden.v1.Attestation"
_MAX_MESSAGE_BYTES = 128 * 1024
# Some evidence takes a second message, which may be long in coming: nobody may hold all places.
_MAX_AT_ONCE, _MAX_OF_ONE = 256, 48
_TIMEOUT_S = 20.0
_SHOWN = 40


class PlainTextError(IdentityError):
    """The call is not encrypted; what proves a node must not be read by others. Use TLS."""

    code = "UNAUTHENTICATED"


class AttestationService:
    """Makes agents.

    Args:
        parts: What it is put together from.
        attestors: By the names that agents call them.
        caller_of: Reads from where a call comes.
        pace: Attempts that each address may make.
    """

    def __init__(
        self,
        parts: Parts,
        attestors: Mapping[str, NodeAttestor],
        caller_of: Callable[[Context], Caller],
        pace: Pace,
    ) -> None:
        self._parts = parts
        self._attestors = attestors
        self._caller_of = caller_of
        self._pace = pace
        self._at_once = Crowd[str](_MAX_OF_ONE, _MAX_AT_ONCE)
        self._asking = Crowd[str](_MAX_OF_ONE, _MAX_AT_ONCE)

    def handlers(self) -> Handler:
        """Give what a gRPC server calls."""
        return handlers(
            _NAME, {"GetBundle": self._get_bundle}, {"Attest": self._attest}, self._refused
        )

    async def _get_bundle(self, messages: Messages, context: Context) -> bytes:
        """Tell what is public to anybody; an agent compares it with the hash in its join token."""
        source = source_key(self._caller_of(context).source_ip)
        with self._asking.joined(source, "calls of this address ask for the bundle at this moment"):
            await one(messages, agent_pb2.BundlesRequest, _MAX_MESSAGE_BYTES)
        return bundle_message(self._parts.issuer.bundle()).SerializeToString()

    async def _attest(self, messages: Messages, context: Context) -> None:
        caller = self._caller_of(context)
        if not caller.tls:
            raise PlainTextError(
                "attest by TLS only: what proves a node, such as a join token, would be readable"
            )
        source = source_key(caller.source_ip)
        told = "more attestations from this address than identity.nodes.attestations_per_s"
        self._pace.charge(source, 1, self._parts.now_ns(), told)
        with self._at_once.joined(source, "nodes of this address attest at this moment"):
            try:
                async with asyncio.timeout(_TIMEOUT_S):
                    await self._answer(messages, context, caller)
            except TimeoutError as error:
                raise AttestationError(
                    f"the attestation took longer than {_TIMEOUT_S:.0f} s", "DEADLINE_EXCEEDED"
                ) from error

    async def _answer(self, messages: Messages, context: Context, caller: Caller) -> None:
        # Step 1: the request is one that can be signed, and its sender has the key: a token is not
        # used up for nothing.
        request = await one(messages, agent_pb2.AttestRequest, _MAX_MESSAGE_BYTES)
        if request.WhichOneof("step") != "evidence":
            raise MessageError("an attestation begins with evidence")
        evidence = request.evidence
        attestor = self._attestor(evidence.attestor)
        trust_domain, bundle = self._parts.issuer.trust_domain, self._parts.issuer.bundle()
        nobody = spiffe_id.SpiffeId(trust_domain, "/meshwarden/agent/nobody")
        checked = check_csr(evidence.csr, allowed_id=nobody)
        # Step 2: the attestor says which node it is.
        node = await attestor.attest(
            Attempt(
                payload=evidence.payload,
                key_sha256=hashlib.sha256(public_der(checked.public_key)).digest(),
                now_ns=self._parts.now_ns(),
                challenge=_challenge(messages, context),
            )
        )
        # Step 3: it gets a certificate; the registry knows it before anybody has it.
        agent_id = agent_spiffe_id(trust_domain, node.agent_path)
        if fault := agent_id_fault(agent_id, trust_domain):
            raise AttestationError(f"{evidence.attestor} gave no usable name: {fault}")
        svid = await self._issue(agent_id, evidence.csr, node)
        await self._keep(agent_id, node, svid, evidence.attestor, caller)
        # Step 4: tell.
        reply = agent_pb2.AttestReply(svid=svid_message(svid), bundle=bundle_message(bundle))
        await context.write(reply.SerializeToString())

    def _attestor(self, name: str) -> NodeAttestor:
        attestor = self._attestors.get(name)
        if attestor is None:
            there = ", ".join(sorted(self._attestors))
            raise AttestationError(
                f"no node attestor {name[:_SHOWN]!r} here; identity.nodes.attestors has: {there}",
                "INVALID_ARGUMENT",
            )
        return attestor

    async def _issue(self, agent_id: str, csr: bytes, node: NodeIdentity) -> X509Svid:
        known = await self._parts.registry.store.agent(agent_id)
        if known is not None and known.banned:
            raise AttestationError(f"the agent {agent_id} is banned")
        order = X509Order(
            csr=csr,
            spiffe_id=spiffe_id.parse(agent_id),
            requester=agent_id,
            selectors=tuple(map(str, sorted(node.selectors))),
            ttl_s=self._parts.agent_ttl_s,
        )
        (svid,) = await self._parts.issuer.issue_x509([order])
        if isinstance(svid, IdentityError):
            raise svid
        return svid

    async def _keep(
        self, agent_id: str, node: NodeIdentity, svid: X509Svid, how: str, caller: Caller
    ) -> None:
        now_ns = self._parts.now_ns()
        agent = AgentRecord(
            spiffe_id=agent_id,
            # Who first believed it, also where it came back by its certificate.
            attestor=node.agent_path.partition("/")[0],
            selectors=node.selectors,
            attested_ns=now_ns,
            svid_expires_ns=svid.not_after_ns,
            serial=svid.serial,
            certificate_sha256=hashlib.sha256(svid.chain[0]).digest(),
            can_reattest=node.can_reattest,
        )
        detail = f"by {how}, certificate {svid.serial}"
        audit = Audit(
            now_ns,
            agent_id.removeprefix("spiffe://"),
            caller.source_ip or "unknown",
            "agent.attest",
            "done",
            detail,
        )
        trust_domain = self._parts.issuer.trust_domain
        twin_id = agent_spiffe_id(trust_domain, node.twin_path) if node.twin_path else ""
        version = await self._parts.registry.store.put_agent(
            agent, audit, by_certificate=node.by_certificate, twin_id=twin_id
        )
        self._parts.registry.note(agent, version)
        # Streams of a life before this one end.
        self._parts.registry.pulse()

    async def _refused(self, method: str, context: Context, error: IdentityError) -> None:
        del method
        caller = self._caller_of(context)
        await self._parts.refusals.note(
            caller.principal, caller.source_ip or "unknown", "agent.attest", str(error)
        )


def _challenge(messages: Messages, context: Context) -> Callable[[bytes], Any]:
    async def ask(challenge: bytes) -> bytes:
        await context.write(agent_pb2.AttestReply(challenge=challenge).SerializeToString())
        reply = await one(messages, agent_pb2.AttestRequest, _MAX_MESSAGE_BYTES)
        if reply.WhichOneof("step") != "answer":
            raise AttestationError("the challenge was not answered", "INVALID_ARGUMENT")
        return reply.answer

    return ask
