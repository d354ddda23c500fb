"""Making symlinks, FIFOs, sockets and devices over SMB2, where they are reparse points.

Such a file is made in two steps: CREATE makes an empty one, FSCTL_SET_REPARSE_POINT makes it what it shall be. Both go
out in one compound; if the server refuses the second, what the first has made is deleted by its handle, so that it can
be no other's file. WSL's extended attributes are set in between and do not come with the CREATE, as they might: Samba
4.17 keeps the file that it has made when it refuses those.  [MS-FSCC] 2.3.81, [MS-SMB2] 2.2.31.
"""

import logging
import stat
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import trio

from smbfuse import status
from smbfuse.client import smb2_requests, smb2_stat
from smbfuse.client.filestat import DRIVES_AT, NT_PREFIX
from smbfuse.errors import DecodeError, SmbError, StatusError, Unsupported
from smbfuse.share import Features, FileStat, Kind, LinkForm
from smbfuse.status import NtStatus
from smbfuse.wire import reparse
from smbfuse.wire.fscc import FileAttributes, FileInformation
from smbfuse.wire.fscc_changes import FileDispositionInformation
from smbfuse.wire.fscc_ea import ExtendedAttribute, encode_attributes
from smbfuse.wire.reparse import NfsType, ReparsePoint, ReparseTag
from smbfuse.wire.smb2.control import ControlCode
from smbfuse.wire.smb2.create import Access, CreateOptions, CreateResponse, Disposition
from smbfuse.wire.smb2.header import Command

if TYPE_CHECKING:
    from smbfuse.client.smb2_tree import Smb2Tree

log = logging.getLogger(__name__)

CLEAN_UP_S: Final = 5.0

_MAKE: Final = (
    Access.FILE_READ_ATTRIBUTES
    | Access.FILE_WRITE_ATTRIBUTES
    | Access.FILE_WRITE_DATA
    | Access.DELETE
    | Access.SYNCHRONIZE
)

# What servers say who keep no reparse points, whatever the file.
_UNKNOWN: Final = frozenset(
    {
        NtStatus.NOT_SUPPORTED,
        NtStatus.NOT_IMPLEMENTED,
        NtStatus.INVALID_DEVICE_REQUEST,
        NtStatus.EAS_NOT_SUPPORTED,
        NtStatus.NOT_A_REPARSE_POINT,
    }
)

_NFS_TYPES: Final = {
    Kind.FIFO: NfsType.FIFO,
    Kind.SOCKET: NfsType.SOCKET,
    Kind.BLOCK_DEVICE: NfsType.BLOCK,
    Kind.CHARACTER_DEVICE: NfsType.CHARACTER,
}
_WSL_TAGS: Final = {
    Kind.FIFO: (ReparseTag.LX_FIFO, stat.S_IFIFO),
    Kind.SOCKET: (ReparseTag.AF_UNIX, stat.S_IFSOCK),
    Kind.BLOCK_DEVICE: (ReparseTag.LX_BLK, stat.S_IFBLK),
    Kind.CHARACTER_DEVICE: (ReparseTag.LX_CHR, stat.S_IFCHR),
}


async def make_link(tree: "Smb2Tree", path: str, target: str, form: LinkForm) -> FileStat:
    """Make a symlink; see `Share.make_link`.

    Cost: 1 round trip: CREATE, IOCTL, QUERY_INFO, and the CLOSE that nobody waits for. Before it, for a native one in
    Windows' manner, 1 to learn whether the target is a folder: Windows' programs follow no other to a folder.
    """
    _expect_reparse_points(tree, path)
    posix = Features.POSIX in tree.manner.features
    point = link_point(target, form, posix=posix)
    native = isinstance(point, reparse.SymlinkReparse) and not posix
    folder = native and await _leads_to_folder(tree, path, target)
    try:
        made = await _make(tree, path, point, mode=0o777, folder=folder)
    except StatusError as error:
        if not folder or error.status != NtStatus.ACCESS_DENIED:
            raise
        made = await _make(tree, path, point, mode=0o777)  # Samba keeps reparse points for files only
    return made._replace(kind=Kind.SYMLINK, size=len(target.encode("utf-8", "surrogatepass")))


