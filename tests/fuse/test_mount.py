"""A real mount of a filesystem that misbehaves: callers get an errno, and the mount lives."""

import errno
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest

from smbfuse.config import Mount
from smbfuse.fuse import mount as fuse_mount
from smbfuse.fuse import mountinfo
from smbfuse.fuse.unmount import unmount
from tests.fuse.conftest import Served
from tests.fuse.served import CONTENT, TRAPS
from tests.support.samba import wait_for

STAT = """
import json, os, sys
told = {}
for name in json.loads(sys.stdin.readline()):
    try: told[name] = os.stat(os.path.join(sys.argv[1], name)).st_size
    except OSError as error: told[name] = -error.errno
print(json.dumps(told))
"""


def stat_all(mount: Served, names: list[str]) -> dict[str, int]:
    """Return the size of each name, or its errno below zero."""
    ran = subprocess.run(
        [sys.executable, "-c", STAT, mount.point],
        input=json.dumps(names) + "\n",
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    told = json.loads(ran.stdout)
    assert isinstance(told, dict)
    return told


@pytest.mark.mounts
def test_wild_answers_are_errors_for_the_caller_and_the_mount_lives(served: Callable[..., Served]) -> None:
    mount = served()
    names = [name.decode() for name in TRAPS]
    assert stat_all(mount, names) == dict.fromkeys(names, -errno.EIO)
    others = {
        "bug": -errno.EIO,
        "group": -errno.ENOENT,
        "wild errno": -errno.EIO,
        "no errno": -errno.EIO,
        "nan": -errno.EIO,
        "not an entry": -errno.EIO,
        "missing": -errno.ENOENT,
        "file": len(CONTENT),
    }
    assert stat_all(mount, list(others)) == others
    assert mount.process.poll() is None
    assert "this is a bug" in mount.log.read_text()


@pytest.mark.mounts
def test_a_folder_with_bad_entries_shows_the_good_ones(
    served: Callable[..., Served],
) -> None:
    mount = served()
    listed = mount.python("import os, sys; print(sorted(map(os.fsencode, os.listdir(sys.argv[1]))))")
    assert listed == str([b"0", b"file", b"\xff\xfe"])
    everything = mount.run("ls", "-a", mount.point).stdout.split("\n")
    assert everything[:2] == [".", ".."]
    mount.run("cat", mount.point / "file")
    seen = mount.end()
    assert seen["asked"]["accepted"] > 0


@pytest.mark.mounts
def test_reading_and_what_is_not_there(served: Callable[..., Served]) -> None:
    mount = served()
    same = "import sys; print(open(sys.argv[1] + '/file', 'rb').read() == bytes(range(256)) * 1024)"
    assert mount.python(same) == "True"
    assert mount.python("import os, sys; print(os.readlink(sys.argv[1] + '/link'))") == "file"
    xattr = "import os, sys\ntry: os.listxattr(sys.argv[1])\nexcept OSError as error: print(error.errno)"
    assert mount.python(xattr) == str(errno.EOPNOTSUPP)
    write = (
        "import os, sys\ntry: os.open(sys.argv[1] + '/new', os.O_CREAT)\nexcept OSError as error: print(error.errno)"
    )
    assert mount.python(write) == str(errno.EROFS)
    assert mount.run("df", mount.point).returncode == 0


@pytest.mark.mounts
def test_a_blocked_caller_holds_up_nobody(served: Callable[..., Served]) -> None:
    mount = served()
    program = "import os, sys, threading\n" + (
        "def block(): os.open(sys.argv[1] + '/blocked', os.O_RDONLY)\n"
        "for _ in range(200): threading.Thread(target=block).start()\n"
        "print('blocked', flush=True)"
    )
    blocked = subprocess.Popen([sys.executable, "-c", program, mount.point], stdout=subprocess.PIPE)
    try:
        assert blocked.stdout is not None
        assert blocked.stdout.readline() == b"blocked\n"
        for command, path in (("df", mount.point), ("ls", mount.point), ("cat", mount.point / "file")):
            assert mount.run(command, path).returncode == 0  # who waited for the blocked would wait for ever
    finally:
        # Requests in our hands are freed by the end of the mount alone.
        mount.process.kill()
        blocked.kill()
        blocked.communicate(timeout=10)


@pytest.mark.mounts
@pytest.mark.parametrize(
    "source", ["//host/share", "//host/Büro", "//host/a, b", r"//host/back\slash", "//host/x,allow_other", "//h/#1 €"]
)
def test_findmnt_shows_what_is_mounted(served: Callable[..., Served], source: str) -> None:
    mount = served(source)
    shown = mount.run("findmnt", "--noheadings", "--output", "SOURCE,FSTYPE", "--mountpoint", mount.point).stdout
    assert shown.strip() == f"{source} fuse.smbfuse"
    entry = mountinfo.mounted_at(str(mount.point))
    assert entry is not None
    assert (entry.source, entry.filesystem, entry.owner) == (source, "fuse.smbfuse", os.geteuid())


def test_control_characters_of_a_share_do_not_reach_the_table_of_mounts() -> None:
    assert "fsname=//h/a%0Ab%1B" in fuse_mount.kernel_options(Mount(), "//h/a\nb\x1b")


def test_a_mount_is_never_without_its_safeguards() -> None:
    assert {"rw", "nosuid", "nodev", "subtype=smbfuse"} <= fuse_mount.kernel_options(Mount(), "//h/s")
    assert {"ro", "nosuid", "nodev"} <= fuse_mount.kernel_options(Mount(read_only=True), "//h/s")
    chosen = fuse_mount.kernel_options(
        Mount(allow_other=True, check_permissions=True, kernel_options=("noexec",)), "//h/s"
    )
    assert {"allow_other", "default_permissions", "noexec"} <= chosen


@pytest.mark.mounts
@pytest.mark.root
def test_the_kernels_limits_are_raised(served: Callable[..., Served]) -> None:
    mount = served()
    entry = mountinfo.mounted_at(str(mount.point))
    assert entry is not None
    read_ahead = f"/sys/class/bdi/0:{entry.device[1]}/read_ahead_kb"

    def raised() -> bool:
        with open(read_ahead) as file:
            return file.read().strip() == "1024"

    assert wait_for(raised, 5)


@pytest.mark.mounts
def test_what_libfuse_complains_of_becomes_the_sentence(served: Callable[..., Served]) -> None:
    missing = served().point.parent / "missing"
    program = (
        "import sys, trio\nfrom smbfuse.config import Mount\nfrom smbfuse.errors import SmbError\n"
        "from smbfuse.fuse.mount import FuseMount\n"
        "async def main():\n"
        "    try: FuseMount(None, Mount(mountpoint=sys.argv[1]), source='s', timeo_s=1).attach()\n"
        "    except SmbError as error: print(error)\n"
        "trio.run(main)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, missing], capture_output=True, text=True, timeout=20, check=True
    )
    assert ran.stdout.startswith(f"{missing} cannot be mounted: ")
    assert "No such file or directory" in ran.stdout or "bad mount point" in ran.stdout
    assert ran.stderr == ""


def test_unmounting_what_is_not_mounted_says_so(
    folder: os.PathLike[str], expected_warnings: Callable[..., None]
) -> None:
    if shutil.which("fusermount3") is None:
        pytest.skip("fusermount3 is not installed")
    expected_warnings("stays mounted")
    unmount(str(folder))


def test_an_answer_that_nobody_waits_for_is_not_worth_a_word(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="pyfuse3")
    log = logging.getLogger("pyfuse3")
    log.addFilter(fuse_mount._is_worth_a_word)
    try:
        log.error("fuse_release(): fuse_reply_* failed with %s", os.strerror(errno.ENOENT))
        assert caplog.records == []
        log.info("fuse_release(): fuse_reply_* failed with %s", os.strerror(errno.EINVAL))
        log.info("nothing of the kind: %s", os.strerror(errno.ENOENT))
    finally:
        log.removeFilter(fuse_mount._is_worth_a_word)
    assert len(caplog.records) == 2
