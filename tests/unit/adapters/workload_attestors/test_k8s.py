"""A pod is told by its container's cgroup and the kubelet: here a local HTTPS stand-in for one.

No Kubernetes runs in these tests: the stand-in answers as the kubelet's /pods does.
"""

import asyncio
import datetime as dt
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from adapters.workload_attestors.k8s import ADAPTER, Config, container_of
from ca.doubts import WORKLOAD_KEYS
from ca.workload import Findings, Peer
from deploy.demo.certificates import Authority

CID = "0123456789abcdef" * 4
OTHER = "f" * 64
UID = "4f6e5d0a-7a3b-4c1f-9a70-9fdb35a3b1a2"
SLICE = "kubepods-burstable-pod4f6e5d0a_7a3b_4c1f_9a70_9fdb35a3b1a2.slice"
POD: dict[str, Any] = {
    "metadata": {
        "name": "web-1",
        "namespace": "shop",
        "uid": UID,
        "labels": {"app": "web"},
        "ownerReferences": [{"kind": "ReplicaSet", "name": "web"}],
    },
    "spec": {"serviceAccountName": "web", "nodeName": "node-1"},
    "status": {
        "containerStatuses": [
            {
                "name": "main",
                "image": "shop/web:1",
                "imageID": "shop/web@sha256:12",
                "containerID": f"containerd://{CID}",
            }
        ]
    },
}


@pytest.mark.parametrize(
    ("cgroups", "container"),
    [
        (f"0::/kubepods/burstable/pod{UID}/{CID}\n", CID),
        (f"0::/kubepods/pod{UID}/{CID}\n", CID),
        (f"0::/kubepods.slice/kubepods-burstable.slice/{SLICE}/cri-containerd-{CID}.scope\n", CID),
        (f"0::/kubepods.slice/kubepods-burstable.slice/{SLICE}/crio-{CID}.scope\n", CID),
        (f"0::/kubelet.slice/kubelet-kubepods.slice/{SLICE}/docker-{CID}.scope/init.scope\n", CID),
        (f"3:cpu,cpuacct:/kubepods/pod{UID}/{CID}\n1:name=systemd:/kubepods/pod{UID}/{CID}\n", CID),
        ("0::/system.slice/nginx.service\n", ""),
        (f"0::/docker/{CID}\n", ""),
        ("", ""),
    ],
)
def test_the_container_is_read_from_the_forms_of_every_runtime(
    cgroups: str, container: str
) -> None:
    """containerd, CRI-O, Docker; both cgroup drivers; both versions of cgroups."""
    assert container_of(cgroups) == container


@pytest.mark.parametrize(
    "cgroups",
    [
        f"0::/user.slice/user-1000.slice/user@1000.service/kubepods/pod{UID}/{CID}\n",
        f"0::/system.slice/x.service/kubepods.slice/{SLICE}/cri-containerd-{CID}.scope\n",
        f"2:cpu:/kubepods/pod{UID}/{CID}\n1:name=systemd:/kubepods/pod{UID}/{OTHER}\n",
    ],
)
def test_a_cgroup_that_a_user_made_is_no_container(cgroups: str) -> None:
    """Users have cgroups of their own, and may name what is in them."""
    assert container_of(cgroups) == ""


def test_a_container_cannot_pass_for_another_one_below_itself() -> None:
    """The first id counts: a container may make cgroups in its own."""
    assert container_of(f"0::/kubepods/pod{UID}/{CID}/kubepods/pod{UID}/{OTHER}\n") == CID


class Kubelet:
    """A stand-in for the kubelet.

    Attributes:
        pods: What it answers.
        calls: The Authorization headers it saw.
    """

    def __init__(self) -> None:
        self.pods: list[dict[str, Any]] = [POD]
        self.calls: list[str] = []
        self.status = 200


