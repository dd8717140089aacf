"""The client finds the endpoint as its standard says, and writes sets of files whole."""

import asyncio
import os
import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ca.keys import KeyType, generate, private_der
from ca.spiffe_id import parse
from meshwarden import clock
from meshwarden.agent.renewer import Order, Signed, request_for_key
from meshwarden.credential_folder import CredentialFolderError, write_credentials
from meshwarden.errors import WorkloadApiError
from meshwarden.workload_client import FetchedSvid, Update, _update, target_of
from protos.spiffe.workload import workload_pb2 as pb
from tests.fakes.signer import FakeSigner


@pytest.mark.parametrize(
    ("endpoint", "target"),
    [
        ("unix:///run/api.sock", "unix:/run/api.sock"),
        ("unix:/run/api.sock", "unix:/run/api.sock"),
        ("/run/api.sock", "unix:/run/api.sock"),
        ("unix:///a%20b", "unix:/a b"),
        ("tcp://127.0.0.1:8000", "127.0.0.1:8000"),
        ("tcp://[::1]:8000", "[::1]:8000"),
    ],
)
def test_an_endpoint_is_what_the_standard_says(endpoint: str, target: str) -> None:
    """Workload Endpoint section 4."""
    assert target_of(endpoint) == target


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "run/api.sock",
        "unix://host/run/api.sock",
        "unix:run",
        "unix:///a?b",
        "unix:///a#b",
        "tcp://localhost:8000",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:8000/x",
        "tcp://127.0.0.1:99999",
        "http://127.0.0.1:80",
    ],
)
def test_anything_else_is_refused(endpoint: str) -> None:
    """Before anybody is connected to."""
    with pytest.raises(WorkloadApiError) as caught:
        target_of(endpoint)
    assert caught.value.code == "INVALID_ARGUMENT"


def fetched(signer: FakeSigner) -> tuple[FetchedSvid, Update]:
    """Make what a Workload API would give."""
    key = generate(KeyType.EC_P256)
    order = Order("", request_for_key(key, parse("spiffe://td.example/w")), ())
    (made,) = asyncio.run(signer.sign([order]))
    assert isinstance(made, Signed)
    leaf = x509.load_der_x509_certificate(made.chain[0])
    svid = FetchedSvid(
        "spiffe://td.example/w", "h", made.chain, private_der(key), f"{leaf.serial_number:032x}",
        made.not_after_ns,
    )  # fmt: skip
    return svid, Update((svid,), {"td.example": signer.bundle().x509_authorities})


def test_a_set_is_replaced_by_one_link(tmp_path: Path) -> None:
    """Key and certificate in a folder always belong together, and nothing older is left."""
    signer, folder = FakeSigner(clock.now_ns), tmp_path / "id"
    targets = set()
    for _ in range(3):
        svid, update = fetched(signer)
        write_credentials(folder, svid, update)
        targets.add(os.readlink(folder / "..data"))  # noqa: PTH115 - the link itself
        key = load_pem_private_key((folder / "svid.key").read_bytes(), None)
        chain = x509.load_pem_x509_certificates((folder / "svid.pem").read_bytes())
        assert chain[0].public_key() == key.public_key()
        both = (folder / "credential-bundle.private-key.pem").read_text()
        assert both == (folder / "svid.key").read_text() + (folder / "svid.pem").read_text()
    assert len(targets) == 3
    # The last set stays for who has just gone through the link.
    assert len([each for each in folder.iterdir() if each.is_dir() and not each.is_symlink()]) == 2
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_bundle_that_is_no_more_goes(tmp_path: Path) -> None:
    """Filesystem Delivery section 2.2: one file for each trust domain there is."""
    signer = FakeSigner(clock.now_ns)
    svid, update = fetched(signer)
    both = Update(update.svids, {**update.bundles, "other.example": update.bundles["td.example"]})
    write_credentials(tmp_path, svid, both)
    other = tmp_path / "other.example.spiffe-trust-bundle.pem"
    assert other.exists()
    svid, update = fetched(signer)
    write_credentials(tmp_path, svid, update)
    assert not other.is_symlink()


