"""Who may administrate: three built-in roles, members by row, and rules beyond them."""

import pytest

from authz.admin_policy import ROLES, AdminPolicy, Question, member_fault
from authz.policy.errors import PolicyError
from authz.policy.rules import Row

APPLY = "/meshwarden.v1.Policy/Apply"
OPS = "mesh.example/ns/ops/sa/ann"


def policy(*lines: str) -> AdminPolicy:
    """Build one from lines of CSV."""
    rows = []
    for number, line in enumerate(lines, 1):
        ptype, *values = [value.strip() for value in line.split(",", 6)]
        rows.append(Row(ptype, tuple(values), "admin.csv", number))
    return AdminPolicy(rows)


def may(built: AdminPolicy, name: str, method: str = APPLY, source_ip: str = "10.1.2.3") -> str:
    """Give the roles up to which somebody may call, as one word each."""
    asked = (Question(name, source_ip, method, role) for role in ROLES)
    return " ".join(each.role for each in asked if built.decide(each).allowed)


@pytest.mark.parametrize(
    ("role", "may_do"),
    [("viewer", "viewer"), ("author", "viewer author"), ("admin", "viewer author admin")],
)
@pytest.mark.parametrize("name", [OPS, "token:ci"])
def test_who_has_a_role_has_those_before_it(name: str, role: str, may_do: str) -> None:
    """By one row, for workloads and for tokens."""
    built = policy(f"g, {name}, role:{role}")
    assert may(built, name) == may_do
    assert built.decide(Question(name, "", APPLY, "viewer")).roles == tuple(may_do.split())


@pytest.mark.parametrize("name", [OPS, "token:ci", "token:owner", "local/owner", "token/ci"])
def test_without_a_row_nobody_may_do_anything(name: str) -> None:
    """The built-in owner is nobody that a caller can be."""
    assert may(policy(), name) == ""


def test_a_token_and_a_workload_of_one_name_are_two() -> None:
    """No certificate makes anybody a token, nor the other way round."""
    built = policy("g, token:ci, role:admin", "g, token/ci, role:viewer")
    assert may(built, "token/ci") == "viewer"
    assert may(built, "token:ci") == "viewer author admin"


def test_a_pattern_gives_a_role_to_many() -> None:
    """Within a trust domain."""
    built = policy("g, mesh.example/ns/ops/**, role:admin")
    assert may(built, OPS) == "viewer author admin"
    assert may(built, "mesh.example/ns/shop/sa/web") == ""


def test_rules_of_ones_own_go_beyond_roles() -> None:
    """One method for one caller, from one network; a deny beats a role."""
    built = policy(
        "g, token:ci, role:author",
        "p, token:bot, meshwarden.v1.Policy, VIEWER, /meshwarden.v1.Policy/History, allow",
        "p, token:ci, *, *, /**, deny, !ipMatch(source.ip, '10.0.0.0/8')",
    )
    assert may(built, "token:bot", "/meshwarden.v1.Policy/History") == "viewer"
    assert may(built, "token:bot") == ""
    assert may(built, "token:ci") == "viewer author"
    assert may(built, "token:ci", source_ip="203.0.113.9") == ""
    assert built.decide(Question("token:ci", "203.0.113.9", APPLY, "author")).rule == "admin.csv:3"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("g, *, role:viewer", "begin with a trust domain"),
        ("g, **, role:admin", "begin with a trust domain"),
        ("g, */ns/a/sa/b, role:admin", "begin with a trust domain"),
        ("g, mesh.exampel, role:admin", "begin with a trust domain"),
        ("p, *, *, *, /**, allow", "begin with a trust domain"),
        ("g, local:root, role:admin", "the local owner may do everything already"),
        ("g, user:https://id.example/ann, role:admin", "is nobody here"),
        ("g, token:CI, role:admin", "a token's name"),
        ("g, token:, role:admin", "a token's name"),
        ("g, token:local owner, role:admin", "a token's name"),
        ("g, token:ci, role:admn", "did you mean role:admin?"),
        ("g, token:ci, admin", "no role; write role:NAME"),
        ("p, token:ci, *, GET, /**, allow", "'GET' is no role that a method needs"),
        ("p, token:ci, *, AUTOR, /**, allow", "did you mean AUTHOR?"),
        ("p, token:ci, *, *, /**, permit", "unknown effect"),
        ("p, token:ci, *, *", "p takes 6 values"),
        ("p, token:ci, *, *, /**, allow, source.ipp == ''", "source.ipp"),
        ("p2, token:ci, *, *, /**, allow", "no policy definition"),
        ("g", "g takes 2 values"),
        ("p", "p takes 6 values"),
    ],
)
def test_a_mistake_is_told_by_file_and_line(line: str, said: str) -> None:
    """And the engine's own words for tokens are not shown."""
    with pytest.raises(PolicyError) as refused:
        policy("g, token:a, role:viewer", line)
    told = str(refused.value)
    assert "admin.csv:2: " in told
    assert said in told
    assert "user:token" not in told


