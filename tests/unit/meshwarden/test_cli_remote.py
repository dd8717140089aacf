"""Which service a command speaks to: what its options and variables say together."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from meshwarden.cli import remote
from meshwarden.cli.main import app

TOKEN = "mwt_" + "0" * 12 + "_" + "A" * 43


def run(*arguments: object, environ: dict[str, str] | None = None) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(app, [*map(str, arguments)], env=environ)


def said(result: Result) -> str:
    """What went wrong, out of its box."""
    return " ".join(result.output.replace("\N{BOX DRAWINGS LIGHT VERTICAL}", " ").split())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--token-file", "x"], "--token-file needs --server"),
        (["--client-cert", "x", "--client-key", "y"], "--client-cert needs --server"),
        (["--server", "example"], "write HOST:PORT"),
        (["--server", ":1"], "write HOST:PORT"),
        (["--server", "example:port"], "write HOST:PORT"),
        (["--server", "example:1", "--client-cert", "x"], "belong together"),
    ],
)
def test_options_that_do_not_fit_together_are_told(options: list[str], told: str) -> None:
    """Before anything is asked of anybody."""
    result = run("policy", "history", *options)
    assert result.exit_code == 2
    assert told in said(result)


def test_variables_for_other_commands_are_no_mistake(tmp_path: Path) -> None:
    """Without a server the one on this machine is meant; here none runs."""
    config = tmp_path / "mw.toml"
    config.write_text(f'runtime.runtime_dir = "{tmp_path}/run"\n')
    environ = {"MESHWARDEN_TOKEN_FILE": "/no/such", "MESHWARDEN_CLIENT_CERT": "/no/such"}
    result = run("policy", "history", "-c", config, environ=environ)
    assert "no service runs" in said(result)


def test_what_was_chosen_is_forgotten_with_the_command() -> None:
    """The next one in this process speaks to this machine again."""
    run("admin", "whoami", "--server", "127.0.0.1:1")
    assert remote.chosen() is None


@pytest.mark.parametrize(
    "text", ["", "mwt_", TOKEN[:-1], TOKEN + "A", "Bearer " + TOKEN, "\0" * 99]
)
def test_a_file_without_a_token_is_told_and_not_shown(tmp_path: Path, text: str) -> None:
    """It may be the wrong secret."""
    file = tmp_path / "token"
    file.write_text(text)
    result = run("admin", "whoami", "--server", "127.0.0.1:1", "--token-file", file)
    assert result.exit_code == 2
    assert "holds no token" in said(result)
    assert "AAAA" not in result.output


def test_a_token_that_others_can_read_is_warned_of_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As ssh has it for keys."""
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o600)
    assert remote.token_of(file) == TOKEN
    assert capsys.readouterr().err == ""
    other = tmp_path / "other"
    other.write_text(TOKEN)
    other.chmod(0o640)
    assert remote.token_of(other) == remote.token_of(other)
    assert capsys.readouterr().err.count("chmod 600") == 1


def test_no_option_takes_a_token_itself() -> None:
    """Everybody on the machine can read the arguments of a process."""
    assert "--token " not in run("policy", "apply", "-h").output
    assert run("policy", "history", "--token", TOKEN).exit_code == 2
