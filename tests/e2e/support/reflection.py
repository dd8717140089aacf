"""gRPC reflection: the one public method of ours that streams both ways."""

from collections.abc import Iterable, Iterator

import grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.e2e.support.clients import TIMEOUT_S

__all__ = ["ask", "services"]

LIST = reflection_pb2.ServerReflectionRequest(list_services="*")


def ask(channel: grpc.Channel, questions: Iterable[str]) -> Iterator[set[str]]:
    """Open one stream; for each symbol asked for, give the file names that come; "*" lists all."""
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    requests = (
        LIST
        if question == "*"
        else reflection_pb2.ServerReflectionRequest(file_containing_symbol=question)
        for question in questions
    )
    for reply in stub.ServerReflectionInfo(requests, timeout=TIMEOUT_S):
        if reply.HasField("list_services_response"):
            yield {each.name for each in reply.list_services_response.service}
        else:
            yield {str(len(each)) for each in reply.file_descriptor_response.file_descriptor_proto}


def services(channel: grpc.Channel) -> set[str]:
    """List the services that a server tells of."""
    return next(ask(channel, ["*"]))
