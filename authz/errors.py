"""Everything authz raises on purpose.

A denied request is a `Decision`, not an error: these mean that no decision could be made, or that
a policy or a setting can't be used. Envoy takes an RPC error by its filter's failure mode
(`failure_mode_allow`), so nothing that a caller of a service can provoke may end up here.
"""

from collections.abc import Iterable
from typing import ClassVar

__all__ = [
    "AuthzError",
    "BindingError",
    "BundleError",
    "InvalidRequestError",
    "NoPolicyError",
    "UnknownAttributeError",
]


class AuthzError(Exception):
    """Base of this package's errors; `code` is the gRPC status the edge answers with."""

    code: ClassVar[str] = "INTERNAL"


class InvalidRequestError(AuthzError):
    """The bytes are not a CheckRequest; who sent them is no Envoy and should not retry."""

    code = "INVALID_ARGUMENT"


class NoPolicyError(AuthzError):
    """No policy is loaded yet; the caller may try again, or another replica."""

    code = "UNAVAILABLE"


class UnknownAttributeError(AuthzError):
    """An expression names an attribute there is not; the message has the nearest that there is."""

    code = "INVALID_ARGUMENT"


class BundleError(AuthzError):
    """A policy bundle can't be believed or read; whoever made or sent it must mend it."""

    code = "INVALID_ARGUMENT"


class BindingError(AuthzError):
    """A model's request fields can't all be bound to attributes; the message lists every fault.

    Attributes:
        faults: One sentence for each fault, in the order of the request fields.
    """

    code = "INVALID_ARGUMENT"

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(self.faults))
