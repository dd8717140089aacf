"""Settings from one TOML file, the environment and the command line.

Each key goes defaults, file, environment, option; the last that has it wins. What was read is kept
apart from what was checked: a `Reading` is one value as somebody wrote it, `Settings` holds
validated ones only. Every fault is reported at once.
"""

import functools
import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

from meshwarden.config_checks import cross_faults, did_you_mean
from meshwarden.errors import ConfigError, ConfigFault
from meshwarden.settings import Address, Settings, default_runtime_dir, default_state_dir

__all__ = ["KEYS", "Key", "Loaded", "dump", "find", "load", "restore"]

PREFIX = "MESHWARDEN_"
# Read before there are settings, so it is no key.
FILE_VARIABLE = "MESHWARDEN_CONFIG"
SYSTEM_FILE = Path("/etc/meshwarden/meshwarden.toml")


@dataclass(frozen=True, slots=True)
class Key:
    """What is known of one key.

    Attributes:
        name: Dotted, as in "listen.tls.key".
        kind: Its type without bounds.
        meta: Bounds and words.
        default: The validated value where nobody sets it; a computed one for folders.
        default_words: Said in place of `default` where that depends on the user.
        example: Shown in place of `default` then.
    """

    name: str
    kind: Any
    meta: msgspec.Meta
    default: Any
    default_words: str = ""
    example: str = ""

    @property
    def variable(self) -> str:
        """The environment variable that overrides it."""
        return PREFIX + self.name.upper().replace(".", "__")

    @property
    def is_optional(self) -> bool:
        """Whether it may be left without a value; the empty text then takes one away again."""
        return type(None) in get_args(self.kind)

    @property
    def text_form(self) -> str:
        """How a value that is no single word is written in an environment variable."""
        forms = {
            tuple[str, ...]: ' as JSON, such as ["a", "b"]',
            Mapping[str, str]: ' as JSON, such as {"a": "b"}',
        }
        return forms.get(self.kind, "")

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        kind, meta = self.kind, self.meta
        if kind in _WORDS:
            return _WORDS[kind]
        if get_origin(kind) is Literal:
            return "one of " + ", ".join(get_args(kind))
        if self.is_optional:
            kind, meta = get_args(get_args(kind)[0])
        number = "a whole number" if kind is int else "a number"
        return f"{number} from {meta.ge:,} to {meta.le:,}".replace(",", "_")


_WORDS: dict[Any, str] = {
    bool: "true or false",
    str: "text",
    Address: "IP:PORT",
    Address | None: "IP:PORT",
    Path: "a path",
    Path | None: "a path",
    tuple[str, ...]: "a list of text",
    Mapping[str, str]: "a table of text",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """One value as somebody wrote it, not yet believed.

    Attributes:
        value: What TOML, the environment (always text) or an option gave.
        where: The file, variable or option, for messages.
        folder: What a relative path is relative to: a file's own folder, else the working one.
        is_typed: Whether TOML gave the value its type; elsewhere "8" and "true" are all there is.
    """

    value: object
    where: str
    folder: Path
    is_typed: bool = False


@dataclass(frozen=True, slots=True)
class Loaded:
    """Validated settings and where each came from.

    Attributes:
        settings: Fit to run on.
        file: The TOML file, None without one.
        origins: Key to the file, variable or option it was read from; a key left out has its
            default.
    """

    settings: Settings
    file: Path | None
    origins: Mapping[str, str] = field(default_factory=dict)


def _keys(section: Any, prefix: str) -> Iterator[Key]:
    """Walk the section classes down to their keys."""
    for member in fields(section):
        if is_dataclass(member.type) and member.type is not Address:
            yield from _keys(member.type, f"{prefix}{member.name}.")
        else:
            kind, meta = get_args(member.type)
            extra = meta.extra or {}
            yield Key(
                prefix + member.name,
                kind,
                meta,
                _default(member),
                extra.get("default", ""),
                extra.get("example", ""),
            )


def _default(member: "Field[Any]") -> Any:
    return member.default if member.default_factory is MISSING else member.default_factory()


KEYS: Mapping[str, Key] = {key.name: key for key in _keys(Settings, "")}


def find(environ: Mapping[str, str]) -> Path | None:
    """Give the file to use when none is named.

    That is MESHWARDEN_CONFIG, else meshwarden.toml in the working folder, else
    /etc/meshwarden/meshwarden.toml, else none: the defaults are enough to start with.
    """
    if named := environ.get(FILE_VARIABLE):
        return Path(named)
    return next((file for file in (Path("meshwarden.toml"), SYSTEM_FILE) if file.is_file()), None)


def load(
    file: Path | None,
    environ: Mapping[str, str],
    options: Mapping[str, tuple[str, str]] | None = None,
) -> Loaded:
    """Read and validate the settings.

    Args:
        file: The TOML file; None for defaults alone.
        environ: The environment; only MESHWARDEN_ and XDG_ variables are read.
        options: Key to the command-line option's name and its text.

    Raises:
        ConfigError: With every fault that was found.
    """
    faults: list[ConfigFault] = []
    readings = list(_from_file(file, faults)) if file is not None else []
    readings += _from_environment(environ, faults)
    for name, (option, text) in (options or {}).items():
        readings.append((name, Reading(text, option, Path.cwd())))

    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name, reading in readings:
        try:
            values[name] = _believe(KEYS[name], reading)
            origins[name] = reading.where
        except ValueError as error:
            faults.append(ConfigFault(reading.where, name, str(error)))

    settings = _assemble(values, file.absolute().parent if file else Path.cwd(), environ)
    # A key that could not be read has its default here: judging that would blame the wrong thing.
    unread = {fault.key for fault in faults}
    for keys, message in cross_faults(settings):
        if unread.isdisjoint(keys):
            faults.append(ConfigFault(origins.get(keys[0], "default"), keys[0], message))
    if faults:
        raise ConfigError(tuple(faults))
    return Loaded(settings, file, origins)


def dump(settings: Settings) -> bytes:
    """Write settings as JSON, for another process of this service to `restore`."""
    return msgspec.json.encode(settings, enc_hook=str)


def restore(snapshot: bytes) -> Settings:
    """Read what `dump` wrote; it was validated then."""
    return msgspec.json.decode(snapshot, type=Settings, dec_hook=lambda kind, text: kind(text))


def _from_file(file: Path, faults: list[ConfigFault]) -> Iterator[tuple[str, Reading]]:
    try:
        tree = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        faults.append(ConfigFault(str(file), "", f"can't be read: {error.strerror}"))
        return
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError are both
        faults.append(ConfigFault(str(file), "", f"is not TOML: {error}"))
        return
    for name, value in _flatten(tree, ""):
        if name in KEYS:
            yield name, Reading(value, str(file), file.absolute().parent, is_typed=True)
        else:
            faults.append(ConfigFault(str(file), name, _unknown(name, value)))


def _flatten(tree: Mapping[str, object], prefix: str) -> Iterator[tuple[str, object]]:
    """Give each key with its value; an unknown section as one key, so that it is one fault."""
    for part, value in tree.items():
        name = prefix + part
        if name in _sections() and isinstance(value, dict):
            yield from _flatten(value, f"{name}.")
        else:
            yield name, value


@functools.cache
def _sections() -> frozenset[str]:
    parents = (name.split(".")[:-1] for name in KEYS)
    return frozenset(".".join(path[:end]) for path in parents for end in range(1, len(path) + 1))


def _unknown(name: str, value: object) -> str:
    if name in _sections():
        return f"is a section; write [{name}], not a value"
    kind, known = ("section", _sections()) if isinstance(value, dict) else ("key", KEYS.keys())
    return f"no such {kind}{did_you_mean(name, known)}"


def _from_environment(
    environ: Mapping[str, str], faults: list[ConfigFault]
) -> Iterator[tuple[str, Reading]]:
    """Read MESHWARDEN_SECTION__KEY.

    A name without a double underscore is left alone: Kubernetes gives a pod MESHWARDEN_PORT and
    MESHWARDEN_SERVICE_HOST if a service has our name. Unless it is a key but for an underscore.
    """
    variables = {key.variable: name for name, key in KEYS.items()}
    flat = {variable.replace("__", "_"): variable for variable in variables}
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX) or variable == FILE_VARIABLE:
            continue
        if name := variables.get(variable):
            yield name, Reading(text, variable, Path.cwd())
        elif meant := flat.get(variable.replace("__", "_")):
            faults.append(ConfigFault(variable, "", f"no such key; did you mean {meant}?"))
        elif "__" in variable:
            name = variable.removeprefix(PREFIX).lower().replace("__", ".")
            hint = did_you_mean(name, KEYS)
            faults.append(ConfigFault(variable, "", f"no such key{hint}"))


