"""The systemd units as shipped: nothing in them hides the mount or locks an account."""

import re
from pathlib import Path

import pytest

from smbfuse.cli.exits import Exit
from smbfuse.config import Process
from smbfuse.daemon import service

UNITS = Path(__file__).resolve().parents[2] / "systemd"
SERVICES = [UNITS / "smbfuse@.service", UNITS / "user" / "smbfuse@.service"]

# systemd.exec(5): each of these puts the process into a mount namespace, where nobody else sees the mount.
NAMESPACED = re.compile(
    r"^(Private(Tmp|Devices|Mounts|Users|IPC)|Protect\w+|(ReadWrite|ReadOnly|Inaccessible|Exec|NoExec)Paths|"
    r"TemporaryFileSystem|Bind(ReadOnly)?Paths|RootDirectory|RootImage|MountAPIVFS|DynamicUser)=",
    re.MULTILINE,
)
# … and each of these implies NoNewPrivileges= in a user's manager, where fusermount3 needs its set-user-id bit.
NO_NEW_PRIVILEGES = re.compile(
    r"^(NoNewPrivileges|SystemCall\w+|Restrict\w+|MemoryDenyWriteExecute|LockPersonality|CapabilityBoundingSet)=",
    re.MULTILINE,
)
# Causes that may go away by themselves: a server that is not there yet.
PASSING = {
    Exit.NO_SUCH_HOST,
    Exit.CONNECTION_REFUSED,
    Exit.UNREACHABLE,
    Exit.NO_ANSWER,
    Exit.NETBIOS_ONLY,
    Exit.NETBIOS_REFUSED,
    Exit.CONNECTION_LOST,
    Exit.MOUNT_FAILED,
    Exit.INTERNAL,
    Exit.INTERRUPTED,
    Exit.OK,
}


@pytest.mark.parametrize("unit", SERVICES, ids=lambda path: path.parent.name)
def test_a_service_is_seen_and_notified(unit: Path) -> None:
    text = unit.read_text()
    assert "Type=notify\n" in text
    assert re.search(r"^ExecStart=smbfuse -f ", text, re.MULTILINE)
    assert NAMESPACED.findall(text) == []


def test_a_users_service_leaves_fusermount_its_rights() -> None:
    assert NO_NEW_PRIVILEGES.findall(SERVICES[1].read_text()) == []


@pytest.mark.parametrize("unit", SERVICES, ids=lambda path: path.parent.name)
def test_what_will_not_go_away_is_not_tried_again(unit: Path) -> None:
    listed = re.search(r"^RestartPreventExitStatus=(.*)$", unit.read_text(), re.MULTILINE)
    assert listed is not None
    assert {int(code) for code in listed[1].split()} == set(Exit) - PASSING


@pytest.mark.parametrize("unit", SERVICES, ids=lambda path: path.parent.name)
def test_a_killed_smbfuse_is_started_again_in_the_place_that_nobody_has_uncovered(unit: Path) -> None:
    text = unit.read_text()
    assert "Restart=on-failure\n" in text
    # An empty folder in the place of the share would be believed.
    assert re.search(r"^Exec\w+=.*umount|auto_unmount", text, re.MULTILINE) is None


@pytest.mark.parametrize("unit", SERVICES, ids=lambda path: path.parent.name)
def test_there_is_time_to_save_what_was_written(unit: Path) -> None:
    patience = re.search(r"^TimeoutStopSec=(\d+)$", unit.read_text(), re.MULTILINE)
    assert patience is not None
    assert int(patience[1]) >= Process().flush_timeout_s + service.GOODBYES_S


def test_the_mount_unit_is_named_after_its_place() -> None:
    for name in ("srv-share.mount", "srv-share.automount"):
        assert "Where=/srv/share\n" in (UNITS / name).read_text()
    assert "Type=fuse.smbfuse\n" in (UNITS / "srv-share.mount").read_text()
