"""Reparse points: symlinks, mount points, and the special files of NFS servers and WSL.  [MS-FSCC] 2.1.2.

WSL's FIFOs, sockets and devices have no data: the tag tells what they are, and the number of a device stands in the
extended attribute $LXDEV (`encode_wsl_device`).
"""

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final, Self

from smbfuse.errors import DecodeError
from smbfuse.wire.dtyp import decode_utf16, encode_utf16
from smbfuse.wire.record import Buffer, view


class ReparseTag(IntEnum):
    """The kinds that a POSIX client can show.  [MS-FSCC] 2.1.2.1."""

    MOUNT_POINT = 0xA0000003
    SYMLINK = 0xA000000C
    NFS = 0x80000014
    AF_UNIX = 0x80000023
    LX_SYMLINK = 0xA000001D
    LX_FIFO = 0x80000024
    LX_CHR = 0x80000025
    LX_BLK = 0x80000026


SYMLINK_FLAG_RELATIVE: Final = 1

_HEAD: Final = Struct("<IH2x")  # ReparseTag, ReparseDataLength
_SYMLINK: Final = Struct("<HHHHI")  # substitute offset and length, print offset and length, Flags
_MOUNT_POINT: Final = Struct("<HHHH")
_NFS: Final = Struct("<Q")  # InodeType
_NFS_DEVICE: Final = Struct("<II")  # major, minor
_WSL_SYMLINK: Final = Struct("<I")  # layout version, 2
_WSL_DEVICE: Final = Struct("<II")  # major, minor

WSL_MODE: Final = "$LXMOD"  # the extended attribute that holds st_mode, 4 bytes
WSL_DEVICE: Final = "$LXDEV"


class NfsType(IntEnum):
    """InodeType of an NFS reparse point: the letters of the name, read as a little-endian number."""

    SYMLINK = 0x014B4E4C
    FIFO = 0x4F464946
    SOCKET = 0x4B434F53
    CHARACTER = 0x00524843
    BLOCK = 0x004B4C42


@dataclass(frozen=True, slots=True)
class SymlinkReparse:
    """Symbolic Link Reparse Data Buffer.  [MS-FSCC] 2.1.2.4. `flags` has SYMLINK_FLAG_RELATIVE or not."""

    substitute_name: str
    print_name: str
    flags: int = 0

    tag = ReparseTag.SYMLINK

    @property
    def relative(self) -> bool:
        return bool(self.flags & SYMLINK_FLAG_RELATIVE)

    def encode_data(self) -> bytes:
        """Return what follows the tag and the length."""
        substitute, printed = encode_utf16(self.substitute_name), encode_utf16(self.print_name)
        head = _SYMLINK.pack(0, len(substitute), len(substitute), len(printed), self.flags)
        return head + substitute + printed

    @classmethod
    def decode_data(cls, data: memoryview) -> Self:
        """Read what follows the tag and the length; raises DecodeError."""
        _check(data, _SYMLINK, "symlink reparse data")
        at, length, print_at, print_length, flags = _SYMLINK.unpack_from(data)
        names = data[_SYMLINK.size :]
        substitute = view(names, at, length, "symlink substitute name")
        printed = view(names, print_at, print_length, "symlink print name")
        return cls(decode_utf16(substitute), decode_utf16(printed), flags)


@dataclass(frozen=True, slots=True)
class MountPointReparse:
    """Mount Point Reparse Data Buffer.  [MS-FSCC] 2.1.2.5. Names are NUL-terminated on the wire, not here."""

    substitute_name: str
    print_name: str

    tag = ReparseTag.MOUNT_POINT

    def encode_data(self) -> bytes:
        """Return what follows the tag and the length."""
        substitute, printed = encode_utf16(self.substitute_name), encode_utf16(self.print_name)
        head = _MOUNT_POINT.pack(0, len(substitute), len(substitute) + 2, len(printed))
        return head + substitute + b"\0\0" + printed + b"\0\0"

    @classmethod
    def decode_data(cls, data: memoryview) -> Self:
        """Read what follows the tag and the length; raises DecodeError."""
        _check(data, _MOUNT_POINT, "mount point reparse data")
        at, length, print_at, print_length = _MOUNT_POINT.unpack_from(data)
        names = data[_MOUNT_POINT.size :]
        substitute = view(names, at, length, "mount point substitute name")
        printed = view(names, print_at, print_length, "mount point print name")
        return cls(decode_utf16(substitute), decode_utf16(printed))


