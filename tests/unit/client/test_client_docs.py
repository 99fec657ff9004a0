"""docs/client.md does what it shows."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from client_rig import SIGNED, Decisions, Party, good_answer
from policyd_client import AlreadyUsed

PAGE = (Path(__file__).parents[3] / "docs/client.md").read_text(encoding="utf-8")


def test_the_start_on_the_page_runs(
    serve: Callable[..., str], party: Party, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first program of the page asks a real server, and its decision is spent afterwards."""
    party.client.write(tmp_path, name="client")
    (tmp_path / "ca.pem").write_bytes(party.authority.certificate_pem)
    monkeypatch.chdir(tmp_path)
    node = Decisions(lambda request, _: good_answer(request))
    program = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert program is not None
    names: dict[str, object] = {"token": SIGNED, "run_query": lambda: [("row",)]}

    exec(program[1].replace("127.0.0.1:50151", serve(decisions=node)), names)  # noqa: S102  # our own page

    assert names["rows"] == [("row",)]
    assert [list(request.fields) for request in node.asked] == [["KS4.KS4_ATT8"]]
    with pytest.raises(AlreadyUsed):
        names["decision"].use()  # type: ignore[attr-defined]  # what the program left behind


def test_the_page_names_every_error() -> None:
    """Each exception of the client stands in the table of errors."""
    for name in ("Withheld", "NoDecision", "AlreadyUsed", "Expired", "SealsNotLive"):
        assert f"| `{name}` |" in PAGE
