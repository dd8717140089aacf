"""The right name that is nearest to a wrong one, for whoever misspelt it."""

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean"]

# Looking through more takes longer than the author would.
_MOST_NAMES = 5_000


def did_you_mean(name: str, known: Iterable[str], quote: str = "") -> str:
    """Give "; did you mean NEAREST?", or nothing where nothing is near.

    Args:
        name: What was written.
        known: What could have been meant; case makes no difference to how near it is.
        quote: What to put around the nearest.

    Cost: O(names), some microseconds each.
    """
    by_case = {each.casefold(): each for _, each in zip(range(_MOST_NAMES), known, strict=False)}
    near = difflib.get_close_matches(name.casefold(), by_case, n=1)
    return f"; did you mean {quote}{by_case[near[0]]}{quote}?" if near else ""
