from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReportRequest(_message.Message):
    __slots__ = ("records", "dropped")
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[DecisionRecord]
    dropped: int
    def __init__(self, records: _Optional[_Iterable[_Union[DecisionRecord, _Mapping]]] = ..., dropped: _Optional[int] = ...) -> None: ...

class ReportReply(_message.Message):
    __slots__ = ("accepted",)
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    accepted: int
    def __init__(self, accepted: _Optional[int] = ...) -> None: ...

class DecisionRecord(_message.Message):
    __slots__ = ("id", "time_ns", "verdict", "status", "rule_file", "rule_line", "rule_text", "reason", "digest", "principal", "user", "service", "method", "path", "source_ip", "host", "misses", "faults", "front")
    ID_FIELD_NUMBER: _ClassVar[int]
    TIME_NS_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    RULE_FILE_FIELD_NUMBER: _ClassVar[int]
    RULE_LINE_FIELD_NUMBER: _ClassVar[int]
    RULE_TEXT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    SOURCE_IP_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    MISSES_FIELD_NUMBER: _ClassVar[int]
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    FRONT_FIELD_NUMBER: _ClassVar[int]
    id: str
    time_ns: int
    verdict: str
    status: int
    rule_file: str
    rule_line: int
    rule_text: str
    reason: str
    digest: str
    principal: str
    user: str
    service: str
    method: str
    path: str
    source_ip: str
    host: str
    misses: _containers.RepeatedScalarFieldContainer[str]
    faults: _containers.RepeatedScalarFieldContainer[str]
    front: str
    def __init__(self, id: _Optional[str] = ..., time_ns: _Optional[int] = ..., verdict: _Optional[str] = ..., status: _Optional[int] = ..., rule_file: _Optional[str] = ..., rule_line: _Optional[int] = ..., rule_text: _Optional[str] = ..., reason: _Optional[str] = ..., digest: _Optional[str] = ..., principal: _Optional[str] = ..., user: _Optional[str] = ..., service: _Optional[str] = ..., method: _Optional[str] = ..., path: _Optional[str] = ..., source_ip: _Optional[str] = ..., host: _Optional[str] = ..., misses: _Optional[_Iterable[str]] = ..., faults: _Optional[_Iterable[str]] = ..., front: _Optional[str] = ...) -> None: ...
