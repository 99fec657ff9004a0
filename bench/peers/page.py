"""Put what a bench has to say into its own section of a page, and leave the others' as they are."""

from __future__ import annotations

from pathlib import Path

HEAD = """# Performance

Each section is written by its bench; edit that, not this.
`make bench` runs them all.
Read the ratios: they hold on other machines, times and rates do not.
"""


def put_section(page: Path, bench: str, text: str) -> None:
    """Replace the section of ``bench`` in ``page``, or add it at the end; make the page if there is none."""
    begin, end = (f"<!-- {edge} {bench} -->\n" for edge in ("begin", "end"))
    whole = page.read_text(encoding="utf-8") if page.exists() else HEAD
    section = f"{begin}\n{text.strip()}\n\n{end}"
    before, found, rest = whole.partition(begin)
    if found:
        _, closed, after = rest.partition(end)
        if not closed:
            raise SystemExit(f"`{page}` has a section of `{bench}` without its end: add `{end.strip()}`")
        page.write_text(before + section + after, encoding="utf-8")
    else:
        page.write_text(f"{whole.rstrip()}\n\n{section}", encoding="utf-8")
