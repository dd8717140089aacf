"""Who is let in from other machines, by which credential, and what is said and recorded of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from authz.audit import AuditEntry
from authz.policy.rules import Row
from meshwarden.control.access_gate import action_of
from protos.meshwarden.v1 import access_pb2
from protos.meshwarden.v1.access_pb2 import CreateTokenRequest, GrantRequest, RevokeTokenRequest
from protos.meshwarden.v1.policy_pb2 import ApplyRequest, PolicyText, RollbackRequest
from protos.meshwarden.v1.policy_pb2 import Row as PolicyRow
from tests.unit.meshwarden.remote_api import OPS, Api, Headers, headers, outcome, play

ME = "/meshwarden.v1.Access/Me"
APPLY = "/meshwarden.v1.Policy/Apply"


async def a_token(api: Api, name: str = "ci", role: str = "author", seconds: int = 0) -> str:
    """Make a token with a role."""
    if role:
        await api.local.Grant(GrantRequest(who=f"token:{name}", role=role))
    made = await api.local.CreateToken(CreateTokenRequest(name=name, lifetime_s=seconds))
    text: str = made.text
    return text


@pytest.mark.parametrize("role", ["viewer", "author", "admin"])
def test_a_certificate_is_let_in_by_its_role(tmp_path: Path, role: str) -> None:
    """And told what it needed where that is not enough."""

    async def story(api: Api) -> None:
        await api.local.Grant(GrantRequest(who=OPS, role=role))
        told = access_pb2.MeReply.FromString(await api.call(ME, headers(name=OPS)))
        assert (told.name, told.source, told.roles[-1]) == (OPS, "203.0.113.9", role)
        code, said = await outcome(api.call(APPLY, headers(name=OPS)))
        if role == "viewer":
            assert code == "PERMISSION_DENIED"
            assert f"you are {OPS}" in said
            assert "needs the role author, and yours is viewer" in said
            assert f"meshwarden admin grant {OPS} author" in said
            assert (await api.trail())[-1] == (OPS, "203.0.113.9", "policy.apply", "refused")
        else:
            assert code == "OK"

    play(tmp_path, story)


def test_an_entry_makes_its_workload_an_administrator(tmp_path: Path) -> None:
    """While it has the flag; a rule that denies is stronger, and a token is no workload."""

    async def story(api: Api) -> None:
        given = headers(name=OPS)
        assert (await outcome(api.call(APPLY, given)))[0] == "PERMISSION_DENIED"
        api.state.registered = lambda: frozenset({f"spiffe://{OPS}"})
        assert await outcome(api.call(APPLY, given)) == ("OK", "")
        told = access_pb2.MeReply.FromString(await api.call(ME, given))
        assert list(told.roles) == ["viewer", "author", "admin"]
        # A role of the policy's own takes nothing from that.
        await api.local.Grant(GrantRequest(who=OPS, role="viewer"))
        told = access_pb2.MeReply.FromString(await api.call(ME, given))
        assert list(told.roles) == ["viewer", "author", "admin"]
        token = await a_token(api, role="")
        assert (await outcome(api.call(APPLY, headers(token=token))))[0] == "PERMISSION_DENIED"
        deny = PolicyRow(ptype="p", values=[OPS, "*", "AUTHOR", "/**", "deny"])
        await api.local.Apply(ApplyRequest(text=PolicyText(rows=[deny])))
        assert "a rule denies it" in (await outcome(api.call(APPLY, given)))[1]
        api.state.registered = frozenset
        assert (await outcome(api.call(APPLY, given)))[0] == "PERMISSION_DENIED"

    play(tmp_path, story)


def test_a_token_is_its_name_whatever_certificate_comes_with_it(tmp_path: Path) -> None:
    """Who shows a token wants to be judged by it."""

    async def story(api: Api) -> None:
        await api.local.Grant(GrantRequest(who=OPS, role="admin"))
        token = await a_token(api, role="viewer")
        given = headers(name=OPS, token=token)
        told = access_pb2.MeReply.FromString(await api.call(ME, given))
        assert (told.name, list(told.roles)) == ("token:ci", ["viewer"])
        wrong = headers(name=OPS, token=token[:-1] + ("A" if token[-1] != "A" else "B"))
        assert (await outcome(api.call(ME, wrong)))[0] == "UNAUTHENTICATED"

    play(tmp_path, story)


def test_a_token_over_plain_text_is_refused_and_called_leaked(tmp_path: Path) -> None:
    """On loopback too; its name is on record, its secret is not."""

    async def story(api: Api) -> None:
        token = await a_token(api)
        for source in ("127.0.0.1", "203.0.113.9"):
            given = headers(token=token, tls="-", source=source)
            code, said = await outcome(api.call(ME, given))
            assert code == "UNAUTHENTICATED"
            assert "considered leaked" in said
            assert "admin token revoke ci" in said
            assert token not in said
            assert (await api.trail())[-1] == ("token:ci", source, "access.me", "refused")
        assert all(token[17:] not in repr(each) for each in await api.store.audit(99))

    play(tmp_path, story)


def test_over_plain_text_a_certificate_of_the_headers_is_nobodys(tmp_path: Path) -> None:
    """There can be none."""

    async def story(api: Api) -> None:
        await api.local.Grant(GrantRequest(who=OPS, role="admin"))
        code, said = await outcome(api.call(ME, headers(name=OPS, tls="")))
        assert code == "UNAUTHENTICATED"
        assert "plain text" in said

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (headers(), "no credential"),
        ([*headers(), ("authorization", "Basic YTpi")], "only 'authorization: Bearer TOKEN'"),
        ([*headers(), ("authorization", "")], "only 'authorization: Bearer TOKEN'"),
        ([*headers(), ("authorization", "Bearer")], "no token of Meshwarden"),
        ([*headers(), ("authorization", "Bearer eyJhbGciOi.J9")], "no token of Meshwarden"),
        (headers(token="mwt_" + "0" * 12 + "_" + "A" * 43), "not one of this service"),
        ([*headers(), *[("authorization", "Bearer b")] * 2], "several"),
        ([*headers(), ("authorization", "Bearer " + "a" * 8000)], "no token of Meshwarden"),
    ],
)
def test_without_a_credential_that_is_good_nobody_comes_in(
    tmp_path: Path, given: Headers, said: str
) -> None:
    """Each way is told, and recorded under nobody's name."""

    async def story(api: Api) -> None:
        code, told = await outcome(api.call(ME, given))
        assert code == "UNAUTHENTICATED"
        assert said in told
        assert (await api.trail())[-1] == ("", "203.0.113.9", "access.me", "refused")

    play(tmp_path, story)


