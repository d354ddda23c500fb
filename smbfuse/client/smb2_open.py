"""Opening a file over SMB2: from an `OpenIntent` to one compound, and what to do without if the server refuses it."""

from __future__ import annotations

import errno as posix
import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import trio

from smbfuse import status
from smbfuse.client import smb2_requests
from smbfuse.client.smb2_changes import resize
from smbfuse.client.smb2_durable import Claim, reconnect
from smbfuse.client.smb2_files import PAUSES_S, Smb2File
from smbfuse.client.smb2_tree import succeeded
from smbfuse.engine.smb2_exchange import Reply, Request
from smbfuse.errors import ConnectionLost, Denied, SessionGone, SmbError, StatusError, WrongKind
from smbfuse.share import Creation, DurableOpen, Features, FileStat, Opened, OpenIntent
from smbfuse.status import NtStatus
from smbfuse.wire.fscc import FileAttributes
from smbfuse.wire.smb2.create import Access, CreateOptions, CreateResponse, Disposition
from smbfuse.wire.smb2.header import RELATED_FILE_ID, Command
from smbfuse.wire.smb2.io import encode_read

if TYPE_CHECKING:
    from smbfuse.client.smb2_tree import Smb2Tree

log = logging.getLogger(__name__)

_WRITE_BITS: Final = 0o222
_DIRECTORY: Final = int(FileAttributes.DIRECTORY)

_LOOKING: Final = Access.FILE_READ_ATTRIBUTES | Access.SYNCHRONIZE
_READING: Final = _LOOKING | Access.FILE_READ_DATA

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
    if intent.durable is not None and isinstance(intent.durable.claim, Claim):
        return await _reclaim(tree, path, intent, intent.durable, intent.durable.claim)
    return await _Opening(tree, path, intent).finish()


async def open_ahead(tree: Smb2Tree, files: Sequence[tuple[str, OpenIntent]], opened: Opened) -> None:
    """Open several files at once; see `Share.open_ahead`.  Cost: as `open_file`, once for all of them."""
    waiting: dict[int, _Opening] = {}

    def ended(index: int) -> None:
        try:
            result: Smb2File | SmbError = waiting.pop(index).result()
        except SmbError as error:
            result = error
        opened(index, result)

    try:
        for index, (path, intent) in enumerate(files):
            waiting[index] = _Opening(tree, path, intent)
        await tree.connection.perform_each([opening.exchange for opening in waiting.values()], ended)
    finally:
        for opening in waiting.values():
            opening.give_up()


async def _reclaim(tree: Smb2Tree, path: str, intent: OpenIntent, durable: DurableOpen, claim: Claim) -> Smb2File:
    """Get a lost open back from the server.  Raises: what it is refused with, for good."""
    pauses = iter(PAUSES_S)
    while True:
        keeps = claim.lease is not None or not tree.grants.version
        asking = tree.grants.ask(tree, path, intent.holder, intent.wanted) if keeps else None
        level, contexts = (claim.oplock_level, ()) if asking is None else (asking.oplock_level, asking.contexts)
        try:
            request = reconnect(tree, path, claim, level, contexts)
        except SmbError:  # a path that no CREATE can hold
            if asking is not None:
                asking.withdrawn()
            raise
        try:
            created, _ = await tree.opening(path, (request,), asking)
            file = Smb2File(tree, claim.completed(created), path, writes=intent.write, durable=durable)
        except SessionGone:
            raise
        except StatusError as error:
            # Another server of a cluster is about to take over, or the loss has not been noticed yet.
            pause = next(pauses, None) if error.status == NtStatus.FILE_NOT_AVAILABLE else None
            if pause is None:
                tree.durability.refused(durable, claim)
                raise
            await trio.sleep(pause)
            continue
        tree.durability.reclaimed(durable, claim, created.file_id)
        return file


