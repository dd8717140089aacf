"""Compares two declarations of the same messages. Pure."""

from collections.abc import Container

from tests.wire.describe import Declared


def differences(ours: Declared, theirs: Declared, whole: Container[str] = ()) -> list[str]:
    """Every way in which ours is not theirs, a line each; [] if a byte means the same to both.

    Args:
        ours: What we declare. It may be less than theirs: fewer messages, fewer fields.
        theirs: What the oracle declares.
        whole: Full names of messages of which nothing may be left out.
    """
    found = []
    for name, facts in sorted(ours.items()):
        if name not in theirs:
            found.append(f"{name}: is ours alone")
            continue
        told = theirs[name]
        found += [f"{name}, {fact}: is ours alone" for fact in sorted(facts.keys() - told.keys())]
        if name in whole:
            found += [f"{name}, {fact}: is missing" for fact in sorted(told.keys() - facts.keys())]
        for fact in sorted(facts.keys() & told.keys()):
            found += _differing_traits(f"{name}, {fact}", facts[fact], told[fact])
    return found


def _differing_traits(where: str, ours: dict[str, object], theirs: dict[str, object]) -> list[str]:
    return [
        f"{where}: {trait} is {ours[trait]!r}, theirs {theirs[trait]!r}"
        for trait in ours
        if ours[trait] != theirs[trait]
    ]
