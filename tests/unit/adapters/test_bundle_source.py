"""The bundle source: what is asked for when, what is believed, what is remembered."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from adapters.http.download import DownloadError
from adapters.policies.bundle import BundleSource, Config
from authz.policy.errors import PolicyError
from authz.policy_bundle.bundle import make_bundle, sha256
from tests.servers.http import WebServer, web_server

KEY = ed25519.Ed25519PrivateKey.from_private_bytes(b"k" * 32)
POLL_S = 8.0


def bundle(path: str = "/a", revision: int = 0) -> bytes:
    """Make a bundle of one rule."""
    content = f"p, *, s, GET, {path}, allow\n".encode()
    return make_bundle({"policy.csv": content}, revision, KEY)


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        """Give the time."""
        return self.now_s


@pytest.fixture
def server() -> Iterator[WebServer]:
    """A server of a bundle."""
    with web_server(bundle()) as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    """A clock."""
    return Clock()


def source_of(
    server: WebServer, folder: Path, clock: Clock, share: float = 0.0, **settings: object
) -> BundleSource:
    """Build a source."""
    values = {"url": server.url, "state_dir": folder, "poll_s": POLL_S, **settings}
    return BundleSource(Config(**values), clock, lambda: share)  # type: ignore[arg-type]


def paths(source: BundleSource) -> list[str]:
    """Load, and give the paths of the rules."""
    return [row.values[3] for row in source.load().rows]


def refusal(source: BundleSource) -> str:
    """Give the words of a load that must fail."""
    with pytest.raises((PolicyError, OSError)) as caught:
        source.load()
    return str(caught.value)


def test_a_load_gives_the_policy_and_tells_what_it_is(
    server: WebServer, tmp_path: Path, clock: Clock
) -> None:
    """Where from, which revision, which digest, which ETag."""
    server.content = bundle(revision=7)
    source = source_of(server, tmp_path, clock)
    assert (source.where, source.version, source.revision) == (server.url, "", 0)
    assert paths(source) == ["/a"]
    digest = sha256(server.content)
    assert source.where == f"{server.url}, revision 7"
    assert source.revision == 7
    assert source.version.startswith(f'revision 7, sha256 {digest}, ETag "')


def test_it_is_asked_once_a_poll_and_what_is_the_same_is_not_sent_again(
    server: WebServer, tmp_path: Path, clock: Clock
) -> None:
    """The state is asked for several times a second; the server isn't."""
    source = source_of(server, tmp_path, clock)
    states = {source.state() for _ in range(5)}
    assert server.statuses == [200]
    assert paths(source) == ["/a"]
    assert server.statuses == [200, 304]
    clock.now_s += POLL_S - 0.1
    states.add(source.state())
    assert server.statuses == [200, 304]
    clock.now_s += 0.1
    states |= {source.state(), source.state()}
    assert server.statuses == [200, 304, 304]
    assert len(states) == 1


def test_another_bundle_is_another_state(server: WebServer, tmp_path: Path, clock: Clock) -> None:
    """And the next load gives it."""
    source = source_of(server, tmp_path, clock)
    before = source.state()
    source.load()
    server.content = bundle("/b")
    clock.now_s += POLL_S
    assert source.state() != before
    assert paths(source) == ["/b"]


def test_a_server_without_etags_is_compared_by_content(
    server: WebServer, tmp_path: Path, clock: Clock
) -> None:
    """It sends the whole file each time; the state tells whether it is another."""
    server.has_etag = False
    source = source_of(server, tmp_path, clock)
    states = set()
    for _ in range(3):
        states.add(source.state())
        clock.now_s += POLL_S
    assert server.statuses == [200, 200, 200]
    assert len(states) == 1
    server.content = bundle("/b")
    assert source.state() not in states


def test_an_etag_that_stays_though_the_file_changed_is_found_out(
    server: WebServer, tmp_path: Path, clock: Clock
) -> None:
    """One made of time and size does; once in twenty looks the whole file is asked for."""

    def reply_with(content: bytes) -> None:
        def reply(handler: object) -> None:
            same = handler.headers.get("If-None-Match") == '"t"'  # type: ignore[attr-defined]
            handler.send_response(304 if same else 200)  # type: ignore[attr-defined]
            handler.send_header("ETag", '"t"')  # type: ignore[attr-defined]
            if not same:
                handler.send_header("Content-Length", str(len(content)))  # type: ignore[attr-defined]
            handler.end_headers()  # type: ignore[attr-defined]
            if not same:
                handler.wfile.write(content)  # type: ignore[attr-defined]

        server.reply = reply

    reply_with(bundle("/a"))
    source = source_of(server, tmp_path, clock)
    before = source.state()
    assert paths(source) == ["/a"]
    reply_with(bundle("/b"))
    looks = 0
    while source.state() == before:
        clock.now_s += POLL_S
        looks += 1
        assert looks <= 20
    assert paths(source) == ["/b"]


