"""What a mount does when the machine is about to sleep, and when it is awake again."""

from __future__ import annotations

import functools
import logging
from typing import Final

import trio

from smbfuse.fuse.gate import Gate
from smbfuse.share import ShareSource
from smbfuse.vfs.filesystem import Filesystem

log = logging.getLogger(__name__)

DRAIN_S: Final = 1.5  # for requests under way and for what is not on the server yet; everybody is answered within 2 s


class Sleeping:
    """Puts a mount to sleep and wakes it. Implements `logind.Sleeper`."""

    def __init__(self, gate: Gate, filesystem: Filesystem, source: ShareSource) -> None:
        self._gate = gate
        self._filesystem = filesystem
        self._source = source

    def expect_sleep(self) -> None:
        """Have every request admitted so that it can be cut short."""
        self._gate.may_sleep = True

    async def fall_asleep(self) -> None:
        """Answer everybody, write out what there is time for, and let nobody wait until `wake_up`.

        What is not written by then stays in memory, and is when the machine is awake.
        """
        log.info("this machine is about to sleep")
        deadline = trio.current_time() + DRAIN_S
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._gate.sleep, deadline)
            nursery.start_soon(functools.partial(self._filesystem.drain, deadline, ending=False))
        self._source.sleep()

    def wake_up(self) -> None:
        """Serve everybody again; the connection is asked for a sign of life, because it may not have survived."""
        log.info("this machine is awake")
        self._source.wake()
        self._gate.wake()
