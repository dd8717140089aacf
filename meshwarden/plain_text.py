"""Text of others as it may be shown: nothing in it steers a terminal or hides from its reader.

Whoever may write a rule must not choose how it looks to the one who reviews it.
"""

import re

__all__ = ["is_plain", "plain", "plain_json", "plain_lines"]

# What JSON leaves as it is: C1 controls, and what has no width or turns the line around.
_STEERING = re.compile(
    "[\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)


def plain(text: str) -> str:
    """Give one line with whatever can't be printed written out, as Python has it."""
    if text.isprintable():
        return text
    # Half a surrogate pair as well, as file names of no known encoding hold it: it has no UTF-8.
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def plain_lines(text: str) -> str:
    """Do the same with a text that may have several lines."""
    return text if text.isprintable() else "\n".join(map(plain, text.split("\n")))


def is_plain(text: str) -> bool:
    """Whether a text of several lines holds nothing but tabs that JSON would have to write out."""
    return not _STEERING.search(text)


def plain_json(text: str) -> str:
    """Give JSON that says the same and shows all that it says."""
    return _STEERING.sub(lambda found: f"\\u{ord(found.group()):04x}", text)