@contextmanager
def serving(folder: Path) -> Iterator[tuple[Kubelet, Config]]:
    """Serve a stand-in with TLS; give it with the settings to reach it."""
    kubelet = Kubelet()

    class Handler(BaseHTTPRequestHandler):
        @override
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            kubelet.calls.append(self.headers.get("Authorization", ""))
            body = json.dumps({"items": kubelet.pods}).encode()
            self.send_response(kubelet.status if self.path == "/pods" else 404)
            if kubelet.status == 302:
                self.send_header("Location", "https://127.0.0.1:1/")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    authority = Authority(folder, dt.datetime.now(dt.UTC))  # noqa: TID251 - certificates have dates
    credential = authority.issue("kubelet", "spiffe://x/kubelet")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(credential.certificate, credential.key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    (folder / "token").write_text("s3cret\n")
    (folder / "7").mkdir()
    (folder / "7" / "cgroup").write_text(f"0::/kubepods/pod{UID}/{CID}\n")
    try:
        yield (
            kubelet,
            Config(
                kubelet_url=f"https://127.0.0.1:{server.server_address[1]}",
                kubelet_ca=authority.certificate,
                kubelet_token=folder / "token",
                kubelet_wait_s=0.3,
                proc=folder,
            ),
        )
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def look(config: Config, times: int = 1) -> list[Findings]:
    """Attest process 7, several times at once."""

    async def all_of_them() -> list[Findings]:
        attestor = ADAPTER.build(config)
        return await asyncio.gather(*(attestor.attest(Peer(7, 0, 0)) for _ in range(times)))

    return asyncio.run(all_of_them())


def test_pod_account_and_container_are_told(tmp_path: Path) -> None:
    """As SPIRE spells them, for a token that the kubelet alone gets."""
    with serving(tmp_path) as (kubelet, config):
        (found,) = look(config)
    assert {str(each) for each in found.selectors} == {
        "k8s:ns:shop",
        "k8s:sa:web",
        "k8s:pod-name:web-1",
        f"k8s:pod-uid:{UID}",
        "k8s:node-name:node-1",
        "k8s:pod-label:app:web",
        "k8s:pod-owner:ReplicaSet:web",
        "k8s:container-name:main",
        "k8s:container-image:shop/web:1",
        "k8s:container-image:shop/web@sha256:12",
    }
    assert kubelet.calls == ["Bearer s3cret"]
    # Whoever writes an entry for another name is told so.
    assert {each.value.split(":")[0] for each in found.selectors} == WORKLOAD_KEYS["k8s"]


def test_those_who_ask_at_once_share_one_call(tmp_path: Path) -> None:
    """A node that starts a hundred pods does not ask the kubelet a hundred times at once."""
    with serving(tmp_path) as (kubelet, config):
        found = look(config, times=20)
    assert len(set(found)) == 1
    assert len(kubelet.calls) == 1


def test_a_container_that_the_kubelet_learns_of_later_is_waited_for(tmp_path: Path) -> None:
    """Its list lags behind the runtime."""
    with serving(tmp_path) as (kubelet, config):
        kubelet.pods = []
        threading.Timer(0.4, lambda: kubelet.pods.append(POD)).start()
        (found,) = look(replace(config, kubelet_wait_s=5))
    assert found.selectors


@pytest.mark.parametrize("status", [401, 500, 302])
def test_a_kubelet_that_refuses_gives_no_pod_and_a_note(tmp_path: Path, status: int) -> None:
    """A redirect is not followed: the token would go along. The note has no token."""
    with serving(tmp_path) as (kubelet, config):
        kubelet.status = status
        (found,) = look(config)
    assert not found.selectors
    assert str(status) in found.notes[0]
    assert "s3cret" not in found.notes[0]


def test_a_token_goes_to_nobody_else(tmp_path: Path) -> None:
    """A server with a certificate of another authority gets no request at all."""
    elsewhere = tmp_path / "other"
    elsewhere.mkdir()
    with serving(tmp_path) as (kubelet, config):
        other = Authority(elsewhere, dt.datetime.now(dt.UTC))  # noqa: TID251 - the same
        (found,) = look(replace(config, kubelet_ca=other.certificate))
        assert kubelet.calls == []
        assert "certificate verify failed" in found.notes[0]
        (found,) = look(replace(config, kubelet_ca=other.certificate, kubelet_unverified=True))
        assert found.selectors


def test_plain_http_is_refused(tmp_path: Path) -> None:
    """The token would go over it readable."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        with serving(tmp_path) as (_, config):
            port = listener.getsockname()[1]
            (found,) = look(replace(config, kubelet_url=f"http://127.0.0.1:{port}"))
        assert not found.selectors
        with pytest.raises(BlockingIOError):  # Nobody has so much as connected.
            listener.accept()


def test_an_unknown_container_is_no_pod(tmp_path: Path) -> None:
    """After a wait that ends."""
    with serving(tmp_path) as (kubelet, config):
        kubelet.pods = []
        (found,) = look(config)
    assert not found.selectors
    assert "knows no container 0123456789ab" in found.notes[0]
