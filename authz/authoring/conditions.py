"""Conditions of rules: why one can never hold, and what would make one hold.

The first is a proof and says nothing where it isn't sure. The second is a guess, for examples of
requests that are decided afterwards.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice, product

from authz.policy.syntax import (
    And,
    Call,
    Compare,
    Const,
    Context,
    In,
    Item,
    Listing,
    Node,
    Not,
    Or,
)

__all__ = ["Slot", "impossible", "required", "slot_of", "ways"]

# (attribute, part): ("request.headers", "x-env"), ("source.ip", "").
Slot = tuple[str, str]

# Attributes whose parts never raise when asked for: what isn't there is "".
_WITH_PARTS = frozenset(
    {"request.headers", "request.query_params", "request.auth.claims", "context_extensions"}
)
# More ways than this to make a condition true are not tried.
_MAX_WAYS = 16
_FLIPPED = {"==": "!=", "!=": "==", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}
_MIRRORED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def slot_of(node: Node) -> Slot | None:
    """The attribute that a node reads, if it can be read without raising."""
    if isinstance(node, Context):
        return (node.name, "")
    if (
        isinstance(node, Item)
        and isinstance(node.value, Context)
        and node.value.name in _WITH_PARTS
        and isinstance(node.key, Const)
        and isinstance(node.key.value, str)
    ):
        part = node.key.value
        name = node.value.name
        return (name, part.lower() if name == "request.headers" else part)
    return None


def required(node: Node) -> dict[Slot, frozenset[str]]:
    """Texts that an attribute must be one of for a condition to hold, where it says so outright.

    An empty set: it can't hold.
    """
    found: dict[Slot, frozenset[str]] = {}
    terms = node.terms if isinstance(node, And) else (node,)
    for term in terms:
        one_of = _one_of(term)
        if one_of is not None:
            slot, texts = one_of
            found[slot] = found[slot] & texts if slot in found else texts
        elif isinstance(term, And):
            for slot, texts in required(term).items():
                found[slot] = found[slot] & texts if slot in found else texts
    return found


def impossible(node: Node) -> str:
    """Why a condition can never hold, in words; "" where that isn't sure."""
    if isinstance(node, Const):
        return "" if node.value else "it is always false"
    if isinstance(node, Or):
        reasons = [impossible(term) for term in node.terms]
        return reasons[0] if all(reasons) else ""
    if isinstance(node, And):
        for term in node.terms:
            reason = impossible(term)
            if reason:
                return reason
    for slot, texts in required(node).items():
        if not texts:
            return f"{said(slot)} can't have all the values it asks for"
    return ""


def said(slot: Slot) -> str:
    """A slot as policy names it."""
    return f"{slot[0]}['{slot[1]}']" if slot[1] else slot[0]


def _one_of(node: Node) -> tuple[Slot, frozenset[str]] | None:
    """A term that says which texts an attribute may be."""
    if isinstance(node, Compare) and node.operator == "==":
        for one, other in ((node.left, node.right), (node.right, node.left)):
            slot = slot_of(one)
            if slot is not None and isinstance(other, Const) and isinstance(other.value, str):
                return slot, frozenset((other.value,))
    if isinstance(node, In) and not node.negated and isinstance(node.right, Listing):
        slot = slot_of(node.left)
        texts = [each.value for each in node.right.items if isinstance(each, Const)]
        if slot is not None and len(texts) == len(node.right.items):
            known = [text for text in texts if isinstance(text, str)]
            if len(known) == len(texts):
                return slot, frozenset(known)
    if isinstance(node, Or):
        parts = [_one_of(term) for term in node.terms]
        slots = {part[0] for part in parts if part is not None}
        if None not in parts and len(slots) == 1:
            texts_of = [part[1] for part in parts if part is not None]
            return slots.pop(), frozenset().union(*texts_of)
    return None


Way = Mapping[Slot, str]


def ways(node: Node | None, *, wanted: bool = True) -> list[Way]:
    """Values of attributes that may make a condition hold, or fail, the likeliest first.

    Cost: bounded; at most sixteen.
    """
    if node is None:
        return [{}] if wanted else []
    return list(islice(_ways(node, wanted), _MAX_WAYS))


def _ways(node: Node, wanted: bool) -> Iterator[Way]:  # noqa: FBT001 - the truth that is wanted
    match node:
        case Not():
            yield from _ways(node.value, not wanted)
        case And() | Or():
            if isinstance(node, And) == wanted:
                yield from _together([list(_ways(term, wanted)) for term in node.terms])
            else:
                for term in node.terms:
                    yield from _ways(term, wanted)
        case Compare():
            yield from _compared(node, wanted)
        case In():
            yield from _listed(node, wanted)
        case Call():
            yield from _called(node, wanted)
        case _:
            slot = slot_of(node)
            is_part = slot is not None and slot[1] and wanted
            yield {slot: "x"} if is_part and slot is not None else {}


def _listed(node: In, wanted: bool) -> Iterator[Way]:  # noqa: FBT001
    slot = slot_of(node.left)
    if slot is None or not isinstance(node.right, Listing):
        yield {}
    elif node.negated != wanted:
        for each in node.right.items:
            if isinstance(each, Const):
                yield {slot: str(each.value)}
    else:
        yield {}
        yield {slot: "x"}


def _together(parts: list[list[Way]]) -> Iterator[Way]:
    for choice in islice(product(*(part[:4] for part in parts)), 4 * _MAX_WAYS):
        merged: dict[Slot, str] = {}
        if all(
            merged.setdefault(slot, text) == text for way in choice for slot, text in way.items()
        ):
            yield merged


def _compared(node: Compare, wanted: bool) -> Iterator[Way]:  # noqa: FBT001
    operator = node.operator if wanted else _FLIPPED[node.operator]
    slot, other = slot_of(node.left), node.right
    if slot is None:
        slot, other, operator = slot_of(node.right), node.left, _MIRRORED[operator]
    if slot is None or not isinstance(other, Const):
        yield {}
        return
    text = str(other.value).lower() if isinstance(other.value, bool) else str(other.value)
    if operator in {"==", "<=", ">="}:
        yield {slot: text}
    elif operator == ">":
        yield {slot: text + "0"}
    elif operator == "<":
        yield {slot: text[:-1]}
    else:
        yield {}
        yield {slot: text + "x"}


def _called(node: Call, wanted: bool) -> Iterator[Way]:  # noqa: FBT001
    slot = slot_of(node.arguments[0]) if node.arguments else None
    last = node.arguments[-1] if node.arguments else None
    if not wanted or slot is None or not isinstance(last, Const):
        yield {}
        return
    for text in _like(node.name, str(last.value)):
        yield {slot: text}


def _like(function: str, pattern: str) -> Iterable[str]:
    """Texts that a pattern of some function may match."""
    if function == "ipMatch":
        address = pattern.partition("/")[0]
        # The network's own address is in it, host bits or not.
        return (address,)
    plain = pattern.strip("^$").replace("\\", "")
    stars = plain.replace(".*", "x").replace(".+", "x").replace("**", "x").replace("*", "x")
    return dict.fromkeys((stars, plain.partition("*")[0], plain))
