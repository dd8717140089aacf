"""X509-SVIDs through control's whole path, against `cryptography` doing the cryptography alone.

README.md beside this file says how it is measured.
"""

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import grpc
import grpc.aio

from benchmarks.h2load import LoadError
from benchmarks.harness import (
    SERVER_CORE,
    Options,
    Result,
    Scenario,
    cpu_s,
    interleaved,
    pinned,
    run,
)
from benchmarks.servers import Service, service
from benchmarks.x509_baseline import SPIFFE_ID, requests_in
from ca.local_keys import new_request
from meshwarden.pem import csr_pem
from protos.meshwarden.v1 import (
    agent_pb2,
    agent_pb2_grpc,
    authority_pb2,
    authority_pb2_grpc,
    registration_pb2,
    registration_pb2_grpc,
)

__all__ = ["main", "measure"]

_SINGLE = Scenario("single", "SVIDs/CPU s", "higher", bar=0.3)
_BATCH = Scenario("batch100", "SVIDs/CPU s", "higher", bar=0.7)
_BATCH_ORDERS = 100
# Callers at once: so many wait for the ledger's group while the next is being checked.
_CALLERS = {_SINGLE.name: 64, _BATCH.name: 4}
_CALL_S = 60.0
_REQUESTS = 200
_AGENT = "spiffe://bench.example/meshwarden/agent/embedded/local"
_SELECTOR = agent_pb2.Selector(kind="unix", value="uid:1000")
_IDENTITY = """\
[identity]
trust_domain = "bench.example"
key_file = "{folder}/keys/sealing.key"

[identity.nodes]
signatures_per_s = 1_000_000
"""
_OPTIONS = (("grpc.max_receive_message_length", 16 * 1024 * 1024),)


@dataclass(frozen=True, slots=True)
class _Effort:
    """How long is measured."""

    rounds: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Rate:
    """How many were issued.

    Attributes:
        per_s: In a second by the clock, disk and neighbours included.
        per_cpu_s: In a second of CPU time of the process that issues: what a core does.
    """

    per_s: float
    per_cpu_s: float


_FULL = _Effort(rounds=7, seconds=3.0)
_QUICK = _Effort(rounds=3, seconds=1.0)


def measure(options: Options) -> Iterator[Result]:
    """Measure one certificate a call, and a hundred.

    Raises:
        LoadError: The service refuses what it should sign, or its ledger has a fault.
        DemoError: It does not start.
    """
    if not options.wants(_SINGLE.name, _BATCH.name):
        return
    effort = _QUICK if options.quick else _FULL
    with tempfile.TemporaryDirectory(prefix="mwb-") as name:
        folder = Path(name)
        file = folder / "requests.pem"
        file.write_text("".join(csr_pem(new_request()[1]) for _ in range(_REQUESTS)))
        requests = requests_in(file)
        with service(folder / "s", more=_IDENTITY.format(folder=folder)) as ours:
            entry_id = _prepared(ours)
            for scenario, size in ((_SINGLE, 1), (_BATCH, _BATCH_ORDERS)):
                if not options.wants(scenario.name):
                    continue
                callers = _CALLERS[scenario.name]
                messages = _messages(entry_id, requests, size)
                asyncio.run(_issued(ours, messages, callers, effort.seconds / 2))
                mine, theirs = interleaved(
                    effort.rounds,
                    lambda m=messages, c=callers: asyncio.run(  # type: ignore[misc]
                        _issued(ours, m, c, effort.seconds)
                    ),
                    lambda: _baseline(file, effort.seconds),
                )
                yield scenario.compare(
                    [each.per_cpu_s for each in mine], [each.per_cpu_s for each in theirs]
                )
                by_clock = Scenario(f"{scenario.name}/clock", "SVIDs/s", "higher")
                yield by_clock.compare(
                    [each.per_s for each in mine], [each.per_s for each in theirs]
                )
            _insist_on_the_ledger(ours)


def _prepared(ours: Service) -> str:
    """Let the machine's own agent in and register a workload; give the entry's id."""
    with _channel(ours) as channel:
        csr = new_request()[1]
        evidence = agent_pb2.Evidence(attestor="embedded", csr=csr)
        asked = iter([agent_pb2.AttestRequest(evidence=evidence)])
        list(agent_pb2_grpc.AttestationStub(channel).Attest(asked))
        workload = agent_pb2.WorkloadEntry(spiffe_id=SPIFFE_ID, selectors=[_SELECTOR])
        entry = registration_pb2.Entry(workload=workload, parent_id=_AGENT)
        made = registration_pb2_grpc.RegistrationStub(channel).PutEntries(
            registration_pb2.PutEntriesRequest(entries=[entry])
        )
    return made.entries[0].workload.id


def _messages(entry_id: str, requests: Sequence[bytes], size: int) -> Sequence[bytes]:
    """Make calls of so many orders each, with a request of its own in each."""
    source = cycle(requests)
    return [
        agent_pb2.SignX509Request(
            orders=[
                agent_pb2.X509Order(entry_id=entry_id, csr=csr, selectors=[_SELECTOR])
                for csr in islice(source, size)
            ]
        ).SerializeToString()
        for _ in range(max(1, len(requests) // size))
    ]


async def _issued(ours: Service, messages: Sequence[bytes], callers: int, seconds: float) -> _Rate:
    """Keep so many calls under way for a time; give the certificates a second."""
    address = f"unix:{ours.folder / 'run' / 'admin.sock'}"
    source = cycle(messages)
    issued = 0
    async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
        # Bytes in and out: what the load costs is not what is measured.
        call = channel.unary_unary("/meshwarden.v1.Agent/SignX509", None, None)
        until_s = time.monotonic() + seconds
        last = b""

        async def caller() -> None:
            nonlocal issued, last
            while time.monotonic() < until_s:
                last = await call(next(source), timeout=_CALL_S)
                issued += size

        size = len(agent_pb2.SignX509Request.FromString(messages[0]).orders)
        started_s, cpu_before_s = time.monotonic(), cpu_s(ours.control)
        await asyncio.gather(*(caller() for _ in range(callers)))
        elapsed_s = time.monotonic() - started_s
        spent_s = cpu_s(ours.control) - cpu_before_s
    results = agent_pb2.SignX509Reply.FromString(last).results
    refused = [each.refusal.message for each in results if each.HasField("refusal")]
    if refused or len(results) != size:
        raise LoadError(f"the service did not sign: {refused[:1]}")
    return _Rate(issued / elapsed_s, issued / spent_s)


def _baseline(file: Path, seconds: float) -> _Rate:
    command = [sys.executable, "-m", "benchmarks.x509_baseline", str(file), str(seconds)]
    with pinned(SERVER_CORE):
        ran = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return _Rate(*map(float, ran.stdout.split()))


def _insist_on_the_ledger(ours: Service) -> None:
    with _channel(ours) as channel:
        reply = authority_pb2_grpc.AuthorityStub(channel).VerifyLedger(
            authority_pb2.VerifyLedgerRequest()
        )
    if reply.fault:
        raise LoadError(f"the ledger: {reply.fault}")


def _channel(ours: Service) -> grpc.Channel:
    return grpc.insecure_channel(f"unix:{ours.folder / 'run' / 'admin.sock'}")


def main() -> int:
    """Run as a program; give the exit code."""
    return run(__doc__.splitlines()[0], measure)


if __name__ == "__main__":
    sys.exit(main())
