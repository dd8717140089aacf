"""The casbin_rule table: what pycasbin wrote decides the same here, and the other way round."""

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path

import casbin
import pytest
from casbin_sqlalchemy_adapter import Adapter
from sqlalchemy import Engine, create_engine, make_url, text

from adapters.sql.casbin_rule import CasbinTableError, read_table, write_table
from authz.policy.csv_rows import parse_csv
from authz.policy.rules import PolicyText, Row
from authz.policy.snapshot import Snapshot
from deploy.demo.processes import free_ports
from tests.servers.postgresql import COMMAND, PACKAGE, Postgresql, postgresql

RBAC = """
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act, eft
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = g(r.sub, p.sub) && keyMatch(r.obj, p.obj) && regexMatch(r.act, p.act)
"""
ROWS = """\
p, admin, /*, (GET)|(POST), allow
p, alice, /data1, GET, allow
p, bob, /data2/*, POST, allow
p, carol, /data2/secret, .*, deny
g, alice, admin
g, carol, staff
g, staff, admin
"""
ASKED = list(
    product(
        ("alice", "bob", "carol", "staff", "eve"),
        ("/data1", "/data2/x", "/data2/secret"),
        ("GET", "POST", "DELETE"),
    )
)


@pytest.fixture(scope="module")
def server() -> Iterator[Postgresql]:
    """A real PostgreSQL, started when the first test asks for it."""
    with postgresql(free_ports(1)[0]) as running:
        yield running


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param(
            "postgresql", marks=pytest.mark.requires_debian_package(PACKAGE, command=COMMAND)
        ),
    ]
)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'casbin.db'}"
    running: Postgresql = request.getfixturevalue("server")
    run(running.url, "DROP TABLE IF EXISTS casbin_rule", "DROP VIEW IF EXISTS alive")
    return running.url


def connect(url: str) -> Engine:
    """An engine as pycasbin's users make it."""
    target = make_url(url)
    if target.drivername == "postgresql":
        target = target.set(drivername="postgresql+psycopg")
    return create_engine(target)


def run(url: str, *statements: str) -> None:
    """Do something to the database behind everybody's back."""
    engine = connect(url)
    with engine.begin() as connection:
        for each in statements:
            connection.execute(text(each))
    engine.dispose()


def rows() -> tuple[Row, ...]:
    """The policy that the tests carry about."""
    return tuple(parse_csv(ROWS, "policy.csv")[0])


def decided_here(found: Sequence[Row]) -> list[bool]:
    """What our engine says to every question."""
    snapshot = Snapshot.build(PolicyText(RBAC, tuple(found), "model.conf"))
    return [snapshot.decide(asked).allowed for asked in ASKED]


def enforcer(url: str) -> tuple[casbin.Enforcer, Callable[[], None]]:
    """Pycasbin over its own adapter, and what ends its connections."""
    model = casbin.Model()
    model.load_model_from_text(RBAC)
    engine = connect(url)
    return casbin.Enforcer(model, Adapter(engine)), engine.dispose


def decided_by_pycasbin(url: str) -> list[bool]:
    """What pycasbin says to every question, by what the table holds."""
    judge, close = enforcer(url)
    answers = [judge.enforce(*asked) for asked in ASKED]
    close()
    return answers


def test_pycasbin_decides_the_same_by_a_table_of_ours(url: str) -> None:
    """Through its own SQLAlchemy adapter."""
    write_table(url, rows())
    answers = decided_by_pycasbin(url)
    assert answers == decided_here(rows())
    assert 0 < sum(answers) < len(answers)


def test_we_decide_the_same_by_a_table_of_pycasbins(url: str) -> None:
    """Made, and changed, through its own adapter."""
    judge, close = enforcer(url)
    for row in rows():
        add = judge.add_named_policy if row.ptype == "p" else judge.add_named_grouping_policy
        add(row.ptype, *row.values)
    judge.remove_policy("bob", "/data2/*", "POST", "allow")
    judge.add_policy("eve", "/data1", "GET", "allow")
    close()
    found = read_table(url)
    assert decided_here(found) == decided_by_pycasbin(url)
    assert decided_here(found) != decided_here(rows())


def test_pycasbin_goes_on_writing_to_a_table_of_ours(url: str) -> None:
    """Ids that it gives don't clash with those that we gave."""
    write_table(url, rows())
    judge, close = enforcer(url)
    assert judge.add_policy("eve", "/data1", "GET", "allow")
    close()
    assert read_table(url)[-1].values == ("eve", "/data1", "GET", "allow")


def test_what_was_written_is_read_back(url: str) -> None:
    """In the same order, each row at its id; empty values stay."""
    wanted = (*rows(), Row("p", ("x", "", "y", "allow")), Row("p", ("x", "y", "z", "")))
    write_table(url, wanted)
    found = read_table(url)
    assert [(row.ptype, row.values) for row in found] == [(r.ptype, r.values) for r in wanted]
    assert [(row.file, row.line) for row in found[:2]] == [("casbin_rule", 1), ("casbin_rule", 2)]


def test_rows_that_are_there_are_only_replaced_if_asked(url: str) -> None:
    """Somebody else's policy is not to be lost by a slip."""
    write_table(url, rows())
    with pytest.raises(CasbinTableError, match="holds 7 rows already: --replace"):
        write_table(url, rows()[:1])
    assert len(read_table(url)) == 7
    write_table(url, rows()[:1], replace=True)
    assert len(read_table(url)) == 1


