"""Policy effects that do something else than a reader of the rules would think."""

from collections.abc import Iterator

from authz.authoring.findings import Place, Severity
from authz.authoring.lint.spec import Lint, Problem, Subject
from authz.policy.effects import Effect

__all__ = ["LINTS"]


def _no_field(subject: Subject) -> Iterator[Problem]:
    for policy, effect, place in _effects(subject):
        asks_deny = effect in {Effect.DENY_OVERRIDE, Effect.ALLOW_AND_DENY}
        if asks_deny and subject.language is not None:
            definition = subject.language.model.definitions[policy]
            if "eft" not in definition.fields:
                message = f"{policy!r} has no field 'eft', so every rule allows and none denies"
                yield Problem(place, message, f"add eft: {policy} = {definition.text}, eft")


def _allows(subject: Subject) -> Iterator[Problem]:
    for _, effect, place in _effects(subject):
        if effect is Effect.DENY_OVERRIDE:
            message = "whatever no rule denies is allowed, also what nobody has thought of"
            fix = "add some(where (p.eft == allow)) && in front of it"
            yield Problem(place, message, fix)


def _order(subject: Subject) -> Iterator[Problem]:
    for policy, effect, place in _effects(subject):
        if effect is Effect.PRIORITY and subject.language is not None:
            fields = subject.language.model.definitions[policy].fields
            if "priority" not in fields:
                message = "the order of lines decides, and across files the order of their names"
                yield Problem(place, message, f"add a field priority to {policy!r}")


def _effects(subject: Subject) -> Iterator[tuple[str, Effect, Place]]:
    """Each policy definition with its effect, and where the model has that."""
    if subject.language is None or subject.is_mesh:
        return
    definitions = subject.language.model.definitions
    for policy, effect in subject.effects.items():
        definition = definitions.get("e" + policy[1:]) or definitions["e"]
        yield policy, effect, Place(subject.text.model_file, definition.line)


def _model(effect: str, fields: str) -> str:
    return (
        f"[request_definition]\nr = sub, obj\n[policy_definition]\np = {fields}\n"
        f"[policy_effect]\ne = {effect}\n[matchers]\nm = r.sub == p.sub && r.obj == p.obj\n"
    )


LINTS = (
    Lint(
        "effect-without-field",
        Severity.WARNING,
        "a policy effect that asks for denies, over rules that have no field `eft`",
        "Every rule of such a policy allows; there is no way to write a deny.",
        "Add `eft` to the policy definition, or take the denies out of the effect.",
        "p, alice, data\n",
        _no_field,
        _model("some(where (p.eft == allow)) && !some(where (p.eft == deny))", "sub, obj"),
    ),
    Lint(
        "allows-by-default",
        Severity.WARNING,
        "the policy effect `!some(where (p.eft == deny))` alone",
        "What no rule speaks of is allowed: an empty policy allows everything.",
        "Add `some(where (p.eft == allow)) &&` in front of it.",
        "p, alice, data, deny\n",
        _allows,
        _model("!some(where (p.eft == deny))", "sub, obj, eft"),
    ),
    Lint(
        "order-decides",
        Severity.NOTE,
        "a priority effect over rules that have no field `priority`",
        "A line moved to another place or file changes verdicts.",
        "Add the field `priority`.",
        "p, alice, data, allow\n",
        _order,
        _model("priority(p.eft) || deny", "sub, obj, eft"),
    ),
)