def test_a_deny_may_speak_of_everybody() -> None:
    """Only what lets somebody in must not be too wide."""
    assert may(policy("g, token:a, role:admin", "p, *, *, ADMIN, /**, deny"), "token:a") == (
        "viewer author"
    )


@pytest.mark.parametrize(
    ("lines", "admins"),
    [
        (["g, token:a, role:admin", "g, token:b, role:author"], {"token:a"}),
        (["g, token:dead, role:admin"], set()),
        (["g, mesh.example/ns/ops/**, role:admin"], {"mesh.example/ns/ops/**"}),
        (["g, mesh.example/ns/*/sa/{who}, role:admin"], {"mesh.example/ns/*/sa/{who}"}),
        (["g, role:ops, role:admin", "g, token:a, role:ops"], {"token:a"}),
        (["p, token:a, *, *, /**, allow"], {"token:a"}),
        (["p, token:a, meshwarden.v1.Policy, *, /**, allow"], set()),
        (["g, token:a, role:admin", "p, token:a, *, *, /**, deny"], set()),
        # What holds only at times neither makes an admin nor unmakes one.
        (["p, token:a, *, *, /**, allow, source.ip == '10.0.0.1'"], set()),
        (["g, token:a, role:admin", "p, *, *, *, /**, deny, source.ip != '10.0.0.1'"], {"token:a"}),
        (
            [
                "p, role:ops, *, *, /**, allow, source.ip == '10.0.0.1'",
                "g, token:a, role:ops",
                "g, token:b, role:admin",
            ],
            {"token:b"},
        ),
        ([], set()),
    ],
)
def test_admins_are_those_who_can_change_this_policy(lines: list[str], admins: set[str]) -> None:
    """Whatever way they came to it; a token that nobody holds any more is none."""
    assert policy(*lines).admins({"a", "b"}) == admins


def test_giving_and_taking_a_role_are_opposites() -> None:
    """Other rows stay as they are, and in their places."""
    before = policy("g, token:a, role:admin", "g, token:b, role:viewer")
    given = AdminPolicy(before.given("token:c", "author"))
    assert given.members()[-1] == ("token:c", "author")
    assert given.given("token:c", "author") == given.rows
    assert AdminPolicy.taken(given.rows, "token:c", "author") == before.rows
    assert AdminPolicy.taken(given.rows, "token:c", "viewer") == given.rows


def test_names_are_judged_alone_too() -> None:
    """For a command that has no file and line."""
    assert member_fault(OPS) == ""
    assert member_fault("token:ci") == ""
    assert "nobody" in member_fault("local:root")
    assert member_fault("")


def test_what_an_admin_writes_is_no_pattern_for_regular_expressions() -> None:
    """A dot is a dot."""
    built = policy("g, mesh.example/ns/ops/sa/a.b, role:admin")
    assert may(built, "mesh.example/ns/ops/sa/aXb") == ""
