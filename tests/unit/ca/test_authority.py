"""Authorities: what a first start makes, and what it refuses to make."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from adapters.keepers.memory import Config, MemoryKeeper
from adapters.keepers.sealed import Config as SealedConfig
from adapters.keepers.sealed import SealedKeeper
from ca.authority import Authorities, Authority, Kind, Plan, State, first_plan
from ca.bundle import Bundle, from_spiffe
from ca.errors import CertificateError, ConflictingAuthorityError, KeyNotOpenedError
from ca.intermediate import authorities_of_chain, imported, request_for, waiting_key
from ca.keeper import KeyKeeper
from ca.keys import KeyType, PrivateKey, generate
from ca.profile import validity
from ca.verify import VerifiedChain
from ca.x509 import AuthorityProfile, Signer, sign_authority
from tests.unit.ca.makings import DOMAIN, NOW, SECOND, Randomness, authorities, signing

DAY = 86_400 * SECOND


class LastingKeeper(MemoryKeeper):
    """Keeps keys over a restart, unless it is told to lose them."""

    def __init__(self) -> None:
        super().__init__(Config())
        self.is_locked = False

    def get(self, key_id: str, handle: bytes) -> PrivateKey:  # noqa: D102 - the port's
        if self.is_locked:
            raise KeyNotOpenedError("identity.key_file does not open it")
        return super().get(key_id, handle)

    def has_lost(self, key_id: str, handle: bytes) -> bool:  # noqa: D102 - the port's
        del key_id, handle
        return False


def start(
    there: Authorities, keeper: KeyKeeper, plan: Plan | None = None, **more: Sequence[Authority]
) -> Authorities:
    """Start once more, on what there is."""
    changes = first_plan(plan or Plan(DOMAIN), there, keeper, NOW, Randomness(), **more)
    return there.after(changes)


def kinds(found: Authorities) -> list[tuple[str, str]]:
    """What there is, in short."""
    return [(each.kind.value, each.state.value) for each in found.all]


def test_a_first_start_makes_all_and_a_second_nothing() -> None:
    """A root that is believed, an intermediate, and keys for tokens and the ledger that sign."""
    keeper = LastingKeeper()
    made = start(Authorities(DOMAIN), keeper)
    assert kinds(made) == [
        ("root", "trusted"), ("intermediate", "active"), ("jwt", "active"), ("ledger", "active"),
    ]  # fmt: skip
    assert start(made, keeper) == made


def test_a_key_that_does_not_open_stops_everything() -> None:
    """Nothing new is made beside it, whichever key it is."""
    keeper = LastingKeeper()
    made = start(Authorities(DOMAIN), keeper)
    keeper.is_locked = True
    with pytest.raises(KeyNotOpenedError, match=r"identity\.key_file"):
        start(made, keeper)
    with pytest.raises(KeyNotOpenedError):
        start(replace(made, all=made.all[:1]), keeper)


def test_a_keeper_that_forgets_makes_new_ones_and_the_old_are_believed() -> None:
    """What they have signed holds until it ends."""
    old, _ = authorities()
    found = start(old, MemoryKeeper(Config()))
    assert [each for each in kinds(found) if each[1] == "active"] == [
        ("intermediate", "active"), ("jwt", "active"), ("ledger", "active"),
    ]  # fmt: skip
    assert len(found.bundle(1).x509_authorities) == 2
    assert len(found.bundle(1).jwt_keys) == 2
    assert found.all[1].state is State.TRUSTED
    assert found.all[3].state is State.RETIRED


def test_a_keeper_that_forgets_takes_no_other_ones_place(tmp_path: Path) -> None:
    """Its name is one word in the settings, and what it throws away is the mesh's identity."""
    sealed = SealedKeeper(SealedConfig(tmp_path / "key"))
    made = start(Authorities(DOMAIN), sealed)
    with pytest.raises(KeyNotOpenedError, match=r"identity\.keeper is 'memory'"):
        start(made, MemoryKeeper(Config()))
    assert start(made, sealed) == made


def test_a_keeper_that_forgets_has_its_keys_until_a_restart() -> None:
    """A look at files that have changed is none."""
    old, keeper = authorities()
    assert start(old, keeper) == old


