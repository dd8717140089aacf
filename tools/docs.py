"""Writes the pages that are read off the code; --check proves that they are fresh.

docs/config.md and deploy/meshwarden.toml come from meshwarden/settings, docs/cli.md from the
commands themselves, docs/lint.md from the lints.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from meshwarden import config_reference
from tools import docs_cli, docs_lint

ROOT = Path(__file__).parents[1]
PAGES: Mapping[str, Callable[[], str]] = {
    "docs/config.md": config_reference.markdown,
    "docs/cli.md": docs_cli.markdown,
    "docs/lint.md": docs_lint.markdown,
    "deploy/meshwarden.toml": config_reference.toml,
}


def stale(root: Path) -> list[str]:
    """Name the pages that are missing or no longer what the code says."""
    return [
        page
        for page, write in PAGES.items()
        if not (root / page).exists() or (root / page).read_text(encoding="utf-8") != write()
    ]


def main() -> int:
    """Write the pages, or with --check only compare them."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--check", action="store_true", help="change nothing; exit 1 if stale")
    if arguments.parse_args().check:
        pages = stale(ROOT)
        for page in pages:
            print(f"{page} is stale: run python -m tools.docs", file=sys.stderr)
        return 1 if pages else 0
    for page, write in PAGES.items():
        file = ROOT / page
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(write(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
