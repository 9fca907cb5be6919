"""The command line. Everything heavy is imported inside the command that needs it."""

from __future__ import annotations


def main() -> None:
    """The console script ``headgate``."""
    import sys

    from headgate.cli.app import run

    sys.exit(run(sys.argv[1:]))
