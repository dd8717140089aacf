"""The whole of Meshwarden in one go: identities, a policy, real Envoys, and callers who try it.

python -m deploy.demo.run            stays up, and says what to try next
python -m deploy.demo.run --once     ends after the table; status 1 if any verdict is wrong
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path
from string import Template
from types import FrameType
from typing import NoReturn

from deploy.demo import report, upstream
from deploy.demo.callers import Caller
from deploy.demo.expectations import NOBODY, ExpectationError, Expectations
from deploy.demo.identity_files import IdentityFiles
from deploy.demo.processes import Child, DemoError, free_ports, wait_until
from deploy.demo.service import Service
from deploy.demo.sidecar import Frontend, Sidecar

HERE = Path(__file__).parent
# It has an Envoy of its own, and needs no certificate in files.
FRONTEND = "frontend"


def send_all(
    expectations: Expectations,
    sidecar: Sidecar,
    frontend: Frontend,
    files: dict[str, IdentityFiles],
) -> list[report.Result]:
    """Send every request in turn, then look up in the access log who decided and why.

    Raises:
        DemoError: A connection fails, or the sidecar logged nothing.
    """
    bundle = next(iter(files.values())).bundle

    def caller(name: str) -> Caller:
        if name == FRONTEND:
            return Caller.by_envoy(frontend.port)
        credential = files[name].credential if name in files else None
        return Caller.over_tls(sidecar.port, bundle, credential)

    with ExitStack() as open_connections:
        try:
            callers = {
                name: open_connections.enter_context(closing(caller(name)))
                for name in (*expectations.callers, NOBODY)
            }
            answers = [callers[request.who].send(request) for request in expectations.requests]
        except OSError as error:
            sidecar.check()
            raise DemoError(f"a request failed: {error}{sidecar.tail()}") from error
    entries = sidecar.entries([answer.request_id for answer in answers])
    return [
        report.Result(request, answer, entries[answer.request_id])
        for request, answer in zip(expectations.requests, answers, strict=True)
    ]


def what_next(folder: Path, service: Service, sidecar: Sidecar, frontend: Frontend) -> str:
    """Say what can be tried while everything is up, each as a command to paste."""
    orders = f"http://127.0.0.1:{frontend.port}/orders/17"
    meshwarden = Path(sys.executable).parent / "meshwarden"
    return f"""
All of it is up until Ctrl-C. What to try next, in another terminal:

  cd {folder}
  curl {orders}
  curl -X DELETE {orders}

That one was refused: it went to the frontend's Envoy, from there by mutual TLS to the orders'
Envoy, and that one asked. Change the policy, which is read at once, and ask again:

  echo 'p, role:shop, orders, DELETE, /orders/*, allow' >> policy/policy.csv

Break it: the last good one goes on deciding, and meshwarden.log says what is wrong.

  echo 'p, role:shop, orders' >> policy/policy.csv
  tail meshwarden.log

Why was what decided? In the sidecar's log, in the service's, and asked without any Envoy:

  tail access.log state/decisions.jsonl
  {meshwarden} check --policy policy --principal shop.example/ns/prod/sa/frontend \\
    --service orders --method DELETE --path /orders/17

Who is who? The authority, what it has issued, and what your own shell would get; then as the
console, with the certificate in identities/console:

  {meshwarden} ca show
  {meshwarden} ca issued
  {meshwarden} identity fetch --socket unix://{service.agent_socket}
  curl --cacert identities/console/bundle.pem --cert identities/console/svid.pem \\
    --key identities/console/svid.key https://localhost:{sidecar.port}/orders/17

And how it does: curl http://127.0.0.1:{service.http_port}/metrics
"""


def demo(folder: Path, requests: Path, transport: str, *, once: bool) -> int:
    """Run the demo in a folder that is there and empty.

    Returns:
        0 if everything came as the file says, else 1.

    Raises:
        DemoError: A part of it does not work.
        ExpectationError: The file can't be used.
    """
    expectations = Expectations.load(requests)
    shutil.copytree(HERE / "policy", folder / "policy")
    entries = Template((HERE / "entries.yaml").read_text()).substitute(uid=os.getuid())
    (folder / "entries.yaml").write_text(entries)
    console = report.console()
    with ExitStack() as running:
        upstream_port = running.enter_context(upstream.serve())
        port, http_port, sidecar_port, frontend_port = free_ports(4)
        service = running.enter_context(Service(folder, port, http_port, transport))
        agent = service.agent_socket
        # What follows waits for the agent by itself, while the service starts.
        sidecar = running.enter_context(Sidecar(folder, sidecar_port, port, upstream_port, agent))
        frontend = running.enter_context(Frontend(folder, frontend_port, sidecar_port, agent))
        files = {
            name: running.enter_context(
                IdentityFiles(folder / "identities", name, spiffe_id, agent)
            )
            for name, spiffe_id in expectations.callers.items()
            if name != FRONTEND
        }
        service.wait_ready()
        sidecar.wait_ready()
        frontend.wait_ready()
        for each in files.values():
            each.wait_ready()
        results = send_all(expectations, sidecar, frontend, files)
        console.print(report.table(results))
        if not once:
            print(what_next(folder, service, sidecar, frontend))
            print(report.verdict_line(results), flush=True)
            _stay_up(service, sidecar, frontend)
    if once:
        # Printed when everything has been stopped, so that it is the last line.
        print(report.verdict_line(results), flush=True)
    return 1 if any(result.wrong for result in results) else 0


def _stay_up(*children: Child) -> None:
    """Wait for Ctrl-C.

    Raises:
        DemoError: A child ended.
    """
    try:
        wait_until(lambda: False, children, float("inf"))
    except KeyboardInterrupt:
        print("\nstopping", file=sys.stderr)


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def main() -> int:
    """Read the command line and run the demo in a temporary folder, which is removed in the end."""
    parser = argparse.ArgumentParser(description="Meshwarden, a real Envoy and some callers.")
    parser.add_argument("--once", action="store_true", help="end after the table")
    parser.add_argument(
        "--requests", type=Path, default=HERE / "requests.toml", help="the expectation file"
    )
    parser.add_argument(
        "--transport", default="auto", help="the service's setting server.transport"
    )
    options = parser.parse_args()
    # `kill` ends the demo as Ctrl-C does, with its children.
    signal.signal(signal.SIGTERM, _interrupt)
    with tempfile.TemporaryDirectory(prefix="meshwarden-demo-") as folder:
        try:
            return demo(Path(folder), options.requests, options.transport, once=options.once)
        except (DemoError, ExpectationError) as error:
            print(f"demo: {error}", file=sys.stderr)
        except KeyboardInterrupt:
            print("demo: interrupted", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
