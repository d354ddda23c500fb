"""Directory pages: chains of entries, each at the offset that the one before tells.  [MS-FSCC] 2.4.8 to 2.4.19.

The walker is hot: a page of 1 MiB holds some 8,000 entries. One unpack, one slice and one tuple each.
"""

from collections.abc import Sequence
from struct import Struct
from typing import Final, NamedTuple

from smbfuse.errors import DecodeError
from smbfuse.wire.dtyp import encode_utf16
from smbfuse.wire.fscc import FileAttributes, FileInformation
from smbfuse.wire.record import Buffer

_ALIGNMENT: Final = 8
_REPARSE_POINT: Final = int(FileAttributes.REPARSE_POINT)


class DirectoryEntry(NamedTuple):
    """One entry as the server sent it. Times are FILETIMEs; what a class lacks is 0."""

    file_name: str
    creation_time: int
    last_access_time: int
    last_write_time: int
    change_time: int
    end_of_file: int
    allocation_size: int
    file_attributes: int
    ea_size: int = 0  # the reparse tag where FILE_ATTRIBUTE_REPARSE_POINT is set
    file_id: int = 0

    @property
    def reparse_tag(self) -> int:
        """The kind of reparse point, 0 for what is none."""
        return self.ea_size if self.file_attributes & _REPARSE_POINT else 0


class _Layout(NamedTuple):
    """One information class: its fixed part, and where the two fields are that not all classes have."""

    struct: Struct
    ea_size: bool
    file_id: bool
    short_name: bool


# NextEntryOffset, FileIndex, CreationTime, LastAccessTime, LastWriteTime, ChangeTime, EndOfFile, AllocationSize,
# FileAttributes, FileNameLength; then EaSize; then ShortNameLength, ShortName; then FileId.
_DIRECTORY: Final = "<IIQQQQqqII"

_LAYOUTS: Final = {
    FileInformation.DIRECTORY: _Layout(Struct(_DIRECTORY), ea_size=False, file_id=False, short_name=False),
    FileInformation.FULL_DIRECTORY: _Layout(Struct(_DIRECTORY + "I"), ea_size=True, file_id=False, short_name=False),
    FileInformation.BOTH_DIRECTORY: _Layout(
        Struct(_DIRECTORY + "IBx24s"), ea_size=True, file_id=False, short_name=True
    ),
    FileInformation.ID_BOTH_DIRECTORY: _Layout(
        Struct(_DIRECTORY + "IBx24s2xQ"), ea_size=True, file_id=True, short_name=True
    ),
    FileInformation.ID_FULL_DIRECTORY: _Layout(
        Struct(_DIRECTORY + "I4xQ"), ea_size=True, file_id=True, short_name=False
    ),
}


def decode_page(kind: FileInformation, page: Buffer) -> list[DirectoryEntry]:
    """Read a page of one of the five directory information classes; an empty page has no entries.

    Raises DecodeError for an entry or a name that does not lie inside the page or runs into the next entry.
    """
    layout = _LAYOUTS[kind]
    unpack, fixed, has_ea_size, has_file_id = layout.struct.unpack_from, layout.struct.size, *layout[1:3]
    data = bytes(page)  # one copy: names are sliced and decoded from bytes twice as fast as from a view
    size = len(data)
    entries: list[DirectoryEntry] = []
    at = 0
    while at < size:
        if at + fixed > size:
            raise DecodeError(f"directory entry at {at}: {size - at} of {fixed} bytes")
        fields = unpack(data, at)
        step, name_length = fields[0], fields[9]
        start = at + fixed
        end = start + name_length
        if end > (at + step if step else size) or end > size or name_length & 1:
            raise DecodeError(f"directory entry at {at}: name of {name_length} bytes, next entry at {step}")
        name = data[start:end].decode("utf-16-le", "surrogatepass")
        ea_size = fields[10] if has_ea_size else 0
        file_id = fields[-1] if has_file_id else 0
        entries.append(DirectoryEntry._make((name, *fields[2:9], ea_size, file_id)))
        if not step:
            return entries
        at += step  # at least `fixed`, or the name check would have failed
    if at - size >= _ALIGNMENT:
        raise DecodeError(f"directory entry at {at} in a page of {size} bytes")
    return entries  # SMB1 servers let the last entry point to the end, or to where its padding would end


def encode_page(kind: FileInformation, entries: Sequence[DirectoryEntry]) -> bytes:
    """Return a page of one of the five directory information classes; short names are left empty."""
    layout = _LAYOUTS[kind]
    page = bytearray()
    for number, entry in enumerate(entries, 1):
        name = encode_utf16(entry.file_name)
        length = layout.struct.size + len(name)
        step = 0 if number == len(entries) else length + -length % _ALIGNMENT
        rest: list[int | bytes] = [entry.ea_size] if layout.ea_size else []
        rest += [0, b""] if layout.short_name else []
        rest += [entry.file_id] if layout.file_id else []
        page += layout.struct.pack(step, 0, *entry[1:8], len(name), *rest) + name
        if step:
            page += bytes(step - length)
    return bytes(page)
