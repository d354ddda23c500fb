"""The kernel's table of mounts, taken apart."""

from pathlib import Path

import pytest

from smbfuse.fuse import mountinfo
from smbfuse.fuse.mountinfo import MountEntry, parse_line

# From a running system; the second has a space, a comma, an accent and a backslash in its source.
PLAIN = b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue"
OURS = (
    rb"812 29 0:39 / /tmp/a\040b ro,nosuid,nodev,relatime shared:420 - fuse.smbfuse //h/B"
    + "ü".encode()
    + rb"ro,\040x\134z ro,user_id=1000,group_id=985"
)


def test_a_plain_line() -> None:
    assert parse_line(PLAIN) == MountEntry((98, 0), "/mnt2", "ext3", "/dev/root", None)


def test_a_line_of_ours() -> None:
    assert parse_line(OURS) == MountEntry((0, 39), "/tmp/a b", "fuse.smbfuse", "//h/Büro, x\\z", 1000)


@pytest.mark.parametrize("line", [b"", b"-", b"1 2 3", PLAIN.replace(b" - ", b" "), PLAIN.replace(b"98:0", b"98")])
def test_a_line_that_is_not_understood_is_none(line: bytes) -> None:
    assert parse_line(line) is None


def test_the_topmost_mount_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "mountinfo"
    table.write_bytes(PLAIN + b"\n" + PLAIN.replace(b"98:0", b"98:1").replace(b"ext3", b"ext4") + b"\n" + OURS + b"\n")
    monkeypatch.setattr(mountinfo, "_MOUNTINFO", table)
    assert len(mountinfo.mounts()) == 3
    top = mountinfo.mounted_at("/mnt2")
    assert top is not None
    assert top.filesystem == "ext4"
    assert mountinfo.mounted_at("/mnt1") is None


def test_a_mount_point_is_resolved_up_to_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = tmp_path / "real"
    (real / "point").mkdir(parents=True)
    (tmp_path / "link").symlink_to(real)
    (tmp_path / "to-point").symlink_to(real / "point")
    monkeypatch.chdir(tmp_path)
    assert mountinfo.resolve("link/point/") == str(real / "point")
    assert mountinfo.resolve("to-point") == str(real / "point")
    assert mountinfo.resolve("/") == "/"


def test_a_path_leads_into_a_mount_also_by_symlinks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = tmp_path / "real"
    (real / "point").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "deep").symlink_to(real / "point" / "not" / "there")
    (tmp_path / "loop").symlink_to("loop")
    table = tmp_path / "mountinfo"
    table.write_bytes(PLAIN + b"\n" + OURS.replace(rb"/tmp/a\040b", str(real / "point").encode()) + b"\n")
    monkeypatch.setattr(mountinfo, "_MOUNTINFO", table)
    monkeypatch.chdir(tmp_path)
    for path, below in {
        "real/point": "",
        "link/point/": "",
        "link/point/a/../b c": "b c",
        "deep/er": "not/there/er",
        real / "point" / "x" / "y": "x/y",
    }.items():
        found = mountinfo.containing(str(path))
        assert found is not None
        assert (found[0].mountpoint, found[1]) == (str(real / "point"), below)
    for elsewhere in ("real", "loop", "loop/point", "/", "/mnt2/x", "real/points", ""):
        assert mountinfo.containing(elsewhere) is None
