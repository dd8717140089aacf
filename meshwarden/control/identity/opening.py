"""From settings to an Issuer, with the database, the keeper and the ledger that they name."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, fields

from adapters.identity.authorities import SqlAuthorityStore
from adapters.identity.database import Database, open_database
from adapters.identity.ledger import SqlIssuanceLog, open_ledger
from ca.authority import Plan
from ca.keeper import KeyKeeper
from ca.keys import KeyType
from meshwarden import plugins
from meshwarden.control.identity.current import CurrentAuthorities
from meshwarden.control.identity.expiry_watch import ExpiryWatch
from meshwarden.control.identity.heads import KnownHeads
from meshwarden.control.identity.issuer import Issuer, Limits
from meshwarden.control.identity.ledger_writer import LedgerWriter
from meshwarden.control.identity.plugged import PluggedAuthority
from meshwarden.control.identity.serving import Serving, names_of
from meshwarden.files import RuntimeDir
from meshwarden.settings import Settings

__all__ = ["Identity", "open_identity"]

DATABASE = "meshwarden.db"
_CHANNEL = "meshwarden_authority"


@dataclass(frozen=True, slots=True)
class Identity:
    """What issues, and what it stands on.

    Attributes:
        issuer: Issues.
        ledger: What was issued.
        heads: Where the ledger ended, kept outside its database.
        writer: Writes the ledger.
        database: Where the authorities are.
        expiry: Says what expires.
    """

    issuer: Issuer
    ledger: SqlIssuanceLog
    heads: KnownHeads
    writer: LedgerWriter
    database: Database
    expiry: ExpiryWatch

    def serving(
        self, settings: Settings, runtime: RuntimeDir, now_ns: Callable[[], int]
    ) -> Serving:
        """Make what keeps the public port's own certificate fresh."""
        draw = random.SystemRandom().random
        made = Serving(self.issuer, names_of(settings), runtime, now_ns=now_ns, draw=draw)
        self.expiry.others.append(made.in_use)
        return made

    async def run(self) -> None:
        """Do what goes on beside issuing, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.issuer.run())
            group.create_task(self.expiry.run())
            group.create_task(self.heads.run())

    async def close(self) -> None:
        """Write what is still to be written and release the connections."""
        await self.writer.close()
        self.heads.save()
        await self.ledger.close()
        await self.database.close()


def open_identity(settings: Settings, runtime: RuntimeDir, now_ns: Callable[[], int]) -> Identity:
    """Put together what `settings.identity` says, which has to be on.

    Nothing is connected or made before `Issuer.start`.
    """
    own = settings.identity
    file = settings.runtime.state_dir / DATABASE
    database = open_database(settings.store.url, file, _CHANNEL)
    ledger = open_ledger(settings.store.url, file)
    heads = KnownHeads(settings.runtime.state_dir / "ledger.heads", now_ns)
    plan = Plan(
        trust_domain=own.trust_domain,
        source=own.ca,
        key_type=KeyType(own.key_type),
        jwt_key_type=KeyType(own.jwt_key_type),
        root_days=own.root_days,
        signer_days=own.signer_days,
        name_constraint=own.name_constraint,
    )
    limits = Limits(**{field.name: getattr(own, field.name) for field in fields(Limits)})
    store = SqlAuthorityStore(database)
    keeper = _keeper(settings)
    plugged = PluggedAuthority(own.ca_chain, own.ca_key) if own.ca_chain and own.ca_key else None
    current = CurrentAuthorities(
        plan, store, keeper, own.refresh_hint_s, now_ns=now_ns, plugged=plugged
    )
    writer = LedgerWriter(ledger, lambda: current.signing.ledger_key, now_ns, heads)
    issuer = Issuer(current, limits, writer, now_ns=now_ns)
    expiry = ExpiryWatch(current, runtime.expired, now_ns)
    return Identity(issuer, ledger, heads, writer, database, expiry)


def _keeper(settings: Settings) -> KeyKeeper:
    adapter = plugins.load("keepers", settings.identity.keeper)
    # A keeper's own settings are those keys of [identity] that it has a field for.
    own = {each.name: getattr(settings.identity, each.name) for each in fields(adapter.config)}
    keeper: KeyKeeper = adapter.build(adapter.config(**own))
    return keeper
