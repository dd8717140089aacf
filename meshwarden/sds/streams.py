"""One subscriber of xDS: what it has asked for, has been sent, and is to be sent next. Pure.

Both forms follow the same rules. A request that subscribes is answered, even if that name and
version were sent before: a client may have forgotten, or another of its listeners may ask. A
change is pushed if it changes something that was asked for, and nothing else is.

Source: Envoy's xDS REST and gRPC protocol, "The xDS transport Protocol".
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from meshwarden.sds.secrets import TYPE_URL, Named, Secrets
from protos.envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
    Resource,
)

__all__ = ["Delta", "Nack", "RequestError", "StateOfTheWorld", "answer"]

_STAR = "*"
_MAX_NAMES = 100
_MAX_NAME_CHARACTERS = 2048  # A SPIFFE ID has no more.


class RequestError(ValueError):
    """A request that can't be meant; the message says why."""


@dataclass(frozen=True, slots=True)
class Nack:
    """A response that the client refused.

    Attributes:
        names: What was in it.
        reason: The client's words.
    """

    names: tuple[str, ...]
    reason: str


@dataclass(slots=True)
class _Sent:
    """What the newest response held."""

    nonce: str = ""
    names: tuple[str, ...] = ()
    is_answered: bool = False


@dataclass(slots=True)
class StateOfTheWorld:
    """A subscriber that names all it wants in each request.

    Attributes:
        nack: The newest response was refused; None once one is taken.
        missing: What it asks for and the newest secrets don't have.
    """

    nack: Nack | None = None
    missing: tuple[str, ...] = ()
    _names: tuple[str, ...] | None = None
    _has_named: bool = False
    _versions: dict[str, str] = field(default_factory=dict)
    _sent: _Sent = field(default_factory=_Sent)
    _count: int = 0

    @property
    def has_some(self) -> bool:
        """Whether anything that it asks for could be sent."""
        return bool(self._versions)

    def asked(self, request: DiscoveryRequest, secrets: Secrets) -> DiscoveryResponse | None:
        """Take one request.

        Returns:
            What is to be sent; None for nothing now.

        Raises:
            RequestError: It asks for something else than secrets, or for too much.
        """
        _check(request.type_url, request.resource_names)
        # Who has never named anything wants everything; who has, and names nothing, wants nothing.
        self._has_named = self._has_named or bool(request.resource_names)
        names = tuple(dict.fromkeys(request.resource_names)) if self._has_named else (_STAR,)
        is_first = self._names is None
        if not is_first and request.response_nonce != self._sent.nonce:
            return None  # It was written before the newest response came; a newer one follows.
        acknowledges = not is_first and bool(self._sent.nonce) and not self._sent.is_answered
        if acknowledges:
            self._sent.is_answered = True
            self.nack = (
                _nack(self._sent, request.error_detail.message or "refused")
                if (request.HasField("error_detail"))
                else None
            )
        new = set(names) - set(self._names or ())
        narrows = set(names) < set(self._names or ())
        self._names = names
        # The same names once more, after the newest response was answered, is somebody who never
        # got it: Envoy asks so for a second listener.
        if is_first or new or not (acknowledges or narrows):
            self._versions.clear()
            return self.changed(secrets)
        for name in self._versions.keys() - set(self._wanted(secrets)):
            del self._versions[name]
        self.missing = tuple(name for name in self.missing if name in names)
        return None

    def changed(self, secrets: Secrets) -> DiscoveryResponse | None:
        """Take new secrets; the response where one that was asked for is another now."""
        if self._names is None:
            return None
        found, self.missing = _found(self._wanted(secrets), secrets)
        versions = {each.name: each.version for each in found}
        if not found or versions == self._versions:
            return None
        self._versions = versions
        self._count += 1
        self._sent = _Sent(str(self._count), tuple(versions))
        return answer(found, self._sent.nonce)

    def _wanted(self, secrets: Secrets) -> tuple[str, ...]:
        names = dict.fromkeys(self._names or ())
        if _STAR in names:
            names.update(dict.fromkeys(secrets.every))
            del names[_STAR]
        return tuple(names)


