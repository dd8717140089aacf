"""Bundles that are none, from a server that errs or means harm: the last good one decides."""

import gzip
import io
import tarfile
import time
from collections.abc import Callable, Iterator

import msgspec
import pytest

from authz.policy_bundle.archive import pack, unpack
from authz.policy_bundle.bundle import make_bundle
from tests.e2e.bad_policy.conftest import GOOD, NEXT, Witness
from tests.e2e.support.instance import Place
from tests.servers.http import Handler, WebServer, web_server

LIMIT = 1_000_000


def bundle(text: str, revision: int = 0) -> bytes:
    """Make a bundle of one file."""
    return make_bundle({"policy.csv": text.encode()}, revision)


@pytest.fixture(scope="module")
def server() -> Iterator[WebServer]:
    """The server of the bundle."""
    with web_server(bundle(GOOD)) as running:
        yield running


@pytest.fixture(scope="module")
def shared(new_place: Callable[..., Place], server: WebServer) -> Iterator[Witness]:
    """One instance for all of these; what takes longer than a second is too late."""
    place = new_place(
        policy__source="bundle",
        policy__bundle__url=server.url,
        policy__bundle__poll_s=0.5,
        policy__bundle__timeout_s=1.0,
        policy__bundle__max_bytes=LIMIT,
        policy__bundle__max_unpacked_bytes=LIMIT,
    )
    with place.start() as instance:
        yield Witness(instance.wait_ready())


@pytest.fixture
def witness(shared: Witness, server: WebServer) -> Iterator[Witness]:
    """It with its good policy, and mended after the test."""
    server.content = bundle(GOOD)
    assert shared.place.command("reload").returncode == 0
    yield shared
    server.reply = None
    server.content = bundle(NEXT)
    shared.recovers()


def member(name: str, content: bytes = b"p, *, *, GET, /next, allow\n") -> bytes:
    """Make a bundle with one file more."""
    plain = io.BytesIO(gzip.decompress(bundle(NEXT)))
    with tarfile.open(fileobj=plain, mode="a") as archive:
        made = tarfile.TarInfo(name)
        made.size = len(content)
        archive.addfile(made, io.BytesIO(content))
    return gzip.compress(plain.getvalue())


def newer() -> bytes:
    """Make a bundle as a later version of the program might."""
    files = unpack(bundle(NEXT), LIMIT)
    told = msgspec.json.decode(files["manifest.json"])
    files["manifest.json"] = msgspec.json.encode({**told, "format": 2, "files": "elsewhere"})
    return pack(files)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (member("../policy.csv"), "'../policy.csv' leads out of the bundle"),
        (member("/etc/cron.d/policy"), "'/etc/cron.d/policy' is an absolute name"),
        (member("policy.csv"), "'policy.csv' stands twice"),
        (member("zeros.csv", bytes(200_000_000)), "unpacks to more than 1000000 bytes"),
        (member("unnamed.csv"), "'unnamed.csv' is not in the manifest"),
        (bundle(NEXT)[:-30], "is cut short: its gzip has no end"),
        (b"<!DOCTYPE html><title>Log in", "is no gzip: it begins with '<!DOCTYPE html><title>"),
        (b"", "is no gzip: it begins with ''"),
        (bytes(LIMIT + 1), "is larger than 1000000 bytes"),
        (newer(), "is of format 2, written by a newer version of the program"),
        (bundle("p, *, *, GET, /next, Allow\n"), "policy.csv:1: "),
    ],
    ids=[
        "dots", "absolute", "twice", "bomb", "unnamed", "cut", "html", "empty", "large", "newer",
        "policy",
    ],
)  # fmt: skip
def test_a_bad_bundle_changes_nothing(
    witness: Witness, server: WebServer, content: bytes, said: str
) -> None:
    """It is refused with its reason, and the next good one is taken."""
    server.content = content
    witness.refuses(said)


def test_an_error_page_changes_nothing(witness: Witness, server: WebServer) -> None:
    """Whatever its body."""
    server.reply = lambda handler: handler.send_error(502)
    witness.refuses("the server answers 502 Bad Gateway")


def test_a_server_that_is_gone_changes_nothing(witness: Witness, server: WebServer) -> None:
    """And it is found again."""
    server.stop()
    try:
        witness.refuses("Connection refused")
    finally:
        server.start()


def test_a_server_that_hangs_changes_nothing(witness: Witness, server: WebServer) -> None:
    """Neither before its answer nor in the midst of it."""
    server.reply = lambda _: time.sleep(3)
    witness.refuses("no whole answer within 1 s")

    def drip(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(30):
            handler.wfile.write(b"\x1f")
            time.sleep(0.1)

    server.reply = drip
    witness.refuses("no whole answer within 1 s")


def test_a_file_that_changes_while_it_is_sent_is_no_policy(
    witness: Witness, server: WebServer
) -> None:
    """The first half of one bundle and the second of another, as from a file overwritten."""
    one, other = bundle(GOOD + "# one\n" * 999), bundle(NEXT + "# two\n" * 999)
    length = len(one)

    def mixed(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(length))
        handler.end_headers()
        handler.wfile.write(one[: length // 2])
        handler.wfile.write(other[length // 2 : length].ljust(length - length // 2, b"\0"))

    server.reply = mixed
    witness.refuses(server.url)
    # Cut off in the midst, it is as little.
    server.reply = lambda handler: handler.wfile.write(
        b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + other[:400]
    )
    witness.refuses("of 900 bytes")
