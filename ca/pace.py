"""How fast each caller may ask: a bucket for each, as arithmetic on one timestamp.

Source: ITU-T I.371 (03/2004), the virtual scheduling form of the generic cell rate algorithm.
"""

from collections import OrderedDict

from ca.errors import OverloadedError

__all__ = ["Pace"]

_SECOND_NS = 1_000_000_000


class Pace:
    """Buckets of one size, for callers that are known by a name.

    Args:
        per_s: Units a second that a bucket refills; above 0.
        burst: Units that a full one holds; at least 1.
        max_callers: Buckets kept; beyond it the one unused longest is forgotten, and full again.
    """

    def __init__(self, per_s: float, burst: int, max_callers: int = 100_000) -> None:
        self.burst = burst
        self._interval_ns = max(1, round(_SECOND_NS / per_s))
        self._max_callers = max_callers
        # The time at which each bucket would be full again.
        self._full_ns: OrderedDict[str, int] = OrderedDict()

    def take(self, caller: str, cost: int, now_ns: int) -> int:
        """Take units out of a caller's bucket.

        Args:
            caller: Whose.
            cost: Units; more than `burst` are never there.
            now_ns: Nanoseconds on any clock.

        Returns:
            0 if they were there; else how long until they are, in nanoseconds, and none is taken.
        """
        room_ns = self.burst * self._interval_ns
        last_ns = self._full_ns.get(caller, 0)
        if last_ns > now_ns + room_ns:
            # The clock was set back: no bucket is emptier than empty, or nobody gets in for hours.
            last_ns = self._full_ns[caller] = now_ns + room_ns
        full_ns = max(last_ns, now_ns) + cost * self._interval_ns
        wait_ns = full_ns - now_ns - room_ns
        if wait_ns > 0:
            return wait_ns
        self._full_ns[caller] = full_ns
        self._full_ns.move_to_end(caller)
        if len(self._full_ns) > self._max_callers:
            self._full_ns.popitem(last=False)
        return 0

    def charge(self, caller: str, cost: int, now_ns: int, told: str) -> None:
        """Take units for a call, or refuse it.

        Args:
            caller: Whose bucket.
            cost: Units; for more than `burst` a full bucket is taken, or they would never be there.
            now_ns: Nanoseconds on any clock.
            told: What was too much, in words.

        Raises:
            OverloadedError: They are not there; it says when they are.
        """
        if wait_ns := self.take(caller, min(cost, self.burst), now_ns):
            raise OverloadedError(f"{told}; try again in {wait_ns / _SECOND_NS:.1f} s")
