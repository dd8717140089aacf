"""Registration: what operators may say, what is refused, and what the trail keeps of both."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from prometheus_client import REGISTRY

from ca.entry_draft import EntryRules
from ca.join_token import parse_token
from ca.registry import Audit
from meshwarden import status
from meshwarden.entry_files import EntryFileError, check_drafts, read_drafts
from meshwarden.settings import Identity
from protos.meshwarden.v1 import agent_pb2, registration_pb2
from tests.servers.identity import TRUST_DOMAIN, IdentityServer, entry, identity_server

AGENT = f"spiffe://{TRUST_DOMAIN}/meshwarden/agent/join_token/a"
WEB = f"spiffe://{TRUST_DOMAIN}/ns/shop/sa/web"
INVALID = grpc.StatusCode.INVALID_ARGUMENT
Story = Callable[[IdentityServer], Awaitable[None]]


def run(folder: Path, story: Story, identity: Identity | None = None, **nodes: Any) -> None:
    """Run one story against servers of its own."""

    async def within_time() -> None:
        async with (
            asyncio.timeout(60),
            identity_server(folder, identity=identity, **nodes) as server,
        ):
            await story(server)

    asyncio.run(within_time())


async def refused(call: Awaitable[Any]) -> tuple[grpc.StatusCode, str]:
    """Have a call refused; give how."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


def put(
    *entries: registration_pb2.Entry, dry_run: bool = False
) -> registration_pb2.PutEntriesRequest:
    """Ask for entries."""
    return registration_pb2.PutEntriesRequest(entries=entries, dry_run=dry_run)


async def listed(server: IdentityServer, **wanted: Any) -> list[registration_pb2.Entry]:
    """List entries."""
    request = registration_pb2.ListEntriesRequest(**wanted)
    return [*(await server.registration.ListEntries(request)).entries]


def test_what_was_registered_is_listed_as_it_was(tmp_path: Path) -> None:
    """By parent, by identity, by selectors, and page by page."""

    async def story(server: IdentityServer) -> None:
        made = [
            await server.put(
                spiffe_id=f"{WEB}{n}", parent_id=AGENT, selectors=["unix:uid:1", f"unix:gid:{n}"],
                hint="h", dns_names=["a.b"], x509_ttl_s=60, jwt_ttl_s=30, admin=n == 0,
            )
            for n in range(5)
        ]  # fmt: skip
        assert await listed(server) == made
        assert await listed(server, spiffe_id=f"{WEB}3") == [made[3]]
        assert await listed(server, parent_id=f"{AGENT}x") == []
        gid = agent_pb2.Selector(kind="unix", value="gid:2")
        assert await listed(server, selectors=[gid]) == [made[2]]
        first = await server.registration.ListEntries(registration_pb2.ListEntriesRequest(limit=3))
        rest = await listed(server, limit=3, after=first.next)
        assert [*first.entries, *rest] == made
        assert server.nodes.registry.admins() == {f"{WEB}0"}

    run(tmp_path, story)


def test_every_fault_of_every_entry_is_told_and_nothing_is_kept(tmp_path: Path) -> None:
    """Of three, one is good."""

    async def story(server: IdentityServer) -> None:
        bad = entry(spiffe_id="spiffe://other/x", parent_id="nobody")
        code, why = await refused(
            server.registration.PutEntries(put(entry(parent_id=AGENT), bad, entry(selectors=[])))
        )
        assert code is INVALID
        assert [line.split(":")[0][:7] for line in why.splitlines()] == ["entry 2"] * 2 + [
            "entry 3"
        ] * 2
        assert await listed(server) == []
        assert [each[1:3] for each in await server.audited()] == [("entry.put", "refused")]

    run(tmp_path, story)


