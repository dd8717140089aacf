"""Outcomes of a policy's tests as JUnit XML, which every CI reads."""

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from meshwarden.authoring.runner import Outcome

__all__ = ["write_junit"]


def write_junit(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Write one `testcase` a case, grouped by file.

    Raises:
        OSError: The file can't be written.
    """
    root = ET.Element("testsuites", name="meshwarden policy test")
    suites: dict[str, ET.Element] = {}
    for outcome in outcomes:
        file, _, line = outcome.case.where.rpartition(":")
        suite = suites.get(file)
        if suite is None:
            suite = suites[file] = ET.SubElement(root, "testsuite", name=file)
        case = ET.SubElement(
            suite,
            "testcase",
            name=_printable(outcome.case.name),
            classname=file,
            file=file,
            line=line,
            time=f"{outcome.seconds:.6f}",
        )
        if outcome.problems:
            message = _printable("; ".join(outcome.problems))
            failure = ET.SubElement(case, "failure", message=message)
            failure.text = _printable("\n".join((outcome.reason, *outcome.misses)))
    for suite in suites.values():
        suite.set("tests", str(len(suite)))
        suite.set("failures", str(len(suite.findall("testcase/failure"))))
    ET.indent(root)
    ET.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _printable(text: str) -> str:
    """XML 1.0 can't hold control characters, not even escaped."""
    return "".join(each if each.isprintable() or each == "\n" else "\ufffd" for each in text)
