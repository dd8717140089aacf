"""A node of a Kubernetes cluster, by the projected service account token of the agent on it.

The token is verified by the cluster's public keys (its JWKS, from a file or by HTTPS), or by asking
the API server (TokenReview), which also knows of a pod that is gone. It has to be for our
audience and of a service account on the list. The agent is named by the node's UID.

Source: Kubernetes, "Managing Service Accounts" (bound tokens: kubernetes.io claims with node, from
1.29 by a gate and from 1.30 by default) and authentication.k8s.io/v1 TokenReview.
"""

import asyncio
import http.client
import json
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
from typing_extensions import override

from adapters.spec import Adapter
from ca.attestation import Attempt, AttestationError, NodeAttestor, NodeIdentity
from ca.selectors import InvalidSelectorError, Selector, parse_selector
from ca.templates import as_segment

__all__ = ["ADAPTER", "Config"]

_KIND = "k8s_psat"
_MAX_PAYLOAD = 16 * 1024
_MAX_REPLY = 1024 * 1024
_TIMEOUT_S = 5.0
_ALGORITHMS = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512")
_USER = "system:serviceaccount:"
_EXTRA = "authentication.kubernetes.io/"
_REVIEW_PATH = "/apis/authentication.k8s.io/v1/tokenreviews"
# Keys change rarely; a token by a key that isn't there makes us look again, but not at every one.
_FRESH_NS = 300 * 1_000_000_000
_RETRY_NS = 10 * 1_000_000_000
# How long keys are believed that can't be looked at again: the cluster may have taken one back.
_KEPT_NS = 3600 * 1_000_000_000
# Reviews at a time. Each has a thread, and others of control need some too.
_REVIEWS = 3
_LEEWAY_NS = 10 * 1_000_000_000


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of k8s_psat.

    Attributes:
        cluster: What the cluster is called in agents' IDs and selectors.
        audiences: A token has to be for one of them.
        service_accounts: That an agent may run as, each "NAMESPACE:NAME".
        issuer: What the tokens' "iss" must be; "" takes any, as the keys say whose they are.
        jwks: HTTPS address or file of the cluster's keys.
        token_review: HTTPS address of the API server, in place of `jwks`.
        server_ca: PEM file of the authority of either address.
        token: File of a service account's token, for either address.
    """

    cluster: str = "kubernetes"
    audiences: Sequence[str] = ("meshwarden",)
    service_accounts: Sequence[str] = ()
    issuer: str = ""
    jwks: str = ""
    token_review: str = ""
    server_ca: Path | None = None
    token: Path | None = None


@dataclass(frozen=True, slots=True)
class _Pod:
    """Whose token it is, as either way tells it."""

    namespace: str
    service_account: str
    node_name: str
    node_uid: str
    pod_name: str = ""
    pod_uid: str = ""
    audiences: Sequence[str] = field(default=())


class K8sPsatAttestor(NodeAttestor):
    """Believes a service account token that the cluster stands by."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._keys: Mapping[str, jwt.PyJWK] = {}
        # When the keys were had, when it was tried last, and why that failed.
        self._looked_ns = self._tried_ns = 0
        self._fault = ""
        self._looking = asyncio.Lock()
        self._reviewing = asyncio.Semaphore(_REVIEWS)

    @override
    async def attest(self, attempt: Attempt) -> NodeIdentity:
        config = self._config
        if len(attempt.payload) > _MAX_PAYLOAD:
            raise AttestationError("the token is too long", "INVALID_ARGUMENT")
        try:
            token = attempt.payload.decode("ascii")
        except UnicodeDecodeError:
            # Not chained: it would quote the token.
            raise AttestationError("this is no token", "INVALID_ARGUMENT") from None
        if config.token_review:
            async with self._reviewing:
                pod = await asyncio.to_thread(_reviewed, token, config)
        elif config.jwks:
            pod = await self._verified(token, attempt.now_ns)
        else:
            raise AttestationError(
                "set identity.nodes.k8s_psat.jwks or identity.nodes.k8s_psat.token_review",
                "FAILED_PRECONDITION",
            )
        _check(pod, config)
        return NodeIdentity(
            f"{_KIND}/{config.cluster}/{pod.node_uid}",
            frozenset(_selectors(pod, config.cluster)),
            can_reattest=True,
        )

    async def _verified(self, token: str, now_ns: int) -> _Pod:
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, RecursionError):
            raise AttestationError("this is no signed token (JWS)", "INVALID_ARGUMENT") from None
        algorithm, key = header.get("alg"), await self._key(header.get("kid"), now_ns)
        if algorithm not in _ALGORITHMS or algorithm != key.algorithm_name:
            raise AttestationError("the token's algorithm is not that of the cluster's key")
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                # Times and audience are judged below, by our clock and with words of ours.
                options={
                    "verify_aud": False,
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except jwt.PyJWTError:
            raise AttestationError("the token is not signed by the cluster") from None
        _check_times(claims, now_ns)
        issuer = self._config.issuer
        if issuer and claims.get("iss") != issuer:
            raise AttestationError(f"the token is not of the issuer {issuer}")
        return _pod_of_claims(claims)

    async def _key(self, key_id: object, now_ns: int) -> jwt.PyJWK:
        """Give the cluster's key of that name; look for it again if it isn't known.

        A cluster that doesn't answer keeps nobody out whose key is known, nor makes him wait.
        """
        is_unknown = key_id not in self._keys
        if self._is_due(key_id, now_ns) or (is_unknown and self._looking.locked()):
            async with self._looking:
                if self._is_due(key_id, now_ns):
                    await self._look(now_ns)
        key = self._keys.get(str(key_id))
        if self._fault and (key is None or abs(now_ns - self._looked_ns) > _KEPT_NS):
            raise AttestationError(self._fault, "UNAVAILABLE")
        if key is None:
            raise AttestationError("the token names a key that is none of the cluster's")
        return key

    def _is_due(self, key_id: object, now_ns: int) -> bool:
        # A clock that was set back makes us look, too.
        if abs(now_ns - self._tried_ns) <= _RETRY_NS:
            return False
        return key_id not in self._keys or abs(now_ns - self._looked_ns) > _FRESH_NS

    async def _look(self, now_ns: int) -> None:
        self._tried_ns = now_ns
        try:
            self._keys = await asyncio.to_thread(_fetched_keys, self._config)
        except AttestationError as error:
            self._fault = str(error)
        else:
            self._looked_ns, self._fault = now_ns, ""


def _check(pod: _Pod, config: Config) -> None:
    """Refuse a token that holds but is not for this."""
    if not set(pod.audiences) & set(config.audiences):
        raise AttestationError(
            f"the token is for the audience {', '.join(pod.audiences)[:200] or 'of nobody'}, and "
            f"identity.nodes.k8s_psat.audiences has {', '.join(config.audiences)}"
        )
    account = f"{pod.namespace}:{pod.service_account}"
    if account not in config.service_accounts:
        raise AttestationError(
            f"the service account {account[:200]} is not on the list, "
            "identity.nodes.k8s_psat.service_accounts"
        )
    if not pod.node_uid:
        raise AttestationError(
            "the token does not say on which node it is: the pod has to be scheduled, and "
            "Kubernetes be 1.30 or newer (or have ServiceAccountTokenPodNodeInfo)"
        )
    if not as_segment(pod.node_uid):
        raise AttestationError("the node's UID is no segment of a SPIFFE ID")


def _check_times(claims: Mapping[str, Any], now_ns: int) -> None:
    expires, begins = claims.get("exp"), claims.get("nbf", 0)
    if not isinstance(expires, int | float) or not isinstance(begins, int | float):
        raise AttestationError("the token has no time of expiry")
    late_ns = now_ns - int(expires * 1_000_000_000)
    if late_ns > _LEEWAY_NS:
        raise AttestationError(f"the token expired {late_ns // 1_000_000_000} s ago")
    if int(begins * 1_000_000_000) - now_ns > _LEEWAY_NS:
        raise AttestationError("the token is not valid yet: compare the clocks")


def _pod_of_claims(claims: Mapping[str, Any]) -> _Pod:
    told = _mapping(claims, "kubernetes.io")
    account, node, pod = (_mapping(told, name) for name in ("serviceaccount", "node", "pod"))
    audiences = claims.get("aud", ())
    made = _Pod(
        namespace=_text(told, "namespace"),
        service_account=_text(account, "name"),
        node_name=_text(node, "name"),
        node_uid=_text(node, "uid"),
        pod_name=_text(pod, "name"),
        pod_uid=_text(pod, "uid"),
        audiences=[audiences] if isinstance(audiences, str) else [*map(str, audiences)],
    )
    if claims.get("sub") != f"{_USER}{made.namespace}:{made.service_account}":
        raise AttestationError("the token is no service account's")
    return made


def _reviewed(token: str, config: Config) -> _Pod:
    """Ask the API server; it verifies, and knows what exists."""
    review = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token, "audiences": [*config.audiences]},
    }
    reply = _asked(config.token_review + _REVIEW_PATH, config, json.dumps(review).encode())
    status = _mapping(reply, "status")
    if status.get("authenticated") is not True:
        why = "".join(filter(str.isprintable, _text(status, "error")))[:200]
        raise AttestationError(f"the cluster does not stand by the token: {why or 'no reason'}")
    user = _mapping(status, "user")
    name, extra = _text(user, "username"), _mapping(user, "extra")
    namespace, colon, account = name.removeprefix(_USER).partition(":")
    if not name.startswith(_USER) or not colon:
        raise AttestationError("the token is no service account's")

    def first(key: str) -> str:
        values = extra.get(_EXTRA + key)
        return str(values[0]) if isinstance(values, list) and values else ""

    return _Pod(
        namespace=namespace,
        service_account=account,
        node_name=first("node-name"),
        node_uid=first("node-uid"),
        pod_name=first("pod-name"),
        pod_uid=first("pod-uid"),
        # A server that does not know of audiences gives none back; then it checked none.
        audiences=[str(each) for each in status.get("audiences") or ()],
    )


