"""pyfuse3's event loop never blocks, whoever withdraws a request."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pyfuse3
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from smbfuse.fuse import loop
from tests.fuse.conftest import Served

ROUNDS = 18
SILENCE_S = 0.6
LONGEST_GAP_S = 0.5


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


async def test_a_request_withdrawn_after_waking_is_waited_for_again(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    reading, writing = pipe
    wakings = 0
    really_wait = trio.lowlevel.wait_readable

    async def wait_and_lose_the_first(descriptor: int) -> None:
        nonlocal wakings
        await really_wait(descriptor)
        wakings += 1
        if wakings == 1:
            os.read(descriptor, 1)  # the request is gone before anybody reads it

    monkeypatch.setattr(trio.lowlevel, "wait_readable", wait_and_lose_the_first)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(loop.Lowlevel().wait_readable, reading)
        await trio.testing.wait_all_tasks_blocked()
        os.write(writing, b"1")
        await trio.sleep(1)
        assert wakings == 1
        os.write(writing, b"2")
    assert os.read(reading, 1) == b"2"


async def test_a_request_withdrawn_while_others_have_their_turn_is_waited_for_again(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    reading, writing = pipe
    really_check = trio.lowlevel.checkpoint

    async def lose_it_meanwhile() -> None:
        os.read(reading, 1)
        await really_check()

    monkeypatch.setattr(trio.lowlevel, "checkpoint", lose_it_meanwhile)
    os.write(writing, b"1")  # here already: there is no waiting, but others get their turn
    with trio.move_on_after(1) as waiting:
        await loop.Lowlevel().wait_readable(reading)
    assert waiting.cancelled_caught


async def test_a_read_that_comes_too_late_fails_instead_of_blocking(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.write(writing, b"1")
    await loop.Lowlevel().wait_readable(reading)
    os.read(reading, 1)
    with pytest.raises(BlockingIOError):
        os.read(reading, 1)


async def test_a_worker_that_came_too_late_works_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyfuse3, "trio", trio)
    loop.install()
    lives: list[tuple[int, str]] = []

    async def worker(minimum: int, name: str) -> None:
        lives.append((minimum, name))
        await trio.lowlevel.checkpoint()
        if len(lives) < 3:
            raise BlockingIOError("the request was withdrawn")

    async with pyfuse3.trio.open_nursery() as nursery:  # type: ignore[attr-defined]
        nursery.start_soon(worker, 1, "x", name="pyfuse-01")
    assert lives == [(1, "x")] * 3


async def test_a_session_cut_with_requests_in_its_queue_ends_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = trio.Event()
    monkeypatch.setattr(pyfuse3, "terminate", ended.set)

    async def reader() -> None:
        raise ConnectionAbortedError("fuse_session_receive_buf failed with Software caused connection abort")

    async with loop._Trio().open_nursery() as nursery:
        nursery.start_soon(reader)
        nursery.start_soon(ended.wait)


async def test_other_errors_of_workers_come_through() -> None:
    async def worker() -> None:
        raise OSError(5, "the device is broken")

    with pytest.raises(ExceptionGroup) as caught:  # the nursery raises when it ends
        async with loop._Trio().open_nursery() as nursery:
            nursery.start_soon(worker)
    assert caught.group_contains(OSError, match="device is broken")


async def test_a_worker_that_waits_for_nothing_keeps_the_turn() -> None:
    took: list[str] = []
    turn = loop.Turn()

    async def work(name: str, handlers: int, *, waits: bool) -> None:
        async def handle() -> int:
            if waits:
                await trio.testing.wait_all_tasks_blocked()
            return 7

        for _ in range(handlers):
            async with turn:
                took.append(name)
                await trio.lowlevel.checkpoint()  # for the next request
            assert await loop.waiting(handle()) == 7

    async with loop._Trio().open_nursery() as nursery:
        nursery.start_soon(lambda: work("prompt", 5, waits=False))
        await trio.testing.wait_all_tasks_blocked()
    assert took == ["prompt"] * 5
    took.clear()
    async with loop._Trio().open_nursery() as nursery:
        for name in ("one", "other"):
            nursery.start_soon(lambda name=name: work(name, 5, waits=False))
    assert took in (["one"] * 5 + ["other"] * 5, ["other"] * 5 + ["one"] * 5)  # it goes on when the first has ended
    took.clear()
    async with loop._Trio().open_nursery() as nursery:
        for name in ("one", "other"):
            nursery.start_soon(lambda name=name: work(name, 5, waits=True))
    assert sorted(took) == ["one"] * 5 + ["other"] * 5
    assert took[:2] in (["one", "other"], ["other", "one"])


async def test_what_a_handler_waits_for_reaches_it_as_ever(autojump_clock: MockClock) -> None:
    async def handle() -> float:
        with trio.move_on_after(1):
            await trio.sleep(5)
        try:
            await trio.sleep(5)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
        return trio.current_time()

    began = trio.current_time()
    assert await loop.waiting(handle()) == began + 7
    with trio.move_on_after(3) as given_up:
        await loop.waiting(handle())
    assert given_up.cancelled_caught
    assert trio.current_time() == began + 7 + 4

    async def fail() -> None:
        await trio.sleep(1)
        raise OSError(5, "no")

    with pytest.raises(OSError, match="no"):
        await loop.waiting(fail())


def test_all_else_is_trio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyfuse3, "trio", trio)
    loop.install()
    seam = pyfuse3.trio  # type: ignore[attr-defined]
    assert seam.Event is trio.Event
    assert seam.ClosedResourceError is trio.ClosedResourceError
    assert seam.lowlevel.notify_closing is trio.lowlevel.notify_closing
    assert isinstance(seam.lowlevel, loop.Lowlevel)


KILLED_CALLERS = """
import os, sys, threading
def look():
    while True:
        try: os.stat(sys.argv[1] + "/file")
        except OSError: pass
threads = [threading.Thread(target=look, daemon=True) for _ in range(8)]
for one in threads: one.start()
print("looking", flush=True)
for one in threads: one.join()
"""


@pytest.mark.mounts
def test_killed_callers_stall_nobody(served: Callable[..., Served]) -> None:
    """Callers are killed while their requests wait to be read, then nobody asks anything: the loop must go on."""
    mount = served()
    chance = random.Random(20261121)
    for _ in range(ROUNDS):
        callers = [
            subprocess.Popen([sys.executable, "-S", "-c", KILLED_CALLERS, mount.point], stdout=subprocess.PIPE)
            for _ in range(2)
        ]
        for caller in callers:
            assert caller.stdout is not None
            assert caller.stdout.readline() == b"looking\n"
        time.sleep(chance.uniform(0.05, 0.15))
        for caller in callers:
            caller.kill()
        for caller in callers:
            caller.communicate(timeout=10)
        time.sleep(SILENCE_S)
    seen = mount.end()
    assert seen["asked"]["lookup"] > ROUNDS
    assert seen["longest_s"] < LONGEST_GAP_S
