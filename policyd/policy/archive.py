"""Keeps the source files of every policy set that was in force, by digest, for replay."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

from policyd.errors import ConfigError, LedgerCorrupt, SourceError
from policyd.files import sync
from policyd.policy.load import load_policy_set
from policyd.policy.policyset import PolicySet
from policyd.policy.progress import Progress, silent

_FOLDERS = ("catalogue", "rules", "tests")
_SUFFIXES = frozenset({".yaml", ".yml"})
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)


def adopt(source: Path, archive: Path, *, progress: Progress = silent) -> PolicySet:
    """Load the policy set in `source` from a copy that is kept as `archive`/<digest>, and return it.

    What was loaded and what is kept are the same files, even when somebody edits `source` meanwhile. The
    copy is durable when this returns; it appears whole or not at all.

    Raises:
        SourceError: the policy set has mistakes; they are named by their place in `source`.
        ConfigError: the copy cannot be made.
    """
    if not source.is_dir():
        return load_policy_set(source)  # says what is missing
    try:
        archive.mkdir(mode=0o700, parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".new-", dir=archive))
        try:
            _copy(source, scratch)
            policy = _load(scratch, source, progress)
            kept = archive / policy.digest
            if not kept.exists():
                _sync_all(scratch)
                _put(scratch, kept)
                sync(archive)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise ConfigError(f"cannot keep a copy of the policy set in {archive}: {error.strerror}") from None
    return policy


def find(archive: Path, digest: str) -> PolicySet:
    """Load the policy set that is kept under a digest.

    Raises:
        LedgerCorrupt: it is not there, does not load, or is another one by now.
    """
    kept = archive / digest
    if not _DIGEST.fullmatch(digest) or not kept.is_dir():
        raise LedgerCorrupt(f"policy set {digest[:12]} is not in `{archive}`: restore it from a copy")
    try:
        policy = load_policy_set(kept)
    except SourceError as error:
        raise LedgerCorrupt(f"policy set {digest[:12]} does not load any more: {error.problems[0]}") from None
    if policy.digest != digest:
        raise LedgerCorrupt(f"`{kept}` holds policy set {policy.digest[:12]} by now: restore it from a copy")
    return policy


def _copy(source: Path, target: Path) -> None:
    """Copy all that the loader reads, and all that it objects to: a folder inside a folder, empty."""
    for path in sorted(source.glob("*")):
        if path.is_file() and path.suffix.lower() in _SUFFIXES:
            shutil.copyfile(path, target / path.name)
    for folder in _FOLDERS:
        for path in sorted((source / folder).glob("*")):
            beside = target / folder / path.name
            beside.parent.mkdir(mode=0o700, exist_ok=True)
            if path.is_dir():
                beside.mkdir(mode=0o700)
            elif path.suffix.lower() in _SUFFIXES:
                shutil.copyfile(path, beside)


def _load(scratch: Path, source: Path, progress: Progress) -> PolicySet:
    try:
        return load_policy_set(scratch, progress=progress)
    except SourceError:
        load_policy_set(source)  # the same mistakes, by the names that the author knows
        raise


def _put(scratch: Path, kept: Path) -> None:
    try:
        scratch.rename(kept)
    except OSError:
        # Another process of this host was faster: what is there has the same content.
        if not kept.is_dir():
            raise


def _sync_all(directory: Path) -> None:
    for path in sorted(directory.rglob("*"), reverse=True):
        sync(path)
    sync(directory)
