from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusReply(_message.Message):
    __slots__ = ("version", "ready", "digest", "rule_count", "loaded_at_ns", "restored", "errors", "failed_at_ns", "processes", "revision", "source", "source_version", "entries", "identity")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    RULE_COUNT_FIELD_NUMBER: _ClassVar[int]
    LOADED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    RESTORED_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    FAILED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    PROCESSES_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_VERSION_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    version: str
    ready: bool
    digest: str
    rule_count: int
    loaded_at_ns: int
    restored: bool
    errors: _containers.RepeatedScalarFieldContainer[str]
    failed_at_ns: int
    processes: _containers.RepeatedCompositeFieldContainer[ProcessStatus]
    revision: int
    source: str
    source_version: str
    entries: DeclaredEntries
    identity: IdentityStatus
    def __init__(self, version: _Optional[str] = ..., ready: _Optional[bool] = ..., digest: _Optional[str] = ..., rule_count: _Optional[int] = ..., loaded_at_ns: _Optional[int] = ..., restored: _Optional[bool] = ..., errors: _Optional[_Iterable[str]] = ..., failed_at_ns: _Optional[int] = ..., processes: _Optional[_Iterable[_Union[ProcessStatus, _Mapping]]] = ..., revision: _Optional[int] = ..., source: _Optional[str] = ..., source_version: _Optional[str] = ..., entries: _Optional[_Union[DeclaredEntries, _Mapping]] = ..., identity: _Optional[_Union[IdentityStatus, _Mapping]] = ...) -> None: ...

class IdentityStatus(_message.Message):
    __slots__ = ("trust_domain", "entries", "agents", "waits", "first_name", "first_ends_ns")
    TRUST_DOMAIN_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    AGENTS_FIELD_NUMBER: _ClassVar[int]
    WAITS_FIELD_NUMBER: _ClassVar[int]
    FIRST_NAME_FIELD_NUMBER: _ClassVar[int]
    FIRST_ENDS_NS_FIELD_NUMBER: _ClassVar[int]
    trust_domain: str
    entries: int
    agents: int
    waits: str
    first_name: str
    first_ends_ns: int
    def __init__(self, trust_domain: _Optional[str] = ..., entries: _Optional[int] = ..., agents: _Optional[int] = ..., waits: _Optional[str] = ..., first_name: _Optional[str] = ..., first_ends_ns: _Optional[int] = ...) -> None: ...

class DeclaredEntries(_message.Message):
    __slots__ = ("source", "count", "taken_ns", "errors", "failed_ns")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    TAKEN_NS_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    FAILED_NS_FIELD_NUMBER: _ClassVar[int]
    source: str
    count: int
    taken_ns: int
    errors: _containers.RepeatedScalarFieldContainer[str]
    failed_ns: int
    def __init__(self, source: _Optional[str] = ..., count: _Optional[int] = ..., taken_ns: _Optional[int] = ..., errors: _Optional[_Iterable[str]] = ..., failed_ns: _Optional[int] = ...) -> None: ...

class ProcessStatus(_message.Message):
    __slots__ = ("kind", "pid", "epoch", "digest", "ready", "age_s", "last_error", "name", "rule_count")
    KIND_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    AGE_S_FIELD_NUMBER: _ClassVar[int]
    LAST_ERROR_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    RULE_COUNT_FIELD_NUMBER: _ClassVar[int]
    kind: str
    pid: int
    epoch: int
    digest: str
    ready: bool
    age_s: float
    last_error: str
    name: str
    rule_count: int
    def __init__(self, kind: _Optional[str] = ..., pid: _Optional[int] = ..., epoch: _Optional[int] = ..., digest: _Optional[str] = ..., ready: _Optional[bool] = ..., age_s: _Optional[float] = ..., last_error: _Optional[str] = ..., name: _Optional[str] = ..., rule_count: _Optional[int] = ...) -> None: ...

class ReloadRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReloadReply(_message.Message):
    __slots__ = ("accepted", "digest", "rule_count", "loaded_at_ns", "errors")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    RULE_COUNT_FIELD_NUMBER: _ClassVar[int]
    LOADED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    accepted: bool
    digest: str
    rule_count: int
    loaded_at_ns: int
    errors: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, accepted: _Optional[bool] = ..., digest: _Optional[str] = ..., rule_count: _Optional[int] = ..., loaded_at_ns: _Optional[int] = ..., errors: _Optional[_Iterable[str]] = ...) -> None: ...
