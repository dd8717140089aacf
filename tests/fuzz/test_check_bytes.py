"""From bytes to a decision: a CheckResponse or our own error, and nothing else."""

from contextlib import suppress
from typing import Any, cast

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authz.attributes import Attributes, names, reader
from authz.check import CheckService
from authz.decision import CheckSettings
from authz.errors import InvalidRequestError
from authz.policy.decision import Decision
from authz.policy.snapshot import RequestValues
from authz.wellformed import _shadow
from protos.envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from telemetry.record import DecisionRecord
from tests.fakes.envoy import JWT_AUTHN, check_request
from tests.fakes.policy import RULE, fixed, mesh_policy

ID = "0192f0c1-7d3a-7c11-8000-000000000001"
VALID = check_request(
    "/items/1?a=b",
    headers={"content-type": "application/grpc", "x-env": "prod"},
    tokens={"payload": {"iss": "https://id.example", "sub": "alice", "aud": ["a"]}},
    extensions={"service": "catalog.shop"},
).SerializeToString()

READERS = [reader(name) for name in names() if name != "request.time"]


def read_everything(request: RequestValues) -> Decision:
    """Decide after a look at every attribute there is."""
    attributes: Attributes = request[5]
    for read in READERS:
        read(attributes)
    return Decision(allowed=True, rule=RULE)


POLICIES = [
    fixed(read_everything),
    mesh_policy(
        "p, mesh.example/**, *, GET|POST, /items/**, allow",
        "p, *, *, *, /items/secret/**, deny",
        'p, *, *, *, /**, allow, request.headers["x-env"] == "prod"',
        'p, *, *, *, /**, allow, request.auth.claims["groups"]["x"] in source.ip',
        'p, *, *, *, /**, allow, request.auth.principal != "i/s"',
        'p, *, *, *, /i/**, deny, ipMatch(request.headers["x-ip"], "10.0.0.0/8")',
        'p, *, *, *, /items/*, deny, request.time > "2027-01-01T00:00:00Z"',
    ),
]
SETTINGS = CheckSettings(
    request_headers={"x-user": "{user}", "x-who": "{principal}"},
    reveal_rule_to_client=True,
    sample_allows=1.0,
    trusted_hops=1,
)


def answers(serialized: bytes) -> list[CheckResponse]:
    """Have the bytes answered under each policy, with all that can be switched on."""
    responses = []
    for policy in POLICIES:
        records: list[DecisionRecord] = []
        service = CheckService(SETTINGS, lambda: ID, records.append, DecisionRecord)
        service.policy = policy
        response = CheckResponse.FromString(service.answer(serialized, 1))
        metadata = MessageToDict(response.dynamic_metadata)["meshwarden"]
        allowed = response.status.code == 0
        assert response.HasField("ok_response" if allowed else "denied_response")
        assert metadata["verdict"] == ("allow" if allowed else "deny")
        assert 400 <= response.denied_response.status.code < 500 or allowed
        assert records[0].id == metadata["id"]
        responses.append(response)
    return responses


fuzz = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@fuzz
@given(st.binary(max_size=300))
def test_any_bytes_are_answered_or_refused_as_no_check_request(serialized: bytes) -> None:
    """Nothing else is raised."""
    with suppress(InvalidRequestError):
        answers(serialized)


@fuzz
@given(
    st.lists(
        st.tuples(st.integers(0, len(VALID)), st.integers(0, 4), st.binary(max_size=6)), max_size=4
    )
)
def test_a_damaged_check_request_is_answered_or_refused(
    edits: list[tuple[int, int, bytes]],
) -> None:
    """Bytes replaced, taken out and put in."""
    serialized = VALID
    for at, taken, put in edits:
        serialized = serialized[:at] + put + serialized[at + taken :]
    with suppress(InvalidRequestError):
        answers(serialized)


# What callers can put into text; as bytes, since an Envoy may pass on what is not UTF-8.
ODD = (
    "|/|//|/../|%|%2f|%00|\x00|;|?|#|\\|*|[|:|GET|/items/1|/items/secret/x|10.0.0.1|x-env|prod|x-ip"
    "|application/grpc|spiffe://mesh.example/ns/shop/sa/web|é\u202e\U0001f600"
)
odd = st.sampled_from(ODD.encode().split(b"|"))
clean = st.lists(odd | st.text(max_size=4).map(str.encode), max_size=4).map(b"".join)
dirty = st.lists(odd | st.binary(max_size=4), max_size=4).map(b"".join)
json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@st.composite
def relayed(draw: st.DrawFn) -> Message:
    """A CheckRequest of any content, as the message in which text is bytes."""
    request: Any = _shadow()()
    # One text that is not UTF-8 has all of it denied unread, so most draws have none.
    text = draw(st.sampled_from([clean, clean, clean, dirty]))
    context = request.attributes
    context.source.principal = draw(text)
    context.source.certificate = draw(st.just(b"") | text)
    context.source.address.socket_address.address = draw(text)
    context.destination.principal = draw(text)
    context.request.time.seconds = draw(st.integers(-(2**63), 2**63 - 1) | st.just(0))
    http = context.request.http
    for field in ("method", "path", "host", "scheme", "protocol", "body"):
        setattr(http, field, draw(text))
    http.size = draw(st.integers(-(2**63), 2**63 - 1))
    http.raw_body = draw(text)
    for name, value in draw(st.lists(st.tuples(text, text), max_size=4)):
        http.headers.add(key=name, value=value)
    for name, value in draw(st.lists(st.tuples(text, dirty), max_size=4)):
        http.header_map.headers.add(key=name, raw_value=value)
    if draw(st.booleans()):
        context.tls_session.sni = draw(text)
    for name, value in draw(st.lists(st.tuples(text, text), max_size=2)):
        context.context_extensions.add(key=name, value=value)
    claims = draw(st.none() | st.dictionaries(st.sampled_from(["iss", "sub", "aud", "azp"]), json))
    if claims is not None:
        valid = CheckRequest()
        valid.attributes.metadata_context.filter_metadata[JWT_AUTHN].update({"payload": claims})
        request.MergeFromString(valid.SerializeToString())
    return cast("Message", request)


@settings(fuzz, max_examples=400)
@given(relayed())
def test_no_request_that_an_envoy_can_relay_yields_an_error(request: Message) -> None:
    """Else `failure_mode_allow` would be a door."""
    answers(request.SerializeToString())


@pytest.mark.parametrize("depth", [10, 30, 50, 200])
def test_claims_of_any_depth_are_answered(depth: int) -> None:
    """Read, or denied unread; never an error."""
    request = CheckRequest()
    request.attributes.source.principal = "x"
    fields = request.attributes.metadata_context.filter_metadata[JWT_AUTHN]
    fields.update({"payload": {"iss": "i", "sub": "s"}})
    innermost = fields.fields["payload"].struct_value
    for _ in range(depth):
        innermost = innermost.fields["x"].struct_value
    innermost.SetInParent()
    answers(request.SerializeToString())
