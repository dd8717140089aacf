"""The names of what processes share in the runtime directory, and how a child finds it."""

from pathlib import Path

__all__ = [
    "EDGE_VARIABLE",
    "EPOCH_VARIABLE",
    "METRICS_VARIABLE",
    "NAME_VARIABLE",
    "RESTARTED_VARIABLE",
    "RUNTIME_VARIABLE",
    "START_REFUSED",
    "RuntimeDir",
]

RUNTIME_VARIABLE = "MESHWARDEN_RUNTIME_DIR"
NAME_VARIABLE = "MESHWARDEN_PROCESS"
EPOCH_VARIABLE = "MESHWARDEN_EPOCH"
EDGE_VARIABLE = "MESHWARDEN_GRPCIO_EDGE"  # "1" where fronts can't run.
RESTARTED_VARIABLE = "MESHWARDEN_RESTARTED"  # "1" where it takes a dead process's place.
METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # prometheus-client names it.

START_REFUSED = 78  # EX_CONFIG of sysexits.h: control has said why, and trying again is no use.


class RuntimeDir:
    """One instance's runtime directory, mode 0700: being able to enter it is authority."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings = path / "settings.json"
        self.status = path / "status"
        self.metrics = path / "metrics"
        self.draining = path / "draining"
        # The three servers of control, apart because the kernel names no caller on a Unix socket:
        # who may connect to a socket is who may call what is behind it.
        self.public_socket = path / "public.sock"
        self.admin_socket = path / "admin.sock"
        self.internal_socket = path / "internal.sock"
        self.supervisor_socket = path / "supervisor.sock"

    def front_bootstrap(self, name: str, epoch: int) -> Path:
        """Where the Envoy configuration of one front is written."""
        return self.path / f"{name}.{epoch}.json"

    def front_admin_socket(self, name: str, epoch: int) -> Path:
        """The admin interface of one front's Envoy."""
        return self.path / f"{name}.{epoch}.sock"

    def hot_restart_socket(self) -> Path:
        """Prefix of the sockets over which an Envoy hands its listeners to its heir."""
        return self.path / "hr"

    def forget(self, pid: int) -> None:
        """Remove what a dead process said of itself, before another one gets its id.

        What it has counted stays: no sum may go back.
        """
        gauges = self.metrics.glob(f"gauge_live*_{pid}.db")
        for path in (*gauges, *self.status.glob(f"*-{pid}.json")):
            path.unlink(missing_ok=True)
