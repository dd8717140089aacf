"""Rules that reach farther, or elsewhere, than their author may have meant."""

import difflib
from collections.abc import Iterator

from authz.authoring.findings import Severity
from authz.authoring.lint.spec import Lint, Options, Problem, Subject, at_row
from authz.authoring.mesh_rules import METHOD, MeshRule

__all__ = ["LINTS"]

# IANA, HTTP Method Registry. "PRI" is reserved for the preface of HTTP/2 and never a request's.
_REGISTRY = """
ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT CONNECT COPY DELETE GET HEAD LABEL LINK LOCK
MERGE MKACTIVITY MKCALENDAR MKCOL MKREDIRECTREF MKWORKSPACE MOVE OPTIONS ORDERPATCH
PATCH POST PROPFIND PROPPATCH PUT QUERY REBIND REPORT SEARCH TRACE UNBIND UNCHECKOUT
UNLINK UNLOCK UPDATE UPDATEREDIRECTREF VERSION-CONTROL
"""
_METHODS = frozenset(_REGISTRY.split())


def _wide(subject: Subject) -> Iterator[Problem]:
    for rule in subject.mesh_rules:
        if rule.effect != "allow" or rule.condition is not None:
            continue
        open_ = _open_columns(subject, rule)
        if len(open_) >= subject.options.wide:
            message = f"it allows any {', any '.join(open_[:-1])} and any {open_[-1]}"
            if len(open_) == 1:
                message = f"it allows any {open_[0]}"
            yield at_row(rule.row, message, "name what is meant, or add a condition")


def _open_columns(subject: Subject, rule: MeshRule) -> list[str]:
    """Which of a rule's columns leave everything open, in words."""
    held = subject.callers.of(rule.who)
    is_open = {
        "caller": held.anybody or any(text == "**" for text, _ in held.patterns),
        "service": not rule.service.strip("*"),
        "method": "*" in rule.methods,
        "path": rule.path in {"**", "/**"},
    }
    return [name for name, each in is_open.items() if each]


def _foreign(subject: Subject) -> Iterator[Problem]:
    domains = subject.options.trust_domains
    if not domains or not subject.is_mesh:
        return
    known = ", ".join(sorted(domains))
    for row in (*subject.rules, *subject.links):
        who = row.values[0]
        domain, slash, _ = who.partition("/")
        if who == "*" or ":" in domain:
            continue
        if "*" in domain or "{" in domain:
            message = f"{who!r} takes callers of every trust domain"
            yield at_row(row, message, f"write the trust domain: {known}", 0)
        elif slash and domain not in domains:
            near = difflib.get_close_matches(domain, domains, n=1)
            fix = f"did you mean {near[0]!r}?" if near else f"callers come from {known}"
            yield at_row(row, f"{domain!r} is no trust domain of this mesh", fix, 0)


def _methods(subject: Subject) -> Iterator[Problem]:
    for rule in subject.mesh_rules:
        for name in sorted(rule.methods - _METHODS - {"*"}):
            near = difflib.get_close_matches(name, _METHODS, n=1)
            fix = f"did you mean {near[0]}?" if near else "write methods such as GET|HEAD, or *"
            yield at_row(rule.row, f"there is no HTTP method {name!r}", fix, METHOD)


LINTS = (
    Lint(
        "wide-wildcard",
        Severity.WARNING,
        "an allow without a condition that leaves three or more of caller, service, method and "
        "path open (`--wide` sets how many)",
        "Such a rule allows what nobody has thought of yet.",
        "Name what is meant, or add a condition.",
        "p, *, *, *, /health, allow\n",
        _wide,
    ),
    Lint(
        "foreign-trust-domain",
        Severity.WARNING,
        "a caller from a trust domain that `--trust-domain` doesn't name, or from any",
        "The name is misspelt, or another mesh's workloads are let in.",
        "Write the mesh's own trust domain, or name the other one with `--trust-domain` too.",
        "p, shop.exmaple/ns/prod/sa/web, orders, GET, /a, allow\n",
        _foreign,
        options=Options(trust_domains=frozenset({"shop.example"})),
    ),
    Lint(
        "unknown-method",
        Severity.WARNING,
        "a method that isn't in IANA's registry of HTTP methods",
        "No client sends it, so the rule does nothing for it; most often it is misspelt.",
        "Correct it; `--ignore unknown-method` if your services do have methods of their own.",
        "p, *, orders, GTE, /a, allow\n",
        _methods,
    ),
)
