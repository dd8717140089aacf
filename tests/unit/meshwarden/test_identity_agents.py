"""Agents at control's socket: what each may have, what it follows, and how it loses both."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509

from ca.entries import set_digest
from meshwarden.control.identity import agents, edge, streams
from meshwarden.control.identity.agents import MAX_ORDERS
from meshwarden.identity_messages import workload_from
from protos.meshwarden.v1 import agent_pb2, registration_pb2
from tests.servers.identity import (
    TRUST_DOMAIN,
    Caller,
    IdentityServer,
    csr_of,
    identity_server,
    new_key,
)

WEB = f"spiffe://{TRUST_DOMAIN}/ns/shop/sa/web"
TEMPLATE = f"spiffe://{TRUST_DOMAIN}/ns/{{{{k8s.ns}}}}/sa/{{{{k8s.sa}}}}"
ALIAS = f"spiffe://{TRUST_DOMAIN}/nodes/rack-a"
SERVER = f"spiffe://{TRUST_DOMAIN}/meshwarden/server"
Story = Callable[[IdentityServer], Awaitable[None]]


def run(folder: Path, story: Story, **nodes: Any) -> None:
    """Run one story against servers of its own."""

    async def within_time() -> None:
        async with asyncio.timeout(60), identity_server(folder, **nodes) as server:
            await story(server)

    asyncio.run(within_time())


def order(entry_id: str, *selectors: str, csr: bytes = b"") -> agent_pb2.X509Order:
    """Order a certificate for a new key."""
    pairs = [each.partition(":") for each in selectors]
    return agent_pb2.X509Order(
        entry_id=entry_id,
        csr=csr or csr_of(new_key()),
        selectors=[agent_pb2.Selector(kind=kind, value=value) for kind, _, value in pairs],
    )


async def signed(
    server: IdentityServer, agent: Caller, *orders: agent_pb2.X509Order
) -> list[agent_pb2.X509Result]:
    """Have orders signed."""
    request = agent_pb2.SignX509Request(orders=orders)
    reply = await server.agents.SignX509(request, metadata=agent.metadata)
    return [*reply.results]


async def refused(call: Awaitable[Any]) -> tuple[grpc.StatusCode, str]:
    """Have a call refused; give how."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


def entries_of(
    server: IdentityServer, agent: Caller, digest: bytes = b""
) -> "grpc.aio.UnaryStreamCall[Any, Any]":
    """Follow entries."""
    return server.agents.Entries(agent_pb2.EntriesRequest(digest=digest), metadata=agent.metadata)


def test_an_agent_gets_certificates_for_its_own_entries(tmp_path: Path) -> None:
    """With the entry's SPIFFE ID and DNS names, under the bundle that it was given."""

    async def story(server: IdentityServer) -> None:
        agent = await server.new_agent()
        entry = await server.put(
            spiffe_id=WEB, parent_id=agent.spiffe_id, dns_names=["web.shop"], x509_ttl_s=100
        )
        (result,) = await signed(server, agent, order(entry.workload.id, "unix:uid:1000"))
        assert result.svid.spiffe_id == WEB
        leaf = x509.load_der_x509_certificate(result.svid.chain[0])
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.UniformResourceIdentifier) == [WEB]
        assert names.get_values_for_type(x509.DNSName) == ["web.shop"]
        assert result.svid.not_after_ns - server.clock.now_ns() <= 101 * 10**9
        root = x509.load_der_x509_certificate(agent.bundle.x509_authorities[0])
        x509.load_der_x509_certificate(result.svid.chain[1]).verify_directly_issued_by(root)

    run(tmp_path, story)


def test_a_token_holds_as_long_as_its_entry_says(tmp_path: Path) -> None:
    """Or as the settings do, where it says nothing."""

    async def story(server: IdentityServer) -> None:
        agent = await server.new_agent()
        for path, given_s, held_s in (("a", 100, 100), ("b", 0, 300)):
            entry = await server.put(
                spiffe_id=f"{WEB}{path}", parent_id=agent.spiffe_id, jwt_ttl_s=given_s
            )
            request = agent_pb2.SignJwtRequest(entry_id=entry.workload.id, audiences=["x"])
            made = await server.agents.SignJwt(request, metadata=agent.metadata)
            assert made.expires_ns - made.issued_ns == held_s * 10**9

    run(tmp_path, story)


