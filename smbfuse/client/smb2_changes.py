"""What changes names and attributes over SMB2: each is one compound that closes what it opens.

Servers' answers, as tried on Samba 4.17 and 4.22 ([MS-FSA] 2.1.5.15.11 where Windows differs):

* A name that is removed while somebody has it open stays taken until the last handle is closed; opening, removing and
  renaming it are refused with DELETE_PENDING. The handle goes on reading and writing.
* Renaming a file that is open succeeds, and its handle goes on, under the new name. So does renaming a folder with open
  files below on 4.17 (4.22 and Windows, if somebody else has them open: ACCESS_DENIED).
* Renaming onto a file that is open is refused with ACCESS_DENIED (4.17: only if this session has it open); a second
  name of the file itself counts as open.
* Renaming onto a read-only file succeeds (Windows: ACCESS_DENIED).
* Renaming a folder onto an empty one succeeds, onto a full one is refused with DIRECTORY_NOT_EMPTY (Windows: both
  ACCESS_DENIED); a file onto a folder and a folder onto a file: OBJECT_NAME_COLLISION.
* A renaming that changes case only succeeds, with and without `replace`.
* With the POSIX extensions (4.22) a removed name is free at once, but a file that this session has open is still not
  replaced.
* A time that was set by a handle is not moved by later writes through it, nor by its close; with the POSIX extensions
  later writes move it, as POSIX has it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import trio

from smbfuse import status
from smbfuse.client import smb2_requests
from smbfuse.client.smb2_links import restore
from smbfuse.client.smb2_stat import look, query_point, with_kind
from smbfuse.client.smb2_tree import succeeded
from smbfuse.engine.smb2_exchange import Reply, Request
from smbfuse.errors import Denied, SmbError, StatusError
from smbfuse.share import Caching, Change, Features, FileStat, GrantHolder, Kind
from smbfuse.status import NtStatus
from smbfuse.wire.dtyp import ns_to_filetime
from smbfuse.wire.fscc import FileAttributes, FileBasicInformation, FileInformation
from smbfuse.wire.fscc_changes import (
    KEEP_TIME,
    FileDispositionInformation,
    FileEndOfFileInformation,
    FileRenameInformation,
)
from smbfuse.wire.smb2.control import IoctlResponse
from smbfuse.wire.smb2.create import Access, CreateOptions, CreateResponse, Disposition
from smbfuse.wire.smb2.header import RELATED_FILE_ID, Command

if TYPE_CHECKING:
    from smbfuse.client.smb2_tree import Smb2Tree

log = logging.getLogger(__name__)

_SETTABLE: Final = (
    FileAttributes.READONLY
    | FileAttributes.HIDDEN
    | FileAttributes.SYSTEM
    | FileAttributes.ARCHIVE
    | FileAttributes.TEMPORARY
    | FileAttributes.OFFLINE
    | FileAttributes.NOT_CONTENT_INDEXED
)
_OWNERS_BITS: Final = 0o700
UNDO_S: Final = 5.0

_RENAME: Final = Access.DELETE | Access.FILE_READ_ATTRIBUTES | Access.SYNCHRONIZE
_GOES: Final = smb2_requests.set_info(FileInformation.DISPOSITION, FileDispositionInformation(1).encode())


async def make_directory(tree: Smb2Tree, path: str, mode: int | None) -> FileStat:
    """Make a folder; see `Share.make_directory`.  Cost: 1 round trip: CREATE, QUERY_INFO, CLOSE."""
    create = tree.create(
        path, smb2_requests.LOOK, CreateOptions.DIRECTORY_FILE, disposition=Disposition.CREATE, mode=mode
    )
    replies = await tree.compound(path, create, tree.query(), smb2_requests.close())
    return tree.stat_of(replies[1], CreateResponse.decode(replies[0].element), path)


async def remove(tree: Smb2Tree, path: str, kind: Kind, holder: GrantHolder | None) -> None:
    """Remove a name; see `Share.remove`.

    Cost: 1 round trip: CREATE, SET_INFO, CLOSE; 2 for a read-only file. POSIX lets it be removed, so its attribute is
    taken away first, and given back to the other names that it may have.
    """
    options = CreateOptions.OPEN_REPARSE_POINT
    if kind is Kind.DIRECTORY:
        options |= CreateOptions.DIRECTORY_FILE
    elif kind is not Kind.SYMLINK:  # Windows has symlinks that are folders
        options |= CreateOptions.NON_DIRECTORY_FILE
    if holder is not None and await _keep_deleting(tree, path, options, holder):
        return
    created, (reply,) = await _perform(tree, path, Access.DELETE, options, (_GOES,), holder)
    if reply.status == NtStatus.CANNOT_DELETE and created.file_attributes & FileAttributes.READONLY:
        attributes = created.file_attributes
        requests = (_attributes(attributes & ~FileAttributes.READONLY), _GOES, _attributes(attributes))
        try:
            _, replies = await _perform(
                tree, path, Access.DELETE | Access.FILE_WRITE_ATTRIBUTES, options, requests, holder
            )
        except StatusError:
            raise status.error(reply.status, Command.SET_INFO.name, path) from None
        reply = replies[1]
    succeeded(reply, Command.SET_INFO, path)


async def _keep_deleting(tree: Smb2Tree, path: str, options: CreateOptions, holder: GrantHolder) -> bool:
    """Remove a file that is open to write, by a handle that is kept (see `smb2_nameless`); False: it is none such.

    Cost: none if nothing is open to write; else 1 round trip, 2 for a file that turns out not to be.
    """
    if Features.POSIX not in tree.manner.features or not tree.nameless.writing:
        return False
    asking = tree.grants.ask(tree, path, holder, Caching.NONE)
    create = tree.create(path, Access.DELETE, options | CreateOptions.DELETE_ON_CLOSE, asking=asking)
    try:
        created, _ = await tree.opening(path, (create,), asking)
    except StatusError as error:
        if error.status not in (NtStatus.INVALID_PARAMETER, NtStatus.CANNOT_DELETE):
            raise
        return False  # the key of another name, or a protected file: these take more than one request
    if not tree.nameless.keep(tree.opened(created).file_id, created.file_id):
        tree.grants.closed(created.file_id)
        await tree.ask(smb2_requests.close(created.file_id), path)
    return True


async def rename(tree: Smb2Tree, source: str, target: str, *, replace: bool, holder: GrantHolder | None) -> None:
    """Give a file or folder another name; see `Share.rename`.

    Cost: 1 round trip: CREATE, SET_INFO, CLOSE. For a reparse point 1 or 2 more, to see that it stays one; where there
    are any, an IOCTL goes along to learn that.
    """
    name = FileRenameInformation(replace, tree.manner.name(target))
    requests = [smb2_requests.set_info(FileInformation.RENAME, name.encode())]
    if tree.reparse_points:
        requests.insert(0, query_point())
    created, (*points, reply) = await _perform(
        tree, source, _RENAME, CreateOptions.OPEN_REPARSE_POINT, requests, holder
    )
    succeeded(reply, Command.SET_INFO, target)
    for point in points:
        if point.status == NtStatus.SUCCESS:
            await restore(tree, target, created, IoctlResponse.decode(point.element).output)


async def link(tree: Smb2Tree, existing: str, path: str) -> None:
    """Give a file a further name; see `Share.link`.  Cost: 1 round trip: CREATE, SET_INFO, CLOSE."""
    name = FileRenameInformation(replace_if_exists=False, file_name=tree.manner.name(path))
    request = smb2_requests.set_info(FileInformation.LINK, name.encode())
    access = Access.FILE_WRITE_ATTRIBUTES | Access.SYNCHRONIZE
    _, (reply,) = await _perform(tree, existing, access, CreateOptions.OPEN_REPARSE_POINT, (request,), None)
    succeeded(reply, Command.SET_INFO, path)


async def change(tree: Smb2Tree, path: str, wanted: Change, holder: GrantHolder | None) -> FileStat:
    """Change attributes by path; see `Share.change`.

    Cost: 1 round trip: CREATE, SET_INFOs, QUERY_INFO, CLOSE. 3 more for the owner's own file that has not all of the
    owner's mode bits, with the POSIX extensions: Samba lets nobody set its times, or give it to another group.
    """
    try:
        return await _change(tree, path, wanted, holder)
    except Denied as denied:
        if Features.POSIX not in tree.manner.features or wanted.size is not None or wanted == Change(mode=wanted.mode):
            raise  # a file that forbids writing is not cut short, and what is asked of modes is nothing but ownership
        mode = (await look(tree, path)).mode or 0
        if mode & _OWNERS_BITS == _OWNERS_BITS:
            raise
        try:
            await _change(tree, path, Change(mode=mode | _OWNERS_BITS), holder)  # only its owner may
        except Denied:
            raise denied from None
    try:
        return await _change(tree, path, replace(wanted, mode=mode if wanted.mode is None else wanted.mode), holder)
    except BaseException:
        with trio.move_on_after(UNDO_S) as patience:
            patience.shield = True
            try:
                await _change(tree, path, Change(mode=mode), holder)
            except SmbError as error:
                log.warning(
                    "the file %r may have the mode %o instead of %o now: %s", path, mode | _OWNERS_BITS, mode, error
                )
        raise


async def _change(tree: Smb2Tree, path: str, wanted: Change, holder: GrantHolder | None) -> FileStat:
    access, requests = changing(tree, path, wanted)
    access |= Access.FILE_READ_ATTRIBUTES  # and no more: the owner may change the mode of a file with a mode of 0
    created, (*done, told) = await _perform(
        tree, path, access, CreateOptions.OPEN_REPARSE_POINT, (*requests, tree.query()), holder
    )
    for reply in done:
        succeeded(reply, Command.SET_INFO, path)
    return await with_kind(tree, path, tree.stat_of(told, created, path))


def changing(
    tree: Smb2Tree, path: str, wanted: Change, *, file_id: bytes = RELATED_FILE_ID
) -> tuple[Access, list[Request]]:
    """Return the access that a change needs and its requests, in their order.

    The size comes first, because it moves the times, and these last but for the owners.
    Raises: Unsupported (mode and owners where the server keeps none).
    """
    access, owners = tree.manner.ownership(wanted, path, file_id=file_id)
    requests: list[Request] = []
    if wanted.size is not None:
        access |= Access.FILE_WRITE_DATA
        requests.append(resize(wanted.size, file_id))
    if not wanted.attributes == wanted.created_ns == wanted.accessed_ns == wanted.written_ns is None:
        access |= Access.FILE_WRITE_ATTRIBUTES
        requests.append(
            _basic(
                FileBasicInformation(
                    creation_time=_time(wanted.created_ns),
                    last_access_time=_time(wanted.accessed_ns),
                    last_write_time=_time(wanted.written_ns),
                    change_time=KEEP_TIME,
                    file_attributes=_settable(wanted.attributes),
                ),
                file_id,
            )
        )
    return access, [*requests, *owners]


def resize(size: int, file_id: bytes = RELATED_FILE_ID) -> Request:
    """Return the SET_INFO of a file's size."""
    return smb2_requests.set_info(FileInformation.END_OF_FILE, FileEndOfFileInformation(size).encode(), file_id=file_id)


