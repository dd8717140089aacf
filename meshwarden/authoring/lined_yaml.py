"""YAML whose mappings know their lines, so that a mistake in a test file is told by line."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml
from typing_extensions import override

from meshwarden.errors import CaseFileError

__all__ = ["Lined", "load"]

_FILE_BYTES = 16 * 1024 * 1024


class Lined(dict[str, Any]):
    """A mapping with the line of each of its keys.

    Attributes:
        line: Where it begins, from 1.
        lines: Where each key stands.
    """

    line: int
    lines: dict[str, int]


class _Loader(yaml.SafeLoader):
    """Safe: it makes text, numbers, lists and mappings and nothing else."""

    @override
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        made = Lined()
        made.line = node.start_mark.line + 1
        made.lines = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(
                    problem="a key is a word", problem_mark=key_node.start_mark
                )
            key = str(self.construct_object(key_node, deep=True))
            if key in made:
                # YAML would keep the last one: a case that silently isn't run.
                raise yaml.MarkedYAMLError(
                    problem=f"{key!r} stands twice", problem_mark=key_node.start_mark
                )
            made.lines[key] = key_node.start_mark.line + 1
            made[key] = self.construct_object(value_node, deep=True)
        return made  # type: ignore[return-value] # its keys are text, which is hashable


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    return loader.construct_mapping(node, deep=True)


def _word(loader: _Loader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
# "<<" takes the keys of another mapping over elsewhere; here it is a key as any other.
_Loader.add_constructor("tag:yaml.org,2002:merge", _word)
# `on` and `2026-01-01` are words here: YAML 1.1 would make a truth value and a date of them.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load(
    path: Path, name: str, form: str = "a test file is a mapping with 'cases' or 'allowed'"
) -> Lined:
    """Read one file.

    Args:
        path: The file.
        name: How messages call it.
        form: What such a file is, for one that is something else.

    Raises:
        CaseFileError: It is no YAML mapping; the message has the line.
        OSError: It can't be read.
    """
    if path.stat().st_size > _FILE_BYTES:
        raise CaseFileError((f"{name}: larger than {_FILE_BYTES} bytes",))
    try:
        made = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise CaseFileError((f"{name}:{line}: {error.problem}",)) from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise CaseFileError((f"{name}: {' '.join(str(error).split())}",)) from error
    if made is None:
        made = Lined()
        made.line, made.lines = 1, {}
    if not isinstance(made, Lined):
        raise CaseFileError((f"{name}:1: {form}",))
    return made
