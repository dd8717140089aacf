"""The built-in model, word by word."""

from typing import Any

import pytest

from authz.policy.errors import PolicyError
from tests.unit.authz.policy.policies import mesh

NOBODY: tuple[str, str] = ("", "")


def allowed(csv: str, *request: Any) -> bool:
    """Whether the mesh model lets (who, user, service, method, path[, attributes]) pass."""
    values = request if len(request) > 5 else (*request, {})
    return mesh(csv).decide(values).allowed


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("/a", "/a", True),
        ("/a", "/a/", False),
        ("/a", "/A", False),
        ("/a", "/ab", False),
        ("/a", "/a\n", False),
        ("/a.b", "/a.b", True),
        ("/a.b", "/axb", False),
        ("/a/*", "/a/b", True),
        ("/a/*", "/a/", False),
        ("/a/*", "/a", False),
        ("/a/*", "/a/b/c", False),
        ("/a/*", "/a/b\n", True),  # A newline is a character of a segment like any other.
        ("/a/*/c", "/a/b/c", True),
        ("/a/*/c", "/a//c", False),
        ("/a/{id}", "/a/17", True),
        ("/a/{id}", "/a/17/x", False),
        ("/a/v*", "/a/v1", True),
        ("/a/v*", "/a/w1", False),
        ("/a/*.png", "/a/x.png", True),
        ("/a/*.png", "/a/x.png.exe", False),
        ("/a/b*c*d", "/a/b1c2d", True),
        ("/a/b*c*d", "/a/b1d2c", False),
        ("/a/**", "/a", True),
        ("/a/**", "/a/", True),
        ("/a/**", "/a/b/c", True),
        ("/a/**", "/ab", False),
        ("/a/**/z", "/a/z", True),
        ("/a/**/z", "/a/b/c/z", True),
        ("/a/**/z", "/a/b/c/z/y", False),
        ("/a/**/**/z", "/a/b/z", True),
        ("/**", "/", True),
        ("/**", "", False),
        ("**", "", True),
        ("**", "*", True),
    ],
)
def test_a_path_pattern_speaks_of_the_whole_path(pattern: str, path: str, *, matches: bool) -> None:
    """Anchored at both ends, a dot is a dot, `*` is one segment and `**` many."""
    assert allowed(f"p, *, *, *, {pattern}, allow", *NOBODY, "s", "GET", path) is matches
    # A second pattern makes the tree branch where the first one stood alone.
    both = f"p, *, *, *, {pattern}, allow\np, *, *, *, /a/zz/**, deny"
    assert allowed(both, *NOBODY, "s", "GET", path) is matches


@pytest.mark.parametrize(
    ("who", "caller", "user", "matches"),
    [
        ("*", "", "", True),
        ("td/ns/shop/sa/web", "td/ns/shop/sa/web", "", True),
        ("td/ns/shop/sa/web", "td/ns/shop/sa/web2", "", False),
        ("td/ns/shop/sa/web", "", "", False),
        ("td/ns/shop/sa/*", "td/ns/shop/sa/web", "", True),
        ("td/ns/shop/*", "td/ns/shop/sa/web", "", False),
        ("td/ns/shop/**", "td/ns/shop/sa/web", "", True),
        ("td/ns/*/sa/web", "td/ns/shop/sa/web", "", True),
        ("**", "", "", False),
        ("user:https://iss/al", "", "user:https://iss/al", True),
        ("user:https://iss/*", "", "user:https://iss/al", True),
        ("user:https://iss/al", "user:https://iss/al", "", False),
        ("role:ops", "td/ns/ops/sa/a", "", True),
        ("role:ops", "", "user:https://iss/op", True),
        ("role:ops", "td/ns/shop/sa/web", "", False),
        # Whoever manages to be called like a role has none by that.
        ("role:ops", "role:ops", "", False),
        ("role:ops", "", "role:ops", False),
    ],
)
def test_who_is_a_principal_a_user_a_role_or_anybody(
    who: str,
    caller: str,
    user: str,
    *,
    matches: bool,
) -> None:
    """Kinds of names are never taken for each other, and nobody is nobody."""
    csv = f"""
        p, {who}, *, *, /**, allow
        g, td/ns/ops/sa/*, role:duty
        g, role:duty, role:ops
        g, user:https://iss/op, role:ops
    """
    assert allowed(csv, caller, user, "s", "GET", "/x") is matches


@pytest.mark.parametrize(
    ("service", "asked", "matches"),
    [
        ("*", "", True),
        ("reviews.shop", "reviews.shop", True),
        ("reviews.shop", "reviews-shop", False),
        ("*.shop", "reviews.shop", True),
        ("*.shop", "", False),
        ("re*.shop", "reviews.shop", True),
        ("re*.shop", "ratings.shop", False),
    ],
)
def test_a_service_is_a_name_with_stars_in_it(service: str, asked: str, *, matches: bool) -> None:
    """Anchored, literal but for the stars."""
    assert allowed(f"p, *, {service}, *, /**, allow", *NOBODY, asked, "GET", "/x") is matches


