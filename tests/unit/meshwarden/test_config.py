"""Settings: what is read, what is refused, and how it is said."""

import contextlib
import dataclasses
import json
import re
from pathlib import Path

import pytest

from meshwarden import config, config_reference
from meshwarden.errors import ConfigError
from meshwarden.settings import Address, Settings, default_runtime_dir, default_state_dir

CERTIFICATE = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"


def written(folder: Path, text: str) -> Path:
    """Write a config file."""
    file = folder / "meshwarden.toml"
    file.write_text(text, encoding="utf-8")
    return file


def faults(file: Path | None, **environ: str) -> list[str]:
    """Give the lines of a load that must fail."""
    with pytest.raises(ConfigError) as caught:
        config.load(file, environ)
    return str(caught.value).splitlines()


def test_defaults_are_enough_to_start_with() -> None:
    """No file, no environment: loopback, folders of this user, everything within its bounds."""
    settings = config.load(None, {"HOME": "/home/ann"}).settings
    assert settings.listen.address == Address("127.0.0.1", 9191)
    assert settings.policy.path == Path.cwd() / "policy"
    assert settings.runtime.state_dir.is_absolute()


def test_the_last_that_sets_a_key_wins(tmp_path: Path) -> None:
    """Default, file, environment, option; each origin is told."""
    file = written(tmp_path, "server = {fronts = 2, drain_s = 7, max_inflight = 9}\n")
    loaded = config.load(
        file,
        {"MESHWARDEN_SERVER__FRONTS": "3", "MESHWARDEN_SERVER__DRAIN_S": "1.5"},
        {"server.fronts": ("--fronts", "4")},
    )
    server = loaded.settings.server
    assert (server.fronts, server.drain_s, server.max_inflight) == (4, 1.5, 9)
    assert loaded.origins == {
        "server.fronts": "--fronts",
        "server.drain_s": "MESHWARDEN_SERVER__DRAIN_S",
        "server.max_inflight": str(file),
    }


def test_all_faults_are_told_at_once_with_full_keys(tmp_path: Path) -> None:
    """A typo, a section's typo, a wrong type, a bound, a choice and a cross check: six lines."""
    file = written(
        tmp_path,
        """
        [listen]
        adress = "127.0.0.1:1"
        [servr]
        fronts = 3
        [server]
        fronts = "many"
        max_inflight = 0
        transport = "grpcoi"
        [fallback]
        http_address = "0.0.0.0:80"
        """,
    )
    assert (
        [line.removeprefix(f"{file}: ") for line in faults(file)]
        == """
listen.adress: no such key; did you mean listen.address?
servr: no such section; did you mean server?
server.fronts: must be a whole number from 1 to 64, not 'many'
server.max_inflight: must be a whole number from 1 to 1_000_000, not 0
server.transport: must be one of auto, front, grpcio, not 'grpcoi'; did you mean grpcio?
fallback.http_address: 0.0.0.0:80 can be reached from other machines and is always plain text; \
ask for it by listen.allow_plaintext_beyond_loopback = true
""".strip().splitlines()
    )


def test_the_right_word_in_the_wrong_section_is_sent_home(tmp_path: Path) -> None:
    """drain_s is nowhere near "policy.drain_s" in letters, but there is only one."""
    file = written(tmp_path, "[policy]\nrestart_backoff_max_s = 1\n")
    assert faults(file)[0].endswith("did you mean server.restart_backoff_max_s?")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("server = 3", "server: is a section; write [server], not a value"),
        ("[server", "is not TOML: "),
        ("[policy]\nbind = 'x'", "policy.bind: must be a table of text, not 'x'"),
        ("[check]\nerror_response = 1", "check.error_response: must be true or false, not 1"),
        ("[server]\nfronts = 2.0", "server.fronts: must be a whole number from 1 to 64, not 2.0"),
        ("[server]\ndrain_s = nan", "server.drain_s: must be a number from 0 to 3_600, not nan"),
        ("[engine]\nfunctions = ['os; x']", "engine.functions: 'os; x' is no module name"),
        ("[decisions]\nheaders = ['X-Env']", "decisions.headers: 'X-Env' is no header name"),
        ("[decisions]\nschema = 'a b'", "decisions.schema: 'a b' is no plain name"),
        ("[decisions]\nsinks = ['postgresql']", "decisions.sinks: postgresql needs to know where"),
        (
            "state_dir = 'x'",
            "did you mean runtime.state_dir or agent.state_dir?",
        ),
        ("[policy]\nsource = 'foldr'", "no adapter 'foldr'; did you mean folder?"),
        ("[policy]\npath = ''", "policy.path: must be a path, not empty"),
        ("[runtime]\nruntime_dir = '/" + "r" * 90 + "'", "take a path of at most 66"),
    ],
)
def test_what_can_not_be_meant_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """One fault, and its sentence says what to write."""
    (line,) = faults(written(tmp_path, text))
    assert message in line


