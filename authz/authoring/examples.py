"""Example requests, and the values that their columns can have: in some patterns, not in others."""

import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product

from authz import paths
from authz.authoring.callers import Who, generic
from authz.authoring.mesh_rules import methods_cover, service_covers
from authz.authoring.shapes import meet, parts_meet
from authz.policy.segments import MANY, ONE, Part, Segments, matches, parse_segments

__all__ = ["Caller", "Example", "callers_in", "methods_in", "paths_in", "services_in"]

# What stands for a wild part: the second one in case a pattern has the first.
_WORDS = ("any", "zq9x")
_NUMBERS = ("1", "zq9x")
# How many segments `**` is tried as, the likeliest first.
_LENGTHS = (1, 0, 2, 3, 5)
_METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT")
_MAX_NAMES = 64


@dataclass(frozen=True, slots=True)
class Example:
    """A request, in the words of `meshwarden check`; of a model of one's own, in its fields.

    Attributes:
        values: Request field to value, of a model of one's own; the rest is then empty.
    """

    principal: str = ""
    user: str = ""
    service: str = ""
    method: str = "GET"
    path: str = "/"
    host: str = ""
    source_ip: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    claims: Mapping[str, str] = field(default_factory=dict)
    context: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def said(self) -> str:
        """The request in one line, for people."""
        if self.values:
            return ", ".join(f"{name}={value!r}" for name, value in self.values.items())
        caller = " for ".join(each for each in (self.principal, self.user) if each)
        parts = [caller or "anybody", f"{self.method} {self.path} on {self.service}"]
        for name, values in (
            ("header", self.headers),
            ("claim", self.claims),
            ("context", self.context),
        ):
            parts += [f"{name} {key}={value}" for key, value in values.items()]
        parts += [f"from {self.source_ip}"] if self.source_ip else []
        parts += [f"host {self.host}"] if self.host else []
        return "  ".join(parts)

    @property
    def flags(self) -> str:
        """Options that have `meshwarden check` ask for it; "" where it has none for it."""
        if self.values:
            return ""
        words: list[str] = []
        for name in ("principal", "user", "service", "method", "path", "host", "source_ip"):
            value = getattr(self, name)
            if value:
                words += [f"--{name.replace('_', '-')}", value]
        for name in ("header", "claim", "context"):
            values = self.context if name == "context" else getattr(self, f"{name}s")
            for key, value in values.items():
                words += [f"--{name}", f"{key}={value}"]
        return shlex.join(words)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a principal, an end user, both or neither."""

    principal: str = ""
    user: str = ""

    @classmethod
    def of(cls, *names: str) -> "Caller":
        """A caller with these names, which policy tells apart by their prefix."""
        principal = user = ""
        for name in names:
            if name.startswith("user:"):
                user = name.removeprefix("user:")
            else:
                principal = name
        return cls(principal, user)

    @property
    def names(self) -> tuple[str, ...]:
        """As policy names it."""
        named = (self.principal, f"user:{self.user}" if self.user else "")
        return tuple(name for name in named if name)

    def is_in(self, who: Who) -> bool:
        """Whether it is one of some callers."""
        return who.anybody or any(who.has(name) for name in self.names)


def callers_in(within: Sequence[Who], outside: Iterable[Who]) -> Iterator[Caller]:
    """Callers that are in all of some sets and in none of others."""
    tried = list(outside)
    for caller in _callers(within):
        if all(caller.is_in(each) for each in within) and not any(
            caller.is_in(each) for each in tried
        ):
            yield caller


def _callers(within: Sequence[Who]) -> Iterator[Caller]:
    named = [who for who in within if not who.anybody]
    if not named:
        yield Caller()
        yield from (Caller(principal=f"{word}.example/ns/{word}/sa/{word}") for word in _WORDS)
        return
    for who in named:
        yield from map(Caller.of, _names(who))
    for one, other in combinations(named, 2):
        shared = one.shared(other)
        if shared:
            yield Caller.of(shared)
    # A workload that calls for a user is both.
    for one, other in combinations(named, 2):
        for name, second in product(_names(one), _names(other)):
            if name.startswith("user:") != second.startswith("user:"):
                yield Caller.of(name, second)


def _names(who: Who) -> Iterator[str]:
    yield from sorted(who.names)[:_MAX_NAMES]
    for _, form in who.patterns[:_MAX_NAMES]:
        yield from _variants(form, _WORDS)


def _variants(form: Segments, words: Sequence[str]) -> Iterator[str]:
    """Values that fit a pattern: in several lengths, in several words."""
    lengths = _LENGTHS if MANY in form else (1,)
    for length in lengths:
        for word in words:
            spread: list[str | Part] = []
            for step in form:
                if step is MANY:
                    spread += [word] * length
                elif step is ONE:
                    spread.append(word)
                elif isinstance(step, (str, Part)):
                    spread.append(step)
            yield generic(tuple(spread), word)


def paths_in(within: Sequence[str], outside: Collection[str]) -> Iterator[str]:
    """Paths in normal form that some PATH columns match and others don't."""
    forms = [_path_form(text) for text in dict.fromkeys(within)]
    avoided = [_path_form(text) for text in outside]
    for path in dict.fromkeys(_paths(forms)):
        if (
            all(matches(form, path) for form in forms)
            and not any(matches(form, path) for form in avoided)
            # A path that has one reading only: the service then decides once, as is done here.
            and paths.normalise(path) == paths.RequestPath(path)
        ):
            yield path


def _path_form(text: str) -> Segments:
    # `**` also matches no path at all; no example is made of that.
    return ("", MANY) if text == "**" else parse_segments(text)


def _paths(forms: Sequence[Segments]) -> Iterator[str]:
    for form in forms:
        for path in _variants(form, _NUMBERS):
            yield path or "/"
            if form[-1] is MANY:
                yield f"{path}/"
    if len(forms) > 1:
        for word in _NUMBERS:
            met = meet(forms[0], forms[1], word)
            if met is not None:
                yield met


def services_in(within: Sequence[str], outside: Collection[str]) -> Iterator[str]:
    """Services that some SERVICE columns match and others don't."""
    for name in dict.fromkeys(_services(within)):
        if (
            name
            and all(service_covers(text, name) for text in within)
            and not any(service_covers(text, name) for text in outside)
        ):
            yield name


def _services(within: Sequence[str]) -> Iterator[str]:
    shapes: list[Part] = []
    for text in within:
        if "*" not in text:
            yield text
        elif text != "*":
            shapes.append(Part(tuple(text.split("*"))))
    yield from (word.join(shape.pieces) for shape in shapes for word in _WORDS)
    if len(shapes) > 1:
        yield parts_meet(shapes[0], shapes[1]) or ""
    yield from _WORDS


def methods_in(
    within: Sequence[frozenset[str]], outside: Collection[frozenset[str]]
) -> Iterator[str]:
    """Methods that some METHOD columns have and others don't."""
    named = [names for names in within if "*" not in names]
    known = [name for name in _METHODS if all(name in names for names in named)]
    rest = sorted(named[0].difference(_METHODS)) if named else []
    for name in (*known, *rest):
        single = frozenset((name,))
        if all(methods_cover(names, single) for names in within) and not any(
            methods_cover(names, single) for names in outside
        ):
            yield name