def _believe(key: Key, reading: Reading) -> object:
    """Turn what was written into the key's type.

    Raises:
        ValueError: It can't be; the message says what was expected.
    """
    value = reading.value
    if isinstance(value, str):
        if not value and key.is_optional:
            return None
        if key.kind in (Address, Address | None):
            return Address.parse(value)
        if key.kind in (Path, Path | None):
            return _path(value, reading.folder)
    try:
        if not reading.is_typed and key.kind in (tuple[str, ...], Mapping[str, str]):
            value = json.loads(str(value))
        return msgspec.convert(value, Annotated[key.kind, key.meta], strict=reading.is_typed)
    except ValueError:
        is_choice = get_origin(key.kind) is Literal
        hint = did_you_mean(str(value), get_args(key.kind)) if is_choice else ""
        form = "" if reading.is_typed else key.text_form
        raise ValueError(f"must be {key.expected}{form}, not {reading.value!r}{hint}") from None


def _path(text: str, folder: Path) -> Path:
    """Make a path absolute."""
    if not text:
        raise ValueError("must be a path, not empty")
    if "\0" in text:
        raise ValueError("a path holds no NUL")
    try:
        return folder / Path(text).expanduser()
    except RuntimeError:
        raise ValueError(f"{text!r} starts with the home folder of nobody") from None


def _assemble(values: Mapping[str, Any], folder: Path, environ: Mapping[str, str]) -> Settings:
    """Put values, and defaults for the others, into their sections."""
    given = dict(values)
    for key in KEYS.values():
        if key.kind is Path and key.name not in given and not key.default.is_absolute():
            given[key.name] = folder / key.default
    is_root = os.geteuid() == 0
    state_dir = Path(given.get("runtime.state_dir", default_state_dir(environ, is_root=is_root)))
    given["runtime.state_dir"] = state_dir
    runtime_dir = default_runtime_dir(environ, state_dir, is_root=is_root)
    given.setdefault("runtime.runtime_dir", runtime_dir)
    settings: Settings = _section(Settings(), "", given)
    return settings


def _section(section: Any, prefix: str, given: Mapping[str, object]) -> Any:
    changes: dict[str, object] = {}
    for member in fields(section):
        name = prefix + member.name
        if name in KEYS:
            if name in given:
                changes[member.name] = given[name]
        else:
            changes[member.name] = _section(getattr(section, member.name), f"{name}.", given)
    return replace(section, **changes)
