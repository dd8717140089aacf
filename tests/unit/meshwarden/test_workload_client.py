"""The client finds the endpoint as its standard says, and writes sets of files whole."""

import asyncio
import os
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
from meshwarden.workload_client import FetchedSvid, Update, target_of
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


def test_an_identity_is_chosen_by_id_or_hint() -> None:
    """The first one where nothing is said; a wrong choice names what there is."""
    svid, update = fetched(FakeSigner(clock.now_ns))
    assert update.choose("", "") is svid
    assert update.choose("spiffe://td.example/w", "h") is svid
    with pytest.raises(WorkloadApiError, match="there are: spiffe"):
        update.choose("", "other")
