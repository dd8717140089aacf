"""A candidate judged beside the policy in force: counted and recorded apart, never obeyed."""

from collections.abc import Sequence

import pytest

from authz.check import CheckService
from authz.decision import CheckSettings
from protos.envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from telemetry.record import DecisionRecord
from tests.fakes.envoy import check_request
from tests.fakes.policy import mesh_policy

NOW_NS = 1_800_000_000_000_000_000
ENFORCED = mesh_policy("p, *, catalog.shop, GET, /items/**, allow")
STRICTER = mesh_policy(
    "p, *, catalog.shop, GET, /items/**, allow", "p, *, catalog.shop, GET, /items/9, deny"
)
WIDER = mesh_policy("p, *, catalog.shop, *, /**, allow")
RAISES = mesh_policy(
    "p, *, catalog.shop, GET, /items/**, allow",
    "p, *, catalog.shop, GET, /items/**, deny, ipMatch(request.headers['x'], '10.0.0.0/8')",
)


def service() -> tuple[CheckService[DecisionRecord], list[DecisionRecord]]:
    """A service that records denials only, and its records."""
    records: list[DecisionRecord] = []
    numbers = iter(range(1000))
    made = CheckService(
        CheckSettings(sample_allows=0.0),
        lambda: f"00000000-0000-7000-8000-{next(numbers):012}",
        records.append,
        DecisionRecord,
    )
    made.policy = ENFORCED
    # The first allowed request is always due.
    made.answer(check_request().SerializeToString(), NOW_NS)
    records.clear()
    return made, records


def allowed(made: CheckService[DecisionRecord], request: CheckRequest) -> bool:
    """Whether the answer lets it pass."""
    answer = CheckResponse.FromString(made.answer(request.SerializeToString(), NOW_NS))
    return bool(answer.status.code == 0)


def verdicts(records: Sequence[DecisionRecord]) -> list[str]:
    """What they say."""
    return [record.verdict for record in records]


def test_what_a_candidate_would_deny_is_still_allowed() -> None:
    """It is counted, and a record of its own has the candidate's rule and digest."""
    made, records = service()
    made.shadow.policy = STRICTER
    assert allowed(made, check_request("/items/9"))
    assert made.shadow.outcomes == {"same": 0, "would_allow": 0, "would_deny": 1}
    (record,) = records
    assert record.verdict == "would_deny"
    assert (record.rule_line, record.digest) == (2, STRICTER.snapshot.digest)
    assert made.verdicts == {("allow", 200): 2}


def test_what_a_candidate_would_allow_is_still_denied() -> None:
    """The enforced denial is recorded as ever, beside what would have been."""
    made, records = service()
    made.shadow.policy = WIDER
    assert not allowed(made, check_request("/other"))
    assert made.shadow.outcomes["would_allow"] == 1
    assert sorted(verdicts(records)) == ["deny", "would_allow"]
    assert len({record.id for record in records}) == 2


def test_where_both_agree_nothing_is_recorded_apart() -> None:
    """It is counted as the same."""
    made, records = service()
    made.shadow.policy = STRICTER
    assert allowed(made, check_request("/items/1"))
    assert made.shadow.outcomes["same"] == 1
    assert records == []


@pytest.mark.parametrize("path", ["/items/../x", "/items/%2F", "/items/1"])
def test_the_answer_is_the_same_to_the_byte_with_a_shadow_and_without(path: str) -> None:
    """But for the id, whatever the candidate makes of the request."""
    request = check_request(path, headers={"x": "no address"}).SerializeToString()
    answers = []
    for shadow in (None, WIDER, STRICTER, RAISES):
        made, _ = service()
        made.shadow.policy = shadow
        answer = CheckResponse.FromString(made.answer(request, NOW_NS))
        del answer.dynamic_metadata.fields["meshwarden"].struct_value.fields["id"]
        answer.denied_response.body = ""
        answers.append(answer.SerializeToString(deterministic=True))
        assert made.counts.faults == 0
    assert len(set(answers)) == 1
