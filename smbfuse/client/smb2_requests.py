"""The requests of SMB2 that a share makes, as values of its own words."""

from typing import Final

from smbfuse import status
from smbfuse.client.smb2_manner import Manner
from smbfuse.engine.smb2_exchange import Request
from smbfuse.status import NtStatus
from smbfuse.wire.dtyp import encode_utf16
from smbfuse.wire.smb2.control import IOCTL_IS_FSCTL, IoctlRequest
from smbfuse.wire.smb2.create import (
    QUERY_ON_DISK_ID,
    Access,
    CloseRequest,
    CreateContext,
    CreateOptions,
    Disposition,
    OplockLevel,
    encode_create,
)
from smbfuse.wire.smb2.header import RELATED_FILE_ID, Command
from smbfuse.wire.smb2.info import InfoType, QueryInfoRequest, SetInfoRequest

WINDOWS: Final = Manner()
LONGEST_PATH: Final = 0xFFFE  # bytes as they travel: what NameLength can say
ON_DISK: Final[tuple[CreateContext, ...]] = (CreateContext(QUERY_ON_DISK_ID),)  # the number of what is opened
LOOK: Final = Access.FILE_READ_ATTRIBUTES  # alone it needs no rights on the data, and breaks nobody's lease


def create(
    path: str,
    access: Access,
    options: CreateOptions,
    *,
    disposition: Disposition = Disposition.OPEN,
    attributes: int = 0,
    oplock_level: OplockLevel = OplockLevel.NONE,
    contexts: tuple[CreateContext, ...] = (),
    mode: int | None = None,
    manner: Manner = WINDOWS,
) -> Request:
    """Return a CREATE that shares everything with others; `attributes` and `mode` are those of a file that it makes.

    Raises: ENAMETOOLONG for a path whose length does not fit its field.
    """
    name = encode_utf16(manner.name(path))
    if len(name) > LONGEST_PATH:
        raise status.error(NtStatus.NAME_TOO_LONG, Command.CREATE.name, f"{path[:40]}…")
    contexts = (*contexts, *manner.contexts(mode))
    return Request(
        Command.CREATE, encode_create(oplock_level, access, attributes, disposition, options, name, contexts)
    )


def close(file_id: bytes = RELATED_FILE_ID) -> Request:
    """Return a CLOSE of `file_id`; by default of what the compound has just opened, as below."""
    return Request(Command.CLOSE, CloseRequest(0, file_id).encode())


def query_info(
    info_type: InfoType,
    info_class: int,
    size: int,
    *,
    additional: int = 0,
    input_buffer: bytes = b"",
    file_id: bytes = RELATED_FILE_ID,
) -> Request:
    """Return a QUERY_INFO that takes at most `size` bytes of information."""
    request = QueryInfoRequest(
        info_type=info_type,
        file_info_class=info_class,
        output_buffer_length=size,
        input_buffer=input_buffer,
        additional_information=additional,
        flags=0,
        file_id=file_id,
    )
    return Request(Command.QUERY_INFO, request.encode(), payload=max(size, len(input_buffer)))


def set_info(
    info_class: int,
    data: bytes,
    *,
    info_type: InfoType = InfoType.FILE,
    additional: int = 0,
    file_id: bytes = RELATED_FILE_ID,
) -> Request:
    """Return a SET_INFO of one structure."""
    request = SetInfoRequest(
        info_type=info_type,
        file_info_class=info_class,
        data=data,
        additional_information=additional,
        file_id=file_id,
    )
    return Request(Command.SET_INFO, request.encode(), payload=len(data))


def file_control(code: int, data: bytes = b"", *, size: int = 0, file_id: bytes = RELATED_FILE_ID) -> Request:
    """Return an IOCTL with a file system control: `data` goes in, at most `size` bytes come back."""
    request = IoctlRequest(
        ctl_code=code,
        file_id=file_id,
        input=data,
        max_input_response=0,
        output=b"",
        max_output_response=size,
        flags=IOCTL_IS_FSCTL,
    )
    return Request(Command.IOCTL, request.encode(), payload=max(size, len(data)))