def test_a_token_that_has_ended_says_how(tmp_path: Path) -> None:
    """Expired or revoked: its holder knows whom to ask."""

    async def story(api: Api) -> None:
        short, other = await a_token(api, seconds=60), await a_token(api, "other")
        assert (await outcome(api.call(ME, headers(token=short))))[0] == "OK"
        api.later(60)
        code, said = await outcome(api.call(ME, headers(token=short)))
        assert (code, "has expired" in said) == ("UNAUTHENTICATED", True)
        assert "admin token create ci" in said
        await api.local.RevokeToken(RevokeTokenRequest(name_or_id="other"))
        code, said = await outcome(api.call(ME, headers(token=other)))
        assert (code, "was revoked" in said) == ("UNAUTHENTICATED", True)

    play(tmp_path, story)


def test_what_another_replica_changed_counts_within_a_second(tmp_path: Path) -> None:
    """A role taken and a token revoked elsewhere, by way of the store."""

    async def story(api: Api) -> None:
        token = await a_token(api)
        assert (await outcome(api.call(APPLY, headers(token=token))))[0] == "OK"
        head = await api.store.head("admin")
        assert head is not None
        _, draft = await api.store.read("admin", head.number)
        none = replace(draft, text=replace(draft.text, rows=()))
        await api.store.commit("admin", head.number, none, AuditEntry(1, "bob", "x", "y", "done"))
        api.later(1)
        assert (await outcome(api.call(APPLY, headers(token=token))))[0] == "PERMISSION_DENIED"

    play(tmp_path, story)


