"""What an open(2) is for, and what is asked of the share for it."""

import errno as posix
import os
from dataclasses import dataclass

from smbfuse.errors import SmbError
from smbfuse.share import Creation, Kind, OpenIntent
from smbfuse.vfs.grants import READING, WRITING, Grant
from smbfuse.vfs.inode import Node


@dataclass(frozen=True, slots=True)
class Opening:
    """The open of a file that is about to be made: what to ask of the share, and with whose grant."""

    intent: OpenIntent
    grant: Grant
    flags: int


def prepare(flags: int, mode: int, *, cached: bool) -> Opening:
    """Return how to open a file that is about to be made by that open. `cached`: a grant is of use."""
    _, write = wants(flags)
    grant = Grant()
    intent = OpenIntent(
        read=True,
        write=write,
        creation=Creation.EXCLUSIVE if flags & os.O_EXCL else Creation.IF_ABSENT,
        truncate=bool(flags & os.O_TRUNC),
        mode=mode,
        holder=grant if cached else None,
        wanted=WRITING if write else READING,
    )
    return Opening(intent, grant, flags)


def wants(flags: int) -> tuple[bool, bool]:
    """Return whether an open is to read, and to write; emptying a file is writing."""
    mode = flags & os.O_ACCMODE
    return mode != os.O_WRONLY, mode != os.O_RDONLY or bool(flags & os.O_TRUNC)


def refuse(node: Node) -> None:
    """Raise SmbError unless a node is a regular file: with EISDIR, ELOOP (a symlink), ENXIO."""
    kind = node.stat().kind
    if kind is Kind.DIRECTORY:
        raise SmbError(f"{node.name!r} is a folder", errno=posix.EISDIR)
    if kind is Kind.SYMLINK:
        raise SmbError(f"{node.name!r} is a symlink", errno=posix.ELOOP)
    if kind is not Kind.FILE:
        raise SmbError(f"{node.name!r} is no regular file", errno=posix.ENXIO)