def test_a_load_that_somebody_asks_for_believes_no_etag(
    server: WebServer, tmp_path: Path, clock: Clock
) -> None:
    """Who says "reload" has reason to think that it changed."""
    source = source_of(server, tmp_path, clock)
    source.load()
    source.load()
    assert server.statuses == [200, 200]


def test_looks_are_spread_by_chance_but_never_come_late(
    server: WebServer, tmp_path: Path, clock: Clock
) -> None:
    """Replicas that start together don't ask together for ever."""
    source = source_of(server, tmp_path, clock, share=1.0)
    source.state()
    clock.now_s += POLL_S * 0.75
    source.state()
    assert server.statuses == [200, 304]


def test_a_server_that_is_gone_is_a_failed_load_and_is_asked_less_and_less(
    server: WebServer, tmp_path: Path, clock: Clock
) -> None:
    """Up to the poll interval, which is how soon it is noticed that it is back."""
    source = source_of(server, tmp_path, clock)
    before = source.state()
    source.load()
    assert source.retry_s == 5.0
    server.stop()
    clock.now_s += POLL_S
    failed = source.state()
    assert failed != before
    assert refusal(source) == f"{server.url}: Connection refused"
    pauses = [source.retry_s]
    for _ in range(4):
        refusal(source)
        pauses.append(source.retry_s)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 8.0]
    # Nothing but loads asks while it is gone, and nothing looks like a change.
    clock.now_s += POLL_S
    assert source.state() == failed
    server.start()
    assert paths(source) == ["/a"]
    assert (source.state(), source.retry_s) == (failed, 5.0)


def test_a_bad_bundle_is_refused_each_time_and_not_sent_again(
    server: WebServer, tmp_path: Path, clock: Clock
) -> None:
    """Asked again, since what was wrong may have been here; the file is the same."""
    source = source_of(server, tmp_path, clock)
    source.load()
    server.content = bundle("/b")[:-20]
    clock.now_s += POLL_S
    source.state()
    for _ in range(3):
        assert refusal(source) == f"{server.url}: is cut short: its gzip has no end"
    assert server.statuses == [200, 200, 304, 304, 304]
    server.content = bundle("/b")
    assert paths(source) == ["/b"]


