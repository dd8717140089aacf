"""What a lint is, and what it looks at."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from authz.authoring.callers import Callers
from authz.authoring.findings import Place, Severity
from authz.authoring.mesh_rules import Coverage, MeshRule
from authz.policy.checks import RowChecks, natural_terms
from authz.policy.effects import Effect
from authz.policy.errors import Fault, PolicyError
from authz.policy.language import Language
from authz.policy.mesh import mesh_model
from authz.policy.model import parse_model
from authz.policy.options import EngineOptions
from authz.policy.rules import PolicyText, Row
from authz.policy.syntax import Node

__all__ = ["Lint", "Options", "Problem", "Subject", "at_row", "line_of"]


@dataclass(frozen=True, slots=True)
class Options:
    """What a lint run is told.

    Attributes:
        engine: As the service builds the policy.
        bind: Request field to attribute, where that isn't the built-in model's own.
        trust_domains: Where callers may come from; empty: not asked.
        wide: How many of a rule's four columns may be wide open before it is found.
        check_principal: Raises ValueError on a principal that no certificate can hold.
    """

    engine: EngineOptions = field(default_factory=EngineOptions)
    bind: Mapping[str, str] = field(default_factory=dict)
    trust_domains: frozenset[str] = frozenset()
    wide: int = 3
    check_principal: Callable[[str], object] | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """What a lint yields; the run makes a Finding of it.

    Attributes:
        place: Where it is.
        message: One sentence without a final stop.
        fix: Likewise.
        field: See Finding.
        row: The line it is about.
        other: See Finding.
        severity: Where it isn't the lint's own.
    """

    place: Place
    message: str
    fix: str
    field: int = -1
    row: Row | None = None
    other: Place | None = None
    severity: Severity | None = None


@dataclass(frozen=True, slots=True)
class Lint:
    """One kind of thing to find.

    Attributes:
        id: Kebab-case; never renamed.
        severity: How bad it is.
        what: What is found, in a clause.
        why: What harm it does.
        fix: What to do.
        example: Lines of policy in which it is found; a test holds it to that.
        find: Finds it.
        model: The example's model; "" is the built-in one.
        options: What the example has to be looked at with.
    """

    id: str
    severity: Severity
    what: str
    why: str
    fix: str
    example: str
    find: "Callable[[Subject], Iterable[Problem]]"
    model: str = ""
    options: Options = field(default_factory=Options)


class Subject:
    """A policy as lints see it; what several of them need is worked out once.

    Args:
        text: The policy.
        options: See Options.

    Attributes:
        text: The policy.
        options: See Options.
        faults: What the engine would refuse.
        language: None where the model itself can't be used.
        rows: Every row without a fault, whole.
    """

    def __init__(self, text: PolicyText, options: Options) -> None:
        self.text = text
        self.options = options
        self.faults: list[Fault] = []
        self.language: Language | None = None
        self.rows: list[Row] = []
        try:
            language = Language(parse_model(text.model, text.model_file), options.engine)
            terms = natural_terms(language)
            self.effects: dict[str, Effect] = {
                each.policy: language.matcher(each).effect for each in terms
            }
            checks = RowChecks(language, terms)
        except PolicyError as error:
            self.faults += error.faults
            return
        self.language = language
        for written in text.rows:
            row = checks.complete(written)
            found = checks.faults(row)
            self.faults += found
            if not found:
                self.rows.append(row)

    @property
    def is_mesh(self) -> bool:
        """Whether it is the built-in model, whose columns lints understand."""
        return self.language is not None and self.text.model == mesh_model()

    @cached_property
    def rules(self) -> list[Row]:
        """Rows that are rules."""
        return [row for row in self.rows if row.ptype[0] == "p"]

    @cached_property
    def links(self) -> list[Row]:
        """Rows that give roles."""
        return [row for row in self.rows if row.ptype[0] == "g"]

    @cached_property
    def callers(self) -> Callers:
        """Who WHO columns are; of the built-in model."""
        return Callers(self.links)

    @cached_property
    def mesh_rules(self) -> list[MeshRule]:
        """Rules with their columns apart; none where it isn't the built-in model."""
        language = self.language
        if language is None or not self.is_mesh:
            return []
        return [MeshRule.of(row, language.when) for row in self.rules]

    @cached_property
    def coverage(self) -> Coverage:
        """Which rules cover which; of the built-in model."""
        return Coverage(self.mesh_rules, self.callers)

    def field_index(self, row: Row, name: str) -> int:
        """The place of a field in a row's definition; -1 if there is none."""
        return -1 if self.language is None else self.language.model.field_index(row.ptype, name)

    def matchers(self) -> Iterator[tuple[str, Node]]:
        """Each policy definition with a matcher that it runs with."""
        if self.language is not None:
            for terms in natural_terms(self.language):
                yield terms.policy, self.language.matcher(terms).node


def at_row(  # noqa: PLR0913 - the parts of a Problem
    row: Row,
    message: str,
    fix: str,
    field: int = -1,
    *,
    other: Row | None = None,
    severity: Severity | None = None,
) -> Problem:
    """A problem with one line."""
    place = Place(row.file, row.line)
    behind = None if other is None else Place(other.file, other.line)
    return Problem(place, message, fix, field, row, behind, severity)


def line_of(row: Row) -> str:
    """How messages name another line: its place and what it says."""
    text = ", ".join((row.ptype, *row.values)).removesuffix(", ")
    return f"{row.file}:{row.line} ({text})" if row.file else f"({text})"
