"""A whole policy, checked and immutable: the only thing that decides."""

import gc
import hashlib
import heapq
from collections.abc import Generator, Iterator, Mapping
from typing import Any, Protocol, Self

from authz.policy.checks import RowChecks, natural_terms
from authz.policy.decision import Decision, Explanation, Miss
from authz.policy.engine import Engine
from authz.policy.errors import ExpressionError, Fault, PolicyError
from authz.policy.explain import explain
from authz.policy.language import Terms
from authz.policy.model import parse_model
from authz.policy.options import EngineOptions
from authz.policy.queries import Grant, open_request
from authz.policy.release import emptied, taken_apart
from authz.policy.report import MatcherPlan, report
from authz.policy.rules import PolicyText, Row, Rule

__all__ = [
    "Decision",
    "EngineOptions",
    "Explanation",
    "Grant",
    "MatcherPlan",
    "Miss",
    "PolicyText",
    "RequestValues",
    "Row",
    "Rule",
    "Snapshot",
    "Terms",
]

# Rows between two breaths of a build: about a millisecond of work.
_SLICE = 50
_RUN = 500
_DEFAULT = Terms()


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
        secret_columns: By "p", "p2", ...: the values of a rule that must not be told, since a
            request that matches holds the like of them in a field that is secret.
    """

    __slots__ = (
        "_decide",
        "_engine",
        "digest",
        "request_fields",
        "rule_count",
        "secret_columns",
    )

    def __init__(self, engine: Engine, digest: str) -> None:
        self._engine = engine
        self._decide = engine.decider()
        self.digest = digest
        self.request_fields = engine.model.definitions["r"].fields
        self.rule_count = sum(len(rules) for rules in engine.rules.values())
        self.secret_columns: Mapping[str, frozenset[int]] = {
            terms.policy: columns
            for terms in natural_terms(engine.language)
            if (columns := engine.language.secret_columns(terms))
        }

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Every rule, in the order of the source. Cost: O(rules)."""
        return tuple(rule for rules in self._engine.rules.values() for rule in rules.values())

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
        building = cls._building(text, binding, options)
        # Nothing made here is garbage: collecting meanwhile only costs time, half as much again.
        collecting = gc.isenabled()
        gc.disable()
        try:
            while True:
                next(building)
        except StopIteration as done:
            built: Self = done.value
            return built
        finally:
            if collecting:
                gc.enable()

    @classmethod
    def build_in_slices(
        cls,
        text: PolicyText,
        binding: Mapping[str, str] | None = None,
        options: EngineOptions = EngineOptions(),  # noqa: B008 - frozen
    ) -> Generator[None, None, Self]:
        """Build as build() does, stopping for breath every few milliseconds.

        What a slice has made is frozen for the garbage collector: it would else look through all of
        the unfinished policy again and again, for hundreds of milliseconds at a time.

        Yields:
            Nothing, wherever an event loop may do something else.

        Returns:
            The Snapshot, as the generator's value.

        Raises:
            PolicyError: See build().
        """
        building = cls._building(text, binding, options)
        while True:
            collecting = gc.isenabled()
            gc.disable()
            try:
                next(building)
            except StopIteration as done:
                built: Self = done.value
                return built
            finally:
                # The young ones first, so that no garbage of others is frozen with the rest.
                gc.collect(0)
                gc.freeze()
                if collecting:
                    gc.enable()
            yield

    @classmethod
    def _building(
        cls,
        text: PolicyText,
        binding: Mapping[str, str] | None,
        options: EngineOptions,
    ) -> Generator[None, None, Self]:
        model = parse_model(text.model, text.model_file)
        engine = Engine(model, options)
        engine.language.bind(binding or {})
        terms = natural_terms(engine.language)
        checks = RowChecks(engine.language, terms)
        faults = _without_condition(engine)
        yield
        engine.prepare(terms, text.rows)
        digest = _Digest(text.model, binding, ordered=engine.is_ordered(terms))
        for number, written in enumerate(text.rows):
            if number % _SLICE == 0:
                yield
            row = checks.complete(written)
            digest.add(row)
            found = checks.faults(row)
            if found:
                faults.extend(found)
            elif not faults:
                engine.add(row)
        faults.extend(checks.undefined())
        if faults:
            raise PolicyError(faults)
        try:
            yield from engine.settle()
        except ExpressionError as error:
            raise PolicyError([Fault("", 0, str(error))]) from error
        yield from digest.finish()
        return cls(engine, digest.text)

    def decide(self, request: RequestValues, terms: Terms = _DEFAULT) -> Decision:
        """Decide one request.

        Args:
            request: Its values, by index of the request definition's fields.
            terms: Which definitions to run with; the model's first ones unless told otherwise.
        """
        if terms is _DEFAULT:
            return self._decide(request)
        return self._engine.decide(request, terms)

    def decide_by_scan(self, request: RequestValues, terms: Terms = _DEFAULT) -> Decision:
        """Decide by trying every rule; decide() always agrees. Cost: O(rules)."""
        return self._engine.decide_by_scan(request, terms)

    def explain(self, request: RequestValues, terms: Terms = _DEFAULT) -> Explanation:
        """Decide, and say everything there is to say about it. Cost: O(rules)."""
        return explain(self._engine, request, terms)

    def as_pycasbin(self, decision: Decision, terms: Terms = _DEFAULT) -> tuple[bool, list[str]]:
        """What pycasbin's enforce_ex returns for a decision: the verdict and the rule behind it."""
        return self._engine.as_pycasbin(decision, terms)

    def who_can(self, known: Mapping[str, Any], terms: Terms = _DEFAULT) -> tuple[Grant, ...]:
        """Every rule that speaks of a request of which only this is known, and who it speaks of.

        Cost: O(rules).

        Args:
            known: Values by the name of the request's field, all but who asks:
                `{"service": "reviews.shop", "method": "GET", "path": "/r/1"}`.
            terms: See decide().

        Raises:
            KeyError: The request has no such field.
        """
        return tuple(open_request(self._engine, known, terms))

    def what_can(self, known: Mapping[str, Any], terms: Terms = _DEFAULT) -> tuple[Grant, ...]:
        """Every rule that speaks of a caller: who_can() the other way round.

        Args:
            known: Who asks, such as `{"who": "td/ns/shop/sa/web", "user": ""}`.
            terms: See decide().

        Raises:
            KeyError: The request has no such field.
        """
        return tuple(open_request(self._engine, known, terms))

    def plan(self) -> tuple[MatcherPlan, ...]:
        """How each matcher is looked up, with a warning of what is tried rule by rule."""
        every = natural_terms(self._engine.language)
        return tuple([report(self._engine, terms) for terms in every])

    def release(self) -> Iterator[None]:
        """Take the Snapshot apart, stopping for breath: dropped at once it would stall a loop.

        Call it only when nothing can decide by this Snapshot any more, and run it to its end.

        Yields:
            Nothing, wherever an event loop may do something else.
        """
        return taken_apart(self._engine)


