"""The few words to an Envoy's admin interface, which answers well, badly or not at all."""

import asyncio
import contextlib
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from meshwarden.supervisor import envoy_admin
from meshwarden.supervisor.envoy_admin import EnvoyAdmin

CONNECTIONS = "/stats?filter=^http.public.downstream_cx_active$"


class Admin:
    """An admin interface whose answers a test sets.

    Attributes:
        answers: Path to the whole answer; None hangs, and a path that is not there closes.
        asked: Every path asked, in order.
    """

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.answers: dict[str, bytes | None] = {}
        self.asked: list[str] = []
        self._answering = 0

    def run(self, scenario: Callable[[EnvoyAdmin], Awaitable[None]]) -> None:
        """Serve while a scenario goes on."""

        async def both() -> None:
            server = await asyncio.start_unix_server(self._answer, self.socket)
            self._over = asyncio.Event()
            async with server, asyncio.timeout(10):
                await scenario(EnvoyAdmin(self.socket))
                self._over.set()
                while self._answering:
                    await asyncio.sleep(0.001)

        asyncio.run(both())

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._answering += 1
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        self.asked.append(path)
        answer = self.answers.get(path, b"")
        if answer is None:
            await self._over.wait()
        writer.write(answer or b"")
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        self._answering -= 1


@pytest.fixture
def admin() -> Iterator[Admin]:
    """Give one that drains."""
    with tempfile.TemporaryDirectory(prefix="mw-") as folder:
        admin = Admin(Path(folder) / "admin.sock")
        for path in ("/drain_listeners?graceful&skip_exit", "/drain_listeners"):
            admin.answers[path] = plain("OK\n")
        admin.answers[CONNECTIONS] = connections(0)
        yield admin


def plain(body: str) -> bytes:
    """Answer until the connection closes."""
    return f"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{body}".encode()


def chunked(*pieces: str) -> bytes:
    """Answer in pieces, as Envoy does."""
    body = "".join(f"{len(piece):x}\r\n{piece}\r\n" for piece in (*pieces, ""))
    return f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}".encode()


def connections(count: int) -> bytes:
    """Answer how many connections there are."""
    return chunked("http.public.", f"downstream_cx_active: {count}\n")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (plain("LIVE\n"), True),
        (chunked("LI", "VE\n"), True),
        (plain("PRE_INITIALIZING\n"), False),
        (b"", False),
        (b"garbage", False),
        (None, False),
    ],
)
def test_live_is_what_says_so(
    answer: bytes | None,
    expected: bool,  # noqa: FBT001 - a table's column
    admin: Admin,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever else comes is not live."""
    monkeypatch.setattr(envoy_admin, "_CALL_TIMEOUT_S", 0.2)
    admin.answers["/ready"] = answer

    async def scenario(asked: EnvoyAdmin) -> None:
        assert await asked.is_live() is expected

    admin.run(scenario)


def test_an_envoy_that_is_not_there_is_not_live(tmp_path: Path) -> None:
    """Nor is it an error: it is starting."""
    assert asyncio.run(EnvoyAdmin(tmp_path / "no.sock").is_live()) is False


def test_a_drain_sends_connections_away_before_it_closes_listeners(admin: Admin) -> None:
    """Then it waits for the last connection."""
    admin.answers[CONNECTIONS] = connections(2)

    async def scenario(asked: EnvoyAdmin) -> None:
        draining = asyncio.create_task(asked.drain(10))
        while admin.asked.count(CONNECTIONS) < 3:
            await asyncio.sleep(0.01)
        assert not draining.done()
        admin.answers[CONNECTIONS] = connections(0)
        await draining

    admin.run(scenario)
    assert admin.asked[:2] == ["/drain_listeners?graceful&skip_exit", "/drain_listeners"]


def test_a_drain_ends_with_its_time(admin: Admin) -> None:
    """A connection that stays is cut off."""
    admin.answers[CONNECTIONS] = connections(1)

    async def scenario(asked: EnvoyAdmin) -> None:
        await asyncio.wait_for(asked.drain(0.3), 2)

    admin.run(scenario)


@pytest.mark.parametrize("stats", [b"", plain("unknown\n")])
def test_an_envoy_that_goes_away_in_the_middle_ends_the_drain(stats: bytes, admin: Admin) -> None:
    """There is nobody to wait for."""
    admin.answers[CONNECTIONS] = stats

    async def scenario(asked: EnvoyAdmin) -> None:
        await asyncio.wait_for(asked.drain(60), 5)

    admin.run(scenario)


def test_an_envoy_that_can_not_be_asked_is_not_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said, since requests may be cut off."""
    asyncio.run(EnvoyAdmin(tmp_path / "no.sock").drain(60))
    assert "could not be asked to drain" in caplog.text
