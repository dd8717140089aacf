"""The models and policies that pycasbin's tests read; its source distribution leaves them out.

Written for the tests' expectations: each is the smallest that can tell a right answer from a wrong
one. Files are put together from parts, since most differ in one line.
"""

from collections.abc import Iterable
from pathlib import Path

__all__ = ["write_examples"]

_ALLOW = "some(where (p.eft == allow))"
_NOT_DENY = "!some(where (p.eft == deny))"
_BOTH = f"{_ALLOW} && {_NOT_DENY}"
_PRIORITY = "priority(p.eft) || deny"
_BY_SUBJECT = "subjectPriority(p.eft) || deny"
_SAME = "r.obj == p.obj && r.act == p.act"


def _model(
    matcher: str,
    fields: str = "sub, obj, act",
    rule: str = "",
    roles: Iterable[str] = (),
    effect: str = _ALLOW,
) -> str:
    """One model; `rule` says the policy's fields where they are not the request's."""
    kinds = "".join(
        f"{'g' if not at else f'g{at + 1}'} = {role}\n" for at, role in enumerate(roles)
    )
    return (
        f"[request_definition]\nr = {fields}\n\n[policy_definition]\np = {rule or fields}\n\n"
        + (f"[role_definition]\n{kinds}\n" if kinds else "")
        + f"[policy_effect]\ne = {effect}\n\n[matchers]\nm = {matcher}"
    )


def _policy(*lines: str) -> str:
    return "\n".join(lines)


_ONE, _DOMAIN = ("_, _",), ("_, _, _",)
_ROLE_MATCH = f"g(r.sub, p.sub) && {_SAME}"
_DOMAIN_MATCH = f"g(r.sub, p.sub, r.dom) && r.dom == p.dom && {_SAME}"
_RBAC = (
    "p, alice, data1, read",
    "p, bob, data2, write",
    "p, data2_admin, data2, read",
    "p, data2_admin, data2, write",
    "g, alice, data2_admin",
)
_TIMES = {
    2: "0001-01-01 00:00:00, 0001-01-02 00:00:00",
    3: "0001-01-01 00:00:00, 9999-12-30 00:00:00",
    4: "_, _",
    5: "_, 9999-12-30 00:00:00",
    6: "_, 0001-01-02 00:00:00",
    7: "0001-01-01 00:00:00, _",
    8: "9999-12-30 00:00:00, _",
}
_MARKS = dict.fromkeys(range(2, 6), "_, _")


def _temporal(times: dict[int, str], *, domains: bool) -> str:
    """Who may use data N by a role that holds for a time, within domain N or everywhere."""
    lines: list[str] = []
    for number in range(1, 9):
        who = "alice" if number == 1 else f"data{number}_admin"
        where = f"domain{number}, " if domains else ""
        lines += [f"p, {who}, {where}data{number}, {act}" for act in ("read", "write")]
    for number, time in times.items():
        where = f"domain{number}, " if domains else ""
        lines.append(f"g, alice, data{number}_admin, {where}{time}")
    return _policy(*lines)


def _large_scale() -> str:
    actions = [f"App00{app}.Module00{app}.Action{number}" for app in (1, 2) for number in range(11)]
    roles = [f"{kind}00{number}" for kind in ("staff", "manager", "customer") for number in (1, 2)]
    lines = [f"p, {role}, /orgs/{{org}}/sites/{{site}}, {act}" for role in roles for act in actions]
    for role in roles:
        lines += [
            f"g, {role}User{user}, {role}, /orgs/{user % 3}/sites/site{site}"
            for user in range(100)
            for site in range(5)
        ]
    return _policy(*lines)


