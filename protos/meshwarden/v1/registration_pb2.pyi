from protos.meshwarden.v1 import agent_pb2 as _agent_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Entry(_message.Message):
    __slots__ = ("workload", "parent_id", "admin", "created_ns", "origin")
    WORKLOAD_FIELD_NUMBER: _ClassVar[int]
    PARENT_ID_FIELD_NUMBER: _ClassVar[int]
    ADMIN_FIELD_NUMBER: _ClassVar[int]
    CREATED_NS_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    workload: _agent_pb2.WorkloadEntry
    parent_id: str
    admin: bool
    created_ns: int
    origin: str
    def __init__(self, workload: _Optional[_Union[_agent_pb2.WorkloadEntry, _Mapping]] = ..., parent_id: _Optional[str] = ..., admin: _Optional[bool] = ..., created_ns: _Optional[int] = ..., origin: _Optional[str] = ...) -> None: ...

class PutEntriesRequest(_message.Message):
    __slots__ = ("entries", "dry_run")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    dry_run: bool
    def __init__(self, entries: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., dry_run: _Optional[bool] = ...) -> None: ...

class PutEntriesReply(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    def __init__(self, entries: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ...) -> None: ...

class ListEntriesRequest(_message.Message):
    __slots__ = ("parent_id", "spiffe_id", "selectors", "limit", "after")
    PARENT_ID_FIELD_NUMBER: _ClassVar[int]
    SPIFFE_ID_FIELD_NUMBER: _ClassVar[int]
    SELECTORS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    parent_id: str
    spiffe_id: str
    selectors: _containers.RepeatedCompositeFieldContainer[_agent_pb2.Selector]
    limit: int
    after: str
    def __init__(self, parent_id: _Optional[str] = ..., spiffe_id: _Optional[str] = ..., selectors: _Optional[_Iterable[_Union[_agent_pb2.Selector, _Mapping]]] = ..., limit: _Optional[int] = ..., after: _Optional[str] = ...) -> None: ...

class ListEntriesReply(_message.Message):
    __slots__ = ("entries", "next", "trust_domain")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    TRUST_DOMAIN_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    next: str
    trust_domain: str
    def __init__(self, entries: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., next: _Optional[str] = ..., trust_domain: _Optional[str] = ...) -> None: ...

class DeleteEntriesRequest(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, ids: _Optional[_Iterable[str]] = ...) -> None: ...

class DeleteEntriesReply(_message.Message):
    __slots__ = ("deleted",)
    DELETED_FIELD_NUMBER: _ClassVar[int]
    deleted: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, deleted: _Optional[_Iterable[str]] = ...) -> None: ...

class AgentInfo(_message.Message):
    __slots__ = ("spiffe_id", "attestor", "selectors", "attested_ns", "svid_expires_ns", "serial", "banned", "can_reattest")
    SPIFFE_ID_FIELD_NUMBER: _ClassVar[int]
    ATTESTOR_FIELD_NUMBER: _ClassVar[int]
    SELECTORS_FIELD_NUMBER: _ClassVar[int]
    ATTESTED_NS_FIELD_NUMBER: _ClassVar[int]
    SVID_EXPIRES_NS_FIELD_NUMBER: _ClassVar[int]
    SERIAL_FIELD_NUMBER: _ClassVar[int]
    BANNED_FIELD_NUMBER: _ClassVar[int]
    CAN_REATTEST_FIELD_NUMBER: _ClassVar[int]
    spiffe_id: str
    attestor: str
    selectors: _containers.RepeatedCompositeFieldContainer[_agent_pb2.Selector]
    attested_ns: int
    svid_expires_ns: int
    serial: str
    banned: bool
    can_reattest: bool
    def __init__(self, spiffe_id: _Optional[str] = ..., attestor: _Optional[str] = ..., selectors: _Optional[_Iterable[_Union[_agent_pb2.Selector, _Mapping]]] = ..., attested_ns: _Optional[int] = ..., svid_expires_ns: _Optional[int] = ..., serial: _Optional[str] = ..., banned: _Optional[bool] = ..., can_reattest: _Optional[bool] = ...) -> None: ...

