"""Opening and reading files of an SMB1 share.

A file is opened with OPEN_ANDX, its first bytes read by a READ_ANDX in the same message; its attributes, for which
OPEN_ANDX has too small fields, are asked for in the same flight. NT_CREATE_ANDX takes its place where that is wanted,
or where the server does not know OPEN_ANDX.  [MS-CIFS] 3.2.4.5, 3.2.4.14; [MS-SMB] 3.2.4.3.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from smbfuse import status
from smbfuse.client.smb1_levels import NOT_KNOWN
from smbfuse.client.smb1_stat import StatQuery
from smbfuse.errors import DecodeError, ProtocolError, StatusError, Unsupported
from smbfuse.share import Caching, FileStat, Kind
from smbfuse.status import NtStatus
from smbfuse.wire.smb1.files import (
    IMPERSONATION,
    NT_OPEN,
    OPEN_EXISTING,
    SEARCH_EVERYTHING,
    CloseRequest,
    NtAccess,
    NtCreateRequest,
    NtOptions,
    NtShare,
    OpenAccess,
    OpenAndxRequest,
    OpenFlags,
    decode_create_response,
    decode_open_response,
)
from smbfuse.wire.smb1.header import Command
from smbfuse.wire.smb1.io import Read, ReadRequest, decode_read
from smbfuse.wire.smb1.negotiate import Capabilities

if TYPE_CHECKING:
    from smbfuse.client.smb1_tree import Smb1Tree
    from smbfuse.engine.smb1 import Reply, Smb1Exchange
    from smbfuse.wire.smb1.message import Message

log = logging.getLogger(__name__)

LEAVE_TIME_ALONE: Final = 0xFFFFFFFF
LARGEST_SHORT_OFFSET: Final = 0xFFFFFFFF  # without CAP_LARGE_FILES
OPEN_OVERHEAD: Final = 80  # the longer of the two open responses, before a READ_ANDX response in a chain
# A READ_ANDX knows its FID from the open before it. Servers that execute no chains look for the FID it carries instead.
_CHAIN_NOT_KNOWN: Final = NOT_KNOWN | {NtStatus.SMB_BAD_FID, NtStatus.INVALID_HANDLE}
_SIZE_IN_OPEN: Final = 0xFFFFFFFF  # FileDataSize has 32 bits


class Smb1File:
    """One open file. Implements `share.OpenFile`."""

    def __init__(self, tree: Smb1Tree, fid: int, path: str, stat: FileStat, first: memoryview | None) -> None:
        self.stat = stat
        self.caching = Caching.NONE
        self.first = first
        self._tree = tree
        self._fid = fid
        self._path = path
        self._closed = False

    def __repr__(self) -> str:
        return f"<Smb1File {self._path!r} fid {self._fid}>"

    async def read(self, offset: int, length: int) -> memoryview:
        """Read one piece; see `OpenFile.read`."""
        tree = self._tree
        length = min(length, tree.limits.read)
        reply = await tree.perform_one(tree.submit(_read(tree, self._fid, offset, length), bulk=True))
        if reply.status == NtStatus.END_OF_FILE:
            return memoryview(b"")
        if reply.status not in (NtStatus.SUCCESS, NtStatus.BUFFER_OVERFLOW):
            raise status.error(reply.status, "READ_ANDX", self._path)
        data = decode_read(reply.block)
        if len(data) > length:
            raise ProtocolError(f"READ_ANDX of {length} bytes brought {len(data)}")
        if len(data) < length and offset + len(data) < self.stat.size:
            tree.reads_at_most(len(data))
        return data

    async def aclose(self) -> None:
        """Give the handle back; see `OpenFile.aclose`."""
        if not self._closed:
            self._closed = True
            _close(self._tree, self._fid)


class _Opened(NamedTuple):
    """What the response of either way to open told."""

    fid: int
    size: int  # as far as the response has room for it
    size_mask: int
    is_directory: bool


async def open_file(tree: Smb1Tree, path: str, first_bytes: int) -> Smb1File:
    """Open a file for reading; see `Share.open`.

    Cost: 1 round trip; with a MaxMpxCount of 1, which allows no two requests in flight, 2. One more if the file was
    changed between its opening and its description, and once for each thing that the server turns out not to know.
    """
    while True:
        opens_nt = tree.opens_nt
        wanted = tree.chained_read(first_bytes, OPEN_OVERHEAD) if tree.chains else 0
        chain = [_open_request(tree, path, nt=opens_nt)]
        if wanted:
            chain.append(_read(tree, 0, 0, wanted))
        exchange = tree.submit(*chain)
        query = StatQuery(tree, path)
        try:
            replies = await tree.perform(exchange)
            refused = _refused(replies)
            if refused in NOT_KNOWN and not opens_nt and tree.has(Capabilities.NT_SMBS):
                log.info("the server does not know OPEN_ANDX (0x%08X): files are opened with NT_CREATE_ANDX", refused)
                tree.opens_nt = True
                query.give_up()
                continue
            if wanted and refused in _CHAIN_NOT_KNOWN:
                log.info("the server does not execute chains (0x%08X): first bytes are read on their own", refused)
                tree.chains = False
                query.give_up()
                continue
            found = await _described(query, refused, path)
            opened = _decode_open(tree, replies[0])
            if found is None or found.size & opened.size_mask != opened.size:
                # Changed, or replaced, between the two answers: the handle itself knows what it stands for.
                found = await StatQuery(tree, path, fid=opened.fid).result()
            if opened.is_directory or found.kind is Kind.DIRECTORY:
                raise status.error(NtStatus.FILE_IS_A_DIRECTORY, "open", path)
        except BaseException:
            query.give_up()
            _close_when_done(tree, exchange)
            raise
        return Smb1File(tree, opened.fid, path, found, _first_bytes(tree, replies, wanted))


async def _described(query: StatQuery, refused: int, path: str) -> FileStat | None:
    """Return what the path stands for, None if nobody says; raises what the open was refused with."""
    try:
        found: FileStat | None = await query.result()
    except StatusError as error:
        log.debug("a file that was opened cannot be described: %s", error)
        found = None
    if refused and found is not None and found.kind is Kind.DIRECTORY:
        raise status.error(NtStatus.FILE_IS_A_DIRECTORY, "open", path)
    if refused:
        raise status.error(refused, "open", path)
    return found


def _refused(replies: Sequence[Reply]) -> int:
    """Return the status that an open was refused with, 0 if it was not.

    A chain whose READ failed has opened the file all the same; some servers then say so without a block of its own.
    """
    return replies[0].status if not replies[0].block.words else 0


def _decode_open(tree: Smb1Tree, reply: Reply) -> _Opened:
    if reply.block.command == Command.NT_CREATE_ANDX:
        created = decode_create_response(reply.block, tree.strings)
        return _Opened(created.fid, created.end_of_file, -1, bool(created.directory))
    opened = decode_open_response(reply.block, tree.strings)
    return _Opened(opened.fid, opened.file_data_size, _SIZE_IN_OPEN, is_directory=False)


def _first_bytes(tree: Smb1Tree, replies: Sequence[Reply], wanted: int) -> memoryview | None:
    """Return the data of the READ_ANDX that was chained to an open; None if it brought none."""
    if not wanted:
        return None
    if len(replies) < 2:
        if replies[0].status == NtStatus.SUCCESS:
            log.info("the server leaves out what is chained to an open: first bytes are read on their own")
            tree.chains = False
        return None
    if replies[1].status == NtStatus.END_OF_FILE:
        return memoryview(b"")
    if replies[1].status != NtStatus.SUCCESS:
        # A locked range, say. Whoever reads it will be told.
        log.debug("open without first bytes status=0x%08X", replies[1].status)
        return None
    data = decode_read(replies[1].block)
    if len(data) > wanted:
        raise ProtocolError(f"READ_ANDX of {wanted} bytes brought {len(data)}")
    return data


def _open_request(tree: Smb1Tree, path: str, *, nt: bool) -> Message:
    if nt:
        return NtCreateRequest(
            flags=0,
            root_directory_fid=0,
            desired_access=int(NtAccess.READ_DATA | NtAccess.READ_ATTRIBUTES),
            allocation_size=0,
            ext_file_attributes=0,
            share_access=int(NtShare.READ | NtShare.WRITE | NtShare.DELETE),
            create_disposition=NT_OPEN,
            create_options=int(NtOptions.NON_DIRECTORY_FILE),
            impersonation_level=IMPERSONATION,
            security_flags=0,
            file_name=tree.wire_path(path),
        )
    return OpenAndxRequest(
        flags=int(OpenFlags.REQUEST_ATTRIBUTES),
        access_mode=int(OpenAccess.READ | OpenAccess.DENY_NONE),
        search_attrs=SEARCH_EVERYTHING,
        file_attrs=0,
        creation_time=0,
        open_mode=OPEN_EXISTING,
        allocation_size=0,
        timeout=0,
        file_name=tree.wire_path(path),
    )


def _read(tree: Smb1Tree, fid: int, offset: int, length: int) -> Message:
    """Return the READ_ANDX for a piece of a file.  Raises Unsupported if the server cannot count that far."""
    if tree.has(Capabilities.LARGE_FILES):
        return Read(fid, offset, length)
    if offset > LARGEST_SHORT_OFFSET:
        raise Unsupported(
            "the server reads no more than 4 GiB of a file", status=NtStatus.NOT_SUPPORTED, errno=errno.EFBIG
        )
    return ReadRequest.at(fid, offset, length, large_files=False)


def _close(tree: Smb1Tree, fid: int) -> None:
    tree.submit(CloseRequest(fid, LEAVE_TIME_ALONE))


def _close_when_done(tree: Smb1Tree, exchange: Smb1Exchange) -> None:
    """Close what an exchange has opened, or will have opened, for nobody."""

    def close() -> None:
        if exchange.error is not None or not exchange.replies or _refused(exchange.replies):
            return
        try:
            _close(tree, _decode_open(tree, exchange.replies[0]).fid)
        except DecodeError as error:
            log.debug("a handle that nobody wants cannot be closed: %s", error)

    if exchange.done:
        close()
    else:
        exchange.on_done = close
