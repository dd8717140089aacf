"""The published policy: whole, old or new, or refused."""

from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

from authz.policy.rules import PolicyText, Row
from meshwarden import publication
from meshwarden.publication import BrokenPublicationError, Publication

TEXT = PolicyText("a model", (Row("p", ("a", "b"), "policy.csv", 3),))
POLICY = Publication(TEXT, {"sub": "source.principal"}, "d" * 64, 1, "/policy", 1)


def test_what_is_published_is_read_again(tmp_path: Path) -> None:
    """All of it, and nothing else is left in the folder."""
    publication.publish(tmp_path, POLICY)
    assert publication.load(tmp_path) == POLICY
    assert [path.name for path in tmp_path.iterdir()] == ["policy.json"]


def test_nothing_published_is_no_broken_publication(tmp_path: Path) -> None:
    """A first start waits for it."""
    assert publication.stamp(tmp_path) is None
    with pytest.raises(FileNotFoundError):
        publication.load(tmp_path)


def test_each_publication_has_another_stamp(tmp_path: Path) -> None:
    """Of the same content too: a reader looks at one stat."""
    stamps = set()
    for _ in range(3):
        publication.publish(tmp_path, POLICY)
        stamps.add(publication.stamp(tmp_path))
    assert len(stamps) == 3


@pytest.mark.parametrize("keep", [0, 1, 64, 65, 100, -1])
def test_a_torn_file_is_refused_wherever_it_is_torn(keep: int, tmp_path: Path) -> None:
    """By its own checksum."""
    publication.publish(tmp_path, POLICY)
    file = tmp_path / "policy.json"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(BrokenPublicationError, match="checksum"):
        publication.load(tmp_path)


def test_a_newer_format_is_refused_before_the_rest_is_read(tmp_path: Path) -> None:
    """Whatever else has changed in it."""
    body = msgspec.json.encode({"format": 2, "text": "of another shape"})
    (tmp_path / "policy.json").write_bytes(sha256(body).hexdigest().encode() + b"\n" + body)
    with pytest.raises(BrokenPublicationError, match="of format 2, written by a newer version"):
        publication.load(tmp_path)


def test_a_file_of_another_shape_is_refused(tmp_path: Path) -> None:
    """Its checksum may be right."""
    body = b'{"format": 1}'
    (tmp_path / "policy.json").write_bytes(sha256(body).hexdigest().encode() + b"\n" + body)
    with pytest.raises(BrokenPublicationError, match=r"policy\.json: "):
        publication.load(tmp_path)


def test_a_publication_that_fails_leaves_the_last_one(tmp_path: Path) -> None:
    """Here the rename's target is in the way; a full disk is no different."""
    publication.publish(tmp_path, POLICY)
    file = tmp_path / "policy.json"
    file.unlink()
    file.mkdir()
    (file / "in the way").touch()
    with pytest.raises(OSError, match=r"policy\.json"):
        publication.publish(tmp_path, POLICY)
    assert [path.name for path in tmp_path.iterdir()] == ["policy.json"]
