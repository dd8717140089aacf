"""The services of control as commands call them: this machine's, or one behind --server."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeVar

import grpc

from meshwarden.cli.remote import chosen
from meshwarden.cli.remote_channel import remote_service
from meshwarden.control_socket import why
from meshwarden.errors import SupervisorError
from meshwarden.files import RuntimeDir
from meshwarden.secrecy import forbid_dumps
from protos.meshwarden.v1 import policy_pb2_grpc

__all__ = ["admin_service", "policy_service"]

_Stub = TypeVar("_Stub")

_READY_TIMEOUT_S = 10.0
_MESSAGE_BYTES = 64 * 1024 * 1024
_OPTIONS = (
    ("grpc.max_send_message_length", _MESSAGE_BYTES),
    ("grpc.max_receive_message_length", _MESSAGE_BYTES),
    # Without a service there is nothing to wait for.
    ("grpc.enable_retries", 0),
)


def policy_service(
    runtime_dir: Path,
) -> AbstractContextManager[policy_pb2_grpc.PolicyStub]:
    """Call the Policy service: see admin_service()."""
    return admin_service(runtime_dir, policy_pb2_grpc.PolicyStub)


@contextmanager
def admin_service(runtime_dir: Path, stub: Callable[[grpc.Channel], _Stub]) -> Iterator[_Stub]:
    """Call a service, and tell what it refuses in its own words.

    Args:
        runtime_dir: Where this machine's service has its sockets.
        stub: Makes what is called; of the service on another machine if the command's options
            have chosen one.

    Raises:
        SupervisorError: No service runs there, or it says no.
    """
    forbid_dumps()  # Keys and tokens come and go by these commands.
    if elsewhere := chosen():
        with remote_service(elsewhere, stub, _OPTIONS) as service:
            yield service
        return
    runtime = RuntimeDir(runtime_dir)
    try:
        runtime.supervisor_socket.stat()
    except OSError as error:
        raise SupervisorError(why(runtime.supervisor_socket, error)) from error
    with grpc.insecure_channel(f"unix:{runtime.admin_socket}", options=_OPTIONS) as channel:
        try:
            # Fronts may answer by the local copy before control listens, as after a restart.
            grpc.channel_ready_future(channel).result(timeout=_READY_TIMEOUT_S)
            yield stub(channel)
        except grpc.FutureTimeoutError as error:
            raise SupervisorError(f"control of {runtime_dir} does not answer") from error
        except grpc.RpcError as error:
            raise SupervisorError(error.details() or error.code().name) from error
