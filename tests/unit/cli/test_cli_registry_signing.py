"""`policyd registry` and `policyd policy activate`: who signs, what is asked first, and who is missing."""

from __future__ import annotations

import json
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support.server import POLICY, Site, make_site, registry_text, seals_text

from policyd.config import read_config
from policyd.devsetup import TRUST_FILE
from policyd.identity.keys import load_signing_key
from policyd.registry.trust import Role, read_trust
from policyd.state import open_store

REGISTRAR = ("--as", "registrar-1", "--yes")
APPROVER = ("--as", "approver-1", "--yes")
TOKENS = {
    name: bytes([number]) * 32 for number, name in enumerate(("npd-secure", "npd-second", "npd-closed"))
}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A data directory of this test alone, and a working directory for proposals."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return make_site(tmp_path / "data")


@pytest.fixture
def longer(tmp_path: Path) -> Path:
    """A registry file that gives more: the agreement covers one action more."""
    file = tmp_path / "longer.yaml"
    file.write_text(registry_text().replace("actions: [release, count]", "actions: [release, count, link]"))
    return file


def epoch(site: Site) -> int:
    with open_store(read_config(site.data)) as store:
        return store.load().epoch


def actions(site: Site) -> set[str]:
    with open_store(read_config(site.data)) as store:
        return {each.value for each in store.load().registry.agreements["DS00101"].actions}


def test_a_change_that_gives_more_waits_for_a_second_person(run: Any, own: Site, longer: Path) -> None:
    """The first writes a proposal and the command for the second, who sees the same diff and applies it."""
    before = epoch(own)

    asked = run("registry", "apply", longer, "--data", own.data, *REGISTRAR, "--why", "case 7")
    (file,) = Path().glob("*.change.json")
    assert asked.exit_code == 0
    assert "takes two people: agreement `DS00101` changes `actions`" in asked.stdout
    assert f"policyd registry approve {file} --data {own.data} --as THEIR-ID" in asked.stdout
    assert (epoch(own), actions(own)) == (before, {"release", "count"})

    approved = run("registry", "approve", file, "--data", own.data, *APPROVER)

    diff = "~ agreement DS00101\n    actions  + [link]\n0 added, 1 changed, 0 unchanged\n"
    assert diff in approved.stdout
    assert "asked for by registrar-1 at " in approved.stdout
    assert ": case 7\n" in approved.stdout
    assert f"applied as epoch {before + 1}" in approved.stdout
    assert actions(own) == {"release", "count", "link"}


def test_a_proposal_is_approved_once(run: Any, own: Site, longer: Path) -> None:
    """What was applied cannot be applied again, and what was changed meanwhile not at all."""
    run("registry", "apply", longer, "--data", own.data, *REGISTRAR)
    (file,) = Path().glob("*.change.json")
    other = tuple(Path().glob("*"))
    assert run("registry", "approve", file, "--data", own.data, *APPROVER).exit_code == 0

    again = run("registry", "approve", file, "--data", own.data, *APPROVER)

    assert (again.exit_code, "was used before" in again.stderr) == (1, True)
    assert tuple(Path().glob("*")) == other


def test_what_changed_since_it_was_asked_for_is_planned_again(run: Any, own: Site, longer: Path) -> None:
    """An approver never applies something to an entry that the asker had not seen."""
    run("registry", "apply", longer, "--data", own.data, *REGISTRAR)
    (file,) = Path().glob("*.change.json")
    run("registry", "suspend", "agreement", "DS00101", "--data", own.data, *REGISTRAR, "--why", "a doubt")

    result = run("registry", "approve", file, "--data", own.data, *APPROVER)

    assert result.exit_code == 1
    assert "`DS00101` in agreements changed since it was planned; plan it again" in result.stderr


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (("approver-1", "approver-1"), "signed it twice"),
        (("registrar-1", "registrar-1"), "signed it twice"),
        (("registrar-1", "auditor-1"), "is no approver"),
        (("registrar-1", "sealing-officer-1"), "is no approver"),
    ],
)
def test_who_may_not_approve_is_refused(
    run: Any, own: Site, longer: Path, edit: tuple[str, str], says: str
) -> None:
    """Nobody approves a change of their own, nor without the role; nothing is applied."""
    asker, second = edit
    run("registry", "apply", longer, "--data", own.data, *REGISTRAR)
    (file,) = Path().glob("*.change.json")
    if asker != "registrar-1":
        run("registry", "approve", file, "--data", own.data, "--as", "registrar-1", "--yes")
        value = json.loads(file.read_text("utf-8"))
        value["signatures"] *= 2
        file.write_text(json.dumps(value), "utf-8")

    result = run("registry", "approve", file, "--data", own.data, "--as", second, "--yes")

    assert (result.exit_code, says in result.stderr) == (1, True), result.stderr
    assert actions(own) == {"release", "count"}


