"""The Registration service as commands call it, and what several of them show."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshwarden.cli.options import load_settings

if TYPE_CHECKING:
    from protos.meshwarden.v1 import agent_pb2, registration_pb2
    from protos.meshwarden.v1.registration_pb2_grpc import RegistrationStub

__all__ = ["all_entries", "registration_service", "selector_messages", "selectors_text"]

_PAGE = 1000


@contextmanager
def registration_service(config: Path | None) -> "Iterator[RegistrationStub]":
    """Call the Registration service of the running service, or say that it issues nothing."""
    import grpc  # noqa: PLC0415

    from meshwarden.cli.policy_client import admin_service  # noqa: PLC0415
    from meshwarden.errors import SupervisorError  # noqa: PLC0415
    from protos.meshwarden.v1.registration_pb2_grpc import RegistrationStub  # noqa: PLC0415

    runtime_dir = load_settings(config).settings.runtime.runtime_dir
    with admin_service(runtime_dir, RegistrationStub) as service:
        try:
            yield service
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                raise SupervisorError(
                    "this service issues no identities: set identity.trust_domain"
                ) from error
            raise


def all_entries(service: "RegistrationStub", **wanted: Any) -> "Iterator[registration_pb2.Entry]":
    """Give every entry that is asked for, page after page."""
    from protos.meshwarden.v1 import registration_pb2  # noqa: PLC0415

    after = ""
    while True:
        request = registration_pb2.ListEntriesRequest(after=after, limit=_PAGE, **wanted)
        reply = service.ListEntries(request)
        yield from reply.entries
        after = reply.next
        if not after:
            return


def selector_messages(texts: Iterable[str]) -> "list[agent_pb2.Selector]":
    """Read selectors as people write them.

    Raises:
        BadParameter: One is none.
    """
    import typer  # noqa: PLC0415

    from ca.selectors import InvalidSelectorError, parse_selector  # noqa: PLC0415
    from protos.meshwarden.v1 import agent_pb2  # noqa: PLC0415

    try:
        found = [parse_selector(each) for each in texts]
    except InvalidSelectorError as error:
        raise typer.BadParameter(str(error)) from error
    return [agent_pb2.Selector(kind=each.kind, value=each.value) for each in found]


def selectors_text(selectors: "Iterable[agent_pb2.Selector]") -> list[str]:
    """Write selectors as people do."""
    return [f"{each.kind}:{each.value}" for each in selectors]
