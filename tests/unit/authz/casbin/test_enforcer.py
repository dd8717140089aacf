"""Promises of the drop-in enforcers: pycasbin's behaviour, followed change by change."""

import asyncio
import copy
import logging
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import casbin
import pytest
from casbin import util
from casbin.core_enforcer import EnforceContext
from casbin.persist.adapters.string_adapter import StringAdapter
from casbin.rbac import RoleManager
from casbin.rbac.default_role_manager import RoleManager as PlainRoleManager
from typing_extensions import override

import authz.casbin
from authz.casbin import AsyncEnforcer, Enforcer, FastEnforcer, SyncedEnforcer
from authz.policy.errors import PolicyError

_NAMES = ["Enforcer", "SyncedEnforcer", "DistributedEnforcer", "FastEnforcer", "AsyncEnforcer"]
_MODEL = """[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act{more}
[role_definition]
g = {roles}
[policy_effect]
e = {effect}
[matchers]
m = {matcher}
"""
_ALLOW = "some(where (p.eft == allow))"
_BOTH = f"{_ALLOW} && !some(where (p.eft == deny))"
_MATCHER = "g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act"
_POLICY = """p, alice, data1, read
p, admin, data2, write
g, bob, admin
"""


def model(
    matcher: str = _MATCHER, effect: str = _ALLOW, more: str = "", roles: str = "_, _"
) -> Any:
    """Pycasbin's model of a text."""
    text = _MODEL.format(matcher=matcher, effect=effect, more=more, roles=roles)
    return casbin.Enforcer.new_model(text=text)


def enforcer(policy: str = _POLICY, **parts: str) -> Any:
    """Our Enforcer with a policy that can be loaded again."""
    made = Enforcer(model(**parts), StringAdapter(policy or "# none"))
    made.enable_auto_save(auto_save=False)
    return made


@pytest.mark.parametrize("name", _NAMES)
def test_each_enforcer_is_one_of_pycasbins(name: str) -> None:
    """So whatever takes one of theirs takes one of ours."""
    assert issubclass(getattr(authz.casbin, name), getattr(casbin, name))


def test_the_deciding_rule_is_the_row_of_the_model() -> None:
    """The very list, as in pycasbin."""
    made = enforcer()
    allowed, rule = made.enforce_ex("bob", "data2", "write")
    assert allowed
    assert rule is made.get_policy()[1]
    assert made.enforce_ex("bob", "data1", "read") == (False, [])


def test_a_change_is_taken_over_without_a_new_start() -> None:
    """Adding, removing and linking cost what they change, and not the whole policy."""
    made = enforcer()
    assert not made.enforce("carol", "data3", "read")
    engine = made._mirror._made
    made.add_policy("staff", "data3", "read")
    made.add_role_for_user("carol", "staff")
    assert made.enforce("carol", "data3", "read")
    made.delete_role_for_user("carol", "staff")
    assert not made.enforce("carol", "data3", "read")
    made.update_policy(["staff", "data3", "read"], ["carol", "data3", "read"])
    assert made.enforce("carol", "data3", "read")
    made.add_policy("carol", "data4", "read")
    made.remove_filtered_policy(1, "data4")
    assert not made.enforce("carol", "data4", "read")
    made.remove_policy("carol", "data3", "read")
    assert not made.enforce("carol", "data3", "read")
    assert made._mirror._made is engine


def test_a_role_given_twice_is_taken_once() -> None:
    """Pycasbin notes a link again when a grouping rule that exists is added again."""
    made = enforcer()
    made.add_role_for_user("bob", "admin")
    made.delete_role_for_user("bob", "admin")
    assert not made.enforce("bob", "data2", "write")


