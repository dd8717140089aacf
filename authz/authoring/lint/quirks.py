"""Casbin's functions that match more than their patterns seem to say; for models of one's own.

The built-in model uses none of them in its columns; its conditions may.
"""

import ipaddress
from collections.abc import Callable, Iterator

from authz.authoring.findings import Place, Severity
from authz.authoring.lint.spec import Lint, Options, Problem, Subject, at_row
from authz.policy.options import EngineOptions
from authz.policy.rules import Row
from authz.policy.syntax import Call, Const, Field, Node, walk

__all__ = ["LINTS"]

_MADE_INTO_REGEX = ("keyMatch2", "keyMatch3", "keyMatch4", "keyMatch5")
# Besides the dot: what a regular expression takes for something else than itself.
_LIVE = frozenset(".+?^$|()[]\\")

Use = tuple[str, str, Row | None, int]


def _uses(subject: Subject, *functions: str) -> Iterator[Use]:
    """Each pattern that one of the functions gets: function, pattern, its row, its field."""
    mesh_when = {row.values[5] for row in subject.rules} if subject.is_mesh else set()
    for policy, node in subject.matchers():
        fields: dict[int, str] = {}
        for each in walk(node):
            if isinstance(each, Call) and each.name in functions and each.arguments:
                last = each.arguments[-1]
                if isinstance(last, Field) and last.of_rule:
                    fields.setdefault(last.index, each.name)
        yield from ((name, text, None, -1) for name, text in _constants(node, functions))
        if not fields and not mesh_when:
            continue
        for row in subject.rules:
            if row.ptype == policy:
                yield from ((name, row.values[at], row, at) for at, name in fields.items())
                yield from _in_condition(subject, row, functions)


def _in_condition(subject: Subject, row: Row, functions: tuple[str, ...]) -> Iterator[Use]:
    """Patterns written out in the condition of a rule of the built-in model."""
    if subject.is_mesh and subject.language is not None and row.values[5]:
        node = subject.language.when(row.values[5])
        if node is not None:
            yield from ((name, text, row, 5) for name, text in _constants(node, functions))


