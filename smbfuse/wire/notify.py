"""What servers tell of a watched folder, and what they may be asked to tell.  [MS-FSCC] 2.7.1, [MS-SMB2] 2.2.35.

The same in every dialect: names are UTF-16 paths below the watched folder, with backslashes.
"""

import enum
from collections.abc import Iterable
from struct import Struct
from typing import Final, NamedTuple

from smbfuse.errors import DecodeError
from smbfuse.wire.dtyp import decode_utf16, encode_utf16
from smbfuse.wire.record import Buffer, view

ALIGNMENT: Final = 4

_HEAD: Final = Struct("<III")  # NextEntryOffset, Action, FileNameLength


class NotifyAction(enum.IntEnum):
    """What happened to a name.  [MS-FSCC] 2.7.1."""

    ADDED = 0x1
    REMOVED = 0x2
    MODIFIED = 0x3
    RENAMED_OLD_NAME = 0x4
    RENAMED_NEW_NAME = 0x5
    ADDED_STREAM = 0x6
    REMOVED_STREAM = 0x7
    MODIFIED_STREAM = 0x8
    REMOVED_BY_DELETE = 0x9


class CompletionFilter(enum.IntFlag):
    """Which changes are to be told.  [MS-SMB2] 2.2.35, [MS-CIFS] 2.2.7.4.1."""

    FILE_NAME = 0x001
    DIR_NAME = 0x002
    ATTRIBUTES = 0x004
    SIZE = 0x008
    LAST_WRITE = 0x010
    LAST_ACCESS = 0x020
    CREATION = 0x040
    EA = 0x080
    SECURITY = 0x100
    STREAM_NAME = 0x200
    STREAM_SIZE = 0x400
    STREAM_WRITE = 0x800


class FileNotifyInformation(NamedTuple):
    """One change: what happened, a `NotifyAction` or a number that nobody knows yet, and to which path."""

    action: int
    file_name: str


def encode_notifications(told: Iterable[FileNotifyInformation]) -> bytes:
    """Return a FILE_NOTIFY_INFORMATION chain."""
    links = [(one.action, encode_utf16(one.file_name)) for one in told]
    chain = bytearray()
    for number, (action, name) in enumerate(links, 1):
        length = _HEAD.size + len(name)
        step = 0 if number == len(links) else length + -length % ALIGNMENT
        chain += _HEAD.pack(step, action, len(name)) + name
        if step:
            chain += bytes(step - length)
    return bytes(chain)


def decode_notifications(chain: Buffer) -> list[FileNotifyInformation]:
    """Read a FILE_NOTIFY_INFORMATION chain; an empty one tells nothing.

    Raises DecodeError for what does not lie inside the chain, for entries that overlap, and for half a character.
    """
    told: list[FileNotifyInformation] = []
    data = memoryview(chain)
    at = 0
    while at < len(data):
        step, action, length = _HEAD.unpack(view(data, at, _HEAD.size, "notification"))
        name = view(data, at + _HEAD.size, length, "name of a notification")
        if length & 1 or (step and step < _HEAD.size + length):
            raise DecodeError(f"notification at {at}: name of {length} bytes, next entry at {step}")
        told.append(FileNotifyInformation(action, decode_utf16(name)))
        if not step:
            return told
        at += step
    if told:
        raise DecodeError(f"notification at {at} in {len(data)} bytes")
    return told
