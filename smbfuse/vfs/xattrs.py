"""Extended attributes of files, as getfattr(1) and setfattr(1) know them from the kernel client.

    user.NAME                  an extended attribute (EA) of the server, with `user_xattr`
    user.cifs.dosattrib        the DOS attributes: 4 bytes, little-endian
    user.cifs.creationtime     when the file was made: a FILETIME, 8 bytes, little-endian
    system.cifs_acl            the security descriptor, with `cifsacl`: setting it sets the DACL alone
    system.cifs_ntsd           the same, but setting it sets owner and group too

`smb3` may stand for `cifs` in all of these. Listed are the EAs only. Everything else is EOPNOTSUPP without asking the
server: programs probe for `security.…` and `system.posix_acl_…` file by file.

Servers ignore the case of an EA's name, and some keep it in capitals: what is not there as it is spelled is looked for
in any case. The protocol knows no empty EA: setting an empty value removes it.
"""

import errno as posix
from collections.abc import Awaitable, Callable, Mapping, Sequence
from struct import Struct
from typing import Final, TypeVar

from smbfuse.config import View
from smbfuse.errors import SmbError
from smbfuse.share import Buffer, Change, FileStat, Share
from smbfuse.vfs.bypath import by_path
from smbfuse.vfs.inode import Node
from smbfuse.vfs.modes import settable
from smbfuse.vfs.names import from_wtf8, to_wtf8
from smbfuse.vfs.nodes import NodeTable
from smbfuse.vfs.times import from_filetime, is_time, to_filetime

T = TypeVar("T")

CREATE: Final = 1  # XATTR_CREATE of setxattr(2): it must not be there
REPLACE: Final = 2  # XATTR_REPLACE: it must be
LARGEST: Final = 0xFFFF  # bytes of one EA
LONGEST_NAME: Final = 255  # bytes of its name

_USER: Final = b"user."
_ATTRIBUTES: Final = frozenset({b"user.cifs.dosattrib", b"user.smb3.dosattrib"})
_CREATION_TIME: Final = frozenset({b"user.cifs.creationtime", b"user.smb3.creationtime"})
_ACL: Final = frozenset({b"system.cifs_acl", b"system.smb3_acl"})
_DESCRIPTOR: Final = frozenset({b"system.cifs_ntsd", b"system.smb3_ntsd"})

_U32: Final = Struct("<I")
_FILETIME: Final = Struct("<Q")
_OWNERS_AT: Final = slice(4, 12)  # OffsetOwner and OffsetGroup of a SECURITY_DESCRIPTOR.  [MS-DTYP] 2.4.6
_DESCRIPTOR_SIZE: Final = 20  # its fixed part


