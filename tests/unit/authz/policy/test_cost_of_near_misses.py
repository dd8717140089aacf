"""What a denial costs when it is asked for the rules that nearly matched, counted in calls."""

from time import thread_time

from authz.attributes import reader
from authz.policy.mesh import mesh_model
from authz.policy.snapshot import EngineOptions, PolicyText, Row, Snapshot

MANY = 600


def _mesh(*rows: Row, **functions: object) -> Snapshot:
    options = EngineOptions(functions=functions)  # type: ignore[arg-type]  # each is called
    return Snapshot.build(PolicyText(mesh_model(), rows), None, options)


def _row(number: int, who: str, path: str, when: str = "") -> Row:
    return Row("p", (who, "*", "GET", path.format(number), "allow", when))


def test_somebody_elses_function_is_asked_a_few_times_only() -> None:
    """Nobody knows how long it takes; all that a caller can do is be denied again and again."""
    calls = []

    def slow(*values: object) -> bool:
        calls.append(values)
        return False

    rows = [
        _row(each, f"td/ns/{each}/sa/x", "/a", 'slow(request.headers["x"])') for each in range(MANY)
    ]
    snapshot = _mesh(*rows, slow=slow)
    values = {"request.headers": {"x": "y"}}
    decision = snapshot.decide(("", "", "s", "GET", "/a", values))
    assert not decision.wants_credential
    assert len(decision.misses) <= 3
    assert 0 < len(calls) <= 20


def test_a_condition_is_tried_once_for_all_that_is_left_open() -> None:
    """However many fields are opened in turn."""
    calls = []

    def asked(*values: object) -> bool:
        calls.append(values)
        return False

    snapshot = _mesh(_row(0, "td/ns/a/sa/x", "/a", "asked(1)"), asked=asked)
    decision = snapshot.decide(("td/ns/b/sa/x", "", "s", "GET", "/a", {}))
    assert decision.misses[0].reason.startswith("who is")
    assert len(calls) == 1


def test_a_credential_is_still_asked_for_behind_many_light_conditions() -> None:
    """A 401 in place of a 403: the conditions of hundreds of rules are looked at for it."""
    rows = [
        _row(each, f"td/ns/{each}/sa/x", "/a", 'request.host == "other"') for each in range(300)
    ]
    rows.append(_row(0, "td/ns/a/sa/x", "/a", 'request.host == "this"'))
    snapshot = _mesh(*rows)
    decision = snapshot.decide(("", "", "s", "GET", "/a", {"request.host": "this"}))
    assert decision.wants_credential


def test_a_path_as_long_as_a_header_makes_no_denial_slow() -> None:
    """Its segments are gone through once, not for each rule that is looked at; it took 1.7 s."""
    rows = [_row(each, f"td/ns/{each}/sa/x", "/**/" + "*/" * 30 + "q{}") for each in range(30)]
    snapshot = Snapshot.build(
        PolicyText(mesh_model(), tuple(rows)), None, EngineOptions(attribute=reader)
    )
    begun = thread_time()
    decision = snapshot.decide(("", "", "s", "GET", "/a" * 30_000, {}))
    assert len(decision.misses) == 3
    assert thread_time() - begun < 1
