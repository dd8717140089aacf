"""What README.md gives users to paste into their Envoy works as it stands there."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from string import Template
from textwrap import indent

from deploy.demo.processes import Child, wait_until
from tests.e2e.support.clients import send
from tests.e2e.support.front import BareFront
from tests.e2e.support.service import Service
from tests.e2e.support.sidecar import envoy
from tests.e2e.support.upstream import Upstream

README = Path(__file__).resolve().parents[3] / "README.md"
BOOTSTRAP = Path(__file__).with_name("envoy.yaml")


def block(beginning: str) -> str:
    """Give the one YAML block of README that begins with this."""
    blocks = re.findall(r"```yaml\n(.*?)```", README.read_text(), re.DOTALL)
    (found,) = [each for each in blocks if each.startswith(beginning)]
    return str(found)


class PlainEnvoy(Child):
    """An Envoy with README's configuration; only the address of the service is another one."""

    def __init__(
        self, folder: Path, check_port: int, upstream: Upstream, extensions: str = ""
    ) -> None:
        """Start it.

        Args:
            folder: There, and empty.
            check_port: Where it asks.
            upstream: Where allowed requests go.
            extensions: More context extensions than README's, ", NAME: VALUE" each.
        """
        self.access_log = folder / "access.log"
        self._admin = folder / "admin"
        name = block("typed_per_filter_config:").replace("orders", f"orders{extensions}")
        text = Template(BOOTSTRAP.read_text()).substitute(
            access_log=self.access_log,
            json_format=indent(block("json_format:"), " " * 24),
            http_filter=indent(block("- name: envoy.filters.http.ext_authz"), " " * 18),
            service_name=indent(name, " " * 22),
            cluster=indent(block("- name: meshwarden").replace("9191", str(check_port)), " " * 4),
            upstream_port=upstream.http_port,
        )
        config = folder / "envoy.yaml"
        config.write_text(text)
        command = [envoy(), "--config-path", str(config)]
        command += ["--admin-address-path", str(self._admin), "--concurrency", "1"]
        command += ["--disable-hot-restart", "--log-level", "warn"]
        command += ["--file-flush-interval-msec", "20"]
        super().__init__("Envoy", command, folder / "envoy.log", os.environ)

    def port(self) -> int:
        """Wait until it listens; give the port."""
        wait_until(lambda: self._admin.exists() and ":" in self._admin.read_text(), [self], 20)
        listener = json.loads(self.admin("/listeners?format=json"))["listener_statuses"][0]
        return int(listener["local_address"]["socket_address"]["port_value"])

    def admin(self, path: str) -> bytes:
        """Read from its admin interface."""
        return send(int(self._admin.read_text().rpartition(":")[2]), path=path).body


def test_an_envoy_with_readmes_configuration_asks_obeys_and_logs_the_reason(
    new_folder: Callable[[], Path], upstream: Upstream
) -> None:
    """The filter, the service's name, the cluster and the access log, together."""
    policy = {"policy.csv": "p, *, orders, GET, /orders/*, allow\n"}
    with (
        Service(new_folder(), policy, {"server.drain_s": 0.5}) as service,
        PlainEnvoy(new_folder(), service.port, upstream) as sidecar,
    ):
        service.wait_ready()
        port = sidecar.port()
        assert send(port, "GET", "/orders/1").status == 200
        assert send(port, "GET", "/others/1").status == 403
        log = sidecar.access_log
        wait_until(lambda: log.read_text().count("\n") == 2, [sidecar], 10)
        said = [json.loads(line)["meshwarden"] for line in log.read_text().splitlines()]
        assert [each["verdict"] for each in said] == ["allow", "deny"]
        assert said[0]["rule"] == "policy.csv:1"

        # Nobody answers: neither served nor denied.
        service.stop()
        assert send(port, "GET", "/orders/1").status == 503


def test_a_check_may_take_as_long_as_the_filters_time_out_says(
    new_folder: Callable[[], Path], upstream: Upstream
) -> None:
    """Envoy takes the retry policy's longest pause for a time-out of each try: if that is short,
    a front under load gets every check three times.
    """
    with (
        BareFront(new_folder(), "tests.fakes.front:app") as front,
        PlainEnvoy(new_folder(), front.port, upstream, ", fault: hesitant") as sidecar,
    ):
        front.wait_ready()
        assert send(sidecar.port(), "GET", "/public/1").status == 200
        stats = json.loads(sidecar.admin("/stats?format=json&filter=cluster.meshwarden"))["stats"]
        counts = {each["name"]: each["value"] for each in stats if "name" in each}
        assert counts["cluster.meshwarden.upstream_rq_retry"] == 0
        assert counts["cluster.meshwarden.upstream_rq_per_try_timeout"] == 0
