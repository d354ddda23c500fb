"""SIDs, and as much of security descriptors as names an owner, a group or a mode.  [MS-DTYP] 2.4.2 to 2.4.6."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from struct import Struct
from typing import Final, NamedTuple, Self

from smbfuse.errors import DecodeError
from smbfuse.wire.record import Buffer, view

SID_HEAD_SIZE: Final = 8
MOST_SUB_AUTHORITIES: Final = 15

_NT_AUTHORITY: Final = 5
_NFS: Final = 88  # S-1-5-88: owners, groups and modes of Windows' NFS server
_UNIX_AUTHORITY: Final = 22  # S-1-22: Samba's users and groups that no domain knows
_USER: Final = 1
_GROUP: Final = 2
_MODE: Final = 3


class Sid(NamedTuple):
    """A security identifier, revision 1.  [MS-DTYP] 2.4.2."""

    authority: int
    sub_authorities: tuple[int, ...]

    def __str__(self) -> str:
        return "-".join(map(str, ("S-1", self.authority, *self.sub_authorities)))

    def encode(self) -> bytes:
        """Return 8 bytes, and 4 for each sub-authority."""
        head = bytes((1, len(self.sub_authorities))) + self.authority.to_bytes(6, "big")
        return head + Struct(f"<{len(self.sub_authorities)}I").pack(*self.sub_authorities)

    @classmethod
    def decode(cls, data: Buffer) -> Self:
        """Read a SID that fills `data`; raises DecodeError."""
        sid = bytes(data)
        if len(sid) != sid_size(sid, 0) or sid[0] != 1:
            raise DecodeError(f"SID: revision {sid[0]} in {len(sid)} bytes")
        return cls(int.from_bytes(sid[2:8], "big"), Struct(f"<{sid[1]}I").unpack_from(sid, SID_HEAD_SIZE))


def sid_size(data: bytes, at: int) -> int:
    """Return how many bytes the SID at `at` takes; raises DecodeError if it does not lie inside `data`."""
    if at + SID_HEAD_SIZE > len(data):
        raise DecodeError(f"SID at {at} in {len(data)} bytes")
    size = SID_HEAD_SIZE + 4 * data[at + 1]
    if data[at + 1] > MOST_SUB_AUTHORITIES or at + size > len(data):
        raise DecodeError(f"SID at {at}: {data[at + 1]} sub-authorities in {len(data)} bytes")
    return size


def unix_user(uid: int) -> Sid:
    """Return S-1-22-1-uid, as Samba names a user."""
    return Sid(_UNIX_AUTHORITY, (_USER, uid))


def unix_group(gid: int) -> Sid:
    """Return S-1-22-2-gid, as Samba names a group."""
    return Sid(_UNIX_AUTHORITY, (_GROUP, gid))


def nfs_mode(mode: int) -> Sid:
    """Return S-1-5-88-3-mode, with which Windows' NFS server writes permission bits down."""
    return Sid(_NT_AUTHORITY, (_NFS, _MODE, mode & 0o7777))


@lru_cache(maxsize=1024)
def user_id(sid: bytes) -> int | None:
    """Return the uid that an encoded SID tells by itself; None where only the server's domain could say."""
    return _number(Sid.decode(sid), _USER)


@lru_cache(maxsize=1024)
def group_id(sid: bytes) -> int | None:
    """Return the gid that an encoded SID tells by itself, as `user_id`."""
    return _number(Sid.decode(sid), _GROUP)


def _number(sid: Sid, kind: int) -> int | None:
    match sid:
        case (5, (88, found, number)) | (22, (found, number)) if found == kind:
            return number
    return None


class SecurityInformation:
    """Which parts of a descriptor are meant.  [MS-DTYP] 2.4.7."""

    OWNER: Final = 0x1
    GROUP: Final = 0x2
    DACL: Final = 0x4


# Revision, Sbz1, Control, OffsetOwner, OffsetGroup, OffsetSacl, OffsetDacl
_DESCRIPTOR: Final = Struct("<BxHIIII")
_ACL: Final = Struct("<BxHH2x")  # AclRevision, AclSize, AceCount
_ACE: Final = Struct("<BBHI")  # AceType, AceFlags, AceSize, Mask
_SELF_RELATIVE: Final = 0x8000
_DACL_PRESENT: Final = 0x4


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A self-relative SECURITY_DESCRIPTOR, its SACL left out.  [MS-DTYP] 2.4.6.

    `dacl` is the encoded ACL; None: none is there, which is not the same as an empty one.
    """

    owner: Sid | None = None
    group: Sid | None = None
    dacl: bytes | None = None

    def encode(self) -> bytes:
        """Return the whole descriptor."""
        parts = [sid.encode() if sid is not None else b"" for sid in (self.owner, self.group)]
        parts += [b"", self.dacl or b""]
        offsets = []
        at = _DESCRIPTOR.size
        for part in parts:
            offsets.append(at if part else 0)
            at += len(part)
        control = _SELF_RELATIVE | (_DACL_PRESENT if self.dacl is not None else 0)
        return _DESCRIPTOR.pack(1, control, *offsets) + b"".join(parts)

    @classmethod
    def decode(cls, data: Buffer) -> Self:
        """Read owner, group and DACL; raises DecodeError."""
        head = view(data, 0, _DESCRIPTOR.size, "security descriptor")
        revision, control, owner_at, group_at, _, dacl_at = _DESCRIPTOR.unpack(head)
        if revision != 1 or not control & _SELF_RELATIVE:
            raise DecodeError(f"security descriptor: revision {revision}, control 0x{control:04X}")
        dacl = None
        if control & _DACL_PRESENT and dacl_at:
            _, size, _ = _ACL.unpack(view(data, dacl_at, _ACL.size, "ACL"))
            dacl = bytes(view(data, dacl_at, max(size, _ACL.size), "ACL"))
        return cls(_sid_at(bytes(data), owner_at), _sid_at(bytes(data), group_at), dacl)

    @property
    def parts(self) -> int:
        """Which of its parts are there, as `SecurityInformation` names them."""
        found = SecurityInformation.OWNER if self.owner is not None else 0
        found |= SecurityInformation.GROUP if self.group is not None else 0
        return found | (SecurityInformation.DACL if self.dacl is not None else 0)


def allowing(trustees: Sequence[Sid], mask: int = 0) -> bytes:
    """Return an ACL that allows `mask` to each trustee.  [MS-DTYP] 2.4.5, 2.4.4.2."""
    entries = b""
    for trustee in trustees:
        sid = trustee.encode()
        entries += _ACE.pack(0, 0, _ACE.size + len(sid), mask) + sid
    return _ACL.pack(2, _ACL.size + len(entries), len(trustees)) + entries


def _sid_at(data: bytes, at: int) -> Sid | None:
    return Sid.decode(data[at : at + sid_size(data, at)]) if at else None
