"""pycasbin's model, watched: whatever sets a policy list sets one that tells what changes in it.

A plain Model and its Assertions become watched ones by having their class changed: adapters and
the user's code keep the objects that they have.
"""

import copy
import logging
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Self

from casbin.model import Assertion, FastModel, FastPolicy, Model
from typing_extensions import override

from authz.casbin.rows import Rows
from authz.policy.model import without_comment

__all__ = ["FastRows", "WatchedAssertion", "WatchedModel", "watch"]


class WatchedAssertion(Assertion):  # type: ignore[misc]
    """One definition of a model, whose `policy` is always a list that is watched."""

    # The version of the list that is known to be in order of priority.
    _ordered_version = -1
    # The text as it was written, and what pycasbin has made of it.
    source: tuple[str, str] = ("", "")

    @property
    def text(self) -> str:
        """The definition as it was written, as far as that is known; else as pycasbin has it."""
        written, made = self.source
        text: str = written if made and self.value is made else self.value
        return text

    @property
    def policy(self) -> Any:
        """The rules of the definition; see Rows."""
        return self.__dict__["policy"]

    @policy.setter
    def policy(self, rows: Any) -> None:
        self._ordered_version = -1
        if type(rows) is list:
            old = self.__dict__.get("policy")
            rows = old.successor(rows) if isinstance(old, Rows) else Rows(rows)
        elif type(rows) is FastPolicy:
            rows.__class__ = FastRows
        self.__dict__["policy"] = rows

    @property
    def policy_map(self) -> "Unread":
        """What pycasbin writes for each rule and never reads: not kept."""
        return _UNREAD

    @policy_map.setter
    def policy_map(self, rows: object) -> None:
        pass

    def insert_by_priority(self, rule: Sequence[str]) -> None:
        """Insert a rule behind those of the same or a smaller priority.

        Raises:
            ValueError: A priority is not a number, or the rules are not in order.
        """
        rows = self.policy
        at = self.priority_index

        def rank(row: Sequence[str]) -> int:
            return int(row[at])

        rank(rule)
        if rows.version != self._ordered_version and any(
            rank(one) > rank(other) for one, other in pairwise(rows)
        ):
            raise ValueError("the rules are not in order")
        rows.add_ordered(rule, rank)
        self._ordered_version = rows.version


class Unread(dict[str, int]):
    """A mapping that takes everything and holds nothing."""

    @override
    def __setitem__(self, key: str, value: int) -> None:
        pass


_UNREAD = Unread()


class FastRows(FastPolicy):  # type: ignore[misc]
    """The policy of a FastEnforcer: sorted into sets by some fields, telling when it changes."""

    _changes = 0

    @override
    def append(self, item: Any) -> None:
        self._changes += 1
        super().append(item)

    @override
    def remove(self, policy: Any) -> Any:
        self._changes += 1
        return super().remove(policy)

    @property
    def version(self) -> tuple[int, object]:
        """Compares equal for as long as the same rules are to be seen."""
        return self._changes, self._current_filter


class WatchedModel(Model):  # type: ignore[misc]
    """A model that finds a rule's place by its priority without trying every place.

    Attributes:
        hollow: While true, a deep copy has none of the rules and shares the role managers: a
            load copies the model only to throw both away.
    """

    hollow = False

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copy all of it, or while `hollow` is true the definitions."""
        made = memo[id(self)] = type(self).__new__(type(self))
        if not self.hollow:
            made.__dict__.update(copy.deepcopy(self.__dict__, memo))
            return made
        made.__dict__.update(self.__dict__)
        made.hollow = False
        made.model = {
            name: {key: _without_rules(each) for key, each in section.items()}
            for name, section in self.model.items()
        }
        return made

    @override
    def add_def(self, sec: str, key: str, value: str) -> Any:
        """Add a definition; its comment is taken off, and its text kept as it was written.

        pycasbin writes underscores for the dots of its matchers, also within quotes.
        """
        text = without_comment(value).strip()
        added = super().add_def(sec, key, text)
        assertion = (self[sec] or {}).get(key)
        if added and assertion is not None:
            watch_assertion(assertion)
            assertion.source = text, assertion.value
        return added

    @override
    def print_policy(self) -> None:
        # pycasbin writes out the whole policy before it asks whether anybody reads it.
        if not self.logger.disabled and self.logger.isEnabledFor(logging.INFO):
            super().print_policy()

    @override
    def add_policy(self, sec: str, ptype: str, rule: Any) -> bool:
        assertion = self[sec][ptype]
        if (
            sec == "p"
            and assertion.priority_index >= 0
            and isinstance(assertion, WatchedAssertion)
            and isinstance(assertion.policy, Rows)
        ):
            if rule in assertion.policy:
                return False
            try:
                assertion.insert_by_priority(rule)
            except ValueError:
                pass
            else:
                return True
        added: bool = super().add_policy(sec, ptype, rule)
        return added


def _without_rules(assertion: Assertion) -> Assertion:
    made = copy.copy(assertion)
    made.field_index_map = dict(assertion.field_index_map)
    made.policy = []
    return made


class WatchedFastModel(WatchedModel, FastModel):  # type: ignore[misc]
    """The model of a FastEnforcer; only its other definitions have lists of rules."""


_WATCHED = {Model: WatchedModel, FastModel: WatchedFastModel}


def watch(model: Any) -> None:
    """Watch every policy list of a model; those that are watched already stay as they are."""
    if type(model) in _WATCHED:
        model.__class__ = _WATCHED[type(model)]
    for section in model.model.values():
        for assertion in section.values():
            watch_assertion(assertion)


def watch_assertion(assertion: Any) -> None:
    """Watch one definition."""
    if type(assertion) is Assertion:
        rows = assertion.__dict__.pop("policy", [])
        assertion.__dict__.pop("policy_map", None)
        assertion.__class__ = WatchedAssertion
        assertion.policy = rows