_MODELS = {
    "abac_model.conf": _model("r.sub == r.obj.Owner"),
    "abac_rule_model.conf": _model(f"eval(p.sub_rule) && {_SAME}", rule="sub_rule, obj, act"),
    "abac_multiple_rules_model.conf": _model(
        f"eval(p.sub_rule1) && eval(p.sub_rule2) && {_SAME}", rule="sub_rule1, sub_rule2, obj, act"
    ),
    "basic_model.conf": _model(f"r.sub == p.sub && {_SAME}"),
    "basic_model_without_spaces.conf": _model(f"r.sub == p.sub && {_SAME}", "sub,obj,act"),
    "basic_with_root_model.conf": _model(f'r.sub == p.sub && {_SAME} || r.sub == "root"'),
    "basic_without_resources_model.conf": _model("r.sub == p.sub && r.act == p.act", "sub, act"),
    "basic_without_users_model.conf": _model(_SAME, "obj, act"),
    "globmatch_model.conf": _model(
        "r.sub == p.sub && globMatch(r.obj, p.obj) && regexMatch(r.act, p.act)"
    ),
    "ipmatch_model.conf": _model(f"ipMatch(r.sub, p.sub) && {_SAME}"),
    "keymatch2_model.conf": _model(
        "r.sub == p.sub && keyMatch2(r.obj, p.obj) && regexMatch(r.act, p.act)"
    ),
    "keymatch_custom_model.conf": _model(
        "r.sub == p.sub && keyMatchCustom(r.obj, p.obj) && regexMatch(r.act, p.act)"
    ),
    "keymatch_model.conf": _model(
        "r.sub == p.sub && keyMatch(r.obj, p.obj) && regexMatch(r.act, p.act)"
    ),
    "multiple_policy_definitions_model.conf": (
        "[request_definition]\nr = sub, obj, act\nr2 = sub, obj, act\n"
        "[policy_definition]\np = sub, obj, act\np2 = sub_rule, obj, act, eft\n"
        "[role_definition]\ng = _, _\n"
        f"[policy_effect]\ne = {_ALLOW}\n"
        f"[matchers]\nm = {_ROLE_MATCH}\n"
        "m2 = eval(p2.sub_rule) && r2.obj == p2.obj && r2.act == p2.act\n"
    ),
    "performance/rbac_with_pattern_large_scale_model.conf": _model(
        "g(r.sub, p.sub, r.obj) && keyMatch4(r.obj, p.obj) && regexMatch(r.act, p.act)",
        roles=_DOMAIN,
    ),
    "priority_model.conf": _model(
        _ROLE_MATCH, rule="sub, obj, act, eft", roles=_ONE, effect=_PRIORITY
    ),
    "priority_model_explicit.conf": _model(
        _ROLE_MATCH, rule="priority, sub, obj, act, eft", roles=_ONE, effect=_PRIORITY
    ),
    "rbac_model.conf": _model(_ROLE_MATCH, roles=_ONE),
    "rbac_model_matcher_using_in_op_bracket.conf": _model(
        f'{_ROLE_MATCH} || r.obj in ["data2", "data3"]', roles=_ONE
    ),
    "rbac_with_deny_model.conf": _model(
        _ROLE_MATCH, rule="sub, obj, act, eft", roles=_ONE, effect=_BOTH
    ),
    "rbac_with_domain_and_policy_pattern_model.conf": _model(
        f"g(r.sub, p.sub, r.dom) && keyMatch2(r.dom, p.dom) && {_SAME}",
        "sub, dom, obj, act",
        roles=_DOMAIN,
    ),
    "rbac_with_domain_pattern_model.conf": _model(
        f"g(r.sub, p.sub, r.dom) && keyMatch(r.dom, p.dom) && {_SAME}",
        "sub, dom, obj, act",
        roles=_DOMAIN,
    ),
    "rbac_with_domain_temporal_roles_model.conf": _model(
        _DOMAIN_MATCH, "sub, dom, obj, act", roles=("_, _, _, (_, _)",)
    ),
    "rbac_with_domains_model.conf": _model(_DOMAIN_MATCH, "sub, dom, obj, act", roles=_DOMAIN),
    "rbac_with_domains_without_policy_matcher.conf": _model(
        f"g(r.sub, p.sub, r.dom) && {_SAME}", "sub, dom, obj, act", "sub, obj, act", _DOMAIN
    ),
    "rbac_with_multiple_policy_model.conf": (
        "[request_definition]\nr = user, thing, action\n"
        "[policy_definition]\np = role, thing, action\np2 = role, action\n"
        "[role_definition]\ng = _, _\n"
        f"[policy_effect]\ne = {_ALLOW}\n"
        "[matchers]\nm = g(r.user, p.role) && r.thing == p.thing && r.action == p.action\n"
        "m2 = g(r.user, p2.role) && r.action == p2.action\n"
    ),
    "rbac_with_multiply_matched_pattern.conf": _model(
        "g(r.sub, p.sub) && g2(r.act, p.act) && keyMatch(r.obj, p.obj)",
        roles=("_, _", "_, _"),
    ),
    "rbac_with_not_deny_model.conf": _model(
        _ROLE_MATCH, rule="sub, obj, act, eft", roles=_ONE, effect=_NOT_DENY
    ),
    "rbac_with_pattern_model.conf": _model(
        "g(r.sub, p.sub) && g2(r.obj, p.obj) && regexMatch(r.act, p.act)", roles=("_, _", "_, _")
    ),
    "rbac_with_resource_roles_model.conf": _model(
        "g(r.sub, p.sub) && g2(r.obj, p.obj) && r.act == p.act", roles=("_, _", "_, _")
    ),
    "rbac_with_temporal_roles_model.conf": _model(_ROLE_MATCH, roles=("_, _, (_, _)",)),
    "subject_priority_model.conf": _model(
        _ROLE_MATCH, rule="sub, obj, act, eft", roles=_ONE, effect=_BY_SUBJECT
    ),
    "subject_priority_model_with_domain.conf": _model(
        f"g(r.sub, p.sub, r.dom) && r.dom == p.dom && {_SAME}",
        "sub, obj, dom, act",
        "sub, obj, dom, act, eft",
        _DOMAIN,
        _BY_SUBJECT,
    ),
}

