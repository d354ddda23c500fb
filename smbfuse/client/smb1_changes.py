"""Changing sizes, times, attributes, modes and owners on an SMB1 server, by path or by handle.

Each kind of attribute has its own request, in the best form that the server knows: NT servers have levels for both,
one of Windows NT 4 only by handle; those before it set times to 2 s, and attributes by a command of their own. A size
goes first and attributes last: writing moves times, and what is read-only takes no other change.
[MS-CIFS] 3.2.4.13, 2.2.8.4.
"""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING, Final

from smbfuse import status
from smbfuse.client.smb1_levels import BY_COMMAND, BY_HANDLE, SECOND_NS, Ladder
from smbfuse.client.smb1_open import opened, opened_to_write
from smbfuse.client.smb1_stat import StatQuery
from smbfuse.errors import StatusError, Unsupported
from smbfuse.share import SETTABLE, Change, FileStat
from smbfuse.status import NtStatus
from smbfuse.wire.dtyp import ns_to_filetime
from smbfuse.wire.fscc import FileAttributes, FileBasicInformation
from smbfuse.wire.fscc_changes import FileEndOfFileInformation
from smbfuse.wire.smb1.changes import SetLevel, SetStandard
from smbfuse.wire.smb1.files import NtAccess
from smbfuse.wire.smb1.levels import unix_to_dos_time, unix_to_local
from smbfuse.wire.smb1.names import SetInformationRequest
from smbfuse.wire.smb1.negotiate import Capabilities
from smbfuse.wire.smb1.posix import UNCHANGED, unix_changes
from smbfuse.wire.smb1.write import SetEndRequest, SetInformation2Request

if TYPE_CHECKING:
    from smbfuse.client.smb1_tree import Smb1Tree

log = logging.getLogger(__name__)

LARGEST_SHORT_SIZE: Final = 0xFFFFFFFF
# What servers mean by what they answer to SET_PATH_INFORMATION.
_MEANT: Final = {
    int(NtStatus.INVALID_HANDLE): int(NtStatus.OBJECT_NAME_NOT_FOUND),  # Samba 4.17, of a handle of its own making
    int(NtStatus.OBJECT_PATH_SYNTAX_BAD): int(NtStatus.NOT_SUPPORTED),  # impacket 0.13.1, of every path
}
_SETTABLE: Final = int(SETTABLE)


async def change_path(tree: Smb1Tree, path: str, change: Change) -> None:
    """Change attributes of what has this name; see `Share.change`.

    Cost: 1 round trip for each kind of attribute: size; times with modes and owners; DOS attributes. One more each time
    that the server turns out not to know a level, two more where it knows them by handle only.
    """
    _check(tree, change, path)
    if change.size is not None:
        await set_end_of_path(tree, path, change.size)
    if tree.posix and (data := _unix(change, times=True)) is not None:
        await _change_unix(tree, path, data)
        change = Change(created_ns=change.created_ns, attributes=change.attributes)
    if (basic := _basic(change)) is None:
        return
    if not tree.has(Capabilities.NT_SMBS):
        await _change_old_path(tree, path, change)
        return
    if not await _set_by_path(tree, tree.set_ladder, path, basic):
        async with opened(tree, path, NtAccess.WRITE_ATTRIBUTES) as fid:
            await tree.succeed(tree.set_file(SetLevel.SET_FILE_BASIC_INFO, fid, basic), path)


async def _set_by_path(tree: Smb1Tree, ladder: Ladder, path: str, data: bytes) -> bool:
    """Set `data` in the best level that the server knows by path; False if that is to be done by handle."""
    while ladder.level != BY_HANDLE:
        level = ladder.level
        reply = await tree.perform_one(tree.set_path(level, path, data), patient=True)
        if reply.status == NtStatus.SUCCESS:
            ladder.worked(level)
            return True
        refused = _MEANT.get(reply.status, reply.status)
        if not ladder.step_down(level, refused):
            raise status.error(refused, "SET_PATH_INFORMATION", path)
    return False


async def _change_unix(tree: Smb1Tree, path: str, data: bytes) -> None:
    try:
        await tree.succeed(tree.set_path(SetLevel.UNIX_BASIC, path, data), path)
    except StatusError as error:
        if error.status not in (NtStatus.INVALID_PARAMETER, NtStatus.ACCESS_DENIED):
            raise
        # Of a name that is not there the same request makes a node, for which these are no fit values.
        await StatQuery(tree, path).result()
        raise


async def change_file(tree: Smb1Tree, fid: int, path: str, change: Change) -> None:
    """Change attributes of an open file, whose path is only for messages; see `OpenFile.change`.

    Cost: 1 round trip for each kind of attribute.
    """
    _check(tree, change, path)
    if change.size is not None:
        await set_end(tree, fid, path, change.size)
    # Not the times: what Samba is told of them in the UNIX level, the next write moves.
    if tree.posix and (data := _unix(change, times=False)) is not None:
        await tree.succeed(tree.set_file(SetLevel.UNIX_BASIC, fid, data), path)
    if (basic := _basic(change)) is None:
        return
    if tree.has(Capabilities.NT_SMBS):
        await tree.succeed(tree.set_file(SetLevel.SET_FILE_BASIC_INFO, fid, basic), path)
        return
    if _has_times(change):
        words = _dos_times(tree, change)
        await tree.succeed(tree.submit(SetInformation2Request(fid, *words)), path)
    if change.attributes is not None:
        await _set_information(tree, path, change)


