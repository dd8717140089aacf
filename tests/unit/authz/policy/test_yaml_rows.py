"""Policy YAML: the rows it means, and what is said of each fault, by line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.policy import yaml_rows
from authz.policy.csv_rows import parse_csv
from authz.policy.errors import Fault
from authz.policy.rules import Row
from authz.policy.yaml_rows import parse_yaml

WHOLE = """\
# who may do what
rules:
  - allow:
      who: role:web
      service: orders
      methods: [GET, HEAD]
      path:
        - /orders
        - /orders/*
      when: request.headers["x-env"] == "prod"
  - deny: {who: "*", service: 8080, methods: "*", path: /admin/**}
roles:
  web:
    - td/ns/a/sa/b
    - role:other
  role:other: user:https://issuer/me
"""


def rows(text: str) -> list[Row]:
    """Read a text without a fault."""
    found, faults = parse_yaml(text, "x.yaml")
    assert faults == []
    return found


def faults(text: str) -> list[tuple[int, str]]:
    """Give line and message of each fault."""
    return [(fault.line, fault.message) for fault in parse_yaml(text, "x.yaml")[1]]


def test_a_file_means_the_rows_that_the_csv_would_have() -> None:
    """A list makes one rule for each of its items, on the item's line."""
    when = 'request.headers["x-env"] == "prod"'
    assert rows(WHOLE) == [
        Row("p", ("role:web", "orders", "GET|HEAD", "/orders", "allow", when), "x.yaml", 8),
        Row("p", ("role:web", "orders", "GET|HEAD", "/orders/*", "allow", when), "x.yaml", 9),
        Row("p", ("*", "8080", "*", "/admin/**", "deny"), "x.yaml", 11),
        Row("g", ("td/ns/a/sa/b", "role:web"), "x.yaml", 14),
        Row("g", ("role:other", "role:web"), "x.yaml", 15),
        Row("g", ("user:https://issuer/me", "role:other"), "x.yaml", 16),
    ]


def test_lists_multiply() -> None:
    """Each caller may do each thing."""
    text = "rules: [allow: {who: [a, b], service: [s, t], methods: GET, path: /}]"
    assert [row.values[:2] for row in rows(text)] == [
        ("a", "s"), ("a", "t"), ("b", "s"), ("b", "t"),
    ]  # fmt: skip


@pytest.mark.parametrize("word", ["yes", "on", "1e3", "0x10", "2026-01-01", "007"])
def test_every_value_is_its_text(word: str) -> None:
    """YAML would make truths, numbers and dates of these."""
    text = f"rules: [allow: {{who: {word}, service: s, methods: GET, path: /}}]"
    assert rows(text)[0].values[0] == word


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "rules:\nroles:\n", "{}"])
def test_an_empty_file_is_a_policy_without_rules(text: str) -> None:
    """As an empty CSV is."""
    assert rows(text) == []


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("rules:\n  - alow: {}\n", 2, "'alow' is no key of a rule; the nearest is 'allow'"),
        ("rules: []\nrules: []\n", 2, "'rules' stands twice"),
        ("apiVersion: v1\n", 1, "'apiVersion' is no key of a policy file; there are: rules, roles"),
        ("rules:\n  - allow: 3\n", 2, "a rule's body is a mapping"),
        ("rules:\n  - allow: {}\n    deny: {}\n", 3, "a rule allows or denies"),
        ("rules: {}\n", 1, "'rules' is a list"),
        ("roles: [a]\n", 1, "'roles' is a mapping of names"),
        ("roles:\n  web:\n", 2, "role 'web' has no members"),
        ("roles:\n  web: []\n", 2, "'web' is an empty list"),
        ("roles:\n  web:\n    - [a]\n", 3, "'web' is one text, or a list of them"),
        ("[1]\n", 1, "a policy file is a mapping with rules, roles"),
        ("rules: []\n---\nrules: []\n", 3, "a second document begins"),
        ("? [a]\n: b\n", 1, "a key is one text"),
        ("rules: !!python/name:os.system x\n", 1, "the tag "),
        ("[" * 100_000, 1, "is nested more than 16 deep"),
        ("roles:\n\t- a\n", 2, "is not YAML: "),
        ("roles:\n  a: b: c\n", 2, "is not YAML: mapping values are not allowed"),
        ("a:\n  - \x01\n", 2, "is not YAML: "),
    ],
)
def test_what_is_wrong_is_told_by_line(text: str, line: int, said: str) -> None:
    """And what would be right."""
    found = faults(text)
    assert found[0][0] == line
    assert found[0][1].startswith(said), found


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("service: s, methods: GET, path: /", "'who' is missing; to mean every one, write who:"),
        ("who: , service: s, methods: GET, path: /", "'who' is empty"),
        ("who: ~, service: s, methods: GET, path: /", "'who' is empty"),
        ("who: [], service: s, methods: GET, path: /", "'who' is an empty list"),
        ("who: a, service: s, methods: GET, path: [[/]]", "'path' is one text, or a list"),
        ("who: a, service: s, methods: GET, path: /, when: [x]", "'when' is one text"),
        ("who: a, service: s, method: GET, path: /", "'method' is no key of a rule's body"),
        ("who: *, service: s, methods: GET, path: /", "is not YAML: while scanning an alias"),
        ("who: *web, service: s, methods: GET, path: /", "'*web' stands for nothing here"),
        ('who: "a\\nb", service: s, methods: GET, path: /', "'who' holds a line break"),
    ],
)
def test_a_rule_says_all_of_what_it_means(rule: str, said: str) -> None:
    """What is left out is never everything, and nothing is taken for something else."""
    text = f"rules:\n  - allow: {{{rule}}}\n"
    assert any(line == 2 and message.startswith(said) for line, message in faults(text))
    assert parse_yaml(text, "x.yaml")[0] == []


def test_a_star_without_quotes_is_explained() -> None:
    """Everybody writes one once."""
    (told,) = faults("rules:\n  - allow:\n      who: *\n      path: /\n")
    assert told[0] == 3
    assert told[1].endswith('a * of its own needs quotes: "*"')


def test_a_file_of_countless_values_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two bytes of text are a hundred of memory."""
    monkeypatch.setattr(yaml_rows, "_VALUES", 1000)
    assert faults("roles:\n  a: [" + "b," * 2000 + "]\n") == [
        (2, "holds more than 1000 values by here; split it")
    ]


def test_every_fault_of_a_file_is_told() -> None:
    """One visit of the author mends all."""
    text = "rules:\n  - allow: {who: a}\n  - alow: {}\nrols: {}\n"
    assert [line for line, _ in faults(text)] == [4, 2, 2, 2, 3]


def test_aliases_may_repeat_but_not_explode() -> None:
    """A list of callers may be named once; a million rules of a few lines may not be made."""
    few = "rules:\n  - allow: {who: &team [a, b], service: s, methods: GET, path: /}\n"
    text = few + "  - allow: {who: *team, service: t, methods: GET, path: /}\n"
    assert [row.values[:2] for row in rows(text)] == [
        ("a", "s"), ("b", "s"), ("a", "t"), ("b", "t"),
    ]  # fmt: skip
    many = f"[{', '.join(f'a{number}' for number in range(1001))}]"
    text = f"rules:\n  - allow: {{who: &m {many}, service: s, methods: GET, path: *m}}\n"
    assert faults(text) == [(2, "with this rule the file has more than 1000000 rules")]


@given(st.text(max_size=200))
def test_any_text_is_read_or_told(text: str) -> None:
    """Accepted, or our faults, and nothing else."""
    for fault in parse_yaml(text, "x.yaml")[1]:
        assert isinstance(fault, Fault)
        assert fault.file == "x.yaml"


# Of what YAML and CSV write alike once quoted; CSV trims, and so does YAML here.
WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cn", "Cs", "Zl", "Zp")),
    min_size=1,
    max_size=9,
).map(str.strip).filter(bool)  # fmt: skip


@given(
    st.lists(st.tuples(WORDS, WORDS, WORDS, WORDS, st.sampled_from(("allow", "deny"))), max_size=5)
)
def test_quoted_values_are_what_quoted_csv_is(rules: list[tuple[str, ...]]) -> None:
    """Whatever they hold: commas, colons, stars, quotes, hashes."""

    def yaml(word: str) -> str:
        return "'" + word.replace("'", "''") + "'"

    def csv(word: str) -> str:
        return '"' + word.replace('"', '""') + '"'

    fields = ("who", "service", "methods", "path")
    lines = ["rules:"]
    for rule in rules:
        pairs = zip(fields, rule, strict=False)
        body = ", ".join(f"{name}: {yaml(word)}" for name, word in pairs)
        lines.append(f"- {rule[4]}: {{{body}}}")
    text = "\n".join(f"p, {', '.join(map(csv, rule))}" for rule in rules)
    expected, wrong = parse_csv(text, "x.csv")
    assert wrong == []
    assert [row.values for row in rows("\n".join(lines))] == [row.values for row in expected]