@pytest.fixture
def public_key(tmp_path: Path) -> Path:
    """The file of the key that verifies."""
    path = tmp_path / "key.pem"
    path.write_bytes(
        KEY.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return path


def test_a_key_that_is_set_has_to_have_signed(
    server: WebServer, tmp_path: Path, clock: Clock, public_key: Path
) -> None:
    """Also when it was set or exchanged while the service runs."""
    source = source_of(server, tmp_path, clock, public_key=public_key)
    assert paths(source) == ["/a"]
    assert "signed by " in source.version
    server.content = make_bundle({"policy.csv": b""})
    assert refusal(source) == f"{server.url}: is not signed, and a public key is set"
    public_key.write_text("none")
    assert refusal(source) == (
        f"{server.url}: can't be verified: {public_key} holds no public key in PEM"
    )


def test_a_digest_that_is_set_takes_one_archive(
    server: WebServer, tmp_path: Path, clock: Clock
) -> None:
    """The very bytes."""
    source = source_of(server, tmp_path, clock, digest=f"sha256:{sha256(bundle())}")
    assert paths(source) == ["/a"]
    server.content = bundle("/b")
    assert refusal(source).endswith("not that of policy.bundle.digest")


def test_an_older_bundle_than_the_last_in_force_is_refused(
    server: WebServer, tmp_path: Path, clock: Clock
) -> None:
    """Though it is signed as well, and after a restart too."""
    first = source_of(server, tmp_path, clock)
    server.content = bundle("/b", 7)
    first.load()
    first.published()
    for again in (first, source_of(server, tmp_path, clock)):
        server.content = bundle("/a", 6)
        assert "is of revision 6, and revision 7 was in force already" in refusal(again)
        server.content = bundle("/a")
        assert "is of revision 0, and revision 7 was in force already" in refusal(again)
        server.content = bundle("/c", 7)
        assert "is of revision 7 like the one in force, but is another one" in refusal(again)
        server.content = bundle("/b", 7)
        assert paths(again) == ["/b"]
        server.content = bundle("/c", 8)
        assert paths(again) == ["/c"]


def test_what_was_loaded_but_never_in_force_binds_nobody(
    server: WebServer, tmp_path: Path, clock: Clock
) -> None:
    """A bundle whose policy has a fault can be followed by the one before it."""
    source = source_of(server, tmp_path, clock)
    server.content = bundle("/b", 7)
    source.load()
    server.content = bundle("/a", 6)
    assert paths(source) == ["/a"]


def test_going_back_on_purpose_is_a_setting(
    server: WebServer, tmp_path: Path, clock: Clock
) -> None:
    """And from there it counts up again."""
    source = source_of(server, tmp_path, clock)
    server.content = bundle("/b", 7)
    source.load()
    source.published()
    server.content = bundle("/a", 6)
    allowed = source_of(server, tmp_path, clock, allow_older=True)
    assert paths(allowed) == ["/a"]
    allowed.published()
    assert paths(source_of(server, tmp_path, clock)) == ["/a"]


def test_another_url_counts_by_itself(server: WebServer, tmp_path: Path, clock: Clock) -> None:
    """Its revisions are another sequence."""
    source = source_of(server, tmp_path, clock)
    server.content = bundle("/b", 7)
    source.load()
    source.published()
    server.content = bundle("/a", 1)
    assert paths(source_of(server, tmp_path, clock, url=server.url + "?other")) == ["/a"]


def test_a_damaged_memory_lets_nothing_in(server: WebServer, tmp_path: Path, clock: Clock) -> None:
    """To forget would be to take an old bundle."""
    (tmp_path / "bundle.json").write_text("{")
    assert "bundle.json is damaged; remove it" in refusal(source_of(server, tmp_path, clock))


def test_what_can_not_be_remembered_is_told(
    server: WebServer, tmp_path: Path, clock: Clock
) -> None:
    """The load counts as failed and is tried again; nothing is left half-written."""
    source = source_of(server, tmp_path / "gone", clock)
    source.load()
    with pytest.raises(OSError, match="No such file"):
        source.published()
    (tmp_path / "gone").mkdir()
    source.published()
    assert [path.name for path in (tmp_path / "gone").iterdir()] == ["bundle.json"]


@pytest.mark.parametrize(
    ("content", "header", "sent"),
    [
        ("s3cret\n", "authorization", "Bearer s3cret"),
        ("Basic dTpw\n", "authorization", "Basic dTpw"),
        ("s3cret", "private-token", "s3cret"),
    ],
)
def test_a_token_is_sent_as_it_is_now(  # noqa: PLR0913, PLR0917 - fixtures and a row
    server: WebServer, tmp_path: Path, clock: Clock, content: str, header: str, sent: str
) -> None:
    """Its file is read anew each time; nothing shows it."""
    token = tmp_path / "token"
    token.write_text("old")
    source = source_of(server, tmp_path, clock, token_file=token, header=header)
    source.load()
    token.write_text(content)
    source.load()
    told = {name.lower(): value for name, value in server.seen[-1][1].items()}
    assert told[header] == sent
    server.reply = lambda handler: handler.send_error(403)
    said = refusal(source) + source.where + source.version + repr(server.url)
    assert "s3cret" not in said


@pytest.mark.parametrize("content", ["", "\n", "two\nlines", "caf\u00e9"])
def test_a_token_file_without_a_token_is_told(
    server: WebServer, tmp_path: Path, clock: Clock, content: str
) -> None:
    """Before the server is asked; without its content."""
    token = tmp_path / "token"
    token.write_text(content)
    source = source_of(server, tmp_path, clock, token_file=token)
    assert refusal(source) == f"{token} holds no token: one line of ASCII"
    token.unlink()
    assert refusal(source) == f"{token} can't be read: No such file or directory"
    assert server.seen == []


def test_an_authority_that_can_not_be_read_is_a_failed_load(
    server: WebServer, tmp_path: Path, clock: Clock
) -> None:
    """And is tried again: a mount may have been late."""
    source = source_of(server, tmp_path, clock, ca=tmp_path / "ca.pem")
    with pytest.raises(DownloadError, match=r"ca.pem can't be used: No such file"):
        source.load()
    (tmp_path / "ca.pem").write_text("no PEM")
    with pytest.raises(DownloadError, match=r"ca.pem can't be used: "):
        source.load()


def test_after_a_close_nothing_is_asked(server: WebServer, tmp_path: Path, clock: Clock) -> None:
    """Whether it was asked before or not."""
    source = source_of(server, tmp_path, clock)
    source.close()
    assert refusal(source).endswith("not asked any more: the service is stopping")
    assert server.seen == []
