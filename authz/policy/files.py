"""What the files of a policy folder mean, wherever they come from: a disk or a bundle.

`*.csv` and `*.yaml` are policy, in the order they are given; `model.conf` at the top is the model,
and without one the mesh model holds; `tests/` holds cases for `meshwarden policy test`. What looks
like policy but would not be read, such as `rules.cvs`, is a fault: it must not silently do nothing.
"""

from collections.abc import Callable
from pathlib import PurePosixPath

from authz.policy.csv_rows import parse_csv
from authz.policy.errors import Fault, PolicyError
from authz.policy.mesh import MESH, mesh_model
from authz.policy.rules import PolicyText, Row
from authz.policy.yaml_rows import parse_yaml

__all__ = ["MAX_BYTES", "PolicyFiles", "is_case_file", "is_passed_over"]

MAX_BYTES = 64 * 1024 * 1024
"""Most that a policy's files may hold together: about a million rules."""

_MODEL = "model.conf"
_TESTS = "tests/"
_PARSERS: dict[str, Callable[[str, str], tuple[list[Row], list[Fault]]]] = {
    ".csv": parse_csv,
    ".yaml": parse_yaml,
}
# Suffixes that somebody meant as policy, and what they should have written.
_MEANT = {
    ".csv": "*.csv, in lower case",
    ".cvs": "*.csv",
    ".tsv": "*.csv",
    ".yaml": "*.yaml, in lower case",
    ".yml": "*.yaml",
    ".conf": "the folder's model.conf",
}


def is_passed_over(name: str) -> bool:
    """Whether a file or folder of this name is nobody's policy: hidden, a backup, Markdown."""
    return name.startswith((".", "#")) or name.endswith(("~", ".md"))


def is_case_file(name: str) -> bool:
    """Whether a file, named from the policy's folder, holds cases that test the policy."""
    return name.startswith(_TESTS) and name.endswith((".yaml", ".yml"))


class PolicyFiles:
    """Collects a policy file by file, with everything that is wrong.

    Attributes:
        faults: What is wrong so far.
    """

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self._rows: list[Row] = []
        self._model: str | None = None
        self._has_rows = False
        self._yaml = ""

    def is_policy(self, name: str) -> bool:
        """Whether a file is to be read; one that looks so but is misnamed is a fault.

        Args:
            name: Its path from the policy's folder, with slashes.
        """
        if is_case_file(name):
            return False
        suffix = PurePosixPath(name).suffix
        if name.startswith(_TESTS):
            if suffix.lower() in _MEANT:
                said = "is not read: tests/ holds cases, not policy; move it"
                self.faults.append(Fault(name, 0, said))
            return False
        if name == _MODEL or suffix in _PARSERS:
            return True
        meant = _MEANT.get(suffix.lower())
        if meant is not None:
            said = f"is not read: policy is {meant}; rename or remove it"
            self.faults.append(Fault(name, 0, said))
        return False

    def add(self, name: str, content: bytes) -> None:
        """Read one file that is policy."""
        # Whatever is wrong with its text, it isn't missing.
        self._has_rows = self._has_rows or name != _MODEL
        text = self._decoded(content, name)
        if text is None:
            return
        if name == _MODEL:
            self._model = text
            return
        suffix = PurePosixPath(name).suffix
        rows, faults = _PARSERS[suffix](text, name)
        self._rows += rows
        self.faults += faults
        if suffix == ".yaml":
            self._yaml = self._yaml or name

    def text(self, where: str) -> PolicyText:
        """Give the policy.

        Args:
            where: How messages name the whole of it.

        Raises:
            PolicyError: Something is wrong; every fault is in it.
        """
        if not self._has_rows and not self.faults:
            said = "holds no *.csv or *.yaml; for a policy without rules make an empty policy.csv"
            self.faults.append(Fault(where, 0, said))
        if self._yaml and self._model is not None:
            said = "*.yaml has the built-in mesh model's fields; with a model.conf write *.csv"
            self.faults.append(Fault(self._yaml, 0, said))
        if self.faults:
            raise PolicyError(self.faults)
        if self._model is None:
            return PolicyText(mesh_model(), tuple(self._rows), MESH)
        return PolicyText(self._model, tuple(self._rows), _MODEL)

    def _decoded(self, content: bytes, name: str) -> str | None:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            # utf-8-sig counts from after the byte-order mark.
            at = error.start + (3 if content.startswith(b"\xef\xbb\xbf") else 0)
            self._spoilt(content, name, at, f"is not UTF-8: byte 0x{content[at]:02x}")
            return None
        at = content.find(b"\0")
        if at >= 0:
            self._spoilt(content, name, at, "is not text: a NUL byte")
            return None
        return text

    def _spoilt(self, content: bytes, name: str, at: int, said: str) -> None:
        line = content.count(b"\n", 0, at) + 1
        self.faults.append(Fault(name, line, f"{said} at offset {at}"))
