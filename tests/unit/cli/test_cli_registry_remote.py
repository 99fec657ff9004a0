"""`policyd registry` through a node: the same plans, questions and files as with the data directory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.server import Site, registry_text, serving

from policyd.server import Server
from policyd.service.changing import Changer

AS = ("--as", "registrar-1", "--yes")
BOTH = (*AS, "--approve", "approver-1")


@pytest.fixture
def node(own: Site) -> Iterator[Server]:
    with serving(own) as running:
        yield running


def _listed(run: Any, *where: object) -> dict[str, Any]:
    result = run("registry", "list", *where, "--json")
    assert result.exit_code == 0, result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_a_plan_is_the_same_through_a_node(run: Any, own: Site, node: Server, file: Path) -> None:
    """`--dry-run` shows the same differences with `--server` as with `--data`, and changes nothing."""
    here = run("registry", "apply", file, "--data", own.data, "--dry-run")
    there = run(
        *("registry", "apply", file, "--data", own.data, "--server", node.address),
        *("--as", "registrar-1", "--dry-run"),
    )

    assert here.exit_code == there.exit_code == 0
    assert "~ agreement DS00101\n    status  active -> suspended" in there.stdout
    assert there.stdout.splitlines()[:-1] == here.stdout.splitlines()[:-1]
    assert there.stdout.splitlines()[-1] == "planned; nothing was changed"
    assert node.node.current.epoch == 3


def test_two_people_apply_a_file_through_a_node(run: Any, own: Site, node: Server, file: Path) -> None:
    """The change is in force when the command ends, the second time there is nothing to change."""
    where = ("--data", own.data, "--server", node.address)

    first = run("registry", "apply", file, *where, *BOTH, "--why", "case 7")
    second = run("registry", "apply", file, *where, *BOTH)

    assert first.exit_code == second.exit_code == 0, first.stderr
    assert "takes two people" in first.stdout
    assert "applied as epoch 4; in force" in first.stdout
    assert "nothing to change" in second.stdout
    assert "researcher-4" in _listed(run, *where, "--as", "auditor-1")["registry"]["requesters"]
    said = {(leaf["stage"], leaf["why"]) for leaf in own.leaves() if leaf.get("why") == "case 7"}
    assert said == {("intended", "case 7"), ("in-force", "case 7"), ("applied", "case 7")}


def test_a_proposal_goes_from_hand_to_hand(
    run: Any, *, own: Site, node: Server, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One signature writes a proposal, and the second person sees the same plan and has it made."""
    monkeypatch.chdir(tmp_path)
    where = ("--data", own.data, "--server", node.address)

    asked = run("registry", "apply", file, *where, *AS)
    (proposal,) = tmp_path.glob("*.change.json")
    again = run("registry", "approve", proposal.name, *where, *AS)
    approved = run("registry", "approve", proposal.name, *where, "--as", "approver-1", "--yes")

    assert asked.exit_code == again.exit_code == approved.exit_code == 0, approved.stderr
    assert "not applied yet: it takes the signature of one more person" in asked.stdout
    assert f"policyd registry approve {proposal.name} --server {node.address}" in asked.stdout
    # Who has signed already sends the same again, and signs nothing twice.
    assert "not applied yet" in again.stdout
    assert "asked for by registrar-1" in approved.stdout
    assert "~ agreement DS00101\n    status  active -> suspended" in approved.stdout
    assert "applied as epoch 4; in force" in approved.stdout


