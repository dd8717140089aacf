"""Puts decisions on record to another policy: what would have been decided, where that can be told.

A record holds who asked for what, not the whole request. The candidate is asked with just that, and
what it reads beyond is noticed as it reads: such a decision is counted as one that can't be told,
and never guessed. Nor is one told that the policy in force does not decide again as it was.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec
from typing_extensions import override

from authz.attributes import MESH_BINDING, Attributes, BoundRequest, Reader, reader
from authz.paths import RequestPath
from authz.policy.options import MASKED, EngineOptions
from authz.policy.rules import PolicyText, Rule
from authz.policy.snapshot import Snapshot
from meshwarden.cli.asking import Asked, request_from_flags
from meshwarden.errors import NoVerdictError
from telemetry.record import DecisionRecord

__all__ = ["Difference", "Judge", "Replayed", "replay"]

# What a record holds of a request, and what follows from that.
_KNOWN: Final = frozenset(
    {
        "*",
        "source.principal",
        "source.namespace",
        "source.serviceAccount",
        "source.ip",
        "destination.service",
        "request.method",
        "request.path",
        "request.host",
        "request.time",
        "request.auth.user",
        "request.auth.principal",
    }
)
_HEADERS: Final = "request.headers"
_CLAIMS: Final = "request.auth.claims"
_CUT = "..."  # How a long value ends that was not kept whole.
# A path is cut to this length in a record.
_WHOLE_PATH_CHARACTERS = 1024
# These are the policy's own verdicts; others have to do with how the request was written.
_BY_POLICY: Final = (
    "allowed by a rule",
    "no rule denies it",
    "denied by a rule",
    "no rule matched",
)


@dataclass(frozen=True, slots=True)
class Difference:
    """A decision that would have been another.

    Attributes:
        record: What was decided.
        allowed: What would have been.
        rule: The candidate's deciding rule; None where none matched.
    """

    record: DecisionRecord
    allowed: bool
    rule: Rule | None


@dataclass(slots=True)
class Replayed:
    """What came of it.

    Attributes:
        same: Decisions that would have been the same.
        differences: Those that would not.
        untold: Why others can't be told, and how many for each reason.
    """

    same: int = 0
    differences: list[Difference] = field(default_factory=list)
    untold: Counter[str] = field(default_factory=Counter)

    @property
    def told(self) -> int:
        """How many could be told."""
        return self.same + len(self.differences)


class _NotRecordedError(Exception):
    """A policy asks for what no record holds."""


class _Recorded(Attributes):
    """The attributes of a request as far as its record holds them."""

    __slots__ = ("missed", "record")

    def __init__(self, record: DecisionRecord) -> None:
        request = request_from_flags(
            Asked(
                principal=record.principal,
                user=record.user.removeprefix("user:"),
                service=record.service,
                method=record.method,
                path=record.path,
                host=record.host,
                source_ip=record.source_ip,
            )
        )
        request.attributes.request.time.FromNanoseconds(record.time_ns)
        super().__init__(request, record.time_ns)
        # Normal already: what stands in it is not read a second time.
        self.path = RequestPath(record.path)
        self.record = record
        self.missed = ""

    def miss(self, name: str) -> Any:
        """Notice what is asked for and not on record.

        Raises:
            _NotRecordedError: Always.
        """
        self.missed = self.missed or name
        raise _NotRecordedError(name)

    def kept(self, attribute: str) -> "_Kept":
        """Give the headers or claims that were kept."""
        is_header = attribute == _HEADERS
        return _Kept(self, attribute, self.record.headers if is_header else self.record.claims)


class _Kept(Mapping[str, str]):
    """Headers or claims as far as a record holds them: anything else asked of them is missed."""

    def __init__(self, recorded: _Recorded, attribute: str, values: Mapping[str, str]) -> None:
        self._recorded = recorded
        self._attribute = attribute
        self._values = values

    @override
    def __getitem__(self, name: str) -> str:
        is_header = self._attribute == _HEADERS
        value = self._values.get(name.lower() if is_header else name)
        if (
            value is None
            or MASKED in value
            or value.endswith(_CUT)
            or not (is_header or _is_text(value))
        ):
            return str(self._recorded.miss(f"{self._attribute}[{name!r}]"))
        return value

    @override
    def __contains__(self, name: object) -> bool:
        return bool(self._recorded.miss(self._attribute))

    @override
    def __iter__(self) -> Iterator[str]:
        return iter((str(self._recorded.miss(self._attribute)),))

    @override
    def __len__(self) -> int:
        return int(self._recorded.miss(self._attribute))


def _is_text(claim: str) -> bool:
    """Whether a claim can only have been text: of others the record has lost the type."""
    try:
        msgspec.json.decode(claim)
    except msgspec.DecodeError:
        return True
    return False


class Judge:
    """A policy that notices what it reads beyond a record.

    Raises:
        PolicyError: The policy has faults.
    """

    def __init__(self, text: PolicyText, bind: Mapping[str, str], options: EngineOptions) -> None:
        self._snapshot = Snapshot.build(text, bind or None, replace(options, attribute=_reader))
        own = MESH_BINDING if text.model_file == "mesh" else {}
        sources = {**own, **bind}
        self._readers = tuple(_reader(sources[name]) for name in self._snapshot.request_fields)
        self.digest = self._snapshot.digest

    def judge(self, record: DecisionRecord) -> tuple[bool, Rule | None] | str:
        """Decide again; or say what of the request is not on record."""
        try:
            attributes = _Recorded(record)
        except NoVerdictError as error:
            return str(error)
        try:
            decision = self._snapshot.decide(BoundRequest(self._readers, attributes))
        except _NotRecordedError:
            return f"{attributes.missed} is not on record"
        if attributes.missed:
            # Some rule asked for it: whether it decides hangs on what it would have read.
            return f"{attributes.missed} is not on record"
        return decision.allowed, decision.rule


def replay(
    records: Iterable[DecisionRecord], candidate: Judge, enforced: Judge | None = None
) -> Replayed:
    """Decide again what was decided.

    Args:
        records: What is on record; what a shadow policy said is passed over.
        candidate: The policy to decide by.
        enforced: The policy in force, if it can be had: a decision of its own that it would not
            make again from what is on record can't be told.
    """
    found = Replayed()
    for record in records:
        if record.verdict not in {"allow", "deny"}:
            continue
        why = _unfit(record)
        if not why and enforced is not None and record.digest == enforced.digest:
            again = enforced.judge(record)
            # What the policy in force reads beyond the record says nothing about the candidate.
            if not isinstance(again, str) and again[0] != (record.verdict == "allow"):
                why = "the record alone does not lead to the decision that was made"
        if why:
            found.untold[why] += 1
            continue
        judged = candidate.judge(record)
        if isinstance(judged, str):
            found.untold[judged] += 1
        elif judged[0] == (record.verdict == "allow"):
            found.same += 1
        else:
            found.differences.append(Difference(record, *judged))
    return found


def _unfit(record: DecisionRecord) -> str:
    if not record.reason.startswith(_BY_POLICY):
        return f"it was not the policy that decided: {record.reason.partition(':')[0]}"
    if len(record.path) >= _WHOLE_PATH_CHARACTERS:
        return "its path is cut off"
    return ""


def _reader(expression: str) -> Reader:
    """Resolve an attribute as the engine does, to what reads it from a record."""
    read = reader(expression)
    if expression in _KNOWN:
        return read
    name, _, part = expression.partition("[")
    if name not in {_HEADERS, _CLAIMS}:
        return lambda attributes: _recorded(attributes).miss(expression)
    if not part:
        return lambda attributes: _recorded(attributes).kept(name)
    key = part.rstrip("]").strip("'\"")
    return lambda attributes: _recorded(attributes).kept(name)[key]


def _recorded(attributes: Attributes) -> _Recorded:
    if not isinstance(attributes, _Recorded):
        raise TypeError("only what is on record is asked for here")
    return attributes
