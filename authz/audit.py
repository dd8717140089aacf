"""The audit trail's entry: what somebody did, or was refused."""

from dataclasses import dataclass

__all__ = ["AuditEntry"]


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One thing that somebody did, or was refused; entries are only ever added.

    Attributes:
        time_ns: When, in nanoseconds since the epoch.
        who: The caller, as a principal, "token:NAME" or "local:USER"; "" is nobody known.
        source: From where: "local", or an address.
        action: What, such as "policy.apply".
        outcome: "done" or "refused".
        revision: "STREAM/NUMBER" of the revision it made; "" if none.
        detail: One line more.
    """

    time_ns: int
    who: str
    source: str
    action: str
    outcome: str
    revision: str = ""
    detail: str = ""
