"""Says what a generated module declares, as plain values.

Runs in two environments: imported by the tests for our own modules, and as a script, which prints
JSON, in the environment of the oracle. So it imports protobuf only.
"""

import importlib
import json
import sys
from collections.abc import Iterator
from typing import Any

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
)

# Each thing by its full name, and its facts by theirs:
# {"a.B": {"field c": {"number": 1, ...}}, "a.E": {"value F": {...}}, "a.S": {"method M": {...}}}
Declared = dict[str, dict[str, dict[str, Any]]]


def declared(module: str) -> Declared:
    """Everything that a generated module declares, nested messages and enums included.

    Args:
        module: Import name, such as "envoy.type.v3.http_status_pb2".
    """
    file = descriptor_pb2.FileDescriptorProto()
    importlib.import_module(module).DESCRIPTOR.CopyToProto(file)
    found: Declared = {}
    for message in file.message_type:
        found.update(message_facts(message, file.package))
    for enum in file.enum_type:
        found[f"{file.package}.{enum.name}"] = enum_facts(enum)
    for service in file.service:
        found[f"{file.package}.{service.name}"] = {
            f"method {method.name}": {
                "request": method.input_type,
                "reply": method.output_type,
                "request is a stream": method.client_streaming,
                "reply is a stream": method.server_streaming,
            }
            for method in service.method
        }
    return found


def message_facts(message: DescriptorProto, scope: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """A message and what is nested in it; a map's entry is a nested message like any other."""
    name = f"{scope}.{message.name}"
    yield (
        name,
        {f"field {field.name}": field_facts(field, message, name) for field in message.field},
    )
    for enum in message.enum_type:
        yield f"{name}.{enum.name}", enum_facts(enum)
    for nested in message.nested_type:
        yield from message_facts(nested, name)


def field_facts(
    field: FieldDescriptorProto, message: DescriptorProto, scope: str
) -> dict[str, Any]:
    """What decides a field's bytes, and its JSON."""
    entries = {
        f".{scope}.{nested.name}" for nested in message.nested_type if nested.options.map_entry
    }
    has_oneof = field.HasField("oneof_index")
    return {
        "number": field.number,
        "type": FieldDescriptorProto.Type.Name(field.type),
        "label": FieldDescriptorProto.Label.Name(field.label),
        "type name": field.type_name,
        "oneof": message.oneof_decl[field.oneof_index].name if has_oneof else "",
        "optional": field.proto3_optional,
        "map": field.type_name in entries,
        "packed": field.options.packed if field.options.HasField("packed") else None,
        "json name": field.json_name,
    }


def enum_facts(enum: EnumDescriptorProto) -> dict[str, dict[str, Any]]:
    """An enum's values by name."""
    return {f"value {value.name}": {"number": value.number} for value in enum.value}


if __name__ == "__main__":
    everything: Declared = {}
    for name in sys.argv[1:]:
        everything.update(declared(name))
    json.dump(everything, sys.stdout)
