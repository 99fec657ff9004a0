"""The `policyd` command: entry points only, each a thin call into the floors below."""

from policyd.cli.main import main

__all__ = ["main"]