def test_an_agent_gets_nothing_of_another_ones(tmp_path: Path) -> None:
    """Neither certificate nor token, whatever its request says; the trail has its attempts."""

    async def story(server: IdentityServer) -> None:
        mine, other = await server.new_agent(), await server.new_agent()
        theirs = await server.put(spiffe_id=WEB, parent_id=other.spiffe_id)
        own = await server.put(spiffe_id=f"{WEB}2", parent_id=mine.spiffe_id)
        forged = order(own.workload.id, csr=csr_of(new_key(), WEB))
        results = await signed(server, mine, order(theirs.workload.id), forged)
        assert [each.refusal.code for each in results] == ["PERMISSION_DENIED"] * 2
        assert "none of the 1" in results[0].refusal.message
        request = agent_pb2.SignJwtRequest(entry_id=theirs.workload.id, audiences=["x"])
        code, _ = await refused(server.agents.SignJwt(request, metadata=mine.metadata))
        assert code is grpc.StatusCode.PERMISSION_DENIED
        told = [each for each in await server.audited() if each[2] == "refused"]
        assert {who for who, *_ in told} == {mine.spiffe_id.removeprefix("spiffe://")}
        assert {action for _, action, *_ in told} == {"agent.sign_x509", "agent.sign_jwt"}

    run(tmp_path, story)


def test_orders_of_a_batch_succeed_or_fail_each_by_itself(tmp_path: Path) -> None:
    """In their order."""

    async def story(server: IdentityServer) -> None:
        agent = await server.new_agent()
        entry = (await server.put(parent_id=agent.spiffe_id)).workload.id
        bad = order(entry, csr=b"no request")
        results = await signed(
            server, agent, order(entry), bad, order("nothing"), order(entry, "unix:uid:1"),
            order(entry),
        )  # fmt: skip
        assert [each.WhichOneof("outcome") for each in results] == [
            "svid", "refusal", "refusal", "refusal", "svid",
        ]  # fmt: skip
        assert results[1].refusal.code == "INVALID_ARGUMENT"
        assert "not found: unix:uid:1000" in results[3].refusal.message
        too_many = agent_pb2.SignX509Request(orders=[order(entry)] * (MAX_ORDERS + 1))
        for request in (too_many, agent_pb2.SignX509Request()):
            code, why = await refused(server.agents.SignX509(request, metadata=agent.metadata))
            assert (code, f"1 to {MAX_ORDERS}" in why) == (grpc.StatusCode.INVALID_ARGUMENT, True)

    run(tmp_path, story)


def test_a_template_is_filled_from_what_was_found_on_the_workload(tmp_path: Path) -> None:
    """Or nothing is signed."""

    async def story(server: IdentityServer) -> None:
        agent = await server.new_agent()
        entry = (
            await server.put(spiffe_id=TEMPLATE, parent_id=agent.spiffe_id, selectors=[])
        ).workload.id
        results = await signed(
            server,
            agent,
            order(entry, "k8s:ns:shop", "k8s:sa:web"),
            order(entry, "k8s:ns:shop"),
            order(entry, "k8s:ns:shop", "k8s:sa:../../meshwarden"),
            order(entry),
        )
        assert results[0].svid.spiffe_id == WEB
        assert [each.refusal.code for each in results[1:]] == ["PERMISSION_DENIED"] * 3

    run(tmp_path, story)


