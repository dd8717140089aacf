"""The Check edge: promises on what is answered, whatever is asked."""

from dataclasses import asdict
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict

from authz.attributes import Binding
from authz.check import ActivePolicy, CheckService
from authz.decision import CheckSettings
from authz.errors import InvalidRequestError, NoPolicyError
from authz.policy.decision import Decision, Miss
from authz.policy.snapshot import RequestValues
from protos.envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from telemetry.record import DecisionRecord
from tests.fakes.envoy import check_request
from tests.fakes.policy import RULE, FixedSnapshot, fixed, mesh_policy

ID = "0192f0c1-7d3a-7c11-8000-000000000001"
NOW_NS = 1_700_000_000_000_000_000
ALLOW_ALL = fixed(lambda _: Decision(allowed=True, rule=RULE))
READS_PATH = fixed(lambda request: Decision(allowed=bool(request[4]) or True, rule=RULE))


def service_of(policy: ActivePolicy | None, **settings: Any) -> CheckService[DecisionRecord]:
    """A service that decides by one policy."""
    service: CheckService[DecisionRecord] = CheckService(CheckSettings(**settings), lambda: ID)
    service.policy = policy
    return service


def verdict_on(
    policy: ActivePolicy, request: CheckRequest | bytes, **settings: Any
) -> dict[str, Any]:
    """What the metadata of the answer says, with its RPC code."""
    serialized = request if isinstance(request, bytes) else request.SerializeToString()
    response = CheckResponse.FromString(service_of(policy, **settings).answer(serialized, NOW_NS))
    metadata: dict[str, Any] = MessageToDict(response.dynamic_metadata)["meshwarden"]
    assert (metadata["verdict"] == "allow") is (response.status.code == 0)
    assert (metadata["status"] == 200) is response.HasField("ok_response")
    return metadata


SHOP = mesh_policy(
    "p, mesh.example/ns/shop/sa/web, catalog.shop, GET|HEAD, /items/**, allow",
    "p, *, catalog.shop, *, /items/secret/**, deny",
    "p, *, catalog.shop, GET, /status, allow",
    "p, role:staff, catalog.shop, POST, /items/*, allow",
    'p, *, catalog.shop, GET, /beta, allow, request.headers["x-beta"] == "1"',
    "g, user:https://id.example/alice, role:staff",
)
ALICE = {"payload": {"iss": "https://id.example", "sub": "alice"}}


@pytest.mark.parametrize(
    ("request_", "verdict", "rule"),
    [
        (check_request("/items/1"), "allow", "policy.csv:1"),
        (check_request("/items/1?x=/../secret"), "allow", "policy.csv:1"),
        (check_request("/items/secret/1"), "deny", "policy.csv:2"),
        (check_request("/status", principal=""), "allow", "policy.csv:3"),
        (check_request("/items/1", method="POST"), "deny", ""),
        (check_request("/items/1", method="POST", tokens=ALICE), "allow", "policy.csv:4"),
        (check_request("/beta", headers={"x-beta": "1"}), "allow", "policy.csv:5"),
        (check_request("/beta", raw_headers=[("x-beta", b"1")]), "allow", "policy.csv:5"),
        (check_request("/beta", raw_headers=[("x-beta", b"1\xff")]), "deny", ""),
        (check_request("/beta"), "deny", ""),
        (check_request("/other"), "deny", ""),
    ],
)
def test_the_policy_decides_and_the_answer_names_the_rule(
    request_: CheckRequest, verdict: str, rule: str
) -> None:
    """From the bytes of a CheckRequest to file and line."""
    metadata = verdict_on(SHOP, request_)
    assert (metadata["verdict"], metadata["rule"]) == (verdict, rule)
    assert metadata["id"] == ID
    assert metadata["digest"] == SHOP.snapshot.digest


@pytest.mark.parametrize(
    ("principal", "path", "status"),
    [("", "/items/1", 401), ("", "/nowhere", 403), ("spiffe://td/ns/x/sa/y", "/items/1", 403)],
)
def test_a_caller_without_a_credential_is_told_where_one_would_help(
    principal: str, path: str, status: int
) -> None:
    """401 asks for a credential; 403 says that none helps, or that this one doesn't."""
    assert verdict_on(SHOP, check_request(path, principal=principal))["status"] == status


def test_a_denial_without_a_rule_says_which_came_nearest() -> None:
    """With file and line, so that whoever wrote the policy can mend it."""
    near = (Miss(RULE, "the path is another"),)
    policy = fixed(lambda _: Decision(allowed=False, rule=None, _near=lambda: (near, True)))
    metadata = verdict_on(policy, check_request())
    assert metadata["misses"] == ["policy.csv:12: the path is another"]
    assert metadata["status"] == 401


