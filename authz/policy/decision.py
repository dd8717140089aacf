"""What a decision is, and what explains it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from authz.policy.rules import Rule

__all__ = ["Decision", "Explanation", "Miss", "Near"]


@dataclass(slots=True)
class Miss:
    """A rule that nearly matched.

    Attributes:
        rule: The rule.
        reason: What kept it from matching, in words.
    """

    rule: Rule
    reason: str


Near = tuple[tuple[Miss, ...], bool]
_NOTHING: Near = ((), False)


@dataclass(slots=True)  # Made on every request.
class Decision:
    """The answer to one request.

    Attributes:
        allowed: The verdict.
        rule: The rule that decided; None when no rule matched.
        faults: Rules whose condition or function raised on this request's values, among those
            looked at: an allow rule has then not matched, a deny rule has.
    """

    allowed: bool
    rule: Rule | None
    faults: tuple[Rule, ...] = ()
    # What finds the near misses, until it has; then what it found.
    _near: Callable[[], Near] | Near = field(default=_NOTHING, repr=False)

    @property
    def misses(self) -> tuple[Miss, ...]:
        """For a denial without a rule, up to three rules that nearly matched.

        Cost: nothing until it is read, then bounded work, once.
        """
        return self._looked()[0]

    @property
    def wants_credential(self) -> bool:
        """Whether the caller showed none and an allow rule matches on everything but who asks."""
        return self._looked()[1]

    def _looked(self) -> Near:
        near = self._near
        if not isinstance(near, tuple):
            near = self._near = near()
        return near


@dataclass(slots=True)
class Explanation:
    """Everything there is to say about a request.

    Attributes:
        decision: What decide() answers.
        matching: Every rule that matches, whatever its effect, in the order in which they count.
        misses: For a denial, the nearest rules that did not match, nearest first.
        role_path: From the caller's name to the role that made the deciding rule match.
    """

    decision: Decision
    matching: tuple[Rule, ...]
    misses: tuple[Miss, ...]
    role_path: tuple[str, ...]
