"""Which pod and container a process belongs to, by its cgroup and the node's kubelet.

The container runtime names a container's cgroup by the container's id, 256 random bits; the
kubelet's list of pods says whose that is. Only the first id on the path counts: what is below it
may have been made by the container itself.

The names of the selectors are SPIRE's: ns, sa, pod-name, pod-uid, pod-label:KEY:VALUE,
pod-owner:KIND:NAME, container-name, container-image, node-name.
"""

import asyncio
import json
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import override

from adapters.spec import Adapter
from ca.selectors import Selector
from ca.workload import Findings, Peer, WorkloadAttestor

__all__ = ["ADAPTER", "container_of"]

_KIND = "k8s"
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_CONTAINER = re.compile(r"(?:^|[-/:])([0-9a-f]{64})(?:\.scope)?(?:/|$)")
# Only root makes cgroups there; below a session or a service, users make some of any name.
_PODS = re.compile(r"/(?:kubelet(?:\.slice)?/(?:kubelet-)?)?kubepods[./](.*)")
_TIMEOUT_S = 5.0
_MOST_BYTES = 64 * 1024 * 1024
_PAUSE_S = 0.25


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of the k8s attestor.

    Attributes:
        kubelet_url: Where the kubelet of this node serves.
        kubelet_ca: PEM file of the authorities of its certificate.
        kubelet_token: File of the token shown to it; read for each call, as it is rotated.
        kubelet_unverified: Don't check its certificate: for those that sign their own.
        kubelet_wait_s: How long a container may be unknown: the kubelet learns of it late.
        proc: Where procfs is mounted.
    """

    kubelet_url: str = "https://127.0.0.1:10250"
    kubelet_ca: Path = _ACCOUNT / "ca.crt"
    kubelet_token: Path = _ACCOUNT / "token"
    kubelet_unverified: bool = False
    kubelet_wait_s: float = 5.0
    proc: Path = Path("/proc")


class KubernetesAttestor(WorkloadAttestor):
    """Reads /proc/PID/cgroup and asks the kubelet."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._listing: asyncio.Task[dict[str, frozenset[Selector]]] | None = None

    @override
    async def attest(self, peer: Peer) -> Findings:
        try:
            cgroups = (self._config.proc / str(peer.pid) / "cgroup").read_text()
        except OSError as error:
            return Findings(notes=(f"no pod: {error.strerror}",))
        container = container_of(cgroups)
        if not container:
            return Findings()
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + self._config.kubelet_wait_s
        while True:
            try:
                containers = await self._containers()
            except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
                return Findings(notes=(f"no pod: the kubelet can't be asked: {_reason(error)}",))
            if container in containers:
                return Findings(containers[container])
            if loop.time() >= give_up_s:
                short = container[:12]
                return Findings(notes=(f"no pod: the kubelet knows no container {short}",))
            await asyncio.sleep(_PAUSE_S)

    async def _containers(self) -> dict[str, frozenset[Selector]]:
        """List the pods; those who ask at once share one call."""
        if self._listing is None or self._listing.done():
            self._listing = asyncio.create_task(asyncio.to_thread(self._list))
        return await asyncio.shield(self._listing)

    def _list(self) -> dict[str, frozenset[Selector]]:
        config = self._config
        token = config.kubelet_token.read_text().strip()
        request = urllib.request.Request(  # noqa: S310 - checked right below
            f"{config.kubelet_url.rstrip('/')}/pods",
            headers={"Authorization": f"Bearer {token}"},
        )
        if request.type != "https":
            raise ValueError("its URL must begin with https://")
        context = ssl.create_default_context(
            cafile=None if config.kubelet_unverified else str(config.kubelet_ca)
        )
        if config.kubelet_unverified:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        # No proxy and no redirect: the token is for the kubelet alone.
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=context),
            _NoRedirect(),
        )
        try:
            with opener.open(request, timeout=_TIMEOUT_S) as answer:
                pods = json.loads(answer.read(_MOST_BYTES))
        except urllib.error.HTTPError as error:
            error.close()
            raise
        return dict(_by_container(pods))


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    @override
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def container_of(cgroups: str) -> str:
    """Read the container's id from the text of /proc/PID/cgroup; "" where it is of no pod.

    The forms are those of containerd, CRI-O and Docker, with either cgroup driver:
    /kubepods/burstable/podUID/ID and
    /kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID.slice/cri-containerd-ID.scope.
    """
    found = set()
    for line in cgroups.splitlines():
        _, _, path = line.partition("::") if "::" in line else line.rpartition(":")
        pods = _PODS.fullmatch(path)
        if pods and (container := _CONTAINER.search(pods.group(1))):
            found.add(container.group(1))
    # Hierarchies that disagree were not all made by the runtime: none is believed.
    return found.pop() if len(found) == 1 else ""


def _by_container(pods: Any) -> Iterator[tuple[str, frozenset[Selector]]]:
    for pod in pods.get("items") or ():
        status = pod.get("status") or {}
        of_pod = [*_of_pod(pod)]
        for kind in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
            for container in status.get(kind) or ():
                name = str(container.get("containerID") or "").rpartition("://")[2]
                if name:
                    values = (*of_pod, *_of_container(container))
                    yield name, frozenset(Selector(_KIND, value) for value in values)


def _of_pod(pod: Mapping[str, Any]) -> Iterator[str]:
    about, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    yield f"ns:{about['namespace']}"
    yield f"sa:{spec.get('serviceAccountName') or 'default'}"
    yield f"pod-name:{about['name']}"
    yield f"pod-uid:{about['uid']}"
    if node := spec.get("nodeName"):
        yield f"node-name:{node}"
    for key, value in (about.get("labels") or {}).items():
        yield f"pod-label:{key}:{value}"
    for owner in about.get("ownerReferences") or ():
        yield f"pod-owner:{owner['kind']}:{owner['name']}"


def _of_container(container: Mapping[str, Any]) -> Iterator[str]:
    yield f"container-name:{container['name']}"
    images = {container.get("image"), str(container.get("imageID") or "").rpartition("://")[2]}
    for image in images:
        if image:
            yield f"container-image:{image}"


def _reason(error: Exception) -> str:
    """Say what went wrong without anything of the request: it has a token."""
    match error:
        case urllib.error.HTTPError():
            return f"HTTP {error.code}"
        case urllib.error.URLError():
            return str(error.reason)
        case OSError():
            return error.strerror or type(error).__name__
        case _:
            return f"its answer makes no sense ({type(error).__name__})"


ADAPTER: Adapter[WorkloadAttestor, Config] = Adapter(config=Config, build=KubernetesAttestor)
