"""A policy folder is read whole or not at all."""

import os
from pathlib import Path

import pytest

from adapters.policies.folder import Config, FolderSource, fingerprint
from authz.policy.errors import PolicyError
from authz.policy.files import MAX_BYTES
from authz.policy.rules import PolicyText

RULE = "p, *, *, GET, /, allow\n"


def load(path: Path) -> PolicyText:
    """Read a folder."""
    return FolderSource(Config(path)).load()


def faults(path: Path) -> list[str]:
    """Give the lines of a load that must fail."""
    with pytest.raises(PolicyError) as caught:
        load(path)
    return str(caught.value).splitlines()


def test_rows_come_in_the_order_of_names_with_file_and_line(tmp_path: Path) -> None:
    """A folder's own files first, then those of its subfolders."""
    (tmp_path / "b.csv").write_text("# roles\n\ng, user:a/b, role:x\n")
    (tmp_path / "a.csv").write_text(RULE)
    (tmp_path / "0team").mkdir()
    (tmp_path / "0team" / "c.csv").write_text(RULE)
    text = load(tmp_path)
    assert [(row.ptype, row.file, row.line) for row in text.rows] == [
        ("p", "a.csv", 1),
        ("g", "b.csv", 3),
        ("p", "0team/c.csv", 1),
    ]


def test_a_model_of_ones_own_is_used_else_the_mesh_model(tmp_path: Path) -> None:
    """Messages name it by its file, or "mesh"."""
    (tmp_path / "a.csv").write_text(RULE)
    assert load(tmp_path).model_file == "mesh"
    assert "[policy_definition]" in load(tmp_path).model
    (tmp_path / "model.conf").write_text("[request_definition]\n")
    text = load(tmp_path)
    assert (text.model, text.model_file) == ("[request_definition]\n", "model.conf")


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    """Across files and kinds of faults."""
    (tmp_path / "a.csv").write_text(RULE + 'p, "open\n')
    (tmp_path / "b.csv").write_bytes(b"p, ok\np, caf\xe9\n")
    (tmp_path / "c.cvs").write_text(RULE)
    (tmp_path / "gone.csv").symlink_to(tmp_path / "nowhere")
    found = faults(tmp_path)
    assert [line.split(": ")[0] for line in found] == ["a.csv:2", "b.csv:2", "c.cvs", "gone.csv"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"p, caf\xe9\n", "policy.csv:1: is not UTF-8: byte 0xe9 at offset 6"),
        (b"\xef\xbb\xbfp\ncaf\xe9\n", "policy.csv:2: is not UTF-8: byte 0xe9 at offset 8"),
        ("p, ä\n".encode("utf-16"), "policy.csv:1: is not UTF-8: byte 0xff at offset 0"),
        (b"p\n\nx\0y", "policy.csv:3: is not text: a NUL byte at offset 4"),
    ],
)
def test_another_encoding_is_refused_with_its_place(
    tmp_path: Path, content: bytes, said: str
) -> None:
    """Never guessed, never replaced: a rule would read as another one."""
    (tmp_path / "policy.csv").write_bytes(content)
    assert faults(tmp_path) == [said]


def test_a_byte_order_mark_is_no_part_of_the_first_rule(tmp_path: Path) -> None:
    """Some editors put one there."""
    (tmp_path / "policy.csv").write_bytes(b"\xef\xbb\xbf" + RULE.encode())
    assert load(tmp_path).rows[0].ptype == "p"


@pytest.mark.parametrize("name", ["rules.cvs", "RULES.CSV", "rules.tsv", "mesh.conf"])
def test_what_looks_like_policy_but_is_not_read_is_a_fault(tmp_path: Path, name: str) -> None:
    """A file that silently does nothing would be missed when it is too late."""
    (tmp_path / "policy.csv").write_text(RULE)
    (tmp_path / name).write_text(RULE)
    (line,) = faults(tmp_path)
    assert line.startswith(f"{name}: is not read")


@pytest.mark.parametrize(
    "name", [".git.csv", "README.md", "policy.csv~", "#policy.csv#", "Makefile"]
)
def test_what_nobody_means_as_policy_is_left_alone(tmp_path: Path, name: str) -> None:
    """Hidden files, Markdown, backups, and what a repository holds besides."""
    (tmp_path / "policy.csv").write_text(RULE)
    (tmp_path / name).write_text("p, broken")
    assert len(load(tmp_path).rows) == 1


