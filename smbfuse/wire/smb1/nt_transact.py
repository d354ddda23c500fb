"""The subcommands of NT_TRANSACT: control codes, notifications, descriptors.  [MS-CIFS] 2.2.7, [MS-SMB] 2.2.7.

Each class is the parameters of one request or response; the descriptor itself comes as the transaction's data.
"""

from __future__ import annotations

import enum
from typing import Annotated

from smbfuse.wire.record import U8, U16, U32, Record, record


class NtFunction(enum.IntEnum):
    """Function of an NT_TRANSACT.  [MS-CIFS] 2.2.2.2."""

    IOCTL = 0x0002
    SET_SECURITY_DESC = 0x0003
    NOTIFY_CHANGE = 0x0004
    QUERY_SECURITY_DESC = 0x0006


@record()
class SecurityRequest(Record):
    """Parameters of NT_TRANSACT_QUERY_SECURITY_DESC and NT_TRANSACT_SET_SECURITY_DESC.

    `security_information` says which parts are meant, see `descriptor.SecurityInformation`.
    [MS-CIFS] 2.2.7.3.1, 2.2.7.6.1.
    """

    fid: Annotated[int, "H2x"]
    security_information: U32


@record()
class IoctlSetup(Record):
    """Setup of NT_TRANSACT_IOCTL.  [MS-CIFS] 2.2.7.2.1."""

    function_code: U32
    fid: U16
    is_fctl: U8
    is_flags: U8


@record()
class NotifyChangeSetup(Record):
    """Setup of NT_TRANSACT_NOTIFY_CHANGE; what is told comes as the parameters of the response, for `wire.notify`.

    [MS-CIFS] 2.2.7.4.1.
    """

    completion_filter: U32
    fid: U16
    watch_tree: Annotated[int, "Bx"]  # 1: of the folders below as well


@record()
class QuerySecurityResponse(Record):
    """Parameters of the NT_TRANSACT_QUERY_SECURITY_DESC response; with BUFFER_TOO_SMALL they come alone.

    [MS-CIFS] 2.2.7.6.2.
    """

    length_needed: U32
