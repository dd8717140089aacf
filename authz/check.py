"""The Check edge: a serialized CheckRequest in, a serialized CheckResponse out.

Every transport calls `CheckService.answer` and does nothing of its own. The way of a request is:
parse, `Attributes`, `Snapshot.decide`, `Verdict`, `Responder`; README.md beside this file follows
one through.

What a caller can provoke is judged, closed, and never raised: an RPC error makes Envoy act by its
failure mode, so with `failure_mode_allow` a request that makes us stumble would be let through.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Generic, TypeVar

from google.protobuf.message import DecodeError

from authz import masks
from authz.attributes import Attributes, Binding, Reader, reader
from authz.decision import ANYBODY, Caller, CheckSettings, Responder, Verdict
from authz.errors import InvalidRequestError, NoPolicyError
from authz.masks import masked_text
from authz.paths import RequestPath
from authz.policy.decision import Decision
from authz.policy.options import MASKED
from authz.policy.rules import Rule
from authz.policy.snapshot import Snapshot
from authz.wellformed import is_check_request
from protos.envoy.service.auth.v3.external_auth_pb2 import CheckRequest

__all__ = ["ActivePolicy", "CheckService", "Counts", "Shadow"]

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class ActivePolicy:
    """A policy and where its request fields come from: swapped together, by one assignment."""

    snapshot: Snapshot
    binding: Binding


@dataclass(slots=True)
class Shadow:
    """A candidate that is judged beside the policy in force, and never obeyed.

    Attributes:
        policy: The candidate; None when there is none.
        outcomes: How often it said "same", "would_allow" or "would_deny".
    """

    policy: ActivePolicy | None = None
    outcomes: dict[str, int] = field(
        default_factory=lambda: {"same": 0, "would_allow": 0, "would_deny": 0}
    )


@dataclass(slots=True)
class Counts:
    """What was odd since the start; they only grow.

    Attributes:
        ambiguous: Denied because servers read the path in different ways.
        unreadable: Denied unread: no UTF-8, nested too deep, too large, or without a request.
        faults: Decisions in which a rule's condition, or the decision itself, raised.
        invalid: Calls refused since their bytes are no CheckRequest.
    """

    ambiguous: int = 0
    unreadable: int = 0
    faults: int = 0
    invalid: int = 0


_ALLOWED_BY_RULE: Final = "allowed by a rule"
_ALLOWED_BY_NONE: Final = "no rule denies it"
_DENIED_BY_RULE: Final = "denied by a rule"
_NO_RULE: Final = "no rule matched"
_NO_CREDENTIAL: Final = "no rule matched, and the caller showed no credential"
_OTHER_READING: Final = "a rule denies another reading of the path"
_EMPTY: Final = "the CheckRequest holds no request"
_UNREADABLE: Final = "the CheckRequest holds text that is not UTF-8, or nests too deep"
_TOO_LARGE: Final = "the CheckRequest is larger than max_request_bytes"

_MAX_PATH_CHARACTERS = 1024

_user = reader("request.auth.user")
_principal = reader("source.principal")
_service = reader("destination.service")
_host = reader("request.host")
_source_ip = reader("source.ip")


class CheckService(Generic[Record]):
    """Answers Check calls from one policy, until another is assigned to `policy`.

    Args:
        settings: How requests are read and answered.
        new_id: Makes a decision's id, a UUIDv7 in its 36 characters.
        offer: Takes the record of a decision; must neither wait nor raise. None if nobody listens:
            then none is built.
        record: Makes a record from the fields of `telemetry.record.DecisionRecord` as keywords; the
            domains don't import each other, so the assembly passes that class. Needed with `offer`.

    Attributes:
        policy: What decides; None until the first is loaded.
        verdicts: Answers since the start by verdict and HTTP status, as ("deny", 403).
        counts: See Counts.
        shadow: See Shadow. A request on which it differs makes a record of its own, whose verdict
            is "would_allow" or "would_deny".
    """

    def __init__(
        self,
        settings: CheckSettings,
        new_id: Callable[[], str],
        offer: Callable[[Record], None] | None = None,
        record: Callable[..., Record] | None = None,
    ) -> None:
        if offer is not None and record is None:
            raise TypeError("a listener is given, but nothing that makes its records")
        self.policy: ActivePolicy | None = None
        self.verdicts: dict[tuple[str, int], int] = {}
        self.counts = Counts()
        self.shadow = Shadow()
        self._settings = settings
        self._responder = Responder(settings)
        self._new_id = new_id
        self._offer = offer
        self._record = record
        self._names_caller = settings.names_caller
        # Counts up to the next allowed request that is recorded: a share, without a random number.
        self._allows_due = 0.0

    def answer(self, request: bytes, now_ns: int) -> bytes:
        """Answer one Check call.

        Args:
            request: A serialized CheckRequest.
            now_ns: Time in nanoseconds since 1970 UTC.

        Returns:
            A serialized CheckResponse. Whatever a caller sent, this is what comes.

        Raises:
            NoPolicyError: No policy is loaded yet.
            InvalidRequestError: The bytes are no CheckRequest.

        Cost: 10 us beside the decision.
        """
        policy = self.policy
        if policy is None:
            fault = self.fault()
            if fault is not None:
                return fault
            raise NoPolicyError("no policy is loaded yet")
        message: CheckRequest | None = None
        if len(request) > self._settings.max_request_bytes:
            refusal = Verdict(413, _TOO_LARGE)
        else:
            try:
                message = CheckRequest.FromString(request)
            except DecodeError as error:
                if not is_check_request(request):
                    self.counts.invalid += 1
                    raise InvalidRequestError("the bytes are no CheckRequest") from error
                refusal = Verdict(400, _UNREADABLE)
            else:
                context = message.attributes
                if context.HasField("request") or context.HasField("source"):
                    return self._decide(policy, message, now_ns)
                refusal = Verdict(403, _EMPTY)
        self.counts.unreadable += 1
        return self._finish(policy, refusal, None, now_ns)

    def fault(self) -> bytes | None:
        """Give the answer to a fault of ours; None where an RPC error is to say it."""
        return self._responder.fault() if self._settings.error_response else None

    def _decide(self, policy: ActivePolicy, message: CheckRequest, now_ns: int) -> bytes:
        attributes = Attributes(message, now_ns, self._settings.trusted_hops)
        verdict = self._judge(policy, attributes)
        if self.shadow.policy is not None:
            self._compare(self.shadow.policy, attributes, verdict, now_ns)
        return self._finish(policy, verdict, attributes, now_ns)

    def _judge(self, policy: ActivePolicy, attributes: Attributes) -> Verdict:
        try:
            decision = policy.snapshot.decide(policy.binding.request(attributes))
            verdict = _verdict(decision)
            path = attributes.path_if_read
            if path is not None and (path.suspect or path.readings) and decision.allowed:
                verdict = self._reconsider(policy, attributes, path, verdict)
        except MemoryError:
            # Ours, not the caller's: Envoy's failure mode is for that.
            raise
        except Exception as error:  # noqa: BLE001 - whatever a caller's values raise is judged
            self.counts.faults += 1
            verdict = Verdict(403, f"the decision raised {type(error).__name__}")
        return verdict

    def _compare(
        self, candidate: ActivePolicy, attributes: Attributes, enforced: Verdict, now_ns: int
    ) -> None:
        """Judge by the candidate as well, and tell where it differs; the answer stays as it is."""
        odd = replace(self.counts)
        verdict = self._judge(candidate, attributes)
        # What was odd is counted for the policy in force alone.
        self.counts = odd
        if verdict.allowed == enforced.allowed:
            outcome = "same"
        else:
            outcome = "would_allow" if verdict.allowed else "would_deny"
        self.shadow.outcomes[outcome] += 1
        if outcome != "same" and self._offer is not None and self._record is not None:
            self._offer(
                self._record(
                    **self._record_fields(verdict, self._new_id(), outcome, candidate, now_ns),
                    **self._request_fields(attributes),
                )
            )

    def _reconsider(
        self, policy: ActivePolicy, attributes: Attributes, path: RequestPath, verdict: Verdict
    ) -> Verdict:
        """Look again at an allowed request whose path servers read in different ways.

        Only a decision that read the path comes here: a policy that asks nothing about paths is
        not evaded by one.
        """
        if path.suspect and self._settings.ambiguous_paths == "deny":
            self.counts.ambiguous += 1
            return Verdict(403, f"ambiguous path: it has {path.suspect}")
        try:
            for reading in path.readings:
                attributes.path = RequestPath(reading)
                decision = policy.snapshot.decide(policy.binding.request(attributes))
                if not decision.allowed and decision.rule is not None:
                    self.counts.ambiguous += 1
                    return Verdict(403, _OTHER_READING, decision.rule)
        finally:
            attributes.path = path
        return verdict

    def _finish(
        self, policy: ActivePolicy, verdict: Verdict, attributes: Attributes | None, now_ns: int
    ) -> bytes:
        """Count, record and render a verdict."""
        caller = ANYBODY
        if verdict.faults:
            self.counts.faults += 1
        word = "allow" if verdict.allowed else "deny"
        outcome = (word, verdict.status)
        self.verdicts[outcome] = self.verdicts.get(outcome, 0) + 1
        if verdict.allowed:
            self._allows_due += self._settings.sample_allows
            is_recorded = self._allows_due >= 1
            if is_recorded:
                self._allows_due -= 1
        else:
            is_recorded = True
            if attributes is not None and attributes.is_grpc:
                caller = Caller(is_grpc=True)
        if self._names_caller and attributes is not None:
            caller = Caller(
                caller.is_grpc, _shown(_principal, attributes), _shown(_user, attributes)
            )
        decision_id = self._new_id()
        digest = policy.snapshot.digest
        response = self._responder.response(verdict, decision_id, digest, caller)
        if is_recorded and self._offer is not None and self._record is not None:
            self._offer(
                self._record(
                    **self._record_fields(verdict, decision_id, word, policy, now_ns),
                    **self._request_fields(attributes),
                )
            )
        return response

    @staticmethod
    def _record_fields(
        verdict: Verdict, decision_id: str, word: str, policy: ActivePolicy, now_ns: int
    ) -> dict[str, Any]:
        return {
            "id": decision_id,
            "time_ns": now_ns,
            "verdict": word,
            "status": verdict.status,
            "reason": verdict.reason,
            "digest": policy.snapshot.digest,
            "misses": verdict.misses,
            "faults": tuple(rule.where for rule in verdict.faults),
            **_rule_fields(verdict.rule, policy.snapshot.secret_columns),
        }

    def _request_fields(self, attributes: Attributes | None) -> dict[str, Any]:
        fields: dict[str, Any] = _request_fields(attributes)
        settings = self._settings
        if attributes is not None and (settings.record_headers or settings.record_claims):
            fields["headers"] = _kept(settings.record_headers, lambda: attributes.headers)
            fields["claims"] = _kept(settings.record_claims, lambda: attributes.claims)
        return fields


def _verdict(decision: Decision) -> Verdict:
    rule = decision.rule
    if decision.allowed:
        reason = _ALLOWED_BY_NONE if rule is None else _ALLOWED_BY_RULE
        return Verdict(200, reason, rule, (), decision.faults)
    if rule is not None:
        return Verdict(403, _DENIED_BY_RULE, rule, (), decision.faults)
    misses = tuple([f"{miss.rule.where}: {miss.reason}" for miss in decision.misses])
    if decision.wants_credential:
        return Verdict(401, _NO_CREDENTIAL, None, misses, decision.faults)
    return Verdict(403, _NO_RULE, None, misses, decision.faults)


def _rule_fields(rule: Rule | None, secret_columns: Mapping[str, frozenset[int]]) -> dict[str, Any]:
    if rule is None:
        return {"rule_file": "", "rule_line": 0, "rule_text": ""}
    values = rule.values
    if secret := secret_columns.get(rule.ptype):
        values = tuple([MASKED if index in secret else value for index, value in enumerate(values)])
    # A condition left off is an empty last value.
    text = ", ".join((rule.ptype, *values)).removesuffix(", ")
    if "[" in text:
        text = masked_text(text)
    return {"rule_file": rule.file, "rule_line": rule.line, "rule_text": text}


def _request_fields(attributes: Attributes | None) -> dict[str, str]:
    """Who asked for what; empty where the request could not be read."""
    names = ("principal", "user", "service", "method", "path", "source_ip", "host")
    if attributes is None:
        return dict.fromkeys(names, "")
    values = (
        _shown(_principal, attributes),
        _shown(_user, attributes),
        _shown(_service, attributes),
        attributes.http.method,
        _shown(_path, attributes),
        _shown(_source_ip, attributes),
        _shown(_host, attributes),
    )
    return dict(zip(names, values, strict=True))


def _shown(read: Reader, attributes: Attributes) -> str:
    """Read what is only told of a request: what made the decision raise raises here again."""
    try:
        return str(read(attributes))
    except Exception:  # noqa: BLE001 - it was judged already; telling of it must not undo that
        return ""


def _kept(names: Sequence[str], read: Callable[[], Mapping[str, Any]]) -> dict[str, str]:
    """Read those headers or claims that the settings name; see `_shown`."""
    if not names:
        return {}
    try:
        return masks.kept(names, read())
    except Exception:  # noqa: BLE001 - as in _shown
        return {}


def _path(attributes: Attributes) -> str:
    return attributes.path.path[:_MAX_PATH_CHARACTERS]