@pytest.mark.parametrize(
    "change",
    [
        lambda made: made.get_policy().append(["eve", "data9", "read"]),
        lambda made: made.get_policy().insert(0, ["eve", "data9", "read"]),
        lambda made: made.get_policy().__setitem__(0, ["eve", "data9", "read"]),
        lambda made: made.model["p"]["p"].policy.extend([["eve", "data9", "read"]]),
        lambda made: setattr(made.model["p"]["p"], "policy", [["eve", "data9", "read"]]),
        lambda made: made.model.model["p"]["p"].policy.__iadd__([["eve", "data9", "read"]]),
        lambda made: (
            made.get_role_manager().add_link("eve", "nine")
            or made.model.add_policy("p", "p", ["nine", "data9", "read"])
        ),
        lambda made: setattr(made.model["m"]["m"], "value", 'r_sub == "eve"'),
        lambda made: made.set_model(model('r.sub == "eve"')),
        lambda made: setattr(made, "enabled", False),
    ],
)
def test_a_change_by_no_management_call_is_noticed(change: Callable[[Any], object]) -> None:
    """Wherever it can be seen without looking at every rule."""
    made = enforcer()
    assert not made.enforce("eve", "data9", "read")
    change(made)
    assert made.enforce("eve", "data9", "read")


def test_a_row_changed_in_place_no_longer_allows_what_it_was() -> None:
    """The deciding row is looked at again before it decides."""
    made = enforcer()
    assert made.enforce("alice", "data1", "read")
    made.get_policy()[0][0] = "eve"
    assert not made.enforce("alice", "data1", "read")
    assert made.enforce("eve", "data1", "read")


def test_a_function_may_be_added_and_replaced() -> None:
    """Also under the name of a built-in one."""
    made = enforcer(matcher="mine(r.sub, p.sub) && keyMatch(r.obj, p.obj)")
    made.add_function("mine", lambda one, other: one == other)
    assert made.enforce("alice", "data1", "")
    assert not made.enforce("alice", "data7", "")
    made.add_function("keyMatch", lambda _one, _other: True)
    assert made.enforce("alice", "data7", "")
    made.add_function("mine", lambda _one, _other: False)
    assert not made.enforce("alice", "data7", "")


def test_role_names_match_by_a_function() -> None:
    """For names and for domains."""
    made = enforcer("p, admin, data1, read\ng, /u/:name, admin")
    assert not made.enforce("/u/1", "data1", "read")
    assert made.add_named_matching_func("g", util.key_match2_func)
    assert made.enforce("/u/1", "data1", "read")
    assert not made.enforce("/w/1", "data1", "read")


def test_a_condition_on_a_link_outlives_a_reload() -> None:
    """Pycasbin forgets it, and the link then always holds."""
    made = enforcer("p, admin, data1, read\ng, alice, admin, yes, no", roles="_, _, (_, _)")
    made.add_named_link_condition_func("g", "alice", "admin", lambda one, other: one == other)
    assert not made.enforce("alice", "data1", "read")
    made.load_policy()
    assert not made.enforce("alice", "data1", "read")
    made.set_named_link_condition_func_params("g", "alice", "admin", "yes", "yes")
    assert made.enforce("alice", "data1", "read")


class Everybody(RoleManager):  # type: ignore[misc]
    """Somebody's own role manager: everybody has every role."""

    def has_link(self, *_names: str) -> bool:
        """Say yes."""
        return True

    def add_link(self, *_names: str) -> None:
        """Take anything."""

    def clear(self) -> None:
        """Have nothing to forget."""

    def print_roles(self) -> None:
        """Have nothing to show."""


def test_a_role_manager_of_ones_own_decides_pycasbins_way() -> None:
    """Its interface is all that is known of it."""
    made = enforcer()
    made.set_role_manager(Everybody())
    made.build_role_links()
    assert made.enforce("nobody", "data1", "read")


def test_a_role_manager_of_pycasbins_own_is_followed() -> None:
    """Also when it was made and filled outside."""
    made = enforcer()
    manager = PlainRoleManager(10)
    made.set_role_manager(manager)
    made.build_role_links()
    assert made.enforce("bob", "data2", "write")
    manager.add_link("carol", "admin")
    assert made.enforce("carol", "data2", "write")
    assert made._mirror._made is not None


