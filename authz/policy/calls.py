"""How calls in a matcher are compiled, and what is made of the texts that rules bring along."""

import contextlib
from collections.abc import Callable
from typing import Any

from authz.policy import operations
from authz.policy.codegen import Emitter
from authz.policy.language import Language, Terms
from authz.policy.syntax import Call, Const, Field, Node, walk

__all__ = ["CallWriter"]

# Texts beyond this many are compiled when a request first meets them: at load it would take longer
# than all the rest.
_MAX_READY = 2048


class _Made(dict[Any, Callable[..., Any]]):
    """What is made of texts, made when first asked for."""

    def __init__(self, make: Callable[[Any], Callable[..., Any]]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, text: Any) -> Callable[..., Any]:
        made = self[text] = self._make(text)
        return made


class CallWriter:
    """Writes the calls of one matcher.

    Attributes:
        boolean: Which functions always come to a truth value, by name.
    """

    def __init__(self, language: Language, terms: Terms) -> None:
        self._language = language
        self._terms = terms
        self.boolean = {name: each.boolean for name, each in language.functions.items()}
        self.boolean.update(dict.fromkeys([*language.roles, "meshWhen"], True))
        self._patterns: dict[str, _Made] = {}
        self._conditions = _Made(self._condition)
        self._whens = _Made(self._when)

    def __call__(self, emitter: Emitter, node: Call) -> str:
        """The expression for one call."""
        if node.name == "eval":
            text = emitter.emit(node.arguments[0])
            return f"{emitter.name(self._conditions)}[{text}](q, v)"
        if node.name == "meshWhen":
            attributes, text = [emitter.emit(each) for each in node.arguments]
            return f"(not {text} or {emitter.name(self._whens)}[{text}]({attributes}))"
        pattern = node.arguments[-1] if node.arguments else None
        function = self._language.functions.get(node.name)
        pair = 2
        if function is not None and function.prepare is not None and len(node.arguments) == pair:
            value = emitter.emit(node.arguments[0])
            if isinstance(pattern, Const) and isinstance(pattern.value, str):
                matches = self._language.pattern(node.name, pattern.value).matches
                return f"{emitter.name(matches)}({value})"
            if isinstance(pattern, Field) and pattern.of_rule:
                return f"{emitter.name(self._matches(node.name))}[{emitter.emit(pattern)}]({value})"
        arguments = ", ".join([emitter.emit(each) for each in node.arguments])
        return f"{emitter.name(self._language.plain(node.name))}({arguments})"

    def readied(self, node: Node) -> list[tuple[int, Callable[[str], None]]]:
        """For each field of a rule that holds a text to compile, what makes it ready."""
        found: list[tuple[int, Callable[[str], None]]] = []
        for each in walk(node):
            if isinstance(each, Call) and each.name in {"eval", "meshWhen"}:
                text = each.arguments[-1]
                if isinstance(text, Field) and text.of_rule:
                    made = self._conditions if each.name == "eval" else self._whens
                    found.append((text.index, _maker(made)))
        return found

    def _matches(self, function: str) -> _Made:
        pattern = self._language.pattern
        made = _Made(lambda text: pattern(function, text).matches)
        return self._patterns.setdefault(function, made)

    def _condition(self, text: Any) -> Callable[..., Any]:
        node = self._language.condition(text, self._terms)
        emitter = Emitter(self, lambda index: f"q[{index}]", self.boolean)
        return emitter.function(f"def made(q, v):\n return {emitter.emit(node)}\n", "made")

    def _when(self, text: Any) -> Callable[..., Any]:
        node = self._language.when(text)
        if node is None:
            return lambda _attributes: True
        emitter = Emitter(self, str, self.boolean, attributes=self._language.attribute)
        body = f"{emitter.name(operations.truth)}({emitter.emit(node)})"
        return emitter.function(f"def made(a):\n return {body}\n", "made")


def _maker(made: _Made) -> Callable[[str], None]:
    def ready(text: str) -> None:
        if text and text not in made and len(made) < _MAX_READY:
            # What can't be made is for the request that meets it to be judged by.
            with contextlib.suppress(Exception):
                made[text]

    return ready
