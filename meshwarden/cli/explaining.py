"""Puts a request to a policy here, and gives all that there is to say about the answer."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from authz.attributes import Attributes
from authz.errors import InvalidRequestError
from authz.policy.decision import Explanation
from authz.policy.rules import Rule
from meshwarden import clock
from meshwarden.cli.asking import Answer, read_answer
from meshwarden.cli.policies import Chosen
from meshwarden.errors import NoVerdictError
from meshwarden.service import check_service
from protos.envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from telemetry.record import DecisionRecord

__all__ = ["Explained", "RuleText", "ask", "explain"]


@dataclass(frozen=True, slots=True)
class RuleText:
    """A rule as people and programs are shown it.

    Attributes:
        rule: Where it is written, as "file:line", or "".
        text: It as one line of policy.
        effect: What it does when it matches.
        reason: Why it did not match; "" where it did.
    """

    rule: str
    text: str
    effect: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Explained:
    """A verdict, and everything about how it came.

    Attributes:
        answer: What a sidecar would be told.
        role_path: From the caller's name to the role that the deciding rule speaks of; empty where
            it names the caller, or anybody.
        matching: Every rule that matches, in the order in which they count.
        nearest: For a denial without a rule, the nearest that did not match, nearest first.
    """

    answer: Answer
    role_path: tuple[str, ...]
    matching: tuple[RuleText, ...]
    nearest: tuple[RuleText, ...]


def ask(request: CheckRequest, asked: Chosen) -> Answer:
    """Decide as a front does, in this process.

    Raises:
        NoVerdictError: The request can't be judged.
    """
    return _decided(request, asked, clock.now_ns())


def explain(request: CheckRequest, asked: Chosen) -> Explained:
    """Decide as a front does, and look at every rule. Cost: O(rules).

    Raises:
        NoVerdictError: The request can't be judged.
    """
    now_ns = clock.now_ns()
    answer = _decided(request, asked, now_ns)
    attributes = Attributes(request, now_ns, asked.settings.check.trusted_hops)
    try:
        found = asked.policy.snapshot.explain(asked.policy.binding.request(attributes))
    except Exception:  # noqa: BLE001 - what a caller's values raise was judged: the answer says so
        return Explained(answer, (), (), ())
    return Explained(answer, found.role_path, _matching(found), _nearest(found))


def _decided(request: CheckRequest, asked: Chosen, now_ns: int) -> Answer:
    # The record names the rule and what was decided on: here every decision makes one.
    settings = asked.settings
    every = dataclasses.replace(settings.decisions, sample_allows=1.0)
    records: list[DecisionRecord] = []
    service = check_service(dataclasses.replace(settings, decisions=every), records.append)
    service.policy = asked.policy
    try:
        response = service.answer(request.SerializeToString(), now_ns)
    except InvalidRequestError as error:
        raise NoVerdictError(str(error)) from error
    (record,) = records
    fields = ("principal", "user", "service", "method", "path", "source_ip", "host")
    seen: Mapping[str, str] = {name: getattr(record, name) for name in fields}
    answer = read_answer(CheckResponse.FromString(response), record.rule_text.rstrip(", "), seen)
    return dataclasses.replace(
        answer, source=asked.where, revision=asked.revision, live=asked.is_live
    )


def _matching(found: Explanation) -> tuple[RuleText, ...]:
    return tuple(_rule_text(rule) for rule in found.matching)


def _nearest(found: Explanation) -> tuple[RuleText, ...]:
    return tuple(_rule_text(miss.rule, miss.reason) for miss in found.misses)


def _rule_text(rule: Rule, reason: str = "") -> RuleText:
    # A condition left off is an empty last value.
    text = ", ".join((rule.ptype, *rule.values)).rstrip(", ")
    return RuleText(rule.where, text, rule.effect, reason)
