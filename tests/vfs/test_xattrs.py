"""Extended attributes: which there are, what each costs, and how they fail."""

import dataclasses
import errno
import os
import struct

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from smbfuse.config import ModeChanges, View
from smbfuse.errors import SmbError
from smbfuse.share import Attributes, Caching, Features
from smbfuse.status import NtStatus, error
from smbfuse.vfs.posix import NewAttributes
from smbfuse.vfs.xattrs import CREATE, REPLACE
from tests.support.mem_share import MemShare
from tests.vfs.mounted import Mount, Mounted

USER = View(uid=1000, gid=1000, user_xattrs=True)
ACLS = View(uid=1000, gid=1000, acls=True)
PATH = "Größe [1]"
# owner at 20, group at 36, no SACL, DACL at 52, each 16 bytes here
HEAD = bytes.fromhex("01000480 14000000 24000000 00000000 34000000")
DESCRIPTOR = HEAD + b"owner".ljust(16) + b"group".ljust(16) + b"dacl".ljust(16)


@pytest.fixture
def share() -> MemShare:
    share = MemShare(features=Features.EXTENDED_ATTRIBUTES)
    node = share.add(PATH, b"content")
    node.attributes = Attributes.HIDDEN | Attributes.ARCHIVE
    node.descriptor = DESCRIPTOR
    return share


async def failing(mounted: Mounted, operation: str, *arguments: object) -> int:
    """Return the errno with which a call on the file fails."""
    with pytest.raises(SmbError) as refused:
        await getattr(mounted.fs, operation)(await mounted.ino(PATH), *arguments)
    return refused.value.errno


async def test_what_is_set_is_there_until_it_is_removed(mount: Mount, share: MemShare) -> None:
    mounted = await mount(share, view=USER)
    ino = await mounted.ino(PATH)
    await mounted.fs.setxattr(ino, b"user.name", b"value", 0)
    await mounted.fs.setxattr(ino, "user.größe".encode(), bytes(range(256)), 0)
    assert sorted(await mounted.fs.listxattr(ino)) == ["user.größe".encode(), b"user.name"]
    assert await mounted.fs.getxattr(ino, "user.größe".encode()) == bytes(range(256))
    assert share.node(PATH).extended == {"name": b"value", "größe": bytes(range(256))}
    await mounted.fs.removexattr(ino, b"user.name")
    assert await mounted.fs.listxattr(ino) == ["user.größe".encode()]
    assert await failing(mounted, "getxattr", b"user.name") == errno.ENODATA
    assert await failing(mounted, "removexattr", b"user.name") == errno.ENODATA


async def test_a_name_is_found_in_any_case_as_servers_find_it(mount: Mount, share: MemShare) -> None:
    share.node(PATH).extended.update({"NAME": b"capitals", "Name": b"mixed"})
    mounted = await mount(share, view=USER)
    ino = await mounted.ino(PATH)
    assert await mounted.fs.getxattr(ino, b"user.Name") == b"mixed"
    assert await mounted.fs.getxattr(ino, b"user.name") in (b"capitals", b"mixed")
    assert await failing(mounted, "setxattr", b"user.nAmE", b"x", CREATE) == errno.EEXIST
    await mounted.fs.removexattr(ino, b"user.Name")
    assert share.node(PATH).extended == {"Name": b"mixed"} or share.node(PATH).extended == {"NAME": b"capitals"}


async def test_create_and_replace_ask_first_whether_it_is_there(mount: Mount, share: MemShare) -> None:
    mounted = await mount(share, view=USER)
    ino = await mounted.ino(PATH)
    assert await failing(mounted, "setxattr", b"user.a", b"1", REPLACE) == errno.ENODATA
    await mounted.fs.setxattr(ino, b"user.a", b"1", CREATE)
    assert await failing(mounted, "setxattr", b"user.a", b"2", CREATE) == errno.EEXIST
    await mounted.fs.setxattr(ino, b"user.a", b"2", REPLACE)
    assert await mounted.fs.getxattr(ino, b"user.a") == b"2"


async def test_setting_costs_one_call_and_an_empty_value_removes(mount: Mount, share: MemShare) -> None:
    mounted = await mount(share, view=USER)
    ino = await mounted.ino(PATH)
    await wait_all_tasks_blocked()  # what was asked for ahead of need is over
    before = len(share.log)
    await mounted.fs.setxattr(ino, b"user.a", b"1", 0)
    assert share.log[before:] == [("set_extended_attribute", PATH)]
    await mounted.fs.setxattr(ino, b"user.a", b"", 0)
    assert await failing(mounted, "getxattr", b"user.a") == errno.ENODATA


