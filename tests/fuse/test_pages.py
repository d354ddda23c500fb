"""Notices to the kernel: merged, off the caller's thread, bounded, and none after the end."""

import errno
import threading
from collections.abc import Callable

import pyfuse3
import pytest
import trio
import trio.testing

from smbfuse.fuse import pages
from smbfuse.fuse.pages import PageCache
from tests.support.samba import wait_for

WAIT_S = 5.0


class Kernel:
    """Stands in for the kernel: takes notices down, and can be made to block on a folder."""

    def __init__(self) -> None:
        self.begun: list[tuple[object, ...]] = []
        self.told: list[tuple[object, ...]] = []
        self.threads: set[str] = set()
        self.gates: dict[int, threading.Event] = {}
        self.errors: dict[int, int] = {}
        self.lock = threading.Lock()

    def invalidate_entry(self, parent: int, name: bytes) -> None:
        self._take(parent, (parent, name))

    def invalidate_inode(self, ino: int, attr_only: bool = False) -> None:
        self._take(ino, (ino, attr_only))

    def _take(self, ino: int, notice: tuple[object, ...]) -> None:
        gate = self.gates.get(ino)
        self.begun.append(notice)
        if gate is not None:
            gate.wait(WAIT_S)
        with self.lock:
            self.told.append(notice)
            self.threads.add(threading.current_thread().name)
        if ino in self.errors:
            raise OSError(self.errors[ino], "no")


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    stand_in = Kernel()
    monkeypatch.setattr(pyfuse3, "invalidate_entry", stand_in.invalidate_entry)
    monkeypatch.setattr(pyfuse3, "invalidate_inode", stand_in.invalidate_inode)
    return stand_in


def settled(cache: PageCache, count: int) -> Callable[[], bool]:
    return lambda: cache.statistics().told == count


def test_notices_reach_the_kernel_from_other_threads(kernel: Kernel) -> None:
    cache = PageCache()
    cache.invalidate_entry(1, b"a")
    cache.invalidate_inode(2, attr_only=True)
    assert wait_for(settled(cache, 2), WAIT_S)
    assert sorted(kernel.told, key=str) == [(1, b"a"), (2, True)]
    assert kernel.threads == {"smbfuse-pages"}
    assert cache.close()


def test_what_waits_is_merged(kernel: Kernel) -> None:
    gate = kernel.gates[1] = threading.Event()
    cache = PageCache()
    cache.invalidate_entry(1, b"first")
    assert wait_for(lambda: cache.statistics().waiting == 0, WAIT_S)
    for _ in range(100):
        cache.invalidate_entry(1, b"a")
        cache.invalidate_entry(1, b"b")
        cache.invalidate_inode(1, attr_only=True)
    cache.invalidate_inode(1, attr_only=False)
    cache.invalidate_inode(1, attr_only=True)
    assert cache.statistics().waiting == 3
    gate.set()
    assert wait_for(settled(cache, 4), WAIT_S)
    # All pages go, because one of the notices said so; the folder's own after its names.
    assert kernel.told[0] == (1, b"first")
    assert set(kernel.told[1:3]) == {(1, b"a"), (1, b"b")}
    assert kernel.told[3] == (1, False)
    assert cache.close()


def test_a_blocked_folder_holds_up_no_other(kernel: Kernel) -> None:
    gate = kernel.gates[1] = threading.Event()
    cache = PageCache()
    cache.invalidate_entry(1, b"stuck")
    cache.invalidate_entry(1, b"behind it")
    for ino in range(2, 50):
        cache.invalidate_entry(ino, b"free")
    assert wait_for(lambda: len(kernel.told) == 48, WAIT_S)
    assert all(notice[0] != 1 for notice in kernel.told)
    gate.set()
    assert wait_for(settled(cache, 50), WAIT_S)
    assert cache.close()


def test_the_second_notice_finds_a_thread_while_the_first_blocks(kernel: Kernel) -> None:
    cache = PageCache()
    cache.invalidate_entry(9, b"wake one thread")
    assert wait_for(settled(cache, 1), WAIT_S)
    kernel.gates[1] = threading.Event()
    cache.invalidate_entry(1, b"stuck")
    cache.invalidate_entry(2, b"free")
    assert wait_for(lambda: (2, b"free") in kernel.told, WAIT_S)
    kernel.gates[1].set()
    assert cache.close()


