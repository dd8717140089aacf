"""Roles given and taken, the policy behind them, tokens made and ended: by the Access service."""

from pathlib import Path
from typing import Any

import pytest

from protos.meshwarden.v1.access_pb2 import (
    CreateTokenRequest,
    GrantRequest,
    ListTokensRequest,
    MembersRequest,
    MeRequest,
    RevokeRequest,
    RevokeTokenRequest,
)
from protos.meshwarden.v1.policy_pb2 import (
    ApplyRequest,
    GetRequest,
    HistoryRequest,
    PolicyText,
    RollbackRequest,
    Row,
)
from tests.unit.meshwarden.remote_api import OPS, Api, headers, outcome, play

BOB = "mesh.example/ns/ops/sa/bob"


def given(who: str, role: str) -> Row:
    """A row that gives a role."""
    return Row(ptype="g", values=[who, f"role:{role}"])


async def members(api: Api) -> list[tuple[str, str]]:
    """Who has which role."""
    reply = await api.local.Members(MembersRequest())
    return [(each.who, each.role) for each in reply.members]


def test_the_owner_needs_nobody_to_be_admin(tmp_path: Path) -> None:
    """Before the first revision, and whatever the policy says."""

    async def story(api: Api) -> None:
        me = await api.local.Me(MeRequest())
        assert me.name.startswith("local:")
        assert list(me.roles) == ["viewer", "author", "admin"]
        deny = Row(ptype="p", values=["*", "*", "*", "/**", "deny"])
        assert (await api.local.Apply(ApplyRequest(text=PolicyText(rows=[deny])))).revision.number
        assert (await api.local.Grant(GrantRequest(who=OPS, role="admin"))).revision.number == 2

    play(tmp_path, story)


def test_every_change_is_a_revision_and_on_record(tmp_path: Path) -> None:
    """With its author, his address and his words; an admin elsewhere is the author of his own."""

    async def story(api: Api) -> None:
        await api.local.Grant(GrantRequest(who=OPS, role="admin", message="first"))
        request = GrantRequest(who=BOB, role="viewer").SerializeToString()
        await api.call("/meshwarden.v1.Access/Grant", headers(name=OPS), request)
        made = (await api.local.History(HistoryRequest())).revisions
        assert (made[0].number, made[0].author) == (2, OPS)
        assert [each.message for each in made] == [f"Give {BOB} the role viewer", "first"]
        trail = await api.trail()
        assert trail[1] == (OPS, "203.0.113.9", "access.grant", "done")
        assert [each.revision for each in await api.store.audit(9)] == ["admin/2", "admin/1"]

    play(tmp_path, story)


def test_giving_twice_is_one_revision_and_taking_what_is_not_there_is_told(tmp_path: Path) -> None:
    """With the nearest name, or what the caller does have."""

    async def story(api: Api) -> None:
        await api.local.Grant(GrantRequest(who=OPS, role="viewer"))
        assert (await api.local.Grant(GrantRequest(who=OPS, role="viewer"))).unchanged
        code, said = await outcome(api.local.Revoke(RevokeRequest(who=BOB)))
        assert (code, f"did you mean {OPS}?" in said) == ("NOT_FOUND", True)
        code, said = await outcome(api.local.Revoke(RevokeRequest(who=OPS, role="admin")))
        assert (code, "it has viewer" in said) == ("NOT_FOUND", True)
        assert (await api.local.Revoke(RevokeRequest(who=OPS))).revision.number == 2
        assert await members(api) == []

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("who", "role", "said"),
    [
        ("local:root", "admin", "local owner"),
        ("*", "admin", "begin with a trust domain"),
        ("", "admin", "begin with a trust domain"),
        (OPS, "", "no role"),
        (OPS, "admn", "did you mean role:admin?"),
        (OPS, "*", "no role"),
    ],
)
def test_a_mistake_changes_nothing(tmp_path: Path, who: str, role: str, said: str) -> None:
    """And is answered, not raised."""

    async def story(api: Api) -> None:
        reply = await api.local.Grant(GrantRequest(who=who, role=role))
        assert said in "\n".join(reply.errors)
        assert not reply.HasField("revision")
        assert await api.store.head("admin") is None

    play(tmp_path, story)


