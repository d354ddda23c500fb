"""Changes of several requests that lose the connection between them: all of it is done in the end, or nothing."""

import errno
import os

import pytest
import trio
from trio.testing import MockClock

from smbfuse.config import View
from smbfuse.errors import ConnectionLost
from smbfuse.share import Attributes, FileStat
from smbfuse.status import NtStatus, error
from smbfuse.vfs.mfsymlinks import encode
from tests.conftest import ExpectedWarnings
from tests.support.mem_share import MemShare
from tests.vfs.mounted import Mount, Mounted, opened
from tests.vfs.test_changes import CALLER, refusal
from tests.vfs.test_removal import hidden, unlink

OUTAGE_S = 100.0


class Cut(MemShare):
    """Loses its connection with one of its renames; `executed`: it is carried out, and nobody hears of it."""

    def __init__(self, rename: int, *, executed: bool = False) -> None:
        super().__init__()
        self.cut_at = rename
        self.executed = executed
        self.mounted: Mounted | None = None
        self.is_down = False

    async def rename(self, source: str, target: str, *, replace: bool, holder: object = None) -> None:
        self.cut_at -= 1
        if not self.cut_at:
            self.down()
            if self.executed:
                await super().rename(source, target, replace=replace)
            raise ConnectionLost("cut", sent=True)
        if self.is_down:
            raise ConnectionLost("no connection", sent=False)
        await super().rename(source, target, replace=replace)

    async def make_directory(self, path: str, mode: int | None = None) -> FileStat:
        if self.is_down:
            raise ConnectionLost("no connection", sent=False)
        return await super().make_directory(path, mode)

    def down(self, is_down: bool = True) -> None:
        assert self.mounted is not None
        self.is_down = is_down
        self.mounted.source.reachable = not is_down


async def cut_while_replacing(mount: Mount, rename: int, *, executed: bool = False) -> tuple[Cut, Mounted, int]:
    """Rename a file onto one that is open, until the connection is lost with the given request of it."""
    share = Cut(rename, executed=executed)
    share.add("d/new", b"new")
    share.add("d/old", b"old")
    share.mounted = mounted = await mount(share)
    fh = await opened(mounted, "d/old", os.O_RDONLY)
    folder = await mounted.ino("d")
    with refusal(errno.EHOSTDOWN):
        await mounted.fs.rename(folder, b"new", folder, b"old", 0)
    return share, mounted, fh


@pytest.mark.parametrize("executed", [False, True])
@pytest.mark.parametrize("rename", [1, 2])
async def test_a_target_that_was_hidden_has_its_name_again_when_the_server_is_back(
    mount: Mount, autojump_clock: MockClock, rename: int, executed: bool
) -> None:
    share, mounted, fh = await cut_while_replacing(mount, rename, executed=executed)
    await trio.sleep(OUTAGE_S)
    asked = share.calls["rename"]
    await trio.sleep(OUTAGE_S)
    assert share.calls["rename"] == asked, "nobody is asked who is not there"
    share.down(False)
    await trio.sleep(2)
    if (rename, executed) == (2, True):
        assert {name: bytes(node.data) for name, node in share.node("d").children.items()} == {"old": b"new"}
    else:
        assert await mounted.read_all("d/old") == b"old"
        assert await mounted.read_all("d/new") == b"new"
        assert await mounted.names("d") == [b".", b"..", b"new", b"old"]
    await mounted.fs.release(fh)
    await trio.sleep(5)
    assert hidden(share) == []


async def test_what_took_the_name_meanwhile_keeps_it(mount: Mount, autojump_clock: MockClock) -> None:
    share, mounted, fh = await cut_while_replacing(mount, 2)
    share.down(False)
    folder = await mounted.ino("d")
    await mounted.fs.rename(folder, b"new", folder, b"old", 0)
    await trio.sleep(2)
    assert await mounted.read_all("d/old") == b"new"
    await mounted.fs.release(fh)
    await trio.sleep(5)
    assert hidden(share) == []


