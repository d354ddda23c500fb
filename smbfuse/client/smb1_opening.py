"""Opening a file of an SMB1 share, whatever the server knows of it.

A file that is only read is opened with OPEN_ANDX, its first bytes read by a READ_ANDX in the same message; its
attributes, for which OPEN_ANDX has too small fields, are asked for in the same flight. NT_CREATE_ANDX tells times, but
neither the file's id nor its links: its attributes are asked for as well. The UNIX extensions' own open tells all.
[MS-CIFS] 3.2.4.5, 3.2.4.6; [MS-SMB] 3.2.4.3.
"""

from __future__ import annotations

import errno
import functools
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import trio

from smbfuse import status
from smbfuse.client.smb1_changes import set_end, too_far, with_mode
from smbfuse.client.smb1_levels import NOT_KNOWN
from smbfuse.client.smb1_open import Opened, Opening, Way, close, close_when_done, refusal
from smbfuse.client.smb1_stat import StatQuery
from smbfuse.errors import ConnectionLost, ProtocolError, StatusError, WrongKind
from smbfuse.share import Creation, FileStat, Kind, OpenIntent
from smbfuse.status import NtStatus
from smbfuse.wire.smb1.io import Read, ReadRequest, decode_read
from smbfuse.wire.smb1.negotiate import Capabilities

if TYPE_CHECKING:
    from smbfuse.client.smb1_oplocks import Oplock
    from smbfuse.client.smb1_tree import Smb1Tree
    from smbfuse.engine.smb1_exchange import Reply, Smb1Exchange
    from smbfuse.wire.smb1.message import Message

log = logging.getLogger(__name__)

LARGEST_SHORT_OFFSET: Final = 0xFFFFFFFF  # without CAP_LARGE_FILES
OPEN_OVERHEAD: Final = 80  # the longer of the two open responses, before a READ_ANDX response in a chain
# A READ_ANDX knows its FID from the open before it. Servers that execute no chains look for the FID it carries instead.
_CHAIN_NOT_KNOWN: Final = NOT_KNOWN | {NtStatus.SMB_BAD_FID, NtStatus.INVALID_HANDLE}


class Handle:
    """A FID with all that its open told. `with handle as fid:` marks a request that uses it.

    It is closed behind the last request that uses it: small requests overtake large ones, and a FID that is closed may
    be another file's at once.
    """

    __slots__ = (
        "_closing",
        "_given_back",
        "_tree",
        "_users",
        "closed",
        "created",
        "fid",
        "first",
        "oplock",
        "stat",
        "way",
    )

    def __init__(
        self,
        tree: Smb1Tree,
        way: Way,
        opened: Opened,
        stat: FileStat,
        first: memoryview | None,
        oplock: Oplock | None,
    ) -> None:
        self.way = way
        self.fid = opened.fid
        self.created = opened.created
        self.stat = stat
        self.first = first
        self.oplock = oplock
        self.closed = False  # no request may use it any more
        self._tree = tree
        self._users = 0
        self._closing: Smb1Exchange | None = None
        self._given_back = trio.Event()  # `_closing` is on its way

    def __repr__(self) -> str:
        return f"<Handle fid {self.fid} of {self.way.value}>"

    def __enter__(self) -> int:
        if self.closed:
            raise status.error(NtStatus.FILE_CLOSED, "use of a handle")
        self._users += 1
        return self.fid

    def __exit__(self, *_exception: object) -> None:
        self._users -= 1
        self._give_back()

    def close(self) -> None:
        """Give the FID back once, as soon as no request uses it; nobody need wait for that."""
        self.closed = True
        self._give_back()

    async def gone(self) -> None:
        """Wait until the server has closed what `close` gives back. To be called once."""
        await self._given_back.wait()
        if self._closing is not None:
            await self._tree.perform_one(self._closing)

    def _give_back(self) -> None:
        if self.closed and not self._users and self._closing is None:
            self._closing = close(self._tree, self.fid)
            self._given_back.set()


