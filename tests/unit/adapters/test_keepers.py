"""Private keys at rest: sealed, opened by the right secret only, and never shown."""

import base64
import secrets
import threading
from pathlib import Path
from typing import Any

import pytest

from adapters.keepers.sealed import Config, SealedKeeper
from ca.errors import KeyNotOpenedError
from ca.keeper import KeyKeeper
from ca.keys import KeyType, generate, key_id, private_der
from meshwarden import plugins

KEY = generate(KeyType.EC_P256)
ID = key_id(KEY.public_key())


def sealed(folder: Path, **changes: Any) -> SealedKeeper:
    """A keeper with its files in a folder."""
    return SealedKeeper(Config(**{"key_file": folder / "etc" / "sealing.key", **changes}))


def passphrase(folder: Path, text: str = "correct horse battery", mode: int = 0o600) -> Path:
    """Write a passphrase file."""
    file = folder / "passphrase"
    file.write_text(text + "\n")
    file.chmod(mode)
    return file


@pytest.mark.parametrize("name", plugins.names("keepers"))
@pytest.mark.parametrize("kind", KeyType)
def test_what_was_put_is_found_again(tmp_path: Path, name: str, kind: KeyType) -> None:
    """The port's promise, for every adapter and kind of key."""
    adapter = plugins.load("keepers", name)
    own = {"key_file": tmp_path / "key"} if name == "sealed" else {}
    keeper: KeyKeeper = adapter.build(adapter.config(**own))
    key = generate(kind)
    name = key_id(key.public_key())
    handle = keeper.put(name, key)
    assert handle
    assert keeper.get(name, handle).public_key() == key.public_key()
    with pytest.raises(KeyNotOpenedError):
        keeper.get("another", handle)
    with pytest.raises(KeyNotOpenedError):
        keeper.get(name, b"nothing of ours")


def test_a_restart_opens_what_was_sealed(tmp_path: Path) -> None:
    """By the file that the first start has made."""
    handle = sealed(tmp_path).put(ID, KEY)
    assert sealed(tmp_path).get(ID, handle).public_key() == KEY.public_key()
    assert (tmp_path / "etc" / "sealing.key").stat().st_mode & 0o777 == 0o600


def test_a_passphrase_takes_the_files_place(tmp_path: Path) -> None:
    """And makes no key file."""
    file = passphrase(tmp_path)
    keeper = sealed(tmp_path, passphrase_file=file)
    handle = keeper.put(ID, KEY)
    found = sealed(tmp_path, passphrase_file=file).get(ID, handle)
    assert found.public_key() == KEY.public_key()
    assert not (tmp_path / "etc").exists()
    with pytest.raises(KeyNotOpenedError, match=r"sealed by identity\.passphrase_file"):
        sealed(tmp_path).get(ID, handle)
    passphrase(tmp_path, "another long passphrase")
    with pytest.raises(KeyNotOpenedError, match=r"identity\.passphrase_file: .* does not open"):
        sealed(tmp_path, passphrase_file=file).get(ID, handle)


def test_who_starts_it_first_is_told_to_keep_a_copy_of_the_key_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, and without what is in it."""
    with caplog.at_level("INFO"):
        sealed(tmp_path).put(ID, KEY)
        sealed(tmp_path).put(ID, KEY)
    (said,) = caplog.messages
    file = tmp_path / "etc" / "sealing.key"
    assert f"{file} was made; keep a copy elsewhere" in said
    assert file.read_text().strip() not in said


def test_another_key_file_is_named_and_opens_nothing(tmp_path: Path) -> None:
    """The start is refused by this message."""
    handle = sealed(tmp_path).put(ID, KEY)
    file = tmp_path / "etc" / "sealing.key"
    file.write_bytes(base64.b64encode(secrets.token_bytes(32)))
    with pytest.raises(KeyNotOpenedError, match=r"identity\.key_file: .* does not open the key"):
        sealed(tmp_path).get(ID, handle)
    file.unlink()
    with pytest.raises(KeyNotOpenedError, match=r"identity\.key_file: .* can't be read"):
        sealed(tmp_path).get(ID, handle)
    assert not file.exists(), "reading must not make a new one"


@pytest.mark.parametrize("place", range(0, 120, 7))
def test_any_damage_to_a_handle_is_found(tmp_path: Path, place: int) -> None:
    """Every byte of it is authenticated."""
    keeper = sealed(tmp_path)
    handle = bytearray(keeper.put(ID, KEY))
    handle[place % len(handle)] ^= 1
    with pytest.raises(KeyNotOpenedError):
        keeper.get(ID, bytes(handle))
    with pytest.raises(KeyNotOpenedError):
        keeper.get(ID, bytes(handle[:place]))


def test_the_same_key_is_never_sealed_the_same_way_twice(tmp_path: Path) -> None:
    """A nonce of its own each time, and nothing of the key to be seen."""
    keeper = sealed(tmp_path)
    handles = {keeper.put(ID, KEY) for _ in range(20)}
    assert len(handles) == 20
    assert not any(private_der(KEY)[20:40] in handle for handle in handles)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_secret_that_others_can_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    """Whichever of the two it is."""
    sealed(tmp_path).put(ID, KEY)
    (tmp_path / "etc" / "sealing.key").chmod(mode)
    with pytest.raises(KeyNotOpenedError, match="open to others"):
        sealed(tmp_path).put(ID, KEY)
    file = passphrase(tmp_path, mode=mode)
    with pytest.raises(KeyNotOpenedError, match="open to others"):
        sealed(tmp_path, passphrase_file=file).put(ID, KEY)


@pytest.mark.parametrize("text", ["", "short", "AAAA", "not base64!", "é"])
def test_a_key_file_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    """And not quoted."""
    (tmp_path / "etc").mkdir()
    file = tmp_path / "etc" / "sealing.key"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(KeyNotOpenedError, match=r"identity\.key_file") as caught:
        sealed(tmp_path).put(ID, KEY)
    assert not text or text not in str(caught.value).replace(str(file), "")


def test_a_short_passphrase_is_refused(tmp_path: Path) -> None:
    """It could be guessed from a copy of the database."""
    with pytest.raises(KeyNotOpenedError, match="fewer than 12"):
        sealed(tmp_path, passphrase_file=passphrase(tmp_path, "short")).put(ID, KEY)


def test_a_folder_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    """With the setting, and nothing sealed by a key that isn't on disk."""
    (tmp_path / "etc").write_text("a file in the way")
    with pytest.raises(KeyNotOpenedError, match=r"identity\.key_file: .* can't be made"):
        sealed(tmp_path).put(ID, KEY)


def test_of_many_that_make_the_file_at_once_all_have_the_same(tmp_path: Path) -> None:
    """What any of them sealed, every other opens."""
    keepers = [sealed(tmp_path) for _ in range(8)]
    handles: list[bytes] = []
    threads = [
        threading.Thread(target=lambda each=each: handles.append(each.put(ID, KEY)))  # type: ignore[misc]
        for each in keepers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for keeper in keepers:
        assert all(keeper.get(ID, handle) for handle in handles)
    assert [each.name for each in (tmp_path / "etc").iterdir()] == ["sealing.key"]


def test_nothing_of_a_key_is_in_what_is_printed(tmp_path: Path) -> None:
    """A log line or a traceback may have the keeper in it."""
    keeper = sealed(tmp_path)
    keeper.put(ID, KEY)
    secret = (tmp_path / "etc" / "sealing.key").read_text().strip()
    assert secret not in repr(keeper)
    assert repr(keeper) == "SealedKeeper()"
