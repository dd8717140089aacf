"""What README.md gives users to paste into their Envoy works as it stands there."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from string import Template
from textwrap import indent

import pytest

from deploy.demo.processes import Child, wait_until
from tests.e2e.support.clients import send
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


@pytest.fixture
def service(new_folder: Callable[[], Path]) -> Service:
    """Give a service that is made but not waited for yet; it knows the service `orders`."""
    policy = {"policy.csv": "p, *, orders, GET, /orders/*, allow\n"}
    return Service(new_folder(), policy, {"server.drain_s": 0.5})


def test_an_envoy_with_readmes_configuration_asks_obeys_and_logs_the_reason(
    service: Service, upstream: Upstream, tmp_path: Path
) -> None:
    """Only the address of the service is another one here."""
    access_log, admin = tmp_path / "access.log", tmp_path / "admin"
    cluster = block("- name: meshwarden").replace("9191", str(service.port))
    text = Template(BOOTSTRAP.read_text()).substitute(
        access_log=access_log,
        json_format=indent(block("json_format:"), " " * 24),
        http_filter=indent(block("- name: envoy.filters.http.ext_authz"), " " * 18),
        service_name=indent(block("typed_per_filter_config:"), " " * 22),
        cluster=indent(cluster, " " * 4),
        upstream_port=upstream.http_port,
    )
    config = tmp_path / "envoy.yaml"
    config.write_text(text)
    command = [envoy(), "--config-path", str(config), "--admin-address-path", str(admin)]
    command += ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warn"]
    command += ["--file-flush-interval-msec", "20"]
    with service, Child("Envoy", command, tmp_path / "envoy.log", os.environ) as sidecar:
        service.wait_ready()
        wait_until(lambda: admin.exists() and ":" in admin.read_text(), [sidecar], 20)
        admin_port = int(admin.read_text().rpartition(":")[2])
        listening = json.loads(send(admin_port, path="/listeners?format=json").body)
        port = listening["listener_statuses"][0]["local_address"]["socket_address"]["port_value"]

        assert send(port, "GET", "/orders/1").status == 200
        assert send(port, "GET", "/others/1").status == 403
        wait_until(lambda: access_log.read_text().count("\n") == 2, [sidecar], 10)
        said = [json.loads(line)["meshwarden"] for line in access_log.read_text().splitlines()]
        assert [each["verdict"] for each in said] == ["allow", "deny"]
        assert said[0]["rule"] == "policy.csv:1"

        # Nobody answers: neither served nor denied.
        service.stop()
        assert send(port, "GET", "/orders/1").status == 503