def test_no_private_key_shows_in_what_is_printed() -> None:
    """Neither of an authority nor of what signs."""
    keeper = LastingKeeper()
    text = repr(start(Authorities(DOMAIN), keeper))
    assert "handle" not in text
    assert "PRIVATE" not in repr(signing()).upper()


def test_a_bundle_is_the_same_when_read_again() -> None:
    """The standard's own form; kid for tokens only, one certificate an entry."""
    bundle = replace(authorities()[0], sequence=7).bundle(300)
    text = bundle.to_spiffe()
    assert from_spiffe(DOMAIN, text) == bundle
    import json  # noqa: PLC0415

    document = json.loads(text)
    assert document["spiffe_sequence"] == 7
    assert document["spiffe_refresh_hint"] == 300
    roots = [key for key in document["keys"] if key["use"] == "x509-svid"]
    tokens = [key for key in document["keys"] if key["use"] == "jwt-svid"]
    assert all("kid" not in key and len(key["x5c"]) == 1 for key in roots)
    assert all(key["kid"] for key in tokens)
    assert len(roots) == len(tokens) == 1


@pytest.mark.parametrize("kind", KeyType)
def test_every_kind_of_root_has_a_place_in_a_bundle(kind: KeyType) -> None:
    """RFC 7518 for EC and RSA, RFC 8037 for Ed25519."""
    bundle = authorities(Plan(DOMAIN, key_type=kind))[0].bundle(1)
    assert from_spiffe(DOMAIN, bundle.to_spiffe()).x509_authorities == bundle.x509_authorities


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"{}", b'{"keys": 7}', b'{"keys": [{"use": "x509-svid", "x5c": ["%"]}]}',
     b'{"keys": [{"use": "x509-svid", "x5c": 7}]}', b'{"keys": [], "spiffe_sequence": "x"}'],
)  # fmt: skip
def test_what_is_no_bundle_is_refused(text: bytes) -> None:
    """A clear error of ours."""
    with pytest.raises(CertificateError, match="no SPIFFE bundle"):
        from_spiffe(DOMAIN, text)


def test_what_is_not_understood_in_a_bundle_is_passed_over() -> None:
    """Sections 4.1.3 and 4.2: other uses, and an entry without x5c."""
    text = b'{"keys": [{"use": "x"}, {"use": "x509-svid"}, {"kty": "RSA"}], "more": 1}'
    assert from_spiffe(DOMAIN, text) == Bundle(DOMAIN, (), b'{"keys":[]}', 0, 0)


class Offline:
    """A root that is kept elsewhere."""

    def __init__(self, days: int = 3650) -> None:
        self.key = generate(KeyType.EC_P256)
        self.times = validity(NOW, days * 86_400, ())
        profile = AuthorityProfile(DOMAIN, "root", 1)
        self.root = sign_authority(self.key, profile, self.key.public_key(), self.times, 1)

    def signed(self, csr: bytes) -> list[bytes]:
        """Sign a request; give the chain."""
        request = x509.load_der_x509_csr(csr)
        assert request.is_signature_valid
        key = request.public_key()
        profile = AuthorityProfile(DOMAIN, "intermediate", 0)
        signer = Signer(self.root, self.key)
        return [
            sign_authority(signer, profile, key, self.times, 2),  # type: ignore[arg-type]
            self.root,
        ]


OFFLINE = Plan(DOMAIN, source="offline")


def waiting(keeper: KeyKeeper, there: Authorities | None = None) -> tuple[Authorities, bytes]:
    """Ask for a certificate."""
    there = there or start(Authorities(DOMAIN), keeper, OFFLINE)
    there = there.after(waiting_key(there, KeyType.EC_P256, keeper, NOW))
    _, csr = request_for(there, lambda each: keeper.get(each.authority_id, each.handle))
    return there, csr


def test_an_offline_root_signs_what_was_asked_for() -> None:
    """Nothing signs before; the intermediate does after, below a root whose key is elsewhere."""
    keeper, offline = LastingKeeper(), Offline()
    there, csr = waiting(keeper)
    assert there.active(Kind.INTERMEDIATE) is None
    found = there.after(imported(there, offline.signed(csr), NOW))
    signer = found.active(Kind.INTERMEDIATE)
    assert signer is not None
    assert signer.handle
    assert [each.certificate for each in found.chain(signer)][-1] == offline.root
    assert found.bundle(1).x509_authorities == (offline.root,)
    assert start(found, keeper, OFFLINE) == found


