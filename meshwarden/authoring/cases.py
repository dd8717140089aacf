"""Tests of a policy as its authors write them: single cases, and matrices of who may do what.

    defaults: {service: orders}
    cases:
      - name: the shop reads orders
        request: {principal: shop.example/ns/prod/sa/frontend, path: /orders/17}
        expect: allow          # left out, it is deny
        rule: policy.csv:10    # optional: the line that has to decide
    callers:
      frontend: {principal: shop.example/ns/prod/sa/frontend}
      nobody: {}
    requests:
      read: {method: GET, path: /orders/17}
      remove: {method: DELETE, path: /orders/17}
    allowed:                   # every other pair of a caller and a request has to be denied
      frontend: [read]
      nobody: []

What is left out is denied: a test that forgot a line fails, and doesn't pass by forgetting.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from meshwarden.authoring.lined_yaml import Lined, load
from meshwarden.cli.asking import Asked
from meshwarden.errors import CaseFileError

__all__ = ["FOLDER", "Case", "load_cases"]

FOLDER = "tests"
"""Where a policy folder keeps its tests: `tests/**/*.yaml`."""

_TOP = ("defaults", "cases", "callers", "requests", "allowed")
_CASE = ("name", "request", "expect", "status", "rule", "headers")
_TEXT = tuple(each.name for each in fields(Asked) if each.type is str or each.type == "str")
_TABLES = ("headers", "claims", "context")
_VERDICTS = {"allow": True, "deny": False}


@dataclass(frozen=True, slots=True)
class Case:
    """One request and what has to come of it.

    Attributes:
        name: What its author calls it, or "CALLER: REQUEST" in a matrix.
        where: Its place, such as "tests/orders.yaml:12".
        asked: The request.
        allowed: Whether it has to be allowed.
        rule: The line that has to decide, as "file:line"; "" for whichever.
        status: The HTTP status that the caller has to get; 0 for whichever.
        headers: Headers that have to be set on the request to the upstream.
        time: When the request is made (RFC 3339); "" for now.
    """

    name: str
    where: str
    asked: Asked
    allowed: bool = False
    rule: str = ""
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    time: str = ""


def load_cases(folder: Path) -> list[Case]:
    """Read every test of a policy folder, in the order of files and lines.

    Raises:
        CaseFileError: Some can't be read or make no sense; every fault with its line.
        OSError: A file can't be read.
    """
    cases: list[Case] = []
    faults: list[str] = []
    base = folder / FOLDER
    for path in sorted((*base.rglob("*.yaml"), *base.rglob("*.yml"))):
        reading = _File(path.relative_to(folder).as_posix())
        try:
            cases += reading.cases(load(path, reading.name))
        except CaseFileError as error:
            faults += error.faults
        faults += reading.faults
    if faults:
        raise CaseFileError(tuple(faults))
    return cases


class _File:
    """One file's reading; collects what is wrong with it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.faults: list[str] = []

    def cases(self, top: Lined) -> list[Case]:
        self._check_keys(top, _TOP, "a test file")
        defaults = self._table(top, "defaults", top.line)
        made = []
        for given in self._list(top, "cases"):
            if isinstance(given, Lined):
                made.append(self._case(given, defaults))
            else:
                self._fault(top.lines["cases"], f"a case is a mapping, not {given!r}")
        return [*made, *self._matrix(top, defaults)]

    def _case(self, given: Lined, defaults: Lined) -> Case:
        self._check_keys(given, _CASE, "a case")
        request = self._table(given, "request", given.line)
        verdict = given.get("expect", "deny")
        if verdict not in _VERDICTS:
            self._fault(given.lines["expect"], f"'expect' is allow or deny, not {verdict!r}")
        status = given.get("status", 0)
        if not isinstance(status, int):
            self._fault(given.lines["status"], f"'status' is a number, not {status!r}")
            status = 0
        merged, time = self._asked((defaults, request))
        return Case(
            name=str(given.get("name") or f"{merged.method} {merged.path}"),
            where=f"{self.name}:{given.line}",
            asked=merged,
            allowed=_VERDICTS.get(verdict, False),
            rule=str(given.get("rule", "")),
            status=status,
            headers={
                key: str(value) for key, value in self._table(given, "headers", given.line).items()
            },
            time=time,
        )

    def _matrix(self, top: Lined, defaults: Lined) -> Iterator[Case]:
        callers = self._table(top, "callers", top.line)
        requests = self._table(top, "requests", top.line)
        allowed = self._table(top, "allowed", top.line)
        for caller in allowed:
            if caller not in callers:
                self._unknown(allowed.lines[caller], "caller", caller, callers)
        for caller in callers:
            who = self._table(callers, caller, callers.lines[caller])
            granted = self._list(allowed, caller)
            for name in granted:
                if name not in requests:
                    self._unknown(allowed.lines[caller], "request", str(name), requests)
            for request in requests:
                what = self._table(requests, request, requests.lines[request])
                line = allowed.lines.get(caller, callers.lines[caller])
                merged, time = self._asked((defaults, what, who))
                yield Case(
                    name=f"{caller}: {request}",
                    where=f"{self.name}:{line}",
                    asked=merged,
                    allowed=request in granted,
                    time=time,
                )

    def _asked(self, layers: Iterable[Lined]) -> tuple[Asked, str]:
        """Put a request together, later layers over earlier ones."""
        merged: dict[str, Any] = {}
        time = ""
        for layer in layers:
            self._check_keys(layer, (*_TEXT, *_TABLES, "time"), "a request")
            for key, value in layer.items():
                if key in _TABLES:
                    table = self._table(layer, key, layer.lines[key])
                    found = {name: str(text) for name, text in table.items()}
                    merged[key] = {**merged.get(key, {}), **found}
                elif key == "time":
                    time = str(value)
                elif key in _TEXT:
                    merged[key] = str(value)
        return Asked(**merged), time

    def _table(self, parent: Lined, key: str, line: int) -> Lined:
        value = parent.get(key)
        if isinstance(value, Lined):
            return value
        if value is not None:
            self._fault(parent.lines[key], f"{key!r} is a mapping, not {value!r}")
        empty = Lined()
        empty.line, empty.lines = line, {}
        return empty

    def _list(self, parent: Lined, key: str) -> list[Any]:
        value = parent.get(key)
        if isinstance(value, list):
            return value
        if value is not None:
            self._fault(parent.lines[key], f"{key!r} is a list, not {value!r}")
        return []

    def _check_keys(self, given: Lined, known: Iterable[str], what: str) -> None:
        for key in given:
            if key not in known:
                self._unknown(given.lines[key], f"key of {what}", key, known)

    def _unknown(self, line: int, kind: str, name: str, known: Iterable[str]) -> None:
        nearest = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
        hint = f"; the nearest is {nearest[0]!r}" if nearest else ""
        self._fault(line, f"{name!r} is no {kind}{hint}")

    def _fault(self, line: int, message: str) -> None:
        self.faults.append(f"{self.name}:{line}: {message}")
