"""How a mount ends that is told to: nothing new is begun, what was written is saved, who is inside is waited for.

1. Nothing more is opened (ESHUTDOWN). What is open goes on, and what was written is saved. The mount stays where it is
   meanwhile: in its place there would be an empty folder, and programs that believe what they see.
2. It is unmounted. If it is in use it is unmounted lazily: no path leads inside any more, and who has files or folders
   open goes on until the last one is closed. A program that is merely inside is not waited for.
3. When the time is over, or when the server is out of reach and has everything, it ends for those who are left, too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import trio

from smbfuse.daemon.saving import Saving
from smbfuse.fuse.mount import FuseMount
from smbfuse.share import ShareSource
from smbfuse.vfs.filesystem import Filesystem

log = logging.getLogger(__name__)

LOOK_S: Final = 0.2  # between two looks at what is open still


async def leave(
    mount: FuseMount, filesystem: Filesystem, source: ShareSource, saving: Saving, say: Callable[[str], None]
) -> None:
    """End a mount while the kernel is answered; within the time of `saving`, and the moment that callers are given.

    `say` is told what it waits for.
    """
    deadline = saving.begin()
    mount.gate.close()
    if (unsaved := filesystem.statistics().unsaved) > 0:
        say(f"saving {unsaved} bytes")
    await saving.save(filesystem)
    with trio.move_on_at(deadline):
        await mount.detach(lazily=False)
        if mount.attached():
            await mount.detach()
        await _wait_for_the_last(filesystem, source, saving, say)
    await saving.save(filesystem)
    await mount.finish()


async def _wait_for_the_last(
    filesystem: Filesystem, source: ShareSource, saving: Saving, say: Callable[[str], None]
) -> None:
    said = 0
    while True:
        now = filesystem.statistics()
        count = now.open_files + now.open_directories
        if not count or (not now.unsaved and not source.reachable):
            return
        if not said:
            left_s = max(0.0, saving.begin() - trio.current_time())
            log.warning(
                "unmounted while in use (files and folders open inside: %d); served for %.0f s more, "
                "and no longer after a second signal",
                count,
                left_s,
            )
        if count != said:
            said = count
            say(f"unmounted while in use, still open inside: {count}")
        if now.unsaved and source.reachable:
            await saving.save(filesystem)
        await trio.sleep(LOOK_S)
