"""One question to a service, over a connection of its own."""

from protos.envoy.service.auth.v3.external_auth_pb2 import CheckResponse
from tests.e2e.support.clients import CHECK, call, channel_to
from tests.fakes.envoy import check_request

__all__ = ["allows"]


def allows(port: int, path: str) -> bool:
    """Whether GET on a path may pass, asked of the service on this port."""
    with channel_to(port) as channel:
        answer = call(channel, CHECK, check_request(path).SerializeToString())
    return CheckResponse.FromString(answer).status.code == 0
