"""A real Envoy asks the agent by every name, in both forms of SDS, and verifies by what it gets."""

import datetime as dt
import http.client
import json
import os
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ca.verify import spiffe_id_of
from deploy.demo.certificates import Authority, Credential
from deploy.demo.processes import Child, answers_tcp, free_ports, wait_until
from tests.e2e.support.clients import send
from tests.e2e.support.instance import Instance, Place
from tests.e2e.support.sidecar import envoy, typed

DOMAIN = "spiffe://td.example"
PARENT = f"{DOMAIN}/meshwarden/agent/embedded/local"
FIRST, SECOND = f"{DOMAIN}/first", f"{DOMAIN}/second"
CALLER = f"{DOMAIN}/caller"
POLICY = {"policy.csv": "p, *, *, *, /**, allow\n"}
Names = tuple[str, str]
"""By what a listener asks: for its certificate, and for whom it believes."""
TTL_S = 6
READY_S = 20.0

ENTRIES = f"""\
entries:
  - {{parent_id: {PARENT}, spiffe_id: {FIRST}, selectors: ["unix:uid:{os.getuid()}"]}}
  - {{parent_id: {PARENT}, spiffe_id: {SECOND}, selectors: ["unix:uid:{os.getuid()}"]}}
"""
# By what an Envoy's metadata asks for: what each name of a bundle gives it.
WISHES: Mapping[str, Mapping[str, str]] = {
    "": {"ROOTCA": "plain", "ALL": "validator", DOMAIN: "validator"},
    "spiffe_cert_validation": {"ROOTCA": "validator", "ALL": "validator", DOMAIN: "validator"},
    "disable_spiffe_cert_validation": {"ROOTCA": "plain", DOMAIN: "plain"},
}


@dataclass(frozen=True, slots=True)
class Shop:
    """A service whose agent has two identities for our user, and what callers show."""

    place: Place
    service: Instance
    caller: Credential
    stranger: Credential

    @property
    def agent_socket(self) -> Path:
        """Where the embedded agent serves."""
        return self.place.run_dir.with_name(f"{self.place.run_dir.name}-agent") / "api.sock"


