"""The gate of the public port: a certificate or token says who calls, the admin policy whether."""

import re
from collections.abc import Callable
from typing import Any, ClassVar

import grpc.aio
from typing_extensions import override

from authz.admin_policy import AdminVerdict, Question
from authz.admin_tokens import Token, has_token_form
from authz.errors import AuthzError
from authz.revisions import StoreUnavailableError
from meshwarden.caller import Caller
from meshwarden.control.access import Gate, needed
from meshwarden.control.access_state import AccessState
from meshwarden.control.refusals import Refusals
from meshwarden.control.who import Who

__all__ = ["RemoteGate", "action_of"]

_Context = grpc.aio.ServicerContext[Any, Any]
_LARGE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_UNKNOWN_SOURCE = "unknown"


class _RefusedError(AuthzError):
    """A call is refused.

    Attributes:
        short: Why, for the audit trail, whose other columns tell who and what.
    """

    def __init__(self, message: str, short: str = "") -> None:
        super().__init__(message)
        self.short = short or message


class NobodyError(_RefusedError):
    """The call shows no credential that can be believed; the caller must show another one."""

    code: ClassVar[str] = "UNAUTHENTICATED"


class NotAllowedError(_RefusedError):
    """The caller is known and may not do this; somebody with the role admin can let him."""

    code: ClassVar[str] = "PERMISSION_DENIED"


class UnusableError(AuthzError):
    """The admin policy can't be used by this version of the program; its owner must change it."""

    code: ClassVar[str] = "FAILED_PRECONDITION"


class RemoteGate(Gate):
    """Judges calls that come over a network."""

    def __init__(
        self,
        state: AccessState,
        refusals: Refusals,
        caller_of: Callable[[_Context], Caller],
        now_ns: Callable[[], int],
    ) -> None:
        """Judge by one store's word.

        Args:
            state: Who may administrate.
            refusals: Where each refusal goes.
            caller_of: Reads who is at the other end; differs between the transports.
            now_ns: The time.
        """
        self._state = state
        self._refusals = refusals
        self._caller_of = caller_of
        self._now_ns = now_ns

    @override
    async def admit(self, method: str, context: _Context) -> Who:
        caller = self._caller_of(context)
        source = caller.source_ip or _UNKNOWN_SOURCE
        given = [
            value if isinstance(value, str) else ""
            for name, value in context.invocation_metadata() or ()
            if name == "authorization"
        ]
        await self._state.refresh()
        name = ""
        try:
            name = self._name_of(caller, given)
            self._permit(name, caller, method)
        except _RefusedError as error:
            known = name or self._named_by(given)
            await self._refusals.note(known, source, action_of(method), error.short)
            raise
        return Who(name, source, is_local=False)

    def _name_of(self, caller: Caller, given: list[str]) -> str:
        """Find out who calls.

        Raises:
            NobodyError: No credential can be believed.
            StoreUnavailableError: Whether a token is good is not known.
        """
        if not caller.tls:
            raise _over_plain_text(self._named_by(given), has_token=bool(given))
        if not given:
            if not caller.spiffe_id:
                raise NobodyError(
                    "no credential: show a client certificate with exactly one SPIFFE ID that "
                    "the service's authority vouches for, or 'authorization: Bearer TOKEN'",
                    "no credential",
                )
            return caller.principal
        # Whoever shows a token wants to be judged by it, whatever certificate comes with it.
        token = self._state.token_of(_bearer(given))
        if token is None:
            if self._state.fault:
                # It may be a new one: nobody can say that it is wrong.
                raise StoreUnavailableError(f"tokens can't be read: {self._state.fault}")
            raise NobodyError("the token is not one of this service, or it was forgotten")
        fault = _ended(token, self._now_ns())
        if fault:
            raise NobodyError(fault)
        self._state.note_use(token)
        return f"token:{token.name}"

    def _permit(self, name: str, caller: Caller, method: str) -> None:
        """Have the admin policy decide.

        Raises:
            NotAllowedError: It says no.
            UnusableError: It can't be asked.
            StoreUnavailableError: The policy may be out of date, and this would change something.
        """
        role = needed(method)
        if self._state.unusable:
            raise UnusableError(
                "nobody has a role here: the admin policy was made by another version of the "
                "program; the owner of the service's machine can put an older revision back"
            )
        if self._state.fault and (role != "viewer" or self._state.revision is None):
            # Looking on is worth most when the store is down; a change by somebody whose role
            # was taken away meanwhile is not.
            raise StoreUnavailableError(
                f"who may do this can't be read, so only looking on is allowed: {self._state.fault}"
            )
        asked = Question(name, caller.source_ip, method, role, self._now_ns())
        verdict = self._state.decide(asked)
        if not verdict.allowed:
            raise _no(asked, verdict)

    def _named_by(self, given: list[str]) -> str:
        """Name whose token this is, good or not, for the audit trail; "" for nobody's."""
        token = self._state.token_of(given[0].rpartition(" ")[2]) if given else None
        return f"token:{token.name}" if token else ""


def action_of(method: str) -> str:
    """Give a method's name as the audit trail has it: "policy.apply" for Policy/Apply."""
    service, _, name = method.rpartition("/")
    return f"{service.rpartition('.')[2].lower()}.{_LARGE.sub('_', name).lower()}"


def _bearer(given: list[str]) -> str:
    if len(given) != 1:
        raise NobodyError("there are several 'authorization' headers; send one")
    scheme, _, text = given[0].partition(" ")
    if scheme.lower() != "bearer":
        raise NobodyError("only 'authorization: Bearer TOKEN' is understood")
    text = text.strip()
    if not has_token_form(text):
        raise NobodyError("this is no token of Meshwarden: those begin with mwt_ and are whole")
    return text


def _over_plain_text(name: str, *, has_token: bool) -> NobodyError:
    if not has_token:
        return NobodyError(
            "this connection is plain text, on which nobody can be known; connect by TLS",
            "plain text",
        )
    whose = name.removeprefix("token:")
    return NobodyError(
        "the token came over a plain-text connection, where others can read it: it is not taken, "
        "and must be considered leaked. Revoke it (meshwarden admin token revoke "
        f"{whose or 'NAME'}), make another one, and connect by TLS",
        "a token came over plain text: consider it leaked, and revoke it",
    )


def _ended(token: Token, now_ns: int) -> str:
    """Say why a token is no longer good; "" while it is."""
    if token.revoked_ns:
        return f"the token {token.name!r} ({token.id}) was revoked"
    if not token.is_live(now_ns):
        return (
            f"the token {token.name!r} ({token.id}) has expired; somebody with the role admin can "
            f"make another one: meshwarden admin token create {token.name}"
        )
    return ""


def _no(asked: Question, verdict: AdminVerdict) -> NotAllowedError:
    what = asked.method.removeprefix("/")
    if verdict.rule:
        return NotAllowedError(
            f"you are {asked.name}, and may not call {what}: a rule denies it, {verdict.rule}",
            f"denied by {verdict.rule}",
        )
    last = verdict.roles[-1] if verdict.roles else ""
    return NotAllowedError(
        f"you are {asked.name}, and may not call {what}: it needs the role {asked.role}, and "
        f"{f'yours is {last}' if last else 'you have none'}. Somebody with the role admin can give "
        f"it: meshwarden admin grant {asked.name} {asked.role}",
        f"needs {asked.role}, has {last or 'no role'}",
    )