def test_no_template_makes_an_administrator(tmp_path: Path) -> None:
    """Whoever owns a node fills it as he likes; the entry that has the flag still gives the ID."""

    async def story(server: IdentityServer) -> None:
        agent = await server.new_agent()
        mine = {"parent_id": agent.spiffe_id}
        template = (await server.put(spiffe_id=TEMPLATE, selectors=[], **mine)).workload.id
        flagged = (await server.put(spiffe_id=WEB, admin=True, **mine)).workload.id
        found = ("k8s:ns:shop", "k8s:sa:web")
        results = await signed(
            server,
            agent,
            order(template, *found),
            order(template, "k8s:ns:shop", "k8s:sa:db"),
            order(flagged),
        )
        assert results[0].refusal.code == "PERMISSION_DENIED"
        assert "administers the service" in results[0].refusal.message
        assert [each.HasField("svid") for each in results] == [False, True, True]
        selectors = [agent_pb2.Selector(kind="k8s", value=each[4:]) for each in found]
        token = agent_pb2.SignJwtRequest(entry_id=template, audiences=["x"], selectors=selectors)
        code, _ = await refused(server.agents.SignJwt(token, metadata=agent.metadata))
        assert code is grpc.StatusCode.PERMISSION_DENIED

    run(tmp_path, story)


def test_entries_of_an_alias_are_those_of_every_node_that_it_matches(tmp_path: Path) -> None:
    """Filled from the node, where they ask for it; of other nodes they are none."""

    async def story(server: IdentityServer) -> None:
        rack = agent_pb2.Selector(kind="rack", value="place:a")
        inside = await server.new_agent(selectors=[rack])
        outside = await server.new_agent()
        await server.put(spiffe_id=ALIAS, parent_id=SERVER, selectors=["rack:place:a"])
        entry = await server.put(
            spiffe_id=f"spiffe://{TRUST_DOMAIN}/rack/{{{{node.rack.place}}}}/web", parent_id=ALIAS
        )
        found = await entries_of(server, inside).read()
        assert [each.spiffe_id for each in found.changed] == [f"spiffe://{TRUST_DOMAIN}/rack/a/web"]
        assert not (await entries_of(server, outside).read()).changed
        (result,) = await signed(server, inside, order(entry.workload.id))
        assert result.svid.spiffe_id == f"spiffe://{TRUST_DOMAIN}/rack/a/web"
        (result,) = await signed(server, outside, order(entry.workload.id))
        assert result.refusal.code == "PERMISSION_DENIED"

    run(tmp_path, story)


def test_an_agent_follows_its_entries_by_changes(tmp_path: Path) -> None:
    """The whole first, or nothing where it has it; then what changed, with the sum's digest."""

    async def story(server: IdentityServer) -> None:
        agent = await server.new_agent()
        first = await server.put(spiffe_id=WEB, parent_id=agent.spiffe_id)
        stream = entries_of(server, agent)
        whole = await stream.read()
        assert (whole.whole, len(whole.changed)) == (True, 1)
        mine = {each.id: workload_from(each) for each in whole.changed}
        assert set_digest(mine.values()) == whole.digest
        second = await server.put(spiffe_id=f"{WEB}2", parent_id=agent.spiffe_id)
        added = await stream.read()
        assert (added.whole, [each.id for each in added.changed]) == (False, [second.workload.id])
        ids = [first.workload.id]
        await server.registration.DeleteEntries(registration_pb2.DeleteEntriesRequest(ids=ids))
        gone = await stream.read()
        assert (list(gone.removed), list(gone.changed)) == (ids, [])
        mine = {each.id: workload_from(each) for each in added.changed}
        assert set_digest(mine.values()) == gone.digest
        again = await entries_of(server, agent, gone.digest).read()
        assert (again.whole, list(again.changed), again.digest) == (False, [], gone.digest)

    run(tmp_path, story)


def test_an_entry_of_another_agent_wakes_nobody_else(tmp_path: Path) -> None:
    """A stream is written to when its own entries change."""

    async def story(server: IdentityServer) -> None:
        agent, other = await server.new_agent(), await server.new_agent()
        stream = entries_of(server, agent)
        await stream.read()
        await server.put(spiffe_id=WEB, parent_id=other.spiffe_id)
        mine = await server.put(spiffe_id=f"{WEB}2", parent_id=agent.spiffe_id)
        reply = await stream.read()
        assert [each.id for each in reply.changed] == [mine.workload.id]

    run(tmp_path, story)