def test_an_empty_folder_is_a_fault_an_empty_policy_is_not(tmp_path: Path) -> None:
    """A volume that wasn't mounted must not deny everything; an author may."""
    assert "holds no *.csv" in faults(tmp_path)[0]
    (tmp_path / "policy.csv").touch()
    assert load(tmp_path).rows == ()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With the reason of the system."""
    (line,) = faults(tmp_path / "no")
    assert line == f"{tmp_path}/no: can't be read: No such file or directory"


@pytest.mark.parametrize("name", [b"\xff.csv", b"\x1b[2J.csv", b"a\nb.csv", "\u202ea.csv".encode()])
def test_a_name_that_no_reader_would_see_as_it_is_is_a_fault(name: bytes, tmp_path: Path) -> None:
    """It stands before every message about its lines, and in the history."""
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_text("p, *, a, GET, /, allow\n")
    with pytest.raises(PolicyError, match="can't be printed"):
        FolderSource(Config(tmp_path)).load()


def test_links_may_not_leave_the_folder(tmp_path: Path) -> None:
    """Neither a file nor a folder, and none may go around in a circle."""
    policy = tmp_path / "policy"
    policy.mkdir()
    (tmp_path / "secret.csv").write_text(RULE)
    (policy / "out.csv").symlink_to(tmp_path / "secret.csv")
    (policy / "self.csv").symlink_to(policy / "self.csv")
    (policy / "up").symlink_to(tmp_path)
    found = faults(policy)
    assert found[0] == "out.csv: is a link out of the policy folder"
    assert found[1].startswith("self.csv: ")
    assert found[2] == "up: is a link to a folder; only folders are entered"


def test_a_mounted_config_map_is_read(tmp_path: Path) -> None:
    """Kubernetes swaps a hidden link and lets every file be a link through it."""
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "policy.csv").write_text(RULE)
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "policy.csv").symlink_to("..data/policy.csv")
    assert [row.file for row in load(tmp_path).rows] == ["policy.csv"]


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    """A deployment tool swaps "current"."""
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "policy.csv").write_text(RULE)
    (tmp_path / "current").symlink_to("v1")
    assert len(load(tmp_path / "current").rows) == 1


def test_a_pipe_does_not_hold_the_load(tmp_path: Path) -> None:
    """Reading one would wait for ever for its writer."""
    os.mkfifo(tmp_path / "policy.csv")
    assert faults(tmp_path) == ["policy.csv: is no regular file"]


def test_files_beyond_the_limit_are_refused_unread(tmp_path: Path) -> None:
    """64 MiB is a million rules, of all files together; the ones here are sparse."""
    (tmp_path / "a.csv").write_text(RULE)
    for name, size in (("b.csv", MAX_BYTES), ("c.csv", 200 * 1024**2)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
    said = "makes the policy larger than 64 MiB, the most that is read"
    assert faults(tmp_path) == [f"b.csv: {said}", f"c.csv: {said}"]


def test_rules_in_yaml_come_beside_those_in_csv(tmp_path: Path) -> None:
    """One folder may hold both; each row has its own file and line."""
    (tmp_path / "a.csv").write_text(RULE)
    rule = 'rules:\n  - deny: {who: "*", service: s, methods: "*", path: /admin/**}\n'
    (tmp_path / "b.yaml").write_text(rule)
    found = [(row.file, row.line, row.values[-1]) for row in load(tmp_path).rows]
    assert found == [("a.csv", 1, "allow"), ("b.yaml", 2, "deny")]


def test_tests_are_no_policy_and_policy_among_them_is_told(tmp_path: Path) -> None:
    """Cases are YAML too; a rule that lies beside them would silently not be there."""
    (tmp_path / "a.csv").write_text(RULE)
    (tmp_path / "tests" / "more").mkdir(parents=True)
    (tmp_path / "tests" / "more" / "cases.yaml").write_text("cases: []\n")
    (tmp_path / "tests" / "cases.yml").write_text("cases: []\n")
    assert len(load(tmp_path).rows) == 1
    (tmp_path / "tests" / "more" / "rules.csv").write_text(RULE)
    assert faults(tmp_path) == [
        "tests/more/rules.csv: is not read: tests/ holds cases, not policy; move it"
    ]


def test_yaml_is_refused_beside_a_model_of_ones_own(tmp_path: Path) -> None:
    """Its fields are the mesh model's."""
    (tmp_path / "a.yaml").write_text("rules: []\n")
    assert load(tmp_path).rows == ()
    (tmp_path / "model.conf").write_text("[request_definition]\n")
    assert faults(tmp_path) == [
        "a.yaml: *.yaml has the built-in mesh model's fields; with a model.conf write *.csv"
    ]


def test_a_fingerprint_changes_with_the_folder_and_only_then(tmp_path: Path) -> None:
    """Another size, another name, one file less: each is another state."""
    file = tmp_path / "policy.csv"
    file.write_text(RULE)
    states = [fingerprint(tmp_path)]
    assert fingerprint(tmp_path) == states[0]
    file.write_text(RULE * 2)
    states.append(fingerprint(tmp_path))
    (tmp_path / "more.csv").write_text(RULE)
    states.append(fingerprint(tmp_path))
    file.unlink()
    states.append(fingerprint(tmp_path))
    assert len(set(states)) == 4
    assert fingerprint(tmp_path / "no") == fingerprint(tmp_path / "none")
