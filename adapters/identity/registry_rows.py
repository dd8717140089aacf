"""Entries, agents and join tokens as the rows that keep them."""

from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import RowMapping

from ca.entries import Entry, WorkloadEntry, fingerprint
from ca.errors import IdentityStoreError
from ca.registry import AgentRecord, JoinToken
from ca.selectors import Selector, parse_selector

__all__ = [
    "agent_columns",
    "agent_of",
    "entry_columns",
    "entry_of",
    "fingerprint_of",
    "token_columns",
    "token_of",
]


def fingerprint_of(entry: Entry) -> str:
    """Name what makes it the same as another one."""
    return fingerprint(entry.parent_id, entry.workload.spiffe_id, entry.workload.selectors)


def entry_columns(entry: Entry) -> dict[str, Any]:
    """Give an entry as its row."""
    workload = entry.workload
    return {
        "id": workload.id,
        "fingerprint": fingerprint_of(entry),
        "version": workload.version,
        "parent_id": entry.parent_id,
        "spiffe_id": workload.spiffe_id,
        "selectors": _written(workload.selectors),
        "x509_ttl_s": workload.x509_ttl_s,
        "jwt_ttl_s": workload.jwt_ttl_s,
        "dns_names": msgspec.json.encode(workload.dns_names).decode(),
        "hint": workload.hint,
        "admin": entry.admin,
        "created_ns": entry.created_ns,
        "origin": entry.origin,
    }


def entry_of(row: RowMapping) -> Entry:
    """Read an entry."""
    workload = WorkloadEntry(
        id=row["id"],
        spiffe_id=row["spiffe_id"],
        selectors=tuple(sorted(_read(row["selectors"]))),
        x509_ttl_s=row["x509_ttl_s"],
        jwt_ttl_s=row["jwt_ttl_s"],
        dns_names=tuple(msgspec.json.decode(row["dns_names"], type=list[str])),
        hint=row["hint"],
        version=row["version"],
    )
    return Entry(workload, row["parent_id"], row["admin"], row["created_ns"], row["origin"])


def agent_columns(agent: AgentRecord) -> dict[str, Any]:
    """Give an agent as its row, but for its version."""
    return {
        "spiffe_id": agent.spiffe_id,
        "attestor": agent.attestor,
        "selectors": _written(agent.selectors),
        "attested_ns": agent.attested_ns,
        "svid_expires_ns": agent.svid_expires_ns,
        "serial": agent.serial,
        "certificate_sha256": agent.certificate_sha256,
        "previous_sha256": agent.previous_sha256,
        "previous_expires_ns": agent.previous_expires_ns,
        "banned": agent.banned,
        "can_reattest": agent.can_reattest,
    }


def agent_of(row: RowMapping) -> AgentRecord:
    """Read an agent."""
    return AgentRecord(
        spiffe_id=row["spiffe_id"],
        attestor=row["attestor"],
        selectors=frozenset(_read(row["selectors"])),
        attested_ns=row["attested_ns"],
        svid_expires_ns=row["svid_expires_ns"],
        serial=row["serial"],
        certificate_sha256=row["certificate_sha256"],
        previous_sha256=row["previous_sha256"],
        previous_expires_ns=row["previous_expires_ns"],
        banned=row["banned"],
        can_reattest=row["can_reattest"],
    )


def token_of(row: RowMapping) -> JoinToken:
    """Read a join token."""
    return JoinToken(
        id=row["id"],
        secret_sha256=row["secret_sha256"],
        agent_id=row["agent_id"],
        selectors=frozenset(_read(row["selectors"])),
        created_ns=row["created_ns"],
        expires_ns=row["expires_ns"],
        used_ns=row["used_ns"],
        used_by=row["used_by"],
    )


def _written(selectors: Iterable[Selector]) -> str:
    return msgspec.json.encode([str(each) for each in sorted(selectors)]).decode()


def _read(text: str) -> list[Selector]:
    try:
        return [parse_selector(each) for each in msgspec.json.decode(text, type=list[str])]
    except ValueError as error:
        raise IdentityStoreError(f"selectors in the store are damaged: {error}") from error


def token_columns(token: JoinToken) -> dict[str, Any]:
    """Give a join token as its row."""
    return {
        "id": token.id,
        "secret_sha256": token.secret_sha256,
        "agent_id": token.agent_id,
        "selectors": _written(token.selectors),
        "created_ns": token.created_ns,
        "expires_ns": token.expires_ns,
        "used_ns": token.used_ns,
        "used_by": token.used_by,
    }
