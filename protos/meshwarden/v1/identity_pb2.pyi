from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class WhoAmIRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WhoAmIReply(_message.Message):
    __slots__ = ("spiffe_id", "principal", "source_ip", "tls")
    SPIFFE_ID_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    SOURCE_IP_FIELD_NUMBER: _ClassVar[int]
    TLS_FIELD_NUMBER: _ClassVar[int]
    spiffe_id: str
    principal: str
    source_ip: str
    tls: bool
    def __init__(self, spiffe_id: _Optional[str] = ..., principal: _Optional[str] = ..., source_ip: _Optional[str] = ..., tls: _Optional[bool] = ...) -> None: ...
