"""A file that is read from its start to its end: what its reader waits for."""

import trio
from trio.testing import MockClock

from tests.support.mem_share import MemShare
from tests.vfs.mounted import Mount

KIB, MIB = 1 << 10, 1 << 20


async def test_who_reads_on_never_waits_for_attributes(mount: Mount, autojump_clock: MockClock) -> None:
    """The kernel asks for them whenever those that it has may no longer be believed, and reads nothing meanwhile."""
    share = MemShare()
    share.add("large", bytes(128 * MIB))
    mounted = await mount(share)
    ino = await mounted.ino("large")
    opened = await mounted.fs.open(ino, 0)
    for operation in ("read", "stat"):
        share.delays[operation] = 0.1
    believed_until, waited_s, asked = trio.current_time() + 1.0, 0.0, share.calls["stat"]
    began = trio.current_time()
    for offset in range(0, 128 * MIB, 128 * KIB):
        if trio.current_time() >= believed_until:
            before = trio.current_time()
            believed_until = (await mounted.fs.getattr(ino)).attr_timeout_s + trio.current_time()
            waited_s += trio.current_time() - before
        await mounted.fs.read(opened.fh, offset, 128 * KIB)
        await trio.sleep(0.005)
    assert trio.current_time() - began > 3, "else nothing was asked"
    assert waited_s == 0.0
    assert share.calls["stat"] - asked < 3 * (trio.current_time() - began)
    await mounted.fs.release(opened.fh)


async def test_a_change_seen_while_reading_on_is_no_older_than_promised(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share = MemShare()
    share.add("large", bytes(32 * MIB))
    mounted = await mount(share)
    ino = await mounted.ino("large")
    opened = await mounted.fs.open(ino, 0)
    await mounted.fs.read(opened.fh, 0, 128 * KIB)
    share.write("large", b"another" * 10)
    await trio.sleep(0.6)
    for offset in range(128 * KIB, 4 * MIB, 128 * KIB):
        await mounted.fs.read(opened.fh, offset, 128 * KIB)
    await trio.sleep(0.1)
    assert (await mounted.fs.getattr(ino)).stat.size == 70
    assert (ino, False) in mounted.kernel.inodes, "its pages are dropped"
    await mounted.fs.release(opened.fh)
