"""The port that workloads are recognised through."""

from dataclasses import dataclass
from typing import Protocol

from ca.selectors import Selector

__all__ = ["Findings", "Peer", "WorkloadAttestor"]


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end of a Unix socket, as the kernel vouches for it.

    Attributes:
        pid: In the PID namespace of the agent; at least 1.
        uid: Its effective user when it connected.
        gid: Its effective group then.
        groups: Its supplementary groups then; None where the kernel didn't say.
    """

    pid: int
    uid: int
    gid: int
    groups: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Findings:
    """What one attestor found.

    Attributes:
        selectors: What is true of the workload; none where it isn't of this attestor's kind.
        notes: What could not be found out and why, for those who miss a selector. No secrets.
    """

    selectors: frozenset[Selector] = frozenset()
    notes: tuple[str, ...] = ()


class WorkloadAttestor(Protocol):
    """Finds out what is true of a process.

    An implementation
    - says nothing that it has not seen itself, with a kernel or an orchestrator as witness: what
      a process may write (its command line, its environment) is no selector;
    - may read /proc/PID: its caller makes sure, by a pidfd, that the pid belonged to the peer for
      all of that time, and throws the findings away otherwise;
    - leaves out what it can't find out, with a note; a fault of one source hides no other;
    - is done within its own time limit.
    """

    async def attest(self, peer: Peer) -> Findings:
        """Look at one process. It raises nothing on purpose."""
        ...
