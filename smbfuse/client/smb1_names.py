"""Making, removing, renaming and linking names on an SMB1 server.  [MS-CIFS] 3.2.4.3, 3.2.4.4, 3.2.4.9 to 3.2.4.11.

With the UNIX extensions, names are made and removed as POSIX has it. Without them DELETE removes what nobody has open;
what is open is removed through a handle of NT_CREATE_ANDX. RENAME never replaces: see `smb1_rename.py`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

from smbfuse import status
from smbfuse.client.protection import UNDO_S
from smbfuse.client.smb1_changes import change_path, with_mode
from smbfuse.client.smb1_levels import NOT_KNOWN, decode_stat, unix_type
from smbfuse.client.smb1_open import close, open_for_errand, opened
from smbfuse.client.smb1_stat import StatQuery
from smbfuse.errors import Denied, NotFound, SmbError
from smbfuse.share import Change, FileStat, GrantHolder, Kind
from smbfuse.status import NtStatus
from smbfuse.wire.fscc_changes import FileDispositionInformation
from smbfuse.wire.smb1.changes import SetLevel
from smbfuse.wire.smb1.files import SEARCH_EVERYTHING, NtAccess, NtOptions
from smbfuse.wire.smb1.names import (
    HIDDEN_TOO,
    CreateDirectoryRequest,
    DeleteDirectoryRequest,
    DeleteRequest,
    NtRenameLevel,
    NtRenameRequest,
)
from smbfuse.wire.smb1.negotiate import Capabilities
from smbfuse.wire.smb1.posix import (
    PosixOpenMode,
    PosixOpenRequest,
    PosixOpenResponse,
    PosixUnlinkRequest,
    PosixUnlinkTarget,
    unix_changes,
)

if TYPE_CHECKING:
    from smbfuse.client.smb1_tree import Smb1Tree

log = logging.getLogger(__name__)

OWNERS_BITS: Final = 0o700
DEFAULT_DIRECTORY_MODE: Final = 0o777  # the server's own mask comes on top
_POSIX_MADE: Final = PosixOpenResponse.SIZE + 128  # and the folder's description
_WILDCARDS: Final = frozenset('*?<>"')


def plain_path(tree: Smb1Tree, path: str) -> str:
    """Return `path` as the server spells it, for commands that would take wildcards in it.

    Raises NotFound for a name with wildcards, which no file can have there: sent, they could remove a whole folder.
    """
    if not tree.posix and not _WILDCARDS.isdisjoint(path):
        raise status.error(NtStatus.OBJECT_NAME_INVALID, "name without wildcards", path)
    return tree.wire_path(path)


async def make_directory(tree: Smb1Tree, path: str, mode: int | None) -> FileStat:
    """Make a folder; see `Share.make_directory`.  Cost: 1 round trip with UNIX extensions, else 2."""
    if tree.posix_opens:
        request = PosixOpenRequest(
            flags=0,
            open_mode=int(PosixOpenMode.CREATE | PosixOpenMode.DIRECTORY),
            permissions=DEFAULT_DIRECTORY_MODE if mode is None else mode,
            level=tree.stat_ladder.level,
        )
        exchange = tree.set_path(SetLevel.POSIX_PATH_OPEN, path, request.encode(), max_data=_POSIX_MADE)
        reply = await tree.perform_one(exchange, patient=True)
        if reply.status == NtStatus.SUCCESS:
            made = PosixOpenResponse.decode(reply.data)
            if made.level == request.level:
                data = reply.data[PosixOpenResponse.SIZE :]
                found = decode_stat(request.level, data, tree.strings, tree.zone_minutes)
            else:
                found = await StatQuery(tree, path).result()
            return await with_mode(tree, found, mode, path) if mode is not None else found
        if reply.status not in NOT_KNOWN:
            raise status.error(reply.status, "POSIX_PATH_OPEN", path)
        tree.do_without_posix_opens()
    await tree.succeed(tree.submit(CreateDirectoryRequest(tree.wire_path(path))), path)
    return await StatQuery(tree, path).result()


async def make_link(tree: Smb1Tree, path: str, target: str) -> FileStat:
    """Make a symlink; see `Share.make_link`.  Cost: 2 round trips, with UNIX extensions; else Unsupported."""
    _want_posix(tree, "make a symlink", path)
    data = tree.strings.encode(target, 0)
    await tree.succeed(tree.set_path(SetLevel.UNIX_LINK, path, data), path, "make a symlink")
    return await StatQuery(tree, path).result()


async def make_node(
    tree: Smb1Tree, path: str, kind: Kind, device: tuple[int, int] | None, mode: int | None
) -> FileStat:
    """Make a FIFO, socket or device; see `Share.make_node`.

    Cost: 3 round trips, with UNIX extensions, and 2 for a mode that the server's masks cut; else Unsupported. The
    request would change a file that has the name already, so that one is looked for before.
    """
    _want_posix(tree, "make a node", path)
    try:
        await StatQuery(tree, path).result()
    except NotFound:
        pass
    else:
        raise status.error(NtStatus.OBJECT_NAME_COLLISION, "make a node", path)
    node = unix_changes(permissions=0o666 if mode is None else mode, kind=unix_type(kind), device=device or (0, 0))
    await tree.succeed(tree.set_path(SetLevel.UNIX_BASIC, path, node.encode()), path, "make a node")
    made = await StatQuery(tree, path).result()
    return await with_mode(tree, made, mode, path) if mode is not None else made


async def link(tree: Smb1Tree, existing: str, path: str) -> None:
    """Give a file a further name; see `Share.link`.  Cost: 1 round trip."""
    if tree.posix:
        data = tree.strings.encode(tree.wire_path(existing), 0)
        exchange = tree.set_path(SetLevel.UNIX_HLINK, path, data)
    elif tree.has(Capabilities.NT_SMBS):
        names = plain_path(tree, existing), plain_path(tree, path)
        exchange = tree.submit(NtRenameRequest(SEARCH_EVERYTHING, NtRenameLevel.SET_LINK_INFO, *names))
    else:
        raise status.error(NtStatus.NOT_SUPPORTED, "link", path)
    await tree.succeed(exchange, path, "link")


async def remove(tree: Smb1Tree, path: str, kind: Kind, holder: GrantHolder | None = None) -> None:
    """Remove a name; see `Share.remove`.

    `holder`, which no oplock asks for, tells that the name is one that the filesystem has hidden: a file without any
    name takes no other size or times from Samba 4.17, so one that is open to write keeps such a name until its last
    writer closes it. If we die before, the server closes the handle that will delete it.

    DELETE wants a file that nobody has open; Samba thinks for a second before it says that somebody has. So what we
    have open ourselves goes by the other way at once.
    Cost: 1 round trip; 2 for a file that we have open, 1 with UNIX extensions; one more if only others have.
    Raises besides: Busy for a file that an OPEN_ANDX handle keeps, see `OpenFile.stand_aside`.
    """
    if kind is Kind.DIRECTORY:
        await _remove_directory(tree, path)
        return
    writers = [file for file in tree.files_at(path) if file.writes]
    if tree.posix_opens and holder is not None and writers:
        options = NtOptions.NON_DIRECTORY_FILE | NtOptions.DELETE_ON_CLOSE
        fid = await open_for_errand(tree, path, NtAccess.DELETE, options)
        if not tree.delete_after(writers, fid):
            close(tree, fid)
        return
    if not tree.files_at(path) or not tree.has(Capabilities.NT_SMBS):
        reply = await tree.perform_one(tree.submit(DeleteRequest(HIDDEN_TOO, plain_path(tree, path))), patient=True)
        if reply.status == NtStatus.SUCCESS:
            return
        if reply.status != NtStatus.SHARING_VIOLATION or not tree.has(Capabilities.NT_SMBS):
            raise status.error(reply.status, "DELETE", path)
    await _remove_open(tree, path)


async def _remove_directory(tree: Smb1Tree, path: str) -> None:
    """Remove an empty folder.

    Cost: 1 round trip; 4 for one that its owner may not read, which Samba cannot tell to be empty before it is allowed.
    """
    try:
        await tree.succeed(tree.submit(DeleteDirectoryRequest(plain_path(tree, path))), path)
    except Denied:
        if not tree.posix:
            raise
        mode = (await StatQuery(tree, path).result()).mode
        if mode is None or mode & OWNERS_BITS == OWNERS_BITS:
            raise
        try:
            await change_path(tree, path, Change(mode=mode | OWNERS_BITS))
            await tree.succeed(tree.submit(DeleteDirectoryRequest(tree.wire_path(path))), path)
        except BaseException:
            await _put_mode_back(tree, path, mode)
            raise


async def _put_mode_back(tree: Smb1Tree, path: str, mode: int) -> None:
    """Give a folder that stays the mode that it had, whoever has given up meanwhile."""
    with trio.CancelScope(deadline=trio.current_time() + UNDO_S, shield=True):
        try:
            await change_path(tree, path, Change(mode=mode))
        except (Denied, NotFound):
            pass  # it was not ours to change, or it is gone after all
        except SmbError as error:
            log.info("the folder %r may keep mode 0%o instead of 0%o: %s", path, mode | OWNERS_BITS, mode, error)


async def _remove_open(tree: Smb1Tree, path: str) -> None:
    """Remove a file, surely none but a file, that somebody has open.  [MS-CIFS] 2.2.8.4.4.

    POSIX_PATH_UNLINK takes the name away at once. It is not asked for anything else: Samba 4.17 would remove an empty
    folder as well. It refuses while a handle of another kind than POSIX is open; then, and without UNIX extensions,
    the file goes with its last handle, and the name stays taken until then.
    """
    if tree.posix_opens:
        unlink = PosixUnlinkRequest(PosixUnlinkTarget.FILE).encode()
        reply = await tree.perform_one(tree.set_path(SetLevel.POSIX_PATH_UNLINK, path, unlink), patient=True)
        if reply.status == NtStatus.SUCCESS:
            return
        if reply.status in NOT_KNOWN:
            tree.do_without_posix_opens()
        elif reply.status != NtStatus.SHARING_VIOLATION:
            raise status.error(reply.status, "POSIX_PATH_UNLINK", path)
    options = NtOptions.NON_DIRECTORY_FILE | NtOptions.OPEN_REPARSE_POINT
    async with opened(tree, path, NtAccess.DELETE, options) as fid:
        data = FileDispositionInformation(1).encode()
        await tree.succeed(tree.set_file(SetLevel.SET_FILE_DISPOSITION_INFO, fid, data), path, "remove")


def _want_posix(tree: Smb1Tree, operation: str, path: str) -> None:
    if not tree.posix:
        raise status.error(NtStatus.NOT_SUPPORTED, operation, path)