def test_a_large_set_comes_in_parts_whose_last_has_the_digest(tmp_path: Path) -> None:
    """No reply is larger than a client takes."""

    async def story(server: IdentityServer) -> None:
        agent = await server.new_agent()
        entries = [
            registration_pb2.Entry(
                workload=agent_pb2.WorkloadEntry(
                    spiffe_id=f"{WEB}{number}",
                    selectors=[agent_pb2.Selector(kind="unix", value=f"path:{'x' * 500}{number}")],
                ),
                parent_id=agent.spiffe_id,
            )
            for number in range(500)
        ]
        await server.registration.PutEntries(registration_pb2.PutEntriesRequest(entries=entries))
        stream = entries_of(server, agent)
        parts = [await stream.read()]
        while parts[-1].more:
            parts.append(await stream.read())
        assert len(parts) > 3
        assert [each.whole for each in parts] == [True] + [False] * (len(parts) - 1)
        assert max(each.ByteSize() for each in parts) < 70_000
        found = [workload_from(each) for part in parts for each in part.changed]
        assert (len(found), set_digest(found)) == (500, parts[-1].digest)

    run(tmp_path, story)


def test_bundles_come_first_and_again_when_they_change(tmp_path: Path) -> None:
    """In the same stream as entries; whichever changes, the other is not told again."""

    async def story(server: IdentityServer) -> None:
        agent = await server.new_agent()
        stream = entries_of(server, agent)
        first = await stream.read()
        bundle = server.opened.issuer.bundle()
        assert [each.x509_authorities for each in first.bundles] == [[*bundle.x509_authorities]]
        added = await server.put(parent_id=agent.spiffe_id)
        second = await stream.read()
        assert ([each.id for each in second.changed], [*second.bundles]) == (
            [added.workload.id],
            [],
        )
        server.nodes._streams.take(replace(bundle, sequence=bundle.sequence + 1))
        third = await stream.read()
        assert [each.sequence for each in third.bundles] == [bundle.sequence + 1]
        assert ([*third.changed], [*third.removed], third.whole) == ([], [], False)
        assert third.digest == second.digest

    run(tmp_path, story)


@pytest.mark.parametrize(("how", "why"), [({}, "evicted"), ({"ban": True}, "banned")])
def test_who_loses_its_identity_loses_its_streams_at_once(
    tmp_path: Path, how: dict[str, bool], why: str
) -> None:
    """And every other call from then on."""

    async def story(server: IdentityServer) -> None:
        agent = await server.new_agent()
        entry = (await server.put(parent_id=agent.spiffe_id)).workload.id
        streams = [entries_of(server, agent) for _ in range(2)]
        for stream in streams:
            await stream.read()
        await server.registration.EvictAgent(
            registration_pb2.EvictAgentRequest(spiffe_id=agent.spiffe_id, **how)
        )
        for stream in streams:
            async with asyncio.timeout(2):
                code, told = await refused(stream.read())
            assert (code, why in told) == (grpc.StatusCode.PERMISSION_DENIED, True)
        requests = agent_pb2.SignX509Request(orders=[order(entry)])
        for call in (
            server.agents.SignX509(requests, metadata=agent.metadata),
            server.agents.Renew(agent_pb2.RenewRequest(), metadata=agent.metadata),
            entries_of(server, agent).read(),
        ):
            code, told = await refused(call)
            assert (code, why in told) == (grpc.StatusCode.PERMISSION_DENIED, True)

    run(tmp_path, story)