def test_a_proposal_that_was_edited_is_refused(run: Any, own: Site, longer: Path) -> None:
    """The signature is over what was asked for: another reason or body does not bear it."""
    run("registry", "apply", longer, "--data", own.data, *REGISTRAR)
    (file,) = Path().glob("*.change.json")
    good = json.loads(file.read_text("utf-8"))
    for change in ({"why": "another"}, {"who": "approver-1"}, {"at": 0}, {"body": {"seals": {}}}):
        file.write_text(json.dumps({**good, **change}), "utf-8")
        result = run("registry", "approve", file, "--data", own.data, *APPROVER)
        assert (result.exit_code, "not over this change" in result.stderr) == (1, True), change
    file.write_text("{}", "utf-8")

    assert run("registry", "approve", file, "--data", own.data, *APPROVER).exit_code == 2
    assert actions(own) == {"release", "count"}


def test_both_at_one_machine_apply_at_once(run: Any, own: Site, longer: Path) -> None:
    """With `--approve` the second signature is made there and then, and no file is left."""
    result = run("registry", "apply", longer, "--data", own.data, *REGISTRAR, "--approve", "approver-1")

    assert "applied as epoch 4" in result.stdout
    assert list(Path().iterdir()) == []


def test_it_is_asked_before_anything_is_done(own: Site, longer: Path) -> None:
    """Without `--yes`, only `y` applies; at the end of the input nothing is done."""
    main = import_module("policyd.cli.main").main
    command = ["registry", "apply", str(longer), "--data", str(own.data), "--as", "registrar-1"]
    command += ["--approve", "approver-1"]
    before = epoch(own)

    refused = CliRunner().invoke(main, command, input="n\n")
    ended = CliRunner().invoke(main, command, input="")
    assert (refused.exit_code, "nothing was changed" in refused.stdout) == (0, True)
    assert ended.exit_code == 1
    assert epoch(own) == before

    assert "apply? [y/N]" in CliRunner().invoke(main, command, input="y\n").stdout
    assert epoch(own) == before + 1


def test_one_person_suspends_in_one_command(run: Any, own: Site) -> None:
    """Whatever it is, it is out of use at once; a second time changes nothing, and a slip is named."""
    command = ("--data", own.data, *REGISTRAR, "--why", "a doubt")

    for kind, name in (
        ("agreement", "DS00101"),
        ("requester", "researcher-1"),
        ("organisation", "org-university-1"),
        ("accreditation", "ACC-1"),
        ("data-service", "npd-secure"),
    ):
        result = run("registry", "suspend", kind, name, *command)
        assert "status  active -> suspended" in result.stdout
        assert "takes one person" in result.stdout
    again = run("registry", "suspend", "agreement", "DS00101", *command)
    slip = run("registry", "suspend", "agreement", "DS0010", *command)

    assert "agreement DS00101 is suspended already" in again.stdout
    assert (slip.exit_code, "did you mean `DS00101`?" in slip.stderr) == (2, True)
    assert epoch(own) == 8


def test_seals_alone_are_for_a_sealing_officer(run: Any, own: Site, tmp_path: Path) -> None:
    """A file of seals is a change of its own kind: one sealing officer, and no registrar."""
    file = tmp_path / "seals.yaml"
    file.write_text(seals_text({"SEAL-1": TOKENS}), "utf-8")

    refused = run("registry", "apply", file, "--data", own.data, *REGISTRAR)
    done = run("registry", "apply", file, "--data", own.data, "--as", "sealing-officer-1", "--yes")

    assert (refused.exit_code, "takes the role sealing-officer" in refused.stderr) == (1, True)
    assert (done.exit_code, "applied as epoch 4" in done.stdout) == (0, True)