async def set_end(tree: Smb1Tree, fid: int, path: str, size: int) -> None:
    """Cut an open file, or make it longer.

    Cost: 1 round trip.  Raises: NoSpace, Denied, Unsupported (beyond 4 GiB on a server that cannot count so far).
    """
    if tree.has(Capabilities.NT_SMBS):
        data = FileEndOfFileInformation(size).encode()
        await tree.succeed(tree.set_file(SetLevel.SET_FILE_END_OF_FILE_INFO, fid, data), path)
        return
    if size > LARGEST_SHORT_SIZE:
        raise too_far("the server has no files above 4 GiB")
    await tree.succeed(tree.submit(SetEndRequest(fid, size)), path)


async def set_end_of_path(tree: Smb1Tree, path: str, size: int) -> None:
    """Cut a file, or make it longer, by its path.

    Cost: 1 round trip; 2 where the file must be opened for it.  Raises: as `set_end`, NotFound, Busy, WrongKind.
    """
    if not await _set_by_path(tree, tree.size_ladder, path, FileEndOfFileInformation(size).encode()):
        async with opened_to_write(tree, path) as fid:
            await set_end(tree, fid, path, size)


async def with_mode(tree: Smb1Tree, made: FileStat, mode: int, path: str, *, fid: int | None = None) -> FileStat:
    """Return what is made with `mode`, which the server's masks (`create mask`, `directory mask`) may have cut.

    Cost: none, or 2 round trips to set the mode itself. A server that insists on its masks is obeyed.
    """
    if made.mode == mode or made.mode is None:
        return made
    data = unix_changes(permissions=mode).encode()
    if fid is not None:
        exchange = tree.set_file(SetLevel.UNIX_BASIC, fid, data)
    else:
        exchange = tree.set_path(SetLevel.UNIX_BASIC, path, data)
    reply = await tree.perform_one(exchange)
    if reply.status != NtStatus.SUCCESS:
        log.debug("mode 0%o stays 0%o path=%r status=0x%08X", mode, made.mode, path, reply.status)
        return made
    return await StatQuery(tree, path, fid=fid).result()


def too_far(message: str) -> Unsupported:
    """Return the exception for a place in a file that the server cannot count to."""
    return Unsupported(message, status=NtStatus.NOT_SUPPORTED, errno=errno.EFBIG)


def _check(tree: Smb1Tree, change: Change, path: str) -> None:
    if not tree.posix and any(value is not None for value in (change.mode, change.uid, change.gid)):
        raise status.error(NtStatus.NOT_SUPPORTED, "chmod or chown", path)


# --- what is changed, as it travels -----------------------------------------------------------------------------------


def _unix(change: Change, *, times: bool) -> bytes | None:
    """Return the SMB_SET_FILE_UNIX_BASIC for modes and owners, with `times` but that of birth; None for none of it."""
    accessed_ns, written_ns = (change.accessed_ns, change.written_ns) if times else (None, None)
    if all(value is None for value in (change.mode, change.uid, change.gid, accessed_ns, written_ns)):
        return None
    return unix_changes(
        accessed=UNCHANGED if accessed_ns is None else ns_to_filetime(accessed_ns),
        written=UNCHANGED if written_ns is None else ns_to_filetime(written_ns),
        uid=UNCHANGED if change.uid is None else change.uid,
        gid=UNCHANGED if change.gid is None else change.gid,
        permissions=UNCHANGED if change.mode is None else change.mode,
    ).encode()


def _has_times(change: Change) -> bool:
    return any(value is not None for value in (change.created_ns, change.accessed_ns, change.written_ns))


def _basic(change: Change) -> bytes | None:
    """Return the SMB_SET_FILE_BASIC_INFO for times and attributes; None for neither. What is 0 there stays."""
    if not _has_times(change) and change.attributes is None:
        return None
    attributes = 0
    if change.attributes is not None:
        attributes = change.attributes & _SETTABLE or int(FileAttributes.NORMAL)
    return FileBasicInformation(
        creation_time=ns_to_filetime(change.created_ns),
        last_access_time=ns_to_filetime(change.accessed_ns),
        last_write_time=ns_to_filetime(change.written_ns),
        change_time=0,
        file_attributes=attributes,
    ).encode()


# --- servers older than NT --------------------------------------------------------------------------------------------


async def _change_old_path(tree: Smb1Tree, path: str, change: Change) -> None:
    """Set times to 2 s by the level that LANMAN had, or one of them by the oldest command, and attributes by that."""
    ladder = tree.set_ladder
    while _has_times(change) and ladder.level != BY_COMMAND:
        level = ladder.level
        reply = await tree.perform_one(tree.set_path(level, path, SetStandard(*_dos_times(tree, change)).encode()))
        if reply.status == NtStatus.SUCCESS:
            ladder.worked(level)
            change = Change(attributes=change.attributes)
        elif not ladder.step_down(level, reply.status):
            raise status.error(reply.status, "SET_PATH_INFORMATION", path)
    if change.written_ns is not None or change.attributes is not None:
        await _set_information(tree, path, change)


async def _set_information(tree: Smb1Tree, path: str, change: Change) -> None:
    written = 0
    if change.written_ns is not None:
        written = unix_to_local(change.written_ns // SECOND_NS, tree.zone_minutes)
    attributes = (change.attributes or 0) & _SETTABLE
    if change.attributes is None:
        # The command has no way to leave them alone.
        attributes = (await StatQuery(tree, path).result()).attributes & _SETTABLE
    await tree.succeed(tree.submit(SetInformationRequest(attributes, written, tree.wire_path(path))), path)


def _dos_times(tree: Smb1Tree, change: Change) -> tuple[int, ...]:
    """Return dates and times of creation, access and writing in the server's local time; 0 leaves one alone."""
    words: list[int] = []
    for time_ns in (change.created_ns, change.accessed_ns, change.written_ns):
        words += (0, 0) if time_ns is None else unix_to_dos_time(time_ns // SECOND_NS, tree.zone_minutes)
    return tuple(words)
