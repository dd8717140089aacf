"""One file by a deadline, up to a size, or nothing: over real sockets."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import pytest

from adapters.http.download import Answer, Download, DownloadError, shown
from deploy.demo.certificates import Authority
from tests.servers.http import Handler, Reply, WebServer, web_server

LIMIT = 1000


@pytest.fixture
def server() -> Iterator[WebServer]:
    """A server of one small file."""
    with web_server(b"hello") as running:
        yield running


@contextmanager
def raw_server(serve: Callable[[socket.socket], object]) -> Iterator[str]:
    """A server that speaks as it likes; give its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                with suppress(OSError):
                    serve(connection)

        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def refusal(url: str, timeout_s: float = 5.0) -> str:
    """Give the words of a download that must fail."""
    with pytest.raises(DownloadError) as caught:
        Download(timeout_s, LIMIT).get(url)
    return str(caught.value)


def test_a_file_comes_with_its_etag_and_is_not_sent_again(server: WebServer) -> None:
    """The second time the server only says that it is the same."""
    download = Download(5, LIMIT)
    first = download.get(server.url)
    assert first.body == b"hello"
    assert download.get(server.url, first.etag) == Answer(None, first.etag)
    server.content = b"other"
    assert download.get(server.url, first.etag).body == b"other"
    assert server.statuses == [200, 304, 200]


@pytest.mark.parametrize("status", [204, 206, 304, 404, 500, 503])
def test_any_other_answer_is_no_file(server: WebServer, status: int) -> None:
    """A 304 that nobody asked for as well."""

    def reply(handler: Handler) -> None:
        handler.send_response(status, "Why")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    server.reply = reply
    assert refusal(server.url) == f"{server.url}: the server answers {status} Why"


def test_a_refused_token_is_told_as_such(server: WebServer) -> None:
    """Without the token."""
    server.reply = lambda handler: handler.send_error(401)
    with pytest.raises(DownloadError, match=r"401 Unauthorized: does it need a token") as caught:
        Download(5, LIMIT).get(server.url, secret={"authorization": "Bearer s3cret"})
    assert "s3cret" not in str(caught.value)


def redirect_to(url: str) -> Reply:
    """Answer with a redirect."""

    def reply(handler: Handler) -> None:
        handler.send_response(302)
        handler.send_header("Location", url)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return reply


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("http://other.example/x", "redirects from http to another server, http://other.example/x"),
        ("https://other.example/x", "redirects from http to another server"),
        ("ftp://127.0.0.1/x", "redirects to what is no HTTP URL"),
        ("file:///etc/passwd", "redirects to what is no HTTP URL"),
        ("http://me:word@127.0.0.1/x", "redirects to what is no HTTP URL"),
        ("/policy.tar.gz", "redirects more than 5 times"),
    ],
)
def test_a_redirect_leads_nowhere_else(server: WebServer, location: str, said: str) -> None:
    """From plain HTTP only to the same server, and not around for ever."""
    server.reply = redirect_to(location)
    assert said in refusal(server.url)