@pytest.mark.parametrize("loses", ["evicted", "banned", "attested anew"])
def test_a_call_that_was_let_in_before_is_not_answered_after(tmp_path: Path, loses: str) -> None:
    """Who holds his request back until then gets nothing for it."""

    async def story(server: IdentityServer) -> None:
        agent = await server.new_agent()
        entry = (await server.put(parent_id=agent.spiffe_id)).workload.id
        requests = {
            "Renew": agent_pb2.RenewRequest(csr=csr_of(new_key())),
            "SignX509": agent_pb2.SignX509Request(orders=[order(entry)]),
            "SignJwt": agent_pb2.SignJwtRequest(entry_id=entry, audiences=["x"]),
        }
        held = {
            name: server.channel.stream_unary(f"/meshwarden.v1.Agent/{name}")(
                metadata=agent.metadata
            )
            for name in requests
        }
        # On the same connection, behind the others: those are let in when this is answered.
        await signed(server, agent, order(entry))
        if loses == "attested anew":
            evict = registration_pb2.EvictAgentRequest(spiffe_id=agent.spiffe_id)
            await server.registration.EvictAgent(evict)
            await server.new_agent(agent_path=agent.spiffe_id.rpartition("/")[2])
        else:
            await server.registration.EvictAgent(
                registration_pb2.EvictAgentRequest(spiffe_id=agent.spiffe_id, ban=loses == "banned")
            )
        for name, request in requests.items():
            await held[name].write(request.SerializeToString())
            code, told = await refused(held[name])
            assert (name, code, loses in told) == (name, grpc.StatusCode.PERMISSION_DENIED, True)

    run(tmp_path, story)


def test_an_agent_has_so_many_calls_without_a_message_and_each_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever owns one node would have control hold as many as he likes, for ever."""
    monkeypatch.setattr(agents, "_MAX_UNREAD", 3)
    monkeypatch.setattr(edge, "_SENT_WITHIN_S", 1.0)

    async def story(server: IdentityServer) -> None:
        agent = await server.new_agent()
        sign = server.channel.stream_unary("/meshwarden.v1.Agent/SignX509")
        calls = [sign(metadata=agent.metadata) for _ in range(5)]
        async with asyncio.timeout(10):
            codes = [await call.code() for call in calls]
        assert sorted(code.name for code in codes) == [
            *["DEADLINE_EXCEEDED"] * 3,
            *["RESOURCE_EXHAUSTED"] * 2,
        ]
        entry = (await server.put(parent_id=agent.spiffe_id)).workload.id
        assert (await signed(server, agent, order(entry)))[0].HasField("svid")

    run(tmp_path, story)


def test_a_renewal_does_not_undo_a_ban_that_came_right_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even in the memory of the process that was about to answer it."""

    async def story(server: IdentityServer) -> None:
        agent = await server.new_agent()
        entry = (await server.put(parent_id=agent.spiffe_id)).workload.id
        store = server.nodes.registry.store
        put = store.put_agent

        async def overtaken(*parts: Any) -> int:
            version = await put(*parts)
            ban = registration_pb2.EvictAgentRequest(spiffe_id=agent.spiffe_id, ban=True)
            await server.registration.EvictAgent(ban)
            return version

        monkeypatch.setattr(store, "put_agent", overtaken)
        request = agent_pb2.RenewRequest(csr=csr_of(new_key()))
        code, told = await refused(server.agents.Renew(request, metadata=agent.metadata))
        assert (code, "banned" in told) == (grpc.StatusCode.PERMISSION_DENIED, True)
        known = server.nodes.registry.agent(agent.spiffe_id)
        assert known is not None
        assert known.banned
        orders = agent_pb2.SignX509Request(orders=[order(entry)])
        code, _ = await refused(server.agents.SignX509(orders, metadata=agent.metadata))
        assert code is grpc.StatusCode.PERMISSION_DENIED

    run(tmp_path, story)


@pytest.mark.parametrize(("ban", "why"), [(True, "banned"), (False, "evicted")])
def test_an_attestation_does_not_undo_what_came_right_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, ban: bool, why: str
) -> None:
    """Or an agent that is out would be signed for until its certificate ends."""

    async def story(server: IdentityServer) -> None:
        store = server.nodes.registry.store
        put = store.put_agent
        token = await server.new_token()

        async def overtaken(*parts: Any, **named: Any) -> int:
            version = await put(*parts, **named)
            request = registration_pb2.EvictAgentRequest(spiffe_id=token.agent_id, ban=ban)
            await server.registration.EvictAgent(request)
            return version

        monkeypatch.setattr(store, "put_agent", overtaken)
        agent = await server.attest("join_token", token.token.encode())
        orders = agent_pb2.SignX509Request(orders=[order("x")])
        code, told = await refused(server.agents.SignX509(orders, metadata=agent.metadata))
        assert (code, why in told) == (grpc.StatusCode.PERMISSION_DENIED, True)

    run(tmp_path, story)