def _constants(node: Node, functions: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for each in walk(node):
        if isinstance(each, Call) and each.name in functions and each.arguments:
            last = each.arguments[-1]
            if isinstance(last, Const) and isinstance(last.value, str):
                yield each.name, last.value


def _found(
    *functions: str, judge: Callable[[str, str], tuple[str, str] | None]
) -> Callable[[Subject], Iterator[Problem]]:
    """A lint that looks at each pattern of some functions by itself."""

    def find(subject: Subject) -> Iterator[Problem]:
        for name, text, row, field in _uses(subject, *functions):
            said = judge(name, text)
            if said is None:
                continue
            if row is None:
                yield Problem(Place(subject.text.model_file, 0), *said)
            else:
                yield at_row(row, *said, field)

    return find


def _unanchored(_name: str, text: str) -> tuple[str, str] | None:
    if text.endswith(("$", r"\z", r"\Z", ".*")):
        return None
    return (
        f"regexMatch({text!r}) also matches whatever goes on behind it: only the start is anchored",
        f"write {text + '$'!r}",
    )


def _tail(_name: str, text: str) -> tuple[str, str] | None:
    before, star, tail = text.partition("*")
    if not star or not tail:
        return None
    plain = before + "*"
    message = f"keyMatch({text!r}) matches all that {plain!r} does: what follows a star is ignored"
    return message, "use globMatch or keyMatch2, or the built-in model's paths"


def _live(name: str, text: str) -> tuple[str, str] | None:
    found = sorted(_LIVE & set(text.replace("[.]", "").replace("\\.", "")))
    if not found:
        return None
    shown = " ".join(found)
    fix = "write [.] for a dot" if found == ["."] else "use the built-in model's paths"
    return f"{name} makes a regular expression of {text!r}, in which {shown} is not itself", fix


def _stars(_name: str, text: str) -> tuple[str, str] | None:
    if "**" not in text:
        return None
    return (
        f"globMatch({text!r}): ** stays within a segment, just as * does",
        "write one * for each segment, or use the built-in model's paths",
    )


def _host_bits(_name: str, text: str) -> tuple[str, str] | None:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            return None
        return f"ipMatch({text!r}) is the whole network {network}", f"write {str(network)!r}"
    return None


def _newline(subject: Subject) -> Iterator[Problem]:
    if not subject.options.engine.backtracking_regex:
        return
    names = sorted({name for name, *_ in _uses(subject, "regexMatch", *_MADE_INTO_REGEX)})
    if names:
        message = f"{', '.join(names)}: with Python's re, a final newline passes for the end"
        place = Place(subject.text.model_file, 0)
        yield Problem(place, message, "turn engine.backtracking_regex off")


def _model(matcher: str, effect: str = "some(where (p.eft == allow))") -> str:
    return (
        "[request_definition]\nr = sub, obj\n[policy_definition]\np = sub, obj\n"
        f"[policy_effect]\ne = {effect}\n[matchers]\nm = r.sub == p.sub && {matcher}\n"
    )


LINTS = (
    Lint(
        "regexmatch-unanchored",
        Severity.WARNING,
        "regexMatch with an expression that has no end",
        "It is anchored at the start only: `/orders` matches `/orders-archive/secret`.",
        "End it with `$`.",
        "p, alice, /orders/[0-9]+\n",
        _found("regexMatch", judge=_unanchored),
        _model("regexMatch(r.obj, p.obj)"),
    ),
    Lint(
        "keymatch-ignores-tail",
        Severity.WARNING,
        "keyMatch with text behind its first star",
        "That text is ignored: `/orders/*/total` matches `/orders/7/secret`.",
        "Use globMatch or keyMatch2, or the built-in model's paths.",
        "p, alice, /orders/*/total\n",
        _found("keyMatch", judge=_tail),
        _model("keyMatch(r.obj, p.obj)"),
    ),
    Lint(
        "keymatch2-live-dot",
        Severity.WARNING,
        "keyMatch2 to keyMatch5 with a dot, or another sign of regular expressions",
        "The pattern becomes a regular expression: `/v1.0/:id` matches `/v1x0/7`.",
        "Write `[.]` for a dot, or use the built-in model's paths.",
        "p, alice, /v1.0/:id\n",
        _found(*_MADE_INTO_REGEX, judge=_live),
        _model("keyMatch2(r.obj, p.obj)"),
    ),
    Lint(
        "globmatch-double-star",
        Severity.WARNING,
        "globMatch with `**`",
        "It matches one segment and no more, unlike in shells and in the built-in model.",
        "Write one `*` for each segment, or use the built-in model's paths.",
        "p, alice, /orders/**\n",
        _found("globMatch", judge=_stars),
        _model("globMatch(r.obj, p.obj)"),
    ),
    Lint(
        "ipmatch-host-bits",
        Severity.WARNING,
        "ipMatch with a network that is written with the address of a host",
        "`10.1.2.3/8` is all of `10.0.0.0/8`, not one host.",
        "Write the network's own address, or a /32.",
        "p, *, orders, GET, /a, allow, ipMatch(source.ip, '10.1.2.3/8')\n",
        _found("ipMatch", judge=_host_bits),
    ),
    Lint(
        "newline-at-end",
        Severity.NOTE,
        "functions made of regular expressions, with `engine.backtracking_regex` on",
        "In Python's re, `$` also holds before a final newline: a value that ends in one passes.",
        "Turn the setting off: re2 has no such `$`.",
        "p, alice, /orders$\n",
        _newline,
        _model("regexMatch(r.obj, p.obj)"),
        Options(engine=EngineOptions(backtracking_regex=True)),
    ),
)
