"""Pages are what the code says."""

from pathlib import Path

from tools import docs


def test_the_pages_are_fresh() -> None:
    """What writes them again is make docs."""
    assert docs.stale(docs.ROOT) == []


def test_a_page_that_was_edited_or_lost_is_found(tmp_path: Path) -> None:
    """By its name."""
    (tmp_path / "docs").mkdir()
    for page in ("docs/config.md", "docs/cli.md", "docs/lint.md"):
        (tmp_path / page).write_text(docs.PAGES[page]())
    assert docs.stale(tmp_path) == ["deploy/meshwarden.toml"]
    (tmp_path / "docs/cli.md").write_text("edited")
    assert docs.stale(tmp_path) == ["docs/cli.md", "deploy/meshwarden.toml"]
