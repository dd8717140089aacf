"""How a start goes: fronts or not, and what is left of the run before."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from meshwarden.config import restore
from meshwarden.files import CLIENTS_SDS, SERVER_SDS, RuntimeDir
from meshwarden.settings import Identity, Listen, Runtime, Server, Settings, Tls
from meshwarden.supervisor import main
from meshwarden.supervisor.front_programs import FrontPrograms
from meshwarden.supervisor.lifecycle import RuntimeDirError

FOUND = FrontPrograms(Path("/envoy"), Path("/module"), Path("/libpython"))
MISSING = "Python's shared library is missing (Debian: apt-get install libpython3.11)"


def settings(transport: str = "auto") -> Settings:
    """Ask for a transport."""
    return Settings(server=Server(transport=transport))  # type: ignore[arg-type]


@pytest.mark.parametrize("transport", ["auto", "front"])
def test_fronts_serve_where_they_can(transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless grpcio is asked for."""
    monkeypatch.setattr(main, "find_programs", lambda: FOUND)
    assert main._programs(settings(transport)) is FOUND
    assert main._programs(settings("grpcio")) is None


def test_where_fronts_can_not_run_there_is_one_warning_that_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And what it costs, and where the HTTP endpoints are then."""
    monkeypatch.setattr(main, "find_programs", lambda: MISSING)
    with caplog.at_level(logging.WARNING):
        assert main._programs(settings()) is None
    (told,) = caplog.messages
    for words in (MISSING, "the same answers", "a fifth of the rate", "127.0.0.1:9192"):
        assert words in told


def test_fronts_that_are_insisted_on_and_can_not_run_are_a_failed_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Silence would be a slow service that nobody asked for."""
    monkeypatch.setattr(main, "find_programs", lambda: MISSING)
    with pytest.raises(RuntimeDirError, match=r"server\.transport: fronts can't run here: P"):
        main._programs(settings("front"))


def test_what_is_asked_for_is_not_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not even looked for."""
    monkeypatch.setattr(main, "find_programs", lambda: MISSING)
    main._programs(settings("grpcio"))
    assert caplog.messages == []


def test_a_start_finds_nothing_of_the_run_before(tmp_path: Path) -> None:
    """But the settings of now; files of others stay."""
    runtime = RuntimeDir(tmp_path)
    for folder, name in ((runtime.metrics, "counter_1.db"), (runtime.status, "control-1.json")):
        folder.mkdir()
        (folder / name).touch()
    for name in ("public.sock", "front-0.3.json", "front-0.3.sock", "draining", "hr_parent_x"):
        (tmp_path / name).touch()
    (tmp_path / "theirs").touch()
    wanted = replace(settings(), runtime=Runtime(tmp_path, tmp_path))
    main._prepare(runtime, wanted)
    assert {path.name for path in tmp_path.rglob("*")} == {"metrics", "settings.json", "theirs"}
    assert restore(runtime.settings.read_bytes()) == wanted


@pytest.mark.parametrize(
    ("later", "is_kept"),
    [
        (Settings(listen=Listen(tls=Tls(svid=True)), identity=Identity("td.example")), True),
        (Settings(listen=Listen(tls=Tls(svid=True)), identity=Identity("other.example")), False),
        (Settings(identity=Identity("td.example")), False),
        (Settings(), False),
    ],
)
def test_the_ports_certificate_is_kept_for_one_trust_domain_and_one_use(
    later: Settings, tmp_path: Path, *, is_kept: bool
) -> None:
    """A front that starts without control would serve by it and believe that domain's clients."""
    runtime = RuntimeDir(tmp_path)
    files = [runtime.secret(name) for name in (SERVER_SDS, CLIENTS_SDS)]
    own = Settings(listen=Listen(tls=Tls(svid=True)), identity=Identity("td.example"))
    main._prepare(runtime, own)
    for file in files:
        file.write_text("secret")
    half = runtime.path / ".server.secret.json.4711"
    half.write_text("half of a secret")
    main._prepare(runtime, later)
    assert [file.exists() for file in files] == [is_kept, is_kept]
    assert not half.exists()
    main._prepare(runtime, own)
    assert files[0].exists() is is_kept