@dataclass(frozen=True, slots=True)
class NfsReparse:
    """Network File System Reparse Data Buffer.  [MS-FSCC] 2.1.2.6.

    `target` is a symlink's, `device` (major, minor) a device node's; other types have neither.
    """

    inode_type: int
    target: str = ""
    device: tuple[int, int] | None = None

    tag = ReparseTag.NFS

    def encode_data(self) -> bytes:
        """Return what follows the tag and the length."""
        device = _NFS_DEVICE.pack(*self.device) if self.device is not None else b""
        return _NFS.pack(self.inode_type) + encode_utf16(self.target) + device

    @classmethod
    def decode_data(cls, data: memoryview) -> Self:
        """Read what follows the tag and the length; raises DecodeError."""
        _check(data, _NFS, "NFS reparse data")
        (inode_type,) = _NFS.unpack_from(data)
        rest = data[_NFS.size :]
        if inode_type == NfsType.SYMLINK:
            return cls(inode_type, target=decode_utf16(rest))
        if inode_type in (NfsType.CHARACTER, NfsType.BLOCK):
            _check(rest, _NFS_DEVICE, "NFS device number")
            major, minor = _NFS_DEVICE.unpack_from(rest)
            return cls(inode_type, device=(major, minor))
        return cls(inode_type)


@dataclass(frozen=True, slots=True)
class WslSymlinkReparse:
    """The symlink of WSL (tag LX_SYMLINK): a version and the target in UTF-8.  [MS-FSCC] 2.1.2.7."""

    target: str
    version: int = 2

    tag = ReparseTag.LX_SYMLINK

    def encode_data(self) -> bytes:
        """Return what follows the tag and the length."""
        return _WSL_SYMLINK.pack(self.version) + self.target.encode("utf-8", "surrogateescape")

    @classmethod
    def decode_data(cls, data: memoryview) -> Self:
        """Read what follows the tag and the length; bytes that are no UTF-8 are kept as lone surrogates."""
        _check(data, _WSL_SYMLINK, "WSL symlink reparse data")
        (version,) = _WSL_SYMLINK.unpack_from(data)
        return cls(str(data[_WSL_SYMLINK.size :], "utf-8", "surrogateescape"), version)


@dataclass(frozen=True, slots=True)
class OtherReparse:
    """A reparse point of a kind whose data nobody here reads; its tag alone may tell what it is."""

    tag: int
    data: bytes

    def encode_data(self) -> bytes:
        """Return what follows the tag and the length."""
        return self.data


ReparsePoint = SymlinkReparse | MountPointReparse | NfsReparse | WslSymlinkReparse | OtherReparse

_DECODERS: Final = {
    cls.tag: cls.decode_data for cls in (SymlinkReparse, MountPointReparse, NfsReparse, WslSymlinkReparse)
}


def encode_wsl_device(device: tuple[int, int]) -> bytes:
    """Return the value of $LXDEV: major and minor."""
    return _WSL_DEVICE.pack(*device)


def decode_wsl_device(value: Buffer) -> tuple[int, int]:
    """Read the value of $LXDEV; raises DecodeError."""
    _check(memoryview(value), _WSL_DEVICE, "WSL device number")
    major, minor = _WSL_DEVICE.unpack_from(value)
    return major, minor


def encode(point: ReparsePoint) -> bytes:
    """Return a whole REPARSE_DATA_BUFFER.  [MS-FSCC] 2.1.2.2."""
    data = point.encode_data()
    return _HEAD.pack(point.tag, len(data)) + data


def decode(data: Buffer) -> ReparsePoint:
    """Read a whole REPARSE_DATA_BUFFER, as FSCTL_GET_REPARSE_POINT answers it; raises DecodeError."""
    whole = memoryview(data)
    _check(whole, _HEAD, "reparse point")
    tag, length = _HEAD.unpack_from(whole)
    body = view(whole, _HEAD.size, length, "reparse data")
    decoder = _DECODERS.get(tag)
    return decoder(body) if decoder is not None else OtherReparse(tag, bytes(body))


def _check(data: memoryview, layout: Struct, what: str) -> None:
    if len(data) < layout.size:
        raise DecodeError(f"{what}: {len(data)} of {layout.size} bytes")
