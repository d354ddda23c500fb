"""The three ways to open a file of an SMB1 share, and what their requests and responses say.

OPEN_ANDX is the oldest: one round trip with the first bytes read in the same message, known everywhere. It shares no
deletion, so that nobody can remove or rename the file meanwhile. NT_CREATE_ANDX shares everything and knows every
disposition. The UNIX extensions' own open makes a file with its mode, and a file so opened may be removed and renamed
over as POSIX has it, which Samba refuses if any handle of another kind is open.

[MS-CIFS] 3.2.4.5, 3.2.4.6; [MS-SMB] 3.2.4.3.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from smbfuse import status
from smbfuse.client.smb1_levels import decode_stat
from smbfuse.errors import DecodeError
from smbfuse.share import Caching, Creation, FileStat, OpenIntent
from smbfuse.status import NtStatus
from smbfuse.wire.fscc import FileAttributes
from smbfuse.wire.smb1.changes import SetLevel
from smbfuse.wire.smb1.files import (
    FILE_WAS_CREATED,
    IMPERSONATION,
    SEARCH_EVERYTHING,
    CloseRequest,
    NtAccess,
    NtCreateFlags,
    NtCreateRequest,
    NtDisposition,
    NtOptions,
    NtShare,
    OpenAccess,
    OpenAndxRequest,
    OpenFlags,
    OpenMode,
    OpenResult,
    OplockLevel,
    decode_create_response,
    decode_open_response,
)
from smbfuse.wire.smb1.levels import PathLevel
from smbfuse.wire.smb1.negotiate import Capabilities
from smbfuse.wire.smb1.posix import PosixOpenFlags, PosixOpenMode, PosixOpenRequest, PosixOpenResponse

if TYPE_CHECKING:
    from smbfuse.client.smb1_tree import Smb1Tree
    from smbfuse.engine.smb1_exchange import Reply, Smb1Exchange
    from smbfuse.wire.smb1.message import Message

log = logging.getLogger(__name__)

LEAVE_TIME_ALONE: Final = 0xFFFFFFFF
DEFAULT_MODE: Final = 0o666  # of a file that is made without any said; the server's own mask comes on top

_SIZE_IN_OPEN: Final = 0xFFFFFFFF  # FileDataSize of OPEN_ANDX has 32 bits
_POSIX_OPENED: Final = PosixOpenResponse.SIZE + 128  # and the file's description
_WRITES: Final = NtAccess.WRITE_DATA | NtAccess.APPEND_DATA | NtAccess.WRITE_ATTRIBUTES
_DISPOSITIONS: Final = {
    (Creation.NEVER, False): NtDisposition.OPEN,
    (Creation.NEVER, True): NtDisposition.OVERWRITE,
    (Creation.IF_ABSENT, False): NtDisposition.OPEN_IF,
    (Creation.IF_ABSENT, True): NtDisposition.OVERWRITE_IF,
    (Creation.EXCLUSIVE, False): NtDisposition.CREATE,
    (Creation.EXCLUSIVE, True): NtDisposition.CREATE,
}
_OPEN_MODES: Final = {
    (Creation.NEVER, False): OpenMode.OPEN,
    (Creation.NEVER, True): OpenMode.TRUNCATE,
    (Creation.IF_ABSENT, False): OpenMode.OPEN | OpenMode.CREATE,
    (Creation.IF_ABSENT, True): OpenMode.TRUNCATE | OpenMode.CREATE,
    (Creation.EXCLUSIVE, False): OpenMode.CREATE,
    (Creation.EXCLUSIVE, True): OpenMode.CREATE,
}


class Way(enum.Enum):
    """How a file is opened."""

    ANDX = "OPEN_ANDX"
    NT = "NT_CREATE_ANDX"
    POSIX = "POSIX_PATH_OPEN"


class Opened(NamedTuple):
    """What the response of an open told."""

    fid: int
    size: int  # as far as the response has room for it
    size_mask: int
    is_directory: bool
    created: bool
    oplock: int  # an OplockLevel
    stat: FileStat | None = None


@dataclass(frozen=True, slots=True)
class Opening:
    """One open, as it is asked for: in which way, and what of the intent goes into its request.

    `truncate` is what the open itself is to do; `wanted` is NONE where no oplock is asked for.
    """

    way: Way
    path: str
    read: bool
    write: bool
    creation: Creation
    truncate: bool
    mode: int | None
    wanted: Caching

    @classmethod
    def of(cls, tree: Smb1Tree, path: str, intent: OpenIntent, *, truncate: bool, plain: bool | None) -> Opening:
        """Return how `intent` is carried out on the server as it is known by now; for `plain` see `best_way`."""
        if plain is None:
            plain = not (intent.write or intent.truncate or intent.creation is not Creation.NEVER)
        way = best_way(tree, plain=plain)
        wanted = intent.wanted if intent.holder is not None and tree.oplocks.enabled else Caching.NONE
        if way is Way.ANDX:
            # Never to be kept after close: such a handle forbids deletion to everybody.
            wanted &= Caching.READ | Caching.WRITE if intent.write else Caching.READ
        return cls(
            way=way,
            path=path,
            read=intent.read,
            write=intent.write or intent.truncate,
            creation=intent.creation,
            truncate=truncate,
            mode=intent.mode,
            wanted=wanted,
        )

    def submit(self, tree: Smb1Tree, *behind: Message) -> Smb1Exchange:
        """Queue the request, with a chain `behind` it where the way has chains, and have it sent."""
        if self.way is Way.POSIX:
            data = self._posix_request(tree).encode()
            return tree.set_path(SetLevel.POSIX_PATH_OPEN, self.path, data, max_data=_POSIX_OPENED)
        request = self._nt_request(tree) if self.way is Way.NT else self._andx_request(tree)
        return tree.submit(request, *behind)

    def decode(self, tree: Smb1Tree, reply: Reply) -> Opened:
        """Read a successful response.  Raises DecodeError."""
        if self.way is Way.POSIX:
            return _decode_posix(tree, reply)
        if self.way is Way.NT:
            created = decode_create_response(reply.block, tree.strings)
            was_created = created.create_disposition == FILE_WAS_CREATED
            return Opened(
                created.fid, created.end_of_file, -1, bool(created.directory), was_created, created.op_lock_level
            )
        opened = decode_open_response(reply.block, tree.strings)
        results = opened.open_results
        return Opened(
            opened.fid,
            opened.file_data_size,
            _SIZE_IN_OPEN,
            is_directory=False,
            created=results & OpenResult.DONE == OpenResult.CREATED,
            oplock=OplockLevel.EXCLUSIVE if results & OpenResult.OPLOCK else OplockLevel.NONE,
        )

    def fid(self, tree: Smb1Tree, reply: Reply) -> int:
        """Read no more of a successful response than which FID it gave.  Raises DecodeError."""
        return PosixOpenResponse.decode(reply.data).fid if self.way is Way.POSIX else self.decode(tree, reply).fid

    # --- requests -----------------------------------------------------------------------------------------------------

    @property
    def _attributes(self) -> int:
        """Return the attributes of a file that is made: where there are no modes, only one bit of them is kept."""
        return FileAttributes.READONLY if self.mode is not None and not self.mode & 0o222 else FileAttributes.NORMAL

    def _andx_request(self, tree: Smb1Tree) -> Message:
        access = OpenAccess.READ
        if self.write:
            access = OpenAccess.READ_WRITE if self.read else OpenAccess.WRITE
        flags = OpenFlags.REQUEST_ATTRIBUTES
        if self.wanted:
            flags |= OpenFlags.REQUEST_OPLOCK
        return OpenAndxRequest(
            flags=int(flags),
            access_mode=int(access | OpenAccess.DENY_NONE),
            search_attrs=SEARCH_EVERYTHING,
            file_attrs=self._attributes & FileAttributes.READONLY,
            creation_time=0,
            open_mode=int(_OPEN_MODES[self.creation, self.truncate]),
            allocation_size=0,
            timeout=0,
            file_name=tree.wire_path(self.path),
        )

    def _nt_request(self, tree: Smb1Tree) -> Message:
        access = NtAccess.READ_ATTRIBUTES
        if self.read:
            access |= NtAccess.READ_DATA
        if self.write:
            access |= _WRITES
        flags = NtCreateFlags(0)
        if self.wanted:
            flags |= NtCreateFlags.REQUEST_OPLOCK
        if Caching.HANDLE in self.wanted:
            flags |= NtCreateFlags.REQUEST_OPBATCH
        return nt_create(
            tree,
            self.path,
            access,
            NtOptions.NON_DIRECTORY_FILE,
            flags=flags,
            disposition=_DISPOSITIONS[self.creation, self.truncate],
            attributes=self._attributes if self.creation is not Creation.NEVER else 0,
        )

    def _posix_request(self, tree: Smb1Tree) -> PosixOpenRequest:
        mode = PosixOpenMode.READ_ONLY
        if self.write:
            mode = PosixOpenMode.READ_WRITE if self.read else PosixOpenMode.WRITE_ONLY
        if self.creation is not Creation.NEVER:
            mode |= PosixOpenMode.CREATE
        if self.creation is Creation.EXCLUSIVE:
            mode |= PosixOpenMode.EXCLUSIVE
        if self.truncate:
            mode |= PosixOpenMode.TRUNCATE
        flags = PosixOpenFlags(0)
        if self.wanted:
            flags |= PosixOpenFlags.REQUEST_OPLOCK
        if Caching.HANDLE in self.wanted:
            flags |= PosixOpenFlags.REQUEST_OPBATCH
        permissions = DEFAULT_MODE if self.mode is None else self.mode
        return PosixOpenRequest(int(flags), int(mode), permissions, tree.stat_ladder.level)


def best_way(tree: Smb1Tree, *, plain: bool) -> Way:
    """Return how a file is opened; `plain` is an open that only reads, and makes nothing."""
    if plain and not tree.opens_nt:
        return Way.ANDX
    if tree.posix_opens:
        return Way.POSIX
    return Way.NT if tree.has(Capabilities.NT_SMBS) else Way.ANDX


def nt_create(
    tree: Smb1Tree,
    path: str,
    access: NtAccess,
    options: NtOptions,
    *,
    flags: NtCreateFlags = NtCreateFlags(0),  # noqa: B008 - a constant
    disposition: NtDisposition = NtDisposition.OPEN,
    attributes: int = 0,
) -> NtCreateRequest:
    """Return an NT_CREATE_ANDX that shares everything with others."""
    return NtCreateRequest(
        flags=int(flags),
        root_directory_fid=0,
        desired_access=int(access),
        allocation_size=0,
        ext_file_attributes=int(attributes),
        share_access=int(NtShare.ALL),
        create_disposition=int(disposition),
        create_options=int(options),
        impersonation_level=IMPERSONATION,
        security_flags=0,
        file_name=tree.wire_path(path),
    )


async def open_for_errand(tree: Smb1Tree, path: str, access: NtAccess, options: NtOptions) -> int:
    """Open what `path` is, a folder as well, and return the FID, which is the caller's to close.

    Cost: 1 round trip.  Raises: NotFound, Denied, Busy, Unsupported (a server without NT commands).
    """
    if not tree.has(Capabilities.NT_SMBS):
        raise status.error(NtStatus.NOT_SUPPORTED, "NT_CREATE_ANDX", path)
    exchange = tree.submit(nt_create(tree, path, access, options))
    return await _errand(tree, path, exchange, lambda reply: decode_create_response(reply.block, tree.strings).fid)


@contextlib.asynccontextmanager
async def opened(
    tree: Smb1Tree,
    path: str,
    access: NtAccess,
    options: NtOptions = NtOptions(0),  # noqa: B008 - a constant
) -> AsyncIterator[int]:
    """Open what `path` is for one errand, as `open_for_errand`; nobody waits for the CLOSE."""
    fid = await open_for_errand(tree, path, access, options)
    try:
        yield fid
    finally:
        close(tree, fid)


@contextlib.asynccontextmanager
async def opened_to_write(tree: Smb1Tree, path: str) -> AsyncIterator[int]:
    """Open a file for one change of its content, in whichever way the server has; see `opened`."""
    way = best_way(tree, plain=False)
    opening = Opening(
        way, path, read=False, write=True, creation=Creation.NEVER, truncate=False, mode=None, wanted=Caching.NONE
    )
    fid = await _errand(tree, path, opening.submit(tree), functools.partial(opening.fid, tree))
    try:
        yield fid
    finally:
        close(tree, fid)


async def _errand(tree: Smb1Tree, path: str, exchange: Smb1Exchange, fid_of: Callable[[Reply], int]) -> int:
    try:
        reply = await tree.perform_one(exchange, patient=True)
    except BaseException:
        close_when_done(tree, exchange, fid_of)
        raise
    if reply.status != NtStatus.SUCCESS:
        raise status.error(reply.status, exchange.label, path)
    return fid_of(reply)


def close(tree: Smb1Tree, fid: int) -> Smb1Exchange:
    """Queue a CLOSE and have it sent; nobody need wait for it."""
    tree.oplocks.closed(fid)
    return tree.submit(CloseRequest(fid, LEAVE_TIME_ALONE))


def close_when_done(tree: Smb1Tree, exchange: Smb1Exchange, fid_of: Callable[[Reply], int]) -> None:
    """Close what an exchange has opened, or will have opened, for nobody; `fid_of` reads its first reply."""

    def finish() -> None:
        if exchange.error is not None or not exchange.replies or refusal(exchange.replies):
            return
        try:
            close(tree, fid_of(exchange.replies[0]))
        except DecodeError as error:
            log.debug("a handle that nobody wants cannot be closed: %s", error)

    if exchange.done:
        finish()
    else:
        exchange.on_done = finish


def refusal(replies: Sequence[Reply]) -> int:
    """Return the status that an open was refused with, 0 if it was not.

    A chain whose READ failed has opened the file all the same; some servers then say so without a block of its own.
    """
    return replies[0].status if not replies[0].block.words else 0


def _decode_posix(tree: Smb1Tree, reply: Reply) -> Opened:
    response = PosixOpenResponse.decode(reply.data)
    stat = None
    if response.level in (PathLevel.UNIX_BASIC, PathLevel.UNIX_INFO2):
        stat = decode_stat(response.level, reply.data[PosixOpenResponse.SIZE :], tree.strings, tree.zone_minutes)
    return Opened(
        response.fid,
        stat.size if stat is not None else 0,
        -1 if stat is not None else 0,
        is_directory=False,
        created=response.action == FILE_WAS_CREATED,
        oplock=response.oplock,
        stat=stat,
    )