def test_files_of_somebody_else_are_not_overwritten(tmp_path: Path) -> None:
    """Nothing is written then."""
    (tmp_path / "svid.pem").write_text("mine")
    svid, update = fetched(FakeSigner(clock.now_ns))
    with pytest.raises(CredentialFolderError, match="not ours"):
        write_credentials(tmp_path, svid, update)
    assert [each.name for each in tmp_path.iterdir()] == ["svid.pem"]


def test_a_link_of_somebody_else_is_neither_used_nor_removed(tmp_path: Path) -> None:
    """A key of elsewhere beside our certificate would be another's, for ever."""
    svid, update = fetched(FakeSigner(clock.now_ns))
    (tmp_path / "theirs").symlink_to("nowhere")
    write_credentials(tmp_path, svid, update)
    assert (tmp_path / "theirs").is_symlink()
    (tmp_path / "svid.key").unlink()
    (tmp_path / "svid.key").symlink_to("/etc/hostname")
    with pytest.raises(CredentialFolderError, match="not ours"):
        write_credentials(tmp_path, svid, update)
    assert os.readlink(tmp_path / "svid.key") == "/etc/hostname"  # noqa: PTH115 - the link itself


def test_two_who_write_to_one_folder_take_nothing_from_each_other(tmp_path: Path) -> None:
    """Neither takes the other's set away before that is in place: a key is always there."""
    sets = [fetched(FakeSigner(clock.now_ns)) for _ in range(2)]

    def write(number: int) -> None:
        for _ in range(40):
            write_credentials(tmp_path, *sets[number])
            assert b"PRIVATE KEY" in (tmp_path / "svid.key").read_bytes()

    with ThreadPoolExecutor() as threads:
        list(threads.map(write, range(2)))


def test_a_folder_without_room_holds_no_half_set(tmp_path: Path) -> None:
    """What was there is there still; nothing of the new set stays on a disk that is full."""
    signer = FakeSigner(clock.now_ns)
    write_credentials(tmp_path, *fetched(signer))
    before = sorted(tmp_path.iterdir()), (tmp_path / "svid.key").read_bytes()
    svid, update = fetched(signer)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, hard))  # As good as a full disk.
    try:
        with pytest.raises(OSError, match="too large"):
            write_credentials(tmp_path, svid, update)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (sorted(tmp_path.iterdir()), (tmp_path / "svid.key").read_bytes()) == before


@pytest.mark.parametrize("name", ["spiffe://../../x", "spiffe://a/b", "../x", "spiffe://"])
def test_a_bundle_of_no_trust_domain_is_not_taken(name: str) -> None:
    """Its file would be anywhere."""
    svid, update = fetched(FakeSigner(clock.now_ns))
    (root,) = update.bundles["td.example"]
    reply = pb.X509SVIDResponse(
        svids=[message(svid, root)],
        federated_bundles={"spiffe://other.example": root},
    )
    assert list(_update(reply).bundles) == ["td.example", "other.example"]
    reply.federated_bundles[name] = root
    with pytest.raises(ValueError, match=r".+"):
        _update(reply)


def test_a_key_that_is_not_the_certificates_is_not_taken() -> None:
    """Whoever mixed them up."""
    svid, update = fetched(FakeSigner(clock.now_ns))
    (root,) = update.bundles["td.example"]
    mixed = message(svid, root)
    mixed.x509_svid_key = private_der(generate(KeyType.EC_P256))
    with pytest.raises(ValueError, match="not its certificate's"):
        _update(pb.X509SVIDResponse(svids=[mixed]))


def message(svid: FetchedSvid, root: bytes) -> pb.X509SVID:
    """Write an SVID as a Workload API does."""
    return pb.X509SVID(
        spiffe_id=svid.spiffe_id,
        x509_svid=b"".join(svid.chain),
        x509_svid_key=svid.key,
        bundle=root,
    )


def test_an_identity_is_chosen_by_id_or_hint() -> None:
    """The first one where nothing is said; a wrong choice names what there is."""
    svid, update = fetched(FakeSigner(clock.now_ns))
    assert update.choose("", "") is svid
    assert update.choose("spiffe://td.example/w", "h") is svid
    with pytest.raises(WorkloadApiError, match="there are: spiffe"):
        update.choose("", "other")
