"""The listeners of the sidecar that the scenarios share, each another way to ask."""

from tests.e2e.support.sidecar import Inbound
from tests.e2e.support.tokens import Issuer

__all__ = ["MIB", "of_the_shared_sidecar"]

MIB = 1024 * 1024


def of_the_shared_sidecar(check_port: int, issuer: Issuer) -> list[Inbound]:
    """List them; a test names one by the first argument."""
    whole_body = {"max_request_bytes": 8 * MIB, "allow_partial_message": True}
    return [
        # As README.md says.
        Inbound("plain", check_port),
        # The service's name comes from the sidecar's certificate.
        Inbound("nameless", check_port, extensions={}),
        Inbound("open", check_port, {"failure_mode_allow": True}),
        Inbound("body", check_port, {"with_request_body": whole_body}, buffer_bytes=8 * MIB),
        Inbound(
            "body-bytes",
            check_port,
            {"with_request_body": {**whole_body, "pack_as_bytes": True}},
            buffer_bytes=8 * MIB,
        ),
        Inbound("raw-headers", check_port, {"encode_raw_headers": True}),
        Inbound(
            "many-headers",
            check_port,
            manager={
                "max_request_headers_kb": 8192,
                "common_http_protocol_options": {"max_headers_count": 20_000},
            },
        ),
        # Both as Envoy has them by default: paths reach the filter as they were sent.
        Inbound("paths", check_port, extensions={"service": "paths"}),
        Inbound(
            "tokens",
            check_port,
            {
                "metadata_context_namespaces": ["envoy.filters.http.jwt_authn"],
                "route_metadata_context_namespaces": ["shop"],
            },
            before=[issuer.jwt_authn()],
            routes=[
                {
                    "match": {"prefix": "/tier/gold"},
                    "route": {"cluster": "upstream"},
                    "metadata": {"filter_metadata": {"shop": {"tier": "gold"}}},
                },
                {"match": {"prefix": "/"}, "route": {"cluster": "upstream"}},
            ],
        ),
    ]
