from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AttestRequest(_message.Message):
    __slots__ = ("evidence", "answer")
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    evidence: Evidence
    answer: bytes
    def __init__(self, evidence: _Optional[_Union[Evidence, _Mapping]] = ..., answer: _Optional[bytes] = ...) -> None: ...

class Evidence(_message.Message):
    __slots__ = ("attestor", "payload", "csr")
    ATTESTOR_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    CSR_FIELD_NUMBER: _ClassVar[int]
    attestor: str
    payload: bytes
    csr: bytes
    def __init__(self, attestor: _Optional[str] = ..., payload: _Optional[bytes] = ..., csr: _Optional[bytes] = ...) -> None: ...

class AttestReply(_message.Message):
    __slots__ = ("challenge", "svid", "bundle")
    CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    SVID_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    challenge: bytes
    svid: X509Svid
    bundle: Bundle
    def __init__(self, challenge: _Optional[bytes] = ..., svid: _Optional[_Union[X509Svid, _Mapping]] = ..., bundle: _Optional[_Union[Bundle, _Mapping]] = ...) -> None: ...

class X509Svid(_message.Message):
    __slots__ = ("spiffe_id", "chain", "not_before_ns", "not_after_ns")
    SPIFFE_ID_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_NS_FIELD_NUMBER: _ClassVar[int]
    NOT_AFTER_NS_FIELD_NUMBER: _ClassVar[int]
    spiffe_id: str
    chain: _containers.RepeatedScalarFieldContainer[bytes]
    not_before_ns: int
    not_after_ns: int
    def __init__(self, spiffe_id: _Optional[str] = ..., chain: _Optional[_Iterable[bytes]] = ..., not_before_ns: _Optional[int] = ..., not_after_ns: _Optional[int] = ...) -> None: ...