def test_methods_are_names_between_bars() -> None:
    """GET|HEAD is two methods and not a third."""
    csv = "p, *, *, GET|HEAD, /**, allow"
    assert allowed(csv, *NOBODY, "s", "HEAD", "/x")
    assert not allowed(csv, *NOBODY, "s", "POST", "/x")
    assert not allowed(csv, *NOBODY, "s", "GET|HEAD", "/x")


def test_an_explicit_deny_beats_an_allow() -> None:
    """Whatever their order."""
    csv = "p, *, *, *, /**, allow\np, *, *, DELETE, /**, deny"
    decision = mesh(csv).decide((*NOBODY, "s", "DELETE", "/x", {}))
    assert not decision.allowed
    assert decision.rule is not None
    assert decision.rule.where == "policy.csv:2"


WHEN = """p, *, *, GET, /me, allow, "request.headers['x-env'] == 'prod'"
p, *, *, GET, /in, allow, "ipMatch(source.ip, '10.0.0.0/8')"
p, *, *, GET, /both, allow
p, *, *, GET, /both, deny, "ipMatch(source.ip, '10.0.0.0/8')"
"""


def decided(path: str, attributes: dict[str, Any]) -> Any:
    """What WHEN says to a GET."""
    return mesh(WHEN).decide((*NOBODY, "s", "GET", path, attributes))


def test_a_condition_reads_attributes_by_their_dotted_names() -> None:
    """A header that is not there is empty, and no fault."""
    assert decided("/me", {"request.headers": {"x-env": "prod"}}).allowed
    absent = decided("/me", {"request.headers": {}})
    assert not absent.allowed
    assert absent.faults == ()


def test_a_condition_that_raises_never_allows_and_always_denies() -> None:
    """What a caller can provoke is judged, closed, and the record names the rule."""
    odd = {"source.ip": "no address"}
    kept_out = decided("/in", odd)
    assert not kept_out.allowed
    assert [rule.where for rule in kept_out.faults] == ["policy.csv:2"]
    denied = decided("/both", odd)
    assert not denied.allowed
    assert denied.rule is not None
    assert denied.rule.where == "policy.csv:4"
    assert denied.faults == (denied.rule,)


def test_a_caller_without_a_credential_is_told_that_one_might_do() -> None:
    """401 where a rule matches on everything but who; 403 where none does, or one was shown."""
    policy = mesh("p, td/ns/a/sa/b, *, GET, /a, allow\np, *, *, GET, /open, allow")
    assert policy.decide((*NOBODY, "s", "GET", "/a", {})).wants_credential
    assert not policy.decide((*NOBODY, "s", "GET", "/b", {})).wants_credential
    assert not policy.decide(("td/ns/x/sa/y", "", "s", "GET", "/a", {})).wants_credential


def test_a_denial_without_a_rule_names_what_nearly_matched() -> None:
    """The term that failed, in words."""
    policy = mesh("p, td/ns/a/sa/b, *, GET|HEAD, /a/*, allow")
    misses = policy.decide(("td/ns/a/sa/b", "", "s", "PUT", "/a/1", {})).misses
    assert [(miss.rule.where, miss.reason) for miss in misses] == [
        ("policy.csv:1", "method is 'PUT', the rule has 'GET|HEAD'"),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("p, , *, *, /x, allow", "names nobody"),
        ("p, group:x, *, *, /x, allow", "names nobody"),
        ("p, role:nobody, *, *, /x, allow", "no g row gives"),
        ("p, *, *, get, /x, allow", "is no method"),
        ("p, *, *, GET|, /x, allow", "is no method"),
        ("p, *, *, *, x, allow", "is no path"),
        ("p, *, *, *, /a/**b, allow", "stands alone"),
        ("p, *, *, *, /a/{b}c, allow", "stands alone"),
        ("p, *, , *, /x, allow", "a service is missing"),
        ("p, *, *, *, /x, Allow", "unknown effect 'Allow'"),
        ("p, *, *, *, /x", "missing"),
        ("p, *, *, *, /x, allow, true, more", "takes 6 values, not 7"),
        ('p, *, *, *, /x, allow, "1 +"', "expected a value"),
        ('p, *, *, *, /x, allow, "nope(1)"', "unknown function"),
        ("p, *, *, *, /x, allow, \"ipMatch(source.ip, '10.0.0.0/99')\"", "no address or network"),
        ("p, *, *, *, /x, allow, \"regexMatch(request.path, '(?=x)')\"", "no regular expression"),
        ("g, td/ns/a/sa/b, admin", "is no role"),
        ("g, *, role:all", "everybody"),
        ("p2, a, b", "no policy definition 'p2'"),
        ("g2, a, b", "no role definition 'g2'"),
    ],
)
def test_a_row_that_is_not_right_is_refused_with_its_place(row: str, message: str) -> None:
    """Nothing is activated, and the author is told where to look."""
    with pytest.raises(PolicyError) as raised:
        mesh(f"p, *, *, GET, /fine, allow\n{row}")
    (fault,) = raised.value.faults
    assert (fault.file, fault.line) == ("policy.csv", 2)
    assert message in fault.message


def test_every_fault_is_reported_at_once() -> None:
    """Not one fault a run."""
    with pytest.raises(PolicyError) as raised:
        mesh("p, *, *, get, x, Allow\ng, a, b\np3, x")
    assert len(raised.value.faults) == 5
    assert str(raised.value).count("policy.csv:") == 5