@pytest.mark.parametrize(
    "path",
    [
        "/items/../items/secret/1",
        "/items//secret/1",
        "/items/./secret/1",
        "/items/secret/../1",
        "/items/%73ecret/1",
        "/items/%2e/secret/1",
        "/items/secret;x=1/1",
        "/items/x/..;/secret/1",
        "/items/secret%2F1",
        "/items%2Fsecret/1",
        "/items/secret%5C1",
        "/items\\secret/1",
        "/items/%2573ecret/1",
        "/items/secret/1#",
        "/items/secret/%00",
        "/items/x%2F..%2Fsecret/1",
        "http://catalog.shop/items/secret/1",
        "/items/SECRET/../secret/1",
        "/ITEMS/1",
        "/items/../../admin",
        "/items/%c0%ae%c0%ae/1",
    ],
)
def test_no_spelling_of_a_path_gets_past_a_deny_rule(path: str) -> None:
    """Whatever a server behind the sidecar makes of it."""
    assert verdict_on(SHOP, check_request(path))["verdict"] == "deny"


@pytest.mark.parametrize(
    "path", ["/items//1", "/items/./1", "/items/%31", "/items/1;v=2", "/items/é"]
)
def test_odd_spellings_of_an_allowed_path_are_allowed(path: str) -> None:
    """Where no reading of it is denied."""
    assert verdict_on(SHOP, check_request(path))["verdict"] == "allow"


def test_an_ambiguous_path_satisfies_no_allow_rule_unless_the_settings_say_so() -> None:
    """The reason says what is odd about it."""
    request = check_request("/items/a%2Fb")
    metadata = verdict_on(SHOP, request)
    assert metadata["reason"] == "ambiguous path: it has an encoded slash"
    assert verdict_on(SHOP, request, ambiguous_paths="normalise")["verdict"] == "allow"
    secret = check_request("/items/secret%2Fb")
    assert verdict_on(SHOP, secret, ambiguous_paths="normalise")["rule"] == "policy.csv:2"


def test_a_policy_that_asks_nothing_of_paths_is_not_held_up_by_one() -> None:
    """A decision reads only what its policy names, and so does the edge."""
    request = check_request("/a%2Fb")
    assert verdict_on(ALLOW_ALL, request)["verdict"] == "allow"
    assert verdict_on(READS_PATH, request)["verdict"] == "deny"


def test_a_long_path_of_nuls_is_judged_closed() -> None:
    """64 KiB of it, and of bytes that are not UTF-8 as an old Envoy passes them on."""
    assert verdict_on(SHOP, check_request("/items/" + "\x00" * 65_536))["status"] == 403
    valid = check_request("/items/" + "~" * 65_536).SerializeToString()
    assert (
        verdict_on(ALLOW_ALL, valid.replace(b"~" * 65_536, b"\x00\xff" * 32_768))["status"] == 400
    )


@pytest.mark.parametrize("request_", [b"", b"\x0a\x00", b"\xfa\x01\x02hi"])
def test_an_empty_check_request_is_denied(request_: bytes) -> None:
    """Even by a policy that allows everything: there is nothing to allow."""
    assert verdict_on(ALLOW_ALL, request_)["status"] == 403


def test_text_that_is_not_utf8_is_denied_not_faulted() -> None:
    """An Envoy that passes headers on as they came must not open a door with it."""
    request = check_request(headers={"x-name": "~~~~"}).SerializeToString()
    assert verdict_on(ALLOW_ALL, request.replace(b"~~~~", b"\xff\xfe\xfd\xfc"))["status"] == 400


def test_claims_nested_deeper_than_protobuf_reads_are_denied_not_faulted() -> None:
    """A user may choose what his token holds."""
    # Three levels of message for each of JSON, and the parser stops at 100.
    request = check_request(tokens=ALICE)
    fields = request.attributes.metadata_context.filter_metadata["deep"]
    for _ in range(60):
        fields = fields.fields["x"].struct_value
    assert verdict_on(ALLOW_ALL, request)["status"] == 400


def test_a_check_request_above_the_limit_is_denied_unread() -> None:
    """With a status that says why; 4 MiB are far below the default."""
    request = check_request()
    request.attributes.request.http.raw_body = b"x" * 4 * 1024 * 1024
    assert verdict_on(ALLOW_ALL, request)["status"] == 200
    assert verdict_on(ALLOW_ALL, request, max_request_bytes=65_536)["status"] == 413


