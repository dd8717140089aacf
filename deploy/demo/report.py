"""The table of what happened, set against what had to happen."""

import sys
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from deploy.demo.callers import Answer
from deploy.demo.expectations import Request
from deploy.demo.sidecar import Entry

__all__ = ["Result", "console", "table", "verdict_line"]

# Where output goes to a file there is no width to ask for; this holds every column.
FILE_WIDTH = 130


@dataclass(frozen=True, slots=True)
class Result:
    """One request, what came of it, and what had to."""

    request: Request
    answer: Answer
    entry: Entry

    @property
    def wrong(self) -> str:
        """What differs from the expectation file, in words; "" if nothing does."""
        differences = [
            f"{name} is {got or 'none'}, not {want or 'none'}"
            for name, got, want in (
                ("verdict", self.entry.verdict, self.request.verdict),
                ("status", self.answer.status, self.request.status),
                ("rule", self.entry.rule, self.request.rule),
            )
            if got != want
        ]
        return "; ".join(differences)


def console() -> Console:
    """Give the console for standard output."""
    return Console(width=None if sys.stdout.isatty() else FILE_WIDTH, highlight=False)


def table(results: list[Result]) -> Table:
    """Lay out who asked for what, the verdict, the deciding rule and the time."""
    drawn = Table(title="Through the sidecar, over mutual TLS")
    for heading in ("who", "what", "verdict", "decided by", "because"):
        # A path in two pieces can't be pasted.
        drawn.add_column(heading, no_wrap=heading == "what")
    drawn.add_column("ms", justify="right")
    for result in results:
        request, entry = result.request, result.entry
        verdict = f"{entry.verdict or 'no answer'} {result.answer.status}"
        drawn.add_row(
            request.who,
            f"{request.method} {request.path}",
            Text(verdict, style="green" if entry.verdict == "allow" else "red"),
            entry.rule or entry.reason.partition(",")[0],
            Text(f"WRONG: {result.wrong}", style="bold red") if result.wrong else request.about,
            f"{result.answer.duration_ms:.1f}",
        )
    return drawn


def verdict_line(results: list[Result]) -> str:
    """Count, in a form that scripts can read."""
    allowed = sum(result.entry.verdict == "allow" for result in results)
    wrong = sum(bool(result.wrong) for result in results)
    denied = sum(result.entry.verdict == "deny" for result in results)
    return f"demo: {len(results)} requests, {allowed} allowed, {denied} denied, {wrong} wrong"