def test_a_proposal_of_the_files_is_approved_through_a_node_and_the_other_way_round(
    run: Any, *, own: Site, node: Server, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is one kind of file, wherever the change was asked for."""
    monkeypatch.chdir(tmp_path)
    data, server = ("--data", own.data), ("--data", own.data, "--server", node.address)

    assert run("registry", "apply", file, *data, *AS).exit_code == 0
    (first,) = tmp_path.glob("*.change.json")
    there = run("registry", "approve", first.name, *server, "--as", "approver-1", "--yes")
    first.unlink()
    file.write_text(registry_text(status="active"), "utf-8")
    assert run("registry", "apply", file, *server, *AS).exit_code == 0
    (second,) = tmp_path.glob("*.change.json")
    here = run("registry", "approve", second.name, *data, "--as", "approver-1", "--yes")

    assert "applied as epoch 4; in force" in there.stdout
    assert "applied as epoch 5" in here.stdout


def test_suspend_and_get_go_through_a_node(run: Any, own: Site, node: Server) -> None:
    """One person suspends; `get` shows the entry, since when it is so, and how it was before."""
    where = ("--data", own.data, "--server", node.address)

    done = run("registry", "suspend", "agreement", "DS00101", *where, *AS, "--why", "case 8")
    again = run("registry", "suspend", "agreement", "DS00101", *where, *AS, "--why", "case 8")
    now = run("registry", "get", "agreement", "DS00101", *where, "--as", "auditor-1")
    then = run(
        *("registry", "get", "agreement", "DS00101", *where, "--as", "auditor-1", "--epoch", "3", "--json")
    )
    here = run("registry", "get", "agreement", "DS00101", "--data", own.data)
    before = run("registry", "get", "agreement", "DS00101", "--data", own.data, "--epoch", "3", "--json")

    assert done.exit_code == 0, done.stderr
    assert "takes one person: it only takes away" in done.stdout
    assert "applied as epoch 4; in force" in done.stdout
    assert "agreement DS00101 is suspended already" in again.stdout
    assert "status  suspended" in now.stdout
    assert "epoch 4; so since epoch 4" in now.stdout
    assert now.stdout == here.stdout
    assert then.stdout == before.stdout
    assert json.loads(then.stdout)["registry"]["agreements"]["DS00101"]["status"] == "active"
    for where_ in (where, ("--data", own.data)):
        who = ("--as", "auditor-1") if "--server" in where_ else ()
        nobody = run("registry", "get", "requester", "nobody", *where_, *who)
        assert (nobody.exit_code, "there is no requester" in nobody.stderr) == (1, True)


def test_a_node_lists_all_but_the_seals(run: Any, own: Site, node: Server) -> None:
    """The same entries as in the data directory, at the same epoch."""
    there = _listed(run, "--data", own.data, "--server", node.address, "--as", "auditor-1")

    assert there == _listed(run, "--data", own.data)


def test_an_administrator_needs_no_data_directory(
    run: Any, own: Site, node: Server, file: Path, tmp_path: Path
) -> None:
    """A certificate, a signing key and who signed the node's certificate are enough."""
    mine = tmp_path / "mine"
    mine.mkdir()
    shutil.copy(own.config.keys / "admin-registrar-1.key", mine)
    shutil.copytree(own.data / "tls" / "admin", mine / "tls")
    shutil.copy(own.config.tls.authority, mine / "ca.pem")
    options = ("--data", tmp_path / "none", "--server", node.address, "--keys", mine, "--ca", mine / "ca.pem")
    options += ("--certificate", mine / "tls" / "registrar-1.pem")
    options += ("--certificate-key", mine / "tls" / "registrar-1.key")

    done = run("registry", "suspend", "requester", "researcher-3", *options, *AS, "--why", "left")

    assert done.exit_code == 0, done.stderr
    assert "in force" in done.stdout


def test_mistakes_are_told_by_entry_and_nothing_is_changed(
    run: Any, own: Site, node: Server, file: Path
) -> None:
    """What is wrong in the file has its line; what contradicts the registry, its entry and part."""
    where = ("--data", own.data, "--server", node.address)
    good = file.read_text("utf-8")

    file.write_text(good.replace("status: suspended", "status: paused", 1), "utf-8")
    in_file = run("registry", "apply", file, *where, *BOTH)
    file.write_text(
        "requesters:\n" + good.split("requesters:\n")[1].split("\n\n")[0].replace("1,", "9,"), "utf-8"
    )
    in_registry = run("registry", "apply", file, *where, *BOTH)

    assert in_file.exit_code == in_registry.exit_code == 1
    assert "registry.yaml:" in in_file.stderr
    assert "`researcher-4`: organisation: unknown organisation `org-university-9`" in in_registry.stderr
    assert "nothing was changed" in in_registry.stderr
    assert node.node.current.epoch == 3


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("registry", "list"), 2, "say with --as who asks the node"),
        (("registry", "list", "--as", "policy-author-1"), 1, "this takes the role"),
        (("registry", "list", "--as", "nobody"), 2, "tls/admin/nobody."),
        (("registry", "list", "--as", "registrar-1", "--ca", "{key}"), 2, "holds no PEM block"),
    ],
    ids=["nobody asks", "another role", "no certificate", "no authority"],
)
def test_who_may_not_is_told_why(
    run: Any, *, own: Site, node: Server, arguments: tuple[str, ...], code: int, said: str
) -> None:
    """Wrong usage ends with 2, what the node turns away with 1."""
    key = own.config.keys / "admin-registrar-1.key"
    words = [each.format(key=key) for each in arguments]

    result = run(*words, "--data", own.data, "--server", node.address)

    assert (result.exit_code, said in result.stderr) == (code, True), result.stderr


def test_no_answer_is_no_decision_and_the_change_is_kept(
    run: Any, own: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody listens, a command ends with 4; files for a connection without a node are wrong usage."""
    monkeypatch.setattr("policyd.cli.administering._DEADLINE_S", 0.5)
    nowhere = run("registry", "list", "--data", own.data, "--server", "127.0.0.1:1", "--as", "auditor-1")
    unused = run("registry", "list", "--data", own.data, "--ca", own.config.tls.authority)

    assert nowhere.exit_code == 4
    assert (unused.exit_code, "are for --server" in unused.stderr) == (2, True)


def test_a_change_with_an_unknown_outcome_is_sent_again_from_its_file(
    run: Any, *, own: Site, node: Server, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node stops after it has made the change: the file says so, and sent again it tells its number."""
    monkeypatch.chdir(tmp_path)
    made, where = Changer.make, ("--data", own.data, "--server", node.address)

    def made_and_lost(self: Changer, *arguments: Any, **options: Any) -> Any:
        made(self, *arguments, **options)
        raise RuntimeError("the answer is lost")

    with monkeypatch.context() as broken:
        broken.setattr(Changer, "make", made_and_lost)
        lost = run("registry", "apply", file, *where, *BOTH)
    (kept,) = tmp_path.glob("*.change.json")
    again = run("registry", "approve", kept.name, *where, *AS)

    assert lost.exit_code == 4
    assert "it is not known whether it was applied" in lost.stdout
    assert "applied as epoch 4; in force" in again.stdout
    assert node.node.current.epoch == 4
