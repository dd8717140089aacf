"""A policy as a folder: what is read there says what was written, or there is no folder."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.policies.folder import Config, FolderSource
from authz.authoring.edits import EditError
from authz.policy.mesh import mesh_model
from authz.policy.rules import PolicyText, Row
from meshwarden.authoring.folder_export import write_folder

_RULE = ("*", "orders", "GET", "/a", "allow")
_DENY = ("*", "orders", "GET", "/a/b", "deny")


def _said(folder: Path) -> set[tuple[str, ...]]:
    return {(row.ptype, *row.values) for row in FolderSource(Config(folder)).load().rows}


@pytest.mark.parametrize(
    "file",
    [
        "../out.csv",
        "/tmp/out.csv",
        "a/../../out.csv",
        ".hidden.csv",
        ".git/hooks/x.csv",
        "old~/x.csv",
        "tests/x.csv",
        "x\x1b[2J.csv",
        "x\n.csv",
        "x\0.csv",
        "x" * 300 + ".csv",
        "model.conf",
        "rules.yaml",
        "..",
        ".",
        "",
        "other.csv/inner.csv",
    ],
)
def test_no_file_name_of_a_revision_loses_a_rule_or_leads_out(file: str, tmp_path: Path) -> None:
    """Whatever somebody's client sent: a deny that a reader passes over would be an allow."""
    rows = (Row("p", _RULE, "other.csv", 1), Row("p", _DENY, file, 1))
    inner = tmp_path / "in"
    write_folder(inner / "out", PolicyText(mesh_model(), rows))
    assert _said(inner / "out") == {("p", *_RULE), ("p", *_DENY)}
    assert [each.name for each in tmp_path.iterdir()] == ["in"]
    assert [each.name for each in inner.iterdir()] == ["out"]


def test_rows_of_a_model_in_which_order_counts_keep_their_order(tmp_path: Path) -> None:
    """As by the API: the last row came after those of a file whose name comes later."""
    rows = (Row("p", ("a", "x"), "z.csv", 1), Row("p", ("b", "x"), "", 0))
    write_folder(tmp_path / "out", PolicyText("[request_definition]\nr = a\n", rows, "model.conf"))
    found = FolderSource(Config(tmp_path / "out")).load()
    assert [row.values for row in found.rows] == [("a", "x"), ("b", "x")]


@pytest.mark.parametrize("value", ["a\nb", "a\rb", " a", "a "])
def test_a_row_that_no_line_can_hold_leaves_no_folder(value: str, tmp_path: Path) -> None:
    """A line end within a value would be another rule."""
    rows = (Row("p", _RULE, "a.csv", 1), Row("p", (value, "orders", "GET", "/", "allow")))
    with pytest.raises(EditError, match="no line of policy can hold"):
        write_folder(tmp_path / "out", PolicyText(mesh_model(), rows))
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_already_stays(tmp_path: Path) -> None:
    """An empty folder too: somebody else may be about to fill it."""
    (tmp_path / "out").mkdir()
    with pytest.raises(FileExistsError):
        write_folder(tmp_path / "out", PolicyText(mesh_model(), (Row("p", _RULE),)))
    assert list((tmp_path / "out").iterdir()) == []


_FILES = st.sampled_from(["", "a.csv", "b.csv", ".b.csv", "a.csv/b.csv", "s/a.csv", "s.csv"]) | (
    st.text("ab./~#\n\x00é", max_size=6).map(lambda name: name + ".csv")
)


@given(st.lists(st.tuples(_FILES, st.text("ab,\"' #=", max_size=5).map(str.strip)), max_size=5))
@settings(max_examples=60, deadline=None)
def test_any_names_and_values_come_back(rows: list[tuple[str, str]]) -> None:
    """In their order, by a model of one's own."""
    import tempfile  # noqa: PLC0415 - pytest's own folder is one for all examples

    written = tuple(Row("p", (value, "end"), file, 1) for file, value in rows)
    with tempfile.TemporaryDirectory() as held:
        folder = Path(held) / "out"
        write_folder(folder, PolicyText("[request_definition]\nr = a\n", written, "model.conf"))
        found = FolderSource(Config(folder)).load()
        assert [row.values for row in found.rows] == [row.values for row in written]
