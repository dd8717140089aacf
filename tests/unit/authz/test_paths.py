"""The normal form of a path, and what has none."""

import pytest

from authz.paths import RequestPath, host, normalise

# As sent, and as policies see it.
NORMAL = [
    ("/", "/"),
    ("/a", "/a"),
    ("/a/b.c/d-e_f~g", "/a/b.c/d-e_f~g"),
    ("/A/b", "/A/b"),  # letter case counts
    ("/a/", "/a/"),  # the trailing slash is kept
    ("/a?x=1", "/a"),
    ("/a?x=/../b", "/a"),
    ("/a?x#y", "/a"),
    ("/?", "/"),
    ("/a//b", "/a/b"),
    ("/a///", "/a/"),
    ("/.", "/"),
    ("/a/.", "/a/"),
    ("/a/./b", "/a/b"),
    ("/a/...", "/a/..."),
    ("/.well-known/x", "/.well-known/x"),
    ("/a..b/c", "/a..b/c"),
    ("/%61", "/a"),
    ("/%7Euser", "/~user"),
    ("/a%3ab", "/a%3Ab"),
    ("/a%20b", "/a%20b"),
    ("/100%25", "/100%25"),
    ("/caf%c3%a9", "/caf%C3%A9"),
    ("/café", "/caf%C3%A9"),
    ("/a|b", "/a%7Cb"),
    ("/a;v=1", "/a"),
    ("/a;v=1/b;w", "/a/b"),
    ("/a;/b", "/a/b"),
    ("/;x/a", "/a"),
    ("http://shop.example/a?x", "/a"),
    ("http://shop.example", "/"),
    ("http://shop.example?x", "/"),
    ("*", "*"),
    ("", ""),
    ("?x", ""),
]

# As sent, and what it is where the settings say that ambiguous paths are decided on.
PARENT = [
    ("/..", "/"),
    ("/a/..", "/"),
    ("/a/../b", "/b"),
    ("/a//b/../c", "/a/c"),
    ("/a;v=1/../b", "/b"),
    ("/a/b/../c", "/a/c"),
    ("/a/b/..", "/a/"),
    ("/../../etc", "/etc"),
    ("/a/%2e%2e/b", "/b"),
    ("/a/%2E./b", "/b"),
    ("/a/.%2e", "/"),
    ("HTTPS://shop.example:8443/a/../b", "/b"),
]

# As sent, and what is said about it.
SUSPECT = [
    ("/a%2Fb", "an encoded slash"),
    ("/a%2fb", "an encoded slash"),
    ("/..%2f..%2fetc", "an encoded slash"),
    ("/a%5Cb", "a backslash"),
    ("/a\\b", "a backslash"),
    ("/a\\..\\b", "a backslash"),
    ("/a%00", "an encoded control character"),
    ("/a%0d%0ab", "an encoded control character"),
    ("/a%7f", "an encoded control character"),
    ("/a\x00", "a control character or space"),
    ("/a\n", "a control character or space"),
    ("/a b", "a control character or space"),
    ("/a\x85", "a control character or space"),
    ("/%", "a broken percent-encoding"),
    ("/%2", "a broken percent-encoding"),
    ("/%zz", "a broken percent-encoding"),
    ("/%u002f", "a broken percent-encoding"),
    ("/%252e%252e/a", "a percent-encoded percent-encoding"),
    ("/%252f", "a percent-encoded percent-encoding"),
    ("/%c0%ae%c0%ae/a", "bytes that are not UTF-8"),
    ("/%ff", "bytes that are not UTF-8"),
    ("/a\udcff", "bytes that are not UTF-8"),
    ("/a#b", "a fragment"),
    ("/a#/../b?x", "a fragment"),
    ("//", "two slashes at its start"),
    ("//public/admin", "two slashes at its start"),
    ("///a", "two slashes at its start"),
    ("http://shop.example//public/admin", "two slashes at its start"),
    ("/admin//../public", "a segment '..'"),
    ("/admin/users//..//../", "a segment '..'"),
    ("/admin//%2e%2e/public", "a segment '..'"),
    ("/admin/;/../public", "a segment '..'"),
    ("/a/..;/b", "a segment '..'"),
    ("/a/..;x=1/b", "a segment '..'"),
    ("/a/..%3b/b", "a segment '..'"),
    ("/admin/.;/../b", "a segment '..'"),
    ("a", "no slash at its start"),
    ("../a", "no slash at its start"),
    ("shop.example:443", "no slash at its start"),
    ("**", "no slash at its start"),
]

