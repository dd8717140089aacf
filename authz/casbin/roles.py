"""pycasbin's role managers, which also keep their links in the engine's form.

A manager stays pycasbin's for everything that management calls ask of it; what a decision asks is
answered from `links`. A link is there or it isn't: pycasbin can be told a link twice (adding a
grouping rule that exists does so), and may then keep it after it was removed once.
"""

import logging
from collections import deque
from typing import Any

from casbin.rbac import default_role_manager as plain
from typing_extensions import override

from authz.casbin.rows import Rows
from authz.policy.roles import Roles

__all__ = [
    "ConditionalDomainManager",
    "ConditionalRoleManager",
    "DomainManager",
    "LinkedManager",
    "RoleManager",
    "linked",
]


class LinkedManager:
    """What the four managers share.

    What is told to a manager waits until settle(): decisions may go on by the links meanwhile.

    Attributes:
        changes: Counts up with every change of a link, a condition or how names match.
    """

    changes = 0
    conditional = False
    max_hierarchy_level: int
    matching_func: Any
    domain_matching_func: Any
    _links: Roles | None = None
    _conditions: dict[tuple[Any, Any, str], Any]

    @property
    def links(self) -> Roles:
        """The links as the engine takes them; another object after a change of the whole."""
        links = self._links
        if links is None:
            self._waiting.clear()
            links = self._links = self._empty()
            for user, role, domain in self._all():
                links.add(user, role, domain)
        return links

    @property
    def _waiting(self) -> deque[tuple[str, tuple[Any, ...]]]:
        """What is to be done to the links, oldest first."""
        waiting: deque[tuple[str, tuple[Any, ...]]]
        waiting = self.__dict__.setdefault("_told", deque())
        return waiting

    def has_made(self, links: Roles) -> bool:
        """Whether these are its links still."""
        return self._links is links

    def settle(self) -> None:
        """Bring the links up to date."""
        links, waiting = self.links, self._waiting
        while waiting:
            what, names = waiting.popleft()
            if what == "add":
                links.add(*names)
            elif what == "set":
                links.set_parameters(*names)
            else:
                while links.remove(*names):
                    pass

    def _tell(self, what: str, *names: Any) -> None:
        # Counted last: whoever has seen the count has the change.
        if self._links is not None:
            self._waiting.append((what, names))
        self.changes += 1

    def _empty(self) -> Roles:
        """No links, under the conditions and functions that there are."""
        links = Roles(conditional=self.conditional)
        links.matching = self._matching()
        links.domain_matching = self.domain_matching_func
        self._add_conditions(links)
        return links

    @override
    def __getstate__(self) -> dict[str, Any]:
        """A copy makes links of its own."""
        return {**self.__dict__, "_links": None, "_told": deque()}

    def _renew(self) -> None:
        """Make the links anew when they are next asked for."""
        self._links = None
        self.changes += 1

    def _cleared(self) -> None:
        self._waiting.clear()
        self._links = self._empty()
        self.changes += 1

    def _matching(self) -> Any:
        return self.matching_func

    def _stored(self) -> dict[str, list[Any]]:
        """Lists of links as pycasbin has them, by domain."""
        raise NotImplementedError

    def _all(self) -> list[tuple[Any, Any, str]]:
        return [
            (link.user, link.role, domain)
            for domain, links in self._stored().items()
            for link in links
        ]

    def _drop_doubles(self, user: Any, role: Any, domain: str) -> None:
        link = plain.role_manager.Link(user, role)
        links = self._stored().get(domain, [])
        while links.count(link) > 1:
            links.remove(link)

    def _add_conditions(self, links: Roles) -> None:
        """Give the links their conditions; only a conditional manager has any."""


class RoleManager(LinkedManager, plain.RoleManager):  # type: ignore[misc]
    """Roles without domains."""

    @property
    def all_links(self) -> Rows:
        """Every link, found by hash."""
        links: Rows = self.__dict__["all_links"]
        return links

    @all_links.setter
    def all_links(self, links: list[Any]) -> None:
        self.__dict__["all_links"] = Rows(links)

    @override
    def _stored(self) -> dict[str, list[Any]]:
        return {"": self.all_links}

    @override
    def print_roles(self) -> None:
        # pycasbin writes out every role before it asks whether anybody reads it.
        if not self.logger.disabled and self.logger.isEnabledFor(logging.INFO):
            super().print_roles()

    @override
    def add_link(self, name1: Any, name2: Any, *domain: Any) -> None:
        super().add_link(name1, name2, *domain)
        self._tell("add", name1, name2, "")

    @override
    def delete_link(self, name1: Any, name2: Any, *domain: Any) -> None:
        self._drop_doubles(name1, name2, "")
        link = plain.role_manager.Link(name1, name2)
        if self.matching_func is not None:
            super().delete_link(name1, name2, *domain)
        elif link in self.all_links:
            # pycasbin would ask every role whether its name matches, by no function.
            self.all_links.remove(link)
            self._get_role(name1).remove_role(self._get_role(name2))
        self._tell("remove", name1, name2, "")

    @override
    def add_matching_func(self, fn: Any) -> None:
        super().add_matching_func(fn)
        self._renew()

    @override
    def clear(self) -> None:
        super().clear()
        self._cleared()


