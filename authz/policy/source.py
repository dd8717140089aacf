"""The source of a search and of a decision, for one plan."""

from collections.abc import Callable, Mapping, Sequence

from authz.policy.effects import Effect
from authz.policy.plan import Plan
from authz.policy.syntax import Node

__all__ = ["decide_source", "find_source"]


def find_source(predicate: str, probes: int) -> str:
    """A search: the first rule by rank, in front of the best so far, that the predicate holds for.

    A rank is read only where there is another to hold it against: with many rules it is one more
    thing to fetch from memory.

    Args:
        predicate: An expression over the rule `v`, the request `q` and the probes' values.
        probes: How many probes there are.
    """
    return f"""
def find(root, best, faults, q, values):
 {_unpacked("V", range(probes), "values")}
 places = [root]
 for place in places:
  while type(place) is Node:
   wanted = values[place.probe]
   children = place.children
   if type(wanted) is str:
    place = children.get(wanted)
    if place is not None:
     continue
    break
   if wanted is None:
    places += children.values()
   elif len(wanted) <= len(children):
    get = children.get
    for each in wanted:
     child = get(each)
     if child is not None:
      places.append(child)
   else:
    for each in children:
     if each in wanted:
      places.append(children[each])
   break
  else:
   for rule in place if type(place) is list else (place,):
    if best is not None and not rule.rank < best.rank:
     break
    v = rule.values
    try:
     hit = {predicate}
    except Exception:
     hit = judge(rule, q, faults)
    if hit:
     best = rule
     break
 return best
"""


def decide_source(  # noqa: PLR0913, PLR0917 - each is one thing that the source names
    plan: Plan,
    effect: Effect,
    groups: Sequence[str],
    emit: Callable[[Node], str],
    fields: Sequence[int],
    trees: Mapping[tuple[str, tuple[int, ...]], str],
    probes: Sequence[tuple[str, str, str]],
) -> str:
    """A decision: what the request is looked up by, then one search a tree.

    Args:
        plan: The plan.
        effect: The policy effect.
        groups: What is searched one after the other: the rules of an effect, or of both at once.
        emit: Makes an expression of a part of the plan that speaks of the request alone.
        fields: Which fields of the request are read.
        trees: The name of each tree.
        probes: For each probe the name of its function, of what it remembers, and by which fields.
    """
    lines = ["def decide(q):", " if not rules: return blank(q)", " try:"]
    lines += [f"  r{index} = q[{index}]" for index in fields]
    # What is remembered is asked first: it often spares the rest.
    order = sorted(range(len(probes)), key=lambda number: not probes[number][1])
    for place, number in enumerate(order):
        inputs = [emit(each) for each in plan.probes[number].inputs]
        before = order[:place] if len(plan.branches) == 1 else ()
        lines += _asking(plan, number, inputs, probes[number], _hopeless(plan, before))
    for number, branch in enumerate(plan.branches):
        if branch.guards:
            guards = " and ".join([emit(guard) for guard in branch.guards])
            # Where the guard is the whole matcher, what it comes to has to be a truth value.
            whole = branch.guards == (plan.node,)
            lines += [f"  G{number} = truth({guards})" if whole else f"  G{number} = {guards}"]
    lines += [f"  values = {_packed('V', range(len(plan.probes)))}"]
    lines += ["  faults = []", "  best = None"]
    for group in groups:
        for number, branch in enumerate(plan.branches):
            lines += _search(plan, number, trees[group, branch.probes])
        if not effect.ordered:
            lines += _decided()
    if effect.ordered:
        lines += _decided()
    look = "" if effect.otherwise else ", partial(near, q)"
    lines += [f"  return {_decision(str(effect.otherwise), 'None', look)}"]
    lines += [" except Exception:", "  return odd(q)", ""]
    return "\n".join(lines)


def _asking(
    plan: Plan,
    number: int,
    inputs: Sequence[str],
    names: tuple[str, str, str],
    hopeless: str,
) -> list[str]:
    """Ask one probe; what it finds goes by its number."""
    probe = plan.probes[number]
    found = f"V{number}"
    if probe.plain:
        return [f"  {found} = {inputs[0]}", f"  if type({found}) is not str: return odd(q)"]
    function, remembered, key = names
    if remembered:
        return [
            f"  {found} = {remembered}.get({key})",
            f"  if {found} is None:",
            f"   {found} = {function}({key}, {', '.join(inputs)})",
        ]
    if probe.only_index is None:
        return [f"  {found} = {function}({', '.join(inputs)})"]
    return [
        f"  i = {inputs[0]}",
        f"  {found} = () if {hopeless or 'False'} else {function}(i) if type(i) is str else None",
        f"  if type({found}) is list and len({found}) > 8:",
        f"   {found} = frozenset({found})",
    ]


def _hopeless(plan: Plan, asked: Sequence[int]) -> str:
    """Whether one of some probes has found nothing, which ends the matter."""
    # A probe that gave up (None) has not found nothing.
    told = [number for number in asked if not plan.probes[number].plain]
    return " or ".join([f"(not V{number} and V{number} is not None)" for number in told])


def _search(plan: Plan, number: int, tree: str) -> list[str]:
    branch = plan.branches[number]
    guard = f" and G{number}" if branch.guards else ""
    hopeless = _hopeless(plan, branch.probes)
    hopes = f" and not ({hopeless})" if hopeless else ""
    return [
        f"  if {tree}.size{guard}{hopes}:",
        f"   best = find({tree}.root, best, faults, q, values)",
    ]


def _decided() -> list[str]:
    return ["  if best is not None:", f"   return {_decision('best.effect == allow', 'best')}"]


def _decision(allowed: str, rule: str, look: str = "") -> str:
    return f"Decision({allowed}, {rule}, tuple(faults) if faults else (){look})"


def _packed(letter: str, numbers: Sequence[int]) -> str:
    return "(" + "".join([f"{letter}{number}, " for number in numbers]) + ")"


def _unpacked(letter: str, numbers: Sequence[int], name: str) -> str:
    return f"{_packed(letter, numbers)} = {name}" if numbers else "pass"