def _fetched_keys(config: Config) -> Mapping[str, jwt.PyJWK]:
    if config.jwks.startswith("https://"):
        found = _asked(config.jwks, config, None)
    else:
        try:
            found = json.loads(Path(config.jwks).read_bytes())
        except (OSError, ValueError) as error:
            raise AttestationError(
                "the file of identity.nodes.k8s_psat.jwks can't be read", "UNAVAILABLE"
            ) from error
    keys = {}
    listed = found.get("keys") if isinstance(found, dict) else None
    for each in listed if isinstance(listed, list) else ():
        try:
            # A set may hold keys of kinds that we have no use for.
            keys[str(each["kid"])] = jwt.PyJWK(each)
        except (jwt.PyJWTError, KeyError, TypeError, ValueError):
            continue
    if not keys:
        # A file that is being written, say: no cluster is without a key.
        raise AttestationError("identity.nodes.k8s_psat.jwks has no key in it", "UNAVAILABLE")
    return keys


def _asked(address: str, config: Config, body: bytes | None) -> Any:
    """Read JSON by HTTPS; redirects are not followed, since a token goes along.

    Raises:
        AttestationError: UNAVAILABLE; whoever asks may try again.
    """
    parts = urlsplit(address)
    try:
        if parts.scheme != "https" or not parts.hostname:
            raise AttestationError(f"{address} is no HTTPS address", "FAILED_PRECONDITION")
        context = ssl.create_default_context(cafile=config.server_ca)
        connection = http.client.HTTPSConnection(
            parts.hostname, parts.port or 443, timeout=_TIMEOUT_S, context=context
        )
        headers = {"accept": "application/json"}
        if body is not None:
            headers["content-type"] = "application/json"
        if config.token is not None:
            headers["authorization"] = f"Bearer {config.token.read_text('ascii').strip()}"
        try:
            connection.request("POST" if body else "GET", parts.path or "/", body, headers)
            reply = connection.getresponse()
            data = reply.read(_MAX_REPLY)
        finally:
            connection.close()
        if reply.status not in {http.client.OK, http.client.CREATED}:
            raise AttestationError(
                f"the cluster answered {reply.status} at {parts.path}", "UNAVAILABLE"
            )
        return json.loads(data)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise AttestationError(
            f"the cluster does not answer at {parts.hostname}: {type(error).__name__}",
            "UNAVAILABLE",
        ) from error


def _selectors(pod: _Pod, cluster: str) -> Iterator[Selector]:
    for name, value in (
        ("cluster", cluster),
        ("agent_ns", pod.namespace),
        ("agent_sa", pod.service_account),
        ("agent_node_name", pod.node_name),
        ("agent_node_uid", pod.node_uid),
        ("agent_pod_name", pod.pod_name),
        ("agent_pod_uid", pod.pod_uid),
    ):
        try:
            yield parse_selector(f"{_KIND}:{name}:{value}")
        except InvalidSelectorError:
            continue


def _mapping(parent: Any, name: str) -> Mapping[str, Any]:
    value = parent.get(name) if isinstance(parent, dict) else None
    return value if isinstance(value, dict) else {}


def _text(parent: Mapping[str, Any], name: str) -> str:
    value = parent.get(name)
    return value if isinstance(value, str) else ""


ADAPTER: Adapter[NodeAttestor, Config] = Adapter(config=Config, build=K8sPsatAttestor)
