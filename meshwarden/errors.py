"""Everything the assembly raises on purpose."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from typing_extensions import override

__all__ = [
    "CaseFileError",
    "ConfigError",
    "ConfigFault",
    "DecisionLogError",
    "FunctionModuleError",
    "NoVerdictError",
    "SupervisorError",
    "UnknownAdapterError",
    "WorkloadApiError",
]


@dataclass(frozen=True, slots=True)
class ConfigFault:
    """One thing wrong with the settings.

    Attributes:
        where: The file, environment variable or option that it was read from.
        key: The full key, "" where the file can't be read as a whole.
        message: What is wrong and what to write.
    """

    where: str
    key: str
    message: str

    @override
    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.key, self.message) if part)


class ConfigError(Exception):
    """The settings can't be used; the message has a line for each fault there is."""

    def __init__(self, faults: tuple[ConfigFault, ...]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


class CaseFileError(Exception):
    """A policy's tests can't be read or run; the message has a line for each fault there is."""

    def __init__(self, faults: tuple[str, ...]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class DecisionLogError(Exception):
    """The decision log can't be asked; the message says why, and what to do."""


class FunctionModuleError(Exception):
    """A module named by `engine.functions` can't be used; the message says which and why."""


class NoVerdictError(Exception):
    """A request could not be asked about, or nobody answered; the message says why."""


class UnknownAdapterError(LookupError):
    """The settings name an adapter that has no file."""


class SupervisorError(Exception):
    """The running service was asked for something and did not do it; the message says why.

    Attributes:
        answer: The rest of what it said; empty where it said nothing.
    """

    def __init__(self, message: str, answer: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.answer = answer or {}


class WorkloadApiError(Exception):
    """A Workload API refused, or could not be asked; the message says why.

    Attributes:
        code: Name of the gRPC status: PERMISSION_DENIED is no identity, INVALID_ARGUMENT a caller's
            mistake that no repetition mends, UNAVAILABLE an API to be asked again.
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code
