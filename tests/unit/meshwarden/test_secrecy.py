"""A process with keys leaves no dump."""

import re
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

STORY = """\
import ctypes, resource
from meshwarden.secrecy import forbid_dumps
forbid_dumps()
PR_GET_DUMPABLE = 3
dumpable = ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)
print(dumpable, *resource.getrlimit(resource.RLIMIT_CORE))
"""
ALLOW = """\
import resource
resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
"""
ALLOWED = f"{ALLOW}import runpy\nrunpy.run_module('meshwarden', run_name='__main__')\n"
CRASH = f"""\
{ALLOW}
import os
from meshwarden.secrecy import forbid_cores
forbid_cores()
os.abort()
"""
WEB = "spiffe://mesh.example/ns/shop/sa/web"
# With what the limit of cores is then.
COMMANDS = {
    "x509 mint": (("x509", "mint", WEB, "--to", "never", "--config", "mesh.toml"), "0"),
    "jwt mint": (("jwt", "mint", WEB, "--audience", "x", "--config", "mesh.toml"), "0"),
    "token create": (("token", "create", "--config", "mesh.toml"), "0"),
    "admin token create": (("admin", "token", "create", "x", "--config", "mesh.toml"), "0"),
    "identity fetch": (("identity", "fetch"), "1"),
    "identity watch": (("identity", "watch"), "1"),
    "identity write": (("identity", "write", "--dir", "never"), "1"),
}


def test_no_dump_can_be_made_of_it() -> None:
    """Neither by the kernel at a crash nor by another process of its user."""
    words = [sys.executable, "-c", STORY]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=30, check=True)
    assert ran.stdout.split() == ["0", "0", "0"]


def test_a_workloads_crash_leaves_nothing(tmp_path: Path) -> None:
    """Where cores are files beside it, there is none."""
    words = [sys.executable, "-c", CRASH]
    root = Path(__file__).parents[3]
    ran = subprocess.run(
        words, cwd=tmp_path, env={"PYTHONPATH": str(root)}, timeout=30, check=False
    )
    assert ran.returncode == -signal.SIGABRT
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_gets_keys_or_tokens_leaves_none(tmp_path: Path, name: str) -> None:
    """From before it has one: here it waits for a server that says nothing."""
    run_dir = tmp_path / "run"
    run_dir.mkdir(mode=0o700)
    (tmp_path / "mesh.toml").write_text(
        f'[runtime]\nstate_dir = "{tmp_path / "state"}"\nruntime_dir = "{run_dir}"\n'
    )
    (run_dir / "supervisor.sock").touch()
    words, limit = COMMANDS[name]
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(run_dir / "admin.sock"))
        server.listen()
        with subprocess.Popen(
            [sys.executable, "-c", ALLOWED, *words],
            cwd=tmp_path,
            env={
                "PYTHONPATH": str(Path(__file__).parents[3]),
                "SPIFFE_ENDPOINT_SOCKET": f"unix://{run_dir / 'admin.sock'}",
            },
        ) as command:
            try:
                server.settimeout(30)
                with server.accept()[0]:
                    limits = Path(f"/proc/{command.pid}/limits").read_text()
                    found = re.search(r"^Max core file size +(\S+)", limits, re.MULTILINE)
                    assert found is not None
                    # A command that a test before ran in this process took its cores for good.
                    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
                    assert found[1] == (limit if hard else "0")
            finally:
                command.kill()
