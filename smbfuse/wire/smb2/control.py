"""IOCTL, ECHO and CANCEL.  [MS-SMB2] 2.2.28 to 2.2.32."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Annotated, ClassVar, Final, Self

from smbfuse.wire.record import U16, U32, Buffer, Bytes16, Record, record, view
from smbfuse.wire.smb2.message import Blob, Message, message


class ControlCode(IntEnum):
    """File system controls that this client sends.  [MS-SMB2] 2.2.31, [MS-FSCC] 2.3."""

    FSCTL_SET_REPARSE_POINT = 0x000900A4
    FSCTL_GET_REPARSE_POINT = 0x000900A8
    FSCTL_PIPE_TRANSCEIVE = 0x0011C017
    FSCTL_LMR_REQUEST_RESILIENCY = 0x001401D4
    FSCTL_VALIDATE_NEGOTIATE_INFO = 0x00140204


IOCTL_IS_FSCTL: Final = 1
NO_FILE_ID: Final = b"\xff" * 16  # of a control that concerns no file


@message(structure_size=57)
class IoctlRequest(Message):
    """SMB2 IOCTL Request.  [MS-SMB2] 2.2.31."""

    ctl_code: Annotated[int, "2xI"]
    file_id: Bytes16
    input: Annotated[bytes, Blob("II", empty="zero")]
    max_input_response: U32
    output: Annotated[bytes, Blob("II", empty="previous")]
    max_output_response: U32
    flags: Annotated[int, "I4x"]


@message(structure_size=49)
class IoctlResponse(Message):
    """SMB2 IOCTL Response.  [MS-SMB2] 2.2.32."""

    ctl_code: Annotated[int, "2xI"]
    file_id: Bytes16
    input: Annotated[bytes, Blob("II")]
    output: Annotated[bytes, Blob("II", align=8)]
    flags: Annotated[int, "I4x"]


@dataclass(frozen=True, slots=True)
class ValidateNegotiateInfoRequest:
    """What the client says it offered, under its signature.  [MS-SMB2] 2.2.31.4."""

    capabilities: int
    client_guid: bytes
    security_mode: int
    dialects: tuple[int, ...]

    STRUCT: ClassVar[Struct] = Struct("<I16sHH")

    def encode(self) -> bytes:
        """Return the input of the IOCTL."""
        head = self.STRUCT.pack(self.capabilities, self.client_guid, self.security_mode, len(self.dialects))
        return head + _dialects(self.dialects)

    @classmethod
    def decode(cls, data: Buffer) -> Self:
        """Read the input of the IOCTL; raises DecodeError."""
        head = view(data, 0, cls.STRUCT.size, "ValidateNegotiateInfoRequest")
        capabilities, client_guid, security_mode, count = cls.STRUCT.unpack(head)
        dialects = view(data, cls.STRUCT.size, 2 * count, "ValidateNegotiateInfoRequest dialects")
        return cls(capabilities, client_guid, security_mode, Struct(f"<{count}H").unpack(dialects))


def _dialects(dialects: Sequence[int]) -> bytes:
    return Struct(f"<{len(dialects)}H").pack(*dialects)


@record()
class ValidateNegotiateInfoResponse(Record):
    """What the server says it answered, under its signature.  [MS-SMB2] 2.2.32.6.  24 bytes."""

    capabilities: U32
    server_guid: Bytes16
    security_mode: U16
    dialect: U16


@record()
class NetworkResiliencyRequest(Record):
    """NETWORK_RESILIENCY_REQUEST: keep this open when its connection is lost.  [MS-SMB2] 2.2.31.3.  8 bytes."""

    timeout: Annotated[int, "I4x"]  # milliseconds that the server is to wait for us


@message(structure_size=4)
class EchoRequest(Message):
    """SMB2 ECHO Request.  [MS-SMB2] 2.2.28."""

    reserved: U16 = 0


@message(structure_size=4)
class EchoResponse(Message):
    """SMB2 ECHO Response.  [MS-SMB2] 2.2.29."""

    reserved: U16 = 0


@message(structure_size=4)
class CancelRequest(Message):
    """SMB2 CANCEL Request.  [MS-SMB2] 2.2.30."""

    reserved: U16 = 0
