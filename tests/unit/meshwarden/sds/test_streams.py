"""What a subscriber of secrets is sent, and when."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ca.bundle import Bundle
from ca.spiffe_id import parse
from meshwarden.agent.svids import Claim, Svid, WorkloadSvids
from meshwarden.sds.secrets import ALL, DEFAULT, ROOT, TYPE_URL, Wish, WorkloadSecrets
from meshwarden.sds.streams import Delta, RequestError, StateOfTheWorld
from protos.envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from protos.envoy.extensions.transport_sockets.tls.v3.tls_spiffe_validator_config_pb2 import (
    SPIFFECertValidatorConfig,
)
from protos.envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)

WEB = "spiffe://td.example/web"
API = "spiffe://td.example/api"
BUNDLES = (
    Bundle("td.example", (b"root",), b"{}", 1, 60),
    Bundle("other.example", (b"other",), b"{}", 1, 60),
)


def svid(spiffe_id: str, issue: int = 1) -> Svid:
    """One identity; key and certificate of one issue go together."""
    claim = Claim(spiffe_id, parse(spiffe_id))
    return Svid(claim, (f"leaf{issue} {spiffe_id}".encode(),), f"key{issue}".encode(), 0, 0)


def view(*svids: Svid, bundles: Sequence[Bundle] = BUNDLES, why: str = "") -> WorkloadSecrets:
    """What a workload gets, as secrets."""
    return WorkloadSecrets(WorkloadSvids(svids, tuple(bundles), why))


def unpacked(reply: DiscoveryResponse | DeltaDiscoveryResponse | None) -> dict[str, Secret]:
    """The secrets of a response by name."""
    assert reply is not None
    assert reply.type_url == TYPE_URL
    found = {}
    for each in reply.resources:
        secret = Secret()
        assert getattr(each, "resource", each).Unpack(secret)
        found[secret.name] = secret
    return found


def ask(*names: str, nonce: str = "", refused: str = "") -> DiscoveryRequest:
    """A request of the state of the world."""
    request = DiscoveryRequest(resource_names=names, type_url=TYPE_URL, response_nonce=nonce)
    if refused:
        request.error_detail.message = refused
    return request


def test_the_first_request_is_answered_though_it_knows_the_version() -> None:
    """A new stream is a new subscription, whatever its client says it has."""
    secrets = view(svid(WEB))
    first = StateOfTheWorld().asked(ask(WEB), secrets)
    assert first is not None
    again = ask(WEB)
    again.version_info = first.version_info
    assert unpacked(StateOfTheWorld().asked(again, secrets)).keys() == {WEB}


def test_the_first_request_is_answered_though_it_has_a_nonce_of_another_stream() -> None:
    """Nonces mean something on their own stream alone."""
    subscriber, secrets = StateOfTheWorld(), view(svid(WEB))
    assert unpacked(subscriber.asked(ask(WEB, nonce="7"), secrets)).keys() == {WEB}


def test_an_acknowledgement_is_not_answered() -> None:
    """Else both ends would talk for ever."""
    subscriber, secrets = StateOfTheWorld(), view(svid(WEB))
    reply = subscriber.asked(ask(WEB), secrets)
    assert reply is not None
    assert subscriber.asked(ask(WEB, nonce=reply.nonce), secrets) is None
    assert subscriber.nack is None


def test_the_same_names_after_the_acknowledgement_are_answered() -> None:
    """Another listener asks for what its Envoy has long got (envoyproxy/envoy#47309)."""
    subscriber, secrets = StateOfTheWorld(), view(svid(WEB))
    reply = subscriber.asked(ask(WEB), secrets)
    assert reply is not None
    assert subscriber.asked(ask(WEB, nonce=reply.nonce), secrets) is None
    again = subscriber.asked(ask(WEB, nonce=reply.nonce), secrets)
    assert unpacked(again).keys() == {WEB}
    assert again is not None
    assert subscriber.asked(ask(WEB, nonce=again.nonce), secrets) is None


def test_a_name_more_is_answered_with_all_and_one_less_with_nothing() -> None:
    """State of the world: a response holds everything that was asked for."""
    subscriber, secrets = StateOfTheWorld(), view(svid(WEB))
    reply = subscriber.asked(ask(WEB), secrets)
    assert reply is not None
    more = subscriber.asked(ask(WEB, ROOT, nonce=reply.nonce), secrets)
    assert unpacked(more).keys() == {WEB, ROOT}
    assert more is not None
    assert subscriber.asked(ask(ROOT, nonce=more.nonce), secrets) is None
    assert subscriber.changed(view(svid(WEB, 2))) is None
    back = subscriber.asked(ask(ROOT, WEB, nonce=more.nonce), view(svid(WEB, 2)))
    assert unpacked(back).keys() == {WEB, ROOT}
    assert back is not None
    assert subscriber.asked(ask(ROOT, WEB, nonce=back.nonce), view(svid(WEB, 2))) is None
    assert subscriber.asked(ask(ROOT, nonce=back.nonce), view(svid(WEB, 2))) is None


def test_an_old_nonce_is_left_alone() -> None:
    """That request was written before the newest response came; another one follows."""
    subscriber = StateOfTheWorld()
    first = subscriber.asked(ask(WEB), view(svid(WEB)))
    assert first is not None
    second = subscriber.changed(view(svid(WEB, 2)))
    assert second is not None
    assert subscriber.asked(ask(WEB, ROOT, nonce=first.nonce), view(svid(WEB, 2))) is None
    assert subscriber.asked(ask(WEB, nonce=second.nonce), view(svid(WEB, 2))) is None


def test_only_a_change_is_pushed() -> None:
    """A new view with the same certificate is no news."""
    subscriber = StateOfTheWorld()
    subscriber.asked(ask(WEB), view(svid(WEB)))
    assert subscriber.changed(view(svid(WEB), svid(API))) is None
    assert unpacked(subscriber.changed(view(svid(WEB, 2), svid(API)))).keys() == {WEB}


def test_what_goes_is_told_by_no_empty_response() -> None:
    """An Envoy refuses one, and keeps what it has; it gets what comes in its place."""
    for subscriber in (StateOfTheWorld(), Delta()):
        request = ask(WEB) if isinstance(subscriber, StateOfTheWorld) else delta(WEB)
        subscriber.asked(request, view(svid(WEB)))  # type: ignore[arg-type]
        assert subscriber.changed(view()) is None
        assert subscriber.changed(view(svid(WEB))) is None
        assert unpacked(subscriber.changed(view(svid(WEB, 2)))).keys() == {WEB}


def test_a_refusal_is_kept_until_something_is_taken() -> None:
    """And what was refused is not sent again until it changes."""
    subscriber, secrets = StateOfTheWorld(), view(svid(WEB))
    reply = subscriber.asked(ask(WEB), secrets)
    assert reply is not None
    assert subscriber.asked(ask(WEB, nonce=reply.nonce, refused="no such curve"), secrets) is None
    assert subscriber.nack is not None
    assert (subscriber.nack.names, subscriber.nack.reason) == ((WEB,), "no such curve")
    newer = subscriber.changed(view(svid(WEB, 2)))
    assert newer is not None
    subscriber.asked(ask(WEB, nonce=newer.nonce), view(svid(WEB, 2)))
    assert subscriber.nack is None


def test_what_is_missing_comes_when_it_is_there() -> None:
    """A listener may be configured before its identity is."""
    subscriber = StateOfTheWorld()
    assert subscriber.asked(ask(API), view(svid(WEB))) is None
    assert subscriber.missing == (API,)
    assert not subscriber.has_some
    assert unpacked(subscriber.changed(view(svid(WEB), svid(API)))).keys() == {API}
    assert subscriber.missing == ()


def test_who_names_nothing_gets_all_identities_and_the_root() -> None:
    """Some clients have no list; deltas have a star for it too."""
    secrets = view(svid(WEB), svid(API))
    assert unpacked(StateOfTheWorld().asked(ask(), secrets)).keys() == {WEB, API, ROOT}
    for world in (ask(), ask("*")):
        subscriber = StateOfTheWorld()
        assert unpacked(subscriber.asked(world, secrets)).keys() == {WEB, API, ROOT}
        assert not subscriber.missing
    for request in (delta(), delta("*")):
        subscribed = Delta()
        assert unpacked(subscribed.asked(request, secrets)).keys() == {WEB, API, ROOT}
        assert not subscribed.missing


def test_who_leaves_every_name_is_sent_no_key_any_more() -> None:
    """Nothing named means everything only for who has never named anything."""
    subscriber = StateOfTheWorld()
    reply = subscriber.asked(ask(WEB, "none"), view(svid(WEB), svid(API)))
    assert reply is not None
    assert subscriber.asked(ask(nonce=reply.nonce), view(svid(WEB), svid(API))) is None
    assert not subscriber.missing
    assert subscriber.changed(view(svid(WEB, 2), svid(API, 2))) is None
    back = subscriber.asked(ask("*", nonce=reply.nonce), view(svid(WEB, 2), svid(API, 2)))
    assert unpacked(back).keys() == {WEB, API, ROOT}


def test_a_star_that_comes_again_is_answered_again() -> None:
    """As every subscription is; what it gave is forgotten with it, and what was named is not."""
    subscriber, secrets = Delta(), view(svid(WEB), svid(API))
    star = DeltaDiscoveryRequest(resource_names_subscribe=["*", WEB])
    assert unpacked(subscriber.asked(star, secrets)).keys() == {WEB, API, ROOT}
    gone = DeltaDiscoveryRequest(resource_names_unsubscribe=["*"])
    assert subscriber.asked(gone, secrets) is None
    assert subscriber.changed(view(svid(WEB), svid(API, 2))) is None
    again = DeltaDiscoveryRequest(resource_names_subscribe=["*"])
    assert unpacked(subscriber.asked(again, secrets)).keys() == {WEB, API, ROOT}
    assert unpacked(subscriber.asked(again, secrets)).keys() == {WEB, API, ROOT}
    assert unpacked(subscriber.asked(delta(DEFAULT), secrets)).keys() == {DEFAULT}
    assert unpacked(subscriber.asked(again, secrets)).keys() == {WEB, API, ROOT}


def test_what_is_not_asked_for_any_more_is_not_missing() -> None:
    """A stream must not end for want of a name that was left."""
    subscriber, secrets = Delta(), view(svid(WEB))
    subscriber.asked(DeltaDiscoveryRequest(resource_names_subscribe=[WEB, API]), secrets)
    assert subscriber.missing == (API,)
    subscriber.asked(DeltaDiscoveryRequest(resource_names_unsubscribe=[API]), secrets)
    subscriber.asked(DeltaDiscoveryRequest(resource_names_unsubscribe=[WEB]), secrets)
    assert not subscriber.missing


def test_a_delta_subscription_is_answered_each_time() -> None:
    """The same name again, after it was left or not; only that one."""
    subscriber, secrets = Delta(), view(svid(WEB))
    both = DeltaDiscoveryRequest(resource_names_subscribe=[WEB, ROOT], type_url=TYPE_URL)
    assert unpacked(subscriber.asked(both, secrets)).keys() == {WEB, ROOT}
    one = DeltaDiscoveryRequest(resource_names_subscribe=[WEB])
    assert unpacked(subscriber.asked(one, secrets)).keys() == {WEB}
    left = DeltaDiscoveryRequest(resource_names_unsubscribe=[WEB])
    assert subscriber.asked(left, secrets) is None
    assert subscriber.changed(view(svid(WEB, 2))) is None
    assert unpacked(subscriber.asked(one, view(svid(WEB, 2)))).keys() == {WEB}


def delta(*names: str, left: Sequence[str] = (), has: Sequence[str] = ()) -> DeltaDiscoveryRequest:
    """A request of the delta form: what it names, what it leaves, and what it says it has."""
    return DeltaDiscoveryRequest(
        resource_names_subscribe=names,
        resource_names_unsubscribe=left,
        initial_resource_versions={name: versions(WEB, API)[name] for name in has},
        type_url=TYPE_URL,
    )


def versions(*names: str) -> dict[str, str]:
    """The versions of identities that were never renewed."""
    secrets = view(*map(svid, names))
    found = {name: secrets.get(name) for name in (*names, ROOT)}
    return {name: named.version for name, named in found.items() if named is not None}


def test_what_a_delta_client_has_is_sent_to_it_once_more_and_names_nothing() -> None:
    """It may have forgotten; and who comes again names all that it wants."""
    secrets = view(svid(WEB), svid(API))
    subscriber = Delta()
    assert unpacked(subscriber.asked(delta(WEB, has=[WEB, API]), secrets)).keys() == {WEB}
    assert subscriber.changed(view(svid(WEB), svid(API, 2))) is None


def test_a_star_that_comes_again_without_a_name_is_a_star_still() -> None:
    """Envoy leaves the name out where it has only that one, and tells what it gave."""
    secrets = view(svid(WEB), svid(API))
    subscriber = Delta()
    assert unpacked(subscriber.asked(delta(has=[WEB, ROOT]), secrets)).keys() == {WEB, API, ROOT}
    assert unpacked(subscriber.changed(view(svid(WEB, 2), svid(API)))).keys() == {WEB}


@pytest.mark.parametrize("first", [delta(left=["x"]), delta(left=[WEB], has=[WEB])])
def test_who_comes_to_leave_gets_nothing(first: DeltaDiscoveryRequest) -> None:
    """Everything is for who says nothing at all."""
    subscriber = Delta()
    assert subscriber.asked(first, view(svid(WEB))) is None
    assert subscriber.asked(delta(), view(svid(WEB))) is None
    assert subscriber.changed(view(svid(WEB, 2))) is None


def test_who_leaves_the_last_name_is_sent_nothing_whatever_it_has() -> None:
    """That it has named something once on this stream is not forgotten."""
    subscriber, secrets = Delta(), view(svid(WEB), svid(API))
    subscriber.asked(delta(WEB), secrets)
    for request in (delta(left=[WEB]), delta(), delta(has=[API])):
        assert subscriber.asked(request, secrets) is None
    assert subscriber.changed(view(svid(WEB, 2), svid(API, 2))) is None


def test_who_leaves_a_name_and_has_the_star_is_told_whether_that_gives_it() -> None:
    """Its client can't know; what the star alone gives can't be left."""
    subscriber, secrets = Delta(), view(svid(WEB), svid(API))
    subscriber.asked(delta("*", WEB, DEFAULT), secrets)
    reply = subscriber.asked(delta(left=[WEB, DEFAULT, "x"]), secrets)
    assert reply is not None
    assert unpacked(reply).keys() == {WEB}
    assert [*reply.removed_resources] == [DEFAULT]
    assert subscriber.asked(delta(left=[API]), secrets) is None
    assert subscriber.changed(view(svid(WEB), svid(API))) is None
    subscriber.asked(delta(DEFAULT), secrets)
    reply = subscriber.asked(delta(left=[DEFAULT]), secrets)
    assert reply is not None
    assert ([*reply.resources], [*reply.removed_resources]) == ([], [DEFAULT])
    nobody = subscriber.asked(DeltaDiscoveryRequest(response_nonce=reply.nonce), secrets)
    assert nobody is None
    alone = Delta()
    alone.asked(delta(DEFAULT), secrets)
    assert alone.asked(delta(left=[DEFAULT]), secrets) is None
    assert unpacked(subscriber.changed(view(svid(WEB), svid(API, 2)))).keys() == {API}


def test_a_secret_that_is_not_there_is_not_told_as_removed() -> None:
    """An Envoy would open the port that waits for it, and refuse every handshake."""
    subscriber = Delta()
    assert subscriber.asked(delta(API), view(svid(WEB))) is None
    reply = subscriber.asked(delta(WEB), view(svid(WEB)))
    assert reply is not None
    assert not reply.removed_resources
    assert subscriber.changed(view()) is None
    assert unpacked(subscriber.changed(view(svid(WEB), svid(API)))).keys() == {API}


def test_names_that_take_each_others_place_are_counted_once() -> None:
    """Only what a client wants in the end has to be held."""
    subscriber = Delta()
    some, others = ([f"{kind}{each}" for each in range(80)] for kind in "ab")
    for request in (delta(*some), delta(*some), delta(*others, left=some), delta(*others)):
        subscriber.asked(request, view(svid(WEB)))
    with pytest.raises(RequestError, match="more than 100 names"):
        subscriber.asked(delta(*some), view(svid(WEB)))


def test_a_delta_refusal_names_what_was_refused() -> None:
    """By its nonce; an answer to another response changes nothing."""
    subscriber, secrets = Delta(), view(svid(WEB))
    reply = subscriber.asked(DeltaDiscoveryRequest(resource_names_subscribe=[WEB]), secrets)
    assert reply is not None
    refusal = DeltaDiscoveryRequest(response_nonce=reply.nonce)
    refusal.error_detail.message = "no"
    assert subscriber.asked(refusal, secrets) is None
    assert subscriber.nack is not None
    assert subscriber.nack.names == (WEB,)
    stale = DeltaDiscoveryRequest(response_nonce="0")
    subscriber.asked(stale, secrets)
    assert subscriber.nack is not None
    subscriber.asked(DeltaDiscoveryRequest(response_nonce=reply.nonce), secrets)
    assert subscriber.nack is None


@pytest.mark.parametrize(
    "names", [[f"n{each}" for each in range(101)], ["n" * 2049]], ids=["many", "long"]
)
def test_a_client_can_not_make_us_hold_much(names: list[str]) -> None:
    """Names are bounded in number and length, over all requests of a stream."""
    with pytest.raises(RequestError, match="name"):
        StateOfTheWorld().asked(ask(*names), view())
    subscriber = Delta()
    for name in names[:-1]:
        subscriber.asked(DeltaDiscoveryRequest(resource_names_subscribe=[name]), view())
    with pytest.raises(RequestError, match="name"):
        subscriber.asked(DeltaDiscoveryRequest(resource_names_subscribe=names[-1:]), view())


def test_another_type_is_refused() -> None:
    """This is no ADS."""
    request = DiscoveryRequest(type_url="type.googleapis.com/envoy.config.cluster.v3.Cluster")
    with pytest.raises(RequestError, match=r"only .*Secret"):
        StateOfTheWorld().asked(request, view())


def test_each_name_means_what_it_says() -> None:
    """IDs, the default, the own root, a trust domain's bundle, all of them."""
    secrets = view(svid(WEB), svid(API))
    default, root, every = (secrets.get(name) for name in (DEFAULT, ROOT, ALL))
    domain = secrets.get("spiffe://other.example")
    assert default is not None
    assert root is not None
    assert every is not None
    assert domain is not None
    assert b"CERTIFICATE" in default.secret.tls_certificate.certificate_chain.inline_bytes
    assert secrets.get(WEB).secret.tls_certificate == default.secret.tls_certificate  # type: ignore[union-attr]
    own, other = BUNDLES
    assert root.secret.validation_context.trusted_ca.inline_bytes == own.to_pem().encode()
    config = SPIFFECertValidatorConfig()
    for named, bundles in ((every, BUNDLES), (domain, (other,))):
        extension = named.secret.validation_context.custom_validator_config
        assert extension.name == "envoy.tls.cert_validator.spiffe"
        assert extension.typed_config.Unpack(config)
        # Each domain's authorities for that domain: another's would vouch for its IDs.
        given = {each.name: each.trust_bundle.inline_bytes for each in config.trust_domains}
        assert given == {each.trust_domain: each.to_pem().encode() for each in bundles}
    for nothing in ("", "spiffe://none.example", "td.example", "spiffe://td.example/other"):
        assert secrets.get(nothing) is None
    assert "spiffe://td.example/api" in secrets.why_not("x")


def test_a_client_without_the_validator_gets_plain_roots_one_domain_at_a_time() -> None:
    """Roots of two domains in one list would vouch for each other's IDs."""
    view_ = WorkloadSvids((svid(WEB),), BUNDLES)
    secrets = WorkloadSecrets(view_, Wish(no_validator=True))
    domain = secrets.get("spiffe://other.example")
    assert domain is not None
    plain = domain.secret.validation_context.trusted_ca.inline_bytes
    assert plain == BUNDLES[1].to_pem().encode()
    assert secrets.get(ALL) is None
    assert "validator" in secrets.why_not(ALL)
    assert "validator" not in secrets.why_not("x")
    both = WorkloadSecrets(view_, Wish(root_by_validator=True, no_validator=True)).get(ROOT)
    assert both is not None
    assert both.secret.validation_context.HasField("trusted_ca")
    asked = WorkloadSecrets(view_, Wish(root_by_validator=True)).get(ROOT)
    assert asked is not None
    assert asked.secret.validation_context.HasField("custom_validator_config")


def test_nobody_gets_nothing_and_is_told_why() -> None:
    """Not even a bundle."""
    secrets = view(why="found unix:uid:7, and no entry asks for that")
    assert [secrets.get(name) for name in (DEFAULT, ROOT, "spiffe://td.example")] == [None] * 3
    for name in (DEFAULT, ALL):
        assert secrets.why_not(name) == "found unix:uid:7, and no entry asks for that"


def test_a_secret_is_not_shown() -> None:
    """Logs print what they are given."""
    assert "key1" not in repr(view(svid(WEB)).get(WEB))


_NAMES = st.lists(st.sampled_from([WEB, API, ROOT, DEFAULT, ALL]), max_size=3, unique=True)


@given(st.lists(st.one_of(st.integers(1, 3), _NAMES, st.just("acknowledge")), max_size=25))
def test_a_client_ends_with_what_it_asked_for(steps: list[int | list[str] | str]) -> None:
    """Whatever changes in between, and key and certificate are of one issue always."""
    subscriber, issue, names = StateOfTheWorld(), 1, [WEB]
    held: dict[str, Secret] = {}
    nonce, is_due = "", False

    def take(reply: DiscoveryResponse | None) -> None:
        nonlocal nonce, is_due
        if reply is not None:
            held.update(unpacked(reply))
            nonce, is_due = reply.nonce, True

    take(subscriber.asked(ask(WEB), view(svid(WEB), svid(API))))
    for step in steps:
        secrets = view(svid(WEB, issue), svid(API, issue))
        if isinstance(step, int):
            issue = step
            take(subscriber.changed(view(svid(WEB, issue), svid(API, issue))))
        elif isinstance(step, list):
            names = step or [WEB]
            is_due = False
            take(subscriber.asked(ask(*names, nonce=nonce), secrets))
        elif is_due:
            is_due = False
            assert subscriber.asked(ask(*names, nonce=nonce), secrets) is None
    secrets = view(svid(WEB, issue), svid(API, issue))
    for name in names:
        named = secrets.get(name)
        assert named is not None
        assert held[name] == named.secret


_STEPS = st.one_of(
    st.integers(1, 3),
    st.tuples(
        st.lists(st.sampled_from(["*", WEB, API, DEFAULT]), max_size=2, unique=True),
        st.lists(st.sampled_from(["*", WEB, API, DEFAULT]), max_size=2, unique=True),
    ),
    st.just("again"),
)


@given(st.lists(_STEPS, max_size=25))
def test_a_delta_client_ends_with_what_it_asked_for_and_gets_nothing_else(
    steps: list[int | tuple[list[str], list[str]] | str],
) -> None:
    """Whatever it names and leaves, over new streams, on which it says what it has."""
    subscriber, issue = Delta(), 1
    # What an Envoy keeps: the names that it wants, and all that it has.
    names: set[str] = set()
    held: dict[str, Secret] = {}
    is_first = True

    def secrets() -> WorkloadSecrets:
        return view(svid(WEB, issue), svid(API, issue))

    def wanted() -> set[str]:
        return (names - {"*"}) | ({*secrets().every} if "*" in names else set())

    def take(reply: DeltaDiscoveryResponse | None) -> None:
        got = {} if reply is None else unpacked(reply)
        assert got.keys() <= wanted()
        assert not wanted() & {*(() if reply is None else reply.removed_resources)}
        held.update(got)

    for step in steps:
        if isinstance(step, int):
            issue = step
            take(subscriber.changed(secrets()))
        elif step == "again":
            subscriber, is_first = Delta(), True
            held = {name: held[name] for name in wanted()}
            if names:  # Who wants nothing says nothing.
                is_first = False
                said = () if names == {"*"} else names
                take(subscriber.asked(delta(*said, has=[*held.keys() - {DEFAULT}]), secrets()))
        else:
            more, left = step
            if is_first and not more:
                continue
            is_first = False
            names = (names - {*left}) | {*more}
            take(subscriber.asked(delta(*more, left=left), secrets()))
            # What it left is forgotten; what it named again comes again.
            held = {name: held[name] for name in wanted()}
    for name in wanted():
        named = secrets().get(name)
        assert named is not None
        assert held[name] == named.secret
