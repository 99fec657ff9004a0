"""`policyd demo`: the whole path on one machine, from a synthetic database to recorded answers."""

from __future__ import annotations

import click


@click.command()
def demo() -> None:
    """Run the demo."""
