"""Runs a policy's tests through the very edge that answers sidecars, and counts the rules met."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import quantiles

from google.protobuf import json_format

from authz.attributes import Attributes
from authz.check import ActivePolicy
from authz.policy.rules import Rule
from meshwarden import clock
from meshwarden.authoring.cases import Case
from meshwarden.cli.asking import request_from_flags
from meshwarden.errors import CaseFileError
from meshwarden.service import check_service
from meshwarden.settings import Settings
from protos.envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse

__all__ = ["Coverage", "Outcome", "Speed", "measure", "run_cases"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one case.

    Attributes:
        case: The case.
        verdict: "allow" or "deny".
        status: HTTP status of the answer.
        rule: The deciding rule as "file:line", or "".
        reason: Why, in one clause.
        misses: Nearest misses of a denial without a rule.
        problems: What isn't as the case says; empty when it passed.
        seconds: How long it took.
    """

    case: Case
    verdict: str
    status: int
    rule: str
    reason: str
    misses: tuple[str, ...]
    problems: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Coverage:
    """Which rules matched in at least one case.

    Attributes:
        rules: How many rules the policy has.
        unmet: Those that no case made match, in the order of the policy.
    """

    rules: int
    unmet: tuple[Rule, ...]

    @property
    def percent(self) -> float:
        """Share of rules that were met; 100 for a policy without rules."""
        return 100 * (1 - len(self.unmet) / self.rules) if self.rules else 100.0


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast the cases are decided here, in microseconds a decision."""

    decisions: int
    median_us: float
    p99_us: float


def run_cases(
    cases: Sequence[Case], policy: ActivePolicy, settings: Settings
) -> tuple[list[Outcome], Coverage]:
    """Decide every case and compare.

    Raises:
        CaseFileError: A request is one that no sidecar would send; every such case is told.
    """
    service = check_service(settings)
    service.policy = policy
    met: set[Rule] = set()
    outcomes = []
    for case, request in _requests(cases):
        begun = clock.monotonic_s()
        answer = CheckResponse.FromString(
            service.answer(request.SerializeToString(), clock.now_ns())
        )
        seconds = clock.monotonic_s() - begun
        attributes = Attributes(request, clock.now_ns())
        met.update(policy.snapshot.explain(policy.binding.request(attributes)).matching)
        outcomes.append(_outcome(case, answer, seconds))
    rules = policy.snapshot.rules
    return outcomes, Coverage(len(rules), tuple(rule for rule in rules if rule not in met))


def measure(
    cases: Sequence[Case], policy: ActivePolicy, settings: Settings, seconds: float
) -> Speed:
    """Decide the cases over and over for some seconds.

    Raises:
        CaseFileError: See run_cases.
    """
    service = check_service(settings)
    service.policy = policy
    requests = [request.SerializeToString() for _, request in _requests(cases)]
    took_ns: list[int] = []
    until = clock.monotonic_s() + seconds
    while requests and clock.monotonic_s() < until:
        for request in requests:
            begun = time.perf_counter_ns()
            service.answer(request, clock.now_ns())
            took_ns.append(time.perf_counter_ns() - begun)
    if len(took_ns) < 2:  # noqa: PLR2004 - quantiles need two
        return Speed(len(took_ns), 0.0, 0.0)
    cuts = quantiles(took_ns, n=100)
    return Speed(len(took_ns), cuts[49] / 1000, cuts[98] / 1000)


def _requests(cases: Iterable[Case]) -> list[tuple[Case, CheckRequest]]:
    made, faults = [], []
    for case in cases:
        try:
            request = request_from_flags(case.asked)
            if case.time:
                request.attributes.request.time.FromJsonString(case.time)
        except Exception as error:  # noqa: BLE001 - each case's fault is told with its place
            faults.append(f"{case.where}: {error}")
        else:
            made.append((case, request))
    if faults:
        raise CaseFileError(tuple(faults))
    return made


def _outcome(case: Case, answer: CheckResponse, seconds: float) -> Outcome:
    said = json_format.MessageToDict(answer.dynamic_metadata.fields["meshwarden"])
    allowed = answer.status.code == 0
    status = 200 if allowed else int(answer.denied_response.status.code or 403)
    set_headers = {
        option.header.key.lower(): option.header.value for option in answer.ok_response.headers
    }
    rule = str(said.get("rule", ""))
    problems = []
    if allowed != case.allowed:
        problems.append(f"{_word(allowed)}, not {_word(case.allowed)}")
    if case.status and status != case.status:
        problems.append(f"status {status}, not {case.status}")
    if case.rule and rule != case.rule:
        problems.append(f"decided by {rule or 'no rule'}, not by {case.rule}")
    for name, value in case.headers.items():
        found = set_headers.get(name.lower())
        if found != value:
            problems.append(f"header {name} is {found!r}, not {value!r}")
    return Outcome(
        case=case,
        verdict="allow" if allowed else "deny",
        status=status,
        rule=rule,
        reason=str(said.get("reason", "")),
        misses=tuple(said.get("misses", ())),
        problems=tuple(problems),
        seconds=seconds,
    )


def _word(allowed: bool) -> str:  # noqa: FBT001 - it is the word for it
    return "allowed" if allowed else "denied"
