"""A Kubernetes cluster as far as service account tokens go: an HTTPS server with its own authority.

It signs tokens, publishes its keys, and reviews tokens, as an API server does.
"""

import datetime as dt
import http.server
import ipaddress
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from typing_extensions import override

from ca.jwk import public_jwk
from meshwarden import clock

__all__ = ["Cluster", "cluster"]

NODE = {"name": "node-1", "uid": "11111111-2222-3333-4444-555555555555"}
POD = {"name": "agent-x7", "uid": "66666666-7777-8888-9999-000000000000"}


class Cluster:
    """One cluster.

    Attributes:
        address: Of its API server.
        authority: PEM file of who signed its certificate.
        reviewed: Tokens that it was asked about.
        asked: Paths that were asked for.
        is_audience_aware: Whether it tells for whom a token is, as every server of today does.
        is_away: Whether it has nothing to say.
    """

    def __init__(self, folder: Path) -> None:
        self.authority = folder / "cluster.pem"
        self.reviewed: list[str] = []
        self.asked: list[str] = []
        self.is_audience_aware = True
        self.is_away = False
        self.address = ""
        self._key = rsa.generate_private_key(65_537, 2048)

    def token(
        self, key: Any = None, kid: str = "k1", algorithm: str = "RS256", **claims: Any
    ) -> str:
        """Sign a token of the agent's pod; None takes a claim out."""
        now_s = clock.now_ns() // 10**9
        told: dict[str, Any] = {
            "iss": "https://cluster.example",
            "aud": ["meshwarden"],
            "sub": "system:serviceaccount:mesh:agent",
            "iat": now_s,
            "nbf": now_s,
            "exp": now_s + 600,
            "kubernetes.io": {
                "namespace": "mesh",
                "node": NODE,
                "pod": POD,
                "serviceaccount": {"name": "agent", "uid": "a"},
            },
            **claims,
        }
        told = {name: value for name, value in told.items() if value is not None}
        return jwt.encode(told, key or self._key, algorithm, headers={"kid": kid})

    def jwks(self) -> dict[str, Any]:
        """Give its public keys."""
        key = public_jwk(self._key.public_key())
        return {"keys": [{**key, "kid": "k1", "alg": "RS256", "use": "sig"}, {"kty": "odd"}]}

    def review(self, spec: dict[str, Any]) -> dict[str, Any]:
        """Say what a token is, as TokenReview's status."""
        self.reviewed.append(spec["token"])
        try:
            claims = jwt.decode(
                spec["token"], self._key.public_key(), ["RS256"], audience=spec["audiences"]
            )
        except jwt.PyJWTError as error:
            return {"authenticated": False, "error": f"[invalid bearer token, {error}]"}
        told = claims["kubernetes.io"]
        extra = {
            "authentication.kubernetes.io/node-name": [told["node"]["name"]],
            "authentication.kubernetes.io/node-uid": [told["node"]["uid"]],
            "authentication.kubernetes.io/pod-name": [told["pod"]["name"]],
            "authentication.kubernetes.io/pod-uid": [told["pod"]["uid"]],
        }
        status = {
            "authenticated": True,
            "user": {"username": claims["sub"], "uid": "a", "extra": extra},
        }
        return {**status, "audiences": claims["aud"]} if self.is_audience_aware else status


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Run one until the `with` ends."""
    running = Cluster(folder)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            running.asked.append(self.path)
            self._answer(running.jwks() if self.path == "/openid/v1/jwks" else None)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            is_review = self.path == "/apis/authentication.k8s.io/v1/tokenreviews"
            is_let_in = self.headers["authorization"] == "Bearer reviewer"
            answer = {"status": running.review(body["spec"])} if is_review and is_let_in else None
            self._answer(answer)

        def _answer(self, value: object) -> None:
            data = json.dumps(value).encode()
            self.send_response(503 if running.is_away else 404 if value is None else 200)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        @override
        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*_certificate(folder, running.authority))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    running.address = f"https://127.0.0.1:{server.server_port}"
    try:
        yield running
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def _certificate(folder: Path, authority: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "cluster")])
    now = dt.datetime.fromtimestamp(clock.now_ns() / 1e9, dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    authority.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    file = folder / "cluster-key.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return authority, file