def test_a_change_does_not_bring_back_what_another_one_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was there when the change of it was looked at."""

    async def story(server: IdentityServer) -> None:
        first = await server.put(spiffe_id=WEB, parent_id=AGENT)
        registry = server.nodes.registry
        refresh = registry.refresh

        async def and_deleted() -> None:
            await refresh()
            monkeypatch.setattr(registry, "refresh", refresh)
            audit = Audit(7, "local:ann", "local", "entry.delete", "done")
            await registry.store.write_entries([], [first.workload.id], audit)

        monkeypatch.setattr(registry, "refresh", and_deleted)
        code, why = await refused(
            server.put(spiffe_id=WEB, parent_id=AGENT, hint="x", id=first.workload.id)
        )
        assert (code, "deleted meanwhile" in why) == (grpc.StatusCode.NOT_FOUND, True)
        assert await listed(server) == []

    run(tmp_path, story)


def test_the_same_entry_is_not_registered_twice(tmp_path: Path) -> None:
    """The answer names the one that is there; by its id it can be changed."""

    async def story(server: IdentityServer) -> None:
        first = await server.put(spiffe_id=WEB, parent_id=AGENT)
        code, why = await refused(server.put(spiffe_id=WEB, parent_id=AGENT, hint="other"))
        assert (code, first.workload.id in why) == (grpc.StatusCode.ALREADY_EXISTS, True)
        changed = await server.put(
            spiffe_id=WEB, parent_id=AGENT, hint="other", id=first.workload.id
        )
        assert changed.workload.version > first.workload.version
        assert await listed(server) == [changed]
        code, _ = await refused(server.put(spiffe_id=f"{WEB}2", parent_id=AGENT, id="nothing"))
        assert code is grpc.StatusCode.NOT_FOUND

    run(tmp_path, story)


def test_a_dry_run_finds_what_the_real_one_would_and_changes_nothing(tmp_path: Path) -> None:
    """Duplicates, too."""

    async def story(server: IdentityServer) -> None:
        good = entry(spiffe_id=WEB, parent_id=AGENT)
        reply = await server.registration.PutEntries(put(good, dry_run=True))
        assert reply.entries[0].workload.spiffe_id == WEB
        assert await listed(server) == []
        assert await server.audited() == []
        await server.registration.PutEntries(put(good))
        code, _ = await refused(server.registration.PutEntries(put(good, dry_run=True)))
        assert code is grpc.StatusCode.ALREADY_EXISTS

    run(tmp_path, story)


def test_entries_are_deleted_all_or_none(tmp_path: Path) -> None:
    """One that isn't there keeps the others."""

    async def story(server: IdentityServer) -> None:
        made = (await server.put(parent_id=AGENT)).workload.id

        def delete(*ids: str) -> Awaitable[Any]:
            request = registration_pb2.DeleteEntriesRequest(ids=ids)
            call: Awaitable[Any] = server.registration.DeleteEntries(request)
            return call

        assert (await refused(delete(made, "nothing")))[0] is grpc.StatusCode.NOT_FOUND
        assert (await refused(delete()))[0] is INVALID
        assert len(await listed(server)) == 1
        await delete(made)
        assert await listed(server) == []

    run(tmp_path, story)


def test_a_token_tells_by_which_authorities_the_server_is_known(tmp_path: Path) -> None:
    """Lists never show its secret."""

    async def story(server: IdentityServer) -> None:
        token = await server.new_token(agent_path="a", ttl_s=90)
        assert parse_token(token.token).authorities == server.opened.issuer.bundle().sha256
        (told,) = (
            await server.registration.ListJoinTokens(registration_pb2.ListJoinTokensRequest())
        ).tokens
        assert (told.id, told.agent_id, told.used_ns) == (token.id, AGENT, 0)
        assert token.token.split(".")[1] not in str(told)

    run(tmp_path, story)


@pytest.mark.parametrize(
    "bad",
    [
        {"ttl_s": 86_401},
        {"agent_path": "a//b"},
        {"agent_path": "../x"},
        {"agent_path": "a b"},
        {"agent_path": "x" * 3000},
        {"selectors": [agent_pb2.Selector(kind="A", value="b")]},
        {"selectors": [agent_pb2.Selector(kind="a", value=str(n)) for n in range(33)]},
    ],
)
def test_a_token_that_makes_no_sense_is_not_made(tmp_path: Path, bad: dict[str, Any]) -> None:
    """And is told why."""

    async def story(server: IdentityServer) -> None:
        code, why = await refused(server.new_token(**bad))
        assert (code, bool(why)) == (INVALID, True)

    run(tmp_path, story)


def test_where_tokens_live_shorter_than_by_default_that_is_how_long_one_lives(
    tmp_path: Path,
) -> None:
    """Nobody who asked for nothing is told that he asked for too much."""

    async def story(server: IdentityServer) -> None:
        token = await server.new_token()
        assert 0 < token.expires_ns - server.clock.now_ns() <= 60 * 10**9

    run(tmp_path, story, max_join_token_ttl_s=60)


