"""An authority in files: read again as they change, until what they hold can be taken."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from ca.authority import Kind
from ca.errors import CertificateError, IdentityError, KeyNotOpenedError
from ca.profile import SECOND_NS
from meshwarden import clock
from meshwarden.control.identity.opening import Identity
from tests.e2e.authority.test_constraints import Chain, limits, strange

DAY_NS = 86_400 * SECOND_NS


@asynccontextmanager
async def running(chain: Chain, folder: Path) -> AsyncIterator[Identity]:
    """Open an issuer that follows files."""
    identity = chain.open(folder)
    await identity.issuer.start()
    following = asyncio.create_task(identity.issuer.run())
    try:
        yield identity
        assert not following.done(), following
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await identity.close()


def signer_of(identity: Identity) -> bytes:
    """The certificate that signs now."""
    signing = identity.issuer.current.signing
    authority = signing.authorities.by_id(signing.x509_authority_id)
    assert authority is not None
    return authority.certificate


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for it."""
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0.02)


def run(story: Awaitable[None]) -> None:
    """Run one story within a minute."""

    async def within_time() -> None:
        async with asyncio.timeout(60):
            await story

    asyncio.run(within_time())


def test_what_can_not_be_taken_yet_is_taken_when_it_can(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without another change of the files; why it waits is said once."""

    async def story() -> None:
        first = Chain(tmp_path)
        async with running(first, tmp_path) as identity:
            begin_ns = clock.now_ns() + 6 * SECOND_NS
            later = Chain(tmp_path, begin_ns=begin_ns)
            await until(lambda: "does not hold yet" in caplog.text)
            assert signer_of(identity) == first.own
            await until(lambda: signer_of(identity) == later.own)
            assert clock.now_ns() >= begin_ns // SECOND_NS * SECOND_NS
        assert caplog.text.count("was not taken") == 1

    run(story())


def test_files_that_change_before_anybody_looks_for_changes_are_read_again(tmp_path: Path) -> None:
    """As when the database took its time at the start."""

    async def story() -> None:
        identity = Chain(tmp_path).open(tmp_path)
        await identity.issuer.start()
        other = Chain(tmp_path)
        following = asyncio.create_task(identity.issuer.run())
        await until(lambda: signer_of(identity) == other.own)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await identity.close()

    run(story())


def test_an_authority_that_nobody_would_believe_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor do files that are gone, or no certificate; each is named."""

    async def story() -> None:
        first = Chain(tmp_path)
        names = limits([x509.UniformResourceIdentifier("other.example")])
        async with running(first, tmp_path) as identity:
            for words, change in (
                ("may not sign for spiffe://mesh.example", lambda: Chain(tmp_path, names)),
                ("certificate 2 of the chain has a critical extension",
                 lambda: Chain(tmp_path, above=strange(critical=True))),
                ("no PEM certificate in it", lambda: first.chain_file.write_text("nonsense")),
                ("can't be read: No such file", first.chain_file.unlink),
            ):  # fmt: skip
                caplog.clear()
                change()
                await until(lambda words=words: words in caplog.text)  # type: ignore[misc]
                assert f"identity.ca_chain: {first.chain_file}" in caplog.text
                assert signer_of(identity) == first.own
            caplog.set_level(logging.INFO)
            first.write()
            await until(lambda: "the authority in files is taken" in caplog.text)

    run(story())


def test_a_key_that_others_can_read_or_that_is_gone_is_refused(tmp_path: Path) -> None:
    """By the file that was read, not by one that has its name a moment later."""

    async def refusal() -> IdentityError:
        identity = chain.open(tmp_path)
        with pytest.raises(KeyNotOpenedError) as told:
            await identity.issuer.start()
        await identity.close()
        return told.value

    chain = Chain(tmp_path)
    chain.key_file.chmod(0o640)
    assert "is open to others" in str(asyncio.run(refusal()))
    chain.key_file.unlink()
    assert "can't be read: No such file" in str(asyncio.run(refusal()))


def test_a_key_that_is_not_the_certificates_is_refused_at_the_start_and_at_a_change(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Both files are named; whoever signed before goes on."""
    chain = Chain(tmp_path)
    right = chain.key
    chain.key = ec.generate_private_key(ec.SECP256R1())

    async def story() -> None:
        chain.write()
        identity = chain.open(tmp_path)
        words = rf"identity\.ca_key: {chain.key_file} is not the key .* in {chain.chain_file}"
        with pytest.raises(CertificateError, match=words):
            await identity.issuer.start()
        await identity.close()
        wrong, chain.key = chain.key, right
        chain.write()
        async with running(chain, tmp_path) as identity:
            chain.key = wrong
            chain.write()
            await until(lambda: "is not the key of the first certificate" in caplog.text)
            assert signer_of(identity) == chain.own

    run(story())


def test_an_authority_that_never_ends_signs(tmp_path: Path) -> None:
    """RFC 5280 section 4.1.2.5 has the year 9999 for that."""
    never = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    chain = Chain(tmp_path, end_ns=int(never.timestamp()) * SECOND_NS)

    async def story() -> None:
        async with running(chain, tmp_path) as identity:
            found = identity.issuer.current.signing.authorities.active(Kind.INTERMEDIATE)
            assert found is not None
            assert found.certificate == chain.own
            assert found.not_after_ns > clock.now_ns() + 200 * 365 * DAY_NS

    run(story())


def test_a_chain_that_has_expired_names_its_file(tmp_path: Path) -> None:
    """So that who reads it knows which to replace."""
    chain = Chain(tmp_path, begin_ns=clock.now_ns() - DAY_NS, end_ns=clock.now_ns() - SECOND_NS)

    async def story() -> None:
        identity = chain.open(tmp_path)
        with pytest.raises(CertificateError, match="has expired") as told:
            await identity.issuer.start()
        assert str(chain.chain_file) in str(told.value)
        await identity.close()

    run(story())