class ExtendedAttributes:
    """Reads and sets extended attributes.

    `refresh` brings what is known of an inode up to date, `apply` sets what is no EA; see `AttributeChanges.apply`.
    """

    def __init__(
        self,
        nodes: NodeTable,
        view: View,
        refresh: Callable[[int], Awaitable[object]],
        apply: Callable[[Node, Change], Awaitable[None]],
    ) -> None:
        self._nodes = nodes
        self._view = view
        self._refresh = refresh
        self._apply = apply

    @property
    def wanted(self) -> bool:
        """Whether the mount has extended attributes at all; without, they are best answered with ENOSYS, once."""
        return self._view.user_xattrs or self._view.acls

    async def get(self, node: Node, name: bytes) -> bytes:
        """Return the value of one.

        Cost: 1 round trip; none for DOS attributes and creation time while those of the file are known.
        Raises: SmbError with ENODATA, EOPNOTSUPP, and as `Share.extended_attributes`.
        """
        if name in _ATTRIBUTES:
            return _U32.pack((await self._stat(node)).attributes)
        if name in _CREATION_TIME:
            created_ns = (await self._stat(node)).created_ns
            return _FILETIME.pack(0 if created_ns is None else to_filetime(created_ns))
        if name in _ACL | _DESCRIPTOR:
            self._demand(self._view.acls, name)
            return await self._ask(node, lambda share, path: share.security_descriptor(path))
        wanted = self._user_name(name)
        attributes = await self._user_attributes(node)
        spelled = _spelled(attributes, wanted)
        if spelled is None:
            raise _absent(name)
        return attributes[spelled]

    async def set(self, node: Node, name: bytes, value: Buffer, flags: int = 0) -> None:
        """Set one, or remove it by an empty value.

        Cost: 1 round trip, 2 where `flags` (CREATE, REPLACE) want to know whether it is there.
        Raises: SmbError with EEXIST, ENODATA (by `flags`), ERANGE (a name or a fixed size is wrong), E2BIG, EOPNOTSUPP,
        and as `Share.set_extended_attribute`.
        """
        if name in _ATTRIBUTES | _CREATION_TIME:
            if flags & CREATE:
                raise SmbError(f"{name!r} is always there", errno=posix.EEXIST)
            self._demand(self.wanted, name)
            await self._apply(node, _attributes(value) if name in _ATTRIBUTES else _creation_time(value))
            return
        if name in _ACL | _DESCRIPTOR:
            self._demand(self._view.acls, name)
            if flags & CREATE:
                raise SmbError(f"{name!r} is always there", errno=posix.EEXIST)
            descriptor = bytes(value)
            if len(descriptor) < _DESCRIPTOR_SIZE:
                raise SmbError(f"{len(descriptor)} bytes are no security descriptor", errno=posix.EINVAL)
            if name in _ACL:
                descriptor = descriptor[: _OWNERS_AT.start] + bytes(8) + descriptor[_OWNERS_AT.stop :]
            await self._ask(node, lambda share, path: share.set_security_descriptor(path, descriptor))
            return
        wanted = self._user_name(name)
        if len(wanted.encode("utf-8", "surrogatepass")) > LONGEST_NAME:
            raise SmbError(f"{name!r} is too long a name", errno=posix.ERANGE)
        if len(value) > LARGEST:
            raise SmbError(f"{len(value)} bytes are too many for {name!r}", errno=posix.E2BIG)
        if flags & (CREATE | REPLACE):
            spelled = _spelled(await self._user_attributes(node), wanted)
            if spelled is not None and flags & CREATE:
                raise SmbError(f"{name!r} is there already", errno=posix.EEXIST)
            if spelled is None and flags & REPLACE:
                raise _absent(name)
        await self._ask(node, lambda share, path: share.set_extended_attribute(path, wanted, value))

    async def names(self, node: Node) -> Sequence[bytes]:
        """Return the names of a file's EAs; none without `user_xattr`.

        Cost: 1 round trip.  Raises: SmbError with EOPNOTSUPP, and as `Share.extended_attributes`.
        """
        self._demand(self.wanted, _USER)
        if not self._view.user_xattrs:
            return ()
        return [_USER + to_wtf8(name) for name in await self._user_attributes(node)]

    async def remove(self, node: Node, name: bytes) -> None:
        """Remove one.

        Cost: 2 round trips: servers do not say whether it was there.
        Raises: SmbError with ENODATA, EOPNOTSUPP (not a user's), and as `Share.set_extended_attribute`.
        """
        if name in _ATTRIBUTES | _CREATION_TIME | _ACL | _DESCRIPTOR:
            raise _unknown(name)
        wanted = self._user_name(name)
        spelled = _spelled(await self._user_attributes(node), wanted)
        if spelled is None:
            raise _absent(name)
        await self._ask(node, lambda share, path: share.set_extended_attribute(path, spelled, b""))

    # -- inside

    async def _stat(self, node: Node) -> FileStat:
        self._demand(self.wanted, _USER)
        await self._refresh(node.ino)
        return node.stat()

    async def _user_attributes(self, node: Node) -> Mapping[str, bytes]:
        return await self._ask(node, lambda share, path: share.extended_attributes(path))

    async def _ask(self, node: Node, ask: Callable[[Share, str], Awaitable[T]]) -> T:
        answer, _ = await by_path(self._nodes, node, ask)
        return answer

    def _user_name(self, name: bytes) -> str:
        """Return the EA's name; EOPNOTSUPP for what is no user's attribute."""
        self._demand(self._view.user_xattrs and name.startswith(_USER), name)
        text = from_wtf8(name.removeprefix(_USER))
        if not text:
            raise SmbError(f"{name!r} names no extended attribute", errno=posix.EINVAL)
        return text

    def _demand(self, condition: bool, name: bytes) -> None:
        if not condition:
            raise _unknown(name)


def _spelled(attributes: Mapping[str, bytes], wanted: str) -> str | None:
    """Return the name under which the server has the attribute `wanted`: as it is spelled, or in any case."""
    if wanted in attributes:
        return wanted
    return next((name for name in attributes if name.casefold() == wanted.casefold()), None)


def _attributes(value: Buffer) -> Change:
    if len(value) != _U32.size:
        raise SmbError(f"DOS attributes are {_U32.size} bytes, not {len(value)}", errno=posix.ERANGE)
    (attributes,) = _U32.unpack(value)
    return Change(attributes=settable(attributes))


def _creation_time(value: Buffer) -> Change:
    if len(value) != _FILETIME.size:
        raise SmbError(f"a creation time is {_FILETIME.size} bytes, not {len(value)}", errno=posix.ERANGE)
    (filetime,) = _FILETIME.unpack(value)
    if not is_time(filetime):
        raise SmbError(f"{filetime} is no time", errno=posix.EINVAL)
    return Change(created_ns=from_filetime(filetime))


def _absent(name: bytes) -> SmbError:
    return SmbError(f"there is no extended attribute {name!r}", errno=posix.ENODATA)


def _unknown(name: bytes) -> SmbError:
    return SmbError(f"there are no extended attributes like {name!r} here", errno=posix.EOPNOTSUPP)