def test_an_agent_that_is_not_there_is_answered_with_the_nearest(tmp_path: Path) -> None:
    """Evict, ban and unban alike."""

    async def story(server: IdentityServer) -> None:
        await server.new_agent(agent_path="web-1")
        for how in ({}, {"ban": True}, {"unban": True}):
            request = registration_pb2.EvictAgentRequest(
                spiffe_id=AGENT.removesuffix("a") + "web-2", **how
            )
            code, why = await refused(server.registration.EvictAgent(request))
            assert (code, "web-1?" in why) == (grpc.StatusCode.NOT_FOUND, True)
        both = registration_pb2.EvictAgentRequest(spiffe_id=AGENT, ban=True, unban=True)
        assert (await refused(server.registration.EvictAgent(both)))[0] is INVALID

    run(tmp_path, story)


FILE = """\
entries:
  - parent_id: spiffe://{{trust_domain}}/meshwarden/agent/join_token/a
    spiffe_id: spiffe://{{trust_domain}}/ns/{{k8s.ns}}/sa/{{k8s.sa}}
    dns_names: ["{{k8s.sa}}.{{k8s.ns}}.svc"]
    x509_ttl_s: 600
  - parent_id: spiffe://{{trust_domain}}/meshwarden/agent/join_token/a
    spiffe_id: spiffe://{{trust_domain}}/web
    selectors: ["unix:uid:1000"]
"""


def declared(folder: Path, text: str = FILE) -> tuple[Identity, Path]:
    """Settings with declared entries, and their file."""
    file = folder / "entries.yaml"
    file.write_text(text)
    return Identity(trust_domain=TRUST_DOMAIN, key_file=folder / "sealing.key", entries=file), file


async def until(
    server: IdentityServer, is_so: Callable[[list[registration_pb2.Entry]], object]
) -> list[registration_pb2.Entry]:
    """Wait for the entries to be so."""
    async with asyncio.timeout(10):
        while True:
            found = await listed(server)
            if is_so(found):
                return found
            await asyncio.sleep(0.1)


def test_what_a_file_declares_is_in_force_as_long_as_it_does(tmp_path: Path) -> None:
    """Added, changed in place, removed; and whatever commands registered stays."""
    identity, file = declared(tmp_path)

    async def story(server: IdentityServer) -> None:
        by_command = await server.put(spiffe_id=WEB, parent_id=AGENT)
        found = await until(server, lambda found: len(found) == 3)
        by_path = {each.workload.spiffe_id: each for each in found}
        template = by_path[f"spiffe://{TRUST_DOMAIN}/ns/{{{{k8s.ns}}}}/sa/{{{{k8s.sa}}}}"]
        assert (template.origin, template.workload.x509_ttl_s) == (str(file), 600)
        file.write_text(FILE.replace("600", "700"))
        found = await until(
            server, lambda found: any(each.workload.x509_ttl_s == 700 for each in found)
        )
        changed = {each.workload.spiffe_id: each for each in found}[template.workload.spiffe_id]
        web = by_path[f"spiffe://{TRUST_DOMAIN}/web"]
        assert changed.workload.id == template.workload.id
        assert web in found
        file.write_text("entries: []\n")
        assert await until(server, lambda found: len(found) == 1) == [by_command]

    run(tmp_path, story, identity)


def test_a_file_declares_all_that_a_command_can(tmp_path: Path) -> None:
    """Every field, and an administrator of the service."""
    text = f"""\
entries:
  - parent_id: {AGENT}
    spiffe_id: {WEB}
    selectors: ["unix:uid:7", "unix:gid:8"]
    x509_ttl_s: 90
    jwt_ttl_s: 91
    dns_names: [web.shop]
    hint: h
    admin: true
"""
    identity, file = declared(tmp_path, text)

    async def story(server: IdentityServer) -> None:
        (found,) = await until(server, bool)
        assert _fields(found) == {
            "spiffe_id": WEB, "parent_id": AGENT, "selectors": ["gid:8", "uid:7"],
            "x509_ttl_s": 90, "jwt_ttl_s": 91, "dns_names": ["web.shop"], "hint": "h",
            "admin": True, "origin": str(file),
        }  # fmt: skip

    run(tmp_path, story, identity)


