"""`policyd policy activate`: put the policy set of the configuration in force."""

from __future__ import annotations

from pathlib import Path

import click

from policyd.cli.options import data_option
from policyd.cli.progress import progress_on_stderr
from policyd.cli.signing import Signing, make_change, show, signing_options, why_option
from policyd.cli.state_place import config_of, state_option
from policyd.policy.archive import adopt
from policyd.registry.draft import Activation
from policyd.state import open_store


@click.command(name="activate")
@data_option
@state_option
@signing_options
@why_option
def activate_command(
    *,
    data: Path,
    state_url: str | None,
    asker: str,
    approvers: tuple[str, ...],
    why: str,
    keys: Path | None,
    yes: bool,
) -> None:
    """Put the policy set that the configuration names in force: a policy author asks, an approver signs.

    Without the second signature the change is written to a file for `policyd registry approve`.
    """
    config = config_of(data, state_url)
    policy = adopt(config.policy, config.policies, progress=progress_on_stderr())
    wanted = Activation(policy_digest=policy.digest, policy_version=policy.version)
    with open_store(config) as store:
        state = store.load()
        if state.activation == wanted:
            click.echo(f"policy set {policy.digest[:16]} (version {policy.version}) is in force already")
            return
        show(state, wanted)
        signing = Signing((asker, *approvers), keys, yes)
        make_change(config, store, wanted, state=state, why=why, signing=signing)