async def make_node(
    tree: "Smb2Tree", path: str, kind: Kind, device: tuple[int, int] | None, mode: int | None, form: LinkForm
) -> FileStat:
    """Make a FIFO, socket or device node; see `Share.make_node`.

    Cost: 1 round trip: CREATE, IOCTL, QUERY_INFO, and the CLOSE that nobody waits for.
    """
    _expect_reparse_points(tree, path)
    point, attributes = node_point(kind, device, mode, form)
    made = await _make(tree, path, point, mode=mode, attributes=attributes)
    return made._replace(kind=kind, device=device)


def link_point(target: str, form: LinkForm, *, posix: bool) -> ReparsePoint:
    """Return the reparse point of a symlink to `target`; `posix`: the server's paths are POSIX' own.

    Natively, /mnt/c/… becomes C:\\…, and //server/share/… a UNC path, as `filestat.link_target` reads them; any other
    absolute target is kept as it is, as the kernel client does, and means something to such clients only.
    """
    if form is LinkForm.WSL:
        return reparse.WslSymlinkReparse(target)
    if form is LinkForm.NFS:
        return reparse.NfsReparse(NfsType.SYMLINK, target)
    if not target.startswith("/"):
        name = target if posix else target.replace("/", "\\")
        return reparse.SymlinkReparse(name, name, reparse.SYMLINK_FLAG_RELATIVE)
    if posix:
        return reparse.SymlinkReparse(target, target)
    prefix, name = _nt_path(target)
    return reparse.SymlinkReparse(prefix + name, name)


def _nt_path(target: str) -> tuple[str, str]:
    """Return an absolute target as Windows has it: what the object manager wants in front, and the path."""
    if target.startswith("//"):
        return NT_PREFIX + "UNC", target[1:].replace("/", "\\")
    drive, _, rest = target.removeprefix(DRIVES_AT + "/").partition("/")
    if target.startswith(DRIVES_AT + "/") and len(drive) == 1 and drive.isascii() and drive.isalpha():
        return NT_PREFIX, f"{drive.upper()}:\\{rest}".replace("/", "\\")
    return "", target.replace("/", "\\")


def node_point(
    kind: Kind, device: tuple[int, int] | None, mode: int | None, form: LinkForm
) -> tuple[ReparsePoint, Sequence[ExtendedAttribute]]:
    """Return the reparse point of a special file, and the extended attributes that WSL keeps beside it."""
    if form is not LinkForm.WSL:
        return reparse.NfsReparse(_NFS_TYPES[kind], device=device), ()
    tag, file_type = _WSL_TAGS[kind]
    attributes = [ExtendedAttribute(reparse.WSL_MODE, (file_type | (mode or 0)).to_bytes(4, "little"))]
    if device is not None:
        attributes.append(ExtendedAttribute(reparse.WSL_DEVICE, reparse.encode_wsl_device(device)))
    return reparse.OtherReparse(tag, b""), attributes


def _expect_reparse_points(tree: "Smb2Tree", path: str) -> None:
    """Raise Unsupported where the server has refused to keep a reparse point before: one refusal is enough."""
    if tree.reparse_points is False:
        raise _refused(Command.IOCTL, NtStatus.NOT_SUPPORTED, path)


