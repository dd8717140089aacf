"""Policy effects: which matching rule decides.

Source: casbin.org/docs/syntax-for-models, section "Policy effect".
"""

import enum
import re

from authz.policy.errors import ExpressionError

__all__ = ["Effect", "parse_effect"]


class Effect(enum.Enum):
    """One of Casbin's five policy effects.

    In each of them the deciding rule is the first, by rank, of the matching rules that count:
    so an effect is which effects count, their order, and the verdict when none matched.
    """

    ALLOW_OVERRIDE = "allow-override"
    DENY_OVERRIDE = "deny-override"
    ALLOW_AND_DENY = "allow-and-deny"
    PRIORITY = "priority"
    SUBJECT_PRIORITY = "subject-priority"

    @property
    def counts(self) -> tuple[str, ...]:
        """The rule effects that take part."""
        if self is Effect.ALLOW_OVERRIDE:
            return ("allow",)
        if self is Effect.DENY_OVERRIDE:
            return ("deny",)
        return ("deny", "allow")

    @property
    def ordered(self) -> bool:
        """Whether the order of rules may change a verdict."""
        return self in {Effect.PRIORITY, Effect.SUBJECT_PRIORITY}

    @property
    def otherwise(self) -> bool:
        """The verdict when no rule that counts has matched."""
        return self is Effect.DENY_OVERRIDE


_EFFECTS = {
    "some(where(p_eft==allow))": Effect.ALLOW_OVERRIDE,
    "!some(where(p_eft==deny))": Effect.DENY_OVERRIDE,
    "some(where(p_eft==allow))&&!some(where(p_eft==deny))": Effect.ALLOW_AND_DENY,
    "priority(p_eft)||deny": Effect.PRIORITY,
    "subjectPriority(p_eft)||deny": Effect.SUBJECT_PRIORITY,
}


def parse_effect(text: str) -> Effect:
    """Read an effect expression; spaces don't matter, and `p2.eft` is as good as `p.eft`.

    Raises:
        ExpressionError: It is none of Casbin's five.
    """
    plain = re.sub(r"\bp\d*[._]eft\b", "p_eft", re.sub(r"\s+", "", text))
    effect = _EFFECTS.get(plain)
    if effect is None:
        known = "; ".join(_EFFECTS).replace("p_eft", "p.eft")
        raise ExpressionError(f"unknown policy effect {text[:80]!r}; there are: {known}")
    return effect
