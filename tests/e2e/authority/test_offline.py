"""A root that is kept elsewhere: the two commands and OpenSSL's between them, as docs have them."""

import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.e2e.support.instance import Place

ROOT = (
    "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=Company -keyout root.key -out root.pem "
    "-addext keyUsage=critical,keyCertSign,cRLSign"
)


def documented() -> str:
    """Give the command that docs tell."""
    text = (Path(__file__).parents[3] / "docs" / "identity.md").read_text()
    (line,) = [each for each in text.splitlines() if each.startswith("openssl x509 -req")]
    return line.partition("#")[0]


def test_until_there_is_a_root_everything_says_so_and_then_it_signs(
    new_folder: Callable[[], Path], tmp_path: Path
) -> None:
    """Nothing is printed as a bundle that is none."""
    folder = new_folder()
    keys = folder.with_name(f"{folder.name}-keys") / "sealing.key"
    place = Place(
        folder,
        {"policy.csv": ""},
        {
            "identity.trust_domain": "mesh.example",
            "identity.key_file": str(keys),
            "identity.ca": "offline",
        },
    )
    with place.start() as instance:
        instance.wait_ready()
        assert "nothing signs certificates for mesh.example yet" in instance.said()
        none_yet = place.command("bundle", "show")
        assert (none_yet.returncode, none_yet.stdout) == (2, "")
        assert "there is no root yet: 'meshwarden ca csr'" in none_yet.stderr
        assert (
            "nothing signs certificates yet: 'meshwarden ca csr'"
            in place.command("ca", "show").stdout
        )

        (tmp_path / "mesh.csr").write_text(place.command("ca", "csr").stdout)
        for command in (ROOT, documented()):
            subprocess.run(shlex.split(command), cwd=tmp_path, check=True, capture_output=True)
        mesh, root = ((tmp_path / f"{name}.pem").read_text() for name in ("mesh", "root"))
        chain = tmp_path / "chain.pem"
        chain.write_text(root + mesh)
        wrong = place.command("ca", "import", str(chain))
        assert (wrong.returncode, "the root last" in wrong.stderr) == (2, True), wrong.stderr
        chain.write_text(mesh + root)
        taken = place.command("ca", "import", str(chain))
        assert taken.returncode == 0, taken.stderr
        assert "signs certificates for mesh.example, until" in instance.said()
        assert "nothing signs" not in place.command("ca", "show").stdout
        assert place.command("bundle", "show").stdout.split() == root.split()