class Inverse(casbin.effect.Effector):  # type: ignore[misc]
    """Somebody's own effector: allows what no rule allows."""

    @override
    def intermediate_effect(self, effects: set[int]) -> int:
        return int(self.INDETERMINATE)

    @override
    def final_effect(self, effects: set[int]) -> int:
        return int(self.DENY if self.ALLOW in effects else self.ALLOW)


def test_an_effector_of_ones_own_decides() -> None:
    """By pycasbin's scan."""
    made = enforcer()
    made.set_effector(Inverse())
    assert not made.enforce("alice", "data1", "read")
    assert made.enforce("alice", "data1", "write")


def test_each_context_has_its_own_effect() -> None:
    """Pycasbin weighs every context by the effect of `e`."""
    text = (
        "[request_definition]\nr = sub\nr2 = sub\n"
        "[policy_definition]\np = sub, eft\np2 = sub, eft\n"
        f"[policy_effect]\ne = {_ALLOW}\ne2 = !some(where (p2.eft == deny))\n"
        "[matchers]\nm = r.sub == p.sub\nm2 = r2.sub == p2.sub\n"
    )
    made = Enforcer(Enforcer.new_model(text=text))
    made.add_named_policy("p2", "eve", "deny")
    context = made.new_enforce_context("2")
    assert isinstance(context, EnforceContext)
    assert made.enforce(context, "alice")
    assert made.enforce_ex(context, "eve") == (False, ["eve", "deny"])
    assert not made.enforce("alice")


def test_rules_added_by_priority_stand_where_pycasbin_puts_them() -> None:
    """Behind those of the same priority."""
    both = [
        cls(
            casbin.Enforcer.new_model(
                text=_MODEL.format(
                    matcher=_MATCHER, effect="priority(p.eft) || deny", more=", eft", roles="_, _"
                ).replace("p = sub", "p = priority, sub")
            ),
            StringAdapter("p, 5, alice, data1, read, allow\np, 1, bob, data1, read, allow"),
        )
        for cls in (casbin.Enforcer, Enforcer)
    ]
    for made in both:
        made.enable_auto_save(auto_save=False)
        for priority, effect in [("3", "deny"), ("5", "deny"), ("0", "allow"), ("9", "deny")]:
            made.add_policy(priority, "alice", "data1", "read", effect)
    assert both[0].get_policy() == both[1].get_policy()
    assert both[1].enforce_ex("alice", "data1", "read")[1][0] == "0"


def test_a_rule_of_the_wrong_size_is_met_where_pycasbin_meets_it() -> None:
    """It raises unless a rule before it decides."""
    made = enforcer()
    made.add_policy("short")
    assert made.enforce("alice", "data1", "read")
    with pytest.raises(RuntimeError, match="invalid policy size"):
        made.enforce("nobody", "data1", "read")
    made.remove_policy("short")
    assert not made.enforce("nobody", "data1", "read")


def test_what_pycasbin_refuses_to_decide_is_refused_in_its_words() -> None:
    """RuntimeError, as programs that use pycasbin expect."""
    made = enforcer()
    with pytest.raises(RuntimeError, match="invalid request size"):
        made.enforce("alice")
    made = enforcer("", matcher="eval(p.sub)")
    with pytest.raises(RuntimeError, match="make sure rule exists"):
        made.enforce("alice", "data1", "read")


def test_a_matcher_outside_the_language_is_told_at_the_first_decision() -> None:
    """As in pycasbin, whose own exceptions for it are of many kinds."""
    made = enforcer(matcher="r.sub.upper() == p.sub")
    with pytest.raises(PolicyError, match="can't be called"):
        made.enforce("alice", "data1", "read")


def test_a_function_that_raises_does_not_allow() -> None:
    """An allow rule has not matched, a deny rule has."""

    def raising(*_values: object) -> bool:
        raise ValueError

    made = enforcer(
        "p, alice, data1, read, deny", matcher="mine(r.sub)", more=", eft", effect=_BOTH
    )
    made.add_function("mine", raising)
    assert made.enforce_ex("x", "y", "z") == (False, ["alice", "data1", "read", "deny"])


