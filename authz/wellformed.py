"""Tells a CheckRequest that can't be read from bytes that are none.

Both make protobuf's parser fail, and they must be answered differently. A caller can make his Envoy
send text that is not UTF-8 (older ones pass headers on as they came) or a token whose claims nest
deeper than the parser goes: that is judged, closed. Bytes that are no CheckRequest come from no
Envoy: that is an RPC error.

The answer is given by a shadow of the message in which text is bytes and Struct and Any are left
unparsed, so that neither UTF-8 nor depth matters. It is made at the first use, which most processes
never have.
"""

from functools import cache
from typing import cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from protos.envoy.service.auth.v3.external_auth_pb2 import CheckRequest

__all__ = ["is_check_request"]

_AS_BYTES = frozenset({"google.protobuf.Struct", "google.protobuf.Any"})


def is_check_request(serialized: bytes) -> bool:
    """Whether the bytes have the shape of a CheckRequest, whatever its texts hold."""
    try:
        _shadow().FromString(serialized)
    except DecodeError:
        return False
    return True


@cache
def _shadow() -> type[Message]:
    file = FileDescriptorProto(name="shadow.proto", package="shadow", syntax="proto3")
    root = cast("Descriptor", CheckRequest.DESCRIPTOR)
    _add(file, root, set())
    # A pool of its own: the names are nobody else's business.
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName(_name(root)))


def _name(message: Descriptor) -> str:
    return "shadow." + message.full_name.replace(".", "_")


def _add(file: FileDescriptorProto, message: Descriptor, done: set[str]) -> None:
    if message.full_name in done:
        return
    done.add(message.full_name)
    shadow: DescriptorProto = file.message_type.add(name=_name(message).removeprefix("shadow."))
    for field in message.fields:
        copy: FieldDescriptorProto = shadow.field.add(name=field.name, number=field.number)
        copy.label = (
            FieldDescriptorProto.LABEL_REPEATED
            if field.is_repeated
            else FieldDescriptorProto.LABEL_OPTIONAL
        )
        inner = field.message_type
        if field.type == FieldDescriptor.TYPE_STRING or (inner and inner.full_name in _AS_BYTES):
            copy.type = FieldDescriptorProto.TYPE_BYTES
        elif inner:
            # A map is on the wire what a repeated message with a key and a value is.
            copy.type = FieldDescriptorProto.TYPE_MESSAGE
            copy.type_name = "." + _name(inner)
            _add(file, inner, done)
        elif field.type == FieldDescriptor.TYPE_ENUM:
            copy.type = FieldDescriptorProto.TYPE_INT32
        else:
            copy.type = cast("FieldDescriptorProto.Type.ValueType", field.type)
