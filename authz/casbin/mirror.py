"""One enforcer's model as an engine, kept in step with whatever is done to the model.

Nobody tells the mirror anything: before each decision it looks whether what it was made from is
still what is there, by identity and by counted changes. That costs about two microseconds, and it
notices changes that came by no method of the enforcer.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from authz.casbin.made import Made, Unknown
from authz.policy.decision import Decision
from authz.policy.language import Terms

__all__ = ["Mirror", "Unknown"]


class Mirror:
    """Makes an engine of an enforcer's model when one is needed, and follows the model then."""

    def __init__(self) -> None:
        self._made: Made | None = None
        self._lock = threading.RLock()
        self._held = False

    def decide(
        self,
        model: Any,
        functions: dict[str, Any],
        request: tuple[Any, ...],
        terms: Terms,
    ) -> tuple[Decision, Made]:
        """Decide by the model as it is now, and say by what it was decided.

        Other threads may change the model meanwhile: what was decided while the engine was being
        changed is decided again.

        Cost: the decision; O(changes) after changes; O(rules) after a new load.

        Raises:
            Unknown: Only pycasbin can decide by this model.
            PolicyError: The model is outside the language.
        """
        made = self._current(model, functions)
        before = made.changes
        if not before & 1:
            try:
                decision = made.decide(request, terms)
            except Exception:
                if made.changes == before:
                    raise
            else:
                if made.changes == before:
                    return decision, made
        with self._lock:
            made = self._current(model, functions)
            return made.decide(request, terms), made

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Within it, decisions are made by the policy as it was: another is being loaded."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def drop(self) -> None:
        """Start anew with the next decision."""
        self._made = None

    def _current(self, model: Any, functions: dict[str, Any]) -> Made:
        made = self._made
        if made is not None and (self._held or (made.fits(model, functions) and made.is_current())):
            return made
        with self._lock:
            made = self._made
            if made is not None and made.fits(model, functions):
                made.changes += 1
                try:
                    caught_up = made.catch_up()
                except BaseException:
                    self._made = None
                    raise
                finally:
                    made.changes += 1
                if caught_up:
                    return made
            self._made = made = Made(model, functions)
            return made
