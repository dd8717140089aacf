"""The authorities of a trust domain: what there is, what is missing, and what it takes to sign.

Source: X509-SVID standard, section 3.2; SPIFFE Trust Domain and Bundle standard, section 4.
"""

import enum
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from cryptography.hazmat.primitives.serialization import load_der_public_key

from ca.bundle import Bundle
from ca.errors import ConflictingAuthorityError
from ca.jwt_svid import jwk_set
from ca.keeper import KeyKeeper
from ca.keys import KeyType, PrivateKey, PublicKey, generate, key_id, key_type, public_der
from ca.profile import Validity, serial_from, validity
from ca.registry import Audit
from ca.x509 import AuthorityProfile, Signer, sign_authority

__all__ = [
    "Authorities",
    "Authority",
    "AuthorityStore",
    "Kind",
    "Plan",
    "State",
    "first_plan",
]

_DAY_S = 86_400


class Kind(enum.StrEnum):
    """What an authority's key signs."""

    ROOT = "root"  # Intermediates.
    INTERMEDIATE = "intermediate"  # X509-SVIDs.
    JWT = "jwt"  # JWT-SVIDs.
    LEDGER = "ledger"  # Heads of the ledger.


class State(enum.StrEnum):
    """Whether an authority signs, and whether it is believed."""

    WAITING = "waiting"  # A key whose request is out: somebody else is to sign its certificate.
    ACTIVE = "active"  # Signs now, and is believed.
    TRUSTED = "trusted"  # Is believed: a root, or one that has signed what still holds.
    RETIRED = "retired"  # Neither; kept so that the ledger's rows can be understood.


@dataclass(frozen=True, slots=True)
class Authority:
    """One authority.

    Attributes:
        authority_id: Name of its key: the SHA-256 of its public key in hex.
        trust_domain: Whose.
        kind: What it signs.
        state: Whether it does.
        key_type: Such as "ec-p256".
        issuer_id: Who signed its certificate; itself for a root, "" without a certificate.
        serial: Of its certificate, in hex; "" without.
        not_before_ns: Nanoseconds since the epoch.
        not_after_ns: Likewise; when it stops signing, whether it has a certificate or not.
        certificate: DER; b"" for keys of tokens and the ledger.
        public_key: SubjectPublicKeyInfo, DER.
        handle: How the keeper finds its private key; b"" when we don't have that.
        created_ns: When it came to be here.
    """

    authority_id: str
    trust_domain: str
    kind: Kind
    state: State
    key_type: str
    issuer_id: str
    serial: str
    not_before_ns: int
    not_after_ns: int
    certificate: bytes
    public_key: bytes
    handle: bytes = field(repr=False)
    created_ns: int

    @property
    def validity(self) -> Validity:
        """From when to when it holds."""
        return Validity(self.not_before_ns, self.not_after_ns)


@dataclass(frozen=True, slots=True)
class Authorities:
    """All authorities of a trust domain, as they were at one moment.

    Attributes:
        trust_domain: Whose.
        sequence: Grows with each change; 0 before the first.
        all: In the order in which they came.
    """

    trust_domain: str
    sequence: int = 0
    all: tuple[Authority, ...] = ()

    def active(self, *kinds: Kind) -> Authority | None:
        """Give the one that signs, of these kinds."""
        found = [each for each in self.all if each.kind in kinds and each.state is State.ACTIVE]
        return found[-1] if found else None

    def by_id(self, authority_id: str) -> Authority | None:
        """Find one."""
        return next((each for each in self.all if each.authority_id == authority_id), None)

    def after(self, changes: Sequence[Authority]) -> "Authorities":
        """Give what there will be: changes take the place of what has the same id."""
        changed = {each.authority_id: each for each in changes}
        kept = [changed.pop(each.authority_id, each) for each in self.all]
        return replace(self, all=(*kept, *changed.values()))

    def chain(self, authority: Authority) -> tuple[Authority, ...]:
        """Give an authority and those above it, the root last."""
        links = [authority]
        while links[-1].issuer_id != links[-1].authority_id:
            above = self.by_id(links[-1].issuer_id)
            if above is None or above in links:
                raise ConflictingAuthorityError(
                    f"authority {links[-1].authority_id} is signed by one that isn't here"
                )
            links.append(above)
        return tuple(links)

    def bundle(self, refresh_hint_s: int) -> Bundle:
        """Give what SVIDs are verified with: what is believed, whether it signs or not."""
        believed = [each for each in self.all if each.state in {State.ACTIVE, State.TRUSTED}]
        roots = [each.certificate for each in believed if each.kind is Kind.ROOT]
        tokens = [public_of(each) for each in believed if each.kind is Kind.JWT]
        return Bundle(
            self.trust_domain, tuple(roots), jwk_set(tokens), self.sequence, refresh_hint_s
        )


