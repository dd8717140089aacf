"""Two real Envoys, secrets from the agent by SDS, mutual TLS between them, lives of seconds."""

import datetime as dt
import http.client
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from string import Template

import pytest
import yaml

from deploy.demo import sidecar as demo
from deploy.demo import upstream
from deploy.demo.certificates import Authority
from deploy.demo.identity_files import IdentityFiles
from deploy.demo.processes import Child, free_ports
from tests.e2e.support.instance import Instance, Place
from tests.e2e.support.load import at_once

DEMO = Path(demo.__file__).parent
ORDERS = "spiffe://shop.example/ns/prod/sa/orders"
CONSOLE = "spiffe://shop.example/ns/prod/sa/console"
POLICY = {"policy.csv": "p, shop.example/ns/prod/sa/*, orders, GET, /**, allow\n"}
TTL_S = 8


class Frontend(demo.Frontend):
    """The demo's, with a new connection and so a new handshake for each few requests."""

    def __init__(self, folder: Path, port: int, orders_port: int, agent_socket: Path) -> None:
        text = Template((DEMO / "frontend.yaml").read_text()).substitute(
            listen_port=port, orders_port=orders_port, agent_socket=agent_socket
        )
        bootstrap = yaml.safe_load(text)
        (orders,) = [
            each for each in bootstrap["static_resources"]["clusters"] if each["name"] == "orders"
        ]
        kind = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        orders["typed_extension_protocol_options"] = {
            kind: {
                "@type": f"type.googleapis.com/{kind}",
                "common_http_protocol_options": {"max_requests_per_connection": 3},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        }
        written = folder / "frontend.yaml"
        written.write_text(yaml.safe_dump(bootstrap))
        self.port = port
        command = [demo._program(), "--config-path", str(written), "--concurrency", "1"]
        command += ["--disable-hot-restart", "--log-level", "warn"]
        Child.__init__(self, "the frontend's Envoy", command, folder / "frontend.log", os.environ)


class Shop:
    """A service with its agent, and both Envoys."""

    def __init__(
        self, place: Place, service: Instance, orders: demo.Sidecar, frontend: Frontend
    ) -> None:
        self.place = place
        self.service = service
        self.orders = orders
        self.frontend = frontend
        self.agent_socket = agent_socket(place)

    def get(self, connection: http.client.HTTPConnection | None = None) -> int:
        """Send one request through both Envoys."""
        asking = connection or http.client.HTTPConnection(
            "127.0.0.1", self.frontend.port, timeout=10
        )
        try:
            asking.request("GET", "/orders/1")
            answer = asking.getresponse()
            answer.read()
            return answer.status
        finally:
            if connection is None:
                asking.close()

    def certificate(self) -> bytes:
        """What the orders' Envoy shows now."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with (
            socket.create_connection(("127.0.0.1", self.orders.port), timeout=5) as plain,
            context.wrap_socket(plain) as connection,
        ):
            found = connection.getpeercert(binary_form=True)
        assert found is not None
        return found


def agent_socket(place: Place) -> Path:
    """Where the embedded agent serves."""
    return place.run_dir.with_name(f"{place.run_dir.name}-agent") / "api.sock"


def agent_pid(place: Place) -> int:
    """The embedded agent's process, as it says itself; 0 where there is none."""
    said = place.command("agent", "status", "-o", "json")
    return int(json.loads(said.stdout)["pid"]) if said.returncode == 0 else 0


@contextmanager
def open_shop(folder: Path, **settings: object) -> Iterator[Shop]:
    """Start it all and wait until it serves."""
    entries = Template((DEMO / "entries.yaml").read_text()).substitute(uid=os.getuid())
    (folder / "entries.yaml").write_text(entries)
    place = Place(
        folder,
        POLICY,
        {
            "server.embedded_agent": True,
            "identity.trust_domain": "shop.example",
            "identity.key_file": str(folder / "sealing.key"),
            "identity.entries": str(folder / "entries.yaml"),
            "identity.x509_ttl_s": TTL_S,
            **settings,
        },
    )
    socket_ = agent_socket(place)
    orders_port, frontend_port = free_ports(2)
    with upstream.serve() as upstream_port, place.start() as service:
        service.wait_ready()
        with (
            demo.Sidecar(folder, orders_port, place.port, upstream_port, socket_) as orders,
            Frontend(folder, frontend_port, orders_port, socket_) as frontend,
        ):
            orders.wait_ready()
            frontend.wait_ready()
            yield Shop(place, service, orders, frontend)


class Load:
    """What requests without a pause were answered.

    Attributes:
        answers: Status to count; 0 for no answer.
    """

    def __init__(self) -> None:
        self.answers: dict[int, int] = {}
        self._lock = threading.Lock()

    def go_on(self, shop: Shop, is_over: Callable[[], bool]) -> None:
        """Ask by one connection."""
        connection = http.client.HTTPConnection("127.0.0.1", shop.frontend.port, timeout=10)
        while not is_over():
            try:
                status = shop.get(connection)
            except (OSError, http.client.HTTPException):
                status = 0
                connection.close()
            with self._lock:
                self.answers[status] = self.answers.get(status, 0) + 1
            time.sleep(0.005)
        connection.close()


@contextmanager
def load_on(shop: Shop) -> Iterator[Load]:
    """Ask from a few threads, until the block ends."""
    load = Load()
    with at_once([partial(load.go_on, shop)] * 4):
        yield load


@pytest.mark.timeout(240)
def test_no_request_fails_through_many_renewals(new_folder: Callable[[], Path]) -> None:
    """Both Envoys take each new certificate; new handshakes all the while, and none goes wrong."""
    with open_shop(new_folder()) as shop:
        seen = {shop.certificate()}
        with load_on(shop) as load:
            shop.service.wait_for(lambda: seen.add(shop.certificate()) or len(seen) >= 6, 90)
        assert set(load.answers) == {http.client.OK}, (load.answers, shop.frontend.tail())
        assert load.answers[http.client.OK] > 500
        for envoy in (shop.orders, shop.frontend):
            assert "rejected" not in envoy.log.read_text()


@pytest.mark.timeout(240)
def test_an_outage_of_control_is_survived_until_certificates_end(
    new_folder: Callable[[], Path],
) -> None:
    """Control is killed again and again; renewals go on where it comes back."""
    with open_shop(new_folder(), **{"identity.x509_ttl_s": 20}) as shop:
        seen = {shop.certificate()}
        before = shop.place.command("ca", "show", "-o", "json").stdout
        with load_on(shop) as load:
            for _ in range(3):
                control = shop.service.control
                os.kill(control, 9)
                shop.service.wait_for(
                    lambda old=control: {*shop.service.pids("control").values()} - {old}
                )
                seen_before = set(seen)
                shop.service.wait_for(lambda known=seen_before: shop.certificate() not in known, 60)
                seen.add(shop.certificate())
        assert set(load.answers) == {http.client.OK}, (load.answers, shop.orders.tail())
        assert shop.place.command("ca", "show", "-o", "json").stdout == before
        verified = shop.place.command("ca", "ledger", "verify")
        assert verified.returncode == 0, verified.stdout + verified.stderr


@pytest.mark.timeout(120)
def test_a_killed_agent_costs_no_request(new_folder: Callable[[], Path]) -> None:
    """Envoys keep what they have; the next agent serves the same identities or fresh ones."""
    with open_shop(new_folder(), **{"identity.x509_ttl_s": 30}) as shop:
        with (
            IdentityFiles(
                shop.place.folder / "files", "console", CONSOLE, shop.agent_socket
            ) as files,
            load_on(shop) as load,
        ):
            files.wait_ready()
            for _ in range(3):
                agent = agent_pid(shop.place)
                os.kill(agent, 9)
                shop.service.wait_for(lambda old=agent: agent_pid(shop.place) not in {0, old})
            first = files.credential.certificate.read_bytes()
            shop.service.wait_for(lambda: files.credential.certificate.read_bytes() != first, 40)
        assert set(load.answers) == {http.client.OK}, (load.answers, shop.frontend.tail())


def test_a_stranger_is_refused_in_the_handshake(new_folder: Callable[[], Path]) -> None:
    """A certificate of another authority, with the very same SPIFFE ID."""
    folder = new_folder()
    with open_shop(new_folder()) as shop:
        authority = Authority(folder, dt.datetime.now(dt.UTC))  # noqa: TID251 - a real handshake
        forged = authority.issue("console", CONSOLE)
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.load_cert_chain(forged.certificate, forged.key)
        connection = http.client.HTTPSConnection(
            "127.0.0.1", shop.orders.port, timeout=5, context=context
        )

        def ask() -> None:
            connection.request("GET", "/orders/1")
            connection.getresponse()

        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask()
        connection.close()
        assert shop.get() == http.client.OK
