"""The parts of the demo that need no Envoy."""

import datetime as dt
import sys
from pathlib import Path

import pytest
from cryptography import x509

from deploy.demo.certificates import Authority
from deploy.demo.expectations import ExpectationError, Expectations
from deploy.demo.processes import Child, DemoError, wait_until

DEMO = Path(__file__).resolve().parents[3] / "deploy" / "demo"
NOON = dt.datetime(2031, 5, 1, 12, tzinfo=dt.UTC)
ID = "spiffe://shop.example/ns/prod/sa/frontend"


def test_every_rule_that_is_expected_to_decide_is_a_rule_of_the_policy() -> None:
    """An expectation names a line; an edit of the policy moves lines."""
    for request in Expectations.load(DEMO / "requests.toml").requests:
        if request.rule:
            name, line = request.rule.split(":")
            text = (DEMO / "policy" / name).read_text().splitlines()[int(line) - 1]
            effect = "deny" if request.verdict == "deny" else "allow"
            assert text.startswith("p, ")
            assert f", {effect}" in text, request.about


def test_the_story_has_each_kind_of_verdict() -> None:
    """Allowed and denied by role, path, method, condition and explicit deny, and without a name."""
    requests = Expectations.load(DEMO / "requests.toml").requests
    assert len(requests) >= 10
    assert {request.status for request in requests} == {200, 401, 403}
    assert any(request.verdict == "deny" and request.rule for request in requests)
    assert any(request.who == "nobody" for request in requests)


def test_an_expectation_of_an_unknown_caller_is_refused(tmp_path: Path) -> None:
    """A typo must not turn into a caller without a certificate."""
    file = tmp_path / "requests.toml"
    file.write_text(
        '[callers]\nfrontend = "x"\n[[requests]]\nabout = "typo"\nwho = "frontent"\n'
        'method = "GET"\npath = "/"\nverdict = "allow"\nstatus = 200\n'
    )
    with pytest.raises(ExpectationError, match="'typo': no caller 'frontent'"):
        Expectations.load(file)


def test_a_certificate_has_one_uri_and_chains_to_the_authority(tmp_path: Path) -> None:
    """A second URI SAN would leave the caller without a principal."""
    authority = Authority(tmp_path / "certificates", NOON)
    credential = authority.issue("frontend", ID)
    root = x509.load_pem_x509_certificate(authority.certificate.read_bytes())
    leaf = x509.load_pem_x509_certificate(credential.certificate.read_bytes())

    leaf.verify_directly_issued_by(root)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [ID]
    assert leaf.not_valid_before_utc < NOON < leaf.not_valid_after_utc
    assert credential.key.stat().st_mode & 0o777 == 0o600


def test_a_child_that_dies_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    """Nobody should have to look for the reason."""
    program = "print('address in use'); raise SystemExit(3)"
    child = Child("the sidecar", [sys.executable, "-c", program], tmp_path / "log", {})
    with child, pytest.raises(DemoError, match=r"(?s)the sidecar ended.*status 3.*address in use"):
        wait_until(lambda: False, [child], within_s=20)


def test_waiting_for_what_never_comes_ends(tmp_path: Path) -> None:
    """A child that hangs at start is told like one that dies."""
    child = Child(
        "meshwarden", [sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "log", {}
    )
    with child, pytest.raises(DemoError, match="meshwarden is not ready"):
        wait_until(lambda: False, [child], within_s=0.1)


def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    """The name says which part is missing."""
    with pytest.raises(DemoError, match="the sidecar did not start"):
        Child("the sidecar", [str(tmp_path / "envoy")], tmp_path / "log", {})