def test_a_file_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    """Missing, or not UTF-8: both are one sentence, not a traceback."""
    assert faults(tmp_path / "no.toml") == [
        f"{tmp_path}/no.toml: can't be read: No such file or directory"
    ]
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b"# caf\xe9\n")
    assert "is not TOML" in faults(latin)[0]


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("MESHWARDEN_SERVER__FRONTS", "x", "server.fronts: must be a whole number"),
        ("MESHWARDEN_SERVER__FRONT", "1", "no such key; did you mean server.fronts?"),
        ("MESHWARDEN_LISTEN_ADDRESS", "x", "no such key; did you mean MESHWARDEN_LISTEN__ADDRESS?"),
        ("MESHWARDEN_ENGINE__FUNCTIONS", "a,b", 'as JSON, such as ["a", "b"], not \'a,b\''),
    ],
)
def test_a_wrong_variable_is_told_by_its_name(variable: str, text: str, message: str) -> None:
    """The environment is held to the same rules as the file."""
    (line,) = faults(None, **{variable: text})
    assert line.startswith(f"{variable}: ")
    assert message in line


def test_variables_that_kubernetes_adds_are_no_keys() -> None:
    """A Service named meshwarden puts these into every pod beside it."""
    environ = {"MESHWARDEN_PORT": "tcp://10.0.0.1:9191", "MESHWARDEN_SERVICE_HOST": "10.0.0.1"}
    assert config.load(None, environ).origins == {}


def test_lists_and_tables_come_from_the_environment_as_json() -> None:
    """Everything else comes as it is written."""
    settings = config.load(
        None,
        {
            "MESHWARDEN_ENGINE__FUNCTIONS": '["company.functions"]',
            "MESHWARDEN_CHECK__ALLOWED__REQUEST_HEADERS": '{"x-id": "{decision_id}"}',
            "MESHWARDEN_POLICY__WATCH": "false",
        },
    ).settings
    assert settings.engine.functions == ("company.functions",)
    assert settings.check.allowed.request_headers == {"x-id": "{decision_id}"}
    assert settings.policy.watch is False


def test_the_empty_text_takes_an_optional_value_away(tmp_path: Path) -> None:
    """So that the environment can undo what the file says."""
    file = written(tmp_path, "[listen.tls]\ncertificate = 'c.pem'\n[check]\ntrusted_hops = 2\n")
    environ = {"MESHWARDEN_LISTEN__TLS__CERTIFICATE": "", "MESHWARDEN_CHECK__TRUSTED_HOPS": ""}
    settings = config.load(file, environ).settings
    assert settings.listen.tls.certificate is None
    assert settings.check.trusted_hops is None


def test_a_path_is_relative_to_the_file_that_names_it(tmp_path: Path) -> None:
    """From the environment it is relative to the working folder; always absolute afterwards."""
    file = written(tmp_path, "policy.path = 'acl'\n")
    assert config.load(file, {}).settings.policy.path == tmp_path / "acl"
    overridden = config.load(file, {"MESHWARDEN_POLICY__PATH": "acl"})
    assert overridden.settings.policy.path == Path.cwd() / "acl"
    assert config.load(written(tmp_path, ""), {}).settings.policy.path == tmp_path / "policy"


def test_folders_of_a_user_follow_xdg() -> None:
    """State and sockets are the user's own, and a relative XDG value is ignored."""
    environ = {"XDG_STATE_HOME": "/s", "XDG_RUNTIME_DIR": "relative"}
    state_dir = default_state_dir(environ, is_root=False)
    assert state_dir == Path("/s/meshwarden")
    runtime_dir = default_runtime_dir(environ, state_dir, is_root=False)
    assert runtime_dir == Path("/s/meshwarden/run")


