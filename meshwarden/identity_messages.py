"""Identities on the wire and as values, in one place for all who speak of them."""

from collections.abc import Iterable

from ca.bundle import Bundle
from ca.entries import Entry, WorkloadEntry
from ca.entry_draft import Draft
from ca.issue import X509Svid
from ca.registry import AgentRecord, JoinToken
from ca.selectors import Selector, parse_selector
from protos.meshwarden.v1 import agent_pb2, registration_pb2

__all__ = [
    "agent_message",
    "bundle_message",
    "draft_from",
    "entry_message",
    "selector_messages",
    "selectors_from",
    "svid_message",
    "token_message",
    "workload_from",
    "workload_message",
]


def selector_messages(selectors: Iterable[Selector]) -> list[agent_pb2.Selector]:
    """Write selectors, sorted."""
    return [agent_pb2.Selector(kind=each.kind, value=each.value) for each in sorted(selectors)]


def selectors_from(messages: Iterable[agent_pb2.Selector]) -> frozenset[Selector]:
    """Read selectors.

    Raises:
        InvalidSelectorError: One is none.
    """
    return frozenset(parse_selector(f"{each.kind}:{each.value}") for each in messages)


def workload_message(entry: WorkloadEntry) -> agent_pb2.WorkloadEntry:
    """Write what an agent gets of an entry."""
    return agent_pb2.WorkloadEntry(
        id=entry.id,
        spiffe_id=entry.spiffe_id,
        selectors=selector_messages(entry.selectors),
        x509_ttl_s=entry.x509_ttl_s,
        jwt_ttl_s=entry.jwt_ttl_s,
        dns_names=entry.dns_names,
        hint=entry.hint,
        version=entry.version,
    )


def workload_from(message: agent_pb2.WorkloadEntry) -> WorkloadEntry:
    """Read what an agent gets of an entry.

    Raises:
        InvalidSelectorError: It is no entry of ours.
    """
    return WorkloadEntry(
        id=message.id,
        spiffe_id=message.spiffe_id,
        selectors=tuple(sorted(selectors_from(message.selectors))),
        x509_ttl_s=message.x509_ttl_s,
        jwt_ttl_s=message.jwt_ttl_s,
        dns_names=tuple(message.dns_names),
        hint=message.hint,
        version=message.version,
    )


def entry_message(entry: Entry) -> registration_pb2.Entry:
    """Write a whole entry."""
    return registration_pb2.Entry(
        workload=workload_message(entry.workload),
        parent_id=entry.parent_id,
        admin=entry.admin,
        created_ns=entry.created_ns,
        origin=entry.origin,
    )


def draft_from(message: registration_pb2.Entry) -> Draft:
    """Read what somebody wants to be an entry; nothing about it is believed."""
    workload = message.workload
    return Draft(
        parent_id=message.parent_id,
        spiffe_id=workload.spiffe_id,
        selectors=[f"{each.kind}:{each.value}" for each in workload.selectors],
        x509_ttl_s=workload.x509_ttl_s,
        jwt_ttl_s=workload.jwt_ttl_s,
        dns_names=[*workload.dns_names],
        hint=workload.hint,
        admin=message.admin,
        id=workload.id,
    )


def agent_message(agent: AgentRecord) -> registration_pb2.AgentInfo:
    """Write what an operator sees of an agent."""
    return registration_pb2.AgentInfo(
        spiffe_id=agent.spiffe_id,
        attestor=agent.attestor,
        selectors=selector_messages(agent.selectors),
        attested_ns=agent.attested_ns,
        svid_expires_ns=agent.svid_expires_ns,
        # One that was banned and let back in has none that is good.
        serial=agent.serial if agent.certificate_sha256 else "",
        banned=agent.banned,
        can_reattest=agent.can_reattest,
    )


def token_message(token: JoinToken) -> registration_pb2.JoinTokenInfo:
    """Write what an operator sees of a join token."""
    return registration_pb2.JoinTokenInfo(
        id=token.id,
        agent_id=token.agent_id,
        selectors=selector_messages(token.selectors),
        created_ns=token.created_ns,
        expires_ns=token.expires_ns,
        used_ns=token.used_ns,
    )


def svid_message(svid: X509Svid) -> agent_pb2.X509Svid:
    """Write an issued certificate."""
    return agent_pb2.X509Svid(
        spiffe_id=str(svid.spiffe_id),
        chain=svid.chain,
        not_before_ns=svid.not_before_ns,
        not_after_ns=svid.not_after_ns,
    )


def bundle_message(bundle: Bundle) -> agent_pb2.Bundle:
    """Write a bundle."""
    return agent_pb2.Bundle(
        trust_domain=bundle.trust_domain,
        x509_authorities=bundle.x509_authorities,
        jwks=bundle.jwks,
        sequence=bundle.sequence,
        refresh_hint_s=bundle.refresh_hint_s,
    )
