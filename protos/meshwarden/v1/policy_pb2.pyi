from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Revision(_message.Message):
    __slots__ = ("number", "parent", "author", "created_ns", "message", "digest", "origin", "rows", "added", "removed")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    CREATED_NS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    ADDED_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    number: int
    parent: int
    author: str
    created_ns: int
    message: str
    digest: str
    origin: str
    rows: int
    added: int
    removed: int
    def __init__(self, number: _Optional[int] = ..., parent: _Optional[int] = ..., author: _Optional[str] = ..., created_ns: _Optional[int] = ..., message: _Optional[str] = ..., digest: _Optional[str] = ..., origin: _Optional[str] = ..., rows: _Optional[int] = ..., added: _Optional[int] = ..., removed: _Optional[int] = ...) -> None: ...

class Row(_message.Message):
    __slots__ = ("ptype", "values", "file", "line")
    PTYPE_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    ptype: str
    values: _containers.RepeatedScalarFieldContainer[str]
    file: str
    line: int
    def __init__(self, ptype: _Optional[str] = ..., values: _Optional[_Iterable[str]] = ..., file: _Optional[str] = ..., line: _Optional[int] = ...) -> None: ...

class PolicyText(_message.Message):
    __slots__ = ("model", "model_file", "rows")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MODEL_FILE_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    model: str
    model_file: str
    rows: _containers.RepeatedCompositeFieldContainer[Row]
    def __init__(self, model: _Optional[str] = ..., model_file: _Optional[str] = ..., rows: _Optional[_Iterable[_Union[Row, _Mapping]]] = ...) -> None: ...

class ApplyRequest(_message.Message):
    __slots__ = ("text", "message", "origin", "parent", "dry_run")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    text: PolicyText
    message: str
    origin: str
    parent: int
    dry_run: bool
    def __init__(self, text: _Optional[_Union[PolicyText, _Mapping]] = ..., message: _Optional[str] = ..., origin: _Optional[str] = ..., parent: _Optional[int] = ..., dry_run: _Optional[bool] = ...) -> None: ...

class RollbackRequest(_message.Message):
    __slots__ = ("number", "message", "parent")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    number: int
    message: str
    parent: int
    def __init__(self, number: _Optional[int] = ..., message: _Optional[str] = ..., parent: _Optional[int] = ...) -> None: ...

class ApplyReply(_message.Message):
    __slots__ = ("revision", "errors", "unchanged", "digest", "rule_count")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    RULE_COUNT_FIELD_NUMBER: _ClassVar[int]
    revision: Revision
    errors: _containers.RepeatedScalarFieldContainer[str]
    unchanged: bool
    digest: str
    rule_count: int
    def __init__(self, revision: _Optional[_Union[Revision, _Mapping]] = ..., errors: _Optional[_Iterable[str]] = ..., unchanged: _Optional[bool] = ..., digest: _Optional[str] = ..., rule_count: _Optional[int] = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("number",)
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    number: int
    def __init__(self, number: _Optional[int] = ...) -> None: ...

class GetReply(_message.Message):
    __slots__ = ("revision", "text")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    revision: Revision
    text: PolicyText
    def __init__(self, revision: _Optional[_Union[Revision, _Mapping]] = ..., text: _Optional[_Union[PolicyText, _Mapping]] = ...) -> None: ...

class DiffRequest(_message.Message):
    __slots__ = ("number", "base")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    number: int
    base: int
    def __init__(self, number: _Optional[int] = ..., base: _Optional[int] = ...) -> None: ...

class DiffReply(_message.Message):
    __slots__ = ("revision", "base", "changes", "model_changed")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    MODEL_CHANGED_FIELD_NUMBER: _ClassVar[int]
    revision: Revision
    base: Revision
    changes: _containers.RepeatedCompositeFieldContainer[Change]
    model_changed: bool
    def __init__(self, revision: _Optional[_Union[Revision, _Mapping]] = ..., base: _Optional[_Union[Revision, _Mapping]] = ..., changes: _Optional[_Iterable[_Union[Change, _Mapping]]] = ..., model_changed: _Optional[bool] = ...) -> None: ...

class Change(_message.Message):
    __slots__ = ("old", "new")
    OLD_FIELD_NUMBER: _ClassVar[int]
    NEW_FIELD_NUMBER: _ClassVar[int]
    old: Row
    new: Row
    def __init__(self, old: _Optional[_Union[Row, _Mapping]] = ..., new: _Optional[_Union[Row, _Mapping]] = ...) -> None: ...

class HistoryRequest(_message.Message):
    __slots__ = ("limit", "before", "after")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    limit: int
    before: int
    after: int
    def __init__(self, limit: _Optional[int] = ..., before: _Optional[int] = ..., after: _Optional[int] = ...) -> None: ...

class HistoryReply(_message.Message):
    __slots__ = ("revisions",)
    REVISIONS_FIELD_NUMBER: _ClassVar[int]
    revisions: _containers.RepeatedCompositeFieldContainer[Revision]
    def __init__(self, revisions: _Optional[_Iterable[_Union[Revision, _Mapping]]] = ...) -> None: ...

class AuditRequest(_message.Message):
    __slots__ = ("limit",)
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    limit: int
    def __init__(self, limit: _Optional[int] = ...) -> None: ...

class AuditReply(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[AuditEntry]
    def __init__(self, entries: _Optional[_Iterable[_Union[AuditEntry, _Mapping]]] = ...) -> None: ...

class AuditEntry(_message.Message):
    __slots__ = ("time_ns", "who", "source", "action", "outcome", "revision", "detail")
    TIME_NS_FIELD_NUMBER: _ClassVar[int]
    WHO_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    time_ns: int
    who: str
    source: str
    action: str
    outcome: str
    revision: str
    detail: str
    def __init__(self, time_ns: _Optional[int] = ..., who: _Optional[str] = ..., source: _Optional[str] = ..., action: _Optional[str] = ..., outcome: _Optional[str] = ..., revision: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...