def test_folders_of_root_are_the_systems(tmp_path: Path) -> None:
    """XDG variables left over from a sudo move nothing."""
    environ = {"XDG_STATE_HOME": "/s", "XDG_RUNTIME_DIR": "/r"}
    assert default_state_dir(environ, is_root=True) == Path("/var/lib/meshwarden")
    assert default_runtime_dir(environ, tmp_path, is_root=True) == Path("/run/meshwarden")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("127.0.0.1:9191", "127.0.0.1:9191"),
        ("[::1]:9191", "[::1]:9191"),
        ("[0:0::1]:9191", "[::1]:9191"),
    ],
)
def test_an_address_is_read_and_said_in_one_form(text: str, said: str) -> None:
    """What `parse` reads, `str` writes."""
    assert str(Address.parse(text)) == said


@pytest.mark.parametrize(
    "text",
    [
        *("9191", ":9191", "localhost:9191", "127.0.0.1:0", "127.0.0.1:65536", "::1:9191", "[::1]"),
        *("[127.0.0.1]:80", "127.0.0.1:٣", "127.0.0.1:+1", "127.0.0.1:80\n", "127.1:80", ""),
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """Names, missing parts, port 0, and digits of other scripts."""
    with pytest.raises(ValueError, match=r"address|port|brackets"):
        Address.parse(text)


def test_plain_text_beyond_loopback_must_be_asked_for(tmp_path: Path) -> None:
    """The fault names both ways out, and each of them works."""
    (line,) = faults(None, MESHWARDEN_LISTEN__ADDRESS="0.0.0.0:9191")
    assert "listen.tls.certificate" in line
    assert "listen.allow_plaintext_beyond_loopback" in line
    (tmp_path / "c.pem").write_text(CERTIFICATE)
    (tmp_path / "k.pem").write_text(KEY)
    tls = "tls = {certificate = 'c.pem', key = 'k.pem', client_ca = 'c.pem'}"
    config.load(written(tmp_path, f"[listen]\naddress = '[::]:9191'\n{tls}"), {})
    asked = "allow_plaintext_beyond_loopback = true"
    config.load(written(tmp_path, f"[listen]\naddress = '[::]:9191'\n{asked}"), {})


def test_the_two_public_ports_differ() -> None:
    """Where the fallback is used, both are opened."""
    (line,) = faults(None, MESHWARDEN_FALLBACK__HTTP_ADDRESS="127.0.0.1:9191")
    assert "port 9191 is that of listen.address" in line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("certificate = 'c.pem'", "listen.tls.certificate: needs listen.tls.key too"),
        ("key = 'k.pem'", "listen.tls.key: needs listen.tls.certificate too"),
        ("client_ca = 'c.pem'", "listen.tls.client_ca: needs listen.tls.certificate too"),
        ("require_client_certificate = true", "needs listen.tls.client_ca too"),
        ("svid = true", "needs identity.trust_domain too"),
        ("certificate = 'c.pem'\nkey = 'c.pem'", "is no PEM file with a private key"),
        ("certificate = 'c.pem'\nkey = 'gone'", "gone can't be read: No such file"),
        ("certificate = 'c.pem'\nkey = 'locked.pem'", "locked.pem is encrypted"),
    ],
)
def test_half_a_tls_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """At the start, not when the first client comes."""
    (tmp_path / "c.pem").write_text(CERTIFICATE)
    (tmp_path / "k.pem").write_text(KEY)
    (tmp_path / "locked.pem").write_text(KEY.replace("PRIVATE", "ENCRYPTED PRIVATE"))
    (line,) = faults(written(tmp_path, f"[listen.tls]\n{text}"))
    assert message in line


def test_the_services_own_svid_is_tls_like_any_other() -> None:
    """It opens the port to other machines; its names are names, and it needs no file."""
    identity = {"MESHWARDEN_IDENTITY__TRUST_DOMAIN": "td.example"}
    own = {**identity, "MESHWARDEN_LISTEN__TLS__SVID": "true"}
    config.load(None, {**own, "MESHWARDEN_LISTEN__ADDRESS": "0.0.0.0:9191"})
    (line,) = faults(None, **own, MESHWARDEN_SERVER__NAMES='["Mesh Example"]')
    assert "server.names" in line
    assert "is no DNS name" in line
    (line,) = faults(
        None,
        **own,
        MESHWARDEN_LISTEN__TLS__CERTIFICATE="c.pem",
        MESHWARDEN_LISTEN__TLS__KEY="k.pem",
    )[:1]
    assert "exclude each other" in line