_HIERARCHY = (
    "p, alice, data1, read",
    "p, bob, data2, write",
    "p, data1_admin, data1, read",
    "p, data1_admin, data1, write",
    "p, data2_admin, data2, read",
    "p, data2_admin, data2, write",
    "g, alice, admin",
    "g, admin, data1_admin",
    "g, admin, data2_admin",
)
_POLICIES = {
    "abac_rule_policy.csv": _policy(
        "p, r.sub.age > 18, /data1, read", "p, r.sub.age < 60, /data2, write"
    ),
    "abac_multiple_rules_policy.csv": _policy(
        'p, r.sub.age > 18, r.sub.name == "alice", /data1, read',
        'p, r.sub.age < 60, r.sub.name == "bob", /data2, write',
    ),
    "basic_policy.csv": _policy("p, alice, data1, read", "p, bob, data2, write"),
    "basic_without_resources_policy.csv": _policy("p, alice, read", "p, bob, write"),
    "basic_without_users_policy.csv": _policy("p, data1, read", "p, data2, write"),
    "empty_policy.csv": "",
    "globmatch_policy.csv": _policy(
        "p, alice, /alice_data/*, (GET)|(POST)",
        "p, bob, /alice_data/[^0], GET",
        "p, bob, /bob_data/0, POST",
    ),
    "ipmatch_policy.csv": _policy("p, 192.168.2.0/24, data1, read", "p, 10.0.0.0/16, data2, write"),
    "keymatch2_policy.csv": _policy(
        "p, alice, /alice_data/:resource, GET", "p, alice, /alice_data2/:id/using/:resId, GET"
    ),
    "keymatch_policy.csv": _policy(
        "p, alice, /alice_data/*, GET",
        "p, alice, /alice_data/resource1, POST",
        "p, bob, /alice_data/resource2, GET",
        "p, bob, /bob_data/*, POST",
        "p, cathy, /cathy_data, (GET)|(POST)",
    ),
    "multiple_policy_definitions_policy.csv": _policy(
        "p, data2_admin, data2, read",
        "p2, r2.sub.age > 18 && r2.sub.age < 60, /data1, read, allow",
        "p2, r2.sub.age > 60 && r2.sub.age < 100, /data1, read, deny",
        "g, alice, data2_admin",
    ),
    "performance/rbac_with_pattern_large_scale_policy.csv": _large_scale(),
    "priority_indeterminate_policy.csv": "p, alice, data1, read, indeterminate",
    "priority_policy.csv": _policy(
        "p, alice, data1, read, allow",
        "p, data1_deny_group, data1, read, deny",
        "p, data1_deny_group, data1, write, deny",
        "p, alice, data1, write, allow",
        "g, alice, data1_deny_group",
        "p, data2_allow_group, data2, read, allow",
        "p, bob, data2, read, deny",
        "p, bob, data2, write, deny",
        "g, bob, data2_allow_group",
    ),
    "priority_policy_explicit.csv": _policy(
        "p, 10, data1_deny_group, data1, read, deny",
        "p, 10, data1_deny_group, data1, write, deny",
        "p, 10, data2_allow_group, data2, read, allow",
        "p, 10, data2_allow_group, data2, write, allow",
        "p, 1, alice, data1, write, allow",
        "p, 1, alice, data1, read, allow",
        "p, 1, bob, data2, read, deny",
        "g, bob, data2_allow_group",
        "g, alice, data1_deny_group",
    ),
    "rbac_policy.csv": _policy(*_RBAC),
    "rbac_with_deny_policy.csv": _policy(
        *[f"{line}, allow" for line in _RBAC[:4]], "p, alice, data2, write, deny", _RBAC[4]
    ),
    "rbac_with_domain_and_policy_pattern_policy.csv": _policy(
        "p, admin, domain.*, data1, read",
        "p, user, domain.*, data3, read",
        "p, user, domain.1, data2, read",
        "p, user, domain.1, data2, write",
        "g, alice, user, *",
        "g, bob, admin, domain.3",
    ),
    "rbac_with_domain_pattern_policy.csv": _policy(
        "p, admin, domain1, data1, read",
        "p, admin, domain1, data1, write",
        "p, admin, domain2, data2, read",
        "p, admin, domain2, data2, write",
        "p, admin, *, data3, read",
        "g, alice, admin, *",
        "g, bob, admin, domain2",
    ),
    "rbac_with_domain_temporal_roles_condition_policy.csv": _temporal(_MARKS, domains=True),
    "rbac_with_domain_temporal_roles_policy.csv": _temporal(_TIMES, domains=True),
    "rbac_with_domains_policy.csv": _policy(
        "p, admin, domain1, data1, read",
        "p, admin, domain1, data1, write",
        "p, admin, domain2, data2, read",
        "p, admin, domain2, data2, write",
        "g, alice, admin, domain1",
        "g, bob, admin, domain2",
    ),
    "rbac_with_domains_policy2.csv": _policy(
        "p, admin, domain1, data1, read",
        "p, admin, domain2, data2, read",
        "p, user, domain3, data2, read",
        "g, alice, admin, domain1",
        "g, alice, admin, domain2",
        "g, bob, admin, domain2",
        "g, bob, user, domain3",
    ),
    "rbac_with_hierarchy_policy.csv": _policy(*_HIERARCHY),
    "rbac_with_hierarchy_with_domains_policy.csv": _policy(
        "p, role:reader, domain1, data1, read",
        "p, role:writer, domain1, data1, write",
        "p, alice, domain1, data2, read",
        "p, alice, domain2, data2, read",
        "g, role:global_admin, role:reader, domain1",
        "g, role:global_admin, role:writer, domain1",
        "g, alice, role:global_admin, domain1",
    ),
    "rbac_with_hierarchy_without_policy_domains.csv": _policy(
        "p, role:reader, data1, read",
        "p, role:writer, data1, write",
        "p, alice, data2, read",
        "g, role:global_admin, role:reader, domain1",
        "g, role:global_admin, role:writer, domain1",
        "g, alice, role:global_admin, domain1",
    ),
    "rbac_with_multiple_policy_policy.csv": _policy(
        "p, user, /data, GET",
        "p, admin, /data, POST",
        "p2, user, view",
        "p2, admin, create",
        "g, admin, user",
        "g, alice, admin",
    ),
    "rbac_with_multiply_matched_pattern.csv": _policy(
        "p, root, *, owner",
        "g, root@localhost, root",
        "g2, *.read, viewer",
        "g2, *.read, admin",
        "g2, *.create, admin",
        "g2, *.*, owner",
    ),
    "rbac_with_pattern_policy.csv": _policy(
        "p, alice, /pen/1, GET",
        "p, alice, /pen2/1, GET",
        "p, book_admin, book_group, GET",
        "p, pen_admin, pen_group, GET",
        "g, alice, book_admin",
        "g, bob, pen_admin",
        "g2, /book/:id, book_group",
        "g2, /pen/:id, pen_group",
        "g2, /book2/{id}, book_group",
        "g2, /pen2/{id}, pen_group",
    ),
    "rbac_with_resource_roles_policy.csv": _policy(
        "p, alice, data1, read",
        "p, bob, data2, write",
        "p, data_group_admin, data_group, write",
        "g, alice, data_group_admin",
        "g2, data1, data_group",
        "g2, data2, data_group",
    ),
    "rbac_with_temporal_roles_condition_policy.csv": _temporal(_MARKS, domains=False),
    "rbac_with_temporal_roles_policy.csv": _temporal(_TIMES, domains=False),
    "subject_priority_policy.csv": _policy(
        "p, root, data1, read, deny",
        "p, admin, data1, read, deny",
        "p, editor, data1, read, deny",
        "p, subscriber, data1, read, deny",
        "p, jane, data1, read, allow",
        "p, alice, data1, read, allow",
        "g, admin, root",
        "g, editor, admin",
        "g, subscriber, admin",
        "g, jane, editor",
        "g, alice, subscriber",
    ),
    "subject_priority_policy_with_domain.csv": _policy(
        "p, admin, data1, domain1, write, deny",
        "p, alice, data1, domain1, write, allow",
        "p, admin, data2, domain2, write, deny",
        "p, bob, data2, domain2, write, allow",
        "g, alice, admin, domain1",
        "g, bob, admin, domain2",
    ),
}


def write_examples(folder: Path) -> None:
    """Write every example file under a folder."""
    for name, text in {**_MODELS, **_POLICIES}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
