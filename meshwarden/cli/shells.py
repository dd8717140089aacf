"""How words cross to bash, which splits a line where typer does not expect it.

bash cuts a word at each colon, so `role:shop` comes in three parts and only the last is replaced;
and it would read a star or a quote in a word as its own.
"""

import os
import re

from typer._click.shell_completion import CompletionItem, add_completion_class
from typer._completion_classes import BashComplete
from typing_extensions import override

__all__ = ["register"]

_SPECIAL = re.compile(r"([^\w@%+=:,./~-])", re.ASCII)


class Bash(BashComplete):
    """Puts words together again, and gives back what bash will replace, quoted for it."""

    @override
    def get_completion_args(self) -> tuple[list[str], str]:
        words = os.environ["COMP_WORDS"].split("\n")
        if len(words) == 1:
            return super().get_completion_args()
        # The words up to the cursor; a last one that isn't begun yet is empty.
        words = words[: int(os.environ["COMP_CWORD"]) + 1]
        joined: list[str] = []
        glue = False
        for word in words:
            if joined and (word == ":" or glue):
                joined[-1] += word
            else:
                joined.append(word)
            glue = word == ":"
        unquoted = [_unquoted(word) for word in joined]
        return unquoted[1:-1], unquoted[-1]

    @override
    def complete(self) -> str:
        args, incomplete = self.get_completion_args()
        # What stands before the last colon is on the line already.
        standing = incomplete.rfind(":") + 1
        return "\n".join(
            _quoted(item.value[standing:]) for item in self.get_completions(args, incomplete)
        )

    @override
    def format_completion(self, item: CompletionItem) -> str:
        return _quoted(item.value)


def register() -> None:
    """Complete for bash so; for other shells as typer does."""
    add_completion_class(Bash, "bash")


def _quoted(word: str) -> str:
    return _SPECIAL.sub(r"\\\1", word)


def _unquoted(word: str) -> str:
    """A word as bash would pass it on, its last quote still open."""
    word = re.sub(r"\\(.)", r"\1", word) if word[:1] not in {"'", '"'} else word[1:]
    return word.removesuffix("'").removesuffix('"')
