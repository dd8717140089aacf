"""Settings of a bundle: what would be unsafe, or would fail at the first download, is told."""

from pathlib import Path

import pytest

from adapters.policies.bundle import BundleSource, Config
from adapters.policies.folder import FolderSource
from meshwarden import config, plugins
from meshwarden.errors import ConfigError

KEY = "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n"


def loaded(folder: Path, text: str) -> config.Loaded:
    """Load a file of bundle settings."""
    file = folder / "meshwarden.toml"
    file.write_text(f"policy.source = 'bundle'\n[policy.bundle]\n{text}\n")
    return config.load(file, {})


def faults(folder: Path, text: str) -> list[str]:
    """Give key and message of each fault."""
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text)
    return [f"{fault.key}: {fault.message}" for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "policy.bundle.url: is needed by policy.source = 'bundle'"),
        ("url = 'policy.tar.gz'", "policy.bundle.url: must begin with https:// or http://"),
        ("url = 'file:///policy.tar.gz'", "policy.bundle.url: must begin with https:// or http://"),
        ("url = 'https:///x'", "policy.bundle.url: must begin with https:// or http:// and name"),
        ("url = 'https://host:port/x'", "policy.bundle.url: is no URL: "),
        ("url = 'https://[::1/x'", "policy.bundle.url: is no URL: "),
        ("url = 'https://host/a b'", "policy.bundle.url: holds what a URL can't"),
        ("url = 'https://me:word@host/x'", "policy.bundle.url: holds a name or password"),
        ("url = 'http://host/x'", "policy.bundle.url: whoever is on the way could change it"),
        ("url = 'http://10.0.0.1/x'", "policy.bundle.url: whoever is on the way could change it"),
        (
            "url = 'http://host/x'\ndigest = 'sha256:DIGEST'\ntoken_file = 'token'",
            "policy.bundle.token_file: whoever is on the way could read it",
        ),
        ("url = 'https://h/x'\ndigest = 'abc'", "policy.bundle.digest: must be sha256: and 64"),
        ("url = 'https://h/x'\nheader = 'A B'", "policy.bundle.header: 'A B' is no header name"),
        ("url = 'https://h/x'\npublic_key = 'no.pem'", "policy.bundle.public_key: "),
        ("url = 'https://h/x'\nca = 'no.pem'", "policy.bundle.ca: "),
        ("url = 'https://h/x'\npoll_s = 0", "policy.bundle.poll_s: must be a number from 0.1"),
    ],
)
def test_what_can_not_be_meant_is_refused(tmp_path: Path, text: str, said: str) -> None:
    """Before anything starts."""
    (told,) = faults(tmp_path, text.replace("DIGEST", "0" * 64))
    assert told.startswith(said)


@pytest.mark.parametrize(
    "text",
    [
        "url = 'https://host/policy.tar.gz?v=1'",
        "url = 'http://127.0.0.1:8080/policy.tar.gz'",
        "url = 'http://[::1]/policy.tar.gz'",
        "url = 'http://localhost/policy.tar.gz'\ntoken_file = 'token'",
        "url = 'http://host/policy.tar.gz'\npublic_key = 'key.pem'",
        "url = 'http://host/policy.tar.gz'\ndigest = 'sha256:DIGEST'",
    ],
)
def test_what_is_safe_is_taken(tmp_path: Path, text: str) -> None:
    """TLS, this machine, or a proof that needs neither."""
    (tmp_path / "key.pem").write_text(KEY)
    loaded(tmp_path, text.replace("DIGEST", "0" * 64))


def test_every_setting_reaches_the_source(tmp_path: Path) -> None:
    """By its name; a source of another name gets its own."""
    (tmp_path / "key.pem").write_text(KEY)
    settings = loaded(
        tmp_path,
        "url = 'https://host/x'\npublic_key = 'key.pem'\ntoken_file = 'token'\nheader = 'x-token'\n"
        "poll_s = 30\ntimeout_s = 3\nmax_bytes = 2048\nmax_unpacked_bytes = 4096\n"
        "allow_older = true\n",
    ).settings
    source = plugins.policy_source(settings)
    assert isinstance(source, BundleSource)
    assert source._config == Config(
        url="https://host/x",
        public_key=tmp_path / "key.pem",
        token_file=tmp_path / "token",
        header="x-token",
        poll_s=30,
        timeout_s=3,
        max_bytes=2048,
        max_unpacked_bytes=4096,
        allow_older=True,
        state_dir=settings.runtime.state_dir,
    )
    plain = config.load(None, {}).settings
    assert isinstance(plugins.policy_source(plain), FolderSource)