def test_another_replica_cuts_a_banned_agents_stream_too(tmp_path: Path) -> None:
    """Within the five seconds that any change takes."""

    async def story(server: IdentityServer) -> None:
        async with identity_server(tmp_path) as other:
            agent = await server.new_agent()
            stream = entries_of(other, agent)
            await stream.read()
            added = await server.put(parent_id=agent.spiffe_id)
            async with asyncio.timeout(5):
                assert (await stream.read()).changed[0].id == added.workload.id
            await server.registration.EvictAgent(
                registration_pb2.EvictAgentRequest(spiffe_id=agent.spiffe_id, ban=True)
            )
            async with asyncio.timeout(5):
                code, told = await refused(stream.read())
            assert (code, "banned" in told) == (grpc.StatusCode.PERMISSION_DENIED, True)

    run(tmp_path, story)


def test_a_renewed_agent_calls_by_the_new_certificate_or_the_one_before(tmp_path: Path) -> None:
    """The reply may have been lost; but the one before that is good no more."""

    async def story(server: IdentityServer) -> None:
        first = await server.new_agent()

        async def renewed(agent: Caller) -> Caller:
            request = agent_pb2.RenewRequest(csr=csr_of(new_key()))
            reply = await server.agents.Renew(request, metadata=agent.metadata)
            assert reply.svid.spiffe_id == first.spiffe_id
            return replace(agent, chain=tuple(reply.svid.chain))

        lost = await renewed(first)
        second = await renewed(first)
        code, told = await refused(entries_of(server, lost).read())
        assert (code, "newest" in told) == (grpc.StatusCode.PERMISSION_DENIED, True)
        await entries_of(server, first).read()
        third = await renewed(second)
        for good in (second, third):
            await entries_of(server, good).read()
        code, _ = await refused(entries_of(server, first).read())
        assert code is grpc.StatusCode.PERMISSION_DENIED

    run(tmp_path, story)


def test_an_expired_agent_is_refused_though_its_connection_lives(tmp_path: Path) -> None:
    """TLS looks at a certificate only once."""

    async def story(server: IdentityServer) -> None:
        agent = await server.new_agent()
        server.clock.ahead_ns = 2 * 3600 * 10**9
        code, told = await refused(entries_of(server, agent).read())
        assert (code, "expired" in told) == (grpc.StatusCode.PERMISSION_DENIED, True)

    run(tmp_path, story)


def test_the_certificate_before_ends_with_its_own_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the streams that it opened: the newest's time is not its own."""

    async def story(server: IdentityServer) -> None:
        first = await server.new_agent()
        server.clock.ahead_ns = 1800 * 10**9
        request = agent_pb2.RenewRequest(csr=csr_of(new_key()))
        reply = await server.agents.Renew(request, metadata=first.metadata)
        newest = replace(first, chain=tuple(reply.svid.chain))
        streams_of_both = [entries_of(server, each) for each in (first, newest)]
        for stream in streams_of_both:
            while not (await stream.read()).digest:
                pass
        server.clock.ahead_ns = 3700 * 10**9
        old, new = streams_of_both
        code, told = await refused(old.read())
        assert (code, "expired" in told) == (grpc.StatusCode.PERMISSION_DENIED, True)
        code, told = await refused(entries_of(server, first).read())
        assert (code, "expired" in told) == (grpc.StatusCode.PERMISSION_DENIED, True)
        await server.put(parent_id=first.spiffe_id)
        assert (await new.read()).digest
        await entries_of(server, newest).read()

    monkeypatch.setattr(streams, "_SWEEP_S", 0.05)
    run(tmp_path, story)


