"""From settings to all that serves agents and who registers them."""

import asyncio
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from functools import partial
from typing import Any

import grpc.aio

from adapters.identity.entries import open_registry
from authz.audit import AuditEntry
from authz.revisions import StoreUnavailableError
from ca.attestation import NodeAttestor
from ca.entry_draft import EntryRules
from ca.errors import IdentityStoreError
from ca.pace import Pace
from ca.registry import Audit, RegistryStore
from meshwarden import metrics, plugins, status
from meshwarden.caller import Caller
from meshwarden.control.identity.agents import AgentService
from meshwarden.control.identity.attestation import AttestationService
from meshwarden.control.identity.declared import Declared
from meshwarden.control.identity.door import AgentDoor
from meshwarden.control.identity.edge import Handler
from meshwarden.control.identity.embedded import EmbeddedAttestor, EmbeddedDoor, local_caller
from meshwarden.control.identity.forgetting import Forgetting
from meshwarden.control.identity.issuer import Issuer
from meshwarden.control.identity.opening import DATABASE
from meshwarden.control.identity.parts import Parts
from meshwarden.control.identity.registration import RegistrationService
from meshwarden.control.identity.registry import Registry
from meshwarden.control.identity.streams import Streams
from meshwarden.control.identity.telling import Telling
from meshwarden.control.refusals import Refusals
from meshwarden.settings import Settings

__all__ = ["Nodes"]

# A bucket holds what comes in so many seconds: agents ask in bursts, after an outage of ours.
_BURST_S = 10
_REFUSED = ("attest", "entries", "renew", "sign_jwt", "sign_x509")
_Context = grpc.aio.ServicerContext[Any, Any]


class Nodes:
    """Entries, agents, join tokens, and the services that speak of them.

    Attributes:
        registration: For operators; has to stand behind a gate.
        registry: What is registered.
        operators: What services for operators are put together from.
        minting: Signatures that each operator may have.
    """

    def __init__(self, settings: Settings, issuer: Issuer, now_ns: Callable[[], int]) -> None:
        """Put it together; nothing is connected before `run`.

        Args:
            settings: Of which [identity] is on.
            issuer: Signs.
            now_ns: The time.
        """
        identity = settings.identity
        self._settings = settings
        self._store = open_registry(settings.store.url, settings.runtime.state_dir / DATABASE)
        self.registry = Registry(self._store, identity.trust_domain)
        trail = _trail(self._store)
        # Apart: a flood from nodes must not hide what operators were refused.
        self._refusals = Refusals(trail, now_ns, _count_refusal)
        self._admin_refusals = Refusals(trail, now_ns)
        for action in _REFUSED:  # A series that exists can be alerted on.
            metrics.IDENTITY_REFUSALS.labels(action)
        self._streams = Streams(self.registry, now_ns)
        self._parts = Parts(
            issuer, self.registry, self._streams, self._refusals, now_ns, identity.nodes.ttl_s
        )
        rules = EntryRules(identity.trust_domain, identity.max_x509_ttl_s, identity.max_jwt_ttl_s)
        told = partial(status.write_entries, settings.runtime.runtime_dir)
        self._declared = (
            Declared(identity.entries, self.registry, rules, now_ns, told)
            if identity.entries
            else None
        )
        days = identity.nodes.forget_agents_days
        tell = partial(status.write_identity, settings.runtime.runtime_dir)
        self._telling = Telling(issuer.current, self.registry, tell, now_ns)
        self._forgetting = Forgetting(self._store, days, now_ns) if days else None
        self.operators = replace(self._parts, refusals=self._admin_refusals)
        self.registration = RegistrationService(
            self.operators,
            rules,
            identity.nodes.max_join_token_ttl_s,
            is_declared=self._declared is not None,
        )
        self._attestors = {name: self._attestor(name) for name in identity.nodes.attestors}
        per_s = identity.nodes.attestations_per_s
        self._attesting = Pace(per_s, max(1, round(per_s * _BURST_S)))
        per_s = identity.nodes.signatures_per_s
        self._signing = Pace(per_s, max(1, round(per_s * _BURST_S)))
        self.minting = Pace(per_s, max(1, round(per_s * _BURST_S)))

    def handlers(self, caller_of: Callable[[_Context], Caller]) -> tuple[Handler, ...]:
        """Give what serves agents over a network.

        Args:
            caller_of: Reads who is at the other end; differs between the transports.
        """
        door = AgentDoor(
            self.registry, self._settings.identity.trust_domain, caller_of, self._parts.now_ns
        )
        return (
            AttestationService(self._parts, self._attestors, caller_of, self._attesting).handlers(),
            AgentService(self._parts, door, self._signing).handlers(),
        )

    def local_handlers(self) -> tuple[Handler, ...]:
        """Give what serves the embedded agent, on a socket that only the owner can open."""
        attestors = {"embedded": EmbeddedAttestor()}
        door = EmbeddedDoor(self.registry, self._settings.identity.trust_domain)
        attestation = AttestationService(self._parts, attestors, local_caller, self._attesting)
        return (
            attestation.handlers(),
            AgentService(self._parts, door, self._signing).handlers(),
        )

    async def run(self) -> None:
        """Follow the store, the bundle and the declared entries, and forget agents, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.registry.run())
            group.create_task(self._streams.follow(self._parts.issuer))
            group.create_task(self._streams.sweep())
            group.create_task(self._telling.run())
            group.create_task(self._refusals.run())
            group.create_task(self._admin_refusals.run())
            if self._forgetting is not None:
                group.create_task(self._forgetting.run())
            if self._declared is not None:
                group.create_task(self._declared.run())

    async def close(self) -> None:
        """Write what was only counted, and release the connections."""
        await self._refusals.flush()
        await self._admin_refusals.flush()
        await self._store.close()

    def _attestor(self, name: str) -> NodeAttestor:
        adapter = plugins.load("node_attestors", name)
        nodes = self._settings.identity.nodes
        section = getattr(nodes, name, None)
        known = {
            "store": self._store,
            "trust_domain": self._settings.identity.trust_domain,
            "reattest_grace_s": nodes.reattest_grace_s,
            **(asdict(section) if section is not None else {}),
        }
        own = {each.name: known[each.name] for each in fields(adapter.config) if each.name in known}
        attestor: NodeAttestor = adapter.build(adapter.config(**own))
        return attestor


def _count_refusal(action: str) -> None:
    # Of our own methods' names alone, none of which a caller chooses.
    metrics.IDENTITY_REFUSALS.labels(action.removeprefix("agent.")).inc()


def _trail(store: RegistryStore) -> Callable[[AuditEntry], Any]:
    async def record(entry: AuditEntry) -> None:
        try:
            await store.record(
                Audit(
                    entry.time_ns, entry.who, entry.source, entry.action, entry.outcome,
                    entry.detail,
                )
            )  # fmt: skip
        except IdentityStoreError as error:
            raise StoreUnavailableError(str(error)) from error

    return record
