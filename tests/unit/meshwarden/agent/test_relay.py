"""The relay names every connection by its process, and holds little for those who don't read."""

import asyncio
import contextlib
import itertools
import os
import re
import resource
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from meshwarden.agent.peers import PeerError, caller_of
from meshwarden.agent.relay import Relay


@dataclass
class Inner:
    """What stands behind the relay, in place of a gRPC server.

    Attributes:
        names: The name of each connection, as its other end shows it.
        sent: How many bytes could be sent to the newest one so far.
    """

    names: list[str] = field(default_factory=list)
    sent: int = 0
    flood: bool = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Tell the name, echo, or send without end."""
        self.names.append("unix:" + str(writer.get_extra_info("peername")))
        with contextlib.suppress(ConnectionError):
            while self.flood:
                writer.write(bytes(65_536))
                await writer.drain()
                self.sent += 65_536
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()


CONNECTING = "import socket, sys; s = socket.socket(1); s.connect(sys.argv[1]); sys.stdin.read()"


def connecting(path: Path) -> subprocess.Popen[bytes]:
    """Start a process that connects and stays until its input ends."""
    return subprocess.Popen([sys.executable, "-c", CONNECTING, str(path)], stdin=subprocess.PIPE)


@contextlib.asynccontextmanager
async def relayed(short: Path, most: int = 10) -> AsyncIterator[tuple[Relay, Inner, Path]]:
    """Run a relay before an inner server; give them with the socket to connect to."""
    inner = Inner()
    private = short / "p"
    private.mkdir(mode=0o700)
    server = await asyncio.start_unix_server(inner.serve, private / "inner")
    relay = Relay(private / "inner", private, most)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(os.fspath(short / "api"))
        listener.listen(50)
        task = asyncio.create_task(relay.serve(listener))
        try:
            yield relay, inner, short / "api"
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            server.close()
            await asyncio.sleep(0.05)


def run(short: Path, test: Callable[[Relay, Inner, Path], Awaitable[None]], most: int = 10) -> None:
    """Run a test with a relay of its own."""

    async def in_loop() -> None:
        async with asyncio.timeout(30), relayed(short, most) as (relay, inner, path):
            await test(relay, inner, path)

    asyncio.run(in_loop())


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition."""
    while not condition():
        await asyncio.sleep(0.01)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_a_user_of_the_upper_half_is_himself(short: Path) -> None:
    """Containers with user namespaces run as such: no entry names a user below 0."""
    short.chmod(0o711)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(short / "api"))
        (short / "api").chmod(0o777)
        listener.listen()
        listener.settimeout(10)
        ids = {"user": 4_294_000_000, "group": 4_294_000_001, "extra_groups": []}
        child = subprocess.Popen(
            ["/usr/bin/env", "python3", "-c", CONNECTING, short / "api"],
            stdin=subprocess.PIPE,
            **ids,
        )
        try:
            connection, _ = listener.accept()
            with connection, contextlib.closing(caller_of(connection)) as caller:
                assert (caller.peer.uid, caller.peer.gid) == (ids["user"], ids["group"])
        finally:
            child.communicate()


def test_the_server_sees_a_name_that_tells_the_process(short: Path) -> None:
    """Pid, user, groups, and a pidfd; nothing of the name stays on the disk."""

    async def story(relay: Relay, inner: Inner, path: Path) -> None:
        _, writer = await asyncio.open_unix_connection(path)
        await until(lambda: inner.names)
        caller = relay.caller(inner.names[0])
        assert caller is not None
        assert (caller.peer.pid, caller.peer.uid) == (os.getpid(), os.geteuid())
        assert caller.peer.gid == os.getegid()
        assert set(caller.peer.groups or ()) == set(os.getgroups())
        assert caller.is_alive()
        assert [each.name for each in (short / "p").iterdir()] == ["inner"]
        writer.close()
        await until(lambda: relay.count == 0)
        assert relay.caller(inner.names[0]) is None
        assert not caller.is_alive()

    run(short, story)


def test_nobody_guesses_the_name_of_a_connection(short: Path) -> None:
    """Who had one could pass for its process: 128 bits, and none tells of another."""

    async def story(_relay: Relay, inner: Inner, path: Path) -> None:
        writers = [(await asyncio.open_unix_connection(path))[1] for _ in range(5)]
        await until(lambda: len(inner.names) == len(writers))
        names = [each.rpartition("/")[2] for each in inner.names]
        assert all(re.fullmatch("[0-9a-f]{32}", name) for name in names)
        for one, other in itertools.combinations(names, 2):
            assert sum(a != b for a, b in zip(one, other, strict=True)) > 12
        for writer in writers:
            writer.close()

    run(short, story)