def public_of(authority: Authority) -> PublicKey:
    """Read an authority's public key."""
    key = load_der_public_key(authority.public_key)
    assert isinstance(key, PublicKey)  # noqa: S101 - what was written was one
    return key


@dataclass(frozen=True, slots=True)
class Plan:
    """What a trust domain's authorities shall be like.

    Attributes:
        trust_domain: Whose.
        source: Where X.509 authorities come from: "self-signed" makes a root and an intermediate,
            "offline" awaits an intermediate that somebody else's root has signed, "files" brings
            its own.
        key_type: Of X.509 authorities.
        jwt_key_type: Of the key of tokens; not Ed25519.
        root_days: How long a root holds.
        signer_days: How long an intermediate and the key of tokens hold.
        name_constraint: Whether the root says for which trust domain it is good.
    """

    trust_domain: str
    source: Literal["self-signed", "offline", "files"] = "self-signed"
    key_type: KeyType = KeyType.EC_P256
    jwt_key_type: KeyType = KeyType.EC_P256
    root_days: int = 3650
    signer_days: int = 365
    name_constraint: bool = False


def first_plan(  # noqa: PLR0913 - what there is, what there shall be, and with what it is made
    plan: Plan,
    there: Authorities,
    keeper: KeyKeeper,
    now_ns: int,
    randomness: Callable[[int], bytes],
    *,
    plugged_in: Sequence[Authority] = (),
) -> Sequence[Authority]:
    """Say what is missing, and make it: authorities to add, or to store in another state.

    Run under the lock of the database, so that of two replicas that start at once the second finds
    what the first has made.

    Args:
        plan: What there shall be.
        there: What there is.
        keeper: Takes new private keys.
        now_ns: Nanoseconds since the epoch.
        randomness: Gives so many bytes that nobody can foresee.
        plugged_in: The chain of files, the one that signs first; empty for other sources.

    Raises:
        KeyNotOpenedError: A private key that was kept can't be had; nothing is made then.
    """
    # Step 1: whatever is kept must open. A new authority beside one that can't be used would be
    # another identity for the whole mesh, made by a typing error in a setting.
    changes = _opened(there, keeper)
    # Step 2: what can't sign here any more is believed until it ends.
    changes += _stepping_back(plan, there, keeper, plugged_in)
    changes += _news(there, plugged_in)
    # Step 3: what is missing.
    usable = there.after(changes)
    maker = _Maker(plan, keeper, now_ns, randomness)
    if plan.source == "self-signed" and usable.active(Kind.INTERMEDIATE) is None:
        changes += maker.root_and_intermediate()
    for kind, kind_type in ((Kind.JWT, plan.jwt_key_type), (Kind.LEDGER, KeyType.ED25519)):
        if usable.active(kind) is None:
            changes.append(maker.bare(kind, kind_type))
    return changes


def _opened(there: Authorities, keeper: KeyKeeper) -> list[Authority]:
    """Open every key that is kept; raise for the first that doesn't. There is nothing to change."""
    for each in there.all:
        if (
            each.handle
            and each.state is not State.RETIRED
            and not keeper.has_lost(each.authority_id, each.handle)
        ):
            keeper.get(each.authority_id, each.handle)
    return []


def _stepping_back(
    plan: Plan, there: Authorities, keeper: KeyKeeper, plugged_in: Sequence[Authority]
) -> Sequence[Authority]:
    """Give those that were to sign and won't, because their key isn't here or others do it."""
    signs = plugged_in[0].authority_id if plugged_in else ""
    back = []
    for each in there.all:
        is_x509 = each.kind in {Kind.ROOT, Kind.INTERMEDIATE}
        is_replaced = is_x509 and (plan.source == "files" or not each.handle)
        if each.handle and keeper.has_lost(each.authority_id, each.handle):
            state = State.RETIRED if each.kind is Kind.LEDGER else State.TRUSTED
            back.append(replace(each, state=state, handle=b""))
        elif each.state is State.ACTIVE and is_replaced and each.authority_id != signs:
            back.append(replace(each, state=State.TRUSTED))
    return back


