"""Which systemd unit a process belongs to.

The unit is read from the process's cgroup, which only systemd assigns (and root, which may do all
else too). That is where systemd itself looks for GetUnitByPID on D-Bus; asking there would need a
bus connection from wherever the agent runs, and would race with the end of the process, which the
pidfd held around this look does not.

The first unit on the path counts, past the slices: what is below it was delegated to the unit, or
to a user's own manager, who may call a unit anything. A user's "nginx.service" is below
/user.slice/user-1000.slice/user@1000.service/app.slice, so it is user@1000.service here.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from adapters.spec import Adapter
from ca.selectors import Selector
from ca.workload import Findings, Peer, WorkloadAttestor

__all__ = ["ADAPTER", "unit_of"]

_KIND = "systemd"
_SLICE = ".slice"
_UNITS = (
    ".service",
    ".scope",
)  # The kinds of units that have processes, but for sockets' commands.


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of the systemd attestor.

    Attributes:
        proc: Where procfs is mounted.
        booted: The folder that is there where systemd is the init: sd_booted(3).
    """

    proc: Path = Path("/proc")
    booted: Path = Path("/run/systemd/system")


class SystemdAttestor(WorkloadAttestor):
    """Reads /proc/PID/cgroup."""

    def __init__(self, config: Config) -> None:
        self._config = config

    @override
    async def attest(self, peer: Peer) -> Findings:
        return await asyncio.to_thread(self._look, peer)

    def _look(self, peer: Peer) -> Findings:
        # Elsewhere somebody else hands out cgroups, and their names say nothing of units.
        if not self._config.booted.is_dir():
            return Findings()
        try:
            text = (self._config.proc / str(peer.pid) / "cgroup").read_text()
        except OSError as error:
            return Findings(notes=(f"no unit: {error.strerror}",))
        unit = unit_of(text)
        if not unit:
            return Findings()
        # "id" is what SPIRE calls it: entries written for it hold here.
        names = (f"unit:{unit}", f"id:{unit}")
        return Findings(frozenset(Selector(_KIND, name) for name in names))


def unit_of(cgroups: str) -> str:
    """Read the unit from the text of /proc/PID/cgroup; "" where the process is in none.

    Source: cgroups(7); the path's form is systemd's, "Control Group APIs and Delegation".
    """
    for path in _managed(cgroups):
        for part in path.split("/")[1:]:
            # systemd puts a "_" before names that would clash with the kernel's own files.
            name = part.removeprefix("_")
            if name.endswith(_SLICE):
                continue
            return name if name.endswith(_UNITS) else ""
    return ""


def _managed(cgroups: str) -> Iterator[str]:
    """Give the path in systemd's own hierarchy: "name=systemd" of version 1, else version 2's."""
    lines = [line.split(":", 2) for line in cgroups.splitlines()]
    rows = [row for row in lines if len(row) == 3]  # noqa: PLR2004 - id, controllers, path
    for wanted in ("name=systemd", ""):
        for _, controllers, path in rows:
            if controllers == wanted:
                yield path
                return


ADAPTER: Adapter[WorkloadAttestor, Config] = Adapter(config=Config, build=SystemdAttestor)
