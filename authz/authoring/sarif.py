"""Findings as SARIF, which code review shows beside the lines.

Source: OASIS, Static Analysis Results Interchange Format 2.1.0, sections 3.13, 3.19, 3.27, 3.49.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from authz.authoring.findings import Finding, Place
from authz.authoring.lint.spec import Lint

__all__ = ["sarif"]

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"


def sarif(
    findings: Sequence[Finding],
    lints: Sequence[Lint],
    version: str,
    uri: Callable[[str], str],
) -> dict[str, Any]:
    """Make a log of one run.

    Args:
        findings: What was found, with columns where they are known.
        lints: Every lint that was asked.
        version: The program's.
        uri: Makes of a finding's file what code review calls it.
    """
    places = {each.id: number for number, each in enumerate(lints)}
    driver = {"name": "meshwarden", "version": version, "rules": [_rule(each) for each in lints]}
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                # Columns count characters, not UTF-16 units (section 3.14.17).
                "columnKind": "unicodeCodePoints",
                "results": [_result(each, places[each.id], uri) for each in findings],
            }
        ],
    }


def _rule(lint: Lint) -> dict[str, Any]:
    return {
        "id": lint.id,
        "shortDescription": {"text": lint.what},
        "fullDescription": {"text": lint.why},
        "help": {"text": lint.fix},
        "defaultConfiguration": {"level": lint.severity.value},
    }


def _result(finding: Finding, index: int, uri: Callable[[str], str]) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": finding.id,
        "ruleIndex": index,
        "level": finding.severity.value,
        "message": {"text": f"{_sentence(finding.message)} Fix: {_closed(finding.fix)}"},
        "locations": [_location(finding.place, uri)],
        # Without the line's number: a finding is the same one wherever its line moves to.
        "partialFingerprints": {"policyLine/v1": _fingerprint(finding)},
    }
    if finding.other is not None:
        result["relatedLocations"] = [_location(finding.other, uri)]
    return result


def _sentence(text: str) -> str:
    return _closed(text[:1].upper() + text[1:])


def _closed(text: str) -> str:
    return text if text.endswith("?") else text + "."


def _location(place: Place, uri: Callable[[str], str]) -> dict[str, Any]:
    physical: dict[str, Any] = {"artifactLocation": {"uri": uri(place.file)}}
    if place.line:
        region = {"startLine": place.line}
        if place.column:
            region |= {"startColumn": place.column, "endColumn": place.end_column}
        physical["region"] = region
    return {"physicalLocation": physical}


def _fingerprint(finding: Finding) -> str:
    told = "\x1f".join((finding.id, finding.text or finding.message))
    return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:32]
