"""The contract of grants: what the server allows to keep, and how it takes that back."""

import trio

from smbfuse.share import Caching, Change, Features, Kind, OpenIntent
from tests.interop.contract import EVERYTHING, READING, WRITING, Holder, Stage, check

PATIENCE_S = 10.0  # far below the server's 35


def asking(holder: Holder, wanted: Caching = EVERYTHING) -> OpenIntent:
    return OpenIntent(write=True, holder=holder, wanted=wanted)


@check(lossy=False)
async def who_is_alone_may_keep_what_is_written(stage: Stage) -> None:
    holder = Holder()
    file = await stage.share.open(await stage.make("file"), asking(holder))
    assert Caching.READ | Caching.WRITE in file.caching
    await file.write(0, [b"bytes"])
    assert Caching.WRITE in file.caching
    await file.acknowledge(Caching.NONE)  # of no break
    await file.aclose()
    assert file.caching is Caching.NONE
    assert (holder.breaks, holder.losses) == ([], 0)


@check(lossy=False)
async def nothing_is_granted_unasked(stage: Stage) -> None:
    path = await stage.make("file")
    for intent in (WRITING, OpenIntent(write=True, wanted=EVERYTHING), asking(Holder(), Caching.NONE)):
        file = await stage.share.open(path, intent)
        assert file.caching is Caching.NONE
        await file.aclose()


@check(lossy=False)
async def another_client_waits_until_what_was_kept_is_written(stage: Stage) -> None:
    holder = Holder()
    path = await stage.make("file")
    file = await stage.share.open(path, asking(holder))
    seen = b""

    async def read() -> None:
        nonlocal seen
        other = await stage.other.open(path, READING)
        seen = bytes(await other.read(0, 100))
        await other.aclose()

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await holder.heard.wait()
            remaining, acknowledge = holder.breaks[0]
            assert acknowledge
            assert Caching.WRITE not in remaining
            assert file.caching == remaining
            await file.write(0, [b"kept until now"])
            await file.acknowledge(remaining)
    assert seen == b"kept until now"
    assert Caching.WRITE not in file.caching
    await file.aclose()


@check(lossy=False)
async def who_reads_is_told_when_another_writes(stage: Stage) -> None:
    holder = Holder()
    path = await stage.make("file", b"old")
    file = await stage.share.open(path, OpenIntent(holder=holder, wanted=Caching.READ | Caching.HANDLE))
    if Caching.READ not in file.caching:
        await file.aclose()
        return  # an oplock of reading is not to be had alone everywhere
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:

            async def write() -> None:
                other = await stage.other.open(path, WRITING)
                await other.write(0, [b"new"])
                await other.aclose()

            nursery.start_soon(write)
            while Caching.READ in file.caching:
                await holder.heard.wait()
                holder.heard = trio.Event()
                if holder.breaks[-1][1]:
                    await file.acknowledge(holder.breaks[-1][0])
    assert bytes(await file.read(0, 10)) == b"new"
    await file.aclose()


@check(needs=Features.LEASES, lossy=False)
async def opens_with_one_key_do_not_break_each_other(stage: Stage) -> None:
    holder = Holder()
    path = await stage.make("file")
    first, second = await stage.share.open(path, asking(holder)), await stage.share.open(path, asking(holder))
    assert Caching.WRITE in first.caching
    assert first.caching == second.caching
    await second.write(0, [b"bytes"])
    await first.aclose()
    assert Caching.WRITE in second.caching
    await stage.share.change(path, Change(size=3), holder)
    await second.stand_aside()
    await stage.share.rename(path, stage.at("renamed"), replace=False, holder=holder)
    assert holder.breaks == []
    assert bytes(await second.read(0, 10)) == b"byt"
    await second.aclose()
    again = await stage.share.open(stage.at("renamed"), asking(Holder()))
    await again.aclose()
    await stage.share.remove(stage.at("renamed"), Kind.FILE, holder)


@check(lossy=False)
async def a_close_ends_the_grant(stage: Stage) -> None:
    holder = Holder()
    path = await stage.make("file")
    file = await stage.share.open(path, asking(holder))
    await file.aclose()
    with trio.fail_after(PATIENCE_S):
        await stage.share.echo()
        other = await stage.other.open(path, WRITING)
        await other.write(0, [b"x"])
        await other.aclose()
    assert holder.breaks == []


@check(lossy=False)
async def a_close_answers_a_break(stage: Stage) -> None:
    holder = Holder()
    path = await stage.make("file")
    file = await stage.share.open(path, asking(holder))
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:

            async def write() -> None:
                other = await stage.other.open(path, WRITING)
                await other.aclose()

            nursery.start_soon(write)
            await holder.heard.wait()
            await file.aclose()


@check(needs=Features.DIRECTORY_LEASES, lossy=False)
async def a_folders_names_may_be_kept_until_another_changes_them(stage: Stage) -> None:
    holder = Holder()
    listing = await stage.share.open_directory(stage.folder, holder)
    assert Caching.READ in listing.caching
    await stage.make("ours")  # does not break our own
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.other.make_directory, stage.at("theirs"))
            await holder.heard.wait()
            if holder.breaks[-1][1]:
                await listing.acknowledge(holder.breaks[-1][0])
    assert Caching.READ not in listing.caching
    await listing.aclose()
