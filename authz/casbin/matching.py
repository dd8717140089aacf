"""pycasbin's own functions, by the engine's names for them."""

from functools import partial
from types import FunctionType
from typing import Any

from casbin import util

from authz.policy.language import Language
from authz.policy.roles import Roles

__all__ = ["OWN_FUNCTIONS", "read_patterns_once"]

# What pycasbin puts under these names means the same as the engine's function of that name.
OWN_FUNCTIONS = {
    "keyMatch": util.key_match_func,
    "keyMatch2": util.key_match2_func,
    "keyMatch3": util.key_match3_func,
    "keyMatch4": util.key_match4_func,
    "keyMatch5": util.key_match5_func,
    "regexMatch": util.regex_match_func,
    "ipMatch": util.ip_match_func,
    "globMatch": util.glob_match_func,
    "timeMatch": util.time_match_func,
}
# Those by which names of roles match, which come wrapped or bare.
_MATCHING = {
    util.key_match: "keyMatch",
    util.key_match2: "keyMatch2",
    util.key_match3: "keyMatch3",
    util.key_match4: "keyMatch4",
    util.key_match5: "keyMatch5",
    util.regex_match: "regexMatch",
    util.glob_match: "globMatch",
    util.key_match_func: "keyMatch",
    util.key_match2_func: "keyMatch2",
    util.key_match3_func: "keyMatch3",
    util.key_match4_func: "keyMatch4",
    util.key_match5_func: "keyMatch5",
    util.regex_match_func: "regexMatch",
    util.glob_match_func: "globMatch",
}


def read_patterns_once(links: Roles, language: Language) -> None:
    """Let links whose names match by a function of pycasbin's match by the engine's.

    It reads each pattern once and tells patterns from plain names. Of another function nothing is
    known: any name may be a pattern for it.
    """
    name = _engines_name(links.matching)
    if name:

        def is_pattern(text: Any) -> bool:
            try:
                return language.pattern(name, text).literals is None
            except Exception:  # noqa: BLE001 - no pattern of any kind: it fits nothing when tried
                return True

        links.matching = lambda value, text: language.pattern(name, text).matches(value)
        links.prepare = partial(language.pattern, name)
        links.is_pattern = is_pattern
        links.forget()
    domain = _engines_name(links.domain_matching)
    if domain:
        links.domain_matching = lambda value, text: language.pattern(domain, text).matches(value)
        links.domain_prepare = partial(language.pattern, domain)
        links.forget()


def _engines_name(function: Any) -> str:
    return _MATCHING.get(function, "") if isinstance(function, FunctionType) else ""
