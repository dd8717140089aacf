"""The values of attributes that have parts: headers, metadata, claims.

An expression in a policy has no way to ask whether a part is there before it uses it, so a part
that isn't there reads as `ABSENT`, which equals "" and has only absent parts itself. It must not
raise: a condition that raises makes a deny rule match, and `deny when headers["x-debug"] == "1"`
would then deny everybody who sends no such header.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, Self

from google.protobuf.struct_pb2 import ListValue, Struct, Value
from typing_extensions import override

from protos.envoy.config.core.v3.base_pb2 import Metadata as MetadataMessage
from protos.envoy.service.auth.v3.attribute_context_pb2 import AttributeContext

__all__ = ["ABSENT", "Absent", "Fields", "Headers", "MetadataFields", "RawHeaders", "fields_of"]


class Absent(str):
    """The empty text that also answers for its parts, at any depth."""

    __slots__ = ()

    @override
    def __getitem__(self, key: object) -> Self:
        return self


ABSENT: Final = Absent()


class Fields(dict[str, Any]):
    """A dict whose missing keys read as absent."""

    __slots__ = ()

    def __missing__(self, key: str) -> Absent:
        """Read a missing key."""
        return ABSENT


def fields_of(struct: Struct) -> Fields:
    """Convert a Struct; numbers become floats, as in JSON.

    Cost: O(size). Depth is bounded by protobuf's own limit on nested messages, 100.
    """
    return Fields((key, _value_of(value)) for key, value in struct.fields.items())


def _value_of(value: Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return fields_of(value.struct_value)
    if kind == "list_value":
        return _items_of(value.list_value)
    if kind is None or kind == "null_value":
        return None
    return getattr(value, kind)


def _items_of(values: ListValue) -> list[Any]:
    return [_value_of(value) for value in values.values]


class MetadataFields(Mapping[str, Fields]):
    """Metadata of filters or of the route, by namespace; each is converted when first asked for."""

    __slots__ = ("_converted", "_metadata")

    def __init__(self, metadata: MetadataMessage) -> None:
        self._metadata = metadata.filter_metadata
        self._converted: dict[str, Fields] = {}

    @override
    def __getitem__(self, namespace: str) -> Fields:
        fields = self._converted.get(namespace)
        if fields is None:
            # Asking a protobuf map for a missing key of message type would add it.
            known = namespace in self._metadata
            fields = fields_of(self._metadata[namespace]) if known else Fields()
            self._converted[namespace] = fields
        return fields

    @override
    def __contains__(self, namespace: object) -> bool:
        return namespace in self._metadata

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._metadata)

    @override
    def __len__(self) -> int:
        return len(self._metadata)


class RawHeaders(Mapping[str, bytes]):
    """Request headers as the bytes that were sent, by lower-case name.

    Values of one name are joined by a comma, as Envoy joins them for `headers`. With
    `encode_raw_headers` on, Envoy fills `header_map`; otherwise `headers`, where it has put a "!"
    for each byte that is not UTF-8.
    """

    __slots__ = ("_values",)

    def __init__(self, http: AttributeContext.HttpRequest) -> None:
        values: dict[str, list[bytes]] = {}
        if http.HasField("header_map"):
            for header in http.header_map.headers:
                raw = header.raw_value or header.value.encode()
                values.setdefault(header.key.lower(), []).append(raw)
        else:
            for name, value in http.headers.items():
                values.setdefault(name.lower(), []).append(value.encode())
        self._values = {name: b",".join(parts) for name, parts in values.items()}

    @override
    def __getitem__(self, name: str) -> bytes:
        return self._values.get(name.lower(), b"")

    @override
    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    @override
    def __len__(self) -> int:
        return len(self._values)


class Headers(Mapping[str, str]):
    """Request headers as text, by name in any letter case; a missing one reads as absent.

    A value that is not UTF-8 keeps its bytes as lone surrogates. It is there (a rule that denies
    whoever sends the header still does), differs from every text that a policy can hold, and two
    such values differ if their bytes do.
    """

    __slots__ = ("_http", "_index", "_lower_case", "_raw")

    def __init__(self, http: AttributeContext.HttpRequest) -> None:
        self._http = http
        self._raw: RawHeaders | None = None
        # Envoy sends the names in lower case: the map itself is then the index.
        self._index: Mapping[str, str] | None = (
            None if http.HasField("header_map") else http.headers
        )
        self._lower_case = False

    @property
    def raw(self) -> RawHeaders:
        """The same headers as bytes."""
        if self._raw is None:
            self._raw = RawHeaders(self._http)
        return self._raw

    @override
    def __getitem__(self, name: str) -> str:
        name = name.lower()
        if self._index is None:
            raw = self.raw
            return raw[name].decode("utf-8", "surrogateescape") if name in raw else ABSENT
        value = self._index.get(name)
        if value is not None:
            return value
        if not self._lower_case:
            # Upper-case names come from no Envoy, but from a command line or another proxy they do.
            joined = "".join(self._index)
            self._lower_case = joined == joined.lower()
            if not self._lower_case:
                self._index = None
                return self[name]
        return ABSENT

    @override
    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self[name] is not ABSENT

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self.raw)

    @override
    def __len__(self) -> int:
        return len(self.raw)
