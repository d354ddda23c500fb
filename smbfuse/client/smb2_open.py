"""Opening a file over SMB2: from an `OpenIntent` to one compound, and what to do without if the server refuses it."""

from __future__ import annotations

import errno as posix
import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from smbfuse import status
from smbfuse.client.smb2_changes import resize
from smbfuse.client.smb2_files import Smb2File
from smbfuse.client.smb2_tree import succeeded
from smbfuse.engine.smb2_exchange import Reply, Request
from smbfuse.errors import Denied, SmbError, StatusError, WrongKind
from smbfuse.share import Creation, Features, FileStat, OpenIntent
from smbfuse.status import NtStatus
from smbfuse.wire.fscc import FileAttributes
from smbfuse.wire.smb2.create import Access, CreateOptions, CreateResponse, Disposition
from smbfuse.wire.smb2.header import RELATED_FILE_ID, Command
from smbfuse.wire.smb2.io import encode_read

if TYPE_CHECKING:
    from smbfuse.client.smb2_tree import Smb2Tree

log = logging.getLogger(__name__)

_WRITE_BITS: Final = 0o222

# Truncation is a request of its own: OVERWRITE would drop extended attributes and DOS attributes along with the data.
_DISPOSITION: Final = {
    Creation.NEVER: Disposition.OPEN,
    Creation.IF_ABSENT: Disposition.OPEN_IF,
    Creation.EXCLUSIVE: Disposition.CREATE,
}


async def open_file(tree: Smb2Tree, path: str, intent: OpenIntent) -> Smb2File:
    """Open a file, or make it; see `Share.open`.

    Cost: 1 round trip: CREATE, SET_INFO and QUERY_INFO where it is to be emptied, READ where first bytes are wanted.
    One more for each right that the server refuses beyond what is needed (see `_accesses`), and where another name of
    the same file has the holder's key.
    """
    behind: list[Request] = []
    if intent.truncate:
        behind += (resize(0), tree.query())
    first_bytes = 0 if intent.truncate or not intent.read else min(intent.first_bytes, tree.largest_read())
    if first_bytes:
        behind.append(Request(Command.READ, encode_read(RELATED_FILE_ID, 0, first_bytes), payload=first_bytes))
    replies = await _perform(tree, path, intent, behind)
    created = CreateResponse.decode(replies[0].element)
    file = Smb2File(tree, created, path, writes=intent.write)
    try:
        if created.file_attributes & FileAttributes.DIRECTORY:  # some servers do not look at the options
            raise status.error(NtStatus.FILE_IS_A_DIRECTORY, Command.CREATE.name, path)
        if intent.truncate:
            succeeded(replies[1], Command.SET_INFO, path)
            file.stat = _emptied(tree, file.stat, replies[2], created, path)
        elif first_bytes:
            file.first = _first_bytes(file, replies[1], first_bytes)
    except SmbError:
        await file.aclose()
        raise
    return file


async def _perform(tree: Smb2Tree, path: str, intent: OpenIntent, behind: Sequence[Request]) -> list[Reply]:
    """Send the CREATE and what is behind it, with less and less in it, until the server takes it."""
    holder = intent.holder
    accesses = _accesses(intent)
    access = next(accesses)
    while True:
        asking = tree.grants.ask(tree, path, holder, intent.wanted)
        create = tree.create(
            path,
            access,
            CreateOptions.NON_DIRECTORY_FILE,
            disposition=_DISPOSITION[intent.creation],
            attributes=_attributes(tree, intent),
            mode=intent.mode,
            asking=asking,
        )
        try:
            return await tree.opening(path, (create, *behind), asking)
        except StatusError as error:
            if error.status == NtStatus.INVALID_PARAMETER and asking is not None:
                holder = None  # a key belongs to one path: another name of the file must do without
                continue
            less = next(accesses, None) if error.status == NtStatus.ACCESS_DENIED else None
            if less is None:
                raise _explained(error, intent, path) from None
            access = less


def _accesses(intent: OpenIntent) -> Iterator[Access]:
    """Yield what access to ask for, from the best to the barest.

    Not everybody who may write a file may also set its times; and Samba (4.17) lets nobody see the attributes of a file
    along with its writing who may not read it.
    """
    access = Access.FILE_READ_ATTRIBUTES | Access.SYNCHRONIZE
    if intent.read:
        access |= Access.FILE_READ_DATA
    if not (intent.write or intent.truncate):
        yield access
        return
    access |= Access.FILE_WRITE_DATA | Access.FILE_APPEND_DATA
    yield access | Access.FILE_WRITE_ATTRIBUTES
    yield access
    if not intent.read:
        yield access & ~Access.FILE_READ_ATTRIBUTES


def _emptied(tree: Smb2Tree, before: FileStat, told: Reply, created: CreateResponse, path: str) -> FileStat:
    """Return what a file is after it was emptied; without its new times where we may not ask."""
    try:
        return tree.stat_of(told, created, path)
    except Denied:
        return before._replace(size=0, allocation=0)


def _attributes(tree: Smb2Tree, intent: OpenIntent) -> int:
    """Return the DOS attributes of a file that the open makes: read-only stands for a mode that nobody may write by."""
    if intent.mode is None or intent.mode & _WRITE_BITS or Features.POSIX in tree.manner.features:
        return int(FileAttributes.NORMAL)
    return int(FileAttributes.READONLY)


def _first_bytes(file: Smb2File, reply: Reply, length: int) -> memoryview | None:
    try:
        return file.data_of(reply, length)
    except StatusError as error:
        # A locked range, say: reading may be refused, yet the file is open. Whoever reads it will be told.
        log.debug("open without first bytes file=%r reason=%s", file, error)
        return None


def _explained(error: StatusError, intent: OpenIntent, path: str) -> StatusError:
    """Return what POSIX calls the refusal: whatever is there is in the way of what must not be; a symlink is ELOOP."""
    if error.status not in (NtStatus.STOPPED_ON_SYMLINK, NtStatus.FILE_IS_A_DIRECTORY):
        return error
    if intent.creation is Creation.EXCLUSIVE:
        return status.error(NtStatus.OBJECT_NAME_COLLISION, Command.CREATE.name, path)
    if error.status == NtStatus.STOPPED_ON_SYMLINK:
        return WrongKind(f"{path!r} is a symlink", status=error.status, errno=posix.ELOOP)
    return error