def test_the_request_asks_for_an_authority_of_the_trust_domain() -> None:
    """What an operator sees before signing it."""
    _, csr = waiting(LastingKeeper())
    request = x509.load_der_x509_csr(csr)
    found = {each.oid._name: each.value for each in request.extensions}
    assert found["basicConstraints"] == x509.BasicConstraints(ca=True, path_length=0)
    assert [each.value for each in found["subjectAltName"]] == ["spiffe://mesh.example"]


def test_asked_again_it_is_the_same_key() -> None:
    """Until its certificate comes."""
    keeper = LastingKeeper()
    there, csr = waiting(keeper)
    again, other = waiting(keeper, there)
    assert again == there
    load = x509.load_der_x509_csr
    assert load(csr).public_key() == load(other).public_key()


def test_a_certificate_for_another_key_or_another_root_is_not_taken() -> None:
    """The first is somebody's mistake, the second a rotation."""
    keeper, offline = LastingKeeper(), Offline()
    there, csr = waiting(keeper)
    _, foreign = waiting(LastingKeeper())
    with pytest.raises(ConflictingAuthorityError, match="not for the key that waits"):
        imported(there, offline.signed(foreign), NOW)
    taken = there.after(imported(there, offline.signed(csr), NOW))
    once_more, csr = waiting(keeper, taken)
    with pytest.raises(ConflictingAuthorityError, match="another than the one that is trusted"):
        imported(once_more, Offline().signed(csr), NOW)
    renewed = once_more.after(imported(once_more, offline.signed(csr), NOW))
    assert [each.state.value for each in renewed.all if each.kind is Kind.INTERMEDIATE] == [
        "trusted", "active",
    ]  # fmt: skip


def test_a_chain_that_is_over_is_not_taken() -> None:
    """A root of yesterday signs nothing today."""
    offline = Offline(days=1)
    there, csr = waiting(LastingKeeper())
    with pytest.raises(CertificateError, match="expired"):
        imported(there, offline.signed(csr), NOW + 2 * DAY)


def test_files_take_the_place_of_what_signed_and_give_it_back() -> None:
    """Who goes from one source to another keeps believing what the other has signed."""
    keeper = LastingKeeper()
    own = start(Authorities(DOMAIN), keeper)
    forger = Offline()
    _, csr = waiting(LastingKeeper())
    chain = authorities_of_chain(DOMAIN, forger.signed(csr), NOW)
    plugged = start(own, keeper, Plan(DOMAIN, source="files"), plugged_in=chain)
    signer = plugged.active(Kind.INTERMEDIATE)
    assert signer is not None
    assert signer.certificate == chain[0].certificate
    assert not signer.handle
    assert len(plugged.bundle(1).x509_authorities) == 2
    again = start(plugged, keeper, Plan(DOMAIN, source="files"), plugged_in=chain)
    assert again == plugged
    back = start(plugged, keeper)
    signer = back.active(Kind.INTERMEDIATE)
    assert signer is not None
    assert signer.handle
    assert len(back.bundle(1).x509_authorities) == 3


def test_a_chain_made_by_openssls_defaults_is_read() -> None:
    """No SPIFFE ID in an authority is allowed; another's is not (section 3.2)."""
    key, below = generate(KeyType.RSA_2048), generate(KeyType.EC_P384)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Company")])
    root = _plain(key, name, key, name)
    below_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Company's mesh")])
    own = _plain(key, name, below, below_name)
    assert VerifiedChain([own, root], DOMAIN).not_after_ns
    found = authorities_of_chain(DOMAIN, [own, root], NOW)
    assert [each.key_type for each in found] == ["ec-p384", "rsa-2048"]


def _plain(signer: PrivateKey, issuer: x509.Name, key: PrivateKey, subject: x509.Name) -> bytes:
    from datetime import UTC, datetime, timedelta  # noqa: PLC0415

    now = datetime.fromtimestamp(NOW // SECOND, UTC)
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=True, crl_sign=True,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    built = (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=9))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return built.sign(signer, hashes.SHA256()).public_bytes(Encoding.DER)  # type: ignore[arg-type]