def test_ten_thousand_headers_are_judged() -> None:
    """In either form."""
    headers = {f"x-{number}": "1" for number in range(10_000)}
    plain = check_request("/beta", headers={**headers, "x-beta": "1"})
    raw = [(name, value.encode()) for name, value in headers.items()]
    packed = check_request("/beta", raw_headers=[*raw, ("x-beta", b"1")])
    assert verdict_on(SHOP, plain)["verdict"] == verdict_on(SHOP, packed)["verdict"] == "allow"


@pytest.mark.parametrize(
    "garbage", [b"\xff", b"\x0a\xff\xff\xff\xff\x0f", b"GET / HTTP/1.1\r\n\r\n"]
)
def test_bytes_that_are_no_check_request_are_an_invalid_argument(garbage: bytes) -> None:
    """Who sends them is no Envoy, and no HTTP caller can make one send them."""
    service = service_of(ALLOW_ALL)
    with pytest.raises(InvalidRequestError) as raised:
        service.answer(garbage, NOW_NS)
    assert raised.value.code == "INVALID_ARGUMENT"
    assert service.counts.invalid == 1


def test_without_a_policy_there_is_no_verdict() -> None:
    """Nobody provoked that: Envoy acts by its failure mode."""
    with pytest.raises(NoPolicyError) as raised:
        service_of(None).answer(check_request().SerializeToString(), NOW_NS)
    assert raised.value.code == "UNAVAILABLE"


def test_without_a_policy_an_error_response_is_given_if_switched_on() -> None:
    """For Envoys that know it; still not a denial."""
    answer = service_of(None, error_response=True).answer(b"", NOW_NS)
    assert CheckResponse.FromString(answer).HasField("error_response")


@pytest.mark.parametrize("error", [ValueError, KeyError, RecursionError, AssertionError])
def test_what_a_decision_raises_on_a_callers_values_is_judged_closed(
    error: type[Exception],
) -> None:
    """Counted, named in the reason, and never an RPC error."""

    def decide(_request: object) -> Decision:
        raise error("x")

    service = service_of(fixed(decide))
    answer = CheckResponse.FromString(service.answer(check_request().SerializeToString(), NOW_NS))
    assert answer.denied_response.status.code == 403
    assert error.__name__ in MessageToDict(answer.dynamic_metadata)["meshwarden"]["reason"]
    assert service.counts.faults == 1


