"""The last save before a mount ends: within its time, whoever cancels what, and what is missing is told."""

from collections.abc import Sequence
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from smbfuse.daemon.saving import Aborted, Saving
from smbfuse.errors import UnsavedData
from smbfuse.vfs.filesystem import Filesystem
from smbfuse.vfs.posix import Unsaved
from tests.conftest import ExpectedWarnings

PATIENCE_S = 60.0

LEFT = [
    Unsaved("folder/a", 0, 4096, "no answer"),
    Unsaved("folder/a", 1 << 20, 4, "no answer"),
    Unsaved("b", 7, 100, "the disk is full"),
]


class Files:
    """Something to drain: takes `needs_s` to be saved, and obeys the deadline or, like a bug would, does not."""

    def __init__(self, needs_s: float = 0.0, left: Sequence[Unsaved] = (), *, obeys: bool = True) -> None:
        self.needs_s = needs_s
        self.left = left
        self.obeys = obeys
        self.deadlines: list[float] = []

    async def drain(self, deadline: float) -> Sequence[Unsaved]:
        self.deadlines.append(deadline)
        if deadline <= trio.current_time():
            await trio.lowlevel.checkpoint()
            return self.left
        with trio.CancelScope(deadline=deadline if self.obeys else float("inf")):
            await trio.sleep(self.needs_s)
            self.left = ()
        return self.left


async def save(saving: Saving, files: Files) -> None:
    await saving.save(cast("Filesystem", files))


async def test_what_reaches_the_server_in_time_is_no_news(autojump_clock: MockClock) -> None:
    saving, files = Saving(PATIENCE_S), Files(PATIENCE_S - 1, LEFT)
    await save(saving, files)
    saving.settle()
    assert trio.current_time() == PATIENCE_S - 1


@pytest.mark.parametrize("obeys", [True, False])
async def test_what_does_not_is_named(
    autojump_clock: MockClock, expected_warnings: ExpectedWarnings, obeys: bool
) -> None:
    expected_warnings(
        "not on the server: file='folder/a' offset=0 length=4096: no answer",
        "not on the server: file='folder/a' offset=1048576 length=4: no answer",
        "not on the server: file='b' offset=7 length=100: the disk is full",
    )
    saving = Saving(PATIENCE_S)
    await save(saving, Files(float("inf"), LEFT, obeys=obeys))
    assert trio.current_time() == PATIENCE_S
    with pytest.raises(UnsavedData, match="unmounted with 4200 bytes of 2 files not on the server"):
        saving.settle()


async def test_the_bound_is_one_for_all_savings_and_the_last_one_counts(autojump_clock: MockClock) -> None:
    saving, files = Saving(PATIENCE_S), Files(40, LEFT)
    await save(saving, files)
    files.left, files.needs_s = LEFT, 10
    await save(saving, files)
    assert files.deadlines == [PATIENCE_S, PATIENCE_S]
    saving.settle()


async def test_only_giving_up_cuts_it_short(autojump_clock: MockClock, expected_warnings: ExpectedWarnings) -> None:
    expected_warnings("file='folder/a' offset=0", "file='folder/a' offset=1048576", "file='b'")
    saving = Saving(PATIENCE_S)
    with trio.CancelScope() as everything:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(save, saving, Files(50, LEFT, obeys=False))
            await trio.sleep(10)
            everything.cancel()
            with trio.CancelScope(shield=True):
                await trio.sleep(10)
                assert len(nursery.child_tasks) == 1
                saving.abort()
    assert trio.current_time() == 20
    with pytest.raises(Aborted, match="with 4200 bytes of 2 files not on the server"):
        saving.settle()


async def test_who_gives_up_though_nothing_is_missing_says_that(autojump_clock: MockClock) -> None:
    saving = Saving(PATIENCE_S)
    await save(saving, Files(1, LEFT))
    saving.abort()
    with pytest.raises(Aborted, match="with everything on the server"):
        saving.settle()


async def test_who_has_given_up_before_only_looks_what_is_left(
    autojump_clock: MockClock, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("file='b'")
    saving = Saving(PATIENCE_S)
    saving.abort()
    await save(saving, Files(50, LEFT[2:]))
    assert trio.current_time() == 0
    with pytest.raises(Aborted, match="100 bytes of 1 file not"):
        saving.settle()


async def test_two_may_save_at_once(autojump_clock: MockClock, expected_warnings: ExpectedWarnings) -> None:
    expected_warnings("file='b'")
    saving, files = Saving(PATIENCE_S), Files(50, LEFT[2:], obeys=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(save, saving, files)
        await trio.sleep(5)
        nursery.start_soon(save, saving, files)
        await trio.sleep(5)
        saving.abort()
    assert trio.current_time() == 10
    with pytest.raises(Aborted, match="100 bytes of 1 file"):
        saving.settle()
