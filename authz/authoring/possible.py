"""Which callers and paths of the built-in model there can be at all."""

from collections.abc import Callable

from authz import paths
from authz.authoring.callers import generic, is_wild
from authz.policy.segments import matches, parse_segments

__all__ = ["caller_fault", "path_fault", "path_fits"]

_NONE = ("", "")


def caller_fault(who: str, check_principal: Callable[[str], object] | None) -> tuple[str, str]:
    """Why no caller is ever called so, and what to do; two empty texts if one may be.

    Args:
        who: A WHO column, or a member of a role.
        check_principal: Raises ValueError on what no certificate can hold as a principal.
    """
    if who.startswith("user:") and "/" not in who and not is_wild(who):
        return "a user is ISSUER/SUBJECT", "write user:ISSUER/SUBJECT"
    form = parse_segments(who)
    first = form[0]
    # A wild first segment may be a user's as well, who has other characters.
    if not isinstance(first, str) or ":" in first or check_principal is None:
        return _NONE
    try:
        check_principal(generic(form))
    except ValueError as error:
        if first != first.lower():
            return str(error), f"write {first.lower()!r}"
        return str(error), "write the principal as certificates have it, td/ns/NAMESPACE/sa/ACCOUNT"
    return _NONE


def path_fault(path: str) -> tuple[str, str]:
    """Why no request has a path like that, and what to do; two empty texts if one may.

    Rules see paths in normal form, each segment of which is in normal form by itself.
    """
    if path == "**" or ("%" in path and is_wild(path)):
        return _NONE
    some = generic(parse_segments(path))
    normal = paths.normalise(some).path
    if normal == some:
        return _NONE
    if "?" in path:
        reason = "the query is not part of the path"
        return reason, f"write {path.partition('?')[0]!r}, and ask for request.query_params in WHEN"
    if is_wild(path):
        return "a segment is not in normal form", "write no //, /./, /../ and ;parameters"
    return f"its normal form is {normal!r}", f"write {normal!r}"


def path_fits(pattern: str, path: str) -> bool:
    """Whether a PATH column matches one path."""
    return pattern in {"**", path} or matches(parse_segments(pattern), path)
