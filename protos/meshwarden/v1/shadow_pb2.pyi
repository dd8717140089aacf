from protos.meshwarden.v1 import policy_pb2 as _policy_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SetShadowRequest(_message.Message):
    __slots__ = ("text", "revision", "message", "origin")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    text: _policy_pb2.PolicyText
    revision: int
    message: str
    origin: str
    def __init__(self, text: _Optional[_Union[_policy_pb2.PolicyText, _Mapping]] = ..., revision: _Optional[int] = ..., message: _Optional[str] = ..., origin: _Optional[str] = ...) -> None: ...

class SetShadowReply(_message.Message):
    __slots__ = ("candidate", "errors")
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    candidate: Candidate
    errors: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, candidate: _Optional[_Union[Candidate, _Mapping]] = ..., errors: _Optional[_Iterable[str]] = ...) -> None: ...

class Candidate(_message.Message):
    __slots__ = ("digest", "rules", "author", "origin", "message", "set_ns", "is_fixed")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SET_NS_FIELD_NUMBER: _ClassVar[int]
    IS_FIXED_FIELD_NUMBER: _ClassVar[int]
    digest: str
    rules: int
    author: str
    origin: str
    message: str
    set_ns: int
    is_fixed: bool
    def __init__(self, digest: _Optional[str] = ..., rules: _Optional[int] = ..., author: _Optional[str] = ..., origin: _Optional[str] = ..., message: _Optional[str] = ..., set_ns: _Optional[int] = ..., is_fixed: _Optional[bool] = ...) -> None: ...

class ShowShadowRequest(_message.Message):
    __slots__ = ("examples", "with_text")
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    WITH_TEXT_FIELD_NUMBER: _ClassVar[int]
    examples: int
    with_text: bool
    def __init__(self, examples: _Optional[int] = ..., with_text: _Optional[bool] = ...) -> None: ...

class ShowShadowReply(_message.Message):
    __slots__ = ("candidate", "counts", "replicas", "examples", "no_examples", "errors", "text", "live_digest")
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    NO_EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    LIVE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    candidate: Candidate
    counts: ShadowCounts
    replicas: _containers.RepeatedCompositeFieldContainer[ReplicaCounts]
    examples: _containers.RepeatedCompositeFieldContainer[Example]
    no_examples: str
    errors: _containers.RepeatedScalarFieldContainer[str]
    text: _policy_pb2.PolicyText
    live_digest: str
    def __init__(self, candidate: _Optional[_Union[Candidate, _Mapping]] = ..., counts: _Optional[_Union[ShadowCounts, _Mapping]] = ..., replicas: _Optional[_Iterable[_Union[ReplicaCounts, _Mapping]]] = ..., examples: _Optional[_Iterable[_Union[Example, _Mapping]]] = ..., no_examples: _Optional[str] = ..., errors: _Optional[_Iterable[str]] = ..., text: _Optional[_Union[_policy_pb2.PolicyText, _Mapping]] = ..., live_digest: _Optional[str] = ...) -> None: ...

class ShadowCounts(_message.Message):
    __slots__ = ("same", "would_allow", "would_deny")
    SAME_FIELD_NUMBER: _ClassVar[int]
    WOULD_ALLOW_FIELD_NUMBER: _ClassVar[int]
    WOULD_DENY_FIELD_NUMBER: _ClassVar[int]
    same: int
    would_allow: int
    would_deny: int
    def __init__(self, same: _Optional[int] = ..., would_allow: _Optional[int] = ..., would_deny: _Optional[int] = ...) -> None: ...

class ReplicaCounts(_message.Message):
    __slots__ = ("host", "address", "counts")
    HOST_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    host: str
    address: str
    counts: ShadowCounts
    def __init__(self, host: _Optional[str] = ..., address: _Optional[str] = ..., counts: _Optional[_Union[ShadowCounts, _Mapping]] = ...) -> None: ...

class Example(_message.Message):
    __slots__ = ("id", "time_ns", "verdict", "principal", "user", "service", "method", "path", "rule", "reason")
    ID_FIELD_NUMBER: _ClassVar[int]
    TIME_NS_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    id: str
    time_ns: int
    verdict: str
    principal: str
    user: str
    service: str
    method: str
    path: str
    rule: str
    reason: str
    def __init__(self, id: _Optional[str] = ..., time_ns: _Optional[int] = ..., verdict: _Optional[str] = ..., principal: _Optional[str] = ..., user: _Optional[str] = ..., service: _Optional[str] = ..., method: _Optional[str] = ..., path: _Optional[str] = ..., rule: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class StopShadowRequest(_message.Message):
    __slots__ = ("digest",)
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    digest: str
    def __init__(self, digest: _Optional[str] = ...) -> None: ...

class StopShadowReply(_message.Message):
    __slots__ = ("candidate",)
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    candidate: Candidate
    def __init__(self, candidate: _Optional[_Union[Candidate, _Mapping]] = ...) -> None: ...