def test_a_value_that_can_not_be_read_is_judged_although_its_record_wants_it_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What raised in the decision raises in the record again: a verdict all the same."""
    records: list[DecisionRecord] = []
    service: CheckService[DecisionRecord] = CheckService(
        CheckSettings(denied_response_headers={"x-who": "{principal}"}),
        lambda: ID,
        records.append,
        DecisionRecord,
    )
    service.policy = SHOP

    def unreadable(_uri: str) -> str:
        raise LookupError

    monkeypatch.setattr("authz.attributes._identity_of", unreadable)
    answer = CheckResponse.FromString(service.answer(check_request().SerializeToString(), NOW_NS))
    assert answer.denied_response.status.code == 403
    assert [(record.principal, record.method) for record in records] == [("", "GET")]


def test_running_out_of_memory_is_no_verdict() -> None:
    """It is our fault, and the transport says so."""

    def decide(_request: object) -> Decision:
        raise MemoryError

    with pytest.raises(MemoryError):
        service_of(fixed(decide)).answer(check_request().SerializeToString(), NOW_NS)


def test_a_new_policy_is_in_force_from_the_next_call() -> None:
    """One assignment; nothing kept of an answer outlives it."""
    service = service_of(ALLOW_ALL)
    request = check_request("/other").SerializeToString()
    assert CheckResponse.FromString(service.answer(request, NOW_NS)).status.code == 0
    service.policy = SHOP
    assert CheckResponse.FromString(service.answer(request, NOW_NS)).status.code == 7


def test_a_custom_model_decides_by_its_own_fields() -> None:
    """Their binding says where they come from."""
    seen = []

    def decide(request: RequestValues) -> Decision:
        seen.append((request[0], request[1]))
        return Decision(allowed=False, rule=None)

    snapshot = FixedSnapshot(decide)
    binding = Binding(("sub", "host"), {"sub": "source.serviceAccount", "host": "request.host"})
    verdict_on(ActivePolicy(snapshot, binding), check_request())
    assert seen == [("web", "catalog.shop")]


def test_verdicts_are_counted_by_status() -> None:
    """The totals that metrics are made of."""
    service = service_of(SHOP)
    for path in ("/items/1", "/items/2", "/nowhere", "/items/a%2Fb"):
        service.answer(check_request(path).SerializeToString(), NOW_NS)
    service.answer(b"", NOW_NS)
    assert service.verdicts == {("allow", 200): 2, ("deny", 403): 3}
    assert asdict(service.counts) == {"ambiguous": 1, "unreadable": 1, "faults": 0, "invalid": 0}


class Log:
    """A listener that keeps what it is offered."""

    def __init__(self, policy: ActivePolicy, **settings: Any) -> None:
        self.records: list[DecisionRecord] = []
        self.service: CheckService[DecisionRecord] = CheckService(
            CheckSettings(**settings), lambda: ID, self.records.append, DecisionRecord
        )
        self.service.policy = policy

    def ask(self, request: CheckRequest) -> None:
        """Have one request answered."""
        self.service.answer(request.SerializeToString(), NOW_NS)


def test_a_record_says_who_asked_for_what_and_why_he_was_denied() -> None:
    """And holds no header, query, body or token."""
    log = Log(SHOP)
    secrets = {"authorization": "Bearer s3cret", "cookie": "s3cret"}
    log.ask(check_request("/items/secret/1?key=s3cret", headers=secrets, tokens=ALICE))
    assert log.records == [
        DecisionRecord(
            id=ID,
            time_ns=NOW_NS,
            verdict="deny",
            status=403,
            rule_file="policy.csv",
            rule_line=2,
            rule_text="p, *, catalog.shop, *, /items/secret/**, deny",
            reason="denied by a rule",
            digest=SHOP.snapshot.digest,
            principal="mesh.example/ns/shop/sa/web",
            user="user:https://id.example/alice",
            service="catalog.shop",
            method="GET",
            path="/items/secret/1",
            source_ip="10.1.2.3",
            host="catalog.shop",
        )
    ]
    assert "s3cret" not in str(log.records)


@pytest.mark.parametrize(("share", "recorded"), [(0.0, 0), (0.01, 1), (0.5, 50), (1.0, 100)])
def test_a_share_of_allows_is_recorded(share: float, recorded: int) -> None:
    """Evenly, and never more."""
    log = Log(ALLOW_ALL, sample_allows=share)
    for _ in range(100):
        log.ask(check_request())
    assert len(log.records) == recorded


def test_all_denials_are_recorded_also_those_unread() -> None:
    """A request that can't be read is worth knowing of."""
    log = Log(SHOP, sample_allows=0.0)
    log.ask(check_request("/nowhere"))
    log.ask(CheckRequest())
    assert [record.verdict for record in log.records] == ["deny", "deny"]
    assert log.records[1].reason == "the CheckRequest holds no request"


def test_a_record_keeps_no_endless_path() -> None:
    """A flood of long paths does not fill the log."""
    log = Log(SHOP)
    log.ask(check_request("/" + "a" * 60_000))
    assert len(log.records[0].path) == 1_024


def test_nothing_is_built_where_nobody_listens() -> None:
    """A listener without what makes its records is a mistake of the assembly."""
    with pytest.raises(TypeError):
        CheckService(CheckSettings(), lambda: ID, print)
    policy = fixed(lambda _: Decision(allowed=False, rule=RULE))
    service: CheckService[object] = CheckService(CheckSettings(), lambda: ID, None, pytest.fail)
    service.policy = policy
    service.answer(check_request().SerializeToString(), NOW_NS)


def test_headers_name_the_caller_where_settings_ask_for_him() -> None:
    """Two callers under one rule don't get each other's."""
    service = service_of(ALLOW_ALL, request_headers={"x-who": "{principal}"})
    for account in ("web", "app", "web"):
        request = check_request(principal=f"spiffe://td/ns/shop/sa/{account}")
        answer = CheckResponse.FromString(service.answer(request.SerializeToString(), NOW_NS))
        assert answer.ok_response.headers[0].header.value == f"td/ns/shop/sa/{account}"


def test_a_grpc_caller_is_denied_as_one() -> None:
    """Envoy makes grpc-status 7 of a 403 and grpc-message of the body."""
    request = check_request("/shop.v1.Admin/Do", headers={"content-type": "application/grpc"})
    answer = service_of(SHOP).answer(request.SerializeToString(), NOW_NS)
    denied = CheckResponse.FromString(answer).denied_response
    assert denied.body == f"access denied; decision {ID}"


def test_a_tcp_connection_is_judged_by_the_policy_too() -> None:
    """Envoy's network filter sends a source and no HTTP request."""
    request = ParseDict({"attributes": {"source": {"principal": "spiffe://td/x"}}}, CheckRequest())
    assert verdict_on(SHOP, request)["status"] == 403
    assert verdict_on(ALLOW_ALL, request)["status"] == 200
