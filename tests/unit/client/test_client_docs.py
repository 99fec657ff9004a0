"""docs/client.md does what it shows."""

from __future__ import annotations

import re
from pathlib import Path

import policyd_client.errors
import pytest
from policyd_client import AlreadyReported, AlreadyUsed
from support.server import make_site, serving

from policyd.devsetup import client_credentials, trusted_logs

PAGE = (Path(__file__).parents[3] / "docs/client.md").read_text(encoding="utf-8")


def test_the_start_on_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first program of the page asks a real node; its decision is spent and reported afterwards."""
    site = make_site(tmp_path / "data")
    client_credentials(site.config, site.spiffe_id()).write(tmp_path, name="client")
    (tmp_path / "ca.pem").write_bytes(site.config.tls.authority.read_bytes())
    (tmp_path / "logs.tlog-policy").write_bytes(trusted_logs(site.config).read_bytes())
    monkeypatch.chdir(tmp_path)
    program = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert program is not None
    names: dict[str, object] = {
        "token": site.token(),
        "run_query": lambda: [("row",)],
        "key_of_our_own": bytes(32),
    }

    with serving(site) as node:
        exec(program[1].replace("127.0.0.1:50151", node.address), names)  # noqa: S102  # our own page

    assert names["rows"] == [("row",)]
    assert [leaf["kind"] for leaf in site.leaves()][-2:] == ["decision", "release"]
    assert (tmp_path / "journal.jsonl").exists()
    with pytest.raises(AlreadyUsed):
        names["decision"].use()  # type: ignore[attr-defined]  # what the program left behind
    with pytest.raises(AlreadyReported):
        names["decision"].life.begin_report("", rows=0)  # type: ignore[attr-defined]


def test_the_page_names_every_error() -> None:
    """Each exception of the client stands in the table of errors."""
    errors = [each for each in vars(policyd_client.errors).values() if isinstance(each, type)]
    names = [each.__name__ for each in errors if issubclass(each, Exception)]

    assert len(names) == 7
    for name in names:
        assert f"| `{name}` |" in PAGE
