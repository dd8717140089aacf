"""`meshwarden entry`, `agent` and `token` on a real Registration service."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc.aio
import pytest
from typer.testing import CliRunner, Result

from meshwarden.cli.main import app
from meshwarden.control.access import AccessInterceptor, LocalGate
from meshwarden.files import RuntimeDir
from protos.meshwarden.v1 import registration_pb2, registration_pb2_grpc
from tests.servers.identity import TRUST_DOMAIN, IdentityServer, identity_server

TD = f"spiffe://{TRUST_DOMAIN}"
AGENT = f"{TD}/meshwarden/agent/join_token/a"
DAY_NS = 86_400 * 10**9
Command = Callable[..., Awaitable[Result]]
Story = Callable[[IdentityServer, Command], Awaitable[None]]


def run(folder: Path, story: Story) -> None:
    """Run one story, with a way to run commands against its service."""
    runtime = RuntimeDir(folder)
    settings = {"MESHWARDEN_RUNTIME__RUNTIME_DIR": str(folder), "MESHWARDEN_CONFIG": ""}

    async def command(*words: str) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, app, words, env=settings)

    async def within_time() -> None:
        async with asyncio.timeout(60), identity_server(folder) as server:
            admin = grpc.aio.server(interceptors=[AccessInterceptor(LocalGate())])
            registration_pb2_grpc.add_RegistrationServicer_to_server(
                server.nodes.registration, admin
            )
            admin.add_insecure_port(f"unix:{runtime.admin_socket}")
            await admin.start()
            runtime.supervisor_socket.touch()  # What commands look for first.
            try:
                await story(server, command)
            finally:
                await admin.stop(None)

    asyncio.run(within_time())


def unboxed(result: Result) -> str:
    """What went wrong, out of its box."""
    return " ".join(result.output.replace("\N{BOX DRAWINGS LIGHT VERTICAL}", " ").split())


def shown(result: Result) -> dict[str, str]:
    """The rows of a table with two columns."""
    assert result.exit_code == 0, result.output
    rows = [re.split(r"  +", line, maxsplit=1) for line in result.stdout.splitlines()]
    return {row[0]: row[1] for row in rows if len(row) == 2}


async def agents(server: IdentityServer) -> set[str]:
    """Which agents there are, by the last part of their names."""
    reply = await server.registration.ListAgents(registration_pb2.ListAgentsRequest())
    return {each.spiffe_id.rpartition("/")[2] for each in reply.agents}


def test_agents_are_pruned_by_how_long_ago_they_expired(tmp_path: Path) -> None:
    """Asked first; the banned stay; and it is on record who did it."""

    async def story(server: IdentityServer, command: Command) -> None:
        await server.new_agent(agent_path="old")
        banned = await server.new_agent(agent_path="banned")
        ban = registration_pb2.EvictAgentRequest(spiffe_id=banned.spiffe_id, ban=True)
        await server.registration.EvictAgent(ban)
        server.clock.ahead_ns = 3 * DAY_NS
        await server.new_agent(agent_path="new")

        assert (
            "0 agents forgotten" in (await command("agent", "prune", "--expired-for", "3d")).output
        )
        asked = await command("agent", "prune", "--expired-for", "2d")
        assert (asked.exit_code, "give --yes" in asked.output) == (2, True)
        assert "Forget 1 agent that expired 2 d 0 h ago or more?" in asked.output
        dry = await command("agent", "prune", "--expired-for", "2d", "--dry-run", "-o", "json")
        assert json.loads(dry.output) == {"forgotten": 1, "dry_run": True}
        assert await agents(server) == {"old", "banned", "new"}

        done = await command("agent", "prune", "--expired-for", "2d", "--yes")
        assert (done.exit_code, done.output) == (0, "1 agent forgotten\n")
        assert await agents(server) == {"banned", "new"}
        (told,) = [each for each in await server.audited() if each[1] == "agent.forget"]
        assert told[0].startswith("local:")
        assert re.fullmatch(r"1, expired 2 d 0 h ago or more: spiffe://.*/old", told[3])

    run(tmp_path, story)


@pytest.mark.parametrize("duration", ["3", "-1d", "1w"])
def test_what_is_no_duration_prunes_nothing(tmp_path: Path, duration: str) -> None:
    """Nor is it asked for."""

    async def story(server: IdentityServer, command: Command) -> None:
        done = await command("agent", "prune", "--expired-for", duration, "--yes")
        assert (done.exit_code, "such as 30m" in unboxed(done)) == (2, True)
        assert [each[1] for each in await server.audited()] == []

    run(tmp_path, story)


def test_an_entry_is_shown_as_people_read_it_and_told_as_programs_do(tmp_path: Path) -> None:
    """A time as a time, with what was not given left out; as JSON each number with its unit."""
    made = ("entry", "create", f"{TD}/web", "--parent", AGENT, "--selector", "unix:uid:1")
    more = (
        "--x509-ttl",
        "90",
        "--jwt-ttl",
        "91",
        "--dns-name",
        "web.svc",
        "--admin",
        "--hint",
        "h",
    )

    async def story(_: IdentityServer, command: Command) -> None:
        dry = shown(await command(*made, "--dry-run"))
        assert dry == {
            "gives": f"{TD}/web",
            "parent": AGENT,
            "to whom has": "unix:uid:1",
            "from": "a command",
        }
        told = json.loads((await command(*made, "--dry-run", "-o", "json")).stdout)
        assert (told["id"], told["created_ns"]) == ("", 0)
        found = shown(await command(*made, *more))
        assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ", found.pop("made"))
        entry_id = found.pop("entry")
        assert found == {
            **dry, "DNS names": "web.svc", "certificates": "for 90 s",
            "tokens": "for 91 s", "hint": "h", "role": "admin", "version": "1",
        }  # fmt: skip
        again = await command("entry", "show", entry_id)
        assert {**found, "entry": entry_id}.items() <= shown(again).items()
        told = json.loads((await command("entry", "show", entry_id, "-o", "json")).stdout)
        assert (told["origin"], told["x509_ttl_s"]) == ("api", 90)
        assert told["created_ns"] > 10**18
        twice = await command(*made)
        assert f"is entry {entry_id} already, registered by command" in twice.stderr

    run(tmp_path, story)


def test_a_name_that_no_attestor_finds_is_told_and_taken(tmp_path: Path) -> None:
    """By its nearest right one; an alias asks of nodes, and other kinds are others' own."""
    file = tmp_path / "entries.yaml"
    file.write_text(
        f"entries:\n  - {{parent_id: {AGENT}, spiffe_id: '{TD}/{{{{unix.usr}}}}', "
        "dns_names: ['{{k8s.nss}}.svc'], selectors: ['unix:uid:1', 'unix:uid:2']}\n"
    )
    alias = f"{TD}/meshwarden/server"

    async def story(_: IdentityServer, command: Command) -> None:
        made = await command(
            "entry", "create", f"{TD}/web", "--parent", AGENT, "--selector", "systemd:name:web"
        )
        assert (made.exit_code, made.stderr) == (
            0,
            "careful: systemd:name:web: systemd finds no 'name' on a workload\n",
        )
        for _ in range(2):
            applied = await command("entry", "apply", str(file), "--dry-run")
            assert applied.stderr.splitlines() == [
                "careful: {{unix.usr}}: unix finds no 'usr' on a workload; did you mean user?",
                "careful: {{k8s.nss}}: k8s finds no 'nss' on a workload; did you mean ns?",
            ]
        fine = ("--selector", "unix:user:web", "--selector", "own:usr:1")
        for words in (
            (f"{TD}/fine", "--parent", AGENT, *fine),
            (f"{TD}/rack", "--parent", alias, "--selector", "unix:usr:1"),
            (f"{TD}/x/{{{{k8s.pod-label.app}}}}/{{{{node.unix.usr}}}}", "--parent", AGENT),
        ):
            made = await command("entry", "create", *words)
            assert (made.exit_code, made.stderr) == (0, "")

    run(tmp_path, story)


