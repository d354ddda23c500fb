"""What the filesystem makes of servers with POSIX extensions, and of what they refuse all the same."""

import errno
import os

import pytest
import trio
from trio.testing import MockClock

from smbfuse.config import View
from smbfuse.errors import SmbError
from smbfuse.share import Change, Features, Kind
from smbfuse.status import NtStatus, error
from smbfuse.vfs.posix import NewAttributes
from tests.support.mem_share import MemShare
from tests.vfs.mounted import Mount

FEATURES = (
    Features.POSIX | Features.CASE_SENSITIVE | Features.SYMLINKS | Features.MAKES_SYMLINKS | Features.SPECIAL_FILES
)


@pytest.fixture
def share() -> MemShare:
    share = MemShare(features=FEATURES)
    for name, owner in (("mine", None), ("theirs", 2000)):
        node = share.add(name, name.encode())
        node.mode, node.uid, node.gid = 0o640, owner, 100
    return share


async def test_a_file_that_the_server_will_not_replace_is_put_aside_first(mount: Mount, share: MemShare) -> None:
    mounted = await mount(share)
    opened = await mounted.fs.open(await mounted.ino("theirs"), 0)
    await mounted.find("mine")
    share.fail("rename", error(NtStatus.ACCESS_DENIED, "SET_INFO", "theirs"))
    await mounted.fs.rename(1, b"mine", 1, b"theirs", 0)
    assert await mounted.read_all("theirs") == b"mine"
    assert bytes(await mounted.fs.read(opened.fh, 0, 100)) == b"theirs"
    assert list(share.root.children) == ["theirs"]
    await mounted.fs.release(opened.fh)


async def test_only_the_last_name_of_a_file_that_is_written_is_hidden(
    mount: Mount, share: MemShare, autojump_clock: MockClock
) -> None:
    share.features |= Features.HARD_LINKS
    mounted = await mount(share)
    ino = await mounted.ino("mine")
    opened = await mounted.fs.open(ino, os.O_RDWR)
    await mounted.fs.link(ino, 1, b"other")
    before = share.calls["rename"]
    await mounted.fs.unlink(1, b"mine")
    assert share.calls["rename"] == before
    assert sorted(share.root.children) == ["other", "theirs"]
    await mounted.fs.unlink(1, b"other")
    assert share.calls["rename"] == before + 1
    assert await mounted.names("") == [b".", b"..", b"theirs"]
    await mounted.fs.write(opened.fh, 0, b"MINE")
    assert bytes(await mounted.fs.read(opened.fh, 0, 100)) == b"MINE"
    await mounted.fs.release(opened.fh)
    await trio.sleep(2)
    assert list(share.root.children) == ["theirs"]


async def test_what_open_handles_of_others_forbid_is_hidden_after_all(mount: Mount, share: MemShare) -> None:
    mounted = await mount(share)
    opened = await mounted.fs.open(await mounted.ino("mine"), 0)
    share.fail("remove", error(NtStatus.SHARING_VIOLATION, "DELETE", "mine"))
    await mounted.fs.unlink(1, b"mine")
    assert bytes(await mounted.fs.read(opened.fh, 0, 100)) == b"mine"
    await mounted.fs.release(opened.fh)
    share.fail("remove", error(NtStatus.SHARING_VIOLATION, "DELETE", "theirs"))
    with pytest.raises(SmbError) as refused:
        await mounted.fs.unlink(1, b"theirs")
    assert refused.value.errno == errno.EBUSY


async def test_a_folder_that_the_server_will_not_replace_stays(mount: Mount, share: MemShare) -> None:
    share.add_folder("a")
    share.add_folder("b")
    mounted = await mount(share)
    await mounted.find("b")
    share.fail("rename", error(NtStatus.ACCESS_DENIED, "SET_INFO", "b"))
    with pytest.raises(SmbError) as refused:
        await mounted.fs.rename(1, b"a", 1, b"b", 0)
    assert refused.value.errno == errno.EACCES
    assert {"a", "b"} <= set(share.root.children)


async def test_whose_a_file_is_anyway_is_not_said_again(mount: Mount, share: MemShare) -> None:
    mounted = await mount(share, view=View(uid=1000, gid=1000))
    ino = await mounted.ino("mine")
    before = share.calls["change"]
    await mounted.fs.setattr(ino, NewAttributes(uid=1000, gid=100), None)
    assert share.calls["change"] == before
    await mounted.fs.setattr(ino, NewAttributes(uid=1000, gid=200), None)
    assert (share.node("mine").uid, share.node("mine").gid) == (None, 200)


@pytest.mark.parametrize(
    "new, code",
    [
        (NewAttributes(mode=0o600), errno.EPERM),
        (NewAttributes(uid=3000), errno.EPERM),
        (NewAttributes(gid=3000), errno.EPERM),
        (NewAttributes(mtime_ns=0), errno.EACCES),
    ],
)
async def test_modes_and_owners_of_others_files_are_not_permitted(
    mount: Mount, share: MemShare, new: NewAttributes, code: int
) -> None:
    mounted = await mount(share)
    share.fail("change", error(NtStatus.ACCESS_DENIED, "SET_INFO", "theirs"))
    with pytest.raises(SmbError) as refused:
        await mounted.fs.setattr(await mounted.ino("theirs"), new, None)
    assert refused.value.errno == code


async def test_mode_and_owners_are_the_servers_own(mount: Mount, share: MemShare) -> None:
    mounted = await mount(share)
    stat = (await mounted.find("theirs")).stat
    assert (stat.mode & 0o7777, stat.uid, stat.gid) == (0o640, 2000, 100)
    await share.change("theirs", Change(mode=0o4711, uid=3000))
    assert share.node("theirs").kind is Kind.FILE
    await mounted.fs.setattr(stat.ino, NewAttributes(mode=0o600), None)
    assert share.node("theirs").mode == 0o600
