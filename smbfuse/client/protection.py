"""Files that were made here to be written, and so that nobody may write them: how their maker opens them again.

Only the handle that makes a read-only file can write it. Where that is lost, the protection is lifted for as long as
the file is being opened.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import trio

from smbfuse.errors import ConnectionLost, Denied, SessionGone, SmbError
from smbfuse.share import SETTABLE, Attributes, Change, FileStat, OpenFile, OpenIntent, Share

log = logging.getLogger(__name__)

UNDO_S: Final = 5.0

_WRITABLE: Final = 0o200  # by its owner


class Protection:
    """The protection of one file. It is put back whatever happens, after a loss with the next open."""

    def __init__(self) -> None:
        self._kept: Change | None = None  # what it was, while it is lifted or may be

    async def open(
        self, share: Share, path: str, intent: OpenIntent, *, is_ours: Callable[[FileStat], bool]
    ) -> OpenFile:
        """Open the file, if it still is the one that `is_ours` tells; what another has protected stays so.

        Cost: 1 round trip, 5 for a file that is protected.  Raises: as `Share.open`.
        """
        try:
            file = await self._open(share, path, intent, is_ours)
            if self._kept is not None and is_ours(file.stat):
                await self._put_back_by(file, self._kept)
        except BaseException:
            await self._put_back(share, path, is_ours)
            raise
        return file

    async def _open(self, share: Share, path: str, intent: OpenIntent, is_ours: Callable[[FileStat], bool]) -> OpenFile:
        try:
            return await share.open(path, intent)
        except Denied:
            stat = await share.stat(path)
            if not _is_protected(stat) or not is_ours(stat):
                raise
        lifted, self._kept = _lifting(stat)
        await share.change(path, lifted)
        return await share.open(path, intent)

    async def _put_back_by(self, file: OpenFile, kept: Change) -> None:
        try:
            await file.change(kept)
        except BaseException:
            await file.aclose()
            raise
        self._kept = None

    async def _put_back(self, share: Share, path: str, is_ours: Callable[[FileStat], bool]) -> None:
        kept = self._kept
        if kept is None:
            return
        with trio.CancelScope(deadline=trio.current_time() + UNDO_S, shield=True):
            try:
                if is_ours(await share.stat(path)):
                    await share.change(path, kept)
                self._kept = None
            except (ConnectionLost, SessionGone) as error:
                log.debug("the protection of %r is put back later: %s", path, error)
            except SmbError as error:
                log.warning("the file %r may not be read-only any more: %s", path, error)


def _is_protected(stat: FileStat) -> bool:
    return not stat.mode & _WRITABLE if stat.mode is not None else bool(stat.attributes & Attributes.READONLY)


def _lifting(stat: FileStat) -> tuple[Change, Change]:
    """Return the changes that lift a protection and that put it back."""
    if stat.mode is not None:
        return Change(mode=stat.mode | _WRITABLE), Change(mode=stat.mode)
    attributes = stat.attributes & SETTABLE
    return Change(attributes=attributes & ~Attributes.READONLY or Attributes.NORMAL), Change(attributes=attributes)