class Bundle(_message.Message):
    __slots__ = ("trust_domain", "x509_authorities", "jwks", "sequence", "refresh_hint_s")
    TRUST_DOMAIN_FIELD_NUMBER: _ClassVar[int]
    X509_AUTHORITIES_FIELD_NUMBER: _ClassVar[int]
    JWKS_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    REFRESH_HINT_S_FIELD_NUMBER: _ClassVar[int]
    trust_domain: str
    x509_authorities: _containers.RepeatedScalarFieldContainer[bytes]
    jwks: bytes
    sequence: int
    refresh_hint_s: int
    def __init__(self, trust_domain: _Optional[str] = ..., x509_authorities: _Optional[_Iterable[bytes]] = ..., jwks: _Optional[bytes] = ..., sequence: _Optional[int] = ..., refresh_hint_s: _Optional[int] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("csr",)
    CSR_FIELD_NUMBER: _ClassVar[int]
    csr: bytes
    def __init__(self, csr: _Optional[bytes] = ...) -> None: ...

class RenewReply(_message.Message):
    __slots__ = ("svid",)
    SVID_FIELD_NUMBER: _ClassVar[int]
    svid: X509Svid
    def __init__(self, svid: _Optional[_Union[X509Svid, _Mapping]] = ...) -> None: ...

class Selector(_message.Message):
    __slots__ = ("kind", "value")
    KIND_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    kind: str
    value: str
    def __init__(self, kind: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class WorkloadEntry(_message.Message):
    __slots__ = ("id", "spiffe_id", "selectors", "x509_ttl_s", "jwt_ttl_s", "dns_names", "hint", "version")
    ID_FIELD_NUMBER: _ClassVar[int]
    SPIFFE_ID_FIELD_NUMBER: _ClassVar[int]
    SELECTORS_FIELD_NUMBER: _ClassVar[int]
    X509_TTL_S_FIELD_NUMBER: _ClassVar[int]
    JWT_TTL_S_FIELD_NUMBER: _ClassVar[int]
    DNS_NAMES_FIELD_NUMBER: _ClassVar[int]
    HINT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    id: str
    spiffe_id: str
    selectors: _containers.RepeatedCompositeFieldContainer[Selector]
    x509_ttl_s: int
    jwt_ttl_s: int
    dns_names: _containers.RepeatedScalarFieldContainer[str]
    hint: str
    version: int
    def __init__(self, id: _Optional[str] = ..., spiffe_id: _Optional[str] = ..., selectors: _Optional[_Iterable[_Union[Selector, _Mapping]]] = ..., x509_ttl_s: _Optional[int] = ..., jwt_ttl_s: _Optional[int] = ..., dns_names: _Optional[_Iterable[str]] = ..., hint: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class EntriesRequest(_message.Message):
    __slots__ = ("digest",)
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    def __init__(self, digest: _Optional[bytes] = ...) -> None: ...

class EntriesReply(_message.Message):
    __slots__ = ("whole", "changed", "removed", "digest", "more", "bundles")
    WHOLE_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    BUNDLES_FIELD_NUMBER: _ClassVar[int]
    whole: bool
    changed: _containers.RepeatedCompositeFieldContainer[WorkloadEntry]
    removed: _containers.RepeatedScalarFieldContainer[str]
    digest: bytes
    more: bool
    bundles: _containers.RepeatedCompositeFieldContainer[Bundle]
    def __init__(self, whole: _Optional[bool] = ..., changed: _Optional[_Iterable[_Union[WorkloadEntry, _Mapping]]] = ..., removed: _Optional[_Iterable[str]] = ..., digest: _Optional[bytes] = ..., more: _Optional[bool] = ..., bundles: _Optional[_Iterable[_Union[Bundle, _Mapping]]] = ...) -> None: ...

class BundlesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SignX509Request(_message.Message):
    __slots__ = ("orders",)
    ORDERS_FIELD_NUMBER: _ClassVar[int]
    orders: _containers.RepeatedCompositeFieldContainer[X509Order]
    def __init__(self, orders: _Optional[_Iterable[_Union[X509Order, _Mapping]]] = ...) -> None: ...

class X509Order(_message.Message):
    __slots__ = ("entry_id", "csr", "selectors")
    ENTRY_ID_FIELD_NUMBER: _ClassVar[int]
    CSR_FIELD_NUMBER: _ClassVar[int]
    SELECTORS_FIELD_NUMBER: _ClassVar[int]
    entry_id: str
    csr: bytes
    selectors: _containers.RepeatedCompositeFieldContainer[Selector]
    def __init__(self, entry_id: _Optional[str] = ..., csr: _Optional[bytes] = ..., selectors: _Optional[_Iterable[_Union[Selector, _Mapping]]] = ...) -> None: ...

class SignX509Reply(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[X509Result]
    def __init__(self, results: _Optional[_Iterable[_Union[X509Result, _Mapping]]] = ...) -> None: ...

class X509Result(_message.Message):
    __slots__ = ("svid", "refusal")
    SVID_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    svid: X509Svid
    refusal: Refusal
    def __init__(self, svid: _Optional[_Union[X509Svid, _Mapping]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class SignJwtRequest(_message.Message):
    __slots__ = ("entry_id", "audiences", "selectors")
    ENTRY_ID_FIELD_NUMBER: _ClassVar[int]
    AUDIENCES_FIELD_NUMBER: _ClassVar[int]
    SELECTORS_FIELD_NUMBER: _ClassVar[int]
    entry_id: str
    audiences: _containers.RepeatedScalarFieldContainer[str]
    selectors: _containers.RepeatedCompositeFieldContainer[Selector]
    def __init__(self, entry_id: _Optional[str] = ..., audiences: _Optional[_Iterable[str]] = ..., selectors: _Optional[_Iterable[_Union[Selector, _Mapping]]] = ...) -> None: ...

class SignJwtReply(_message.Message):
    __slots__ = ("token", "spiffe_id", "issued_ns", "expires_ns")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    SPIFFE_ID_FIELD_NUMBER: _ClassVar[int]
    ISSUED_NS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_NS_FIELD_NUMBER: _ClassVar[int]
    token: str
    spiffe_id: str
    issued_ns: int
    expires_ns: int
    def __init__(self, token: _Optional[str] = ..., spiffe_id: _Optional[str] = ..., issued_ns: _Optional[int] = ..., expires_ns: _Optional[int] = ...) -> None: ...
