"""The source of a search and of a decision, for one plan."""

from collections.abc import Callable, Mapping, Sequence

from authz.policy.effects import Effect
from authz.policy.plan import Plan
from authz.policy.syntax import Node

__all__ = ["decide_source", "find_source"]


def find_source(predicate: str, fields: Sequence[int], probes: int) -> str:
    """A search: the first rule by rank, in front of a bound, that the predicate holds for.

    Args:
        predicate: An expression over the rule `v`, the request's fields and the probes' values.
        fields: Which fields of the request it is handed, in order.
        probes: How many probes there are.
    """
    return f"""
def find(root, bound, faults, q, values, fields):
 {_unpacked("V", range(probes), "values")}
 {_unpacked("r", fields, "fields")}
 best = None
 places = [root]
 for place in places:
  while type(place) is not list:
   wanted = values[place.probe]
   children = place.children
   if type(wanted) is str:
    place = children.get(wanted, ())
    if place:
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
   for rule in place:
    if not rule.rank < bound:
     break
    v = rule.values
    try:
     hit = {predicate}
    except Exception:
     hit = judge(rule, q, faults)
    if hit:
     best = rule
     bound = rule.rank
     break
 return best
"""


def decide_source(
    plan: Plan,
    effect: Effect,
    emit: Callable[[Node], str],
    fields: Sequence[int],
    trees: Mapping[tuple[str, tuple[int, ...]], str],
    probes: Sequence[tuple[str, str, str]],
) -> str:
    """A decision: what the request is looked up by, then one search a tree.

    Args:
        plan: The plan.
        effect: The policy effect.
        emit: Makes an expression of a part of the plan that speaks of the request alone.
        fields: Which fields of the request are read.
        trees: The name of each tree.
        probes: For each probe the name of its function, of what it remembers, and by which fields.
    """
    lines = ["def decide(q):", " if not rules: return blank(q)", " try:"]
    lines += [f"  r{index} = q[{index}]" for index in fields]
    for number, probe in enumerate(plan.probes):
        inputs = [emit(each) for each in probe.inputs]
        if probe.plain:
            lines += [f"  V{number} = {inputs[0]}"]
            lines += [f"  if type(V{number}) is not str: return odd(q)"]
            continue
        function, remembered, key = probes[number]
        if remembered:
            lines += [f"  V{number} = {remembered}.get({key})", f"  if V{number} is None:"]
            lines += [f"   V{number} = {function}({key}, {', '.join(inputs)})"]
        elif probe.only_index is not None:
            lines += [f"  i = {inputs[0]}"]
            lines += [f"  V{number} = {function}(i) if type(i) is str else None"]
            lines += [f"  if V{number} is not None and len(V{number}) > 8:"]
            lines += [f"   V{number} = frozenset(V{number})"]
        else:
            lines += [f"  V{number} = {function}({', '.join(inputs)})"]
    for number, branch in enumerate(plan.branches):
        if branch.guards:
            guards = " and ".join([emit(guard) for guard in branch.guards])
            lines += [f"  G{number} = {guards}"]
    lines += [f"  values = {_packed('V', range(len(plan.probes)))}"]
    lines += [f"  fields = {_packed('r', fields)}"]
    lines += ["  faults = []", "  best = None", "  bound = end"]
    for counted in effect.counts:
        for number, branch in enumerate(plan.branches):
            lines += _search(plan, number, trees[counted, branch.probes])
        if not effect.ordered:
            lines += ["  if best is not None:"]
            lines += [f"   return {_decision(str(counted == 'allow'), 'best')}"]
    if effect.ordered:
        lines += ["  if best is not None:"]
        lines += [f"   return {_decision('best.effect == allow', 'best')}"]
    look = "" if effect.otherwise else ", partial(near, q)"
    lines += [f"  return {_decision(str(effect.otherwise), 'None', look)}"]
    lines += [" except Exception:", "  return odd(q)", ""]
    return "\n".join(lines)


def _search(plan: Plan, number: int, tree: str) -> list[str]:
    branch = plan.branches[number]
    guard = f" and G{number}" if branch.guards else ""
    # A probe that found nothing has ended the matter; one that gave up (None) has not.
    asked = [number for number in branch.probes if not plan.probes[number].plain]
    hopes = "".join([f" and (V{number} or V{number} is None)" for number in asked])
    return [
        f"  if {tree}.size{guard}{hopes}:",
        f"   found = find({tree}.root, bound, faults, q, values, fields)",
        "   if found is not None:",
        "    best = found",
        "    bound = found.rank",
    ]


def _decision(allowed: str, rule: str, look: str = "") -> str:
    return f"Decision({allowed}, {rule}, tuple(faults) if faults else (){look})"


def _packed(letter: str, numbers: Sequence[int]) -> str:
    return "(" + "".join([f"{letter}{number}, " for number in numbers]) + ")"


def _unpacked(letter: str, numbers: Sequence[int], name: str) -> str:
    return f"{_packed(letter, numbers)} = {name}" if numbers else "pass"
