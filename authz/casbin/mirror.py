"""One enforcer's model as an engine, kept in step with whatever is done to the model.

Nobody tells the mirror anything: before each decision it looks whether what it was made from is
still what is there, by identity and by counted changes. That costs about two microseconds, and it
notices changes that came by no method of the enforcer.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from typing_extensions import override

from authz.casbin.made import Made, Unknown, Way
from authz.policy.decision import Decision
from authz.policy.errors import PolicyError
from authz.policy.language import Terms

__all__ = ["Mirror", "Unknown"]

_WAIT_S = 0.0001
_MAX_WAITS = 200


class Mirror:
    """Makes an engine of an enforcer's model when one is needed, and follows the model then."""

    def __init__(self) -> None:
        self._made: Made | None = None
        self._lock = threading.RLock()
        # Threads in a decision; a set's own calls are atomic.
        self._deciding: set[int] = set()
        # Asynchronous loads may overlap.
        self._loads = 0

    def decide(
        self,
        model: Any,
        functions: dict[str, Any],
        request: tuple[Any, ...],
        terms: Terms,
    ) -> tuple[Decision, Any]:
        """Decide by the model as it is now.

        Returns:
            The decision, and the row that pycasbin would name for it; [] if there is none.

        Other threads may change the model meanwhile: what was decided while the engine was being
        changed is decided again.

        Cost: the decision; O(changes) after changes; O(rules) after a new load.

        Raises:
            Unknown: Only pycasbin can decide by this model.
            PolicyError: The model is outside the language.
            RuntimeError: A row of the wrong size stands before the one to name.
        """
        made = self._current(model, functions)
        way = made.ways.get(terms) or self._new_way(made, terms)
        thread = threading.get_ident()
        inner = thread in self._deciding
        self._deciding.add(thread)
        before = made.changes
        decided: tuple[Decision, Any] | None = None
        try:
            if not before & 1:
                decision = way.decide(request)
                decided = decision, way.row(decision)
        except Exception:
            if made.changes == before:
                raise
        finally:
            if not inner:
                self._deciding.discard(thread)
        if decided is not None and decided[1] is not None and made.changes == before:
            return decided
        with self._lock:
            while True:
                way = self._current(model, functions).way(terms)
                decision = way.decide(request)
                row = way.row(decision)
                if row is not None:
                    return decision, row
                # Somebody has written into the row itself, which no list can notice.
                self._made = None

    def _new_way(self, made: Made, terms: Terms) -> Way:
        # Not while the rules it is made from change.
        with self._lock:
            return made.way(terms)

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Within it, decisions are made by the policy as it was: another is being loaded."""
        with self._lock:
            self._loads += 1
            try:
                yield
            finally:
                self._loads -= 1

    def renew(self, model: Any, functions: dict[str, Any], *ways: Terms) -> None:
        """Make an engine of a loaded policy aside, and put it in the place of the old one.

        Before the first decision there is nothing to renew.

        Args:
            model: The policy.
            functions: The enforcer's.
            ways: Definitions to make one for all the same.
        """
        used = self._made.ways if self._made is not None else ()
        if not (used or ways):
            return
        try:
            made = Made(model, functions)
            for terms in (*used, *ways):
                made.way(terms)
        except (Unknown, PolicyError):
            # Told to whoever asks for a decision.
            self._made = None
        else:
            self._made = made

    @override
    def __reduce__(self) -> tuple[type, tuple[()]]:
        """A copied enforcer makes an engine of its own."""
        return Mirror, ()

    def _current(self, model: Any, functions: dict[str, Any]) -> Made:
        made = self._made
        if made is not None and (
            self._loads or (made.fits(model, functions) and made.is_current())
        ):
            return made
        with self._lock:
            made = self._made
            if made is not None and made.fits(model, functions):
                made.changes += 1
                self._wait_for_others()
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

    def _wait_for_others(self) -> None:
        """Wait until no other thread is in a decision that began before the engine was to change.

        Not for long: a decision in which a user's function waits is decided again if it must be.
        """
        own = threading.get_ident()
        for _ in range(_MAX_WAITS):
            if not self._deciding - {own}:
                return
            time.sleep(_WAIT_S)