def test_a_disabled_enforcer_allows_all() -> None:
    """Even what the model can't decide."""
    made = enforcer(matcher="nonsense(")
    made.enable_enforce(enabled=False)
    assert made.enforce("x")


def test_requests_are_logged_as_pycasbin_logs_them(caplog: pytest.LogCaptureFixture) -> None:
    """Denials as warnings; nothing while logging is off."""
    made = enforcer()
    made.enforce("alice", "data1", "read")
    assert not caplog.records
    made.logger.disabled = False
    with caplog.at_level(logging.INFO):
        made.enforce("alice", "data1", "read")
        made.enforce("alice", "data1", "write")
    made.logger.disabled = True
    assert [(each.levelname, each.message) for each in caplog.records] == [
        ("INFO", "Request: alice, data1, read ---> True"),
        ("WARNING", "Request: alice, data1, write ---> False"),
    ]


def test_two_enforcers_on_one_model_both_follow_it() -> None:
    """Neither takes the other's changes away."""
    shared = model()
    one, other = Enforcer(shared), Enforcer(shared)
    for number in range(5):
        one.add_policy("eve", f"data{number}", "read")
        assert one.enforce("eve", f"data{number}", "read")
        assert other.enforce("eve", f"data{number}", "read")
        other.remove_policy("eve", f"data{number}", "read")
        assert not one.enforce("eve", f"data{number}", "read")
        assert not other.enforce("eve", f"data{number}", "read")


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))],  # noqa: S301 - made here
)
def test_a_copied_enforcer_goes_its_own_way(copied: Callable[[Any], Any]) -> None:
    """It shares no policy."""
    made = enforcer()
    assert made.enforce("alice", "data1", "read")
    other = copied(made)
    made.clear_policy()
    assert not made.enforce("alice", "data1", "read")
    assert other.enforce("alice", "data1", "read")
    assert other.enforce("bob", "data2", "write")
    assert other._mirror._made is not made._mirror._made


def test_a_failed_load_keeps_the_policy() -> None:
    """What was decided before is decided after."""
    made = enforcer()
    made.set_adapter(StringAdapter("p, eve, data1, read\ng, bob"))
    with pytest.raises(RuntimeError):
        made.load_policy()
    assert made.enforce("bob", "data2", "write")
    assert not made.enforce("eve", "data1", "read")


def test_no_reader_sees_a_policy_half_loaded() -> None:
    """Eight threads decide while another loads a hundred times."""
    lines = [
        f"p, role{number}, data{number}, read\ng, user{number}, role{number}"
        for number in range(50)
    ]
    made = enforcer("\n".join(lines))
    wrong: list[int] = []
    done = threading.Event()

    def read() -> None:
        number = 0
        # A moment's wait each time leaves the loading thread its share.
        while not done.wait(0.0005):
            number = (number + 1) % 50
            if not made.enforce(f"user{number}", f"data{number}", "read"):
                wrong.append(number)
            if made.enforce(f"user{number}", f"data{number + 1}", "read"):
                wrong.append(-number)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(100):
        made.load_policy()
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def files(folder: Path, matcher: str) -> tuple[str, str]:
    """The model and the policy, in files."""
    paths = folder / "model.conf", folder / "policy.csv"
    text = _MODEL.format(matcher=matcher, effect=_ALLOW, more="", roles="_, _")
    for path, content in zip(paths, (text, _POLICY), strict=True):
        path.write_text(content, encoding="utf-8")
    return str(paths[0]), str(paths[1])


def test_a_fast_enforcer_sees_the_rules_of_the_requests_key(tmp_path: Path) -> None:
    """Where there is none it decides as by an empty policy; enforce_ex() sees all."""
    matcher = '(g(r.sub, p.sub) && keyMatch(r.obj, p.obj)) || r.sub == "root"'
    made = FastEnforcer(*files(tmp_path, matcher), cache_key_order=[2, 1])
    assert made.enforce("bob", "data2", "write")
    assert not made.enforce("alice", "data2", "write")
    assert not made.enforce("alice", "data1", "write")
    assert made.enforce_ex("alice", "data1", "write") == (True, ["alice", "data1", "read"])
    assert made.enforce("root", "any", "any")
    made.add_policy("alice", "data2", "write")
    assert made.enforce("alice", "data2", "write")
    made.clear_policy()
    assert not made.enforce("alice", "data2", "write")


