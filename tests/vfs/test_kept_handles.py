"""Handles that stay open for nobody give no right that their file has lost, and keep nothing that has no name."""

import errno
import os

import pytest
import trio
from trio.testing import MockClock

from smbfuse.config import Cache, CacheMode
from smbfuse.errors import SmbError
from smbfuse.share import Caching, Features
from smbfuse.vfs.posix import NewAttributes
from tests.support.mem_share import MemShare
from tests.vfs.mounted import Mount, Mounted, with_open_file

EVERYTHING = Caching.READ | Caching.WRITE | Caching.HANDLE
YEAR_NS = 31_556_952 * 10**9


async def write(mounted: Mounted, path: str, data: bytes) -> None:
    opened = await mounted.fs.open(await mounted.ino(path), os.O_RDWR)
    await mounted.fs.write(opened.fh, 0, data)
    await mounted.fs.flush(opened.fh)
    await mounted.fs.release(opened.fh)


@pytest.mark.parametrize("still_open", [True, False])
async def test_a_file_protected_since_is_not_opened_to_write_by_an_old_handle(
    mount: Mount, autojump_clock: MockClock, still_open: bool
) -> None:
    share = MemShare(grants=EVERYTHING, features=Features.COMPOUND)
    share.add("f", bytes(100_000))
    mounted = await mount(share)
    ino = await mounted.ino("f")
    opened = await mounted.fs.open(ino, os.O_RDWR)
    if not still_open:
        await mounted.fs.release(opened.fh)
    await mounted.fs.setattr(ino, NewAttributes(mode=0o444), None)
    with pytest.raises(SmbError) as caught:
        await mounted.fs.open(ino, os.O_WRONLY)
    assert caught.value.errno == errno.EACCES
    await mounted.fs.release((await mounted.fs.open(ino, os.O_RDONLY)).fh)
    if still_open:  # who had it open before may go on
        assert await mounted.fs.write(opened.fh, 0, b"x") == 1
    await mounted.fs.setattr(ino, NewAttributes(mode=0o644), None)
    await write(mounted, "f", b"again")


async def test_a_file_without_a_name_is_not_kept_after_its_last_close(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare(grants=EVERYTHING, features=Features.COMPOUND)
    share.add("f", bytes(100_000))
    mounted = await mount(share, cache=Cache(close_timeout_s=1000))
    opened = await mounted.fs.open(await mounted.ino("f"), os.O_RDONLY)
    await mounted.fs.unlink(1, b"f")
    await mounted.fs.release(opened.fh)
    await trio.sleep(0.1)
    assert list(share.root.children) == []
    assert share.open_files == 0


@pytest.mark.parametrize(
    "asked_ns, kept_ns",
    [
        (2**70, ((1 << 63) - 1 - 116_444_736_000_000_000) * 100),
        (-500 * YEAR_NS, (1 - 116_444_736_000_000_000) * 100),
        (123_456_789, 123_456_700),
    ],
)
async def test_a_time_that_no_server_keeps_becomes_the_nearest(mount: Mount, asked_ns: int, kept_ns: int) -> None:
    share = MemShare()
    share.add("f")
    mounted = await mount(share)
    entry = await mounted.fs.setattr(await mounted.ino("f"), NewAttributes(mtime_ns=asked_ns), None)
    assert entry.stat.mtime_ns == kept_ns
    assert share.node("f").stat().written_ns == kept_ns


async def keeping_pages(mount: Mount) -> tuple[MemShare, Mounted]:
    """Mount a share with a file of which the kernel keeps written pages until it is asked for them."""
    share = MemShare(grants=EVERYTHING, features=Features.COMPOUND)
    mounted, fh = await with_open_file(mount, share, bytes(10), cache=Cache(mode=CacheMode.LOOSE))

    async def write_back() -> None:
        await mounted.fs.write(fh, 0, b"kept pages")

    mounted.kernel.write_back[await mounted.ino("f")] = write_back
    return share, mounted


async def test_the_kernel_hands_over_what_it_has_kept_before_a_grant_is_given_back(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share, _ = await keeping_pages(mount)
    other = await mount(share.other_client())
    assert await other.read_all("f") == b"kept pages"


async def test_the_kernel_hands_over_what_it_has_kept_before_the_end(mount: Mount, autojump_clock: MockClock) -> None:
    share, mounted = await keeping_pages(mount)
    assert await mounted.fs.drain(1000) == []
    assert bytes(share.node("f").data) == b"kept pages"
