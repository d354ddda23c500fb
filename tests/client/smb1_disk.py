"""An SMB1 server in memory that takes changes, as old and as odd as a test wants it: `smb1_server.Server` with a disk.

Without NT commands it knows what LAN Manager knew, and the oldest commands for the rest. With them it is like Windows
NT 4: sizes and times are set by handle only, and no rename replaces.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from smbfuse.status import NtStatus
from smbfuse.wire.fscc import FileBasicInformation, FileStandardInformation
from smbfuse.wire.fscc_changes import FileDispositionInformation, FileEndOfFileInformation
from smbfuse.wire.smb1 import changes, files, levels, names, trans2, transaction, write
from smbfuse.wire.smb1.changes import SetLevel
from smbfuse.wire.smb1.files import NtDisposition, OpenMode, OpenResult
from smbfuse.wire.smb1.header import Command
from smbfuse.wire.smb1.levels import PathLevel
from smbfuse.wire.smb1.message import Block, Message
from smbfuse.wire.smb1.negotiate import Capabilities
from smbfuse.wire.smb1.trans2 import Subcommand
from tests.client.smb1_server import FILETIME, WRITTEN, ZONE_MINUTES, Nothing, Refused, Server

_MAKES: Final = {NtDisposition.CREATE, NtDisposition.OPEN_IF, NtDisposition.OVERWRITE_IF}
_EMPTIES: Final = {NtDisposition.OVERWRITE, NtDisposition.OVERWRITE_IF}


@dataclass
class Disk(Server):
    """`most_written` bytes are taken of one write; `lan_manager`: SET_PATH_INFORMATION is known."""

    most_written: int = 1 << 20
    lan_manager: bool = True
    folders: set[str] = field(default_factory=set)
    attributes: dict[str, int] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)  # seconds since 1970
    flushed: list[str] = field(default_factory=list)

    @property
    def is_nt(self) -> bool:
        return bool(self.capabilities & Capabilities.NT_SMBS)

    def _known(self, path: str, *, folder: bool = False) -> str:
        name = path.lstrip("\\")
        if folder and name in self.folders:
            return name
        return super()._known(path, folder=folder)

    def _reply(self, block: Block) -> Message:
        strings = self.strings
        match block.command:
            case Command.OPEN_ANDX if self.open_andx:
                return self._open_andx(files.OpenAndxRequest.decode_block(block, strings))
            case Command.NT_CREATE_ANDX if self.is_nt:
                return self._nt_create(files.NtCreateRequest.decode_block(block, strings))
            case Command.WRITE_ANDX:
                return self._write(write.WriteRequest.decode_block(block, strings))
            case Command.WRITE:
                asked = write.SetEndRequest.decode_block(block, strings)
                self._resize(self._opens[asked.fid], asked.offset)
            case Command.FLUSH:
                self.flushed.append(self._opens[write.FlushRequest.decode_block(block, strings).fid])
            case Command.CREATE_DIRECTORY:
                self.folders.add(self._free(names.CreateDirectoryRequest.decode_block(block, strings).name))
            case Command.DELETE_DIRECTORY:
                path = names.DeleteDirectoryRequest.decode_block(block, strings).name
                self.folders.remove(self._known(path, folder=True))
            case Command.DELETE:
                del self.files[self._known(names.DeleteRequest.decode_block(block, strings).name)]
            case Command.RENAME:
                renamed = names.RenameRequest.decode_block(block, strings)
                self._rename(self._known(renamed.old_name), self._free(renamed.new_name))
            case Command.NT_RENAME if self.is_nt:
                linked = names.NtRenameRequest.decode_block(block, strings)
                assert linked.information_level == names.NtRenameLevel.SET_LINK_INFO
                self.files[self._free(linked.new_name)] = self.files[self._known(linked.old_name)]
            case Command.SET_INFORMATION:
                self._set_information(names.SetInformationRequest.decode_block(block, strings))
            case Command.SET_INFORMATION2:
                times = write.SetInformation2Request.decode_block(block, strings)
                self._set_dos_time(self._opens[times.fid], times.last_write_date, times.last_write_time)
            case Command.QUERY_INFORMATION:
                name = self._known(names.QueryInformationRequest.decode_block(block, strings).name, folder=True)
                is_file = name in self.files
                local = self.written.get(name, WRITTEN) - ZONE_MINUTES * 60
                known = self.attributes.get(name, 0x20) if is_file else 0x10
                return names.QueryInformationResponse(known, local, len(self.files.get(name, b"")))
            case _:
                return super()._reply(block)
        return Nothing(block.command)

    # --- files --------------------------------------------------------------------------------------------------------

    def _free(self, path: str) -> str:
        name = path.lstrip("\\")
        if any(name.casefold() == other.casefold() for other in (*self.files, *self.folders)):
            raise Refused(NtStatus.OBJECT_NAME_COLLISION)
        return name

    def _rename(self, old: str, new: str) -> None:
        self.files[new] = self.files.pop(old)
        for table in (self.attributes, self.written):
            if old in table:
                table[new] = table.pop(old)
        self._opens = {fid: new if name == old else name for fid, name in self._opens.items()}

    def _opened(self, path: str, *, makes: bool, takes: bool, empties: bool, attributes: int) -> tuple[str, bool]:
        """Return the name, and whether it was made."""
        name = path.lstrip("\\")
        if name in self.folders:
            raise Refused(NtStatus.FILE_IS_A_DIRECTORY)
        exists = name in self.files
        if exists and not takes:
            raise Refused(NtStatus.OBJECT_NAME_COLLISION)
        if not exists and not makes:
            raise Refused(NtStatus.OBJECT_NAME_NOT_FOUND)
        if not exists or empties:
            self.files[name] = b""
            self.attributes[name] = attributes | 0x20
        return name, not exists

    def _open_andx(self, asked: files.OpenAndxRequest) -> Message:
        mode = OpenMode(asked.open_mode)
        name, made = self._opened(
            asked.file_name,
            makes=OpenMode.CREATE in mode,
            takes=bool(mode & (OpenMode.OPEN | OpenMode.TRUNCATE)),
            empties=OpenMode.TRUNCATE in mode,
            attributes=asked.file_attrs,
        )
        done = OpenResult.CREATED if made else OpenResult.OPENED
        local = WRITTEN - ZONE_MINUTES * 60
        return files.OpenAndxResponse(self._open(name), 0x20, local, len(self.files[name]), 0, 0, 0, int(done))

    def _nt_create(self, asked: files.NtCreateRequest) -> Message:
        disposition = NtDisposition(asked.create_disposition)
        name, made = self._opened(
            asked.file_name,
            makes=disposition in _MAKES,
            takes=disposition != NtDisposition.CREATE,
            empties=disposition in _EMPTIES,
            attributes=asked.ext_file_attributes & 1,
        )
        size, fid, times = len(self.files[name]), self._open(name), (FILETIME, FILETIME, FILETIME, FILETIME)
        action = files.FILE_WAS_CREATED if made else 1
        return files.NtCreateResponse(0, fid, action, *times, self.attributes.get(name, 0x20), size, size, 0, 0, 0)

    def _write(self, asked: write.WriteRequest) -> Message:
        name = self._opens[asked.fid]
        offset = asked.offset | (asked.offset_high or 0) << 32
        data = asked.data[: self.most_written]
        content = self.files[name].ljust(offset, b"\0")
        self.files[name] = content[:offset] + data + content[offset + len(data) :]
        return write.WriteResponse(len(data), 0)

    def _resize(self, name: str, size: int) -> None:
        self.files[name] = self.files[name][:size].ljust(size, b"\0")

    # --- attributes ---------------------------------------------------------------------------------------------------

    def _set_information(self, asked: names.SetInformationRequest) -> None:
        name = self._known(asked.name)
        self.attributes[name] = asked.file_attributes
        if asked.last_write_time:
            self.written[name] = asked.last_write_time + ZONE_MINUTES * 60

    def _set_dos_time(self, name: str, date: int, clock: int) -> None:
        seconds = levels.dos_time_to_unix(date, clock, ZONE_MINUTES)
        if seconds is not None:
            self.written[name] = seconds

    def _standard(self, name: str) -> levels.InfoStandard:
        size = len(self.files.get(name, b""))
        known = self.attributes.get(name, 0x20) if name in self.files else 0x10
        date, clock = levels.unix_to_dos_time(self.written.get(name, WRITTEN), ZONE_MINUTES)
        return levels.InfoStandard(date, clock, date, clock, date, clock, size, size, known)

    def _information(self, level: int, name: str) -> bytes:
        if level == PathLevel.INFO_STANDARD:
            return super()._information(level, name)
        is_folder = name not in self.files
        written = FILETIME + (self.written.get(name, WRITTEN) - WRITTEN) * 10_000_000
        size = len(self.files.get(name, b""))
        known = 0x10 if is_folder else self.attributes.get(name, 0x20)
        basic = FileBasicInformation(FILETIME, FILETIME, written, FILETIME, known)
        standard = FileStandardInformation(size, size, 1, 0, int(is_folder))
        return levels.QueryFileAllInfo(basic, standard, 0, name).encode(self.strings)

    def _transaction(self, asked: transaction.TransactionRequest) -> transaction.TransactionPart:
        subcommand = asked.setup[0]
        if subcommand == Subcommand.QUERY_FILE_INFORMATION:
            question = trans2.QueryFileRequest.decode(asked.parameters)
            self._level(question.information_level)
            return _done(self._information(question.information_level, self._opens[question.fid]))
        if subcommand == Subcommand.SET_PATH_INFORMATION:
            by_path = changes.SetPathRequest.decode(asked.parameters, self.strings)
            if not self.lan_manager or by_path.information_level != SetLevel.INFO_STANDARD:
                raise Refused(NtStatus.INVALID_INFO_CLASS)
            times = changes.SetStandard.decode(asked.data)
            self._set_dos_time(self._known(by_path.file_name), times.last_write_date, times.last_write_time)
            return _done()
        if subcommand == Subcommand.SET_FILE_INFORMATION and self.is_nt:
            by_handle = changes.SetFileRequest.decode(asked.parameters)
            self._set_by_handle(by_handle.information_level, self._opens[by_handle.fid], asked.data)
            return _done()
        return super()._transaction(asked)

    def _set_by_handle(self, level: int, name: str, data: bytes) -> None:
        if level == SetLevel.SET_FILE_END_OF_FILE_INFO:
            self._resize(name, FileEndOfFileInformation.decode(data).end_of_file)
        elif level == SetLevel.SET_FILE_DISPOSITION_INFO:
            assert FileDispositionInformation.decode(data).delete_pending
            del self.files[name]
        else:
            assert level == SetLevel.SET_FILE_BASIC_INFO
            basic = FileBasicInformation.decode(data)
            if basic.last_write_time:
                self.written[name] = (basic.last_write_time - FILETIME) // 10_000_000 + WRITTEN
            self.attributes[name] = basic.file_attributes or self.attributes.get(name, 0x20)


def _done(data: bytes = b"") -> transaction.TransactionPart:
    return transaction.TransactionPart(Command.TRANSACTION2, 2, len(data), bytes(2), 0, data, 0)