@pytest.mark.parametrize(
    "change",
    [
        lambda api: api.local.Revoke(RevokeRequest(who=OPS)),
        lambda api: api.local.Apply(ApplyRequest()),
        lambda api: api.local.Apply(ApplyRequest(dry_run=True)),
        lambda api: api.local.Apply(ApplyRequest(text=PolicyText(rows=[given(OPS, "author")]))),
        lambda api: api.local.Apply(
            ApplyRequest(
                text=PolicyText(
                    rows=[
                        given(OPS, "admin"),
                        Row(ptype="p", values=[OPS, "*", "ADMIN", "/**", "deny"]),
                    ]
                )
            )
        ),
        lambda api: api.local.Apply(
            ApplyRequest(text=PolicyText(rows=[given("token:no", "admin")]))
        ),
        lambda api: api.local.Rollback(RollbackRequest(number=1)),
        lambda api: api.call(
            "/meshwarden.v1.Access/Revoke",
            headers(name=OPS),
            RevokeRequest(who=OPS).SerializeToString(),
        ),
    ],
)
def test_the_last_admin_stays(tmp_path: Path, change: Any) -> None:
    """Whichever way he was to go, by the owner too; what was refused is on record."""

    async def story(api: Api) -> None:
        await api.local.Grant(GrantRequest(who=BOB, role="viewer"))
        await api.local.Grant(GrantRequest(who=OPS, role="admin"))
        code, said = await outcome(change(api))
        assert (code, "give it to somebody else first" in said) == ("FAILED_PRECONDITION", True)
        head = await api.store.head("admin")
        assert head is not None
        assert head.number == 2
        assert (await api.trail())[-1][3] == "refused"
        # With another one there he may go.
        await api.local.Grant(GrantRequest(who=BOB, role="admin"))
        assert (await api.local.Revoke(RevokeRequest(who=OPS))).revision.number == 4

    play(tmp_path, story)


def test_of_two_who_change_at_once_the_slower_is_told(tmp_path: Path) -> None:
    """By whom, and nothing of his is taken."""

    async def story(api: Api) -> None:
        await api.local.Grant(GrantRequest(who=OPS, role="admin", message="mine"))
        late = GrantRequest(who=BOB, role="admin", parent=0)
        code, said = await outcome(api.local.Grant(late))
        assert code == "ABORTED"
        assert "revision 1 was made meanwhile by local:" in said
        assert "'mine'" in said
        assert await members(api) == [(OPS, "admin")]

    play(tmp_path, story)


def test_a_whole_policy_is_applied_shown_and_put_back(tmp_path: Path) -> None:
    """Rules of its own included; places are kept for messages."""

    async def story(api: Api) -> None:
        rule = Row(
            ptype="p",
            values=["token:bot", "*", "VIEWER", "/**", "allow", "ipMatch(source.ip, '10.0.0.0/8')"],
            file="admin.csv",
            line=2,
        )
        first = PolicyText(rows=[given(OPS, "admin"), rule])
        assert (await api.local.Apply(ApplyRequest(text=first, message="x"))).revision.number == 1
        again = await api.local.Get(GetRequest())
        assert list(again.text.rows) == list(first.rows)
        # What Get gives can be applied as it is.
        assert (await api.local.Apply(ApplyRequest(text=again.text))).unchanged
        await api.local.Grant(GrantRequest(who=BOB, role="admin"))
        assert (await api.local.Rollback(RollbackRequest(number=1))).revision.number == 3
        assert await members(api) == [(OPS, "admin")]
        reply = await api.local.Members(MembersRequest())
        assert (reply.rules, reply.revision.number) == (1, 3)

    play(tmp_path, story)


def test_a_faulty_policy_is_answered_with_every_fault(tmp_path: Path) -> None:
    """By file and line; another model is none for this."""

    async def story(api: Api) -> None:
        bad = [
            Row(ptype="g", values=["*", "role:admin"], file="a.csv", line=1),
            Row(ptype="p", values=["token:x"], file="a.csv", line=2),
        ]
        reply = await api.local.Apply(ApplyRequest(text=PolicyText(rows=bad)))
        assert {each.split(": ")[0] for each in reply.errors} == {"a.csv:1", "a.csv:2"}
        other = await api.local.Apply(ApplyRequest(text=PolicyText(model="[matchers]\nm = true")))
        assert "built-in model" in other.errors[0]
        assert await api.store.head("admin") is None

    play(tmp_path, story)


@pytest.mark.parametrize("text", ["a\x1b[2J", "a\0b", "\u202egnp.exe", "x" * 4001])
def test_a_message_that_could_fool_a_reader_is_refused(tmp_path: Path, text: str) -> None:
    """The history is read on terminals."""

    async def story(api: Api) -> None:
        request = GrantRequest(who=OPS, role="admin", message=text)
        assert (await outcome(api.local.Grant(request)))[0] == "INVALID_ARGUMENT"
        fine = GrantRequest(who=OPS, role="admin", message="Zwei\nZeilen\t\u2014 \U0001f600")
        assert (await api.local.Grant(fine)).revision.number == 1

    play(tmp_path, story)