def test_too_many_are_dropped_and_counted(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_MOST_NOTICES", 10)
    kernel.gates[1] = threading.Event()
    cache = PageCache()
    cache.invalidate_entry(1, b"stuck")
    assert wait_for(lambda: cache.statistics().waiting == 0, WAIT_S)
    for number in range(25):
        cache.invalidate_entry(1, str(number).encode())
    assert (cache.statistics().waiting, cache.statistics().dropped) == (10, 15)
    kernel.gates[1].set()
    assert wait_for(settled(cache, 11), WAIT_S)
    cache.invalidate_entry(1, b"there is room again")
    assert wait_for(settled(cache, 12), WAIT_S)
    assert cache.close()


def test_the_kernel_may_have_forgotten(kernel: Kernel, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    kernel.errors = {1: errno.ENOENT, 2: errno.ENODEV, 3: errno.ENOSYS}
    cache = PageCache()
    for ino in (1, 2, 3):
        cache.invalidate_inode(ino, attr_only=False)
    assert wait_for(settled(cache, 3), WAIT_S)
    assert cache.close()
    assert [record.getMessage()[:44] for record in caplog.records] == ["the kernel did not take a notice about inode"]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a thread without holding up the event loop."""
    with trio.fail_after(WAIT_S):
        while not condition():  # noqa: ASYNC110 - a thread brings it about
            await trio.sleep(0.001)


async def test_who_waits_hears_when_the_kernel_has_dropped_the_pages(kernel: Kernel) -> None:
    gate = kernel.gates[7] = threading.Event()
    cache = PageCache()
    heard: list[str] = []

    async def wait(name: str) -> None:
        await cache.drop_pages(7)
        heard.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, "first")
        await until(lambda: kernel.begun != [])
        # What was read since the thread began is in the pages again: the next two need a notice of their own.
        cache.invalidate_inode(7, attr_only=True)
        nursery.start_soon(wait, "second")
        nursery.start_soon(wait, "third")
        await until(lambda: cache.statistics().waiting == 1)
        await trio.testing.wait_all_tasks_blocked()
        assert heard == []
        later = kernel.gates[7] = threading.Event()
        gate.set()
        await until(lambda: heard != [])
        assert heard == ["first"]
        later.set()
    assert sorted(heard) == ["first", "second", "third"]
    assert kernel.told == [(7, False), (7, False)]
    assert cache.close()


async def test_what_is_waited_for_is_never_dropped(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_MOST_NOTICES", 0)
    cache = PageCache()
    cache.invalidate_inode(3, attr_only=False)
    with trio.fail_after(WAIT_S):
        await cache.drop_pages(4)
    assert kernel.told == [(4, False)]
    assert cache.statistics().dropped == 1
    assert cache.close()


async def test_who_gives_up_waiting_takes_nothing_back(kernel: Kernel) -> None:
    gate = kernel.gates[7] = threading.Event()
    cache = PageCache()
    with trio.move_on_after(0.01) as scope:
        await cache.drop_pages(7)
    assert scope.cancelled_caught
    gate.set()
    await until(settled(cache, 1))
    assert kernel.told == [(7, False)]
    assert cache.close()


async def test_the_end_leaves_nobody_waiting(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_MOST_THREADS", 1)
    gate = kernel.gates[1] = threading.Event()
    cache = PageCache()
    cache.invalidate_inode(1, attr_only=True)
    await until(lambda: kernel.begun != [])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cache.drop_pages, 2)
        await until(lambda: cache.statistics().waiting == 1)
        threading.Timer(0.05, gate.set).start()
        assert await trio.to_thread.run_sync(cache.close)
    await cache.drop_pages(3)
    assert kernel.told == [(1, True)]


def test_after_the_end_nothing_is_told(kernel: Kernel) -> None:
    cache = PageCache()
    assert cache.close()
    cache.invalidate_entry(1, b"a")
    cache.invalidate_inode(1, attr_only=False)
    assert cache.statistics() == pages.KernelCacheStatistics(0, 0, 0)


def test_a_thread_that_is_stuck_is_told_of(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_FAREWELL_S", 0.05)
    gate = kernel.gates[1] = threading.Event()
    cache = PageCache()
    cache.invalidate_entry(1, b"stuck")
    assert wait_for(lambda: cache.statistics().waiting == 0, WAIT_S)
    assert not cache.close()
    gate.set()
    assert wait_for(lambda: cache.close(), WAIT_S)
