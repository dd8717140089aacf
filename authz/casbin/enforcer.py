"""casbin.Enforcer and its kin, deciding by the engine.

Everything but the decision is pycasbin's: management calls change pycasbin's model, adapters and
watchers hear of them from pycasbin, and the engine follows the model (see mirror).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import casbin
from casbin.core_enforcer import EnforceContext
from casbin.util import has_eval
from typing_extensions import override

from authz.casbin.assertion import WatchedFastModel, WatchedModel, watch
from authz.casbin.made import Unknown
from authz.casbin.mirror import Mirror
from authz.casbin.roles import linked
from authz.policy.decision import Decision
from authz.policy.language import Terms

__all__ = ["AsyncEnforcer", "Deciding", "Enforcer", "FastEnforcer"]

_DEFAULT = Terms()


class Deciding:
    """What makes one of pycasbin's enforcers decide by the engine.

    A custom effector, or a role manager or a policy list of somebody's own make, is known by
    pycasbin's interface only: with one of these an enforcer decides as pycasbin does.
    """

    # Of pycasbin's CoreEnforcer, whose subclass this becomes one of.
    model: Any
    fm: Any
    auto_build_role_links: bool
    logger: Any
    eft: Any
    rm_map: dict[str, Any]
    cond_rm_map: dict[str, Any]
    _mirror: Mirror
    _own_effector: Any = None

    def _initialize(self) -> None:
        self._mirror = Mirror()
        watch(self.model)
        super()._initialize()  # type: ignore[misc]  # of pycasbin's CoreEnforcer
        self._own_effector = self.eft

    @contextmanager
    def _loading(self) -> Iterator[None]:
        """Let decisions go on by the old policy while a new one is being loaded."""
        model = self.model
        with self._mirror.holding():
            if isinstance(model, WatchedModel) and self.auto_build_role_links:
                model.hollow = True
            try:
                yield
            finally:
                if isinstance(model, WatchedModel):
                    model.hollow = False
            self._mirror.renew(self.model, self.fm.get_functions(), *self._ready_after_load())

    def _ready_after_load(self) -> tuple[Terms, ...]:
        """Definitions that must not wait for their first decision."""
        return ()

    def init_rm_map(self) -> None:
        """Make the role managers, which keep their links in the engine's form from the start."""
        super().init_rm_map()  # type: ignore[misc]
        for manager in (*self.rm_map.values(), *self.cond_rm_map.values()):
            watched = linked(manager)
            if watched is not None:
                watched.links  # noqa: B018 - from here on it is kept up to date

    def enforce_ex(self, *rvals: Any) -> Any:
        """Decide, and name the deciding rule.

        Returns:
            The verdict, and the values of the rule that decided; an empty list where none did.

        Raises:
            RuntimeError: As in pycasbin: the request has not as many values as the definition, or
                a rule has not and none before it decides, or there is `eval()` but no rule.
            PolicyError: The matcher is outside the language.
        """
        enforcer: Any = self
        if not enforcer.enabled:
            return [True, []]
        given, terms = rvals, _DEFAULT
        if rvals and isinstance(rvals[0], EnforceContext):
            context = rvals[0]
            terms = Terms(context.rtype, context.ptype, context.etype, context.mtype)
            given = rvals[1:]
        if enforcer.eft is not self._own_effector:
            return super().enforce_ex(*rvals)  # type: ignore[misc]
        model = enforcer.model
        _check_size(model, terms, given)
        try:
            decision, row = self._mirror.decide(model, enforcer.fm.get_functions(), given, terms)
        except Unknown:
            return super().enforce_ex(*rvals)  # type: ignore[misc]
        self._log(given, decision)
        return decision.allowed, row

    def _log(self, request: tuple[Any, ...], decision: Decision) -> None:
        """Log as pycasbin does, and what raised."""
        logger = self.logger
        if logger.disabled:
            return
        line = f"Request: {', '.join([str(value) for value in request])} ---> {decision.allowed}"
        (logger.info if decision.allowed else logger.warning)(line)
        for rule in decision.faults:
            logger.warning("Raised on this request, and judged: %s", ", ".join(rule.values))


def _check_size(model: Any, terms: Terms, given: tuple[Any, ...]) -> None:
    """Check what pycasbin checks before it looks at a rule."""
    sections = model.model
    if "m" not in sections or "m" not in sections["m"]:
        raise RuntimeError("model is undefined")
    if len(sections["r"][terms.request].tokens) != len(given):
        raise RuntimeError("invalid request size")
    if not sections["p"][terms.policy].policy and has_eval(sections["m"][terms.matcher].value):
        raise RuntimeError("please make sure rule exists in policy when using eval() in matcher")


class Loading(Deciding):
    """Adds what is not asynchronous."""

    def load_policy(self) -> None:
        """Load the policy; until it is there, decisions are made by the old one."""
        with self._loading():
            super().load_policy()  # type: ignore[misc]

    def load_filtered_policy(self, filter: Any) -> None:  # noqa: A002 - pycasbin's name
        """Load a part of the policy; until it is there, decisions are made by the old one."""
        with self._loading():
            super().load_filtered_policy(filter)  # type: ignore[misc]


def filled(model: WatchedModel, path: str, text: str) -> WatchedModel:
    """Load a model that keeps its text as it was written."""
    if path:
        model.load_model(path)
    else:
        model.load_model_from_text(text)
    return model


class Enforcer(Loading, casbin.Enforcer):  # type: ignore[misc]  # casbin has no types
    """casbin.Enforcer, deciding by the engine."""

    @staticmethod
    def new_model(path: str = "", text: str = "") -> WatchedModel:
        """Make a model of a file or of a text."""
        return filled(WatchedModel(), path, text)


class FastEnforcer(Loading, casbin.FastEnforcer):  # type: ignore[misc]
    """casbin.FastEnforcer, deciding by the engine.

    With `cache_key_order` a request sees only the rules that share its values of those fields.
    """

    def new_model(self, path: str = "", text: str = "") -> WatchedModel:
        """Make a model of a file or of a text."""
        order = self._cache_key_order
        return filled(WatchedModel() if order is None else WatchedFastModel(order), path, text)

    @override
    def _ready_after_load(self) -> tuple[Terms, ...]:
        # Only the few rules of a request are taken over: what can be done for all is done here.
        return () if self._cache_key_order is None else (_DEFAULT,)


class AsyncEnforcer(Deciding, casbin.AsyncEnforcer):  # type: ignore[misc]
    """casbin.AsyncEnforcer, deciding by the engine."""

    @staticmethod
    def new_model(path: str = "", text: str = "") -> WatchedModel:
        """Make a model of a file or of a text."""
        return filled(WatchedModel(), path, text)

    async def load_policy(self) -> None:
        """Load the policy; until it is there, decisions are made by the old one."""
        with self._loading():
            await super().load_policy()

    async def load_filtered_policy(self, filter: Any) -> None:  # noqa: A002 - pycasbin's name
        """Load a part of the policy; until it is there, decisions are made by the old one."""
        with self._loading():
            await super().load_filtered_policy(filter)