@pytest.mark.parametrize("value", ["token:a\nb", "token:a\0b", " token:a"])
def test_a_row_that_no_line_can_hold_is_refused(tmp_path: Path, value: str) -> None:
    """`admin show` would print other rows than those in force."""

    async def story(api: Api) -> None:
        odd = PolicyText(rows=[given(value, "viewer")])
        reply = await api.local.Apply(ApplyRequest(text=odd))
        assert "no line of policy can hold it" in reply.errors[0]
        assert not await members(api)

    play(tmp_path, story)


def test_a_token_is_told_once_and_kept_as_a_hash(tmp_path: Path) -> None:
    """Nothing in the database is of use to who reads it."""

    async def story(api: Api) -> None:
        made = await api.local.CreateToken(CreateTokenRequest(name="ci"))
        assert made.text.startswith(f"mwt_{made.token.id}_")
        listed = (await api.local.ListTokens(ListTokensRequest())).tokens
        assert list(listed) == [made.token]
        assert made.token.expires_ns - made.token.created_ns == 30 * 86_400 * 10**9
        files = b"".join(file.read_bytes() for file in tmp_path.glob("store.db*"))
        assert made.token.id.encode() in files
        assert made.text[17:].encode() not in files
        assert (await api.trail())[-1][2:] == ("access.create_token", "done")

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (CreateTokenRequest(name="CI"), "no name for a token"),
        (CreateTokenRequest(name=""), "no name for a token"),
        (CreateTokenRequest(name="a" * 64), "no name for a token"),
        (CreateTokenRequest(name="ci", lifetime_s=-1), "always ends"),
        (CreateTokenRequest(name="ci", lifetime_s=31 * 86_400), "to 30 days"),
        (CreateTokenRequest(name="ci", lifetime_s=2**62), "to 30 days"),
    ],
)
def test_no_token_is_made_without_a_name_and_an_end(
    tmp_path: Path, request_: CreateTokenRequest, said: str
) -> None:
    """The settings bound its life."""

    async def story(api: Api) -> None:
        code, told = await outcome(api.local.CreateToken(request_))
        assert (code, said in told) == ("INVALID_ARGUMENT", True)
        assert await api.store.tokens.all() == []

    play(tmp_path, story)


def test_tokens_are_revoked_by_name_or_id(tmp_path: Path) -> None:
    """One that follows another may share its name until then; the role stays for the next."""

    async def story(api: Api) -> None:
        await api.local.Grant(GrantRequest(who="token:ci", role="viewer"))
        first, second, third = [
            await api.local.CreateToken(CreateTokenRequest(name="ci")) for _ in range(3)
        ]
        assert list(first.roles) == ["viewer"]
        gone = await api.local.RevokeToken(RevokeTokenRequest(name_or_id=first.token.id))
        assert [each.id for each in gone.tokens] == [first.token.id]
        gone = await api.local.RevokeToken(RevokeTokenRequest(name_or_id="ci"))
        assert {each.id for each in gone.tokens} == {second.token.id, third.token.id}
        again = RevokeTokenRequest(name_or_id="ci")
        assert "revoked before" in (await outcome(api.local.RevokeToken(again)))[1]
        near = await outcome(api.local.RevokeToken(RevokeTokenRequest(name_or_id="cii")))
        assert near == ("NOT_FOUND", "there is no token 'cii'; did you mean ci?")
        reply = await api.local.Members(MembersRequest())
        assert reply.members[0].no_live_token

    play(tmp_path, story)


def test_the_last_admins_token_can_be_revoked_and_that_is_said(tmp_path: Path) -> None:
    """It may be in the wrong hands: that is worse than nobody."""

    async def story(api: Api) -> None:
        await api.local.CreateToken(CreateTokenRequest(name="root"))
        await api.local.Grant(GrantRequest(who="token:root", role="admin"))
        gone = await api.local.RevokeToken(RevokeTokenRequest(name_or_id="root"))
        assert gone.no_admin_left

    play(tmp_path, story)


def test_a_viewer_sees_who_may_what_and_changes_nothing(tmp_path: Path) -> None:
    """Only an admin gives roles and makes tokens, also an author doesn't."""

    async def story(api: Api) -> None:
        await api.local.Grant(GrantRequest(who=OPS, role="author"))
        for name in ("Members", "Get", "History", "ListTokens", "Me"):
            call = api.call(f"/meshwarden.v1.Access/{name}", headers(name=OPS))
            assert (await outcome(call))[0] == "OK"
        for name in ("Grant", "Revoke", "Apply", "Rollback", "CreateToken", "RevokeToken"):
            call = api.call(f"/meshwarden.v1.Access/{name}", headers(name=OPS))
            assert (await outcome(call))[0] == "PERMISSION_DENIED"
            assert (await api.trail())[-1][0] == OPS

    play(tmp_path, story)
