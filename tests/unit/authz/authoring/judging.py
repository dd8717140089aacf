"""Two policies side by side, decided by the engine itself."""

from authz.authoring.effects import Difference, compare
from authz.authoring.examples import Example
from authz.authoring.search import Judge
from authz.policy.csv_rows import parse_csv
from authz.policy.decision import Decision
from authz.policy.mesh import mesh_model
from authz.policy.options import EngineOptions
from authz.policy.rules import PolicyText, Row
from authz.policy.snapshot import Snapshot


def text_of(lines: str, model: str = "") -> PolicyText:
    """A policy from lines of CSV."""
    rows, faults = parse_csv(lines, "policy.csv")
    assert not faults
    return PolicyText(model or mesh_model(), tuple(rows), "model.conf" if model else "mesh")


def request_of(example: Example) -> tuple[object, ...]:
    """An example as the request of the mesh model, or of the model that its values are of."""
    if example.values:
        return tuple(example.values.values())
    return (
        example.principal,
        f"user:{example.user}" if example.user else "",
        example.service,
        example.method,
        example.path.partition("?")[0],
        {"request.headers": example.headers, "source.ip": example.source_ip},
    )


def judge_of(old: PolicyText, new: PolicyText) -> Judge:
    """What decides under both."""
    before, after = Snapshot.build(old), Snapshot.build(new)

    def judge(example: Example) -> tuple[Decision, Decision]:
        request = request_of(example)
        return before.decide(request), after.decide(request)

    return judge


def difference(old: PolicyText, new: PolicyText) -> Difference:
    """Compare two policies."""
    return compare(old, new, EngineOptions(), judge_of(old, new))


def rows_text(rows: list[Row]) -> PolicyText:
    """A policy of the mesh model from rows."""
    return PolicyText(mesh_model(), tuple(rows))
