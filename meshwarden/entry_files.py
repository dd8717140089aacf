"""Entries as people write them down: YAML, checked with file and line.

entries:
- parent_id: spiffe://{{trust_domain}}/nodes/web
spiffe_id: spiffe://{{trust_domain}}/ns/{{k8s.ns}}/sa/{{k8s.sa}}
selectors: ["k8s:ns:shop"]
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ca.doubts import WORKLOAD_KEYS, Doubt
from ca.entries import Entry, fingerprint
from ca.entry_draft import Draft, EntryRules, check_draft
from ca.errors import IdentityError
from meshwarden.authoring import lined_yaml
from meshwarden.config_checks import did_you_mean
from meshwarden.errors import CaseFileError

__all__ = [
    "DeclaredDraft",
    "EntryFileError",
    "check_drafts",
    "doubt_text",
    "files_of",
    "read_drafts",
]

_MAX_ENTRIES = 100_000
_SUFFIXES = (".yaml", ".yml")
_FORM = "a file of entries is a mapping with 'entries', a list"


class EntryFileError(IdentityError):
    """Files of entries can't be obeyed; the message has a line for each fault there is.

    Attributes:
        faults: As "FILE:LINE: what is wrong".
    """

    code = "INVALID_ARGUMENT"

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class DeclaredDraft:
    """A draft and where it stands.

    Attributes:
        draft: What was written.
        where: "FILE:LINE" of its beginning.
        lines: Of its fields, for faults.
    """

    draft: Draft
    where: str
    lines: Mapping[str, str]


def files_of(path: Path) -> Sequence[Path]:
    """Give the file, or the YAML files of the folder, in the order of their names.

    Raises:
        OSError: It is not there.
    """
    if not path.is_dir():
        path.stat()
        return [path]
    return sorted(each for each in path.iterdir() if each.suffix in _SUFFIXES and _is_meant(each))


def _is_meant(file: Path) -> bool:
    """Whether a file of a folder is one of those that declare."""
    # A link that leads nowhere is a fault: what it should lead to was not taken back. Editors lock
    # a file by such a link with a hidden name.
    leads_nowhere = file.is_symlink() and not file.exists()
    return file.is_file() or (leads_nowhere and not file.name.startswith("."))


def read_drafts(path: Path) -> Sequence[DeclaredDraft]:
    """Read a file, or a folder of them.

    Raises:
        EntryFileError: It can't be read; every fault is in it.
    """
    faults: list[str] = []
    drafts: list[DeclaredDraft] = []
    try:
        files = files_of(path)
    except OSError as error:
        raise EntryFileError([f"{path}: {error.strerror}"]) from error
    if not files:
        # As a folder whose mount is missing: nobody meant to remove every entry.
        raise EntryFileError([f"{path}: there is no *.yaml in it; 'entries: []' declares none"])
    for file in files:
        name = file.name if path.is_dir() else str(file)
        try:
            drafts += _drafts(lined_yaml.load(file, name, _FORM), name, faults)
        except CaseFileError as error:
            faults += error.faults
        except OSError as error:
            faults.append(f"{name}: {error.strerror}")
    if len(drafts) > _MAX_ENTRIES:
        faults.append(f"{path}: {len(drafts)} entries; at most {_MAX_ENTRIES}")
    if faults:
        raise EntryFileError(faults)
    return drafts


def check_drafts(
    drafts: Iterable[DeclaredDraft], rules: EntryRules
) -> Mapping[str, tuple[Entry, str]]:
    """Make entries, without ids, of what was read: each with its place, by fingerprint.

    Raises:
        EntryFileError: Some are wrong, or stand twice; every fault is in it.
    """
    faults: list[str] = []
    made: dict[str, tuple[Entry, str]] = {}
    for each in drafts:
        entry = check_draft(each.draft, rules)
        if isinstance(entry, tuple):
            faults += [
                f"{each.lines.get(fault.field, each.where)}: {fault.field}: {fault.message}"
                for fault in entry
            ]
            continue
        key = fingerprint(entry.parent_id, entry.workload.spiffe_id, entry.workload.selectors)
        _, before = made.setdefault(key, (entry, each.where))
        if before != each.where:
            faults.append(f"{each.where}: the same parent, SPIFFE ID and selectors as {before}")
    if faults:
        raise EntryFileError(faults)
    return made


def doubt_text(doubt: Doubt) -> str:
    """Say what was hardly meant, and what may have been."""
    near = did_you_mean(doubt.key, WORKLOAD_KEYS[doubt.kind])
    return f"{doubt.text}: {doubt.kind} finds no {doubt.key!r} on a workload{near}"


def _drafts(document: lined_yaml.Lined, name: str, faults: list[str]) -> Iterator[DeclaredDraft]:
    faults += [
        f"{name}:{document.lines[key]}: no such key {key!r}; {_FORM}"
        for key in document
        if key != "entries"
    ]
    listed = document.get("entries")
    if not isinstance(listed, list):
        faults.append(f"{name}:{document.lines.get('entries', 1)}: {_FORM}")
        return
    for number, item in enumerate(listed, 1):
        if isinstance(item, lined_yaml.Lined):
            yield _draft(item, name, faults)
        else:
            line = document.lines["entries"]
            faults.append(f"{name}:{line}: entry {number} is no mapping, as 'spiffe_id: ...'")


def _draft(item: lined_yaml.Lined, name: str, faults: list[str]) -> DeclaredDraft:
    lines = {key: f"{name}:{line}" for key, line in item.lines.items()}
    given: dict[str, Any] = {}
    for key, value in item.items():
        if key not in _FIELDS:
            faults.append(f"{lines[key]}: no such key {key!r}{did_you_mean(key, _FIELDS)}")
            continue
        is_fit, expected = _FIELDS[key]
        if is_fit(value):
            given[key] = value
        else:
            faults.append(f"{lines[key]}: {key} must be {expected}, not {_shown(value)}")
    where = f"{name}:{item.line}"
    for key in ("parent_id", "spiffe_id"):
        if key not in item:
            faults.append(f"{where}: {key} is missing")
            given[key] = ""
        given.setdefault(key, "")
    return DeclaredDraft(Draft(**given, origin=name), where, lines)


def _shown(value: object) -> str:
    # By anchors a few lines are a list of thousands of millions: it is not written out.
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a mapping"
    return f"{value!r:.80}"


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_list(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_truth(value: object) -> bool:
    return isinstance(value, bool)


_FIELDS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "parent_id": (_is_text, "text"),
    "spiffe_id": (_is_text, "text"),
    "selectors": (_is_list, "a list of text, as ['unix:uid:1000']"),
    "x509_ttl_s": (_is_number, "a whole number of seconds"),
    "jwt_ttl_s": (_is_number, "a whole number of seconds"),
    "dns_names": (_is_list, "a list of text"),
    "hint": (_is_text, "text"),
    "admin": (_is_truth, "true or false"),
}
