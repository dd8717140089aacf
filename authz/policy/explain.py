"""The slow side of a decision: everything there is to say about it."""

from typing import Any

from authz.policy.decision import Explanation
from authz.policy.engine import Engine
from authz.policy.language import Terms

__all__ = ["explain"]


def explain(engine: Engine, request: Any, terms: Terms) -> Explanation:
    """Explain one request. Cost: O(rules)."""
    decision = engine.decide(request, terms)
    matching = tuple([rule for rule, raised in engine.matches(request, terms) if not raised])
    return Explanation(decision, matching, (), ())
