"""The names of what processes share in the runtime directory, and how a file is replaced whole."""

import os
import threading
from pathlib import Path

__all__ = [
    "CLIENTS_SDS",
    "EDGE_VARIABLE",
    "EPOCH_VARIABLE",
    "METRICS_VARIABLE",
    "NAME_VARIABLE",
    "RESTARTED_VARIABLE",
    "RUNTIME_VARIABLE",
    "SERVER_SDS",
    "START_REFUSED",
    "RuntimeDir",
    "replace_file",
]

RUNTIME_VARIABLE = "MESHWARDEN_RUNTIME_DIR"
NAME_VARIABLE = "MESHWARDEN_PROCESS"
EPOCH_VARIABLE = "MESHWARDEN_EPOCH"
EDGE_VARIABLE = "MESHWARDEN_GRPCIO_EDGE"  # "1" where fronts can't run.
RESTARTED_VARIABLE = "MESHWARDEN_RESTARTED"  # "1" where it takes a dead process's place.
METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # prometheus-client names it.

SERVER_SDS = "server"  # The public port's certificate and key.
CLIENTS_SDS = "clients"  # What its clients' certificates are verified with.

START_REFUSED = 78  # EX_CONFIG of sysexits.h: control has said why, and trying again is no use.


class RuntimeDir:
    """One instance's runtime directory, mode 0700: being able to enter it is authority."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings = path / "settings.json"
        self.status = path / "status"
        self.metrics = path / "metrics"
        self.draining = path / "draining"
        self.expired = path / "expired"
        # The servers of control, apart because the kernel names no caller on a Unix socket:
        # who may connect to a socket is who may call what is behind it.
        self.public_socket = path / "public.sock"
        self.agents_socket = path / "agents.sock"
        self.admin_socket = path / "admin.sock"
        self.internal_socket = path / "internal.sock"
        self.supervisor_socket = path / "supervisor.sock"

    def front_bootstrap(self, name: str, epoch: int) -> Path:
        """Where the Envoy configuration of one front is written."""
        return self.path / f"{name}.{epoch}.json"

    def front_admin_socket(self, name: str, epoch: int) -> Path:
        """The admin interface of one front's Envoy."""
        return self.path / f"{name}.{epoch}.sock"

    def secret(self, name: str) -> Path:
        """Where a secret is kept, for fronts that start without control to watch."""
        return self.path / f"{name}.secret.json"

    @property
    def kept_for(self) -> Path:
        """Says of which trust domain the kept secrets are."""
        return self.path / "secrets.for"

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


def replace_file(path: Path, data: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
    """Put a file in the place of another: who reads sees the old one or the new one, whole.

    Args:
        path: Of two threads that replace it at once, the last one's is there at the end.
        data: What it holds then.
        mode: Of the new file, less the umask; it never is there under another.
        durable: After a power cut too a reader sees one of the two, for the price of an fsync.

    Raises:
        OSError: It can't be written; the old one is still there.
    """
    # A thread that was killed while it wrote leaves this; whoever gets its id, which no other of
    # the machine has meanwhile, takes it away.
    fresh = path.with_name(f".{path.name}.{threading.get_native_id()}")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(descriptor)
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