@pytest.mark.parametrize(
    "name, value, code",
    [
        (b"user." + b"n" * 256, b"1", errno.ERANGE),
        (b"user.big", bytes(65536), errno.E2BIG),
        (b"user.", b"1", errno.EINVAL),
        (b"user.\xff", b"1", errno.EINVAL),
        (b"user.cifs.dosattrib", b"123", errno.ERANGE),
        (b"user.cifs.creationtime", b"1234", errno.ERANGE),
        (b"user.cifs.creationtime", bytes(8), errno.EINVAL),
        (b"security.capability", b"1", errno.EOPNOTSUPP),
        (b"trusted.overlay", b"1", errno.EOPNOTSUPP),
        (b"system.posix_acl_access", b"1", errno.EOPNOTSUPP),
        (b"system.cifs_acl", DESCRIPTOR, errno.EOPNOTSUPP),
    ],
)
async def test_what_cannot_be_set_costs_nothing(
    mount: Mount, share: MemShare, name: bytes, value: bytes, code: int
) -> None:
    mounted = await mount(share, view=USER)
    ino = await mounted.ino(PATH)
    await wait_all_tasks_blocked()
    before = share.log.copy()
    assert await failing(mounted, "setxattr", name, value, 0) == code
    assert share.log == before
    assert ino == await mounted.ino(PATH)


@pytest.mark.parametrize("name", [b"security.capability", b"system.posix_acl_access", b"os.name", b"system.cifs_acl"])
async def test_probes_for_what_is_not_there_are_answered_here(mount: Mount, share: MemShare, name: bytes) -> None:
    mounted = await mount(share, view=USER)
    await mounted.ino(PATH)
    await wait_all_tasks_blocked()
    before = share.log.copy()
    assert await failing(mounted, "getxattr", name) == errno.EOPNOTSUPP
    assert await failing(mounted, "removexattr", name) == errno.EOPNOTSUPP
    assert share.log == before


@pytest.mark.parametrize("name", [b"user.cifs.dosattrib", b"user.smb3.dosattrib"])
async def test_dos_attributes_are_read_and_set(mount: Mount, share: MemShare, name: bytes) -> None:
    mounted = await mount(share, view=USER)
    ino = await mounted.ino(PATH)
    assert await mounted.fs.getxattr(ino, name) == struct.pack("<I", 0x22)
    await mounted.fs.setxattr(ino, name, struct.pack("<I", 0x21 | Attributes.DIRECTORY), 0)
    assert share.node(PATH).attributes == Attributes.READONLY | Attributes.ARCHIVE
    assert await mounted.fs.getxattr(ino, name) == struct.pack("<I", 0x21)
    assert not (await mounted.find(PATH)).stat.mode & 0o222


@pytest.mark.parametrize("name", [b"user.cifs.creationtime", b"user.smb3.creationtime"])
async def test_the_creation_time_is_a_filetime(mount: Mount, share: MemShare, name: bytes) -> None:
    mounted = await mount(share, view=USER)
    ino = await mounted.ino(PATH)
    share.node(PATH).created_ns = 1_700_000_000_123_456_700
    await mounted.fs.setxattr(ino, b"user.touch", b"1", 0)
    value = struct.pack("<Q", 133_444_736_001_234_567)
    await mounted.fs.setxattr(ino, name, value, 0)
    assert share.node(PATH).created_ns == 1_700_000_000_123_456_700
    assert await mounted.fs.getxattr(ino, name) == value


CREATION = 1_600_000_000_123_456_700
CREATION_FILETIME = struct.pack("<Q", 132_444_736_001_234_567)


@pytest.mark.parametrize(
    "name, value", [(b"user.cifs.dosattrib", struct.pack("<I", 0x23)), (b"user.cifs.creationtime", CREATION_FILETIME)]
)
async def test_they_are_set_on_a_file_that_is_renamed_meanwhile(
    mount: Mount, share: MemShare, nursery: trio.Nursery, name: bytes, value: bytes
) -> None:
    mounted = await mount(share, view=USER)
    ino = await mounted.ino(PATH)
    with share.held("change"):
        nursery.start_soon(mounted.fs.setxattr, ino, name, value, 0)
        await wait_all_tasks_blocked()
        await mounted.fs.rename(1, PATH.encode(), 1, b"renamed", 0)
    await wait_all_tasks_blocked()
    node = share.node("renamed")
    assert node.attributes == 0x23 or node.created_ns == CREATION
    assert await mounted.fs.getxattr(ino, name) == value


@pytest.mark.parametrize(
    "held, call, arguments",
    [
        ("extended_attributes", "getxattr", (b"user.name",)),
        ("extended_attributes", "listxattr", ()),
        ("extended_attributes", "setxattr", (b"user.name", b"again", REPLACE)),
        ("set_extended_attribute", "setxattr", (b"user.name", b"again", 0)),
        ("set_extended_attribute", "removexattr", (b"user.name",)),
        ("security_descriptor", "getxattr", (b"system.cifs_acl",)),
        ("set_security_descriptor", "setxattr", (b"system.cifs_ntsd", DESCRIPTOR, 0)),
    ],
)
async def test_a_question_about_a_file_that_is_renamed_meanwhile_is_asked_again(
    mount: Mount, share: MemShare, nursery: trio.Nursery, held: str, call: str, arguments: tuple[object, ...]
) -> None:
    share.node(PATH).extended["name"] = b"value"
    mounted = await mount(share, view=dataclasses.replace(USER, acls=True))
    ino = await mounted.ino(PATH)
    ended = []

    async def ask() -> None:
        await getattr(mounted.fs, call)(ino, *arguments)
        ended.append(call)

    with share.held(held):
        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        await mounted.fs.rename(1, PATH.encode(), 1, b"renamed", 0)
    await wait_all_tasks_blocked()
    assert ended == [call]


