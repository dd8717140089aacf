"""The Workload API as its standard has it, over a real socket and gRPC."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_private_key
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from ca.der import split_der
from ca.selectors import Selector
from meshwarden import clock
from meshwarden.agent import workload_api
from meshwarden.agent.tokens import SignedToken
from protos.envoy.service.discovery.v3.discovery_pb2 import DiscoveryResponse
from protos.envoy.service.secret.v3.sds_pb2_grpc import SecretDiscoveryServiceStub
from protos.spiffe.workload import workload_pb2 as pb
from protos.spiffe.workload import workload_pb2_grpc
from tests.fakes.endpoint import HEADER, Endpoint, endpoint, own_entry
from tests.fakes.signer import FakeSigner
from tests.unit.meshwarden.sds.test_streams import ask

Stub = workload_pb2_grpc.SpiffeWorkloadAPIStub


def run(
    short: Path,
    test: Callable[[Endpoint], Awaitable[None]],
    ttl_s: float = 3600,
    tokens_per_s: float = 10,
    identities_per_s: float = 1,
) -> None:
    """Run a test on an endpoint of its own."""

    async def in_loop() -> None:
        made = endpoint(short, ttl_s, tokens_per_s=tokens_per_s, identities_per_s=identities_per_s)
        async with asyncio.timeout(30), made as served:
            await test(served)

    asyncio.run(in_loop())


async def refused(call: Awaitable[object]) -> tuple[str, str]:
    """Await a call that must fail; give code and message."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code().name, caught.value.details() or ""


def test_an_svid_comes_with_its_key_chain_and_bundle(short: Path) -> None:
    """Section 5.2.1: all DER, the leaf first, PKCS#8."""

    async def story(served: Endpoint) -> None:
        served.know(own_entry(hint="main"))
        async with served.channel() as channel:
            reply = await Stub(channel).FetchX509SVID(pb.X509SVIDRequest(), metadata=HEADER).read()
        (svid,) = reply.svids
        assert (svid.spiffe_id, svid.hint) == ("spiffe://td.example/web", "main")
        (leaf,) = map(x509.load_der_x509_certificate, split_der(svid.x509_svid, 5))
        assert leaf.public_key() == load_der_private_key(svid.x509_svid_key, None).public_key()
        (root,) = map(x509.load_der_x509_certificate, split_der(svid.bundle, 5))
        leaf.verify_directly_issued_by(root)
        assert not reply.federated_bundles

    run(short, story)


@pytest.mark.parametrize(
    "metadata",
    [(), (("workload.spiffe.io", "True"),), (("workload.spiffe.io", ""),), (("spiffe", "true"),)],
)
@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("FetchX509SVID", pb.X509SVIDRequest()),
        ("FetchX509Bundles", pb.X509BundlesRequest()),
        ("FetchJWTSVID", pb.JWTSVIDRequest(audience=["a"])),
        ("FetchJWTBundles", pb.JWTBundlesRequest()),
        ("ValidateJWTSVID", pb.ValidateJWTSVIDRequest(audience="a", svid="x")),
    ],
)
def test_without_the_security_header_nothing_is_told(
    short: Path, method: str, request_: object, metadata: tuple[tuple[str, str], ...]
) -> None:
    """Workload Endpoint sections 3 and 6: INVALID_ARGUMENT, so that no client tries again."""

    async def story(served: Endpoint) -> None:
        served.know(own_entry())
        async with served.channel() as channel:
            call = getattr(Stub(channel), method)(request_, metadata=metadata)
            code, message = await refused(call.read() if hasattr(call, "read") else call)
        assert code == "INVALID_ARGUMENT"
        assert "workload.spiffe.io" in message

    run(short, story)


def test_whoever_comes_around_the_relay_is_nobody(short: Path) -> None:
    """Its peer is not known, whatever it sends."""

    async def story(served: Endpoint) -> None:
        served.know(own_entry())
        async with served.channel(served.inner) as channel:
            call = Stub(channel).FetchX509SVID(pb.X509SVIDRequest(), metadata=HEADER)
            code, _ = await refused(call.read())
        assert code == "PERMISSION_DENIED"

    run(short, story)


