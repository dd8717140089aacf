from protos.meshwarden.v1 import policy_pb2 as _policy_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetLiveRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LivePolicy(_message.Message):
    __slots__ = ("text", "bind", "digest", "source", "revision", "published_ns")
    class BindEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TEXT_FIELD_NUMBER: _ClassVar[int]
    BIND_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_NS_FIELD_NUMBER: _ClassVar[int]
    text: _policy_pb2.PolicyText
    bind: _containers.ScalarMap[str, str]
    digest: str
    source: str
    revision: int
    published_ns: int
    def __init__(self, text: _Optional[_Union[_policy_pb2.PolicyText, _Mapping]] = ..., bind: _Optional[_Mapping[str, str]] = ..., digest: _Optional[str] = ..., source: _Optional[str] = ..., revision: _Optional[int] = ..., published_ns: _Optional[int] = ...) -> None: ...

class ReplicasRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReplicasReply(_message.Message):
    __slots__ = ("replicas", "error", "read_ns")
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    READ_NS_FIELD_NUMBER: _ClassVar[int]
    replicas: _containers.RepeatedCompositeFieldContainer[Replica]
    error: str
    read_ns: int
    def __init__(self, replicas: _Optional[_Iterable[_Union[Replica, _Mapping]]] = ..., error: _Optional[str] = ..., read_ns: _Optional[int] = ...) -> None: ...

class Replica(_message.Message):
    __slots__ = ("id", "host", "address", "version", "revision", "digest", "loaded_ns", "error", "started_ns", "seen_s_ago", "is_stale")
    ID_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    LOADED_NS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    STARTED_NS_FIELD_NUMBER: _ClassVar[int]
    SEEN_S_AGO_FIELD_NUMBER: _ClassVar[int]
    IS_STALE_FIELD_NUMBER: _ClassVar[int]
    id: str
    host: str
    address: str
    version: str
    revision: int
    digest: str
    loaded_ns: int
    error: str
    started_ns: int
    seen_s_ago: float
    is_stale: bool
    def __init__(self, id: _Optional[str] = ..., host: _Optional[str] = ..., address: _Optional[str] = ..., version: _Optional[str] = ..., revision: _Optional[int] = ..., digest: _Optional[str] = ..., loaded_ns: _Optional[int] = ..., error: _Optional[str] = ..., started_ns: _Optional[int] = ..., seen_s_ago: _Optional[float] = ..., is_stale: _Optional[bool] = ...) -> None: ...