async def _perform(
    tree: Smb2Tree,
    path: str,
    access: Access,
    options: CreateOptions,
    requests: Sequence[Request],
    holder: GrantHolder | None,
) -> tuple[CreateResponse, list[Reply]]:
    """Open `path`, do what `requests` say, close it; return the replies to those, whose status is the caller's.

    `holder`: the grant that this must not break; its key goes along where handles with it are open.
    Cost: 1 round trip; 2 for a file whose other name has the key already.  Raises: what the CREATE was refused with.
    """
    asking = tree.grants.ask(tree, path, holder, Caching.NONE)
    try:
        create = tree.create(path, access, options, asking=asking)
        try:
            replies = await tree.compound(path, create, *requests, smb2_requests.close())
        except StatusError as error:
            # A key belongs to one path: another name of the same file must do without ([MS-SMB2] 3.3.5.9.8).
            if asking is None or error.status != NtStatus.INVALID_PARAMETER:
                raise
            replies = await tree.compound(path, tree.create(path, access, options), *requests, smb2_requests.close())
    finally:
        if asking is not None:
            asking.withdrawn()
    return CreateResponse.decode(replies[0].element), replies[1:-1]


def _attributes(attributes: int) -> Request:
    times = (KEEP_TIME, KEEP_TIME, KEEP_TIME, KEEP_TIME)
    return _basic(FileBasicInformation(*times, _settable(attributes)), RELATED_FILE_ID)


def _basic(information: FileBasicInformation, file_id: bytes) -> Request:
    return smb2_requests.set_info(FileInformation.BASIC, information.encode(), file_id=file_id)


def _settable(attributes: int | None) -> int:
    """Return attributes as FileBasicInformation wants them: 0 would leave them as they are."""
    if attributes is None:
        return 0
    return int(attributes & _SETTABLE) or int(FileAttributes.NORMAL)


def _time(ns: int | None) -> int:
    return KEEP_TIME if ns is None else ns_to_filetime(ns)
