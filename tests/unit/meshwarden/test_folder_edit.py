"""A policy folder edited line by line: what wasn't meant stays as it was."""

import stat
from pathlib import Path

import pytest

from adapters.policies.folder import Config, FolderSource
from authz.authoring.edits import EditError, Pick, add, remove
from authz.policy.rules import PolicyText, Row
from meshwarden.authoring.folder_edit import file_for, write_edit

RULES = """\
# Who may see orders.
p, role:web, orders, GET, /orders/*, allow

# And who may not.
p, *, orders, DELETE, /**, deny
"""
NEW = Row("p", ("role:web", "orders", "PUT", "/orders/*", "allow"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A policy of two files."""
    (tmp_path / "policy.csv").write_text(RULES)
    (tmp_path / "roles.csv").write_text("g, td/ns/a/sa/b, role:web\n")
    return tmp_path


def read(folder: Path) -> PolicyText:
    """The folder as the service reads it."""
    return FolderSource(Config(folder)).load()


def test_a_new_rule_goes_behind_the_others(folder: Path) -> None:
    """Comments and order are kept."""
    assert write_edit(folder, add(read(folder), NEW), "policy.csv") == ["policy.csv"]
    added = "p, role:web, orders, PUT, /orders/*, allow\n"
    assert (folder / "policy.csv").read_text() == RULES + added


def test_a_removed_rule_leaves_its_comments(folder: Path) -> None:
    """Only its own line goes."""
    edit = remove(read(folder), Pick("p", {"method": "GET"}))
    write_edit(folder, edit, "policy.csv")
    kept = RULES.replace("p, role:web, orders, GET, /orders/*, allow\n", "")
    assert (folder / "policy.csv").read_text() == kept


def test_line_ends_and_byte_order_mark_stay_as_they_were(folder: Path) -> None:
    """Also where the last line has no end."""
    (folder / "policy.csv").write_bytes(b"\xef\xbb\xbfp, a/b, x, GET, /, allow\r\n# end")
    write_edit(folder, add(read(folder), NEW), "policy.csv")
    assert (folder / "policy.csv").read_bytes() == (
        b"\xef\xbb\xbfp, a/b, x, GET, /, allow\r\n# end\r\n"
        b"p, role:web, orders, PUT, /orders/*, allow\r\n"
    )
    write_edit(folder, remove(read(folder), Pick("p", {"service": "x"})), "policy.csv")
    assert (folder / "policy.csv").read_bytes().startswith(b"\xef\xbb\xbf# end\r\n")


def test_mode_and_link_of_a_file_stay(folder: Path) -> None:
    """A deployment's link is written through."""
    (folder / "policy.csv").rename(folder / "real.csv")
    (folder / "roles.csv").unlink()
    real = folder / "sub" / "real.csv"
    real.parent.mkdir()
    (folder / "real.csv").rename(real)
    real.chmod(0o640)
    (folder / "policy.csv").symlink_to("sub/real.csv")
    write_edit(folder, add(PolicyText("", ()), NEW), "policy.csv")
    assert (folder / "policy.csv").is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert "PUT" in real.read_text()


def test_a_file_that_was_changed_meanwhile_is_left_alone(folder: Path) -> None:
    """The line that was meant may be another one now."""
    edit = remove(read(folder), Pick("p", {"method": "GET"}))
    (folder / "policy.csv").write_text("# new first line\n" + RULES)
    with pytest.raises(EditError, match=r"policy\.csv:2 was changed meanwhile"):
        write_edit(folder, edit, "policy.csv")
    assert (folder / "policy.csv").read_text() == "# new first line\n" + RULES


def test_a_row_of_another_kind_of_file_is_named_and_nothing_written(folder: Path) -> None:
    """Only CSV is edited."""
    row = Row("p", ("a",), "rules.yaml", 3)
    with pytest.raises(EditError, match=r"rules\.yaml:3"):
        write_edit(folder, remove(PolicyText(_MODEL, (row,)), Pick("p", {"x": "a"})), "")


def test_no_file_outside_of_the_folder_is_written(folder: Path) -> None:
    """However its name is written."""
    for name in ("../other.csv", "/tmp/other.csv", "notes.md"):
        with pytest.raises(EditError, match=r"no \*\.csv in the folder"):
            write_edit(folder, add(read(folder), NEW), name)


def test_a_new_row_fits_in_best_where_the_like_stand(folder: Path) -> None:
    """Rules with rules of the same service, roles with roles; policy.csv where there are none."""
    (folder / "web.csv").write_text("p, role:web, pages, GET, /, allow\n")
    text = read(folder)
    assert file_for(text, NEW) == "policy.csv"
    assert file_for(text, Row("p", ("x/y", "pages", "GET", "/", "allow"))) == "web.csv"
    assert file_for(text, Row("g", ("x/y", "role:web"))) == "roles.csv"
    assert file_for(PolicyText("", ()), NEW) == "policy.csv"


_MODEL = """
[request_definition]
r = x
[policy_definition]
p = x
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = r.x == p.x
"""
