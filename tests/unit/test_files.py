"""Which file system a directory is on, and which ones are too far away for SQLite's locks."""

from __future__ import annotations

from pathlib import Path

import pytest

from policyd import files
from policyd.files import file_system, network_file_system, sync

MOUNTS = """\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 21 0:40 / /data rw,relatime - nfs4 server:/export rw
31 30 8:2 / /data/local rw - xfs /dev/sdb1 rw
32 21 0:41 / /with\\040space rw master:2 - cifs //server/share rw
33 21 0:42 / /twice rw - ext4 /dev/sdc1 rw
34 33 0:43 / /twice rw - fuse.sshfs host: rw
"""


@pytest.mark.parametrize(
    ("directory", "want"),
    [
        ("/", "ext4"),
        ("/database", "ext4"),
        ("/data", "nfs4"),
        ("/data/deeper", "nfs4"),
        ("/data/local/x", "xfs"),
        ("/with space/x", "cifs"),
        ("/twice", "fuse.sshfs"),
    ],
)
def test_the_file_system_is_that_of_the_innermost_mount(tmp_path: Path, directory: str, want: str) -> None:
    """Of nested mounts the longest counts, of two on one place the last."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS, encoding="ascii")

    assert file_system(Path(directory), mounts=mounts) == want


@pytest.mark.parametrize(("kind", "want"), [("ext4", ""), ("nfs4", "nfs4"), ("lustre", "lustre"), ("", "")])
def test_a_network_file_system_is_told_by_its_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, want: str
) -> None:
    """Local disks, and systems that do not say, give nothing."""
    monkeypatch.setattr(files, "file_system", lambda _: kind)

    assert network_file_system(tmp_path) == want


def test_where_the_system_does_not_say_there_is_no_kind(tmp_path: Path) -> None:
    """Other systems than Linux have no list of mounts."""
    assert file_system(tmp_path, mounts=tmp_path / "none") == ""


def test_a_file_and_a_directory_can_be_synced_and_what_is_missing_is_an_error(tmp_path: Path) -> None:
    """A sync that could not happen is never passed over."""
    (tmp_path / "file").write_bytes(b"x")
    sync(tmp_path / "file")
    sync(tmp_path)

    with pytest.raises(FileNotFoundError):
        sync(tmp_path / "missing")
