"""Policy YAML to rows of the built-in mesh model: the same rules as the CSV's, by name.

    rules:
      - allow:
          who: role:shop-frontend      # or a list; so may service and path be
          service: orders
          methods: [GET, HEAD]         # or "*", or GET|HEAD
          path: /api/v1/orders/*
          when: request.headers["x-env"] == "prod"     # may be left out, and nothing else
      - deny: {who: "*", service: orders, methods: "*", path: /admin/**}
    roles:
      shop-frontend:                   # is role:shop-frontend above
        - shop.example/ns/prod/sa/web

What is left out is a fault and never "everything". Every value is text: `yes` is the word, `8080`
the digits.
"""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, TypeAlias

import yaml

from authz.policy.errors import Fault
from authz.policy.rules import Row

__all__ = ["parse_yaml"]

_TOP = ("rules", "roles")
_EFFECTS = ("allow", "deny")
_FIELDS = ("who", "service", "methods", "path", "when")
_EVERYTHING = {"who": '"*"', "service": '"*"', "methods": '"*"', "path": "/**"}
_ROLE = "role:"
# The format is six deep. PyYAML's own composer recurses in C, where depth ends the process.
_DEPTH = 16
# Lists multiply, and an alias makes a list cheap to repeat.
_ROWS = 1_000_000
# Some hundred MiB while a file is read; 300,000 rules.
_VALUES = 4_000_000
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(slots=True)
class _Scalar:
    text: str
    line: int


@dataclass(slots=True)
class _List:
    line: int
    items: list["_Node"] = field(default_factory=list)


@dataclass(slots=True)
class _Table:
    line: int
    keys: list[_Scalar] = field(default_factory=list)
    values: list["_Node"] = field(default_factory=list)


_Node: TypeAlias = _Scalar | _List | _Table


def parse_yaml(text: str, file: str) -> tuple[list[Row], list[Fault]]:
    """Read all rows of one file.

    Args:
        text: The file's text.
        file: How rows and faults name the file.

    Returns:
        The rows that could be read, and a fault for each thing that could not. A row's line is
        that of the first of path, service and who that is written as a list; else the rule's.
    """
    reading = _Reading(file)
    try:
        root = _composed(text)
    except _WrongError as error:
        return [], [Fault(file, error.line, error.message)]
    except yaml.YAMLError as error:
        return [], [_fault_of(error, text, file)]
    if root is not None and not _is_empty(root):
        reading.top(root)
    return reading.rows, reading.faults


class _WrongError(Exception):
    """The file is YAML, but not such as a policy is written in."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


class _Reading:
    """One file's reading; collects what is wrong with it."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.rows: list[Row] = []
        self.faults: list[Fault] = []

    def top(self, root: _Node) -> None:
        for key, value in self._entries(root, "a policy file", _TOP):
            if _is_empty(value):
                continue
            if key.text == "roles":
                self._roles(value)
            elif isinstance(value, _List):
                for item in value.items:
                    self._rule(item)
            else:
                self._fault(
                    value.line, "'rules' is a list: each begins with '- allow:' or '- deny:'"
                )

    def _rule(self, item: _Node) -> None:
        entries = self._entries(item, "a rule", _EFFECTS)
        if len(entries) > 1:
            self._fault(entries[1][0].line, "a rule allows or denies; begin another one with '- '")
        for effect, body in entries[:1]:
            found = {
                key.text: value for key, value in self._entries(body, "a rule's body", _FIELDS)
            }
            missing = [name for name in _EVERYTHING if name not in found]
            if isinstance(body, _Table):
                for name in missing:
                    said = (
                        f"{name!r} is missing; to mean every one, write {name}: {_EVERYTHING[name]}"
                    )
                    self._fault(item.line, said)
            if not missing:
                self._rows_of(effect, found)

    def _rows_of(self, effect: _Scalar, found: dict[str, _Node]) -> None:
        lists = {name: self._texts(name, found[name]) for name in _EVERYTHING}
        methods = "|".join(each.text for each in lists["methods"])
        conditions = [_Scalar("", 0)]
        if "when" in found:
            conditions = self._texts("when", found["when"], single=True)
        if not (conditions and all(lists.values())):
            return
        when = conditions[0].text
        varied = [name for name in ("path", "service", "who") if isinstance(found[name], _List)]
        count = len(lists["who"]) * len(lists["service"]) * len(lists["path"])
        if len(self.rows) + count > _ROWS:
            self._fault(effect.line, f"with this rule the file has more than {_ROWS} rules")
            return
        for who, service, path in product(lists["who"], lists["service"], lists["path"]):
            line = {"who": who, "service": service, "path": path}[varied[0]].line if varied else 0
            values = (who.text, service.text, methods, path.text, effect.text)
            # A rule without a condition is the same row as the CSV's with five fields.
            condition = (when,) if when else ()
            self.rows.append(Row("p", values + condition, self.file, line or effect.line))

    def _roles(self, roles: _Node) -> None:
        for name, members in self._entries(roles, "'roles'", None):
            role = name.text if name.text.startswith(_ROLE) else _ROLE + name.text
            if _is_empty(members):
                self._fault(name.line, f"role {name.text!r} has no members; list them or remove it")
                continue
            for member in self._texts(name.text, members):
                self.rows.append(Row("g", (member.text, role), self.file, member.line))

    def _entries(
        self, node: _Node, what: str, known: Sequence[str] | None
    ) -> list[tuple[_Scalar, _Node]]:
        """The pairs of a mapping whose keys may stand there; others are faults."""
        if not isinstance(node, _Table):
            keys = f" with {', '.join(known)}" if known else " of names to lists of members"
            self._fault(node.line, f"{what} is a mapping{keys}")
            return []
        found: dict[str, tuple[_Scalar, _Node]] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            if known is not None and key.text not in known:
                near = difflib.get_close_matches(key.text, known, n=1, cutoff=0.5)
                hint = f"the nearest is {near[0]!r}" if near else f"there are: {', '.join(known)}"
                self._fault(key.line, f"{key.text!r} is no key of {what}; {hint}")
            elif key.text in found:
                # YAML would keep the last one: a rule that silently isn't there.
                self._fault(key.line, f"{key.text!r} stands twice")
            elif not key.text.strip():
                self._fault(key.line, f"a key of {what} is empty")
            else:
                found[key.text] = (key, value)
        return list(found.values())

    def _texts(self, name: str, node: _Node, *, single: bool = False) -> list[_Scalar]:
        """The text of a value, or the texts of a list of them; nothing where one is at fault."""
        items = [node] if single or not isinstance(node, _List) else node.items
        made = []
        for item in items:
            if not isinstance(item, _Scalar):
                form = "is one text" if single else "is one text, or a list of them"
                self._fault(item.line, f"{name!r} {form}")
            elif not item.text:
                self._fault(item.line, f"{name!r} is empty")
            elif "\n" in item.text:
                said = f"{name!r} holds a line break; '>' in place of '|' folds lines into one"
                self._fault(item.line, said)
            else:
                made.append(item)
        if not items:
            self._fault(node.line, f"{name!r} is an empty list")
        return made if len(made) == len(items) else []

    def _fault(self, line: int, message: str) -> None:
        self.faults.append(Fault(self.file, line, message))