class _Opening:
    """One compound on its way: submitted when made, with less and less in it until the server takes it."""

    def __init__(self, tree: Smb2Tree, path: str, intent: OpenIntent) -> None:
        self._tree = tree
        self._path = path
        self._intent = intent
        self._holder = intent.holder
        self._replayable = False  # the server knows the CREATE again, by its CreateGuid
        self._accesses = _accesses(intent)
        self._access = next(self._accesses)
        self._first_bytes = 0 if intent.truncate or not intent.read else min(intent.first_bytes, tree.largest_read())
        self._submit()

    def _submit(self) -> None:
        tree, intent = self._tree, self._intent
        self._asking = tree.grants.ask(tree, self._path, self._holder, intent.wanted)
        contexts = smb2_requests.ON_DISK
        if intent.durable is not None:
            question = tree.durability.question(intent.durable, intent.wanted, asks=self._asking is not None)
            contexts += question
            self._replayable = bool(question) and tree.durability.version > 1
        try:
            requests = [
                tree.create(
                    self._path,
                    self._access,
                    CreateOptions.NON_DIRECTORY_FILE,
                    disposition=_DISPOSITION[intent.creation],
                    attributes=_attributes(tree, intent),
                    mode=intent.mode,
                    asking=self._asking,
                    contexts=contexts,
                )
            ]
        except SmbError:  # a path that no CREATE can hold
            if self._asking is not None:
                self._asking.withdrawn()
            raise
        if self._replayable and intent.durable is not None and intent.durable.in_doubt:
            requests[0] = requests[0]._replace(replay=True)
        if intent.truncate:
            requests += (resize(0), tree.query())
        if self._first_bytes:
            body = encode_read(RELATED_FILE_ID, 0, self._first_bytes)
            requests.append(Request(Command.READ, body, payload=self._first_bytes))
        self.exchange = tree.begin_opening(requests, self._asking)

    def give_up(self) -> None:
        """Want the file no longer: it is closed as soon as it is open."""
        self._tree.give_up(self.exchange, self._asking)

    async def finish(self) -> Smb2File:
        """Return the open file; see `open_file`."""
        while True:
            try:
                replies = await self._tree.replies_to(self.exchange, self._asking)
            except ConnectionLost:
                if self._replayable and self._intent.durable is not None:
                    self._intent.durable.in_doubt |= self.exchange.sent
                raise
            try:
                created = self._tree.created(self._path, replies, self._asking)
            except StatusError as error:
                durable = self._intent.durable
                if error.status == NtStatus.DUPLICATE_OBJECTID and durable is not None and durable.key:
                    # It was executed, and is not given to this session: what is asked for now is another open.
                    durable.key, durable.in_doubt = b"", False
                elif error.status == NtStatus.INVALID_PARAMETER and self._asking is not None:
                    self._holder = None  # a key belongs to one path: another name of the file must do without
                else:
                    less = next(self._accesses, None) if error.status == NtStatus.ACCESS_DENIED else None
                    if less is None:
                        raise _explained(error, self._intent, self._path) from None
                    self._access = less
                self._submit()
                continue
            return self._file(created, replies)

    def result(self) -> Smb2File:
        """Return the open file, now that the exchange has ended; with no second attempt."""
        if self.exchange.error is not None:
            self.give_up()
            raise self.exchange.error
        replies = self.exchange.replies
        return self._file(self._tree.created(self._path, replies, self._asking), replies)

    def _file(self, created: CreateResponse, replies: Sequence[Reply]) -> Smb2File:
        tree, path, intent = self._tree, self._path, self._intent
        file = Smb2File(tree, created, path, writes=intent.write, durable=intent.durable)
        if intent.durable is not None:
            tree.durability.opened(tree, intent.durable, created, self._asking)
        try:
            if created.file_attributes & _DIRECTORY:  # some servers do not look at the options
                raise status.error(NtStatus.FILE_IS_A_DIRECTORY, Command.CREATE.name, path)
            if intent.truncate:
                succeeded(replies[1], Command.SET_INFO, path)
                file.stat = _emptied(tree, file.stat, replies[2], created, path)
            elif self._first_bytes:
                file.first = _first_bytes(file, replies[1], self._first_bytes)
        except SmbError:
            file.close()
            raise
        return file


def _accesses(intent: OpenIntent) -> Iterator[Access]:
    """Yield what access to ask for, from the best to the barest.

    Not everybody who may write a file may also set its times; and Samba (4.17) lets nobody see the attributes of a file
    along with its writing who may not read it.
    """
    access = _READING if intent.read else _LOOKING
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
