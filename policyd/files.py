"""What durable files need of the system: names and contents on the disk, and a local disk under them."""

from __future__ import annotations

import os
from pathlib import Path

_NETWORK_FILE_SYSTEMS = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smbfs", "smb3", "afs", "ceph", "lustre", "glusterfs", "9p"),
        *("gfs2", "ocfs2", "beegfs", "fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.rclone"),
    }
)
_MOUNTS = Path("/proc/self/mountinfo")


def sync(path: Path) -> None:
    """Make the content of a file durable, or of a directory the names in it.

    Raises:
        OSError: the disk did not take it; what was written since the last sync may be lost.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def network_file_system(directory: Path) -> str:
    """Return the kind of network file system that `directory` is on: there, SQLite's locks fail.

    Empty for a local disk, and where the system does not say.
    """
    kind = file_system(directory)
    return kind if kind in _NETWORK_FILE_SYSTEMS else ""


def file_system(directory: Path, *, mounts: Path = _MOUNTS) -> str:
    """Return the kind of file system that `directory` is on, empty where the system does not say.

    ``mounts`` is the kernel's list of mounts (proc(5)).
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    place = directory.resolve()
    best, kind = -1, ""
    for line in lines:
        mount, _, source = line.partition(" - ")
        root = Path(mount.split(" ")[4].replace("\\040", " "))
        # The last of several mounts on one place is the one that shows.
        if place.is_relative_to(root) and len(root.parts) >= best:
            best, kind = len(root.parts), source.split(" ", 1)[0]
    return kind