def test_rows_that_can_not_be_meant_are_all_told(url: str) -> None:
    """With their ids and why; NULLs, gaps, other types of rows."""
    write_table(url, rows()[:1])
    run(
        url,
        "INSERT INTO casbin_rule (ptype, v0, v2) VALUES ('p', 'alice', 'GET')",
        "INSERT INTO casbin_rule (ptype) VALUES ('p')",
        "INSERT INTO casbin_rule (v0, v1) VALUES ('a', 'b')",
        "INSERT INTO casbin_rule (ptype, v0) VALUES ('e', 'b')",
        "INSERT INTO casbin_rule (ptype, v0) VALUES ('p', 'a, b')",
        "INSERT INTO casbin_rule (ptype, v0) VALUES ('p', 'a)')",
    )
    with pytest.raises(CasbinTableError) as caught:
        read_table(url)
    told = str(caught.value).splitlines()
    assert told[:4] == [
        "casbin_rule:2: v1 is NULL, but v2 is not: Casbin would lose what stands behind",
        "casbin_rule:3: has no values",
        "casbin_rule:4: ptype is NULL; it starts with p or g",
        "casbin_rule:5: ptype is 'e'; it starts with p or g",
    ]
    assert [line.split(":")[1] for line in told[4:]] == ["6", "7"]
    assert "comma outside brackets" in told[4]


def test_many_bad_rows_are_counted(url: str) -> None:
    """A list that nobody reads to its end says less than its length."""
    write_table(url, [Row("p", ("a",))] * 30)
    run(url, "UPDATE casbin_rule SET v0 = NULL")
    with pytest.raises(CasbinTableError, match=r"\.\.\. and 10 more$"):
        read_table(url)


def test_a_table_with_other_columns_is_none_of_casbins(url: str) -> None:
    """It says which there are and which there should be."""
    run(url, "CREATE TABLE casbin_rule (id INTEGER, ptype TEXT, v0 TEXT, v1 TEXT, v2 TEXT)")
    with pytest.raises(CasbinTableError, match="no column v3, v4, v5; a table of Casbin's has id"):
        read_table(url)
    with pytest.raises(CasbinTableError, match="no column v3, v4, v5"):
        write_table(url, rows())


def test_rows_marked_as_deleted_do_not_come_alive(url: str) -> None:
    """The adapter leaves them out by a column of its user's; a view does so for us."""
    write_table(url, rows())
    run(url, "ALTER TABLE casbin_rule ADD COLUMN gone BOOLEAN DEFAULT FALSE")
    with pytest.raises(CasbinTableError, match="column 'gone'"):
        read_table(url)
    run(
        url,
        "CREATE VIEW alive AS SELECT id, ptype, v0, v1, v2, v3, v4, v5 FROM casbin_rule "
        "WHERE v0 != 'bob'",
    )
    found = read_table(url, "alive")
    run(url, "DROP VIEW alive")
    assert len(found) == 6


def test_a_seventh_value_is_refused_both_ways(url: str) -> None:
    """Casbin's adapter would not see it."""
    with pytest.raises(CasbinTableError, match="has 7 values; v0 to v5 hold 6"):
        write_table(url, [Row("p", tuple("abcdefg"), "policy.csv", 3)])
    write_table(url, [Row("p", tuple("abcdef"))])
    run(url, "ALTER TABLE casbin_rule ADD COLUMN v6 TEXT")
    assert len(read_table(url)) == 1
    run(url, "UPDATE casbin_rule SET v6 = 'g'")
    with pytest.raises(CasbinTableError, match="v6 is in use"):
        read_table(url)


def test_what_pycasbin_would_read_otherwise_is_not_written(url: str) -> None:
    """It joins a row to a line and splits that again."""
    torn = Row("p", ("a", "b, c"), "policy.csv", 3)
    with pytest.raises(CasbinTableError, match=r"policy\.csv:3: has a comma outside brackets"):
        write_table(url, [torn])
    write_table(url, [Row("p", ("f(a, b)", "[c, d]"))])
    assert read_table(url)[0].values == ("f(a, b)", "[c, d]")


def test_values_too_long_for_a_table_are_told_by_their_row(url: str) -> None:
    """A table that we make has room for them."""
    long = Row("p", ("x" * 300,), "policy.csv", 4)
    write_table(url, [long])
    assert read_table(url)[0].values == long.values
    run(url, "DROP TABLE casbin_rule")
    write_table(url, rows()[:1])
    with pytest.raises(CasbinTableError, match=r"policy\.csv:4: has 300 characters for v0"):
        write_table(url, [long], replace=True)
    assert len(read_table(url)) == 1


def test_no_such_table_names_the_nearest(url: str) -> None:
    """A slip in --table is the likeliest cause."""
    write_table(url, rows())
    with pytest.raises(CasbinTableError, match="nearest is 'casbin_rule'"):
        read_table(url, "casbin_rules")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("rules.db", "write the database as SQLAlchemy does"),
        ("nonesuch://x/y", "knows no database 'nonesuch'"),
        ("sqlite:///nowhere/rules.db", "nowhere/rules.db: no such file"),
        ("oracle://ann:secret@127.0.0.1/x", "which isn't installed"),
        ("postgresql://ann:secret@127.0.0.1:1/x", "refused"),
    ],
)
def test_a_database_that_can_not_be_read_is_told_without_its_password(url: str, said: str) -> None:
    """In one clear sentence."""
    with pytest.raises(CasbinTableError, match=said) as caught:
        read_table(url)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_told_so(tmp_path: Path) -> None:
    """Not by a traceback."""
    (tmp_path / "rules.db").write_text("p, alice, data, read\n" * 100)
    with pytest.raises(CasbinTableError, match="not a database"):
        read_table(f"sqlite:///{tmp_path / 'rules.db'}")
