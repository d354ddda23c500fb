"""SIGINT and SIGTERM end a mount cleanly; once more, and it ends at once."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable

import trio

log = logging.getLogger(__name__)


async def watch(
    *,
    end: Callable[[], None],
    abort: Callable[[], None],
    hangup_ends: bool,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Call `end` at the first signal and `abort` at the second; runs until cancelled.

    SIGHUP is the loss of a terminal to a process in the foreground, and nothing to a daemon.
    """
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as received:
        task_status.started()
        ending = False
        async for number in received:
            name = signal.Signals(number).name
            if number == signal.SIGHUP and not hangup_ends:
                log.info("%s ignored", name)
            elif ending:
                log.info("%s again: ending at once", name)
                abort()
            else:
                log.info("%s: unmounting", name)
                ending = True
                end()
