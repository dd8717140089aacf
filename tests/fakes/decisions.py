"""Decision records that can be told from each other."""

from telemetry.record import DecisionRecord, record_line

__all__ = ["START_NS", "decision", "decision_id", "line"]

START_NS = 1_700_000_000 * 10**9


def decision_id(number: int) -> str:
    """The id of a numbered record; ids sort as numbers do."""
    return f"{number:08d}-0000-7000-8000-000000000000"


def decision(number: int, **fields: object) -> DecisionRecord:
    """Make a numbered record of an allowed request, a second after the one before."""
    given = {
        "time_ns": START_NS + number * 10**9,
        "verdict": "allow",
        "status": 200,
        "rule_file": "policy.csv",
        "rule_line": 2,
        "rule_text": "p, *, orders, GET, /orders/**, allow",
        "reason": "allowed by a rule",
        "digest": "d" * 64,
        "principal": "td/ns/prod/sa/web",
        "service": "orders",
        "method": "GET",
        "path": f"/orders/{number}",
        "source_ip": "10.0.0.1",
        "host": "orders.example",
        "front": "front-0",
        **fields,
    }
    return DecisionRecord(id=decision_id(number), **given)  # type: ignore[arg-type]


def line(number: int, **fields: object) -> bytes:
    """Make a numbered record as a sink gets it."""
    return record_line(decision(number, **fields))