def test_whoever_shows_no_agents_certificate_is_refused(tmp_path: Path) -> None:
    """None, a workload's, a forged one of the right name, or plain text."""

    async def story(server: IdentityServer) -> None:
        agent = await server.new_agent()
        entry = await server.put(spiffe_id=WEB, parent_id=agent.spiffe_id)
        (result,) = await signed(server, agent, order(entry.workload.id))
        workload = Caller(chain=tuple(result.svid.chain), spiffe_id=WEB)
        for caller, code in (
            (Caller(), grpc.StatusCode.UNAUTHENTICATED),
            (replace(agent, tls=False), grpc.StatusCode.UNAUTHENTICATED),
            (workload, grpc.StatusCode.PERMISSION_DENIED),
            (replace(agent, chain=workload.chain), grpc.StatusCode.PERMISSION_DENIED),
            (replace(agent, spiffe_id=agent.spiffe_id + "x"), grpc.StatusCode.PERMISSION_DENIED),
        ):
            assert (await refused(entries_of(server, caller).read()))[0] is code

    run(tmp_path, story)


def test_an_agent_that_asks_too_fast_is_told_when_to_try_again(tmp_path: Path) -> None:
    """And other agents don't notice."""

    async def story(server: IdentityServer) -> None:
        agent, other = await server.new_agent(), await server.new_agent()
        entry = (await server.put(parent_id=agent.spiffe_id)).workload.id
        await signed(server, agent, order(entry))
        request = agent_pb2.SignX509Request(orders=[order(entry)])
        renewal = agent_pb2.RenewRequest(csr=csr_of(new_key()))
        for call in (
            server.agents.SignX509(request, metadata=agent.metadata),
            server.agents.Renew(renewal, metadata=agent.metadata),
        ):
            code, told = await refused(call)
            assert (code, "try again in" in told) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True)
        await server.agents.Renew(renewal, metadata=other.metadata)

    run(tmp_path, story, signatures_per_s=0.02)


def test_a_flood_of_tokens_keeps_nobody_from_renewing(tmp_path: Path) -> None:
    """One workload of a node orders tokens without end; certificates are counted apart."""

    async def story(server: IdentityServer) -> None:
        agent = await server.new_agent()
        entry = (await server.put(parent_id=agent.spiffe_id)).workload.id
        request = agent_pb2.SignJwtRequest(entry_id=entry, audiences=["a"])
        for _ in range(2):
            await server.agents.SignJwt(request, metadata=agent.metadata)
        code, told = await refused(server.agents.SignJwt(request, metadata=agent.metadata))
        assert (code, "more tokens" in told) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True)
        await signed(server, agent, order(entry))
        await server.agents.Renew(
            agent_pb2.RenewRequest(csr=csr_of(new_key())), metadata=agent.metadata
        )

    run(tmp_path, story, signatures_per_s=0.2)


def test_a_batch_that_is_larger_than_the_limit_is_signed_once_in_a_while(tmp_path: Path) -> None:
    """An agent orders a hundred at once, whatever the setting: a low one must not lock it out."""

    async def story(server: IdentityServer) -> None:
        agent = await server.new_agent()
        entry = (await server.put(parent_id=agent.spiffe_id)).workload.id
        assert len(await signed(server, agent, *[order(entry)] * 50)) == 50
        request = agent_pb2.SignX509Request(orders=[order(entry)] * 50)
        code, _ = await refused(server.agents.SignX509(request, metadata=agent.metadata))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED

    run(tmp_path, story, signatures_per_s=1.0)


async def recorded(server: IdentityServer) -> list[str]:
    """Give the selectors of the newest row of the ledger that says what was intended."""
    (issued,) = await server.opened.ledger.find("", "", 1)
    return [*issued.row.entry.selectors]


