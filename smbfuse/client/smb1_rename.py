"""Renaming on an SMB1 server, and replacing what has the name already.

RENAME moves files and folders, and never replaces ([MS-CIFS] 2.2.4.8). Servers with CAP_INFOLEVEL_PASSTHRU know a
rename that does, but only within one folder ([MS-FSCC] 2.4.42.1; Samba 4.17 refuses every name with a separator). So
what is to replace a file in another folder is first moved beside it, under a name that nobody shows, and then put in
its place in one step: the target is never missing. Where no such step is to be had, what has the target's name is put
aside, and put back if the rename fails after all.
"""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING, Final

import trio

from smbfuse import status
from smbfuse.client.smb1_levels import NOT_KNOWN
from smbfuse.client.smb1_names import plain_path, remove
from smbfuse.client.smb1_stat import StatQuery
from smbfuse.errors import Exists, SmbError
from smbfuse.share import FileStat, Kind
from smbfuse.status import NtStatus
from smbfuse.wire.smb1.changes import SetLevel, Smb1RenameInformation
from smbfuse.wire.smb1.files import SEARCH_EVERYTHING
from smbfuse.wire.smb1.names import RenameRequest

if TYPE_CHECKING:
    from smbfuse.client.smb1_tree import Smb1Tree

log = logging.getLogger(__name__)

HIDDEN_PREFIX: Final = ".smbfuse-"  # and 16 hexadecimal digits: names that a mount shows to nobody
PUT_BACK_S: Final = 5.0  # a caller that gave up waits no longer for what it began to be undone


async def rename(tree: Smb1Tree, source: str, target: str, *, replace: bool) -> None:
    """Give a file or folder another name; see `Share.rename`.

    Cost: 1 round trip; to replace a file in another folder 4. What the server replaces in no single step takes 6: with
    UNIX extensions a target that is open and an empty folder, elsewhere a hidden file, and anything on a server that
    knows no rename which replaces.
    """
    refused = 0
    if replace and tree.renames_over and _folder(source) == _folder(target):
        refused = await _rename_over(tree, source, target)
        if not refused:
            return
    try:
        await _move(tree, source, target)
    except Exists:
        if not tree.posix and source != target and source.casefold() == target.casefold():
            await _through_hidden_name(tree, source, target)
        elif replace:
            await _replace(tree, source, target, refused)
        else:
            raise


async def _move(tree: Smb1Tree, source: str, target: str) -> None:
    """Rename without replacing anything.  Raises: Exists."""
    request = RenameRequest(SEARCH_EVERYTHING, plain_path(tree, source), plain_path(tree, target))
    await tree.succeed(tree.submit(request), source)


async def _rename_over(tree: Smb1Tree, source: str, target: str) -> int:
    """Rename within one folder in one step, whatever has the name; return the status that it was refused with, or 0.

    Samba 4.17 refuses targets that are open and folders with ACCESS_DENIED, and says that it finds no hidden file.
    """
    plain_path(tree, target)
    data = Smb1RenameInformation(replace_if_exists=True, file_name=_name(target)).encode(tree.strings)
    reply = await tree.perform_one(tree.set_path(SetLevel.PASS_THROUGH_RENAME, source, data), patient=True)
    if reply.status in NOT_KNOWN:
        log.info("the server knows no rename that replaces (0x%08X)", reply.status)
        tree.renames_over = False
    return reply.status


async def _through_hidden_name(tree: Smb1Tree, source: str, target: str) -> None:
    """Change the case of a name on a server that takes the new one for the name of another file."""
    hidden = _hidden_beside(target)
    await _move(tree, source, hidden)
    try:
        await _move(tree, hidden, target)
    except BaseException:
        await _put_back(tree, hidden, source)
        raise


async def _replace(tree: Smb1Tree, source: str, target: str, refused: int) -> None:
    """Put `source` in the place of `target`, which exists; `refused`: with what a single step was refused before."""
    questions = StatQuery(tree, source), StatQuery(tree, target)
    new, old = [await question.result() for question in questions]
    _want_replaceable(new, old, target)
    if new.file_id and (new.file_id, new.volume_id) == (old.file_id, old.volume_id):
        return  # two names of one file: rename(2) leaves both
    if tree.renames_over and not refused:
        beside = _hidden_beside(target)
        await _move(tree, source, beside)
        try:
            refused = await _rename_over(tree, beside, target)
        except BaseException:
            await _put_back(tree, beside, source)
            raise
        if not refused:
            return
        await _put_back(tree, beside, source)
    if not tree.posix and (refused == NtStatus.ACCESS_DENIED or old.kind is Kind.DIRECTORY):
        raise status.error(NtStatus.ACCESS_DENIED, "replace", target)
    await _put_aside(tree, source, target, old.kind)


async def _put_aside(tree: Smb1Tree, source: str, target: str, kind: Kind) -> None:
    """Replace `target` by way of a hidden name, from which it comes back if anything fails."""
    aside = _hidden_beside(target)
    await _move(tree, target, aside)
    try:
        await _move(tree, source, target)
    except BaseException:
        await _put_back(tree, aside, target)
        raise
    try:
        await remove(tree, aside, kind)
    except BaseException:  # a folder that is not empty, say
        await _put_back(tree, target, source)
        await _put_back(tree, aside, target)
        raise


async def _put_back(tree: Smb1Tree, path: str, before: str) -> None:
    """Undo a rename, whoever has given up meanwhile; say where the file is if that cannot be done."""
    with trio.CancelScope(shield=True, deadline=trio.current_time() + PUT_BACK_S) as scope:
        try:
            await _move(tree, path, before)
        except SmbError as error:
            log.warning("a rename failed half-way: what was %r is called %r now (%s)", before, path, error)
    if scope.cancelled_caught:
        log.warning("a rename failed half-way: what was %r may be called %r now", before, path)


def _want_replaceable(new: FileStat, old: FileStat, target: str) -> None:
    """Raise WrongKind where a file would take the place of a folder, or a folder that of a file."""
    if old.kind is Kind.DIRECTORY and new.kind is not Kind.DIRECTORY:
        raise status.error(NtStatus.FILE_IS_A_DIRECTORY, "replace", target)
    if new.kind is Kind.DIRECTORY and old.kind is not Kind.DIRECTORY:
        raise status.error(NtStatus.NOT_A_DIRECTORY, "replace", target)


def _hidden_beside(path: str) -> str:
    folder = _folder(path)
    hidden = HIDDEN_PREFIX + secrets.token_hex(8)
    return f"{folder}/{hidden}" if folder else hidden


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _name(path: str) -> str:
    return path.rpartition("/")[2]
