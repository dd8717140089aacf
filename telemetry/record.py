"""What is kept of a decision.

The fields are the whole of it: there is no room for a query or a body, and of headers and claims
only for those that the settings name, so nothing else can leak into a log through here.
"""

import msgspec

__all__ = ["DecisionRecord", "read_line", "record_line"]


class DecisionRecord(msgspec.Struct, omit_defaults=True):
    """One decision, as it goes to the decision log.

    Fields are only ever added, at the end and with a default: logs outlive the code.

    Attributes:
        id: The decision's id, a UUIDv7; the same as in Envoy's dynamic metadata.
        time_ns: When it was made, in nanoseconds since 1970 UTC.
        verdict: "allow" or "deny"; of a shadow policy "would_allow" or "would_deny".
        status: The HTTP status answered; 200 for an allowed request.
        rule_file: File of the deciding rule, or "" where no rule decided or it came from the API.
        rule_line: Its line, or 0.
        rule_text: The rule as one line of policy, or "".
        reason: Why, in one clause.
        digest: Digest of the policy, 64 hex digits, or "" where no policy was asked.
        principal: The caller's SPIFFE ID without its scheme, or "".
        user: The caller's token as "user:ISSUER/SUBJECT", or "".
        service: The service asked for, or "".
        method: The HTTP method.
        path: The normal path without its query, cut to 1,024 characters.
        source_ip: Address of the connection's other end, or "".
        host: The host asked for, in lower case without its port.
        misses: The rules that came nearest, in words; denials without a rule only.
        faults: Rules whose condition raised on this request's values, as "file:line".
        front: The process that decided.
        headers: Request headers that the settings name; what may open doors is masked.
        claims: Claims of the end user's token, likewise.
    """

    id: str
    time_ns: int
    verdict: str
    status: int
    rule_file: str = ""
    rule_line: int = 0
    rule_text: str = ""
    reason: str = ""
    digest: str = ""
    principal: str = ""
    user: str = ""
    service: str = ""
    method: str = ""
    path: str = ""
    source_ip: str = ""
    host: str = ""
    misses: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    front: str = ""
    headers: dict[str, str] = {}
    claims: dict[str, str] = {}


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(DecisionRecord).decode


def record_line(record: DecisionRecord) -> bytes:
    """Write a record as JSON on one line, without its end; what is empty is left out.

    Cost: 0.5 us.
    """
    try:
        return _encode(record)
    except UnicodeEncodeError:
        # A caller can send bytes that are no text; what was decided about them is kept as well.
        return _encode(_printable(msgspec.to_builtins(record)))


def read_line(line: bytes) -> DecisionRecord:
    """Read what `record_line` wrote; fields of a newer version are passed over.

    Raises:
        msgspec.MsgspecError: It is no such line.
    """
    return _decode(line)


def _printable(value: object) -> object:
    match value:
        case str():
            return value.encode("utf-8", "replace").decode()
        case dict():
            return {_printable(name): _printable(each) for name, each in value.items()}
        case list() | tuple():
            return [_printable(each) for each in value]
        case _:
            return value
