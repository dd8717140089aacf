"""Steady callers that count what went wrong: through a sidecar, and straight to the service."""

import http.client
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc

from deploy.demo.certificates import Credential
from tests.e2e.support.clients import CHECK
from tests.fakes.envoy import check_request

__all__ = ["Load", "at_once", "direct_load", "sidecar_load"]

_TIMEOUT_S = 20.0


class Load:
    """What the callers of one load saw so far.

    Attributes:
        answered: Calls that got the answer they should.
        failures: In words, one for each other call.
    """

    def __init__(self) -> None:
        self.answered = 0
        self.failures: list[str] = []
        self._lock = threading.Lock()

    def count(self, failure: str) -> None:
        """Count one call; "" for the right answer."""
        with self._lock:
            if failure:
                self.failures.append(failure)
            else:
                self.answered += 1


@contextmanager
def direct_load(ports: Sequence[int], rate: int, callers: int = 2) -> Iterator[Load]:
    """Ask Check by grpcio as long as the block lasts, each caller on a channel of its own.

    Args:
        ports: On 127.0.0.1; with several, each call goes to the next that can be reached.
        rate: Calls a second, of all callers together.
        callers: Threads.
    """
    request = check_request("/public/a").SerializeToString()
    target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
    options = (
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.lb_policy_name", "round_robin"),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 500),
    )

    def caller(is_over: Callable[[], bool], load: Load) -> None:
        with grpc.insecure_channel(target, options=options) as channel:
            ask = channel.unary_unary(CHECK, None, None)
            for _ in _paced(rate / callers, is_over):
                try:
                    ask(request, timeout=_TIMEOUT_S)
                except grpc.RpcError as error:
                    load.count(f"{error.code()}: {error.details()}")
                else:
                    load.count("")

    with _running(caller, callers) as load:
        yield load


@contextmanager
def sidecar_load(
    port: int, authority: Path, credential: Credential, rate: int, callers: int = 3
) -> Iterator[Load]:
    """Send HTTP requests through a sidecar as long as the block lasts, each caller on a connection.

    Args:
        port: The sidecar's, on 127.0.0.1.
        authority: PEM file of who signed the sidecar's certificate.
        credential: The callers'.
        rate: Requests a second, of all callers together.
        callers: Threads.
    """
    context = ssl.create_default_context(cafile=authority)
    context.load_cert_chain(credential.certificate, credential.key)

    def caller(is_over: Callable[[], bool], load: Load) -> None:
        connection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=_TIMEOUT_S, context=context
        )
        for _ in _paced(rate / callers, is_over):
            connection.request("GET", "/public/a")
            answer = connection.getresponse()
            body = answer.read()
            load.count("" if answer.status == http.client.OK else f"{answer.status}: {body!r}")
        connection.close()

    with _running(caller, callers) as load:
        yield load


@contextmanager
def at_once(callers: Iterable[Callable[[Callable[[], bool]], None]]) -> Iterator[None]:
    """Run each in a thread of its own, until what it is given says that the block is over."""
    over = threading.Event()
    threads = [
        threading.Thread(target=caller, args=(over.is_set,), name=f"caller-{index}")
        for index, caller in enumerate(callers)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _paced(rate: float, is_over: Callable[[], bool]) -> Iterator[None]:
    """Come up at even times; what was missed while a call took long is not caught up on."""
    next_s = time.monotonic()
    while not is_over():
        yield
        next_s = max(next_s + 1 / rate, time.monotonic())
        time.sleep(max(0.0, next_s - time.monotonic()))


@contextmanager
def _running(caller: Callable[[Callable[[], bool], Load], None], callers: int) -> Iterator[Load]:
    load = Load()

    def work(is_over: Callable[[], bool]) -> None:
        try:
            caller(is_over, load)
        except (OSError, http.client.HTTPException) as error:
            load.count(f"the caller gave up: {error!r}")

    with at_once([work] * callers):
        yield load
