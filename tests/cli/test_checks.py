"""What can be known before mounting is said before mounting."""

import os
import stat
from pathlib import Path

import pytest

from smbfuse.cli import checks
from smbfuse.cli.exits import CannotMount, Exit
from smbfuse.config import Mount
from smbfuse.fuse import mountinfo
from smbfuse.fuse.mountinfo import MountEntry


def refusal(options: Mount) -> tuple[Exit, str]:
    with pytest.raises(CannotMount) as caught:
        checks.check_mountpoint(options)
    return caught.value.code, str(caught.value)


def test_a_usable_mount_point(folder: Path) -> None:
    assert checks.check_mountpoint(Mount(mountpoint=str(folder))) == []


def test_a_mount_point_that_is_not_there(folder: Path) -> None:
    assert refusal(Mount(mountpoint=str(folder / "missing")))[0] is Exit.MOUNTPOINT_MISSING


def test_a_mount_point_that_is_a_file(folder: Path) -> None:
    (folder / "file").touch()
    assert refusal(Mount(mountpoint=str(folder / "file")))[0] is Exit.MOUNTPOINT_NOT_A_FOLDER
    assert refusal(Mount(mountpoint=str(folder / "file" / "below")))[0] is Exit.MOUNTPOINT_NOT_OURS


def test_a_mount_point_with_entries(folder: Path) -> None:
    (folder / "entry").touch()
    code, sentence = refusal(Mount(mountpoint=str(folder)))
    assert code is Exit.MOUNTPOINT_NOT_EMPTY
    assert "nonempty" in sentence
    assert checks.check_mountpoint(Mount(mountpoint=str(folder), nonempty=True)) == []


def test_a_sticky_folder_of_somebody_else(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.chmod(0o777 | stat.S_ISVTX)
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    assert refusal(Mount(mountpoint=str(folder)))[0] is Exit.MOUNTPOINT_NOT_OURS
    folder.chmod(0o777)
    assert checks.check_mountpoint(Mount(mountpoint=str(folder))) == []


def test_a_mount_of_another_kind_is_busy() -> None:
    code, sentence = refusal(Mount(mountpoint="/proc"))
    assert code is Exit.MOUNTPOINT_BUSY
    assert "(proc)" in sentence


def test_an_automount_is_there_to_be_mounted_over_and_not_looked_into(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "entry").touch()  # who looks inside would see it, and refuse
    entry = MountEntry((0, 99), str(folder), mountinfo.AUTOFS_TYPE, "systemd-1", owner=None)
    monkeypatch.setattr(mountinfo, "mounted_at", lambda path: entry)
    assert checks.check_mountpoint(Mount(mountpoint=str(folder))) == []


def test_a_dead_mount_of_another_user_is_left_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = MountEntry((0, 99), str(folder), mountinfo.FUSE_TYPE, "//h/s", owner=4242)
    monkeypatch.setattr(mountinfo, "mounted_at", lambda path: entry)
    monkeypatch.setattr(checks, "_stat_errno", lambda path: 107)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert refusal(Mount(mountpoint=str(folder)))[0] is Exit.MOUNTPOINT_NOT_OURS


def test_whether_a_path_answers_is_asked_by_a_child(folder: Path) -> None:
    assert checks._stat_errno(str(folder)) == 0
    assert checks._stat_errno(str(folder / "missing")) == 2


def test_a_path_that_does_not_answer_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_PATIENCE_S", 0.05)
    monkeypatch.setattr(os, "stat", lambda path: __import__("time").sleep(1))
    assert checks._stat_errno(str(folder)) == 16


def test_no_fuse(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "DEVICE", folder / "fuse")
    with pytest.raises(CannotMount, match="modprobe fuse") as caught:
        checks.check_fuse()
    assert caught.value.code is Exit.NO_FUSE_DEVICE
    (folder / "fuse").touch()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(CannotMount, match="0666"):
        checks.check_fuse()


def test_no_fusermount(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "fuse").touch()
    monkeypatch.setattr(checks, "DEVICE", folder / "fuse")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(CannotMount, match="package fuse3") as caught:
        checks.check_fuse()
    assert caught.value.code is Exit.NO_FUSERMOUNT


@pytest.mark.parametrize(
    "text, allowed",
    [("user_allow_other\n", True), ("# user_allow_other\n", False), ("  user_allow_other  \n", True), ("", False)],
)
def test_letting_others_in(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str, allowed: bool) -> None:
    configuration = folder / "fuse.conf"
    configuration.write_text(text)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    checks.check_allow_other(Mount(), configuration)
    if allowed:
        checks.check_allow_other(Mount(allow_other=True), configuration)
        return
    for path in (configuration, folder / "missing"):
        with pytest.raises(CannotMount, match="user_allow_other") as caught:
            checks.check_allow_other(Mount(allow_other=True), path)
        assert caught.value.code is Exit.ALLOW_OTHER_FORBIDDEN
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    checks.check_allow_other(Mount(allow_other=True), configuration)
