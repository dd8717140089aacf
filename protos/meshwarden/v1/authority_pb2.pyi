from protos.meshwarden.v1 import agent_pb2 as _agent_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ShowRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ShowReply(_message.Message):
    __slots__ = ("trust_domain", "authorities", "bundle")
    TRUST_DOMAIN_FIELD_NUMBER: _ClassVar[int]
    AUTHORITIES_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    trust_domain: str
    authorities: _containers.RepeatedCompositeFieldContainer[AuthorityInfo]
    bundle: _agent_pb2.Bundle
    def __init__(self, trust_domain: _Optional[str] = ..., authorities: _Optional[_Iterable[_Union[AuthorityInfo, _Mapping]]] = ..., bundle: _Optional[_Union[_agent_pb2.Bundle, _Mapping]] = ...) -> None: ...

class AuthorityInfo(_message.Message):
    __slots__ = ("id", "kind", "subject", "issuer_id", "key_type", "serial", "not_before_ns", "not_after_ns", "active", "state", "certificate")
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    ISSUER_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_TYPE_FIELD_NUMBER: _ClassVar[int]
    SERIAL_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_NS_FIELD_NUMBER: _ClassVar[int]
    NOT_AFTER_NS_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    id: str
    kind: str
    subject: str
    issuer_id: str
    key_type: str
    serial: str
    not_before_ns: int
    not_after_ns: int
    active: bool
    state: str
    certificate: bytes
    def __init__(self, id: _Optional[str] = ..., kind: _Optional[str] = ..., subject: _Optional[str] = ..., issuer_id: _Optional[str] = ..., key_type: _Optional[str] = ..., serial: _Optional[str] = ..., not_before_ns: _Optional[int] = ..., not_after_ns: _Optional[int] = ..., active: _Optional[bool] = ..., state: _Optional[str] = ..., certificate: _Optional[bytes] = ...) -> None: ...

class GetBundleRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MintX509Request(_message.Message):
    __slots__ = ("spiffe_id", "csr", "ttl_s", "dns_names")
    SPIFFE_ID_FIELD_NUMBER: _ClassVar[int]
    CSR_FIELD_NUMBER: _ClassVar[int]
    TTL_S_FIELD_NUMBER: _ClassVar[int]
    DNS_NAMES_FIELD_NUMBER: _ClassVar[int]
    spiffe_id: str
    csr: bytes
    ttl_s: int
    dns_names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, spiffe_id: _Optional[str] = ..., csr: _Optional[bytes] = ..., ttl_s: _Optional[int] = ..., dns_names: _Optional[_Iterable[str]] = ...) -> None: ...

class MintJwtRequest(_message.Message):
    __slots__ = ("spiffe_id", "audiences", "ttl_s")
    SPIFFE_ID_FIELD_NUMBER: _ClassVar[int]
    AUDIENCES_FIELD_NUMBER: _ClassVar[int]
    TTL_S_FIELD_NUMBER: _ClassVar[int]
    spiffe_id: str
    audiences: _containers.RepeatedScalarFieldContainer[str]
    ttl_s: int
    def __init__(self, spiffe_id: _Optional[str] = ..., audiences: _Optional[_Iterable[str]] = ..., ttl_s: _Optional[int] = ...) -> None: ...

class VerifyLedgerRequest(_message.Message):
    __slots__ = ("known",)
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    known: _containers.RepeatedCompositeFieldContainer[LedgerHead]
    def __init__(self, known: _Optional[_Iterable[_Union[LedgerHead, _Mapping]]] = ...) -> None: ...

class LedgerHead(_message.Message):
    __slots__ = ("number", "hash")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    number: int
    hash: bytes
    def __init__(self, number: _Optional[int] = ..., hash: _Optional[bytes] = ...) -> None: ...

class VerifyLedgerReply(_message.Message):
    __slots__ = ("rows", "head", "fault")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    rows: int
    head: bytes
    fault: str
    def __init__(self, rows: _Optional[int] = ..., head: _Optional[bytes] = ..., fault: _Optional[str] = ...) -> None: ...

class RequestCertificateRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RequestCertificateReply(_message.Message):
    __slots__ = ("csr", "authority_id")
    CSR_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_ID_FIELD_NUMBER: _ClassVar[int]
    csr: bytes
    authority_id: str
    def __init__(self, csr: _Optional[bytes] = ..., authority_id: _Optional[str] = ...) -> None: ...

class ImportCertificateRequest(_message.Message):
    __slots__ = ("chain",)
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    chain: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, chain: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ListIssuedRequest(_message.Message):
    __slots__ = ("spiffe_id", "serial", "limit", "refused")
    SPIFFE_ID_FIELD_NUMBER: _ClassVar[int]
    SERIAL_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    spiffe_id: str
    serial: str
    limit: int
    refused: bool
    def __init__(self, spiffe_id: _Optional[str] = ..., serial: _Optional[str] = ..., limit: _Optional[int] = ..., refused: _Optional[bool] = ...) -> None: ...

class ListIssuedReply(_message.Message):
    __slots__ = ("issued",)
    ISSUED_FIELD_NUMBER: _ClassVar[int]
    issued: _containers.RepeatedCompositeFieldContainer[Issued]
    def __init__(self, issued: _Optional[_Iterable[_Union[Issued, _Mapping]]] = ...) -> None: ...

class Issued(_message.Message):
    __slots__ = ("row", "time_ns", "spiffe_id", "serial", "not_after_ns", "authority_id", "requester", "selectors", "outcome", "kind", "detail")
    ROW_FIELD_NUMBER: _ClassVar[int]
    TIME_NS_FIELD_NUMBER: _ClassVar[int]
    SPIFFE_ID_FIELD_NUMBER: _ClassVar[int]
    SERIAL_FIELD_NUMBER: _ClassVar[int]
    NOT_AFTER_NS_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_ID_FIELD_NUMBER: _ClassVar[int]
    REQUESTER_FIELD_NUMBER: _ClassVar[int]
    SELECTORS_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    row: int
    time_ns: int
    spiffe_id: str
    serial: str
    not_after_ns: int
    authority_id: str
    requester: str
    selectors: _containers.RepeatedScalarFieldContainer[str]
    outcome: str
    kind: str
    detail: str
    def __init__(self, row: _Optional[int] = ..., time_ns: _Optional[int] = ..., spiffe_id: _Optional[str] = ..., serial: _Optional[str] = ..., not_after_ns: _Optional[int] = ..., authority_id: _Optional[str] = ..., requester: _Optional[str] = ..., selectors: _Optional[_Iterable[str]] = ..., outcome: _Optional[str] = ..., kind: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...