async def test_setting_them_leaves_a_remembered_mode(mount: Mount, share: MemShare) -> None:
    mounted = await mount(share, view=dataclasses.replace(USER, mode_changes=ModeChanges.REMEMBER))
    ino = await mounted.ino(PATH)
    await mounted.fs.setattr(ino, NewAttributes(mode=0o4711, uid=5), None)
    await mounted.fs.setxattr(ino, b"user.cifs.dosattrib", struct.pack("<I", 0x20), 0)
    stat = (await mounted.fs.getattr(ino)).stat
    assert (stat.mode & 0o7777, stat.uid) == (0o4711, 5)


@pytest.mark.parametrize("derived", [False, True])
async def test_they_are_set_by_a_handle_that_is_open_to_write(mount: Mount, share: MemShare, derived: bool) -> None:
    share.grants = Caching.READ | Caching.WRITE | Caching.HANDLE
    node = share.node(PATH)
    if derived:  # from the other times, as by a server that keeps none
        node.created_ns = node.written_ns
    mounted = await mount(share, view=USER)
    ino = await mounted.ino(PATH)
    opened = await mounted.fs.open(ino, os.O_RDWR)
    await mounted.fs.write(opened.fh, 0, b"CONTENT")
    await mounted.fs.unlink(1, PATH.encode())
    share.calls.clear()
    await mounted.fs.setxattr(ino, b"user.cifs.dosattrib", struct.pack("<I", 0x22), 0)
    await mounted.fs.setxattr(ino, b"user.cifs.creationtime", CREATION_FILETIME, 0)
    assert (share.calls["change_open"], share.calls["change"]) == (2, 0)
    assert (node.attributes, node.created_ns) == (0x22, CREATION)
    assert bytes(node.data) == b"CONTENT"
    assert await mounted.fs.getxattr(ino, b"user.cifs.dosattrib") == struct.pack("<I", 0x22)
    assert await mounted.fs.getxattr(ino, b"user.cifs.creationtime") == CREATION_FILETIME
    await mounted.fs.release(opened.fh)


async def test_what_is_always_there_is_neither_created_nor_removed(mount: Mount, share: MemShare) -> None:
    mounted = await mount(share, view=USER)
    assert await failing(mounted, "setxattr", b"user.cifs.dosattrib", bytes(4), CREATE) == errno.EEXIST
    assert await failing(mounted, "removexattr", b"user.cifs.dosattrib") == errno.EOPNOTSUPP


@pytest.mark.parametrize(
    "name, kept",
    [
        (b"system.cifs_acl", DESCRIPTOR[:4] + bytes(8) + DESCRIPTOR[12:]),  # the DACL alone, as the kernel client
        (b"system.smb3_acl", DESCRIPTOR[:4] + bytes(8) + DESCRIPTOR[12:]),
        (b"system.cifs_ntsd", DESCRIPTOR),
        (b"system.smb3_ntsd", DESCRIPTOR),
    ],
)
async def test_security_descriptors_are_shown_with_acl_only(
    mount: Mount, share: MemShare, name: bytes, kept: bytes
) -> None:
    mounted = await mount(share, view=ACLS)
    ino = await mounted.ino(PATH)
    assert await mounted.fs.getxattr(ino, name) == DESCRIPTOR
    share.node(PATH).descriptor = b""
    await mounted.fs.setxattr(ino, name, DESCRIPTOR, 0)
    assert share.node(PATH).descriptor == kept
    assert await failing(mounted, "setxattr", name, b"short", 0) == errno.EINVAL
    assert await failing(mounted, "setxattr", name, DESCRIPTOR, CREATE) == errno.EEXIST
    assert await failing(mounted, "getxattr", b"user.name") == errno.EOPNOTSUPP
    assert list(await mounted.fs.listxattr(ino)) == []


async def test_without_the_options_there_are_none(mount: Mount, share: MemShare) -> None:
    mounted = await mount(share)
    for name in (b"user.name", b"user.cifs.dosattrib", b"system.cifs_acl"):
        assert await failing(mounted, "getxattr", name) == errno.EOPNOTSUPP
        assert await failing(mounted, "setxattr", name, b"1234", 0) == errno.EOPNOTSUPP
    assert await failing(mounted, "listxattr") == errno.EOPNOTSUPP


async def test_what_the_server_says_reaches_the_program(mount: Mount, share: MemShare) -> None:
    mounted = await mount(share, view=USER)
    share.fail("set_extended_attribute", error(NtStatus.EA_TOO_LARGE, "SET_INFO", PATH))
    assert await failing(mounted, "setxattr", b"user.a", b"1", 0) == errno.ENOSPC
    share.features = Features.NONE
    assert await failing(mounted, "setxattr", b"user.a", b"1", 0) == errno.EOPNOTSUPP
    assert await failing(mounted, "listxattr") == errno.EOPNOTSUPP
