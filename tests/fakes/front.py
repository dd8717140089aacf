"""A front that stumbles where its sidecar's configuration says so: faults that no caller provokes.

An Envoy with Python inside runs `app`, as it runs ours; only what CheckService does is replaced.
The context extension `fault` of a request names one of FAULTS; without it the policy decides.
"""

import time
from pathlib import Path

import uuid_utils
from typing_extensions import override

from authz.check import CheckService
from authz.decision import CheckSettings
from authz.errors import NoPolicyError
from meshwarden import clock, metrics
from meshwarden.follower import PolicyState
from meshwarden.front.asgi import Front, Limits
from meshwarden.front.grpc_http import Receive, Scope, Send
from meshwarden.health import Health
from protos.envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from telemetry.record import DecisionRecord
from tests.fakes.policy import mesh_policy

__all__ = ["FAULTS", "HESITANT_S", "SLOW_S", "app"]

FAULTS = ("bug", "out-of-memory", "no-policy", "slow")
SLOW_S = 1.0
HESITANT_S = 0.2
_MIB = 1024 * 1024


class StumblingService(CheckService[DecisionRecord]):
    """Decides by one rule, GET /public/**, and fails on demand."""

    def __init__(self) -> None:
        super().__init__(CheckSettings(), lambda: str(uuid_utils.uuid7()))
        self.policy = mesh_policy("p, *, *, GET, /public/**, allow")

    @override
    def answer(self, request: bytes, now_ns: int) -> bytes:
        asked = CheckRequest.FromString(request)
        match asked.attributes.context_extensions.get("fault", ""):
            case "bug":
                raise RuntimeError("a line of ours is wrong")
            case "out-of-memory":
                raise MemoryError
            case "no-policy":
                raise NoPolicyError("no policy is loaded yet")
            case "error-response":
                settings = CheckSettings(error_response=True)
                unready = CheckService[DecisionRecord](settings, lambda: "")
                return unready.answer(request, now_ns)
            case "slow":
                time.sleep(SLOW_S)
            case "hesitant":  # No fault: within the time-out of README's filter.
                time.sleep(HESITANT_S)
            case _:
                pass
        return super().answer(request, now_ns)


_front = Front(
    StumblingService(),
    Health(lambda: PolicyState("f" * 64), Path("/nowhere"), lambda: 0.0, 0.0),
    Limits(1000, _MIB, _MIB),
    metrics.CheckCounts(),
    clock.now_ns,
)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Start at once, answer."""
    if scope["type"] == "http":
        await _front(scope, receive, send)
    elif scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