def test_a_key_that_was_not_understood_is_not_judged_again(tmp_path: Path) -> None:
    """One mistake is one line: the key isn't called lonely for its misspelt certificate."""
    (tmp_path / "k.pem").write_text(KEY)
    file = written(tmp_path, "[listen.tls]\ncertificate = 3\nkey = 'k.pem'")
    assert faults(file) == [f"{file}: listen.tls.certificate: must be a path, not 3"]


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"X-Id": "a"}, "write it in lower case"),
        ({":path": "a"}, "no header name"),
        ({"host": "a"}, "belongs to HTTP itself"),
        ({"x-id": "a\r\nset-cookie: b"}, "line break"),
        ({"x-id": "{decision}"}, "did you mean decision_id?"),
    ],
)
def test_a_header_that_would_break_a_message_is_refused(
    headers: dict[str, str], message: str
) -> None:
    """Names, framing, line breaks and placeholders are checked at load."""
    environ = {"MESHWARDEN_CHECK__DENIED__RESPONSE_HEADERS": json.dumps(headers)}
    (line,) = faults(None, **environ)
    assert message in line


def test_settings_survive_the_way_to_another_process(tmp_path: Path) -> None:
    """What the supervisor dumps, a front restores, value for value."""
    (tmp_path / "c.pem").write_text(CERTIFICATE)
    (tmp_path / "k.pem").write_text(KEY)
    file = written(
        tmp_path,
        "listen.tls = {certificate = 'c.pem', key = 'k.pem'}\ncheck.trusted_hops = 1\n"
        "engine.functions = ['a.b']\npolicy.bind = {sub = 'source.principal'}\n",
    )
    settings = config.load(file, {}).settings
    assert config.restore(config.dump(settings)) == settings
    assert config.restore(config.dump(Settings())) == Settings()


def test_every_key_has_words_and_a_default_that_it_accepts(tmp_path: Path) -> None:
    """The reference is complete, and no default is out of its own bounds."""
    for key in config.KEYS.values():
        assert key.meta.description
        assert key.expected
    everything = config_reference.toml().replace("\n# ", "\n").splitlines()
    assignments = [line for line in everything if re.fullmatch(r"\[.*|\w+ = .*", line)]
    file = written(tmp_path, "\n".join(assignments))
    loaded = config.load(file, {})
    assert loaded.origins.keys() == config.KEYS.keys()
    settings = config.load(written(tmp_path, ""), {}).settings
    same = dataclasses.replace(
        loaded.settings,
        runtime=settings.runtime,
        check=dataclasses.replace(loaded.settings.check, trusted_hops=None),
        agent=settings.agent,
    )
    assert same == settings


ODD = (
    "",
    " ",
    "\x00",
    "1e999",
    "-1",
    "true",
    "[]",
    "{}",
    '{"a": 1}',
    "null",
    "~nobody/x",
    "\udcff",
)


@pytest.mark.parametrize("name", config.KEYS)
def test_no_value_is_more_than_a_fault(tmp_path: Path, name: str) -> None:
    """Odd texts and types are accepted or told as faults; nothing else is raised."""
    for text in ODD:
        with contextlib.suppress(ConfigError):
            config.load(None, {config.KEYS[name].variable: text})
    for value in ("'x'", "''", "-1", "1.5", "inf", "true", "[]", "['a']", "[1]", "{}", "{a = 1}"):
        with contextlib.suppress(ConfigError):
            config.load(written(tmp_path, f"{name} = {value}\n"), {})


def test_the_file_is_found_where_it_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MESHWARDEN_CONFIG first, then the working folder."""
    monkeypatch.chdir(tmp_path)
    assert config.find({"MESHWARDEN_CONFIG": "x.toml"}) == Path("x.toml")
    written(tmp_path, "")
    assert config.find({}) == Path("meshwarden.toml")
