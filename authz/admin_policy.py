"""Who may administrate: a policy of its own, in the mesh model, decided by the engine.

A call of the admin API is asked about as any request is:

    who      the caller's principal, or `token:NAME`
    service  the gRPC service, such as meshwarden.v1.Policy
    method   the role that the called method needs: VIEWER, AUTHOR or ADMIN
    path     as gRPC has it: /meshwarden.v1.Policy/Apply

What the three roles may do is built in, so that most policies only say who has them:
`g, token:ci, role:author`. Inside the engine a token is a user, and no certificate can claim to be
one.
"""

import difflib
import re
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from authz.admin_tokens import is_token_name
from authz.attributes import Attributes, Binding, reader
from authz.policy.decision import Decision
from authz.policy.errors import Fault, PolicyError
from authz.policy.mesh import MESH, mesh_model
from authz.policy.options import EngineOptions
from authz.policy.rules import PolicyText, Row
from authz.policy.snapshot import Snapshot
from protos.envoy.service.auth.v3.external_auth_pb2 import CheckRequest

__all__ = ["ROLES", "AdminPolicy", "AdminVerdict", "Question", "member_fault"]

ROLES = ("viewer", "author", "admin")
"""From the least to the most; who has one may do what those before it may."""

_BUILT_IN = (
    Row("p", ("role:viewer", "*", "VIEWER", "/**", "allow"), "built-in", 1),
    Row("p", ("role:author", "*", "AUTHOR", "/**", "allow"), "built-in", 2),
    Row("p", ("role:admin", "*", "ADMIN", "/**", "allow"), "built-in", 3),
    Row("g", ("role:admin", "role:author"), "built-in", 4),
    Row("g", ("role:author", "role:viewer"), "built-in", 5),
    # No caller that is ever asked about: he keeps the roles from being nobody's.
    Row("g", ("user:local/owner", "role:admin"), "built-in", 6),
)
_BUILT_IN_ROLES = tuple(f"role:{role}" for role in ROLES)
_TOKEN = "token:"  # noqa: S105 - a prefix of names
_TOKEN_INSIDE = "user:token/"  # noqa: S105
_INSIDE = re.compile(re.escape(_TOKEN_INSIDE))
_METHOD_FIELD = 2
_EFFECT_FIELD = 4
_WHEN_FIELD = 5
# To change who may do what: whoever may call this can give himself everything else.
_CHANGES_ACCESS = "/meshwarden.v1.Access/Apply"


@dataclass(frozen=True, slots=True)
class Question:
    """A call that somebody wants to make.

    Attributes:
        name: The caller: a principal without scheme, or "token:NAME".
        source_ip: Where it comes from; "" if unknown.
        method: As gRPC has it, "/package.Service/Method".
        role: The role that the method needs.
        now_ns: The time.
    """

    name: str
    source_ip: str
    method: str
    role: str
    now_ns: int = 0


@dataclass(frozen=True, slots=True)
class AdminVerdict:
    """What the policy says of a call.

    Attributes:
        allowed: Whether it may be made.
        rule: The rule that decided, as "file:line"; "" if none did.
        roles: Of the three, those that the caller has for this method, least first.
    """

    allowed: bool
    rule: str
    roles: tuple[str, ...]


class AdminPolicy:
    """One revision of the admin policy, ready to decide.

    Attributes:
        rows: As they were written, without the built-in ones.
        digest: Of the whole.
    """

    def __init__(self, rows: Iterable[Row], now: Callable[[], datetime] | None = None) -> None:
        """Check and build it.

        Args:
            rows: As written, with tokens as "token:NAME".
            now: Local time, for conditions.

        Raises:
            PolicyError: Something in it can't be used; every fault is in it.
        """
        self.rows = tuple(rows)
        faults = [Fault(row.file, row.line, said) for row in self.rows for said in _faults(row)]
        faults += _vain(self.rows)
        try:
            self._snapshot = _snapshot(self.rows, now)
        except PolicyError as error:
            faults += [replace(each, message=_outward(each.message)) for each in error.faults]
        if faults:
            raise PolicyError(dict.fromkeys(faults))
        self._binding = Binding(self._snapshot.request_fields, {})
        self.digest = self._snapshot.digest

    @property
    def text(self) -> PolicyText:
        """The policy as a revision keeps it."""
        return PolicyText(mesh_model(), self.rows, MESH)

    def decide(self, asked: Question) -> AdminVerdict:
        """Decide one call."""
        decision = self._by(self._snapshot, asked)
        rule = decision.rule.where if decision.rule else ""
        roles = (
            role for role in ROLES if self._by(self._snapshot, replace(asked, role=role)).allowed
        )
        return AdminVerdict(decision.allowed, rule, tuple(roles))

    def members(self) -> tuple[tuple[str, str], ...]:
        """Who is given which role, as "name", "role" without its prefix, in order."""
        return tuple(
            (row.values[0], row.values[1].removeprefix("role:"))
            for row in self.rows
            if row.ptype == "g"
        )

    def admins(self, live_tokens: Container[str]) -> frozenset[str]:
        """Who may change this very policy, whenever and from wherever they call.

        Args:
            live_tokens: Names under which a token would be let in.

        Returns:
            Names and patterns, as the policy writes them.
        """
        sure = _snapshot(_unconditional(self.rows), None)
        names = {row.values[0] for row in self.rows if not row.values[0].startswith("role:")}
        return frozenset(
            name
            for name in names
            if (not name.startswith(_TOKEN) or name.removeprefix(_TOKEN) in live_tokens)
            and self._by(sure, Question(_example(name), "", _CHANGES_ACCESS, "admin")).allowed
        )

    def given(self, name: str, role: str) -> tuple[Row, ...]:
        """Give the rows of a policy in which somebody has a role too."""
        row = Row("g", (name, f"role:{role}"))
        is_there = any((each.ptype, each.values) == (row.ptype, row.values) for each in self.rows)
        return self.rows if is_there else (*self.rows, row)

    @staticmethod
    def taken(rows: Iterable[Row], name: str, role: str) -> tuple[Row, ...]:
        """Give rows without those that give a role to somebody of exactly that name."""
        wanted = ("g", (name, f"role:{role}"))
        return tuple(row for row in rows if (row.ptype, row.values) != wanted)

    def _by(self, snapshot: Snapshot, asked: Question) -> Decision:
        request = self._binding.request(Attributes(_check_request(asked), asked.now_ns))
        return snapshot.decide(request)


