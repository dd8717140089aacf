from protos.meshwarden.v1 import policy_pb2 as _policy_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MeReply(_message.Message):
    __slots__ = ("name", "source", "roles")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    name: str
    source: str
    roles: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., source: _Optional[str] = ..., roles: _Optional[_Iterable[str]] = ...) -> None: ...

class MembersRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MembersReply(_message.Message):
    __slots__ = ("members", "revision", "rules")
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    members: _containers.RepeatedCompositeFieldContainer[Member]
    revision: _policy_pb2.Revision
    rules: int
    def __init__(self, members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ..., revision: _Optional[_Union[_policy_pb2.Revision, _Mapping]] = ..., rules: _Optional[int] = ...) -> None: ...

class Member(_message.Message):
    __slots__ = ("who", "role", "no_live_token")
    WHO_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    NO_LIVE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    who: str
    role: str
    no_live_token: bool
    def __init__(self, who: _Optional[str] = ..., role: _Optional[str] = ..., no_live_token: _Optional[bool] = ...) -> None: ...

class GrantRequest(_message.Message):
    __slots__ = ("who", "role", "message", "parent")
    WHO_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    who: str
    role: str
    message: str
    parent: int
    def __init__(self, who: _Optional[str] = ..., role: _Optional[str] = ..., message: _Optional[str] = ..., parent: _Optional[int] = ...) -> None: ...

class RevokeRequest(_message.Message):
    __slots__ = ("who", "role", "message", "parent")
    WHO_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    who: str
    role: str
    message: str
    parent: int
    def __init__(self, who: _Optional[str] = ..., role: _Optional[str] = ..., message: _Optional[str] = ..., parent: _Optional[int] = ...) -> None: ...

class CreateTokenRequest(_message.Message):
    __slots__ = ("name", "lifetime_s")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LIFETIME_S_FIELD_NUMBER: _ClassVar[int]
    name: str
    lifetime_s: int
    def __init__(self, name: _Optional[str] = ..., lifetime_s: _Optional[int] = ...) -> None: ...

class CreateTokenReply(_message.Message):
    __slots__ = ("token", "text", "roles")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    token: Token
    text: str
    roles: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, token: _Optional[_Union[Token, _Mapping]] = ..., text: _Optional[str] = ..., roles: _Optional[_Iterable[str]] = ...) -> None: ...

class ListTokensRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListTokensReply(_message.Message):
    __slots__ = ("tokens",)
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedCompositeFieldContainer[Token]
    def __init__(self, tokens: _Optional[_Iterable[_Union[Token, _Mapping]]] = ...) -> None: ...

class Token(_message.Message):
    __slots__ = ("id", "name", "created_ns", "created_by", "expires_ns", "revoked_ns", "used_ns")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CREATED_NS_FIELD_NUMBER: _ClassVar[int]
    CREATED_BY_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_NS_FIELD_NUMBER: _ClassVar[int]
    REVOKED_NS_FIELD_NUMBER: _ClassVar[int]
    USED_NS_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    created_ns: int
    created_by: str
    expires_ns: int
    revoked_ns: int
    used_ns: int
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., created_ns: _Optional[int] = ..., created_by: _Optional[str] = ..., expires_ns: _Optional[int] = ..., revoked_ns: _Optional[int] = ..., used_ns: _Optional[int] = ...) -> None: ...

class RevokeTokenRequest(_message.Message):
    __slots__ = ("name_or_id",)
    NAME_OR_ID_FIELD_NUMBER: _ClassVar[int]
    name_or_id: str
    def __init__(self, name_or_id: _Optional[str] = ...) -> None: ...

class RevokeTokenReply(_message.Message):
    __slots__ = ("tokens", "no_admin_left")
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    NO_ADMIN_LEFT_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedCompositeFieldContainer[Token]
    no_admin_left: bool
    def __init__(self, tokens: _Optional[_Iterable[_Union[Token, _Mapping]]] = ..., no_admin_left: _Optional[bool] = ...) -> None: ...
