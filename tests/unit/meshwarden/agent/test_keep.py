"""What an agent keeps over a restart is whole, private, and never a reason not to start."""

import asyncio
import datetime as dt
import random
from pathlib import Path

import pytest

from ca.entries import WorkloadEntry
from ca.keys import KeyType, generate
from ca.selectors import Selector
from meshwarden import clock
from meshwarden.agent.identities import Identities
from meshwarden.agent.keep import Keep, OwnIdentity
from meshwarden.agent.renewer import Renewer, request_for_key
from meshwarden.agent.svids import Svid
from tests.e2e.support.certificates import CarelessAuthority
from tests.fakes.signer import FakeSigner

AGENT = "spiffe://td.example/meshwarden/agent/a/1"
WEB = WorkloadEntry(
    "web", "spiffe://td.example/web", (Selector("unix", "uid:7"),), 60, 30, ("web.example",), "h", 4
)


def signed() -> tuple[FakeSigner, list[Svid]]:
    """Have one identity signed."""
    signer = FakeSigner(clock.now_ns)
    identities = Identities(clock.now_ns, random.random)
    identities.set_entries([WEB])
    asyncio.run(Renewer(identities, signer, clock.now_ns)._have_signed(identities.due(5)))
    return signer, list(identities.svids.values())


def own(signer: FakeSigner) -> OwnIdentity:
    """Make an agent's own identity."""
    from ca.spiffe_id import parse  # noqa: PLC0415
    from meshwarden.agent.renewer import Order, Signed  # noqa: PLC0415

    key = generate(KeyType.EC_P256)
    order = Order("", request_for_key(key, parse(AGENT)), ())
    (made,) = asyncio.run(signer.sign([order]))
    assert isinstance(made, Signed)
    return OwnIdentity(AGENT, made.chain, key, made.not_after_ns)


def test_everything_comes_back_as_it_was(tmp_path: Path) -> None:
    """Own identity, bundles, entries, certificates and keys; each file is the owner's alone."""
    signer, svids = signed()
    keep, mine = Keep(tmp_path), own(signer)
    keep.save_identity(mine)
    keep.save_bundles([signer.bundle()])
    keep.save_known(AGENT, {"web": WEB}, svids)

    heir = Keep(tmp_path)
    back = heir.load_identity()
    assert back is not None
    assert (back.spiffe_id, back.chain, back.not_after_ns) == (
        mine.spiffe_id,
        mine.chain,
        mine.not_after_ns,
    )
    assert heir.load_bundles() == (signer.bundle(),)
    known = heir.load_known(AGENT)
    assert known is not None
    entries, restored = known
    assert entries == [WEB]
    (svid,) = restored
    assert (svid.claim, svid.chain, svid.key, svid.arrived_ns, svid.version) == (
        svids[0].claim,
        svids[0].chain,
        svids[0].key,
        svids[0].arrived_ns,
        4,
    )
    assert {each.stat().st_mode & 0o777 for each in tmp_path.iterdir()} == {0o600}


def test_what_belongs_to_another_agent_is_not_taken_up(tmp_path: Path) -> None:
    """An agent that attested as somebody new serves nothing of the one before."""
    _, svids = signed()
    keep = Keep(tmp_path)
    keep.save_known(AGENT, {"web": WEB}, svids)
    assert keep.load_known("spiffe://td.example/meshwarden/agent/a/2") is None
    keep.forget_known()
    assert keep.load_known(AGENT) is None
    keep.forget_known()


@pytest.mark.parametrize("text", [b"", b"rubbish", b"\x93\x01\x02", b"{}", b"\xff" * 100])
def test_what_can_not_be_read_is_as_good_as_not_there(
    tmp_path: Path, text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """The agent attests again, and says why; it does not fail to start."""
    for name in ("agent.pem", "bundles", "identities", "pending.pem"):
        (tmp_path / name).write_bytes(text)
    keep = Keep(tmp_path)
    assert keep.load_identity() is None
    assert keep.load_bundles() == ()
    assert keep.load_known(AGENT) is None
    assert "agent.pem is not used" in caplog.text


@pytest.mark.parametrize("uri", ["https://td.example/x", "spiffe://td.example/../x"])
def test_a_certificate_of_nobody_is_not_used(
    tmp_path: Path, uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A file of somebody else's in our place is told of, and keeps no agent from its start."""
    keep = Keep(tmp_path)
    made = CarelessAuthority(tmp_path / "x", dt.datetime.now(dt.UTC)).issue_odd("x", [uri])  # noqa: TID251 - dates of certificates
    keep.identity.write_bytes(made.certificate.read_bytes() + made.key.read_bytes())
    assert keep.load_identity() is None
    assert "agent.pem is not used" in caplog.text


def test_a_key_of_another_certificate_is_not_used(tmp_path: Path) -> None:
    """However the file came to be so."""
    signer, _ = signed()
    keep = Keep(tmp_path)
    keep.save_identity(own(signer))
    first = (tmp_path / "agent.pem").read_text()
    keep.save_identity(own(signer))
    second = (tmp_path / "agent.pem").read_text()
    mixed = (
        first.split("-----BEGIN PRIVATE")[0]
        + "-----BEGIN PRIVATE"
        + second.split("-----BEGIN PRIVATE")[1]
    )
    (tmp_path / "agent.pem").write_text(mixed)
    assert keep.load_identity() is None


def test_the_key_to_attest_with_is_the_same_until_it_is_used(tmp_path: Path) -> None:
    """A join token whose answer was lost is good for that key alone."""
    signer, _ = signed()
    keys = [Keep(tmp_path).pending_key(lambda: generate(KeyType.EC_P256)) for _ in range(2)]
    assert keys[0].private_numbers() == keys[1].private_numbers()  # type: ignore[union-attr]
    Keep(tmp_path).save_identity(own(signer))
    later = Keep(tmp_path).pending_key(lambda: generate(KeyType.EC_P256))
    assert later.private_numbers() != keys[0].private_numbers()  # type: ignore[union-attr]
