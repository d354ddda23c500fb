"""Watching a share without a mount: connected, told of what happens, connected again, until a signal comes."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Final

import trio

from smbfuse.client.negotiate import open_source
from smbfuse.config import Config
from smbfuse.daemon import signals
from smbfuse.errors import ConnectionLost, SmbError, Timeout
from smbfuse.share import Notice, Share

log = logging.getLogger(__name__)

PAUSE_S: Final = 5.0  # between two attempts where there is no connection
_FAREWELL_S: Final = 6.0  # for tree and login


async def watch_share(
    config: Config, told: Callable[[Sequence[Notice]], None], offline: Callable[[SmbError], None], *, recursive: bool
) -> None:
    """Call `told` with what happens in the share, or in the folder of it, until a signal ends this.

    `told` is called with nothing once it is watched, and `offline` once for each time without a connection.
    Raises: SmbError (why it is not watched, or not any longer), OSError of the two calls.
    """
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        end = nursery.cancel_scope.cancel
        await nursery.start(functools.partial(signals.watch, end=end, abort=end, hangup_ends=True))
        try:
            source = await open_source(config, nursery)
            try:
                await _watch(await source.share(""), told, offline, recursive=recursive)
            finally:
                with trio.CancelScope(deadline=trio.current_time() + _FAREWELL_S, shield=True):
                    await source.aclose()
        except (SmbError, OSError) as error:
            failure = error  # raised outside the nursery, which would wrap it
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _watch(
    share: Share, told: Callable[[Sequence[Notice]], None], offline: Callable[[SmbError], None], *, recursive: bool
) -> None:
    watch = await share.watch("", recursive=recursive)
    connected = True
    try:
        told(())
        while True:
            try:
                notices = await watch.notices()
            except (ConnectionLost, Timeout) as error:
                if connected:
                    offline(error)
                connected = False
                await trio.sleep(PAUSE_S)
                continue
            connected = True
            told(notices)
    finally:
        await watch.aclose()