def _without_condition(engine: Engine) -> list[Fault]:
    """Roles whose links have parameters that nothing would ever look at."""
    return [
        Fault(engine.model.file, role.line, f"{key} has parameters, but no condition is configured")
        for key, role in engine.model.roles.items()
        if role.parameters and engine.language.roles[key].condition is None
    ]


class _Digest:
    """Hashes a policy so that the order of rows makes no difference, unless it does to verdicts.

    Rows are sorted in runs that are then merged: sorting all at once would be too long a slice.
    """

    def __init__(self, model: str, binding: Mapping[str, str] | None, *, ordered: bool) -> None:
        self._hash = hashlib.sha256(model.encode("utf-8", "surrogatepass"))
        for field, attribute in sorted((binding or {}).items()):
            self._hash.update(f"\x1d{field}={attribute}".encode())
        self._ordered = ordered
        self._number = 0
        self._run: list[str] = []
        self._runs = [self._run]
        self.text = ""

    def add(self, row: Row) -> None:
        """Take in one row; numbered where the order of rules decides."""
        line = "\x1f".join((row.ptype, *row.values))
        if self._ordered and row.ptype[0] == "p":
            self._number += 1
            line = f"{self._number:012}\x1f{line}"
        self._run.append(line)
        if len(self._run) == _RUN:
            self._run.sort()
            self._run = []
            self._runs.append(self._run)

    def finish(self) -> Iterator[None]:
        """Work the digest out; `text` has it afterwards.

        Yields:
            Nothing, wherever an event loop may do something else.
        """
        self._run.sort()
        for number, line in enumerate(heapq.merge(*self._runs)):
            if number % _RUN == 0:
                yield
            self._hash.update(b"\x1e" + line.encode("utf-8", "surrogatepass"))
        self.text = self._hash.hexdigest()
        for run in self._runs:
            yield from emptied(run)