def test_when_the_store_is_down_only_looking_on_is_allowed(tmp_path: Path) -> None:
    """A role may have been taken away meanwhile: a fault is told as one, and is no denial."""

    async def story(api: Api) -> None:
        token = await a_token(api)
        assert (await outcome(api.call(APPLY, headers(token=token))))[0] == "OK"
        (tmp_path / "store.db").rename(tmp_path / "away.db")
        (tmp_path / "store.db").mkdir()
        await api.store.close()
        api.later(1)
        code, said = await outcome(api.call(APPLY, headers(token=token)))
        assert (code, "only looking on is allowed" in said) == ("UNAVAILABLE", True)
        unknown = headers(token="mwt_" + "1" * 12 + "_" + "A" * 43)
        assert (await outcome(api.call(APPLY, unknown)))[0] == "UNAVAILABLE"
        api.state.fault = api.state.fault or "down"
        code, said = await outcome(api.call("/meshwarden.v1.Policy/History", headers(token=token)))
        # It isn't served here: so the gate has let it pass.
        assert code == "UNIMPLEMENTED"

    play(tmp_path, story)


def test_a_policy_of_another_version_lets_nobody_in_but_the_owner_can_replace_it(
    tmp_path: Path,
) -> None:
    """What it says is not known here, and what was so before may be what it ended."""

    async def story(api: Api) -> None:
        await api.local.Grant(GrantRequest(who=OPS, role="admin"))
        head = await api.store.head("admin")
        assert head is not None
        _, draft = await api.store.read("admin", head.number)
        odd = replace(draft, text=replace(draft.text, rows=(Row("x", ("from", "tomorrow")),)))
        await api.store.commit("admin", 1, odd, AuditEntry(1, "bob", "x", "y", "done"))
        api.later(1)
        code, said = await outcome(api.call(ME, headers(name=OPS)))
        assert (code, "another version" in said) == ("FAILED_PRECONDITION", True)
        assert (await api.local.Rollback(RollbackRequest(number=1))).revision.number == 3
        assert (await outcome(api.call(ME, headers(name=OPS))))[0] == "OK"

    play(tmp_path, story)


def test_a_flood_of_wrong_tokens_asks_the_store_once_a_second(tmp_path: Path) -> None:
    """Neither it nor the trail is filled."""

    async def story(api: Api) -> None:
        reads = 0
        inner = api.store.head

        async def head(stream: str) -> object:
            nonlocal reads
            reads += 1
            return await inner(stream)

        api.store.head = head  # type: ignore[method-assign,assignment]
        for number in range(200):
            wrong = headers(token=f"mwt_{number:012x}_" + "A" * 43)
            assert (await outcome(api.call(ME, wrong)))[0] == "UNAUTHENTICATED"
        assert reads == 1
        assert len(await api.trail()) == 1
        await api.refusals.flush()
        assert len(await api.trail()) == 2

    play(tmp_path, story)


def test_last_use_is_kept_to_the_minute(tmp_path: Path) -> None:
    """A client that polls is no writer."""

    async def story(api: Api) -> None:
        token = await a_token(api)
        for _ in range(3):
            await api.call(ME, headers(token=token))
            api.later(10)
        await api.state.write_uses()
        (kept,) = await api.store.tokens.all()
        assert kept.used_ns == 1000 * 10**9
        await api.state.refresh(now=True)
        await api.call(ME, headers(token=token))
        await api.state.write_uses()
        assert (await api.store.tokens.all())[0].used_ns == 1000 * 10**9
        api.later(60)
        await api.call(ME, headers(token=token))
        await api.state.write_uses()
        assert (await api.store.tokens.all())[0].used_ns == 1090 * 10**9

    play(tmp_path, story)


def test_methods_have_short_names_on_the_trail() -> None:
    """As revisions' own entries have them."""
    assert action_of("/meshwarden.v1.Policy/Apply") == "policy.apply"
    assert action_of("/meshwarden.v1.Access/CreateToken") == "access.create_token"
    assert action_of("/meshwarden.v1.Authority/MintX509") == "authority.mint_x509"
