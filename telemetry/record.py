"""What is kept of a decision.

The fields are the whole of it: there is no room for a header, a cookie, a token, a query or a body,
so none can leak into a log through here.
"""

from dataclasses import dataclass

__all__ = ["DecisionRecord"]


@dataclass(slots=True)  # Made on the request path: frozen would cost 0.5 us more.
class DecisionRecord:
    """One decision, as it goes to the decision log.

    Fields are only ever added, at the end and with a default: logs outlive the code.

    Attributes:
        id: The decision's id, a UUIDv7; the same as in Envoy's dynamic metadata.
        time_ns: When it was made, in nanoseconds since 1970 UTC.
        verdict: "allow" or "deny".
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
    """

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
    misses: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