# As sent, and what a deny rule must be tried on besides the normal form.
READINGS = [
    ("/a", set()),
    ("/.well-known/x", set()),
    ("/admin/../x", {"/admin/../x"}),
    ("/%61dmin/../x", {"/%61dmin/../x", "/admin/../x"}),
    ("/%61dmin;y/../x", {"/%61dmin;y/../x", "/admin;y/../x", "/admin/../x"}),
    ("/x;/admin", {"/x;/admin"}),
    ("//admin", {"//admin"}),
    ("/a%3ab", {"/a%3ab", "/a:b"}),
    ("/caf%c3%a9", {"/caf%c3%a9", "/café"}),
    ("/a%3bb", {"/a%3bb", "/a;b", "/a"}),
    ("/a%2fb", {"/a%2fb", "/a/b"}),
    ("/x%5c..%5cadmin", {"/x%5c..%5cadmin", "/x/../admin", "/admin"}),
    ("/x/%252e%252e/admin", {"/x/%2e%2e/admin", "/admin"}),
]


@pytest.mark.parametrize(("sent", "path"), NORMAL)
def test_a_path_has_one_normal_form(sent: str, path: str) -> None:
    """Every spelling that servers agree on is decided alike."""
    normal = normalise(sent)
    assert (normal.path, normal.suspect) == (path, None)


@pytest.mark.parametrize(("sent", "path"), PARENT)
def test_a_parent_segment_is_suspect_wherever_it_leads(sent: str, path: str) -> None:
    """A server that resolves none takes it for something below what stands before it."""
    normal = normalise(sent)
    assert (normal.path, normal.suspect) == (path, "a segment '..'")


@pytest.mark.parametrize(("sent", "suspect"), SUSPECT)
def test_what_servers_read_differently_is_suspect(sent: str, suspect: str) -> None:
    """The reason is said in words."""
    assert normalise(sent).suspect == suspect


@pytest.mark.parametrize(("sent", "readings"), READINGS)
def test_other_readings_are_kept_for_deny_rules(sent: str, readings: set[str]) -> None:
    """What a server may take the path for is among them, and the normal form is not."""
    assert set(normalise(sent).readings) == readings


@pytest.mark.parametrize("sent", [sent for sent, path in NORMAL if sent == path and sent])
def test_a_normal_path_has_no_other_reading(sent: str) -> None:
    """The common case costs one decision."""
    if "%" not in sent:
        assert normalise(sent) == RequestPath(sent)


def test_long_hostile_paths_are_read_in_linear_time() -> None:
    """64 KiB of anything is read in well under a second; quadratic work would take minutes."""
    for part in ("../", "%00", "%25", ";", "//", "é", "\\", "a/../", "%"):
        normalise("/" + part * (65_536 // len(part)))


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("shop.example", "shop.example"),
        ("Shop.EXAMPLE:8443", "shop.example"),
        ("shop.example.", "shop.example"),
        ("shop.example.:80", "shop.example"),
        ("10.0.0.1:80", "10.0.0.1"),
        ("[2001:DB8::1]:443", "[2001:db8::1]"),
        ("[2001:db8::1]", "[2001:db8::1]"),
        ("", ""),
    ],
)
def test_a_host_has_one_spelling(sent: str, name: str) -> None:
    """Letter case, port and final dot make no other host."""
    assert host(sent) == name