def test_a_synced_enforcer_holds_one_of_ours() -> None:
    """Its calls are pycasbin's, under pycasbin's lock."""
    made = SyncedEnforcer(model(), StringAdapter(_POLICY))
    assert isinstance(made._e, Enforcer)
    assert made.enforce_ex("bob", "data2", "write") == (True, ["admin", "data2", "write"])
    assert made.batch_enforce([("alice", "data1", "read"), ("eve", "data1", "read")]) == [
        True,
        False,
    ]


def test_an_async_enforcer_decides_by_what_it_has_loaded(tmp_path: Path) -> None:
    """A decision itself needs no await, as in pycasbin."""

    async def run() -> Any:
        made = AsyncEnforcer(*files(tmp_path, _MATCHER))
        await made.load_policy()
        await made.add_role_for_user("carol", "admin")
        return made.enforce_ex("carol", "data2", "write")

    assert asyncio.run(run()) == (True, ["admin", "data2", "write"])


def test_text_in_quotes_is_compared_as_it_was_written() -> None:
    """Pycasbin rewrites dots, operators and what follows a # there."""
    made = Enforcer(
        Enforcer.new_model(
            text=_MODEL.format(
                matcher='r.sub == "p.a && #1!" # but this is a comment',
                effect=_ALLOW,
                more=" # and this",
                roles="_, _",
            )
        )
    )
    made.add_policy("x", "y", "z")
    assert made.enforce("p.a && #1!", "", "")
    assert not made.enforce("p_a and #1not ", "", "")
    made.get_model()["m"]["m"].value = 'r_sub == "other"'
    assert made.enforce("other", "", "")


@pytest.mark.parametrize(
    ("roles", "call"), [("_, _", 'g(r.sub, p.sub, "x")'), ("_, _, _", "g(r.sub, p.sub)")]
)
def test_a_domain_too_many_or_too_few_is_taken_as_pycasbin_takes_it(roles: str, call: str) -> None:
    """No notice is taken of one too many; one that is missing is the empty one."""
    policy = "p, admin, data1, read\ng, alice, admin" + (", d1" if roles == "_, _, _" else "")
    both = [
        cls(model(call, roles=roles), StringAdapter(policy)) for cls in (casbin.Enforcer, Enforcer)
    ]
    said = [made.enforce("alice", "data1", "read") for made in both]
    assert said[0] == said[1] == (roles == "_, _")


def test_a_role_that_is_no_pattern_for_the_function_fits_nothing() -> None:
    """As in pycasbin, where whatever the function raises means no."""
    made = enforcer("p, admin, data1, read\ng, *, admin\ng, al.*, admin")
    made.add_named_matching_func("g", util.regex_match_func)
    assert made.enforce("alice", "data1", "read")
    assert not made.enforce("bob", "data1", "read")


def test_decisions_stay_right_while_another_thread_manages() -> None:
    """Whatever is added beside it, what was allowed is allowed, by rules and by roles."""
    made = enforcer()
    faults: list[object] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            for request in [("alice", "data1", "read"), ("bob", "data2", "write")]:
                try:
                    allowed = made.enforce(*request)
                except Exception as error:  # noqa: BLE001 - none is right
                    faults.append(error)
                else:
                    if not allowed:
                        faults.append(request)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(150):
        made.add_policy("bob", f"data{number}", "read")
        made.add_role_for_user("bob", f"role{number}")
        made.add_role_for_user("admin", f"role{number}")
        made.remove_policy("bob", f"data{number}", "read")
    done.set()
    for thread in threads:
        thread.join()
    assert faults == []
