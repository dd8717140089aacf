"""A policy of pycasbin's moves into the store and out again, and decides the same everywhere."""

from collections.abc import Callable
from itertools import product
from pathlib import Path

import casbin
import grpc
from casbin_sqlalchemy_adapter import Adapter
from sqlalchemy import create_engine

from deploy.demo.processes import wait_until
from protos.envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from protos.envoy.service.auth.v3.external_auth_pb2_grpc import AuthorizationStub
from tests.e2e.support.policy import command
from tests.e2e.support.service import Service

MODEL = """
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act, eft
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = g(r.sub, p.sub) && keyMatch2(r.obj, p.obj) && r.act == p.act
"""
BINDING = {
    "sub": "request.headers['x-user']",
    "obj": "request.path",
    "act": "request.method",
}
ASKED = list(product(("ann", "bob", "eve"), ("/data", "/data/7"), ("GET", "PUT")))


def enforced(url: str) -> list[bool]:
    """What pycasbin says by a table, through its own adapter."""
    engine = create_engine(url)
    model = casbin.Model()
    model.load_model_from_text(MODEL)
    judge = casbin.Enforcer(model, Adapter(engine))
    answers = [judge.enforce(*asked) for asked in ASKED]
    engine.dispose()
    return answers


def checked(service: Service) -> list[bool]:
    """What the service says to the same questions."""
    answers = []
    with grpc.insecure_channel(f"127.0.0.1:{service.port}") as channel:
        stub = AuthorizationStub(channel)
        for user, path, method in ASKED:
            request = CheckRequest()
            http = request.attributes.request.http
            http.method, http.path = method, path
            http.headers["x-user"] = user
            answers.append(stub.Check(request, timeout=5).status.code == 0)
    return answers


def test_what_casbin_wrote_decides_the_same_in_the_service_and_back(
    new_folder: Callable[[], Path],
) -> None:
    """Imported with its model, in force, exported again: three times the same verdicts."""
    folder = new_folder()
    (folder / "casbin.conf").write_text(MODEL)
    theirs, ours = (f"sqlite:///{folder / name}.db" for name in ("theirs", "ours"))
    engine = create_engine(theirs)
    model = casbin.Model()
    model.load_model_from_text(MODEL)
    writer = casbin.Enforcer(model, Adapter(engine))
    writer.add_policy("staff", "/data/:id", "GET", "allow")
    writer.add_policy("ann", "/data", "PUT", "allow")
    writer.add_policy("bob", "/data/:id", "GET", "deny")
    writer.add_grouping_policy("ann", "staff")
    writer.add_grouping_policy("bob", "staff")
    engine.dispose()
    wanted = enforced(theirs)
    assert 0 < sum(wanted) < len(wanted)
    settings = {"policy.source": "store", "policy.bind": BINDING}
    with Service(folder, {}, settings) as service:
        service.wait_ready()
        assert not any(checked(service))
        code, said = command(service, "import", theirs)
        assert code == 2
        assert "name it by --model" in said
        code, said = command(service, "import", theirs, "--model", folder / "casbin.conf")
        assert code == 0, said
        wait_until(lambda: checked(service) == wanted, [service], 10)
        allow = ("--field", "sub=eve", "--field", "obj=/data", "--field", "act=GET")
        assert command(service, "allow", *allow)[0] == 0
        assert command(service, "export", ours)[0] == 0
        wait_until(lambda: checked(service) != wanted, [service], 10)
        assert enforced(ours) == checked(service)