class Envoy(Child):
    """An Envoy with a listener for each pair of names."""

    def __init__(
        self, folder: Path, agent_socket: Path, form: str, names: Sequence[Names], wish: str = ""
    ) -> None:
        self._admin, *self.ports = free_ports(1 + len(names))
        listeners = [
            _listener(port, form, *each) for port, each in zip(self.ports, names, strict=True)
        ]
        bootstrap = folder / "envoy.json"
        node = {"id": "n", "cluster": "c", "metadata": {wish: True} if wish else {}}
        resources = {"listeners": listeners, "clusters": [_agent(agent_socket)]}
        bootstrap.write_text(
            json.dumps(
                {
                    "node": node,
                    "admin": {"address": _address(self._admin)},
                    "static_resources": resources,
                }
            )
        )
        command = [envoy(), "--config-path", str(bootstrap), "--concurrency", "1"]
        command += ["--disable-hot-restart", "--log-level", "warn"]
        super().__init__("Envoy", command, folder / "envoy.log", os.environ)

    def wait_ready(self) -> None:
        """Wait until every listener has its secrets: before that, none is open."""
        wait_until(lambda: all(map(answers_tcp, self.ports)), [self], READY_S)

    def kinds(self) -> dict[str, str]:
        """What each secret of authorities is verified by."""
        path = "/config_dump?resource=dynamic_active_secrets"
        dump = json.loads(send(self._admin, path=path).body)
        secrets = {each["name"]: each["secret"] for each in dump["configs"]}
        return {
            name: "plain" if "trusted_ca" in secret["validation_context"] else "validator"
            for name, secret in secrets.items()
            if "validation_context" in secret
        }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _agent(socket: Path) -> dict[str, Any]:
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    endpoint = {"endpoint": {"address": {"pipe": {"path": str(socket)}}}}
    return {
        "name": "agent",
        "type": "STATIC",
        "typed_extension_protocol_options": {
            options: {
                "@type": f"type.googleapis.com/{options}",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "load_assignment": {"cluster_name": "agent", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _secret(name: str, form: str) -> dict[str, Any]:
    source = {
        "api_type": form,
        "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "agent"}}],
    }
    config = {
        "resource_api_version": "V3",
        "initial_fetch_timeout": "0s",
        "api_config_source": source,
    }
    return {"name": name, "sds_config": config}


def _listener(port: int, form: str, certificate: str, bundle: str) -> dict[str, Any]:
    answer = {"match": {"prefix": "/"}, "direct_response": {"status": http.client.OK}}
    manager = {
        "stat_prefix": "in",
        "http_filters": [typed("envoy.filters.http.router", "filters.http.router.v3.Router", {})],
        "route_config": {"virtual_hosts": [{"name": "x", "domains": ["*"], "routes": [answer]}]},
    }
    tls = {
        "require_client_certificate": True,
        "common_tls_context": {
            "tls_certificate_sds_secret_configs": [_secret(certificate, form)],
            "validation_context_sds_secret_config": _secret(bundle, form),
        },
    }
    kind = "filters.network.http_connection_manager.v3.HttpConnectionManager"
    return {
        "name": f"in-{port}",
        "address": _address(port),
        "filter_chains": [
            {
                "transport_socket": typed(
                    "envoy.transport_sockets.tls",
                    "transport_sockets.tls.v3.DownstreamTlsContext",
                    tls,
                ),
                "filters": [typed("envoy.filters.network.http_connection_manager", kind, manager)],
            }
        ],
    }


@pytest.fixture(scope="module")
def shop(new_folder: Callable[[], Path]) -> Iterator[Shop]:
    """Run the service; mint what a caller shows."""
    folder = new_folder()
    (folder / "entries.yaml").write_text(ENTRIES)
    place = Place(
        folder,
        POLICY,
        {
            "server.embedded_agent": True,
            "identity.trust_domain": "td.example",
            "identity.key_file": str(folder / "sealing.key"),
            "identity.entries": str(folder / "entries.yaml"),
            "identity.x509_ttl_s": TTL_S,
        },
    )
    own = new_folder()
    stranger = Authority(new_folder(), dt.datetime.now(dt.UTC))  # noqa: TID251 - real handshakes
    with place.start() as service:
        service.wait_ready()
        minted = place.command("x509", "mint", CALLER, "--to", str(own), "--ttl", "10m")
        assert minted.returncode == 0, minted.stderr
        caller = Credential(own / "svid.pem", own / "svid.key")
        yield Shop(place, service, caller, stranger.issue("caller", CALLER))


def asked(port: int, credential: Credential | None) -> tuple[int, str, bytes]:
    """Ask once over a connection of its own; give the status, whom the Envoy says to be, and by
    which certificate.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if credential is not None:
        context.load_cert_chain(credential.certificate, credential.key)
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=context)
    try:
        connection.request("GET", "/")
        shown = connection.sock.getpeercert(binary_form=True)
        return connection.getresponse().status, str(spiffe_id_of(shown)), shown
    finally:
        connection.close()


@pytest.mark.parametrize("wish", WISHES)
@pytest.mark.parametrize("form", ["GRPC", "DELTA_GRPC"])
def test_every_name_gives_what_it_says_and_is_renewed(
    new_folder: Callable[[], Path], shop: Shop, form: str, wish: str
) -> None:
    """An ID, the default, the own roots, a trust domain's, all: each takes whom it should."""
    bundles = WISHES[wish]
    names = [("default" if bundle == "ROOTCA" else SECOND, bundle) for bundle in bundles]
    with Envoy(new_folder(), shop.agent_socket, form, names, wish) as running:
        running.wait_ready()
        assert running.kinds() == bundles
        for (certificate, _), port in zip(names, running.ports, strict=True):
            status, who, shown = asked(port, shop.caller)
            assert status == http.client.OK
            assert who == (FIRST if certificate == "default" else SECOND)
            for refused in (None, shop.stranger):
                with pytest.raises((ssl.SSLError, ConnectionError)):
                    asked(port, refused)
            shop.service.wait_for(
                lambda port=port, shown=shown: asked(port, shop.caller)[2] != shown
            )
        said = running.log.read_text()
        assert "rejected" not in said
        assert "closed" not in said


@pytest.mark.parametrize("form", ["GRPC", "DELTA_GRPC"])
def test_a_port_whose_identity_is_not_there_yet_opens_when_it_is(
    new_folder: Callable[[], Path], shop: Shop, form: str
) -> None:
    """Until then nobody is taken in and turned away; the Envoy's log has the reason."""
    late = f"{DOMAIN}/late-{form.lower().replace('_', '-')}"
    with Envoy(new_folder(), shop.agent_socket, form, [(late, "ROOTCA")]) as running:
        wait_until(lambda: running.log.read_text().count(" 7, ") > 1, [running], READY_S)
        assert f"there is no secret '{late}' for this workload" in running.log.read_text()
        assert not answers_tcp(*running.ports)
        made = shop.place.command(
            *("entry", "create", late, "--parent", PARENT),
            *("--selector", f"unix:uid:{os.getuid()}"),
        )
        assert made.returncode == 0, made.stderr
        running.wait_ready()
        assert asked(*running.ports, shop.caller)[:2] == (http.client.OK, late)
