"""Finds a request by which a rule of somebody's own model makes a difference, where one can be had.

What the model's matcher asks of each request field is guessed from the rule's values, and the
guesses are decided under both policies. A matcher that asks for more, such as attributes of
objects, gets no example.
"""

from collections.abc import Iterator, Sequence
from itertools import islice, product

from authz.authoring.examples import Example
from authz.authoring.search import Asking, Found
from authz.policy.language import Language
from authz.policy.rules import Row
from authz.policy.syntax import Call, Compare, Const, Field, Node, walk

__all__ = ["CustomPolicy", "find_custom"]

_MAX_VALUES = 6
_MAX_TRIED = 48
_MAX_MEMBERS = 8


class CustomPolicy:
    """One of the two policies, as the search needs it.

    Args:
        language: Its model's language.
        rows: Its rows without faults.
        matchers: Each policy definition with a matcher that it runs with.
    """

    def __init__(
        self, language: Language, rows: Sequence[Row], matchers: Sequence[tuple[str, Node]]
    ) -> None:
        self._fields = language.model.definitions["r"].fields
        self._roles = language.model.roles
        self._matchers = dict(matchers)
        self.rules = [row for row in rows if row.ptype[0] == "p"]
        self._members: dict[tuple[str, str], list[str]] = {}
        for row in rows:
            if row.ptype[0] == "g":
                self._members.setdefault((row.ptype, row.values[1]), []).append(row.values[0])

    def examples(self, row: Row) -> Iterator[Example]:
        """Requests that a rule may match, the likeliest first."""
        node = self._matchers.get(row.ptype)
        if node is None:
            return
        guesses: list[dict[str, None]] = [{} for _ in self._fields]
        for each in walk(node):
            for index, value in self._asked(each, row):
                guesses[index][value] = None
        columns = [[*each][:_MAX_VALUES] or ["any"] for each in guesses]
        for values in islice(product(*columns), _MAX_TRIED):
            yield Example(values=dict(zip(self._fields, values, strict=True)))

    def _asked(self, node: Node, row: Row) -> Iterator[tuple[int, str]]:
        """What one term asks of a request field."""
        if isinstance(node, Compare) and node.operator == "==":
            for one, other in ((node.left, node.right), (node.right, node.left)):
                if isinstance(one, Field) and not one.of_rule:
                    if isinstance(other, Field) and other.of_rule:
                        yield one.index, row.values[other.index]
                    elif isinstance(other, Const) and isinstance(other.value, str):
                        yield one.index, other.value
        if not isinstance(node, Call) or len(node.arguments) < 2:  # noqa: PLR2004 - a value, a pattern
            return
        value, pattern = node.arguments[:2]
        if not (isinstance(value, Field) and not value.of_rule):
            return
        if isinstance(pattern, Const):
            text = str(pattern.value)
        elif isinstance(pattern, Field) and pattern.of_rule:
            text = row.values[pattern.index]
        else:
            return
        found = self._held(node.name, text) if node.name in self._roles else _like(text)
        yield from ((value.index, each) for each in found)

    def _held(self, role: str, name: str) -> Iterator[str]:
        """Who has a role: its members first, as far down as there are any, then its own name."""
        seen = {name}
        waiting = [name]
        while waiting and len(seen) <= _MAX_MEMBERS:
            for member in self._members.get((role, waiting.pop()), ())[:_MAX_MEMBERS]:
                if member not in seen:
                    seen.add(member)
                    waiting.append(member)
                    yield member
        yield name

    def asking_for(self, link: Row) -> Iterator[Row]:
        """Rules that may ask for the role which a link gives."""
        names = {link.values[1]}
        above: dict[str, list[str]] = {}
        for (ptype, role), members in self._members.items():
            if ptype == link.ptype:
                for member in members:
                    above.setdefault(member, []).append(role)
        waiting = [link.values[1]]
        while waiting:
            for role in above.get(waiting.pop(), ()):
                if role not in names:
                    names.add(role)
                    waiting.append(role)
        yield from (row for row in self.rules if not names.isdisjoint(row.values))


def _like(pattern: str) -> Iterator[str]:
    """Values that a pattern of any of Casbin's functions may match."""
    for wild in ("any", "", "any/any"):
        text = pattern.strip("^$").replace(".*", wild).replace("**", wild).replace("*", wild)
        parts = ["1" if part[:1] in {":", "{"} else part for part in text.split("/")]
        yield "/".join(parts)
    yield pattern.partition("/")[0]
    yield pattern


def find_custom(
    row: Row, policy: CustomPolicy, asking: Asking, *, widens: bool, only: str = ""
) -> Found | None:
    """Find a request that one policy allows and the other doesn't.

    Args:
        row: The rule that it should match.
        policy: The policy that has the rule.
        asking: What decides.
        widens: Whether the new policy is to be the one that allows it.
        only: A value that the request must have; "" for any.
    """
    for example in policy.examples(row):
        if only and only not in example.values.values():
            continue
        if not asking.may_go_on():
            return None
        judged = asking.ask(example)
        if judged is not None and (judged[0].allowed, judged[1].allowed) == (not widens, widens):
            return Found(example, *judged)
    return None