def _fields(entry: registration_pb2.Entry) -> dict[str, object]:
    workload = entry.workload
    names = ("spiffe_id", "x509_ttl_s", "jwt_ttl_s", "hint")
    return {
        **{name: getattr(workload, name) for name in names},
        "parent_id": entry.parent_id,
        "selectors": [each.value for each in workload.selectors],
        "dns_names": [*workload.dns_names],
        "admin": entry.admin,
        "origin": entry.origin,
    }


async def until_told(
    folder: Path, is_so: Callable[[status.EntriesState], object]
) -> status.EntriesState:
    """Wait for `meshwarden status` to be told so of the declared entries."""
    async with asyncio.timeout(10):
        while not ((state := status.read_entries(folder)) and is_so(state)):
            await asyncio.sleep(0.05)
        return state


def gauge() -> float | None:
    """The faults of declared entries, as a metric."""
    return REGISTRY.get_sample_value("meshwarden_declared_entry_faults")


@pytest.mark.parametrize(
    ("text", "where", "why"),
    [
        (FILE.replace("unix:uid:1000", "unix"), ":8: ", "KIND:VALUE"),
        (FILE + FILE.partition("\n")[2], ":9: ", "the same parent, SPIFFE ID and selectors as"),
        (FILE.replace("x509_ttl_s", "x509_ttl"), ":5: ", "did you mean x509_ttl_s?"),
        (FILE.replace("600", "'600'"), ":5: ", "whole number"),
        (FILE.replace("600", "99999999"), ":5: ", "outside"),
        (FILE.replace("/web", "/meshwarden/x"), ":7: ", "the service's own"),
        (FILE.replace("    spiffe_id: spiffe://{{trust_domain}}/web\n", ""), ":6: ", "missing"),
        (FILE + "more: 1\n", ":9: ", "no such key 'more'"),
        (FILE + "  - x\n", ":1: ", "entry 3 is no mapping"),
        (FILE + "  - {a: 1, a: 2}\n", ":9: ", "stands twice"),
        (FILE + "    hint: &a [&b [x, x], *b]\n", ":9: ", "hint must be text, not a list"),
        (FILE + "    <<: {hint: x}\n", ":9: ", "no such key '<<'"),
        (FILE + "    ? [hint]\n    : x\n", ":9: ", "a key is a word"),
        ("entries: 5\n", ":1: ", "a list"),
        ("", ":1: ", "a list"),
        ("- x\n", ":1: ", "a mapping"),
        ("entries: [\n", ":2: ", ""),
    ],
)
def test_a_fault_of_a_file_is_told_by_its_line(
    tmp_path: Path, text: str, where: str, why: str
) -> None:
    """And nothing of it is taken."""
    file = tmp_path / "entries.yaml"
    file.write_text(text)
    with pytest.raises(EntryFileError) as caught:
        check_drafts(read_drafts(file), EntryRules(TRUST_DOMAIN, 86_400, 3_600))
    assert any(str(file) + where in each and why in each for each in caught.value.faults)


