"""Expiry, made visible: what is logged, measured and marked, and when."""

import asyncio
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from prometheus_client import REGISTRY

from ca.authority import Authority, Kind, Plan, State
from ca.expiry import Expiring
from ca.keys import PrivateKey
from meshwarden.control.identity.expiry_watch import ExpiryWatch
from meshwarden.control.identity.signing import make_signing
from meshwarden.expiry import ServingFile
from meshwarden.pem import certificates_pem
from tests.unit.ca.makings import DOMAIN, NOW, SECOND, authorities, certificate, signing

DAY = 86_400 * SECOND


class Current:
    """Authorities that are there, or not yet."""

    def __init__(self, plan: Plan | None) -> None:
        self.is_open = plan is not None
        self.signing = signing(plan) if plan else None


class World:
    """A watch and its time."""

    def __init__(self, folder: Path, plan: Plan | None) -> None:
        self.now_ns = NOW
        self.marker = folder / "expired"
        current: Any = Current(plan)
        self.watch = ExpiryWatch(current, self.marker, lambda: self.now_ns)

    def after(self, days: float) -> None:
        """Look, so many days after the start."""
        self.now_ns = NOW + int(days * DAY)
        self.watch.look()


def test_each_warning_is_given_once_and_the_end_as_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """At 30, 7 and 1 days; an hour later nothing is repeated."""
    world = World(tmp_path, Plan(DOMAIN, root_days=400, signer_days=400))
    caplog.set_level(logging.WARNING)

    def said() -> list[tuple[str, str]]:
        found = [(each.levelname, each.message) for each in caplog.records]
        caplog.clear()
        return [each for each in found if "root" in each[1]]

    for days, level, words in (
        (1, "", ""), (369, "", ""), (370.1, "WARNING", "expires in 29 d"), (380, "", ""),
        (393.1, "WARNING", "expires in 6 d"), (399.1, "WARNING", "expires in 21 h"),
        (399.5, "", ""), (400.1, "ERROR", "has expired"), (401, "", ""),
    ):  # fmt: skip
        world.after(days)
        found = said()
        assert [each[0] for each in found] == ([level] if level else []), days
        assert all(words in message for _, message in found)


def test_the_marker_is_there_while_something_has_expired(tmp_path: Path) -> None:
    """It names what; and is gone when something new is in use."""
    world = World(tmp_path, Plan(DOMAIN, root_days=9, signer_days=5))
    world.after(4.9)
    assert not world.marker.exists()
    world.after(5.1)
    text = world.marker.read_text()
    assert "the intermediate key" in text
    assert "the jwt key" in text
    assert "the root key" not in text
    world.after(1)
    assert not world.marker.exists()


def test_what_signs_here_is_watched_and_not_what_another_replica_signs_by(tmp_path: Path) -> None:
    """Each has files of its own, and goes on by them."""
    world = World(tmp_path, Plan(DOMAIN))
    (ours, keeper), (others, other) = (
        authorities(Plan(DOMAIN, signer_days=days)) for days in (5, 9)
    )
    signer = ours.active(Kind.INTERMEDIATE)
    assert signer is not None

    def key_of(each: Authority) -> PrivateKey:
        is_ours = ours.by_id(each.authority_id) is not None
        return (keeper if is_ours else other).get(each.authority_id, each.handle)

    stepped_back = replace(signer, state=State.TRUSTED)
    both = ours.after([stepped_back, *others.all])
    current: Any = world.watch._current
    current.signing = make_signing(both, key_of, 300, signer.authority_id)
    world.after(5.1)
    assert f"the intermediate key {signer.authority_id[:16]}" in world.marker.read_text()


def test_what_others_use_counts_as_well(tmp_path: Path) -> None:
    """Such as the serving certificate, before there is an authority at all."""
    world = World(tmp_path, None)
    world.watch.others.append(
        lambda: [Expiring("serving", "the serving certificate", NOW - DAY, NOW + DAY)]
    )
    world.after(0.5)
    assert not world.marker.exists()
    world.after(1.5)
    assert world.marker.read_text() == "the serving certificate has expired"


def test_a_certificate_of_files_is_told_of_by_who_has_read_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And of a chain its first end counts; a file that is replaced later is not what it serves."""
    made = signing(Plan(DOMAIN, root_days=90, signer_days=60)).authorities
    signer = made.active(Kind.INTERMEDIATE)
    assert signer is not None
    file = tmp_path / "server.pem"
    file.write_text(certificates_pem([each.certificate for each in made.chain(signer)]))
    watched = ServingFile(file)
    file.write_text("another one")
    for days, trouble, said in (
        (1, "", ""), (31, "", "expires in 29 d"), (32, "", ""), (59.5, "", "expires in 12 h"),
        (60.5, "has expired", "has expired"),
    ):  # fmt: skip
        caplog.clear()
        watched.look(NOW + int(days * DAY))
        assert (trouble in watched.trouble, bool(watched.trouble)) == (True, bool(trouble))
        assert (said in caplog.text, bool(caplog.text)) == (True, bool(said))
    kind = {"kind": "serving"}
    name = "meshwarden_certificate_not_after_timestamp_seconds"
    assert REGISTRY.get_sample_value(name, kind) == signer.not_after_ns / 1e9


def test_what_stands_above_a_certificate_of_files_turns_no_health_red(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An old root's signature of a newer one may end, and no client misses it; the log tells."""
    key = ec.generate_private_key(ec.SECP256R1())
    own, above, old = (
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, each)])
        for each in ("server", "root", "old root")
    )
    file = tmp_path / "server.pem"
    file.write_text(
        certificates_pem(
            [
                certificate(key, above, key, [], subject=own, end_ns=NOW + 9 * DAY),
                certificate(key, old, key, [], subject=above, end_ns=NOW + 2 * DAY),
                certificate(key, old, key, [], subject=old, end_ns=NOW + DAY),
            ]
        )
    )
    watched = ServingFile(file)
    watched.look(NOW + 3 * DAY)
    assert not watched.trouble
    assert caplog.text.count("has expired") == 1
    assert f"certificate 2 of {file}, has expired" in caplog.text
    kind = {"kind": "serving"}
    name = "meshwarden_certificate_not_after_timestamp_seconds"
    assert REGISTRY.get_sample_value(name, kind) == (NOW + 2 * DAY) / 1e9
    watched.look(NOW + 10 * DAY)
    assert f"{file}, has expired" in watched.trouble


def test_a_file_that_is_no_certificate_is_told_and_no_fault(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever serves by it says what is wrong."""
    watched = ServingFile(tmp_path / "nothing.pem")
    watched.look(NOW)
    assert not watched.trouble
    assert "is not known" in caplog.text


def test_it_looks_again_and_again(tmp_path: Path) -> None:
    """By itself."""
    world = World(tmp_path, Plan(DOMAIN, root_days=1, signer_days=1))
    world.watch._look_s = 0.01

    async def story() -> None:
        running = asyncio.ensure_future(world.watch.run())
        await asyncio.sleep(0.05)
        world.now_ns = NOW + 2 * DAY
        async with asyncio.timeout(5):
            while not world.marker.exists():
                await asyncio.sleep(0.01)
        running.cancel()

    asyncio.run(story())
