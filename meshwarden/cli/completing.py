"""Which parameter of which command completes to which names: one table, by what each is called.

It is read only when a shell asks; a new command whose parameters are called as others' are is
completed without a line here.
"""

from collections.abc import Callable, Mapping
from typing import Any

from typer._click.shell_completion import CompletionItem

from meshwarden.cli import completion

__all__ = ["attach"]

_Names = Callable[[Any, str], list[tuple[str, str]]]

# Elsewhere a parameter of the same name means something else.
_GROUPS = frozenset({"check", "explain", "policy", "decisions", "config"})
_BY_NAME: Mapping[str, _Names] = {
    "principal": completion.principals,
    "user": completion.users,
    "who": completion.who,
    "member": completion.who,
    "role": completion.roles,
    "service": completion.services,
    "method": completion.methods,
    "path": completion.paths,
    "revision": completion.revisions,
    "number": completion.revisions,
    "parent": completion.revisions,
    "candidate": completion.candidates,
    "first": completion.compared,
    "second": completion.compared,
    "rule": completion.places,
    "at": completion.places,
    "id_": completion.decision_ids,
    "ignore": completion.lint_ids,
    "key": completion.setting_names,
    "words": completion.sentence,
    "effect": completion.effects,
}
# Where a rule is written or looked for, a pattern is what is meant.
_IN_RULES = frozenset({"allow", "deny", "revoke", "get"})
_AS_WRITTEN: Mapping[str, _Names] = {
    "service": completion.service_patterns,
    "path": completion.patterns,
}
_ROLE_NAMES = {"tree": {"name": completion.who}}


def attach(root: Any) -> None:
    """Have every parameter of the table complete so."""
    for name, command in root.commands.items():
        if name in _GROUPS:
            _attach(name, command)


def _attach(name: str, command: Any) -> None:
    for inner_name, inner in getattr(command, "commands", {}).items():
        _attach(inner_name, inner)
    known = {
        **_BY_NAME,
        **(_AS_WRITTEN if name in _IN_RULES else {}),
        **_ROLE_NAMES.get(name, {}),
    }
    for parameter in command.params:
        names = known.get(parameter.name)
        # A file or one of a few words completes by itself.
        if names is not None and parameter.type.name in {"str", "int", "int range"}:
            parameter.shell_complete = _items(names)


def _items(names: _Names) -> Callable[[Any, str], list[CompletionItem]]:
    def complete(context: Any, incomplete: str) -> list[CompletionItem]:
        return [
            CompletionItem(word, help=said or None) for word, said in names(context, incomplete)
        ]

    return complete
