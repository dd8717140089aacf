"""Each lint: its example is found, and what is right is not."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authz.attributes import reader
from authz.authoring.conditions import impossible
from authz.authoring.findings import Finding, Place, Severity, columns_of
from authz.authoring.lint import Lint, Options, every_lint, lint
from authz.authoring.sarif import sarif
from authz.policy.csv_rows import parse_csv
from authz.policy.evaluate import Scene, holds
from authz.policy.language import Language
from authz.policy.mesh import mesh_model
from authz.policy.model import parse_model
from authz.policy.options import EngineOptions
from authz.policy.rules import PolicyText
from ca import spiffe_id

DOCUMENTED = Options(
    engine=EngineOptions(attribute=reader),
    check_principal=lambda principal: spiffe_id.parse(f"spiffe://{principal}"),
)


def findings(lines: str, model: str = "", options: Options = DOCUMENTED) -> list[Finding]:
    """What lint says of a policy."""
    rows, faults = parse_csv(lines, "policy.csv")
    assert not faults
    name = "model.conf" if model else "mesh"
    return lint(PolicyText(model or mesh_model(), tuple(rows), name), options)


def ids(lines: str, model: str = "", options: Options = DOCUMENTED) -> list[tuple[str, int]]:
    """Id and line of each finding."""
    return [(each.id, each.place.line) for each in findings(lines, model, options)]


@pytest.mark.parametrize("each", every_lint(), ids=lambda each: each.id)
def test_the_example_of_a_lint_is_found_by_it(each: Lint) -> None:
    """What docs/lint.md shows is so."""
    engine = dataclasses.replace(each.options.engine, attribute=reader)
    options = dataclasses.replace(
        each.options, engine=engine, check_principal=DOCUMENTED.check_principal
    )
    assert each.id in {found.id for found in findings(each.example, each.model, options)}


def test_ids_are_unique_and_kebab_case() -> None:
    """They are written into CI files."""
    names = [each.id for each in every_lint()]
    assert len(set(names)) == len(names)
    assert all(name.replace("-", "").isalnum() and name == name.lower() for name in names)


def test_a_good_policy_has_no_findings() -> None:
    """Rules that overlap without covering, an exception by a deny, a role of roles."""
    assert (
        ids(
            "p, role:shop, orders, GET|HEAD, /orders/**, allow\n"
            "p, role:shop, orders, POST, /orders, allow\n"
            "p, role:all, orders, GET, /status, allow, request.headers['x-env'] == 'prod'\n"
            "p, td/ns/*/sa/job, orders, GET, /status, allow\n"
            "p, *, orders, *, /orders/archive/**, deny\n"
            "g, td/ns/shop/sa/web, role:shop\ng, role:shop, role:all\n"
        )
        == []
    )


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        # The later of two lines is the duplicate, in whatever words.
        ("p, *, a, GET, /{x}, allow\np, *, a, GET, /*, allow\n", [("duplicate-rule", 2)]),
        (
            "g, td/a, role:x\ng, td/a, role:x\np, role:x, a, GET, /, allow\n",
            [("duplicate-rule", 2)],
        ),
        # A role is covered by a pattern that has all of its members.
        (
            (
                "p, role:x, a, GET, /, allow\np, td/*, a, GET, /, allow\n"
                "g, td/a, role:x\ng, td/b, role:x\n"
            ),
            [("shadowed-rule", 1)],
        ),
        (
            (
                "p, role:x, a, GET, /, allow\np, td/*, a, GET, /, allow\n"
                "g, td/a, role:x\ng, other/b, role:x\n"
            ),
            [],
        ),
        # A wider deny makes an allow vain, a narrower one is an exception.
        ("p, *, a, GET, /x/y, allow\np, *, *, *, /x/**, deny\n", [("unreachable-rule", 1)]),
        ("p, *, a, GET, /x/**, allow\np, *, a, GET, /x/y, deny\n", []),
        # A deny with a condition covers what has the same one, and nothing else.
        (
            "p, *, a, GET, /, allow, source.ip == 'x'\np, *, a, GET, /, deny, source.ip  ==  'x'\n",
            [("contradictory-rules", 1)],
        ),
        ("p, *, a, GET, /, allow\np, *, a, GET, /, deny, source.ip == 'x'\n", []),
        # Paths that no request has.
        ("p, *, a, GET, /x?y=1, allow\n", [("unreachable-rule", 1)]),
        ("p, *, a, GET, /x/../y, allow\n", [("unreachable-rule", 1)]),
        ("p, *, a, GET, /%61, allow\n", [("unreachable-rule", 1)]),
        ("p, *, a, GET, /x;v=1/*, allow\n", [("unreachable-rule", 1)]),
        # A deny counts for paths as sent, too.
        ("p, *, a, GET, /x/../y, deny\n", []),
        # Callers that nobody can be.
        ("p, TD/ns/x, a, GET, /, allow\n", [("unreachable-rule", 1)]),
        ("p, user:ann, a, GET, /, allow\n", [("unreachable-rule", 1)]),
        (
            "p, role:x, a, GET, /, allow\ng, td/b d, role:x\ng, td/a, role:x\n",
            [("unreachable-rule", 2)],
        ),
        ("p, user:https://id.example/ann, a, GET, /, allow\n", []),
        # One circle is told once, however many links lead to it.
        (
            (
                "p, role:x, a, GET, /, allow\ng, td/a, role:x\ng, role:x, role:y\n"
                "g, role:y, role:x\ng, role:z, role:x\n"
            ),
            [("role-cycle", 4)],
        ),
        # A role that is given on to one that is asked for is used.
        ("p, role:y, a, GET, /, allow\ng, td/a, role:x\ng, role:x, role:y\n", []),
    ],
)
def test_findings_by_line(lines: str, expected: list[tuple[str, int]]) -> None:
    """What is found, and what is left alone."""
    assert ids(lines) == expected


def test_bound_fields_are_not_judged_by_the_built_in_ones() -> None:
    """A path bound to the raw path may well hold a query."""
    options = dataclasses.replace(DOCUMENTED, bind={"path": "request.raw_path"})
    assert ids("p, *, a, GET, /x?y=1, allow\n", "", options) == []


def test_nearest_names_are_told() -> None:
    """For roles, methods and trust domains."""
    options = dataclasses.replace(DOCUMENTED, trust_domains=frozenset({"shop.example"}))
    found = findings(
        "p, role:shpo, a, GTE, /, allow\np, shop.exmaple/a, a, GET, /, allow\n"
        "g, shop.example/b, role:shop\n",
        "",
        options,
    )
    fixes = {each.id: each.fix for each in found}
    assert fixes["undefined-role"] == "did you mean 'role:shop'?"
    assert fixes["unused-role"] == "did you mean 'role:shpo'?"
    assert fixes["unknown-method"] == "did you mean GET?"
    assert fixes["foreign-trust-domain"] == "did you mean 'shop.example'?"


def test_a_policy_with_faults_is_looked_at_all_the_same() -> None:
    """The faults are the engine's, the rest is lint's."""
    found = ids("p, *, a, GET, /, Allow\np, *, a, GTE, /, allow\n")
    assert found == [("invalid-policy", 1), ("unknown-method", 2)]
    assert ids("p, a\n", "[matchers]\nm = true\n") == [("invalid-policy", 0)] * 3


def test_ten_thousand_rules_of_one_service_are_no_trouble() -> None:
    """Rules that share all columns but one, whichever it is."""
    lines = [f"p, td/ns/n{at}/sa/web, a, GET, /x/*, allow\n" for at in range(1000)]
    lines += [f"p, td/ns/n/sa/web, a, GET, /x/y{at}/*, allow\n" for at in range(1000)]
    lines += [f"p, td/ns/n/sa/web, a{at}, GET, /x, allow\n" for at in range(1000)]
    lines += [f"p, *, a, GET, /z, allow, source.ip == '{at}'\n" for at in range(1000)]
    assert ids("".join(lines)) == []


TEXTS = ["'a'", "'b'", "'c'"]
SLOTS = ["one", "request.headers['x']"]
TERMS = st.one_of(
    st.tuples(st.sampled_from(SLOTS), st.sampled_from(["==", "!="]), st.sampled_from(TEXTS)).map(
        " ".join
    ),
    st.tuples(st.sampled_from(SLOTS), st.lists(st.sampled_from(TEXTS), max_size=2)).map(
        lambda pair: f"{pair[0]} in [{', '.join(pair[1])}]"
    ),
    st.sampled_from(["true", "false"]),
)
CONDITIONS = st.recursive(
    TERMS,
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=3).map(lambda each: "(" + " && ".join(each) + ")"),
        st.lists(inner, min_size=2, max_size=3).map(lambda each: "(" + " || ".join(each) + ")"),
        inner.map(lambda each: f"!({each})"),
    ),
    max_leaves=6,
)


@given(CONDITIONS, st.sampled_from("abcd"), st.sampled_from("abcd"))
@settings(max_examples=200, deadline=None)
def test_what_is_called_impossible_never_holds(text: str, one: str, header: str) -> None:
    """Whatever the attributes are."""
    language = Language(parse_model(mesh_model(), "mesh"), EngineOptions())
    node = language.when(text)
    assert node is not None
    if impossible(node):
        values = {"one": one, "request.headers": {"x": header}}
        from authz.policy.language import Terms  # noqa: PLC0415

        scene = Scene((), (), language.calls(Terms()), values, in_condition=True)
        assert not holds(node, scene)


@pytest.mark.parametrize(
    ("line", "field", "words"),
    [
        ("p, a, a, GET", 0, "a"),
        ("p, a, a, GET", 1, "a"),
        ('p, "x, y", z', 1, "z"),
        ("  p, a  ", 0, "a"),
        ("p, a, b", -1, "p, a, b"),
        ("p, ipMatch(a, b), c", 1, "c"),
        ("p, a", 7, "p, a"),
        ('p, "x', 0, 'p, "x'),
    ],
)
def test_a_caret_stands_under_what_is_meant(line: str, field: int, words: str) -> None:
    """Also where a word stands twice, in quotes, or can't be told."""
    start, end = columns_of(line, field)
    assert line[start - 1 : end - 1] == words


def test_sarif_names_each_finding_by_rule_and_line() -> None:
    """As code review reads it; a moved line keeps its fingerprint."""
    place = Place("policy.csv", 3, 4, 9)
    found = Finding("unused-role", Severity.WARNING, "no rule", "do", place, text="g, a, b")
    moved = dataclasses.replace(found, place=Place("policy.csv", 7))
    log = sarif([found, moved], every_lint(), "1.0", lambda file: f"policy/{file}")
    run = log["runs"][0]
    first, second = run["results"]
    rule = run["tool"]["driver"]["rules"][first["ruleIndex"]]
    assert (log["version"], rule["id"], first["level"]) == ("2.1.0", "unused-role", "warning")
    location = first["locations"][0]["physicalLocation"]
    assert location["artifactLocation"]["uri"] == "policy/policy.csv"
    assert location["region"] == {"startLine": 3, "startColumn": 4, "endColumn": 9}
    assert first["partialFingerprints"] == second["partialFingerprints"]