def _is_empty(node: _Node) -> bool:
    return isinstance(node, _Scalar) and not node.text


def _composed(text: str) -> _Node | None:
    """Make nodes with lines of a document; None where it is empty.

    Raises:
        YAMLError: It is no YAML.
        _WrongError: It is too deep, has tags or more than one document.
    """
    open_nodes: list[_List | _Table] = []
    anchors: dict[str, _Node] = {}
    root: _Node | None = None
    for count, event in enumerate(_events(text)):
        if isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
            open_nodes.pop()
            continue
        line = event.start_mark.line + 1
        if count > _VALUES:
            raise _WrongError(line, f"holds more than {_VALUES} values by here; split it")
        node = _node(event, line, anchors)
        if open_nodes:
            _put(open_nodes[-1], node, line)
        elif root is None:
            root = node
        else:
            raise _WrongError(line, "a second document begins; a policy file is one")
        if isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent)):
            assert isinstance(node, (_List, _Table))  # noqa: S101 - by _node
            open_nodes.append(node)
            if len(open_nodes) > _DEPTH:
                raise _WrongError(line, f"is nested more than {_DEPTH} deep")
    return root


def _events(text: str) -> Iterator[Any]:
    """The events that carry a node or end one."""
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, (yaml.NodeEvent, yaml.SequenceEndEvent, yaml.MappingEndEvent)):
            yield event


def _node(event: Any, line: int, anchors: dict[str, _Node]) -> _Node:
    if isinstance(event, yaml.AliasEvent):
        if event.anchor not in anchors:
            said = f"'*{event.anchor}' stands for nothing here"
            raise _WrongError(line, f"{said}; a text that begins with * needs quotes")
        return anchors[event.anchor]
    if event.tag not in {None, "!", "tag:yaml.org,2002:str"}:
        raise _WrongError(line, f"the tag {event.tag!r} means nothing here; take it away")
    node: _Node
    if isinstance(event, yaml.ScalarEvent):
        # A plain null is as good as nothing written.
        is_null = not event.style and event.value in {"~", "null", "Null", "NULL"}
        node = _Scalar("" if is_null else event.value.strip(), line)
    else:
        node = _List(line) if isinstance(event, yaml.SequenceStartEvent) else _Table(line)
    if event.anchor is not None:
        anchors[event.anchor] = node
    return node


def _put(parent: _List | _Table, node: _Node, line: int) -> None:
    if isinstance(parent, _List):
        parent.items.append(node)
    elif len(parent.keys) > len(parent.values):
        parent.values.append(node)
    elif isinstance(node, _Scalar):
        parent.keys.append(node)
    else:
        raise _WrongError(line, "a key is one text")


def _fault_of(error: yaml.YAMLError, text: str, file: str) -> Fault:
    """Say what the YAML parser said, with the line."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        said = ", ".join(each for each in (error.context, error.problem) if each)
        if "alias" in said:
            said += '; a * of its own needs quotes: "*"'
        elif "mapping values are not allowed" in said:
            said += "; a text that holds ': ' needs quotes"
        return Fault(file, mark.line + 1 if mark else 0, f"is not YAML: {said}")
    at = getattr(error, "position", None)
    line = text.encode("utf-8", "replace").count(b"\n", 0, at) + 1 if at is not None else 0
    reason = getattr(error, "reason", None) or " ".join(str(error).split())
    return Fault(file, line, f"is not YAML: {reason}")