def member_fault(name: str) -> str:
    """Say why nobody of that name can be given a role; "" for nothing."""
    return next(_name_faults(name), "")


def _snapshot(rows: Iterable[Row], now: Callable[[], datetime] | None) -> Snapshot:
    inside = tuple(
        replace(row, values=(_inward(row.values[0]), *row.values[1:])) if row.values else row
        for row in rows
    )
    return Snapshot.build(
        PolicyText(mesh_model(), (*_BUILT_IN, *inside), MESH),
        None,
        EngineOptions(attribute=reader, now=now),
    )


def _check_request(asked: Question) -> CheckRequest:
    request = CheckRequest()
    context = request.attributes
    if asked.name.startswith(_TOKEN):
        payload = context.metadata_context.filter_metadata["envoy.filters.http.jwt_authn"]
        payload["jwt_payload"] = {"iss": "token", "sub": asked.name.removeprefix(_TOKEN)}
    else:
        context.source.principal = f"spiffe://{asked.name}"
    context.source.address.socket_address.address = asked.source_ip
    http = context.request.http
    http.method, http.path, http.protocol = asked.role.upper(), asked.method, "HTTP/2"
    context.request.time.FromNanoseconds(asked.now_ns)
    context.context_extensions["service"] = asked.method.split("/")[1]
    return request


def _faults(row: Row) -> Iterator[str]:
    """What the mesh model would take, and what means nothing here or too much."""
    is_denial = row.ptype == "p" and row.values[_EFFECT_FIELD : _EFFECT_FIELD + 1] == ("deny",)
    if row.values and not row.values[0].startswith("role:") and not is_denial:
        yield from _name_faults(row.values[0])
    if row.ptype == "p" and len(row.values) > _METHOD_FIELD:
        method = row.values[_METHOD_FIELD]
        known = [role.upper() for role in ROLES]
        for each in method.split("|"):
            if each not in known and method != "*":
                yield (
                    f"{each[:40]!r} is no role that a method needs; write *, or names of "
                    f"{', '.join(known)}{_nearest(each, known)}"
                )


def _name_faults(name: str) -> Iterator[str]:
    kind, colon, rest = name.partition(":")
    if colon and "/" not in kind and kind != "token":
        hint = "; the local owner may do everything already" if kind == "local" else ""
        yield f"{name[:60]!r} is nobody here; write td/ns/N/sa/S or token:NAME{hint}"
    elif colon and "/" not in kind and not is_token_name(rest):
        yield f"{name[:60]!r}: a token's name has lower-case letters, digits, dots and dashes only"
    elif not colon and ("*" in name.partition("/")[0] or "/" not in name):
        yield (
            f"{name[:60]!r}: begin with a trust domain, as in td/ns/N/sa/S; whoever any authority "
            "vouches for is too many"
        )


def _vain(rows: Sequence[Row]) -> list[Fault]:
    """Roles that are given and that no rule speaks of: most likely misspelt."""
    asked = {*_BUILT_IN_ROLES}
    asked |= {row.values[0] for row in rows if row.values}
    return [
        Fault(
            row.file,
            row.line,
            f"no rule speaks of {row.values[1][:60]!r}{_nearest(row.values[1], asked)}",
        )
        for row in rows
        if row.ptype == "g" and len(row.values) > 1 and row.values[1] not in asked
    ]


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, sorted(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _unconditional(rows: Iterable[Row]) -> tuple[Row, ...]:
    return tuple(row for row in rows if row.ptype == "g" or not any(row.values[_WHEN_FIELD:]))


def _example(name: str) -> str:
    """Give one name that a pattern speaks of."""
    return re.sub(r"\{[^{}]*\}", "x", name).replace("**", "x").replace("*", "x")


def _inward(name: str) -> str:
    return _TOKEN_INSIDE + name.removeprefix(_TOKEN) if name.startswith(_TOKEN) else name


def _outward(text: str) -> str:
    return _INSIDE.sub(_TOKEN, text)