async def test_a_file_whose_removal_failed_has_its_name_again(mount: Mount, autojump_clock: MockClock) -> None:
    share = Cut(1, executed=True)
    share.add("d/f", b"bytes")
    share.mounted = mounted = await mount(share)
    fh = await opened(mounted, "d/f", os.O_RDONLY)
    with refusal(errno.EHOSTDOWN):
        await unlink(mounted, "d/f")
    assert len(hidden(share)) == 1
    share.down(False)
    await trio.sleep(2)
    assert await mounted.read_all("d/f") == b"bytes"
    assert hidden(share) == []
    await mounted.fs.release(fh)


async def test_an_empty_folder_that_was_to_be_replaced_is_made_again(mount: Mount, autojump_clock: MockClock) -> None:
    share = Cut(1)
    share.add("new/f", b"bytes")
    share.add_folder("old")
    share.mounted = mounted = await mount(share)
    assert await mounted.ino("old")
    with refusal(errno.EHOSTDOWN):
        await mounted.fs.rename(1, b"new", 1, b"old", 0)
    await trio.sleep(OUTAGE_S)
    assert "old" not in share.root.children
    share.down(False)
    await trio.sleep(2)
    assert await mounted.names() == [b".", b"..", b"new", b"old"]
    assert await mounted.read_all("new/f") == b"bytes"


@pytest.mark.parametrize("meanwhile", ["nothing", "written", "replaced"])
async def test_half_a_symlink_is_removed_when_the_server_is_back(
    mount: Mount, autojump_clock: MockClock, meanwhile: str
) -> None:
    share = MemShare()
    mounted = await mount(share, view=View(mf_symlinks=True))
    for operation in ("write", "stat"):
        share.fail(operation, ConnectionLost("no connection", sent=True))
    mounted.source.reachable = False
    with refusal(errno.EHOSTDOWN):
        await mounted.fs.symlink(1, b"link", b"target", CALLER)
    if meanwhile == "written":
        share.node("link").data = bytearray(encode(b"target"))
    elif meanwhile == "replaced":
        del share.root.children["link"]
        share.add("link", b"another")
    await trio.sleep(OUTAGE_S)
    mounted.source.reachable = True
    await trio.sleep(2)
    assert ("link" in share.root.children) is (meanwhile != "nothing")


async def test_a_file_that_could_not_be_removed_is_protected_again(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare()
    share.add("f").attributes = Attributes.READONLY | Attributes.ARCHIVE
    mounted = await mount(share)
    await mounted.ino("f")

    class Line:
        """Ends with the removal, when the attribute is gone."""

        async def remove(self, *arguments: object) -> None:
            if share.node("f").attributes & Attributes.READONLY:
                raise error(NtStatus.CANNOT_DELETE, "REMOVE")
            mounted.source.reachable = False
            share.fail("change", ConnectionLost("no connection", sent=False), times=3)
            raise ConnectionLost("cut", sent=False)

    share.remove = Line().remove  # type: ignore[method-assign,assignment]
    with refusal(errno.EHOSTDOWN):
        await unlink(mounted, "f")
    await trio.sleep(OUTAGE_S)
    assert not share.node("f").attributes & Attributes.READONLY
    mounted.source.reachable = True
    await trio.sleep(2)
    assert share.node("f").attributes == Attributes.READONLY | Attributes.ARCHIVE


async def test_who_gives_up_meanwhile_is_not_waited_for(mount: Mount, autojump_clock: MockClock) -> None:
    class Slow(Cut):
        async def rename(self, source: str, target: str, *, replace: bool, holder: object = None) -> None:
            if self.is_down:
                await trio.sleep(30)
            await super().rename(source, target, replace=replace)

    share = Slow(2)
    share.add("new", b"new")
    share.add("old", b"old")
    share.mounted = mounted = await mount(share)
    fh = await opened(mounted, "old", os.O_RDONLY)
    began = trio.current_time()
    with refusal(errno.EHOSTDOWN):
        await mounted.fs.rename(1, b"new", 1, b"old", 0)
    assert trio.current_time() - began < 15
    share.down(False)
    await trio.sleep(40)
    assert await mounted.read_all("old") == b"old"
    await mounted.fs.release(fh)


async def test_what_cannot_be_put_back_before_the_end_is_told(
    mount: Mount, autojump_clock: MockClock, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("is called '.smbfuse-")
    _, mounted, fh = await cut_while_replacing(mount, 2)
    await mounted.fs.release(fh)
    await mounted.fs.drain(trio.current_time() + 5)
