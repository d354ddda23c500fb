"""The contract of `Share.watch`: what another client changes is told, nothing is lost, nobody waits for it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Collection
from typing import Final

import trio

from smbfuse.errors import NotFound, StaleHandle, WrongKind
from smbfuse.share import Features, Happened, Kind, Notice, Watch
from tests.interop.contract import MAKING, WRITING, Stage, check, refused

SOON_S: Final = 30.0  # a limit, never a pause
ANYTHING: Final = Notice(Happened.ANYTHING)


@contextlib.asynccontextmanager
async def watching(stage: Stage, *, recursive: bool = True) -> AsyncIterator[Watch]:
    """Watch the check's folder until the end of the block.

    Samba hands a watch to a process of its own, and answers before that knows of it: on a machine that is busy enough
    what comes at once may be missed all the same (see `watching.SETTLE_S`).
    """
    watch = await stage.share.watch(stage.folder, recursive=recursive)
    try:
        await first_heard(stage, watch)
        yield watch
    finally:
        await watch.aclose()


async def heard(watch: Watch, enough: Callable[[set[Notice]], bool]) -> set[Notice]:
    """Collect what is told until it is enough, and return it."""
    seen: set[Notice] = set()
    with trio.fail_after(SOON_S):
        while not enough(seen):
            seen |= set(await watch.notices())
    return seen


async def told(watch: Watch, *wanted: Notice) -> set[Notice]:
    """Collect what is told until all of `wanted` was, and return it."""
    return await heard(watch, lambda seen: seen >= set(wanted))


def about(notices: Collection[Notice]) -> set[str]:
    """Return the paths that something was told of."""
    return {path for notice in notices for path in (notice.path, notice.old_path) if path}


async def make(stage: Stage, name: str) -> str:
    """Have the other client make a file, and return its path."""
    path = stage.at(name)
    file = await stage.other.open(path, MAKING)
    await file.aclose()
    return path


async def first_heard(stage: Stage, watch: Watch) -> None:
    """Have the other client make and remove a file until both are told."""
    for number in range(10):
        name = f"heard {number}"
        path = await make(stage, name)
        with trio.move_on_after(SOON_S / 10) as patience:
            await heard(watch, lambda seen: ANYTHING in seen or name in about(seen))  # noqa: B023
        await stage.other.remove(path, Kind.FILE)
        if not patience.cancelled_caught:
            gone = Notice(Happened.REMOVED, name)
            await heard(watch, lambda seen: ANYTHING in seen or gone in seen)  # noqa: B023
            return
    raise AssertionError("nothing is told")


@check(needs=Features.NOTIFY, lossy=False)
async def what_another_client_makes_and_removes_is_told(stage: Stage) -> None:
    async with watching(stage) as watch:
        path = await make(stage, "größe 📁.txt")
        await told(watch, Notice(Happened.ADDED, "größe 📁.txt"))
        await stage.other.remove(path, Kind.FILE)
        await told(watch, Notice(Happened.REMOVED, "größe 📁.txt"))
        await stage.other.make_directory(stage.at("Ordner"))
        # Samba 4.22 makes a folder under another name, and renames it.
        appeared = {(Happened.ADDED, "Ordner"), (Happened.RENAMED, "Ordner")}
        await heard(watch, lambda seen: not appeared.isdisjoint((notice.what, notice.path) for notice in seen))
        assert watch.stands


@check(needs=Features.NOTIFY, lossy=False)
async def what_another_client_writes_is_told(stage: Stage) -> None:
    path = await make(stage, "a")
    async with watching(stage) as watch:
        file = await stage.other.open(path, WRITING)
        await file.write(0, [b"new"])
        await file.aclose()
        await told(watch, Notice(Happened.MODIFIED, "a"))


@check(needs=Features.NOTIFY, lossy=False)
async def a_rename_is_told_with_both_names(stage: Stage) -> None:
    path = await make(stage, "old")
    async with watching(stage) as watch:
        await stage.other.rename(path, stage.at("new"), replace=False)
        # A server may tell of the old name before it knows the new one: then it is two changes.
        apart = {Notice(Happened.REMOVED, "old"), Notice(Happened.ADDED, "new")}
        await heard(watch, lambda seen: Notice(Happened.RENAMED, "new", "old") in seen or seen >= apart)


@check(needs=Features.NOTIFY, lossy=False)
async def changes_in_the_folders_below_are_told_if_they_are_to_be(stage: Stage) -> None:
    await stage.other.make_directory(stage.at("a"))
    await stage.other.make_directory(stage.at("a/b"))
    async with watching(stage) as deep, watching(stage, recursive=False) as flat:
        await make(stage, "a/b/c")
        await make(stage, "last")
        await told(deep, Notice(Happened.ADDED, "a/b/c"), Notice(Happened.ADDED, "last"))
        seen = await told(flat, Notice(Happened.ADDED, "last"))
        assert not about(seen) & {"a/b/c", "a/b"}


@check(needs=Features.NOTIFY, lossy=False)
async def our_own_changes_are_told_as_well(stage: Stage) -> None:
    async with watching(stage) as watch:
        await stage.make("ours", b"data")
        await told(watch, Notice(Happened.ADDED, "ours"))


@check(needs=Features.NOTIFY, lossy=False)
async def nothing_is_lost_while_nobody_listens(stage: Stage) -> None:
    names = {f"{number} von vielen" for number in range(30)}
    async with watching(stage) as watch:
        for name in sorted(names):
            await make(stage, name)
        await heard(watch, lambda seen: ANYTHING in seen or about(seen) >= names)


@check(needs=Features.NOTIFY, lossy=False)
async def a_wait_that_is_given_up_loses_nothing(stage: Stage) -> None:
    async with watching(stage) as watch:
        with trio.move_on_after(0.05):
            await watch.notices()
        await make(stage, "a")
        await told(watch, Notice(Happened.ADDED, "a"))


@check(needs=Features.NOTIFY, lossy=False)
async def a_watch_that_waits_keeps_nobody_waiting(stage: Stage) -> None:
    async with watching(stage) as watch, trio.open_nursery() as nursery:
        nursery.start_soon(watch.notices)
        for number in range(20):
            await stage.share.stat(stage.folder)
            assert await stage.names() == sorted(map(str, range(number)))
            await make(stage, str(number))
        nursery.cancel_scope.cancel()


@check(needs=Features.NOTIFY, lossy=False)
async def a_watch_that_is_closed_tells_no_more_and_keeps_no_folder_open(stage: Stage) -> None:
    await stage.other.make_directory(stage.at("a"))
    watch = await stage.share.watch(stage.at("a"))
    async with trio.open_nursery() as nursery:

        async def waits() -> None:
            with refused(StaleHandle):
                await watch.notices()

        nursery.start_soon(waits)
        await trio.sleep(0.05)
        await watch.aclose()
    assert not watch.stands
    await stage.share.stat(stage.folder)  # the CLOSE, which nobody waits for, is before it
    await stage.other.remove(stage.at("a"), Kind.DIRECTORY)


@check(needs=Features.NOTIFY, lossy=False)
async def only_folders_are_watched(stage: Stage) -> None:
    await make(stage, "a")
    with refused(WrongKind):
        await stage.share.watch(stage.at("a"))
    with refused(NotFound):
        await stage.share.watch(stage.at("missing"))


@check(needs=Features.NOTIFY)
async def after_a_loss_anything_may_have_changed_and_the_watch_goes_on(stage: Stage) -> None:
    async with watching(stage) as watch:
        await make(stage, "a")
        await heard(watch, lambda seen: ANYTHING in seen or "a" in about(seen))
        await make(stage, "b")
        await heard(watch, lambda seen: ANYTHING in seen or "b" in about(seen))