def test_a_list_that_was_narrowed_to_nothing_says_no_more(tmp_path: Path) -> None:
    """There may be entries; and who administers the service can be seen in the list."""

    async def story(server: IdentityServer, command: Command) -> None:
        assert "'meshwarden entry create' makes one" in (await command("entry", "list")).stdout
        await server.put(parent_id=AGENT, admin=True)
        head, row = (await command("entry", "list")).stdout.splitlines()
        assert (head.split()[-1], row.split()[-1]) == ("role", "admin")
        none = await command("entry", "list", "--parent", f"{AGENT}x")
        assert (none.exit_code, none.stdout) == (0, "no such entry\n")

    run(tmp_path, story)


def test_what_a_file_would_change_is_listed_before_it_does(tmp_path: Path) -> None:
    """An entry a line; and what would be deleted, also where nobody is there to say so."""
    file = tmp_path / "entries.yaml"
    file.write_text(
        f"entries:\n  - {{parent_id: {AGENT}, spiffe_id: {TD}/web, selectors: ['unix:uid:1'], "
        f"x509_ttl_s: 60}}\n  - {{parent_id: {AGENT}, spiffe_id: {TD}/new, selectors: "
        "['unix:uid:2']}\n"
    )

    async def story(_: IdentityServer, command: Command) -> None:
        for name in ("web", "old"):
            made = ("entry", "create", f"{TD}/{name}", "--parent", AGENT)
            assert (await command(*made, "--selector", "unix:uid:1")).exit_code == 0
        apply = ("entry", "apply", str(file), "--prune")
        dry = (await command(*apply, "--dry-run")).stdout.splitlines()
        assert {tuple(line.split()[:2]) for line in dry[1:-1]} == {
            ("change", f"{TD}/web"), ("add", f"{TD}/new"), ("delete", f"{TD}/old"),
        }  # fmt: skip
        assert dry[-1].startswith("1 would be added, 1 would be changed, 1 would be deleted")
        asked = await command(*apply)
        assert (asked.exit_code, f"delete  {TD}/old" in asked.stdout) == (2, True)
        assert f"{TD}/web" not in asked.stdout
        done = await command(*apply, "--yes")
        assert done.stdout == "1 added, 1 changed, 1 deleted, 0 as they were\n"

    run(tmp_path, story)


def test_an_agent_that_was_let_back_in_has_no_certificate_until_it_attests(tmp_path: Path) -> None:
    """The list doesn't say that the one it had is good."""

    async def story(server: IdentityServer, command: Command) -> None:
        agent = await server.new_agent()
        states = ["good for 59 min"]
        assert states[0] in (await command("agent", "list")).stdout
        for how in ("ban", "unban"):
            await command("agent", how, agent.spiffe_id, *(["--yes"] if how == "ban" else []))
            states.append((await command("agent", "list")).stdout)
        assert "  banned  " in states[1]
        assert "  none: has to attest  " in states[2]

    run(tmp_path, story)