def test_no_identity_says_why(short: Path) -> None:
    """What was found, what the nearest entry lacks, and what could not be found out."""

    async def story(served: Endpoint) -> None:
        entry = own_entry()
        served.know(replace(entry, selectors=(*entry.selectors, Selector("unix", "path:/no"))))
        async with served.channel() as channel:
            stub = Stub(channel)
            calls = [
                stub.FetchX509SVID(pb.X509SVIDRequest(), metadata=HEADER).read(),
                stub.FetchX509Bundles(pb.X509BundlesRequest(), metadata=HEADER).read(),
                stub.FetchJWTBundles(pb.JWTBundlesRequest(), metadata=HEADER).read(),
                stub.FetchJWTSVID(pb.JWTSVIDRequest(audience=["a"]), metadata=HEADER),
                stub.ValidateJWTSVID(
                    pb.ValidateJWTSVIDRequest(audience="a", svid="x"), metadata=HEADER
                ),
            ]
            for call in calls:
                code, message = await refused(call)
                assert code == "PERMISSION_DENIED"
                assert message.startswith("no identity issued: selectors found: ")
                assert f"unix:uid:{os.getuid()}" in message
                assert "spiffe://td.example/web (entry web): not found: unix:path:/no" in message

    run(short, story)


def test_who_asks_without_end_does_not_fill_the_log(
    short: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """He is answered each time; the first times are in the log."""
    caplog.set_level("INFO", "meshwarden.agent.workload_api")

    async def story(served: Endpoint) -> None:
        served.know(replace(own_entry(), selectors=(Selector("unix", "path:/no"),)))
        async with served.channel() as channel:
            stub = Stub(channel)
            for _ in range(60):
                call = stub.FetchX509SVID(pb.X509SVIDRequest(), metadata=HEADER)
                assert (await refused(call.read()))[0] == "PERMISSION_DENIED"

    run(short, story)
    assert 20 <= len([each for each in caplog.messages if "no identity issued" in each]) < 60


def test_before_entries_are_known_a_caller_waits_and_is_told_to_come_again(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Section 6 of the endpoint: UNAVAILABLE while initialising; never a wrong refusal."""
    monkeypatch.setattr(workload_api, "_PATIENCE_S", 0.3)

    async def story(served: Endpoint) -> None:
        async with served.channel() as channel:
            stub = Stub(channel)
            call = stub.FetchX509SVID(pb.X509SVIDRequest(), metadata=HEADER)
            assert await refused(call.read()) == ("UNAVAILABLE", "no server yet")
            call = stub.FetchJWTSVID(pb.JWTSVIDRequest(audience=["a"]), metadata=HEADER)
            assert await refused(call) == ("UNAVAILABLE", "no server yet")

    run(short, story)


def test_renewals_and_entry_changes_are_pushed_whole(short: Path) -> None:
    """Section 4.3: each message is all that holds now."""

    async def story(served: Endpoint) -> None:
        served.know(own_entry())
        async with served.channel() as channel:
            call = Stub(channel).FetchX509SVID(pb.X509SVIDRequest(), metadata=HEADER)
            first = await call.read()
            second = await call.read()  # Renewed around half of 4 s.
            assert first.svids[0].x509_svid != second.svids[0].x509_svid
            assert first.svids[0].x509_svid_key != second.svids[0].x509_svid_key
            served.know(own_entry(), own_entry("zoo"))
            while len((await call.read()).svids) == 1:
                pass
            served.know()

            async def to_the_end() -> None:
                while True:
                    await call.read()

            code, _ = await refused(to_the_end())
            assert code == "PERMISSION_DENIED"

    run(short, story, ttl_s=4)


def test_a_stream_goes_on_through_an_outage(short: Path) -> None:
    """Nothing is sent, nothing ends; what there was is served to newcomers."""

    async def story(served: Endpoint) -> None:
        served.know(own_entry())
        async with served.channel() as channel:
            call = Stub(channel).FetchX509SVID(pb.X509SVIDRequest(), metadata=HEADER)
            first = await call.read()
            served.signer.is_down = True
            late = Stub(channel).FetchX509SVID(pb.X509SVIDRequest(), metadata=HEADER)
            assert (await late.read()).svids[0].x509_svid == first.svids[0].x509_svid
            waiting = asyncio.ensure_future(call.read())
            done, _ = await asyncio.wait({waiting}, timeout=5)
            assert not done
            served.signer.is_down = False
            served.identities.retry_now()
            assert (await waiting).svids[0].x509_svid != first.svids[0].x509_svid

    run(short, story, ttl_s=4)


def test_bundles_are_keyed_by_trust_domain_and_pushed_on_change(short: Path) -> None:
    """Sections 5.2.2 and 6.2.2, whole each time; the JWK set has keys of JWT-SVIDs only. A renewal
    of the caller's certificate is no change of a bundle, nor is one of tokens' keys for X.509.
    """

    async def story(served: Endpoint) -> None:
        served.know(own_entry())
        own = served.signer.bundle()
        other = replace(own, trust_domain="other.example", x509_authorities=(b"two", b"roots"))
        async with served.channel() as channel:
            stub = Stub(channel)
            of_x509 = stub.FetchX509Bundles(pb.X509BundlesRequest(), metadata=HEADER)
            of_jwt = stub.FetchJWTBundles(pb.JWTBundlesRequest(), metadata=HEADER)
            of_svid = stub.FetchX509SVID(pb.X509SVIDRequest(), metadata=HEADER)
            (root,) = own.x509_authorities
            assert dict((await of_x509.read()).bundles) == {"spiffe://td.example": root}
            assert dict((await of_jwt.read()).bundles) == {"spiffe://td.example": own.jwks}
            assert b'"use":"jwt-svid"' in own.jwks
            first = await of_svid.read()
            assert (await of_svid.read()).svids[0].x509_svid != first.svids[0].x509_svid
            served.identities.set_bundles((replace(own, jwks=b'{"keys":[]}', sequence=2),))
            assert dict((await of_jwt.read()).bundles) == {"spiffe://td.example": b'{"keys":[]}'}
            served.identities.set_bundles((served.signer.bundle(3), other))
            assert dict((await of_x509.read()).bundles) == {
                "spiffe://td.example": root,
                "spiffe://other.example": b"tworoots",
            }
            assert (await of_jwt.read()).bundles.keys() == {
                "spiffe://td.example",
                "spiffe://other.example",
            }
            reply = await stub.FetchX509SVID(pb.X509SVIDRequest(), metadata=HEADER).read()
            assert reply.svids[0].bundle == root
            assert dict(reply.federated_bundles) == {"spiffe://other.example": b"tworoots"}
            assert not reply.crl

    run(short, story, ttl_s=4)


def test_the_first_of_several_identities_is_that_of_the_oldest_entry(short: Path) -> None:
    """Section 5.3: the first is the default one; and the hint of two is the first one's."""

    async def story(served: Endpoint) -> None:
        served.know(own_entry("b", hint="x"), own_entry("c"), own_entry("a", hint="x"))
        async with served.channel() as channel:
            reply = await Stub(channel).FetchX509SVID(pb.X509SVIDRequest(), metadata=HEADER).read()
        assert [(each.spiffe_id, each.hint) for each in reply.svids] == [
            ("spiffe://td.example/a", "x"),
            ("spiffe://td.example/b", ""),
            ("spiffe://td.example/c", ""),
        ]

    run(short, story)


def test_tokens_are_for_all_identities_or_for_one(short: Path) -> None:
    """Section 6.2.1; somebody else's identity is refused with the caller's own named."""

    async def story(served: Endpoint) -> None:
        served.know(own_entry(hint="x"), own_entry("zoo", hint="x"))
        async with served.channel() as channel:
            stub = Stub(channel)
            reply = await stub.FetchJWTSVID(pb.JWTSVIDRequest(audience=["a"]), metadata=HEADER)
            assert [(each.spiffe_id, each.hint) for each in reply.svids] == [
                ("spiffe://td.example/web", "x"),
                ("spiffe://td.example/zoo", ""),
            ]
            request = pb.JWTSVIDRequest(audience=["a"], spiffe_id="spiffe://td.example/zoo")
            reply = await stub.FetchJWTSVID(request, metadata=HEADER)
            assert [each.spiffe_id for each in reply.svids] == ["spiffe://td.example/zoo"]
            for spiffe_id, expected in (
                ("spiffe://td.example/admin", "PERMISSION_DENIED"),
                ("admin", "INVALID_ARGUMENT"),
            ):
                request = pb.JWTSVIDRequest(audience=["a"], spiffe_id=spiffe_id)
                code, _ = await refused(stub.FetchJWTSVID(request, metadata=HEADER))
                assert code == expected
            for audiences in (
                [], [""], ["a\n"], ["a" * 1025], [str(number) for number in range(17)],
            ):  # fmt: skip
                request = pb.JWTSVIDRequest(audience=audiences)
                code, _ = await refused(stub.FetchJWTSVID(request, metadata=HEADER))
                assert code == "INVALID_ARGUMENT"

    run(short, story)


def test_too_many_tokens_are_refused_until_a_time_that_is_told(
    short: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """RESOURCE_EXHAUSTED, by identity; what is kept is given on, certificates are, too."""
    caplog.set_level("INFO", "meshwarden.agent.workload_api")

    async def story(served: Endpoint) -> None:
        served.know(own_entry(), own_entry("zoo"))
        async with served.channel() as channel:
            stub = Stub(channel)

            async def token(audience: str, name: str = "web") -> pb.JWTSVIDResponse:
                spiffe_id = f"spiffe://td.example/{name}"
                request = pb.JWTSVIDRequest(audience=[audience], spiffe_id=spiffe_id)
                return await stub.FetchJWTSVID(request, metadata=HEADER)

            first = await token("a")
            for number in range(50):
                code, message = await refused(token(str(number)))
                assert code == "RESOURCE_EXHAUSTED"
            assert message.startswith("spiffe://td.example/web has had too many tokens signed")
            assert "try again in 1000.0 s" in message or "try again in 999." in message
            assert await token("a") == first
            assert (await token("a", "zoo")).svids
            call = stub.FetchX509SVID(pb.X509SVIDRequest(), metadata=HEADER)
            assert len((await call.read()).svids) == 2

    run(short, story, tokens_per_s=0.001)
    said = [each for each in caplog.messages if "too many tokens" in each]
    assert 20 <= len(said) < 50
    assert f"pid {os.getpid()} of user {os.getuid()}: " in said[0]


def test_an_envoy_that_refuses_without_end_does_not_fill_the_log(
    short: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever can connect can say that he is one; it is said who it was, in his words."""

    async def story(served: Endpoint) -> None:
        served.know(own_entry())
        async with served.channel() as channel:
            call = SecretDiscoveryServiceStub(channel).StreamSecrets()
            await call.write(ask("default"))
            for _ in range(200):
                reply = await call.read()
                assert isinstance(reply, DiscoveryResponse)
                await call.write(ask("default", nonce=reply.nonce, refused="no\nsuch key"))
                # The same once more asks for it anew.
                await call.write(ask("default", nonce=reply.nonce))

    run(short, story)
    said = [each for each in caplog.messages if r"an Envoy refused default: no\nsuch key" in each]
    assert 20 <= len(said) < 50
    assert said[0].startswith(f"pid {os.getpid()} of user {os.getuid()}: ")


PROGRAM = """
import sys
import grpc
from protos.spiffe.workload import workload_pb2 as pb, workload_pb2_grpc

options = (("grpc.default_authority", "localhost"),)
with grpc.insecure_channel(f"unix:{sys.argv[1]}", options=options) as channel:
    stub = workload_pb2_grpc.SpiffeWorkloadAPIStub(channel)
    call = stub.FetchX509SVID(pb.X509SVIDRequest(), metadata=(("workload.spiffe.io", "true"),))
    try:
        print(next(call).svids[0].spiffe_id)
    except grpc.RpcError as error:
        print(error.code().name, error.details())
"""


def test_a_user_who_makes_up_identities_has_few_of_them_signed(
    short: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A template takes the hash of a program, and he may write any: RESOURCE_EXHAUSTED, and when
    to come again. What is there already is given on.
    """
    caplog.set_level("INFO", "meshwarden.agent.workload_api")

    async def fetched(served: Endpoint, name: str) -> str:
        """What a program of another hash gets: this interpreter, and some bytes after it."""
        program = short / name
        if not program.exists():
            program.write_bytes(Path(sys.executable).resolve().read_bytes() + name.encode())
            program.chmod(0o700)
        environment = {"PYTHONHOME": sys.base_prefix, "PYTHONPATH": os.pathsep.join(sys.path)}
        child = await asyncio.create_subprocess_exec(
            program, "-c", PROGRAM, served.socket,
            stdout=asyncio.subprocess.PIPE, env={**os.environ, **environment},
        )  # fmt: skip
        said, _ = await child.communicate()
        return said.decode().strip()

    async def story(served: Endpoint) -> None:
        served.know(replace(own_entry(), spiffe_id="spiffe://td.example/{{unix.sha256}}"))
        first = await fetched(served, "a")
        assert first.startswith("spiffe://td.example/")
        why = await fetched(served, "b")
        assert why.startswith("RESOURCE_EXHAUSTED processes of user")
        assert "too many new identities: try again in " in why
        assert await fetched(served, "a") == first
        assert len(served.identities.svids) == 1
        assert served.api.refusals["too_many_identities"] == 1

    run(short, story, identities_per_s=0.001)
    (said,) = [each for each in caplog.messages if "too many new identities" in each]
    assert f"of user {os.getuid()}: " in said


def test_a_user_has_so_many_calls_open_and_no_more(short: Path) -> None:
    """Of all services together: a stream of reflection asks for no identity, and holds memory."""

    async def story(served: Endpoint) -> None:
        served.know(own_entry())
        async with served.channel() as channel:
            stub, mirror = Stub(channel), ServerReflectionStub(channel)
            calls: list[Any] = [
                stub.FetchX509SVID(pb.X509SVIDRequest(), metadata=HEADER) for _ in range(4)
            ]
            calls += [mirror.ServerReflectionInfo() for _ in range(4)]
            for call in calls[4:]:
                await call.write(ServerReflectionRequest(list_services=""))
            for call in calls:
                await call.read()
            asked = pb.JWTSVIDRequest(audience=["a"])
            code, why = await refused(stub.FetchJWTSVID(asked, metadata=HEADER))
            assert (code, why) == (
                "RESOURCE_EXHAUSTED",
                "this user's processes have 8 calls open already",
            )
            code, _ = await refused(mirror.ServerReflectionInfo().read())
            assert code == "RESOURCE_EXHAUSTED"
            assert served.api.refusals["too_many_calls"] == 2
            for call in calls:
                call.cancel()
            async with asyncio.timeout(5):
                while True:
                    with contextlib.suppress(grpc.aio.AioRpcError):
                        assert (await stub.FetchJWTSVID(asked, metadata=HEADER)).svids
                        break

    async def in_loop() -> None:
        async with asyncio.timeout(30), endpoint(short, most=4) as served:
            await story(served)

    asyncio.run(in_loop())


def test_who_holds_his_requests_back_is_counted_as_well(short: Path) -> None:
    """Half a request takes memory, and nobody knows yet who asks for what."""

    async def story(served: Endpoint) -> None:
        served.know(own_entry())
        async with served.channel() as channel:
            held = channel.stream_unary(
                "/SpiffeWorkloadAPI/FetchJWTSVID", pb.JWTSVIDRequest.SerializeToString
            )
            calls = [held(metadata=HEADER) for _ in range(8)]
            for call in calls:
                await call.wait_for_connection()
            asked = pb.JWTSVIDRequest(audience=["a"])
            code = ""
            while code != "RESOURCE_EXHAUSTED":
                try:
                    await Stub(channel).FetchJWTSVID(asked, metadata=HEADER)
                except grpc.aio.AioRpcError as error:
                    code = error.code().name
            # The very calls that were held are answered when they ask.
            await calls[0].write(asked)
            reply = pb.JWTSVIDResponse.FromString(await calls[0])  # type: ignore[arg-type]
            assert [each.spiffe_id for each in reply.svids] == ["spiffe://td.example/web"]
            await calls[1].done_writing()
            code, why = await refused(calls[1])
            assert (code, why) == ("INVALID_ARGUMENT", "the request is missing")
            for call in calls:
                call.cancel()

    async def in_loop() -> None:
        async with asyncio.timeout(10), endpoint(short, most=4) as served:
            await story(served)

    asyncio.run(in_loop())


def test_a_request_is_no_larger_than_any_that_is_meant(short: Path) -> None:
    """A quarter of a mebibyte: an Envoy's first one, which names all it has, is a fifth of that."""

    async def story(served: Endpoint) -> None:
        served.know(own_entry())
        async with served.channel() as channel:
            large = pb.ValidateJWTSVIDRequest(audience="a", svid="x" * 300_000)
            code, why = await refused(Stub(channel).ValidateJWTSVID(large, metadata=HEADER))
            assert code == "RESOURCE_EXHAUSTED"
            assert "larger than max" in why

    run(short, story)


def test_a_token_is_validated_for_its_audience(short: Path) -> None:
    """Section 6.2.3: with its claims; else INVALID_ARGUMENT and why, with nothing of the token."""

    async def story(served: Endpoint) -> None:
        served.know(own_entry())
        async with served.channel() as channel:
            stub = Stub(channel)
            reply = await stub.FetchJWTSVID(pb.JWTSVIDRequest(audience=["a"]), metadata=HEADER)
            token = reply.svids[0].svid
            request = pb.ValidateJWTSVIDRequest(audience="a", svid=token)
            valid = await stub.ValidateJWTSVID(request, metadata=HEADER)
            assert valid.spiffe_id == "spiffe://td.example/web"
            assert valid.claims["aud"][0] == "a"
            for audience, svid, why in (
                ("b", token, "not for the audience"),
                ("a", token[:-8] + "AAAAAAAA", "signature"),
                ("a", "rubbish", "no token"),
                ("", token, "audience"),
                ("a", "", "token"),
            ):
                request = pb.ValidateJWTSVIDRequest(audience=audience, svid=svid)
                code, message = await refused(stub.ValidateJWTSVID(request, metadata=HEADER))
                assert code == "INVALID_ARGUMENT"
                assert why in message
                assert token[:20] not in message

    run(short, story)


def test_a_token_is_validated_by_the_bundle_of_its_subjects_trust_domain(short: Path) -> None:
    """Section 6.3: no domain's keys sign for another, and one without a bundle is untrusted."""

    async def story(served: Endpoint) -> None:
        served.know(own_entry())
        other = FakeSigner(clock.now_ns)
        other.trust_domain = "other.example"
        served.identities.set_bundles((served.signer.bundle(), other.bundle()))

        async def token(signer: FakeSigner, trust_domain: str) -> str:
            signer.trust_domain = trust_domain
            made = await signer.sign_token("web", ["a"], ())
            assert isinstance(made, SignedToken)
            return made.token

        async with served.channel() as channel:
            stub = Stub(channel)
            for signer, trust_domain, why in (
                (other, "other.example", ""),
                (served.signer, "td.example", ""),
                (served.signer, "other.example", "none of its trust domain's bundle"),
                (other, "td.example", "none of its trust domain's bundle"),
                (other, "third.example", "no bundle of the trust domain 'third.example'"),
            ):
                svid = await token(signer, trust_domain)
                request = pb.ValidateJWTSVIDRequest(audience="a", svid=svid)
                call = stub.ValidateJWTSVID(request, metadata=HEADER)
                if why:
                    code, message = await refused(call)
                    assert code == "INVALID_ARGUMENT"
                    assert why in message
                else:
                    assert (await call).spiffe_id == f"spiffe://{trust_domain}/web"

    run(short, story)


def test_a_connection_ends_with_the_process_that_opened_it(short: Path) -> None:
    """A child that inherited the socket is not the process that was recognised."""
    script = (
        "import os, socket, sys\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        "if os.fork(): os._exit(0)\n"
        "s.settimeout(10)\n"
        "while s.recv(1000): pass\n"
        "open(sys.argv[2], 'w').close()\n"
    )

    async def story(served: Endpoint) -> None:
        served.relay.look_every_s = 0.2
        served.know(own_entry())
        said = short / "said"
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, str(served.socket), str(said)
        )
        await child.wait()
        for _ in range(100):
            if said.exists():
                break
            await asyncio.sleep(0.05)
        assert said.exists()
        assert served.relay.count == 0

    run(short, story)