@dataclass(slots=True)
class Delta:
    """A subscriber that names what it wants more, or no longer.

    Attributes:
        nack: The newest response was refused; None once one is taken.
        missing: What it asks for and the newest secrets don't have.
    """

    nack: Nack | None = None
    missing: tuple[str, ...] = ()
    _names: dict[str, None] | None = None
    _wants_all: bool = False
    _versions: dict[str, str] = field(default_factory=dict)
    _sent: _Sent = field(default_factory=_Sent)
    _count: int = 0

    @property
    def has_some(self) -> bool:
        """Whether anything that it asks for could be sent."""
        return bool(self._versions)

    def asked(
        self, request: DeltaDiscoveryRequest, secrets: Secrets
    ) -> DeltaDiscoveryResponse | None:
        """Take one request.

        Returns:
            What is to be sent; None for nothing now.

        Raises:
            RequestError: It asks for something else than secrets, or for too much.
        """
        subscribed = dict.fromkeys(request.resource_names_subscribe)
        left = dict.fromkeys(request.resource_names_unsubscribe)
        if self._names is None:
            self._names = {}
            # Whoever names nothing at first wants everything. What it has already names nothing: an
            # Envoy tells that of a star's secrets too, when it comes again.
            self._wants_all = not subscribed and not left
        has_star = _STAR in subscribed
        subscribed.pop(_STAR, None)
        _check(request.type_url, tuple((self._names.keys() - left.keys()) | subscribed.keys()))
        if request.response_nonce and request.response_nonce == self._sent.nonce:
            refused = request.HasField("error_detail")
            reason = request.error_detail.message or "refused"
            self.nack = _nack(self._sent, reason) if refused else None
        if _STAR in left:
            self._wants_all = False
            self._versions = {
                each: self._versions[each] for each in self._names if each in self._versions
            }
        dropped = [name for name in left if name in self._names]
        for name in dropped:
            del self._names[name]
            self._versions.pop(name, None)
        self.missing = tuple(name for name in self.missing if name in self._names)
        if has_star:
            self._wants_all = True
            for name in secrets.every:
                self._versions.pop(name, None)
        for name in subscribed:
            self._names[name] = None
            self._versions.pop(name, None)
        is_new = bool(subscribed) or has_star or (self._wants_all and not self._versions)
        if self._wants_all and dropped:
            # Whether the star still gives it, its client can't tell.
            known = {*self._names, *secrets.every}
            return self._reply(secrets, [name for name in dropped if name not in known])
        return self._reply(secrets) if is_new else None

    def changed(self, secrets: Secrets) -> DeltaDiscoveryResponse | None:
        """Take new secrets; the response where one that was asked for is another now."""
        return self._reply(secrets)

    def _reply(
        self, secrets: Secrets, removed: Sequence[str] = ()
    ) -> DeltaDiscoveryResponse | None:
        if self._names is None:
            return None
        wanted = dict.fromkeys((*self._names, *(secrets.every if self._wants_all else ())))
        found, self.missing = _found(wanted, secrets)
        new = [each for each in found if self._versions.get(each.name) != each.version]
        # What is missing is not told as removed: an Envoy would open the port that waits for it.
        # Nor what is gone, of which it keeps what it has anyway; older ones refuse to hear of it.
        if not new and not removed:
            return None
        self._versions.update((each.name, each.version) for each in new)
        self._count += 1
        self._sent = _Sent(str(self._count), (*(each.name for each in new), *removed))
        reply = DeltaDiscoveryResponse(
            type_url=TYPE_URL, nonce=self._sent.nonce, removed_resources=removed
        )
        for each in new:
            resource = Resource(name=each.name, version=each.version)
            resource.resource.Pack(each.secret, deterministic=True)
            reply.resources.append(resource)
        return reply


def answer(found: Sequence[Named], nonce: str) -> DiscoveryResponse:
    """Write secrets as a response of the state of the world."""
    versions = "".join(sorted(each.version for each in found))
    reply = DiscoveryResponse(type_url=TYPE_URL, nonce=nonce, version_info=_digest(versions))
    for each in found:
        reply.resources.add().Pack(each.secret, deterministic=True)
    return reply


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _found(names: Iterable[str], secrets: Secrets) -> tuple[list[Named], tuple[str, ...]]:
    found, missing = [], []
    for name in names:
        named = secrets.get(name)
        if named is None:
            missing.append(name)
        else:
            found.append(named)
    return found, tuple(missing)


def _check(type_url: str, names: Sequence[str]) -> None:
    if type_url not in {"", TYPE_URL}:
        raise RequestError(f"only {TYPE_URL} is served here, and {type_url[:200]!r} was asked for")
    if len(names) > _MAX_NAMES:
        raise RequestError(f"more than {_MAX_NAMES} names")
    if any(len(name) > _MAX_NAME_CHARACTERS for name in names):
        raise RequestError(f"a name of more than {_MAX_NAME_CHARACTERS} characters")


def _nack(sent: _Sent, reason: str) -> Nack:
    return Nack(sent.names, reason)
