"""What the engine itself refuses: the same code that the service runs."""

from collections.abc import Iterator

from authz.authoring.findings import Place, Severity
from authz.authoring.lint.spec import Lint, Problem, Subject

__all__ = ["LINTS"]


def _invalid(subject: Subject) -> Iterator[Problem]:
    for fault in subject.faults:
        place = Place(fault.file, fault.line)
        yield Problem(place, fault.message, "mend it: a policy with a fault is not served at all")


LINTS = (
    Lint(
        "invalid-policy",
        Severity.ERROR,
        "a line or a model that the service refuses",
        "Nothing of a policy with a fault comes into force; the last good one stays.",
        "Mend it; `meshwarden policy check` finds the same.",
        "p, *, orders, GET, /health, Allow\n",
        _invalid,
    ),
)
