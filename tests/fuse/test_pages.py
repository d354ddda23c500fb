"""Notices to the kernel: merged, off the caller's thread, bounded, and none after the end."""

import errno
import threading
from collections.abc import Callable

import pyfuse3
import pytest

from smbfuse.fuse import pages
from smbfuse.fuse.pages import PageCache
from tests.support.samba import wait_for

WAIT_S = 5.0


class Kernel:
    """Stands in for the kernel: takes notices down, and can be made to block on a folder."""

    def __init__(self) -> None:
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
        if ino in self.gates:
            self.gates[ino].wait(WAIT_S)
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