class ListAgentsRequest(_message.Message):
    __slots__ = ("limit", "after")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    limit: int
    after: str
    def __init__(self, limit: _Optional[int] = ..., after: _Optional[str] = ...) -> None: ...

class ListAgentsReply(_message.Message):
    __slots__ = ("agents", "next")
    AGENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    agents: _containers.RepeatedCompositeFieldContainer[AgentInfo]
    next: str
    def __init__(self, agents: _Optional[_Iterable[_Union[AgentInfo, _Mapping]]] = ..., next: _Optional[str] = ...) -> None: ...

class EvictAgentRequest(_message.Message):
    __slots__ = ("spiffe_id", "ban", "unban")
    SPIFFE_ID_FIELD_NUMBER: _ClassVar[int]
    BAN_FIELD_NUMBER: _ClassVar[int]
    UNBAN_FIELD_NUMBER: _ClassVar[int]
    spiffe_id: str
    ban: bool
    unban: bool
    def __init__(self, spiffe_id: _Optional[str] = ..., ban: _Optional[bool] = ..., unban: _Optional[bool] = ...) -> None: ...

class EvictAgentReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PruneAgentsRequest(_message.Message):
    __slots__ = ("expired_for_s", "dry_run")
    EXPIRED_FOR_S_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    expired_for_s: int
    dry_run: bool
    def __init__(self, expired_for_s: _Optional[int] = ..., dry_run: _Optional[bool] = ...) -> None: ...

class PruneAgentsReply(_message.Message):
    __slots__ = ("count",)
    COUNT_FIELD_NUMBER: _ClassVar[int]
    count: int
    def __init__(self, count: _Optional[int] = ...) -> None: ...

class CreateJoinTokenRequest(_message.Message):
    __slots__ = ("ttl_s", "agent_path", "selectors")
    TTL_S_FIELD_NUMBER: _ClassVar[int]
    AGENT_PATH_FIELD_NUMBER: _ClassVar[int]
    SELECTORS_FIELD_NUMBER: _ClassVar[int]
    ttl_s: int
    agent_path: str
    selectors: _containers.RepeatedCompositeFieldContainer[_agent_pb2.Selector]
    def __init__(self, ttl_s: _Optional[int] = ..., agent_path: _Optional[str] = ..., selectors: _Optional[_Iterable[_Union[_agent_pb2.Selector, _Mapping]]] = ...) -> None: ...

class CreateJoinTokenReply(_message.Message):
    __slots__ = ("token", "agent_id", "expires_ns", "id")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    AGENT_ID_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_NS_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    token: str
    agent_id: str
    expires_ns: int
    id: str
    def __init__(self, token: _Optional[str] = ..., agent_id: _Optional[str] = ..., expires_ns: _Optional[int] = ..., id: _Optional[str] = ...) -> None: ...

class JoinTokenInfo(_message.Message):
    __slots__ = ("id", "agent_id", "selectors", "created_ns", "expires_ns", "used_ns")
    ID_FIELD_NUMBER: _ClassVar[int]
    AGENT_ID_FIELD_NUMBER: _ClassVar[int]
    SELECTORS_FIELD_NUMBER: _ClassVar[int]
    CREATED_NS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_NS_FIELD_NUMBER: _ClassVar[int]
    USED_NS_FIELD_NUMBER: _ClassVar[int]
    id: str
    agent_id: str
    selectors: _containers.RepeatedCompositeFieldContainer[_agent_pb2.Selector]
    created_ns: int
    expires_ns: int
    used_ns: int
    def __init__(self, id: _Optional[str] = ..., agent_id: _Optional[str] = ..., selectors: _Optional[_Iterable[_Union[_agent_pb2.Selector, _Mapping]]] = ..., created_ns: _Optional[int] = ..., expires_ns: _Optional[int] = ..., used_ns: _Optional[int] = ...) -> None: ...

class ListJoinTokensRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListJoinTokensReply(_message.Message):
    __slots__ = ("tokens",)
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedCompositeFieldContainer[JoinTokenInfo]
    def __init__(self, tokens: _Optional[_Iterable[_Union[JoinTokenInfo, _Mapping]]] = ...) -> None: ...

class RevokeJoinTokenRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class RevokeJoinTokenReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