class DomainManager(LinkedManager, plain.DomainManager):  # type: ignore[misc]
    """Roles within domains."""

    @override
    def _matching(self) -> Any:
        # pycasbin starts with a function that compares names, which is to have none.
        fn = self.matching_func
        return None if getattr(fn, "__module__", "") == plain.role_manager.__name__ else fn

    @override
    def _stored(self) -> dict[str, list[Any]]:
        return dict(self.all_links)

    @override
    def _get_links(self, *domain: Any) -> list[Any]:
        links = self.all_links.get(name := self._get_domain(*domain))
        if not isinstance(links, Rows):
            links = self.all_links[name] = Rows(links or ())
        return links

    @override
    def add_link(self, name1: Any, name2: Any, *domain: Any) -> None:
        super().add_link(name1, name2, *domain)
        self._tell("add", name1, name2, self._get_domain(*domain))

    @override
    def delete_link(self, name1: Any, name2: Any, *domain: Any) -> None:
        self._drop_doubles(name1, name2, self._get_domain(*domain))
        super().delete_link(name1, name2, *domain)
        self._tell("remove", name1, name2, self._get_domain(*domain))

    @override
    def add_matching_func(self, fn: Any) -> None:
        super().add_matching_func(fn)
        self._renew()

    @override
    def add_domain_matching_func(self, fn: Any = None) -> None:
        super().add_domain_matching_func(fn)
        self._renew()

    @override
    def clear(self) -> None:
        super().clear()
        self._cleared()


class _Conditions(LinkedManager):
    """Links that hold only while a function of theirs says so.

    Conditions outlive clear(): pycasbin forgets them on a reload, and every link then holds.
    """

    conditional = True

    @override
    def _add_conditions(self, links: Roles) -> None:
        for (user, role, domain), (fn, parameters) in self.known().items():
            if fn is not None:
                links.set_condition(user, role, domain, fn)
            links.set_parameters(user, role, domain, *parameters)

    def known(self) -> dict[tuple[Any, Any, str], tuple[Any, tuple[Any, ...]]]:
        known: dict[tuple[Any, Any, str], tuple[Any, tuple[Any, ...]]]
        known = self.__dict__.setdefault("_conditions", {})
        return known

    def _note_condition(self, user: Any, role: Any, domain: str, fn: Any) -> None:
        known = self.known()
        known[user, role, domain] = fn, known.get((user, role, domain), (None, ()))[1]
        self._renew()

    def _note_parameters(self, user: Any, role: Any, domain: str, given: tuple[Any, ...]) -> None:
        known = self.known()
        known[user, role, domain] = known.get((user, role, domain), (None, ()))[0], given
        self._tell("set", user, role, domain, *given)


class ConditionalRoleManager(_Conditions, RoleManager, plain.ConditionalRoleManager):  # type: ignore[misc]
    """Roles without domains, with conditions."""

    @override
    def add_domain_link_condition_func(
        self, user_name: Any, role_name: Any, domain: str, fn: Any
    ) -> None:
        super().add_domain_link_condition_func(user_name, role_name, domain, fn)
        self._note_condition(user_name, role_name, domain, fn)

    @override
    def set_domain_link_condition_func_params(
        self, user_name: Any, role_name: Any, domain: str, *params: Any
    ) -> None:
        super().set_domain_link_condition_func_params(user_name, role_name, domain, *params)
        self._note_parameters(user_name, role_name, domain, params)


class ConditionalDomainManager(_Conditions, DomainManager, plain.ConditionalDomainManager):  # type: ignore[misc]
    """Roles within domains, with conditions."""

    @override
    def _stored(self) -> dict[str, list[Any]]:
        return {domain: manager.all_links for domain, manager in self.rm_map.items()}

    @override
    def add_domain_link_condition_func(
        self, user_name: Any, role_name: Any, domain: str, fn: Any
    ) -> None:
        super().add_domain_link_condition_func(user_name, role_name, domain, fn)
        self._note_condition(user_name, role_name, domain, fn)

    @override
    def set_domain_link_condition_func_params(
        self, user_name: Any, role_name: Any, domain: str, *params: Any
    ) -> None:
        super().set_domain_link_condition_func_params(user_name, role_name, domain, *params)
        self._note_parameters(user_name, role_name, domain, params)


_LINKED = {
    plain.RoleManager: RoleManager,
    plain.DomainManager: DomainManager,
    plain.ConditionalRoleManager: ConditionalRoleManager,
    plain.ConditionalDomainManager: ConditionalDomainManager,
}


def linked(manager: Any) -> LinkedManager | None:
    """Make one of pycasbin's own managers keep its links for the engine, by changing its class.

    Returns:
        The manager; None for somebody's own kind, of which only pycasbin's interface is known.
    """
    if isinstance(manager, LinkedManager):
        return manager
    known = _LINKED.get(type(manager))
    if known is None:
        return None
    manager.__class__ = known
    made: LinkedManager = manager
    if isinstance(made, RoleManager):
        made.all_links = made.__dict__["all_links"]
    if isinstance(made, _Conditions):
        for user, role, domain, fn, parameters in _conditions_of(manager):
            made.known()[user, role, domain] = fn, parameters
    return made


def _conditions_of(manager: Any) -> list[tuple[Any, Any, str, Any, tuple[Any, ...]]]:
    """The conditions that a manager was told before it was watched."""
    users: list[tuple[Any, str | None]]
    if hasattr(manager, "all_roles"):
        users = [(user, None) for user in manager.all_roles.values()]
    else:
        # pycasbin notes a condition in every domain, and asks for it in its own.
        users = [
            (user, domain)
            for domain, each in manager.rm_map.items()
            for user in each.all_roles.values()
        ]
    found = []
    for user, own in users:
        functions, given = user.link_condition_func_map, user.link_condition_func_params_map
        for role, domain in {**functions, **given}:
            if own is None or domain == own:
                key = role, domain
                parameters = tuple(given.get(key, ()))
                found.append((user.name, role, domain, functions.get(key), parameters))
    return found
