"""The client's own account of what logs have shown it, kept in a file so that a restart forgets nothing."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from policyd_client.expect import Unexpected
from policyd_client.note import Checkpoint, Pin, open_checkpoint

MAX_BYTES = 64 * 1024 * 1024
"""A journal that has grown past this is put aside under a number, and a new one begins with its state."""


@dataclass(slots=True)
class Remembered:
    """What a journal holds of one log: the newest checkpoints, seen and proved, and why it is not trusted."""

    seen: Checkpoint | None = None
    proved: Checkpoint | None = None
    fork: str = ""


class Journal:
    """An append-only file of JSON lines (docs/client.md), or nothing at all without a path.

    Each line is written before its decision is handed out; `sync` makes what is written survive a loss of
    power, too. Safe to use from many threads; one process at a time.
    """

    def __init__(self, path: Path | None, pins: Mapping[str, Pin]) -> None:
        """Open the journal, or make it, and read what it remembers.

        Raises:
            ValueError: another process has it open, or it is damaged.
            OSError: it cannot be read or written.
        """
        self.logs: dict[str, Remembered] = {}
        self._path = path
        self._lock = Lock()
        self._file = -1
        self._bytes = 0
        self._dirty = False
        self._noted: dict[str, str] = {}
        self._failure = ""
        if path is not None:
            self._file = _open(path)
            try:
                self._bytes = self._read(path, pins)
            except BaseException:
                os.close(self._file)
                raise

    def saw(self, checkpoint: Checkpoint, *, index: int, leaf_hash: bytes, decision_id: str) -> None:
        """Write down one record that was proved to be under a checkpoint.

        Raises:
            OSError: it cannot be written, now or since an earlier time.
        """
        if self._path is None:
            return
        origin = checkpoint.origin
        lines: list[dict[str, Any]] = []
        leaf: dict[str, Any] = {"index": index, "size": checkpoint.size, "leaf_hash": leaf_hash.hex()}
        with self._lock:
            if self._noted.get(origin) != checkpoint.note:
                lines.append({"kind": "checkpoint", "origin": origin, "note": checkpoint.note})
            lines.append({"kind": "leaf", "origin": origin, "decision_id": decision_id, **leaf})
            self._write(lines)
            self._noted[origin] = checkpoint.note
            remembered = self.logs.setdefault(origin, Remembered())
            if remembered.seen is None or checkpoint.size > remembered.seen.size:
                remembered.seen = checkpoint
            if self._bytes > MAX_BYTES:
                self._start_again()

    def proved(self, checkpoint: Checkpoint) -> None:
        """Write down that a checkpoint is consistent with all before it.

        Raises:
            OSError: it cannot be written.
        """
        with self._lock:
            self.logs.setdefault(checkpoint.origin, Remembered()).proved = checkpoint
            self._write([{"kind": "proved", "origin": checkpoint.origin, "note": checkpoint.note}])

    def forked(self, origin: str, why: str, *, notes: list[str]) -> None:
        """Write down, durably, two notes of one log that cannot both be true.

        Raises:
            OSError: it cannot be written.
        """
        with self._lock:
            self.logs.setdefault(origin, Remembered()).fork = why
            self._write([{"kind": "fork", "origin": origin, "why": why, "notes": notes}])
        self.sync()

    def sync(self) -> None:
        """Bring what was written to stable storage.

        Raises:
            OSError: it cannot; nothing can be written any more.
        """
        with self._lock:
            if not self._dirty:
                return
            try:
                os.fsync(self._file)
            except OSError as error:
                self._failure = f"the journal cannot be synced: {error.strerror}"
                raise
            self._dirty = False

    def close(self) -> None:
        """Sync and close it. Idempotent.

        Raises:
            OSError: the last lines may not be on stable storage.
        """
        if self._file < 0:
            return
        try:
            self.sync()
        finally:
            with self._lock:
                os.close(self._file)
                self._file, self._failure = -1, "the journal is closed"

    def _write(self, lines: list[dict[str, Any]]) -> None:
        if self._path is None:
            return
        if self._failure:
            raise OSError(self._failure)
        text = "".join(json.dumps({"v": 1, **line}, ensure_ascii=False) + "\n" for line in lines)
        data = text.encode("utf-8")
        try:
            written = os.write(self._file, data)
        except OSError as error:
            self._failure = f"the journal cannot be written: {error.strerror}"
            raise
        if written != len(data):  # the half line is cut off when the journal is next opened
            self._failure = "the journal cannot be written: the disk is full"
            raise OSError(self._failure)
        self._bytes += written
        self._dirty = True

    def _start_again(self) -> None:
        """Put the file aside and begin another with what has to be remembered."""
        path = self._path
        assert path is not None  # noqa: S101  # narrows for the type checker
        os.fsync(self._file)
        number = 1
        while path.with_name(f"{path.name}.{number}").exists():
            number += 1
        path.rename(path.with_name(f"{path.name}.{number}"))
        old, self._file = self._file, _open(path)
        os.close(old)
        self._bytes, self._noted = 0, {}
        for origin, log in self.logs.items():
            for kind, checkpoint in (("proved", log.proved), ("checkpoint", log.seen)):
                if checkpoint is not None:
                    self._write([{"kind": kind, "origin": origin, "note": checkpoint.note}])
            if log.fork:
                self._write([{"kind": "fork", "origin": origin, "why": log.fork, "notes": []}])

    def _read(self, path: Path, pins: Mapping[str, Pin]) -> int:
        """Take in what the file holds, cut off a line that was never finished, and return its length."""
        whole = 0
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    break
                try:
                    self._take(json.loads(line), pins)
                except (ValueError, KeyError, TypeError, AttributeError, Unexpected) as error:
                    raise ValueError(f"journal `{path}` is damaged in line {number}: {error}") from None
                whole += len(line)
        os.ftruncate(self._file, whole)
        return whole

    def _take(self, line: dict[str, Any], pins: Mapping[str, Pin]) -> None:
        kind, origin = line["kind"], line["origin"]
        if line["v"] != 1 or kind not in ("checkpoint", "leaf", "proved", "fork"):
            raise ValueError("it is of a kind that this client does not know")
        remembered = self.logs.setdefault(origin, Remembered())
        if kind == "fork":
            remembered.fork = str(line["why"])
        elif kind != "leaf" and origin in pins:
            checkpoint = open_checkpoint(line["note"], pins)
            if checkpoint.origin != origin:
                raise ValueError("its note is of another log")
            if kind == "proved":
                remembered.proved = checkpoint
            elif remembered.seen is None or checkpoint.size > remembered.seen.size:
                remembered.seen = checkpoint


def _open(path: Path) -> int:
    """Open a journal for this process alone.

    Raises:
        ValueError: another process has it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)  # the name, too, has to survive a loss of power
    finally:
        os.close(folder)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise ValueError(f"another client has the journal `{path}` open; give each its own") from None
    return descriptor
