"""What settings of [identity] are refused, each by its key."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from meshwarden.identity_checks import identity_faults
from meshwarden.settings import Identity, Runtime, Settings, Store

KEY = Path("/etc/meshwarden/sealing.key")


def faults(url: str = "", **changes: Any) -> dict[str, str]:
    """Blamed key to message."""
    own = replace(Identity(trust_domain="mesh.example", key_file=KEY), **changes)
    runtime = Runtime(state_dir=Path("/var/lib/meshwarden"), runtime_dir=Path("/run/meshwarden"))
    settings = Settings(runtime=runtime, identity=own, store=Store(url=url))
    return {keys[0]: message for keys, message in identity_faults(settings)}


def test_sound_settings_have_no_fault() -> None:
    """Nor do any, while nothing is issued."""
    assert not faults()
    assert not faults(trust_domain="", ca="files", keeper="nonsense")


@pytest.mark.parametrize("name", ["Mesh.example", "mesh/example", "a b", "mesh:80", "x" * 256])
def test_a_trust_domain_is_the_standards(name: str) -> None:
    """SPIFFE-ID section 2.1."""
    assert "is no trust domain" in faults(trust_domain=name)["identity.trust_domain"]


def test_files_come_together_and_only_where_they_are_read() -> None:
    """Whoever names one means something by it."""
    assert set(faults(ca="files")) == {"identity.ca_chain", "identity.ca_key"}
    assert "reads no file" in faults(ca_chain=Path("/x"))["identity.ca_chain"]
    assert not faults(ca="files", ca_chain=Path("/x"), ca_key=Path("/y"))


def test_what_opens_the_keys_lies_away_from_them() -> None:
    """A copy of the state folder is no copy of the authority."""
    inside = Path("/var/lib/meshwarden/x")
    assert "state folder" in faults(key_file=inside)["identity.key_file"]
    assert "state folder" in faults(passphrase_file=inside)["identity.passphrase_file"]
    assert not faults(key_file=inside, keeper="memory")
    around = Path("/var/lib/other/../meshwarden/x")
    assert "state folder" in faults(key_file=around)["identity.key_file"]


def test_a_link_into_the_state_folder_is_no_way_away_from_it(tmp_path: Path) -> None:
    """Nor is one that lies there and leads elsewhere: who copies the folder may follow it."""
    (tmp_path / "etc").symlink_to("/var/lib/meshwarden")
    assert "state folder" in faults(key_file=tmp_path / "etc" / "x")["identity.key_file"]
    assert not faults(key_file=tmp_path / "x")


def test_keys_in_memory_are_for_one_process() -> None:
    """And for authorities that can be made again."""
    assert "store.url" in faults("postgresql://x/y", keeper="memory")["identity.keeper"]
    assert "restart" in faults(keeper="memory", ca="offline")["identity.keeper"]
    assert "there are: memory, sealed" in faults(keeper="vault")["identity.keeper"]


def test_a_default_within_its_maximum() -> None:
    """Both keys are named."""
    assert "max_x509_ttl_s" in faults(x509_ttl_s=10, max_x509_ttl_s=9)["identity.x509_ttl_s"]
    assert "max_jwt_ttl_s" in faults(jwt_ttl_s=10, max_jwt_ttl_s=9)["identity.jwt_ttl_s"]
