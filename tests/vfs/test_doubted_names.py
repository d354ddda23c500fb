"""A name that a listing itself found to be another file's is still shown, whoever reads the listing afterwards."""

from trio.testing import MockClock

from tests.support.mem_share import MemShare
from tests.vfs.mounted import Mount


async def test_a_name_that_became_another_file_is_shown_to_every_reader(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share = MemShare()
    share.add("d/kept")
    share.add("d/replaced")
    mounted = await mount(share)
    folder, before = await mounted.ino("d"), await mounted.ino("d/replaced")
    share.disk.remove("d/replaced")
    share.add("d/replaced", b"another file")
    # Nobody takes what the first reader is offered, so nobody holds the new file's node.
    for _ in range(2):
        fh = await mounted.fs.opendir(folder)
        assert len(await mounted.fs.readdir(fh, 0)) == 4
        await mounted.fs.releasedir(fh)
    assert share.calls["open_directory"] == 2  # the root's, and one for both readers
    assert b"replaced" in await mounted.names("d")
    assert await mounted.ino("d/replaced") != before


async def test_a_name_that_was_removed_here_is_shown_no_longer(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare()
    share.add("d/kept")
    share.add("d/gone")
    mounted = await mount(share)
    folder = await mounted.ino("d")
    reader = await mounted.fs.opendir(folder)
    await mounted.ino("d/gone")
    await mounted.fs.unlink(folder, b"gone")
    assert [entry.name for entry in await mounted.fs.readdir(reader, 0)] == [b".", b"..", b"kept"]