def test_a_user_in_very_many_groups_gets_what_one_of_them_gives(tmp_path: Path) -> None:
    """Certificates and tokens; the ledger has what decided, and all of few."""

    async def story(server: IdentityServer) -> None:
        agent = await server.new_agent()
        wanted = "unix:supplementary_group:developers-77"
        made = await server.put(spiffe_id=WEB, parent_id=agent.spiffe_id, selectors=[wanted])
        groups = [f"unix:supplementary_gid:{100_000 + n}" for n in range(2_000)]
        groups += [f"unix:supplementary_group:developers-{n}" for n in range(2_000)]
        for found, kept in ((groups, [wanted]), (groups[2_000:2_200], groups[2_000:2_200])):
            all_of_it = order(made.workload.id, *found)
            (result,) = await signed(server, agent, all_of_it)
            assert result.svid.spiffe_id == WEB, result.refusal
            assert await recorded(server) == sorted(kept)
            token = await server.agents.SignJwt(
                agent_pb2.SignJwtRequest(
                    entry_id=made.workload.id, audiences=["a"], selectors=all_of_it.selectors
                ),
                metadata=agent.metadata,
            )
            assert token.spiffe_id == WEB
            assert await recorded(server) == sorted(kept)
        few, many = order(made.workload.id, wanted), order(made.workload.id, *groups, *groups)
        results = await signed(server, agent, many, few)
        assert "8000 selectors; at most 4096" in results[0].refusal.message
        assert results[1].svid.spiffe_id == WEB

    run(tmp_path, story)


def test_an_agent_has_few_streams_of_a_kind(tmp_path: Path) -> None:
    """Whoever opens more is refused, and one that ends makes room."""

    async def story(server: IdentityServer) -> None:
        agent = await server.new_agent()
        streams = [entries_of(server, agent) for _ in range(4)]
        for stream in streams:
            await stream.read()
        code, _ = await refused(entries_of(server, agent).read())
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        streams[0].cancel()
        await asyncio.sleep(0.3)
        await entries_of(server, agent).read()

    run(tmp_path, story)


async def many(server: IdentityServer, agent: Caller, count: int) -> list[registration_pb2.Entry]:
    """Register entries that no window holds together."""
    entries = [
        registration_pb2.Entry(
            workload=agent_pb2.WorkloadEntry(
                spiffe_id=f"{WEB}{number}",
                selectors=[
                    agent_pb2.Selector(kind="unix", value=f"path:{'x' * 1000}{number}{part}")
                    for part in range(20)
                ],
            ),
            parent_id=agent.spiffe_id,
        )
        for number in range(count)
    ]
    request = registration_pb2.PutEntriesRequest(entries=entries)
    return [*(await server.registration.PutEntries(request)).entries]


def test_a_slow_reader_is_told_the_newest_state_and_not_each_one_in_between(
    tmp_path: Path,
) -> None:
    """So there is nothing that could pile up for it."""

    async def story(server: IdentityServer) -> None:
        agent = await server.new_agent()
        there = await many(server, agent, 200)
        stream = entries_of(server, agent)
        first = await stream.read()
        await asyncio.sleep(0.5)  # What the window takes is on its way; the rest waits.
        for number in range(30):
            there[0].workload.hint = str(number)
            await server.registration.PutEntries(
                registration_pb2.PutEntriesRequest(entries=there[:1])
            )
        mine = {each.id: workload_from(each) for each in first.changed}
        hints: list[str] = []
        async with asyncio.timeout(20):
            while not hints or hints[-1] != "29":
                reply = await stream.read()
                mine.update({each.id: workload_from(each) for each in reply.changed})
                hints += [each.hint for each in reply.changed if each.id == there[0].workload.id]
        assert len(hints) < 10
        assert set_digest(mine.values()) == reply.digest

    run(tmp_path, story)


def test_a_stream_that_nobody_reads_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until its reader takes that, it counts: nobody can have more waiting than for his streams."""
    monkeypatch.setattr(streams, "_STUCK_S", 0.5)

    async def story(server: IdentityServer) -> None:
        agent = await server.new_agent()
        await many(server, agent, 190)
        for _ in range(2):
            stuck = [entries_of(server, agent) for _ in range(4)]
            for each in stuck:
                await each.read()
            await asyncio.sleep(1.5)
            code, why = await refused(entries_of(server, agent).read())
            assert (code, "4 streams" in why) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True)
            for each in stuck:
                code, why = await refused(_drained(each))
                assert (code, "nobody read" in why) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True)
            async with asyncio.timeout(10):
                while server.nodes._streams._open:
                    await asyncio.sleep(0.1)

    run(tmp_path, story)


async def _drained(stream: "grpc.aio.UnaryStreamCall[Any, Any]") -> None:
    while await stream.read() is not grpc.aio.EOF:
        pass
