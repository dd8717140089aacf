"""How much is left of what expires: when to warn, and what to say."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ca.authority import Authorities, Authority, Kind

__all__ = ["Expiring", "expired", "in_use", "warning_days"]

_DAY_NS = 86_400 * 1_000_000_000
_WARNINGS_DAYS = (1, 7, 30)


@dataclass(frozen=True, slots=True)
class Expiring:
    """Something in use that expires.

    Attributes:
        kind: "root", "intermediate", "jwt", "serving".
        name: For people.
        not_before_ns: When it began, nanoseconds since the epoch.
        not_after_ns: When it ends.
    """

    kind: str
    name: str
    not_before_ns: int
    not_after_ns: int


def in_use(authorities: Authorities, signer_id: str = "") -> Sequence[Expiring]:
    """Give what signs, and what has to hold for it.

    Args:
        authorities: What there is.
        signer_id: The authority that signs certificates here, whichever is active elsewhere; "" for
            the active one.
    """
    used: list[Authority] = []
    active = authorities.active(Kind.INTERMEDIATE, Kind.ROOT)
    signer = authorities.by_id(signer_id) if signer_id else active
    if signer:
        used += authorities.chain(signer)
    jwt = authorities.active(Kind.JWT)
    if jwt:
        used.append(jwt)
    return [
        Expiring(
            each.kind.value,
            f"the {each.kind.value} key {each.authority_id[:16]} of {each.trust_domain}",
            each.not_before_ns,
            each.not_after_ns,
        )
        for each in used
    ]


def warning_days(each: Expiring, now_ns: int) -> int:
    """Give the least of 30, 7 and 1 days within which it ends; 0 for none of them.

    What lives less than twice as long is meant to: a certificate of an hour is not always about to
    expire.
    """
    left_ns = each.not_after_ns - now_ns
    life_ns = each.not_after_ns - each.not_before_ns
    within = (
        days
        for days in _WARNINGS_DAYS
        if left_ns <= days * _DAY_NS and life_ns >= 2 * days * _DAY_NS
    )
    return next(within, 0)


def expired(used: Iterable[Expiring], now_ns: int) -> Sequence[Expiring]:
    """Give those that hold no more."""
    return [each for each in used if each.not_after_ns <= now_ns]
