"""The deny-list: callers that are refused whatever their certificates say, each with the reason."""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from policyd.clock import format_instant
from policyd.errors import ConfigError
from policyd.identity.keys import replace_file
from policyd.identity.spiffe import check_spiffe_id
from policyd.model import Instant
from policyd.policy.reader import Reader
from policyd.policy.source import Node, read_text

MAX_WHY = 300

_FINGERPRINT = re.compile(r"[0-9a-f]{64}", re.ASCII)
_HEADER = """\
# Callers that are refused on every call, whatever their certificates say (docs/identity.md).
# `policyd deny` adds to this file, and keeps no other comment; to lift a denial, take its line out.
"""
EMPTY_LIST = f"{_HEADER}denied: []\n"


@dataclass(frozen=True, slots=True)
class Denial:
    """One caller that is refused, by its SPIFFE ID or by one certificate; exactly one of both is given."""

    why: str
    spiffe_id: str = ""
    certificate_sha256: str = ""
    """SHA-256 of the certificate's DER form, 64 lower-case hex digits."""
    at: Instant | None = None

    @property
    def named(self) -> str:
        """What is denied: the SPIFFE ID, or the fingerprint of the certificate."""
        return self.spiffe_id or self.certificate_sha256


@dataclass(frozen=True, slots=True)
class DenyList:
    """All denials in force, as the file has them."""

    denials: tuple[Denial, ...] = ()
    _by_name: Mapping[str, Denial] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {denial.named: denial for denial in self.denials})

    def find(self, spiffe_id: str, certificate_sha256: str) -> Denial | None:
        """Return the denial that meets this caller, or None."""
        return self._by_name.get(spiffe_id) or self._by_name.get(certificate_sha256)


def read_deny_list(path: Path, *, trust_domain: str) -> DenyList:
    """Read a deny-list strictly: one mistake in it, and none of it is taken.

    Raises:
        ConfigError: the file is not there, or others may write it.
        SourceError: it has mistakes; holds all of them.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise ConfigError(
            f"cannot read the deny-list {path}: {error.strerror}; an empty one is `denied: []`"
        ) from None
    # SECURITY: whoever can write this file can let a denied caller in
    # (test_a_list_that_others_can_write_is_refused).
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(f"{path} can be written by others; run: chmod go-w {path}")
    reader = Reader()
    denials = _denials(reader, reader.file(path), trust_domain)
    reader.finish()
    return DenyList(denials)


def add_denial(path: Path, denial: Denial, *, trust_domain: str) -> bool:
    """Add one denial to the file, and return whether it was new; what is denied already stays as it is.

    The file is replaced whole under a lock, so that nobody who adds at the same time is lost and no node
    reads half of it. Blocks while another process holds the lock.

    Raises:
        ConfigError: the file is not there, or cannot be read, locked or written.
        SourceError: the file has mistakes; nothing is written.
    """
    path = path.resolve()  # a link to the list stays a link
    try:
        # The directory is locked, not the file: that is another one after each change.
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"cannot open {path.parent}: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        before = read_deny_list(path, trust_domain=trust_domain)
        if any(each.named == denial.named for each in before.denials):
            return False
        text = _write((*before.denials, denial))
        reader = Reader()
        # What would not read back as it is meant must not take the place of a list that works.
        if _denials(reader, read_text(text, str(path)), trust_domain) != (*before.denials, denial):
            raise ConfigError(f"{path} would not read back with `{denial.named}`; add it by hand")
        # Readable by all: the node may run as another user than whoever types the command.
        replace_file(path, text.encode(), mode=0o644)
    finally:
        os.close(descriptor)
    return True


def parse_denied(text: str, *, trust_domain: str) -> tuple[str, str]:
    """Read what a person typed as (SPIFFE ID, fingerprint), one of them empty.

    A fingerprint may have colons and capitals, as `openssl x509 -fingerprint -sha256` prints it.

    Raises:
        ValueError: it is neither.
    """
    if text.startswith("spiffe://"):
        return check_spiffe_id(text, trust_domain=trust_domain), ""
    digits = text.rpartition("=")[2].replace(":", "").lower()
    if _FINGERPRINT.fullmatch(digits):
        return "", digits
    raise ValueError(
        f"`{text}` is neither a SPIFFE ID nor the SHA-256 fingerprint of a certificate, 64 hex digits"
    )


def check_why(text: str) -> str:
    """Return `text` when it can stand as the reason of a denial.

    Raises:
        ValueError: it is empty, too long, or has characters that cannot be seen.
    """
    if not text.strip() or len(text) > MAX_WHY or not text.isprintable():
        raise ValueError(f"the reason must be one line of 1 to {MAX_WHY} visible characters")
    return text


def _denials(reader: Reader, file: Node, trust_domain: str) -> tuple[Denial, ...]:
    top = reader.mapping(file, required={"denied"})
    found: dict[str, Denial] = {}
    for node in reader.entries(top["denied"]):
        denial = _denial(reader, node, trust_domain)
        if denial.named in found:
            reader.fail(node, f"`{denial.named}` is denied twice; keep one of both")
        found[denial.named] = denial
    return tuple(found.values())


def _denial(reader: Reader, node: Node, trust_domain: str) -> Denial:
    parts = reader.mapping(node, required={"why"}, optional={"spiffe_id", "certificate_sha256", "at"})
    if len({"spiffe_id", "certificate_sha256"} & parts.keys()) != 1 and isinstance(node.value, dict):
        reader.fail(node, "name either `spiffe_id` or `certificate_sha256`")
    spiffe_id = reader.text(parts.get("spiffe_id"))
    if spiffe_id:
        try:
            # SECURITY: an id that no caller can have would deny nobody, and look as if it did.
            check_spiffe_id(spiffe_id, trust_domain=trust_domain)
        except ValueError as error:
            reader.fail(parts["spiffe_id"], f"`{spiffe_id}` can be no caller's id: {error}")
    fingerprint = reader.text(parts.get("certificate_sha256"))
    if fingerprint and not _FINGERPRINT.fullmatch(fingerprint):
        reader.fail(parts["certificate_sha256"], f"`{fingerprint}` is not 64 lower-case hex digits")
    return Denial(
        why=reader.text(parts["why"]),
        spiffe_id=spiffe_id,
        certificate_sha256=fingerprint,
        at=reader.instant(parts["at"]) if "at" in parts else None,
    )


def _write(denials: Sequence[Denial]) -> str:
    lines = ["denied:"]
    for denial in denials:
        key = "spiffe_id" if denial.spiffe_id else "certificate_sha256"
        lines.append(f'  - {key}: "{denial.named}"')
        lines.append(f"    why: {json.dumps(denial.why, ensure_ascii=False)}")
        if denial.at is not None:
            lines.append(f'    at: "{format_instant(denial.at)}"')
    return _HEADER + "\n".join(lines) + "\n"