@pytest.mark.parametrize(
    ("names", "code", "says"),
    [
        (("--as", "registrar-9"), 2, "`registrar-9` is no administrator"),
        (("--as", "registrar-1", "--approve", "../keys/admin-approver-1"), 2, "is no administrator"),
        (("--as", "auditor-1"), 1, "takes the role registrar"),
    ],
)
def test_who_is_nobody_signs_nothing(
    run: Any, own: Site, longer: Path, *, names: tuple[str, ...], code: int, says: str
) -> None:
    """A name that the trust document does not have, or whose role is another one."""
    result = run("registry", "apply", longer, "--data", own.data, *names, "--yes")

    assert (result.exit_code, says in result.stderr) == (code, True), result.stderr


def test_a_key_of_somebody_else_is_not_used(run: Any, own: Site, longer: Path, tmp_path: Path) -> None:
    """The key file must be that of the administrator named."""
    shutil.copy(own.config.keys / "admin-auditor-1.key", tmp_path / "admin-registrar-1.key")

    result = run("registry", "apply", longer, "--data", own.data, *REGISTRAR, "--keys", tmp_path)

    assert (result.exit_code, "is not the key that the trust document has" in result.stderr) == (2, True)


def test_a_new_person_signs_after_two_people_agreed(
    run: Any, own: Site, longer: Path, tmp_path: Path
) -> None:
    """A key is made, entered in a copy of the trust document, put in force by two, and then it counts."""
    made = run(
        *("registry", "admin-key", "registrar-2", "--data", own.data, "--keys", tmp_path),
        *("--person", "person-7", "--role", "registrar", "--role", "auditor"),
    )
    newer = tmp_path / "newer.yaml"
    entry = "\n".join(line for line in made.stdout.splitlines() if line.startswith("  "))
    newer.write_text((own.data / TRUST_FILE).read_text("utf-8") + entry + "\n", "utf-8")
    admin = read_trust(newer).administrators["registrar-2"]
    assert admin.key == load_signing_key(tmp_path / "admin-registrar-2.key").public
    assert (admin.person, admin.roles) == ("person-7", {Role.REGISTRAR, Role.AUDITOR})
    assert admin.spiffe_id == "spiffe://policyd.test/admin/registrar-2"

    alone = run("registry", "trust", newer, "--data", own.data, *REGISTRAR, "--why", "a colleague")
    (file,) = Path().glob("*.change.json")
    done = run("registry", "approve", file, "--data", own.data, *APPROVER)
    assert "+ administrator registrar-2  person-7" in alone.stdout
    assert "of the present one, two persons" in alone.stdout
    assert "applied as epoch 4" in done.stdout
    stale = run("registry", "list", "--data", own.data)
    assert (stale.exit_code, "put the one in force in its place" in stale.stderr) == (2, True)

    shutil.copy(newer, own.data / TRUST_FILE)
    shutil.copy(tmp_path / "admin-registrar-2.key", own.config.keys)
    result = run(
        *("registry", "apply", longer, "--data", own.data, "--as", "registrar-2"),
        *("--approve", "approver-1", "--yes"),
    )
    assert "applied as epoch 5" in result.stdout
    again = run("registry", "trust", "--data", own.data, *REGISTRAR, "--why", "again")
    assert "is in force already" in again.stdout


def test_a_policy_set_is_put_in_force_by_two(run: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """The author asks and the approver signs; the same set again is nothing to do."""
    monkeypatch.chdir(tmp_path)
    policy = tmp_path / "policy"
    shutil.copytree(POLICY, policy)
    site = make_site(tmp_path / "data", policy=policy)
    rules = next((policy / "rules").glob("*.yaml"))
    rules.write_text(rules.read_text("utf-8").replace("why: ", "why: Indeed, ", 1), "utf-8")
    command = ("policy", "activate", "--data", site.data, "--as", "policy-author-1", "--yes", "--why", "x")

    asked = run(*command)
    done = run(*command, "--approve", "approver-1")
    again = run(*command, "--approve", "approver-1")

    assert "takes two people: a policy set is put in force" in asked.stdout
    assert "~ policy set  " in asked.stdout
    assert len(list(tmp_path.glob("*.change.json"))) == 1
    assert "applied as epoch 4" in done.stdout
    assert "is in force already" in again.stdout
