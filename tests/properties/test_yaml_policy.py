"""A policy in YAML decides as the same policy in CSV does, whichever files hold its rules."""

import tempfile
from pathlib import Path
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.policies.folder import Config, FolderSource
from authz.attributes import MESH_BINDING, Attributes, Binding, reader
from authz.check import ActivePolicy
from authz.policy.errors import PolicyError
from authz.policy.snapshot import EngineOptions, Snapshot
from meshwarden.cli.asking import Asked, request_from_flags

PEOPLE = ("td/ns/a/sa/b", "td/ns/a/sa/c", "user:https://issuer/me")
ROLES = ("role:x", "role:y")
SERVICES = ("orders", "pay.ments", "or*")
PATHS = ("/a", "/a/*", "/a/**", "/**", "/a/*/c")
CONDITIONS = ("", 'request.headers["x-env"] == "prod"', 'request.method in ("GET", "PUT")')


class Allowance(NamedTuple):
    """A rule with lists, as YAML has it."""

    effect: str
    who: list[str]
    service: list[str]
    methods: list[str]
    path: list[str]
    when: str

    @property
    def yaml(self) -> str:
        """It in YAML."""
        lines = [f"  - {self.effect}:"]
        for name in ("who", "service", "methods", "path"):
            items = [f"'{item}'" for item in getattr(self, name)]
            written = items[0] if len(items) == 1 else f"[{', '.join(items)}]"
            lines.append(f"      {name}: {written}")
        lines += [f"      when: '{self.when}'"] * bool(self.when)
        return "\n".join(lines)

    @property
    def csv(self) -> str:
        """It in CSV, a line for each combination."""
        methods = "|".join(self.methods)
        when = [f'"{self.when.replace(chr(34), chr(34) * 2)}"'] * bool(self.when)
        return "\n".join(
            ", ".join(("p", who, service, methods, path, self.effect, *when))
            for who in self.who
            for service in self.service
            for path in self.path
        )


def some(values: tuple[str, ...], most: int = 3) -> st.SearchStrategy[list[str]]:
    """One to a few of some values."""
    return st.lists(st.sampled_from(values), min_size=1, max_size=most, unique=True)


ALLOWANCES = st.lists(
    st.builds(
        Allowance,
        st.sampled_from(("allow", "deny")),
        some((*PEOPLE, *ROLES, "*")),
        some((*SERVICES, "*")),
        st.one_of(some(("GET", "HEAD", "DELETE")), st.just(["*"])),
        some(PATHS),
        st.sampled_from(CONDITIONS),
    ),
    min_size=1,
    max_size=6,
)
MEMBERS = st.fixed_dictionaries({"role:x": some(PEOPLE), "role:y": some((*PEOPLE, "role:x"))})
REQUESTS = st.lists(
    st.tuples(
        st.sampled_from(PEOPLE),
        st.sampled_from(("orders", "pay.ments", "payxments", "other")),
        st.sampled_from(("GET", "DELETE", "PATCH")),
        st.sampled_from(("/", "/a", "/a/b", "/a/b/c", "/ab")),
        st.sampled_from(("prod", "test")),
    ),
    min_size=1,
    max_size=8,
)


def built(name: str, text: str) -> tuple[ActivePolicy | None, list[str]]:
    """Build what a folder with one file holds, or tell its faults without their lines."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_text(text)
        found = FolderSource(Config(Path(folder))).load()
    try:
        snapshot = Snapshot.build(found, None, EngineOptions(attribute=reader))
    except PolicyError as error:
        return None, sorted(fault.message for fault in error.faults)
    return ActivePolicy(snapshot, Binding(snapshot.request_fields, MESH_BINDING)), []


def verdict(policy: ActivePolicy, asked: Asked) -> tuple[bool, tuple[str, ...]]:
    """Whether a sidecar's request may pass, and the words of the rule that says so."""
    attributes = Attributes(request_from_flags(asked), 0)
    decision = policy.snapshot.decide(policy.binding.request(attributes))
    return decision.allowed, decision.rule.values if decision.rule else ()


@given(ALLOWANCES, MEMBERS, REQUESTS)
@settings(deadline=None)
def test_yaml_and_csv_decide_alike(
    allowances: list[Allowance],
    members: dict[str, list[str]],
    requests: list[tuple[str, str, str, str, str]],
) -> None:
    """The very same digest, the same faults if any, and the same verdict and rule."""
    yaml = "rules:\n" + "\n".join(each.yaml for each in allowances) + "\nroles:\n"
    yaml += "\n".join(
        f"  {role.removeprefix('role:')}: [{', '.join(map(repr, names))}]"
        for role, names in members.items()
    )
    csv = "\n".join(each.csv for each in allowances) + "\n"
    csv += "\n".join(f"g, {name}, {role}" for role, names in members.items() for name in names)
    expected, wrong = built("policy.csv", csv)
    made, found = built("policy.yaml", yaml)
    assert found == wrong
    if made is None or expected is None:
        return
    assert made.snapshot.digest == expected.snapshot.digest
    for caller, service, method, path, env in requests:
        who = {"user": caller[5:]} if caller.startswith("user:") else {"principal": caller}
        asked = Asked(service=service, method=method, path=path, headers={"x-env": env}, **who)
        assert verdict(made, asked) == verdict(expected, asked)
