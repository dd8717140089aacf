"""A whole policy, checked and immutable: the only thing that decides."""

import hashlib
from collections.abc import Mapping
from typing import Any, Protocol, Self

from authz.policy.checks import RowChecks, natural_terms
from authz.policy.decision import Decision, Explanation, Miss
from authz.policy.engine import Engine
from authz.policy.errors import ExpressionError, Fault, PolicyError
from authz.policy.language import Terms
from authz.policy.model import parse_model
from authz.policy.options import EngineOptions
from authz.policy.rules import PolicyText, Row, Rule

__all__ = [
    "Decision",
    "EngineOptions",
    "Explanation",
    "Miss",
    "PolicyText",
    "RequestValues",
    "Row",
    "Rule",
    "Snapshot",
    "Terms",
]


class RequestValues(Protocol):
    """The values of a request, by the index of the field in `r = ...`; may be worked out lazily."""

    def __getitem__(self, index: int, /) -> Any:
        """The value of one request field."""
        ...


class Snapshot:
    """One policy: decides, and says why.

    Attributes:
        digest: 64 hexadecimal digits over the model, the rows and the binding; the same for the
            same policy however it came in.
        rule_count: Policy rules; roles are not counted.
        request_fields: Names in `r = ...`, in order.
    """

    __slots__ = ("_engine", "digest", "request_fields", "rule_count")

    def __init__(self, engine: Engine, digest: str) -> None:
        self._engine = engine
        self.digest = digest
        self.request_fields = engine.model.definitions["r"].fields
        self.rule_count = sum(len(rules) for rules in engine.rules.values())

    @classmethod
    def build(
        cls,
        text: PolicyText,
        binding: Mapping[str, str] | None = None,
        options: EngineOptions = EngineOptions(),  # noqa: B008 - frozen
    ) -> Self:
        """Check a policy and make it ready to decide.

        Args:
            text: The model and every row.
            binding: Which attribute fills which request field; part of the digest.
            options: What the program decides.

        Raises:
            PolicyError: Something in it can't be used; it lists every fault with file and line.
        """
        model = parse_model(text.model, text.model_file)
        engine = Engine(model, options)
        terms = natural_terms(engine.language)
        checks = RowChecks(engine.language, terms)
        faults: list[Fault] = []
        rows = [checks.complete(row) for row in text.rows]
        for row in rows:
            found = checks.faults(row)
            if found:
                faults.extend(found)
            elif not faults:
                engine.add(row)
        if faults:
            raise PolicyError(faults)
        for each in terms:
            engine.program(each)
        try:
            engine.rank_by_subject()
        except ExpressionError as error:
            raise PolicyError([Fault("", 0, str(error))]) from error
        return cls(engine, _digest(text.model, rows, binding))

    def decide(self, request: RequestValues, terms: Terms = Terms()) -> Decision:  # noqa: B008
        """Decide one request."""
        return self._engine.decide(request, terms)

    def decide_by_scan(self, request: RequestValues, terms: Terms = Terms()) -> Decision:  # noqa: B008
        """Decide by trying every rule; decide() always agrees. Cost: O(rules)."""
        return self._engine.decide_by_scan(request, terms)

    def explain(self, request: RequestValues, terms: Terms = Terms()) -> Explanation:  # noqa: B008
        """Decide, and say everything there is to say about it. Cost: O(rules)."""
        decision = self._engine.decide(request, terms)
        matching = tuple(
            [rule for rule, raised in self._engine.matches(request, terms) if not raised]
        )
        return Explanation(decision, matching, (), ())


def _digest(model: str, rows: list[Row], binding: Mapping[str, str] | None) -> str:
    digest = hashlib.sha256(model.encode())
    for line in sorted("\x1f".join((row.ptype, *row.values)) for row in rows):
        digest.update(b"\x1e" + line.encode("utf-8", "surrogatepass"))
    for field, attribute in sorted((binding or {}).items()):
        digest.update(f"\x1d{field}={attribute}".encode())
    return digest.hexdigest()