def _news(there: Authorities, plugged_in: Sequence[Authority]) -> Sequence[Authority]:
    """Give those of a chain that aren't here as they should be."""
    news = []
    for each in plugged_in:
        known = there.by_id(each.authority_id)
        if known is None:
            news.append(each)
        elif (known.certificate, known.state) != (each.certificate, each.state):
            news.append(replace(each, created_ns=known.created_ns))
    return news


class _Maker:
    """Makes authorities at one moment."""

    def __init__(
        self, plan: Plan, keeper: KeyKeeper, now_ns: int, randomness: Callable[[int], bytes]
    ) -> None:
        self._plan = plan
        self._keeper = keeper
        self._now_ns = now_ns
        self._randomness = randomness

    def root_and_intermediate(self) -> Sequence[Authority]:
        plan = self._plan
        root_key, key = generate(plan.key_type), generate(plan.key_type)
        root_profile = AuthorityProfile(plan.trust_domain, "root", 1, plan.name_constraint)
        root_times = validity(self._now_ns, plan.root_days * _DAY_S, ())
        root_serial = self._serial()
        root_der = sign_authority(
            root_key, root_profile, root_key.public_key(), root_times, root_serial
        )
        root = self._authority(
            Kind.ROOT, root_key, State.TRUSTED, root_times, root_der, root_serial, ""
        )
        profile = AuthorityProfile(plan.trust_domain, "intermediate", 0)
        times = validity(self._now_ns, plan.signer_days * _DAY_S, [root_times])
        serial = self._serial()
        der = sign_authority(Signer(root_der, root_key), profile, key.public_key(), times, serial)
        intermediate = self._authority(
            Kind.INTERMEDIATE, key, State.ACTIVE, times, der, serial, root.authority_id
        )
        return root, intermediate

    def bare(self, kind: Kind, kind_type: KeyType) -> Authority:
        """Make a key that needs no certificate."""
        times = validity(self._now_ns, self._plan.signer_days * _DAY_S, ())
        if kind is Kind.LEDGER:
            # It vouches for the past; nothing is issued by it.
            times = validity(self._now_ns, self._plan.root_days * _DAY_S, ())
        return self._authority(kind, generate(kind_type), State.ACTIVE, times, b"", 0, "")

    def _authority(  # noqa: PLR0913, PLR0917 - the parts of one
        self,
        kind: Kind,
        key: PrivateKey,
        state: State,
        times: Validity,
        certificate: bytes,
        serial: int,
        issuer_id: str,
    ) -> Authority:
        public = key.public_key()
        name = key_id(public)
        return Authority(
            authority_id=name,
            trust_domain=self._plan.trust_domain,
            kind=kind,
            state=state,
            key_type=key_type(public),
            issuer_id=(issuer_id or name) if certificate else "",
            serial=f"{serial:032x}" if serial else "",
            not_before_ns=times.not_before_ns,
            not_after_ns=times.not_after_ns,
            certificate=certificate,
            public_key=public_der(public),
            handle=self._keeper.put(name, key),
            created_ns=self._now_ns,
        )

    def _serial(self) -> int:
        return serial_from(self._randomness(16))


class AuthorityStore(Protocol):
    """Keeps authorities.

    An implementation promises: `change` runs its plan and stores what comes of it in one
    transaction under a lock that no other process holds at the same time; the sequence grows with
    each change; a database holds one trust domain.
    """

    async def read(self, trust_domain: str) -> Authorities:
        """Give what there is.

        Raises:
            ConflictingAuthorityError: The database is another trust domain's.
            DamagedError: A row holds what was never written.
            IdentityStoreError: It can't be read.
        """
        ...

    async def change(
        self,
        trust_domain: str,
        plan: Callable[[Authorities], Sequence[Authority]],
        audit: Audit | None = None,
    ) -> Authorities:
        """Store what a plan says, over what has the same id; give what there is then.

        The plan may be run more than once, and must have no effect of its own.

        Args:
            trust_domain: Whose.
            plan: Says what to store, given what there is.
            audit: What the audit trail says of it, if that is anything; None for what nobody asked.

        Raises:
            ConflictingAuthorityError: The database is another trust domain's.
            IdentityStoreError: Nothing was changed.
        """
        ...

    def changes(self) -> AsyncIterator[None]:
        """Yield whenever there may be something new, and after each lost connection; for ever."""
        ...
