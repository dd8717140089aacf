"""Tokens of the admin API made, listed and ended."""

import difflib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import ClassVar

from authz.admin_tokens import ID_BYTES, SECRET_BYTES, Token, is_token_name, new_token
from authz.audit import AuditEntry
from authz.errors import AuthzError
from meshwarden.control.administration import Administration
from meshwarden.control.who import Who
from protos.meshwarden.v1 import access_pb2

__all__ = ["Tokens"]

_DAY_S = 86_400
_MIN_LIFETIME_S = 1
# What became of a token can be looked up that long after its end; the audit trail keeps it anyway.
_FORGET_NS = 90 * _DAY_S * 1_000_000_000


class BadTokenRequestError(AuthzError):
    """The token can't be made so; the message says what to ask for."""

    code: ClassVar[str] = "INVALID_ARGUMENT"


class NoTokenError(AuthzError):
    """There is no live token of that name or id; the message has the nearest."""

    code: ClassVar[str] = "NOT_FOUND"


class Tokens:
    """The tokens of one instance's store."""

    def __init__(
        self, token_days: int, random: Callable[[int], bytes], now_ns: Callable[[], int]
    ) -> None:
        """Make none yet.

        Args:
            token_days: How long a token lives unless told otherwise, and at most.
            random: Gives so many bytes from the system's source of secrets.
            now_ns: The time.
        """
        self._lifetime_s = token_days * _DAY_S
        self._random = random
        self._now_ns = now_ns

    async def create(
        self, here: Administration, who: Who, request: access_pb2.CreateTokenRequest
    ) -> access_pb2.CreateTokenReply:
        """Make a token.

        Raises:
            BadTokenRequestError: It can't be made so.
            TokenLimitError: There are too many.
            StoreUnavailableError: The store can't be written.
        """
        if not is_token_name(request.name):
            raise BadTokenRequestError(
                f"{request.name[:60]!r} is no name for a token: write lower-case letters, digits, "
                "dots, dashes and underscores, at most 63, the first a letter or digit"
            )
        lifetime_s = request.lifetime_s or self._lifetime_s
        if not _MIN_LIFETIME_S <= lifetime_s <= self._lifetime_s:
            raise BadTokenRequestError(
                f"a token lives for {_MIN_LIFETIME_S} s to {self._lifetime_s // _DAY_S} days "
                "(admin.token_days), and always ends"
            )
        now_ns = self._now_ns()
        made = new_token(self._random(ID_BYTES + SECRET_BYTES))
        expires_ns = now_ns + lifetime_s * 1_000_000_000
        token = Token(made.id, request.name, made.digest, now_ns, who.name, expires_ns)
        detail = f"{token.name} ({token.id}), good until {_day(expires_ns)}"
        entry = AuditEntry(now_ns, who.name, who.source, "access.create_token", "done", "", detail)
        await here.store.tokens.add(token, entry, now_ns - _FORGET_NS)
        await here.state.refresh(now=True)
        return access_pb2.CreateTokenReply(
            token=_token_message(token),
            text=made.text,
            roles=here.roles_of(f"token:{token.name}", "", now_ns),
        )

    @staticmethod
    def listed(here: Administration) -> access_pb2.ListTokensReply:
        """List tokens, newest first."""
        return access_pb2.ListTokensReply(tokens=map(_token_message, here.state.tokens))

    async def revoke(
        self, here: Administration, who: Who, request: access_pb2.RevokeTokenRequest
    ) -> access_pb2.RevokeTokenReply:
        """End tokens by name or id.

        Raises:
            NoTokenError: None of them is live.
            StoreUnavailableError: The store can't be written.
        """
        state = here.state
        now_ns = self._now_ns()
        wanted = request.name_or_id.removeprefix("token:")
        found = [each for each in state.tokens if wanted in {each.id, each.name}]
        live = [each for each in found if each.is_live(now_ns)]
        if not live:
            raise NoTokenError(_no_token(wanted, found, state.tokens))
        before = await here.has_admin(state.policy)
        detail = ", ".join(f"{each.name} ({each.id})" for each in live)
        entry = AuditEntry(now_ns, who.name, who.source, "access.revoke_token", "done", "", detail)
        # Never refused, whoever is left: the reason may be that somebody else has it.
        await here.store.tokens.revoke([each.id for each in live], entry)
        await state.refresh(now=True)
        after = await here.has_admin(state.policy)
        return access_pb2.RevokeTokenReply(
            tokens=map(_token_message, live), no_admin_left=before and not after
        )


def _no_token(wanted: str, found: Sequence[Token], tokens: Sequence[Token]) -> str:
    if found:
        return f"no token {wanted!r} is live: it has expired or was revoked before"
    near = difflib.get_close_matches(wanted, {each.name for each in tokens}, n=1)
    return f"there is no token {wanted[:60]!r}{f'; did you mean {near[0]}?' if near else ''}"


def _token_message(token: Token) -> access_pb2.Token:
    return access_pb2.Token(
        id=token.id,
        name=token.name,
        created_ns=token.created_ns,
        created_by=token.created_by,
        expires_ns=token.expires_ns,
        revoked_ns=token.revoked_ns,
        used_ns=token.used_ns,
    )


def _day(time_ns: int) -> str:
    return f"{datetime.fromtimestamp(time_ns / 1e9, UTC):%Y-%m-%d %H:%M}Z"