def test_where_the_kernel_gives_a_pid_alone_an_end_before_the_look_is_noticed(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As before Linux 6.5: in that gap the pid may become another process'."""
    monkeypatch.setattr("meshwarden.agent.peers._SO_PEERPIDFD", 9_999)  # No kernel knows it.
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(short / "api"))
        listener.listen()
        with socket.socket(socket.AF_UNIX) as ours:
            ours.connect(os.fspath(short / "api"))
            with listener.accept()[0] as connection:
                with contextlib.closing(caller_of(connection)) as caller:
                    assert (caller.peer.pid, caller.is_alive()) == (os.getpid(), True)
                # The pid is alive still, and the socket closed: so it may be another one's by now.
                ours.close()
                with pytest.raises(PeerError, match="has ended"):
                    caller_of(connection)


def test_each_connection_is_of_its_own_process(short: Path) -> None:
    """Two at once are told apart."""

    async def story(relay: Relay, inner: Inner, path: Path) -> None:
        children = [connecting(path) for _ in range(2)]
        try:
            await until(lambda: len(inner.names) == 2)
            callers = [relay.caller(name) for name in inner.names]
            assert {each.peer.pid for each in callers if each} == {each.pid for each in children}
        finally:
            for child in children:
                child.communicate()

    run(short, story)


@pytest.mark.parametrize(
    "name", ["", "unix:", "unix:/elsewhere/0123", "ipv4:127.0.0.1:1", "unix:@"]
)
def test_who_comes_another_way_is_nobody(short: Path, name: str) -> None:
    """No caller is known by a name that the relay did not give."""

    async def story(relay: Relay, inner: Inner, path: Path) -> None:
        _, writer = await asyncio.open_unix_connection(path)
        await until(lambda: inner.names)
        assert relay.caller(name) is None
        writer.close()

    run(short, story)


def test_bytes_arrive_whole_and_in_order_both_ways(short: Path) -> None:
    """Ten megabytes through buffers of some kilobytes."""

    async def story(_relay: Relay, _inner: Inner, path: Path) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        data = os.urandom(10_000_000)

        async def send() -> None:
            writer.write(data)
            await writer.drain()

        sending = asyncio.create_task(send())
        assert await reader.readexactly(len(data)) == data
        await sending
        writer.close()

    run(short, story)


def test_a_reader_that_never_reads_holds_little(short: Path) -> None:
    """Its sender is held up, and memory stays flat."""

    async def story(relay: Relay, inner: Inner, path: Path) -> None:
        inner.flood = True
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as slow:
            slow.connect(os.fspath(path))
            await until(lambda: inner.sent)
            before, memory = -1, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            while inner.sent != before:
                before = inner.sent
                await asyncio.sleep(0.2)
            # The kernel's buffers of two sockets, and ours.
            assert inner.sent < 4_000_000
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 10_000
            inner.flood = False
        await until(lambda: relay.count == 0)

    run(short, story)


def test_too_many_connections_are_refused_and_one_user_gets_half(short: Path) -> None:
    """Those that are open go on; a place that was left is given again."""

    async def story(relay: Relay, inner: Inner, path: Path) -> None:
        open_ones = [await asyncio.open_unix_connection(path) for _ in range(5)]
        await until(lambda: relay.count == 5)
        reader, refused = await asyncio.open_unix_connection(path)
        assert await reader.read() == b""
        refused.close()
        assert relay.refused == 1
        open_ones[0][1].close()
        await until(lambda: relay.count == 4)
        reader, again = await asyncio.open_unix_connection(path)
        again.write(b"x")
        assert await reader.read(1) == b"x"
        for _, writer in (*open_ones[1:], (reader, again)):
            writer.close()
        await until(lambda: relay.count == 0)
        assert len(inner.names) == 6

    run(short, story, most=10)


def test_a_server_that_is_away_costs_the_caller_his_connection_only(short: Path) -> None:
    """The relay goes on, and the next one is carried."""

    async def story(_relay: Relay, _inner: Inner, path: Path) -> None:
        hidden = short / "p" / "hidden"
        (short / "p" / "inner").rename(hidden)
        reader, writer = await asyncio.open_unix_connection(path)
        assert await reader.read() == b""
        writer.close()
        hidden.rename(short / "p" / "inner")
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"x")
        assert await reader.read(1) == b"x"
        writer.close()

    run(short, story)


def test_a_process_that_ended_is_nobody_even_where_its_pid_lives_on(short: Path) -> None:
    """A pidfd is of one process: it says so after the end, whoever has the number by then."""
    path = short / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(os.fspath(path))
        listener.listen()
        child = connecting(path)
        connection, _ = listener.accept()
        with connection:
            caller = caller_of(connection)
            assert caller.peer.pid == child.pid
            assert caller.is_alive()
            child.communicate(b"\n")
            assert not caller.is_alive()
            caller.close()
            try:
                late = caller_of(connection)
            except PeerError as error:
                assert "has ended" in str(error)  # noqa: PT017 - either way is right
            else:
                assert not late.is_alive()
                late.close()