def test_a_redirect_on_the_same_server_is_followed_with_the_token(server: WebServer) -> None:
    """A relative one too."""

    def once(handler: Handler) -> None:
        server.reply = None
        redirect_to("there")(handler)

    server.reply = once
    answer = Download(5, LIMIT).get(server.url, secret={"authorization": "Bearer s"})
    assert answer.body == b"hello"
    assert [(path, headers["authorization"]) for path, headers, _ in server.seen] == [
        ("/policy.tar.gz", "Bearer s"), ("/there", "Bearer s"),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority for the servers' certificates."""
    return Authority(tmp_path_factory.mktemp("ca"), datetime.now(UTC))  # noqa: TID251 - theirs


@pytest.fixture(scope="module")
def tls_server(authority: Authority) -> ssl.SSLContext:
    """What a server on the loopback address shows."""
    shown_to_clients = authority.issue("server", "spiffe://td/server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown_to_clients.certificate, shown_to_clients.key)
    return context


@pytest.fixture(scope="module")
def tls_client(authority: Authority) -> ssl.SSLContext:
    """What believes that."""
    return ssl.create_default_context(cafile=str(authority.certificate))


@pytest.fixture
def secure(tls_server: ssl.SSLContext) -> Iterator[WebServer]:
    """A server with TLS."""
    with web_server(b"hello", tls_server) as running:
        yield running


def test_a_certificate_nobody_vouches_for_is_refused(secure: WebServer) -> None:
    """By the system's authorities."""
    assert "its certificate is not trusted: " in refusal(secure.url)


def test_a_redirect_over_tls_leads_to_another_server_without_the_token(
    secure: WebServer, tls_server: ssl.SSLContext, tls_client: ssl.SSLContext
) -> None:
    """As from a release page to where its files lie."""
    with web_server(b"there", tls_server) as other:
        secure.reply = redirect_to(other.url + "?signed=1")
        answer = Download(5, LIMIT, tls_client).get(secure.url, secret={"authorization": "s"})
        assert answer.body == b"there"
        (path, headers, _), = other.seen  # fmt: skip
        assert path.endswith("?signed=1")
        assert "authorization" not in headers


def test_a_redirect_never_leaves_tls(
    secure: WebServer, server: WebServer, tls_client: ssl.SSLContext
) -> None:
    """Not even to the same machine."""
    secure.reply = redirect_to(server.url)
    with pytest.raises(DownloadError, match="redirects from https to http://"):
        Download(5, LIMIT, tls_client).get(secure.url)
    assert server.seen == []


def test_a_file_beyond_the_limit_is_refused_early(server: WebServer) -> None:
    """By what the server says, or as soon as it sends too much."""
    server.content = bytes(LIMIT + 1)
    assert refusal(server.url).endswith("is larger than 1000 bytes: 1001")
    sent = 0

    def endless(connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            sent += connection.send(bytes(65536))

    with raw_server(endless) as address:
        assert refusal(f"http://{address}/").endswith("is larger than 1000 bytes")
    assert sent < 32 * 1024 * 1024


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", "ended after 3 of 9 bytes"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "ended in the middle"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", ""),
        (b"SSH-2.0-OpenSSH\r\n", "the server does not speak HTTP"),
        (b"", "the server does not speak HTTP"),
    ],
)
def test_a_connection_that_is_cut_gives_nothing(sent: bytes, said: str) -> None:
    """A part of a file is no file."""
    with raw_server(lambda connection: connection.sendall(sent)) as address:
        if said:
            assert refusal(f"http://{address}/") == f"http://{address}/: {said}"
        else:
            assert Download(5, LIMIT).get(f"http://{address}/").body == b""


def hang(_connection: socket.socket) -> None:
    """Say nothing."""
    time.sleep(10)


def drip_head(connection: socket.socket) -> None:
    """Send a head that never ends, a byte at a time: no single read waits long."""
    for each in b"HTTP/1.1 200 OK\r\nX: " + b"a" * 10_000:
        connection.send(bytes([each]))
        time.sleep(0.02)


def drip_body(connection: socket.socket) -> None:
    """Send a body like that."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(500):
        connection.send(b"a")
        time.sleep(0.02)


@pytest.mark.parametrize("serve", [hang, drip_head, drip_body])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_deadline_holds_for_all_of_it(
    serve: Callable[[socket.socket], None], scheme: str
) -> None:
    """However slowly a server goes on; for a TLS handshake too."""
    if scheme == "https":
        serve = hang
    begun_s = time.monotonic()
    with raw_server(serve) as address:
        said = refusal(f"{scheme}://{address}/", 0.5)
    assert said.endswith("no whole answer within 0.5 s")
    assert time.monotonic() - begun_s < 5


def test_a_stop_ends_what_waits() -> None:
    """And nothing is asked after it."""
    download = Download(60, LIMIT)
    with raw_server(hang) as address:
        threading.Timer(0.2, download.close).start()
        begun_s = time.monotonic()
        for _ in range(2):
            with pytest.raises(DownloadError, match="the service is stopping"):
                download.get(f"http://{address}/")
        assert time.monotonic() - begun_s < 5


def test_nobody_there_is_told_in_words() -> None:
    """Without the number of the system's error."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert refusal(f"http://127.0.0.1:{port}/x") == (
        f"http://127.0.0.1:{port}/x: Connection refused"
    )


def test_a_url_is_shown_without_what_opens_doors() -> None:
    """Signed URLs have their secret in the query."""
    assert shown("https://me:word@host:8443/a.tar.gz?sig=s#f") == "https://host:8443/a.tar.gz"