async def _make(
    tree: "Smb2Tree",
    path: str,
    point: ReparsePoint,
    *,
    mode: int | None,
    folder: bool = False,
    attributes: Sequence[ExtendedAttribute] = (),
) -> FileStat:
    """Make a file that is a reparse point, or nothing at all."""
    kind = CreateOptions.DIRECTORY_FILE if folder else CreateOptions.NON_DIRECTORY_FILE
    create = tree.create(
        path,
        _MAKE | (Access.FILE_WRITE_EA if attributes else 0),
        kind | CreateOptions.OPEN_REPARSE_POINT,
        disposition=Disposition.CREATE,
        mode=mode,
    )
    steps = [smb2_requests.set_info(FileInformation.FULL_EA, encode_attributes(attributes))] if attributes else []
    steps.append(smb2_requests.file_control(ControlCode.FSCTL_SET_REPARSE_POINT, reparse.encode(point)))
    created, replies = await tree.opening(path, (create, *steps, tree.query()))
    try:
        for step, reply in zip(steps, replies[1:-1], strict=True):
            if reply.status != NtStatus.SUCCESS:
                refusal = _refused(step.command, reply.status, path)
                if isinstance(refusal, Unsupported):
                    tree.reparse_points = False
                raise refusal
        tree.reparse_points = True
        found = tree.stat_of(replies[-1], created, path)
    except SmbError:
        with trio.CancelScope(deadline=trio.current_time() + CLEAN_UP_S, shield=True):
            await _delete(tree, path, created.file_id)
        raise
    finally:
        tree.close(created.file_id)
    return found


def _refused(command: Command, reason: int, path: str) -> StatusError:
    """Return the refusal of a step: Unsupported from a server that keeps no such files."""
    operation = "FSCTL_SET_REPARSE_POINT" if command is Command.IOCTL else command.name
    if reason in _UNKNOWN:
        return status.error(NtStatus.NOT_SUPPORTED, f"{operation} ({NtStatus(reason).name})", path)
    return status.error(reason, operation, path)


async def _delete(tree: "Smb2Tree", path: str, file_id: bytes) -> None:
    """Take back what was made, by its handle."""
    disposition = FileDispositionInformation(delete_pending=1).encode()
    request = smb2_requests.set_info(FileInformation.DISPOSITION, disposition, file_id=file_id)
    try:
        await tree.ask(request, path)
    except SmbError as error:
        log.info("an empty file stays where a reparse point was refused path=%r reason=%s", path, error)


async def restore(tree: "Smb2Tree", path: str, renamed: CreateResponse, point: bytes) -> None:
    """See that what was renamed to `path` is still the reparse point `point`, encoded.

    Samba (4.22) forgets at a renaming that a file is one that a client has made, and shows an empty file.
    Cost: 1 round trip, 2 where that has happened.  Raises nothing of the server's: the renaming has succeeded.
    """
    try:
        look = tree.create(path, smb2_requests.LOOK, CreateOptions.OPEN_REPARSE_POINT)
        replies = await tree.compound(path, look, smb2_requests.close())
        found = CreateResponse.decode(replies[0].element)
        if found.file_attributes & FileAttributes.REPARSE_POINT:
            return
        if tree.manner.opened(found).file_id != tree.manner.opened(renamed).file_id:
            return  # somebody has put another there meanwhile
        replies = await tree.compound(
            path,
            tree.create(path, _MAKE, CreateOptions.OPEN_REPARSE_POINT),
            smb2_requests.file_control(ControlCode.FSCTL_SET_REPARSE_POINT, point),
            smb2_requests.close(),
        )
        if replies[1].status != NtStatus.SUCCESS:
            raise _refused(Command.IOCTL, replies[1].status, path)
    except (StatusError, DecodeError) as error:
        log.warning("the symlink or special file %r may be an empty file since it was renamed: %s", path, error)


async def _leads_to_folder(tree: "Smb2Tree", path: str, target: str) -> bool:
    """Tell whether a symlink at `path` leads to a folder of this share; if that is not to be found out, it does not."""
    *_, last = target.split("/")
    if last in ("", ".", ".."):
        return True
    if target.startswith("/"):
        return False
    place = path.split("/")[:-1]
    for component in target.split("/"):
        if component == "..":
            if not place:
                return False  # above the share
            place.pop()
        elif component not in ("", "."):
            place.append(component)
    try:
        return (await smb2_stat.look(tree, "/".join(place))).kind is Kind.DIRECTORY
    except StatusError:
        return False
