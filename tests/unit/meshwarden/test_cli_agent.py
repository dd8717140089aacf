"""`meshwarden agent`: what its options say together, before anything runs."""

from pathlib import Path

from typer.testing import CliRunner, Result

from meshwarden.cli.main import app

TOKEN = "mwj1." + "S" * 43


def run(*arguments: object, given: str = "") -> Result:
    """Run the command in this process, with something on standard input."""
    return CliRunner().invoke(app, ["agent", *map(str, arguments)], input=given)


def said(result: Result) -> str:
    """What went wrong, out of its box."""
    return " ".join(result.output.replace("\N{BOX DRAWINGS LIGHT VERTICAL}", " ").split())


def test_two_join_tokens_are_one_too_many(tmp_path: Path) -> None:
    """Nobody can tell which is meant; neither is shown."""
    file = tmp_path / "token"
    file.write_text(TOKEN)
    for second in (str(file), "-"):
        result = run("--join-token", TOKEN, "--join-token-file", second, given=TOKEN)
        assert result.exit_code == 2
        assert "--join-token and --join-token-file name two tokens; give one" in said(result)
        assert "SSSS" not in result.output


def test_standard_input_without_a_token_is_told() -> None:
    """At once: nobody types one later."""
    for nothing in ("", "\n"):
        result = run("--join-token-file", "-", given=nothing)
        assert result.exit_code == 2
        assert "there is nothing on standard input" in said(result)