def test_a_file_with_a_fault_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What was in force before stays so, and is not touched when the file is mended."""
    identity, file = declared(tmp_path)

    async def story(server: IdentityServer) -> None:
        before = await until(server, lambda found: len(found) == 2)
        file.write_text(FILE.replace("unix:uid:1000", "unix"))
        async with asyncio.timeout(10):
            while not any(f"{file}:8: selectors: " in line for line in caplog.messages):
                await asyncio.sleep(0.1)
        assert await listed(server) == before
        told = await until_told(tmp_path, lambda state: state.errors)
        assert (told.source, told.count) == (str(file), 2)
        assert told.taken_ns <= told.failed_ns
        assert any(each.startswith(f"{file}:8: selectors: ") for each in told.errors)
        assert gauge() == len(told.errors)
        file.write_text(FILE)
        told = await until_told(tmp_path, lambda state: not state.errors)
        assert (told.count, told.failed_ns, gauge()) == (2, 0, 0)
        assert await listed(server) == before

    run(tmp_path, story, identity)


def test_what_is_in_the_way_of_a_file_is_told_and_the_file_taken_once_it_is_gone(
    tmp_path: Path,
) -> None:
    """As an entry that a command registered, and a command deletes: nobody touches the file."""
    identity, file = declared(tmp_path, "entries: []\n")

    async def story(server: IdentityServer) -> None:
        web = f"spiffe://{TRUST_DOMAIN}/web"
        by_command = await server.put(spiffe_id=web, parent_id=AGENT)
        file.write_text(FILE)
        told = await until_told(tmp_path, lambda state: state.errors)
        (fault,) = told.errors
        assert fault.startswith(f"{file}:6: the same as entry {by_command.workload.id}, which was")
        assert await listed(server) == [by_command]
        gone = registration_pb2.DeleteEntriesRequest(ids=[by_command.workload.id])
        await server.registration.DeleteEntries(gone)
        await until_told(tmp_path, lambda state: not state.errors)
        assert {each.origin for each in await listed(server)} == {str(file)}

    run(tmp_path, story, identity)


def test_of_very_many_faults_the_first_are_shown(tmp_path: Path) -> None:
    """And how many more there are."""
    identity, _ = declared(tmp_path, "entries:\n" + "- {spiffe_id: x}\n" * 150)

    async def story(_: IdentityServer) -> None:
        told = await until_told(tmp_path, lambda state: state.errors)
        assert (len(told.errors), told.taken_ns) == (101, 0)
        assert "50 faults more" in told.errors[-1]

    run(tmp_path, story, identity)


def test_a_declared_entry_is_changed_in_its_file_alone(tmp_path: Path) -> None:
    """A command is told which file that is; and one by command can't be declared as well."""
    identity, file = declared(tmp_path)

    async def story(server: IdentityServer) -> None:
        found = await until(server, lambda found: len(found) == 2)
        one = found[0].workload.id
        for call in (
            server.registration.DeleteEntries(registration_pb2.DeleteEntriesRequest(ids=[one])),
            server.put(spiffe_id=WEB, parent_id=AGENT, id=one),
        ):
            code, why = await refused(call)
            assert (code, str(file) in why) == (grpc.StatusCode.FAILED_PRECONDITION, True)

    run(tmp_path, story, identity)


def test_a_folder_that_lost_its_files_removes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As one whose mount is missing."""
    folder = tmp_path / "entries"
    folder.mkdir()
    (folder / "a.yaml").write_text(FILE)
    identity = Identity(
        trust_domain=TRUST_DOMAIN, key_file=tmp_path / "sealing.key", entries=folder
    )

    async def story(server: IdentityServer) -> None:
        before = await until(server, lambda found: len(found) == 2)
        (folder / "a.yaml").rename(tmp_path / "elsewhere")
        async with asyncio.timeout(10):
            while not any("there is no *.yaml" in line for line in caplog.messages):
                await asyncio.sleep(0.1)
        assert await listed(server) == before

    run(tmp_path, story, identity)


def test_a_declared_name_that_no_attestor_finds_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And the entries are taken all the same."""
    identity, file = declared(tmp_path)
    file.write_text(FILE.replace("unix:uid", "unix:udi").replace("k8s.sa", "k8s.ac"))

    async def story(server: IdentityServer) -> None:
        await until(server, lambda found: len(found) == 2)
        told = [line for line in caplog.messages if "on a workload" in line]
        assert [line.partition(": ")[2] for line in told] == [
            "{{k8s.ac}}: k8s finds no 'ac' on a workload",
            "unix:udi:1000: unix finds no 'udi' on a workload; did you mean uid?",
        ]

    run(tmp_path, story, identity)


def test_a_link_that_leads_nowhere_is_a_fault_and_no_file_less(tmp_path: Path) -> None:
    """What it led to was not taken back: a mount is missing, say."""
    (tmp_path / "a.yaml").write_text(FILE)
    (tmp_path / ".#a.yaml").symlink_to("somebody@machine.7")  # An editor's lock.
    assert len(read_drafts(tmp_path)) == 2
    (tmp_path / "b.yaml").symlink_to(tmp_path / "elsewhere" / "b.yaml")
    with pytest.raises(EntryFileError, match=r"b\.yaml: No such file"):
        read_drafts(tmp_path)


def test_replicas_that_obey_the_same_file_agree(tmp_path: Path) -> None:
    """Neither adds what the other one has."""
    identity, file = declared(tmp_path)

    async def story(server: IdentityServer) -> None:
        async with identity_server(tmp_path, identity=identity) as other:
            await until(server, lambda found: len(found) == 2)
            file.write_text(FILE.replace("/web", "/api"))
            for replica in (server, other):
                await until(
                    replica,
                    lambda found: (
                        len(found) == 2
                        and any(each.workload.spiffe_id.endswith("/api") for each in found)
                    ),
                )
            await asyncio.sleep(2.5)
            assert len(await listed(server)) == 2

    run(tmp_path, story, identity)
