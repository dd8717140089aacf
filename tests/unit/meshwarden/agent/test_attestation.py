"""What is found on a workload, whatever it calls itself, is what an entry can ask for."""

import asyncio
import contextlib
import os
import select
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typing_extensions import override

from adapters.workload_attestors import unix
from ca.selectors import Selector
from ca.workload import Findings, Peer, WorkloadAttestor
from meshwarden.agent.attestation import Attestation
from meshwarden.agent.peers import Caller, PeerError
from meshwarden.agent.relay import Relay
from meshwarden.identity_messages import selector_messages, selectors_from


@contextmanager
def running(program: bytes) -> Iterator[Caller]:
    """Run a copy of "sleep" under another name; give the process as one that has connected."""
    sleep = shutil.which("sleep")
    assert sleep is not None
    shutil.copy(sleep, program)
    child = subprocess.Popen([program, b"60"])
    caller = Caller(Peer(child.pid, os.getuid(), os.getgid(), ()), os.pidfd_open(child.pid))
    try:
        yield caller
    finally:
        caller.close()
        child.kill()
        child.wait()


@pytest.mark.parametrize(
    "name",
    [b"\xff", b"two\nlines", b"end ", b"\xe2\x80\xae"],
    ids=["bytes", "lines", "end", "bidi"],
)
def test_a_program_may_be_called_anything(tmp_path: Path, name: bytes) -> None:
    """Its name is sent to nobody, who could not read it; all else about it counts."""
    unix_attestor = unix.ADAPTER.build(unix.Config())
    nobody = Relay(tmp_path / "inner", tmp_path, 1)
    with running(bytes(tmp_path) + b"/" + name) as caller:
        found = asyncio.run(Attestation(nobody, {"unix": unix_attestor}).attest(caller))
    assert Selector("unix", f"uid:{os.getuid()}") in found.selectors
    assert not [each for each in found.selectors if each.value.startswith("path:")]
    assert [each for each in found.selectors if each.value.startswith("sha256:")]
    assert selectors_from(selector_messages(found.selectors)) == found.selectors
    (note,) = found.notes
    assert note.startswith("unix: left out: the value of 'unix'")
    assert note.isprintable()


class _Notes(WorkloadAttestor):
    """Finds nothing, and says so in bytes of somebody else's choosing."""

    @override
    async def attest(self, peer: Peer) -> Findings:
        return Findings(notes=("no path: /\udcff\n" + "x" * 4096,))


def test_a_note_is_one_short_line_of_text(tmp_path: Path) -> None:
    """It goes to the caller and into the log."""
    with running(bytes(tmp_path) + b"/sleep") as caller:
        attestation = Attestation(Relay(tmp_path / "inner", tmp_path, 1), {"any": _Notes()})
        (note,) = asyncio.run(attestation.attest(caller)).notes
    assert note.startswith(r"any: no path: /\udcff\n")
    assert note.isprintable()
    assert len(note) <= 500 + len("any: ")


class _Ends(WorkloadAttestor):
    """Tells of whoever has the pid, while the process that had it ends."""

    @override
    async def attest(self, peer: Peer) -> Findings:
        os.kill(peer.pid, signal.SIGKILL)
        # By a pidfd of its own: the pid is not given away before it is reaped.
        ended = os.pidfd_open(peer.pid)
        with contextlib.closing(os.fdopen(ended)):
            while not select.select([ended], [], [], 0)[0]:
                await asyncio.sleep(0.01)
        return Findings(frozenset({Selector("unix", "uid:0")}))


def test_what_was_seen_of_a_process_that_ended_meanwhile_is_told_to_nobody(tmp_path: Path) -> None:
    """Its pid may have been another one's by then, with all that is true of that one."""
    with running(bytes(tmp_path) + b"/sleep") as caller:
        attestation = Attestation(Relay(tmp_path / "inner", tmp_path, 1), {"any": _Ends()})
        with pytest.raises(PeerError, match="has ended"):
            asyncio.run(attestation.attest(caller))
