"""The port that policy comes in through."""

from typing import Protocol

from authz.policy.rules import PolicyText

__all__ = ["PolicySource"]


class PolicySource(Protocol):
    """Reads one policy as its authors wrote it.

    An implementation must give all of it or raise: half a policy is another policy. It says what
    is wrong in the author's words, with file and line, and all of it at once.
    """

    @property
    def where(self) -> str:
        """Where it comes from, for people."""
        ...

    @property
    def revision(self) -> int:
        """The revision that was loaded last; 0 where policy has no revisions."""
        return 0

    @property
    def loaded_state(self) -> str | None:
        """The state that was loaded last; None where a source can't tell which of two it was."""
        return None

    @property
    def version(self) -> str:
        """What tells the state that was loaded last from others, for people; "" if nothing does."""
        return ""

    @property
    def retry_s(self) -> float:
        """How long to wait after a load that failed before the next one, in seconds."""
        return 5.0

    def state(self) -> str:
        """Tell one state of the source from another, without a load; never raises.

        It is asked several times a second, in a thread: another answer calls for a new load, and a
        source that can't tell gives the same one always.
        """
        ...

    def load(self) -> PolicyText:
        """Read the policy.

        Raises:
            PolicyError: It can't be read as a policy; every fault is in it.
            OSError: The source can't be reached.
        """
        ...

    def published(self) -> None:
        """Learn that what was loaded last is in force.

        Raises:
            OSError: It can't be remembered; the load counts as failed.
        """
        return

    def close(self) -> None:
        """End what a load or a look waits for, from another thread; the service stops."""
        return