async def open_handle(tree: Smb1Tree, path: str, intent: OpenIntent, *, plain: bool | None = None) -> Handle:
    """Open a file, or make it; see `Share.open`. `plain=False` opens it in a way that forbids nothing to others.

    Cost: 1 round trip; with a MaxMpxCount of 1, which allows no two requests in flight, 2. One more if the file was
    changed between its opening and its description, once for each thing that the server turns out not to know, and 2
    more to empty a file whose attributes are in the way of emptying it by the open.
    """
    # An open that empties a file gives it the attributes of one that is made. Read-only is meant for a new one alone.
    afterwards = intent.truncate and _makes_read_only(tree, intent) and intent.creation is Creation.IF_ABSENT
    with tree.oplocks.opening():
        while True:
            opening = Opening.of(tree, path, intent, truncate=intent.truncate and not afterwards, plain=plain)
            chained = _chained_read(tree, opening, intent.first_bytes)
            exchange = opening.submit(tree, *([read_request(tree, 0, 0, chained)] if chained else []))
            query = StatQuery(tree, path) if opening.way is not Way.POSIX else None
            try:
                replies = await tree.perform(exchange, patient=True)
                refused = refusal(replies)
                if refused and _learns(tree, opening, refused, chained):
                    continue
                if refused == NtStatus.ACCESS_DENIED and opening.truncate and intent.creation is not Creation.EXCLUSIVE:
                    # Hidden files are not emptied by an open that does not say that they are hidden.
                    afterwards = True
                    continue
                found = await _described(tree, opening, query, refused)
                opened = opening.decode(tree, replies[0])
                stat = opened.stat or found
                if stat is None or stat.size & opened.size_mask != opened.size:
                    # Changed, or replaced, between the two answers: the handle itself knows what it stands for.
                    stat = await StatQuery(tree, path, fid=opened.fid).result()
                _want_file(stat, opened.is_directory, path)
                if opened.created and tree.posix and intent.mode is not None:
                    stat = await with_mode(tree, stat, intent.mode, path, fid=opened.fid)
                if afterwards and not opened.created:
                    await set_end(tree, opened.fid, path, 0)
                    stat = await StatQuery(tree, path, fid=opened.fid).result()
                first = _first_bytes(tree, replies, chained)
                oplock = None
                if intent.holder is not None and opening.wanted:
                    oplock = tree.oplocks.opened(tree.tree, opened.fid, intent.holder, opening.wanted, opened.oplock)
            except BaseException as error:
                if chained and isinstance(error, ConnectionLost) and tree.connection.ended_by_nonsense:
                    # Samba 4.17 answers with other memory of its where a chained READ_ANDX meets a lock.
                    log.info(
                        "the server breaks down over what is chained to an open: first bytes are read on their own"
                    )
                    tree.chains = False
                close_when_done(tree, exchange, functools.partial(opening.fid, tree))
                if isinstance(error, ConnectionLost) and exchange.sent:
                    raise error.of_request(sent=True) from None  # not what it met has left, perhaps; but the open has
                raise
            finally:
                if query is not None:
                    query.give_up()
            return Handle(tree, opening.way, opened, stat, first, oplock)


def read_request(tree: Smb1Tree, fid: int, offset: int, length: int) -> Message:
    """Return the READ_ANDX for a piece of a file.  Raises Unsupported if the server cannot count that far."""
    if tree.has(Capabilities.LARGE_FILES):
        return Read(fid, offset, length)
    if offset > LARGEST_SHORT_OFFSET:
        raise too_far("the server reads no more than 4 GiB of a file")
    return ReadRequest.at(fid, offset, length, large_files=False)


def _makes_read_only(tree: Smb1Tree, intent: OpenIntent) -> bool:
    return intent.mode is not None and not intent.mode & 0o222 and not tree.posix


def _chained_read(tree: Smb1Tree, opening: Opening, first_bytes: int) -> int:
    """Return how many bytes a READ_ANDX behind the open is to bring, 0 for none.

    An open that may make a file brings nothing: it could not be repeated if the server does not execute chains.
    """
    if opening.way is Way.POSIX or not tree.chains or not opening.read or opening.creation is not Creation.NEVER:
        return 0
    return 0 if opening.truncate else tree.chained_read(first_bytes, OPEN_OVERHEAD)


def _learns(tree: Smb1Tree, opening: Opening, refused: int, chained: int) -> bool:
    """Tell whether to open once more, because the server turns out not to know what was asked of it."""
    if refused in NOT_KNOWN and opening.way is Way.ANDX and not tree.opens_nt and tree.has(Capabilities.NT_SMBS):
        log.info("the server does not know OPEN_ANDX (0x%08X): files are opened with NT_CREATE_ANDX", refused)
        tree.opens_nt = True
        return True
    if refused in NOT_KNOWN and opening.way is Way.POSIX:
        log.info("the server does not know POSIX_PATH_OPEN (0x%08X): files are opened with NT_CREATE_ANDX", refused)
        tree.do_without_posix_opens()
        return True
    if chained and refused in _CHAIN_NOT_KNOWN:
        log.info("the server does not execute chains (0x%08X): first bytes are read on their own", refused)
        tree.chains = False
        return True
    return False


async def _described(tree: Smb1Tree, opening: Opening, query: StatQuery | None, refused: int) -> FileStat | None:
    """Return what the path stands for, None if nobody says; raises what the open was refused with."""
    if not refused and query is None:
        return None
    found: FileStat | None = None
    try:
        found = await (query or StatQuery(tree, opening.path)).result()
    except StatusError as error:
        log.debug("a file cannot be described: %s", error)
    if not refused:
        return found
    if found is not None and opening.creation is Creation.EXCLUSIVE:
        refused = NtStatus.OBJECT_NAME_COLLISION  # whatever it is: Samba says of a folder that it is one
    elif found is not None:
        _want_file(found, is_directory=False, path=opening.path)
    raise status.error(refused, "open", opening.path)


def _want_file(found: FileStat, is_directory: bool, path: str) -> None:
    """Raise WrongKind for what cannot be opened as a file: EISDIR for a folder, ELOOP for a symlink."""
    if is_directory or found.kind is Kind.DIRECTORY:
        raise status.error(NtStatus.FILE_IS_A_DIRECTORY, "open", path)
    if found.kind is Kind.SYMLINK:
        raise WrongKind(f"{path!r} is a symlink", status=NtStatus.STOPPED_ON_SYMLINK, errno=errno.ELOOP)


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
