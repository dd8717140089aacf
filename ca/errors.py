"""Everything ca raises on purpose; `code` is the gRPC status that the edge answers with."""

__all__ = [
    "CertificateError",
    "ConflictingAuthorityError",
    "CsrError",
    "DamagedError",
    "IdentityError",
    "IdentityStoreError",
    "KeyNotOpenedError",
    "NoAuthorityError",
    "OrderError",
    "OverloadedError",
    "TokenError",
    "UnwritableError",
]


class IdentityError(Exception):
    """Base of this package's errors: nothing was issued, and the message says why."""

    code: str = "INTERNAL"


class OrderError(IdentityError):
    """What was ordered can't be issued to anybody; order something else."""

    code = "INVALID_ARGUMENT"


class CsrError(IdentityError):
    """A certificate signing request that is not signed.

    Its code is INVALID_ARGUMENT where nobody may have such a certificate, PERMISSION_DENIED where
    this caller may not.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class TokenError(IdentityError):
    """A JWT-SVID that does not hold; don't believe its bearer."""

    code = "INVALID_ARGUMENT"


class CertificateError(IdentityError):
    """A certificate is not what it should be; it is not published or used."""


class NoAuthorityError(IdentityError):
    """There is no authority that can sign; an operator has to act, as the message says."""

    code = "FAILED_PRECONDITION"


class ConflictingAuthorityError(IdentityError):
    """An authority can't be taken beside those there are; nothing was changed."""

    code = "FAILED_PRECONDITION"


class KeyNotOpenedError(IdentityError):
    """A private key can't be had; the start is refused, and nothing new is made in its place."""

    code = "FAILED_PRECONDITION"


class IdentityStoreError(IdentityError):
    """The database can't be read or written; nothing was issued, and it may be tried again."""

    code = "UNAVAILABLE"


class UnwritableError(IdentityError):
    """One of some rows can't be kept, whenever it is tried; without it the others may be."""


class DamagedError(IdentityError):
    """What the database holds is not what was written to it; an operator has to look."""

    code = "DATA_LOSS"


class OverloadedError(IdentityError):
    """More is waiting than can be served in time; try again later, with backoff."""

    code = "RESOURCE_EXHAUSTED"
