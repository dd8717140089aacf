"""Properties of how a request is read: one meaning, however it is spelled."""

from contextlib import suppress

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from authz.attributes import Attributes
from authz.check import CheckService
from authz.decision import CheckSettings
from authz.paths import normalise
from ca.spiffe_id import InvalidSpiffeIdError, parse
from protos.envoy.service.auth.v3.external_auth_pb2 import CheckResponse
from tests.fakes.envoy import check_request
from tests.fakes.policy import mesh_policy

UNRESERVED = "abcXYZ019-._~"
segments = st.lists(
    st.text(UNRESERVED, min_size=1, max_size=5).filter(lambda text: text.strip(".")),
    min_size=1,
    max_size=4,
)
quick = settings(max_examples=300, deadline=None)


@st.composite
def spelled(draw: st.DrawFn, names: list[str]) -> str:
    """Another spelling of the path of these segments, which every server reads alike or not."""
    path = ""
    for name in names:
        # At the start, two slashes name a host to some: such a path has no form.
        twice = "//" if path else "/"
        path += draw(st.sampled_from(["/", twice, "/./", "/%2E/", "/;v/"]))
        for character in name:
            encoded = draw(st.sampled_from(["", "", "%02x", "%02X"]))
            path += f"%{encoded % ord(character)}" if encoded else character
        path += draw(st.sampled_from(["", "", ";v=1", ";"]))
    return path + draw(st.sampled_from(["", "?q=/../x", "?"]))


@quick
@given(st.data(), segments)
def test_every_spelling_of_a_path_has_its_normal_form(
    data: st.DataObject, names: list[str]
) -> None:
    """Encoding, empty and dot segments, parameters and the query change nothing."""
    normal = normalise(data.draw(spelled(names)))
    assert (normal.path, normal.suspect) == ("/" + "/".join(names), None)


@quick
@given(
    st.text(st.characters(codec="utf-8"), max_size=40) | st.text("/.;%2eEfFcC0a\\?#x", max_size=20)
)
def test_the_normal_form_is_normal(text: str) -> None:
    """Bringing it there again changes nothing."""
    normal = normalise("/" + text)
    assume(normal.suspect is None)
    again = normalise(normal.path)
    assert again.path == normal.path
    assert again.suspect is None


DENIED = mesh_policy("p, *, *, *, /**, allow", "p, *, *, *, /secret/**, deny")


@quick
@given(st.data(), segments)
def test_no_spelling_evades_a_deny_rule(data: st.DataObject, names: list[str]) -> None:
    """Denied whatever comes before and after, and however it is written."""
    path = data.draw(spelled(["secret", *names]))
    service: CheckService[object] = CheckService(CheckSettings(), lambda: "id")
    service.policy = DENIED
    response = CheckResponse.FromString(service.answer(check_request(path).SerializeToString(), 1))
    assert response.status.code == 7


names = st.text("abX-", min_size=1, max_size=6)


@quick
@given(st.lists(st.tuples(names, st.text(st.characters(codec="utf-8"), max_size=5)), max_size=6))
def test_headers_are_the_same_from_either_form(sent: list[tuple[str, str]]) -> None:
    """What Envoy merges into `headers` is what `header_map` comes to."""
    merged: dict[str, str] = {}
    for name, value in sent:
        merged[name.lower()] = (
            f"{merged[name.lower()]},{value}" if name.lower() in merged else value
        )
    plain = check_request()
    plain.attributes.request.http.headers.clear()
    plain.attributes.request.http.headers.update(merged)
    raw = check_request(raw_headers=[(name, value.encode()) for name, value in sent])
    as_text, as_bytes = Attributes(plain).headers, Attributes(raw).headers
    assert dict(as_text) == dict(as_bytes) == merged
    assert as_text.raw == as_bytes.raw


@quick
@given(st.binary(max_size=8), st.binary(max_size=8))
def test_raw_values_are_equal_as_text_only_if_they_are(one: bytes, other: bytes) -> None:
    """No two values that differ read alike."""
    headers = Attributes(check_request(raw_headers=[("a", one), ("b", other)])).headers
    assert (headers["a"] == headers["b"]) is (one == other)


@quick
@given(
    st.text(max_size=30) | st.from_regex(r"spiffe://[a-z0-9._:@-]{0,5}(/[A-Za-z0-9._%-]{0,4}){0,4}")
)
def test_a_spiffe_id_is_its_own_only_spelling(text: str) -> None:
    """What is read is written back the same, or is refused."""
    with suppress(InvalidSpiffeIdError):
        assert str(parse(text)) == text
