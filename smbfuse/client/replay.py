"""What may not happen twice: finding out whether a request that left was executed, when its answer never came.

Making, linking, removing and renaming are not repeated as they are: a second attempt would meet what the first one did,
and tell the program that its new folder exists already. The server is looked at instead. Each function here looks once
and returns what was made (or True) if the request was executed, and None if it was not and may be sent again; it raises
what the program is to be told otherwise.

What a look cannot tell is decided so:

* Made (folder, exclusive file, link, node): ours is what was made, by the server's own clock, between the sending and
  the loss, and is as ours would be: an empty folder, an empty file, a link to the same target, a node of the same
  device. Another client would have to make the same within the same moment to be mistaken for us. Anything else, or a
  server that tells no time, means Exists: a name that is taken for a lock must not be given to two.
* Made in several steps (a link or node that is kept as a reparse point): an empty file that would be ours is half of
  it (an empty folder, for some symlinks), and is removed to begin again.
* Removed: what is not there any more is removed. What is there and was made since is another's, and stays; else the
  removal is sent again.
* Renamed: the source gone and the target there is a rename that was executed, unless the source is open here and the
  target has another file id. The source there means that it was not: sent again. Neither there: NotFound.
* Linked: the new name leads to the same file id, whoever gave it that name.
"""

from typing import Final, NamedTuple

from smbfuse import status
from smbfuse.errors import NotFound
from smbfuse.share import FileStat, Kind, Share
from smbfuse.status import NtStatus

# How far a file's time may lag behind the clock: a tick of Windows' clock, or of Linux' on a busy machine (18 ms were
# measured). More would be safer for who makes a folder, and less for who takes it for a lock: what another client has
# made so shortly before is taken for ours.
FINE_NS: Final = 20_000_000
COARSE_NS: Final = 2_000_000_000  # the same where times are kept in whole seconds, or in pairs of them
LATE_NS: Final = 1_000_000_000  # how long after the loss a server may still execute what it has received


class Doubt(NamedTuple):
    """When, by the server's clock, a request was sent and its loss was noticed; None: the server told no time."""

    sent_ns: int | None
    lost_ns: int | None

    def covers(self, time_ns: int | None) -> bool:
        """Tell whether `time_ns` lies between the sending and the loss."""
        if time_ns is None or self.sent_ns is None or self.lost_ns is None:
            return False
        lag = FINE_NS if time_ns % 1_000_000_000 else COARSE_NS
        return self.sent_ns - lag <= time_ns <= self.lost_ns + LATE_NS

    def precedes(self, time_ns: int | None) -> bool:
        """Tell whether `time_ns` is later than any execution of what was sent is likely to be."""
        return time_ns is not None and self.sent_ns is not None and time_ns > self.sent_ns + COARSE_NS


async def folder_made(share: Share, path: str, doubt: Doubt) -> FileStat | None:
    """Look for a folder that was to be made.  Cost: 1 round trip, 2 if something is there.  Raises: Exists."""
    stat = await _there(share, path)
    if stat is None:
        return None
    if stat.kind is Kind.DIRECTORY and doubt.covers(stat.created_ns) and await _is_empty(share, path):
        return stat
    raise status.error(NtStatus.OBJECT_NAME_COLLISION, "make_directory", path)


async def file_made(share: Share, path: str, doubt: Doubt) -> FileStat | None:
    """Look for a file that was to be made exclusively.  Cost: 1 round trip.  Raises: Exists."""
    stat = await _there(share, path)
    if stat is None or is_new_file(stat, doubt):
        return stat
    raise status.error(NtStatus.OBJECT_NAME_COLLISION, "open", path)


def is_new_file(stat: FileStat, doubt: Doubt) -> bool:
    """Tell whether `stat` speaks of the empty file that was to be made."""
    return stat.kind is Kind.FILE and stat.size == 0 and doubt.covers(stat.created_ns)


async def link_made(share: Share, path: str, target: str, doubt: Doubt) -> FileStat | None:
    """Look for a symlink that was to be made.  Cost: 1 round trip, 2 to 4 if it is there.  Raises: Exists."""
    stat = await _there(share, path)
    if stat is None:
        return None
    if stat.kind is Kind.SYMLINK and doubt.covers(stat.created_ns) and await share.read_link(path) == target:
        return stat
    if await _half_removed(share, path, stat, doubt):
        return None
    raise status.error(NtStatus.OBJECT_NAME_COLLISION, "make_link", path)


async def node_made(
    share: Share, path: str, kind: Kind, device: tuple[int, int] | None, doubt: Doubt
) -> FileStat | None:
    """Look for a special file that was to be made.  Cost: 1 round trip, 2 if half of it is there.  Raises: Exists."""
    stat = await _there(share, path)
    if stat is None or (stat.kind is kind and stat.device == device and doubt.covers(stat.created_ns)):
        return stat
    if await _half_removed(share, path, stat, doubt):
        return None
    raise status.error(NtStatus.OBJECT_NAME_COLLISION, "make_node", path)


async def linked(share: Share, existing: str, path: str) -> bool | None:
    """Look for a further name that a file was to get.  Cost: 1 round trip, 2 if something is there.  Raises: Exists."""
    there = await _there(share, path)
    if there is None:
        return None
    file = await _there(share, existing)
    if file is not None and file.file_id and (file.volume_id, file.file_id) == (there.volume_id, there.file_id):
        return True
    raise status.error(NtStatus.OBJECT_NAME_COLLISION, "link", path)


async def removed(share: Share, path: str, doubt: Doubt) -> bool | None:
    """Look for a name that was to be removed.  Cost: 1 round trip."""
    stat = await _there(share, path)
    return True if stat is None or doubt.precedes(stat.created_ns) else None


async def renamed(share: Share, source: str, target: str, open_as: FileStat | None) -> bool | None:
    """Look for a file that was to be renamed; `open_as` is what it is known as if it is open here.

    Where only the case of the name changes, on a server that ignores it, the source is always there: the rename is
    sent again, which changes nothing if it was executed.

    Cost: 1 round trip, 2 if the source is gone.  Raises: NotFound.
    """
    if await _there(share, source) is not None:
        return None
    there = await _there(share, target)
    ids = {(stat.volume_id, stat.file_id) for stat in (there, open_as) if stat is not None and stat.file_id}
    if there is None or len(ids) > 1:
        raise status.error(NtStatus.OBJECT_NAME_NOT_FOUND, "rename", source)
    return True


async def _there(share: Share, path: str) -> FileStat | None:
    try:
        return await share.stat(path)
    except NotFound:
        return None


async def _half_removed(share: Share, path: str, stat: FileStat, doubt: Doubt) -> bool:
    """Remove the file (or folder: Windows has symlinks of both kinds) that a reparse point was to be made of."""
    folder = stat.kind is Kind.DIRECTORY and doubt.covers(stat.created_ns) and await _is_empty(share, path)
    if folder or is_new_file(stat, doubt):
        await share.remove(path, stat.kind)
        return True
    return False


async def _is_empty(share: Share, path: str) -> bool:
    directory = await share.open_directory(path)
    try:
        return not await directory.page()
    finally:
        await directory.aclose()
