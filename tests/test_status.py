"""The table of statuses: what a program is told of what a server says, by NTSTATUS and by DOS error alike."""

import errno

import pytest

from smbfuse import status
from smbfuse.errors import (
    Busy,
    Denied,
    Exists,
    NoSpace,
    NotEmpty,
    NotFound,
    SessionGone,
    StaleHandle,
    StatusError,
    Unsupported,
    WrongKind,
)
from smbfuse.status import NtStatus

# What writing meets. errno as the Linux kernel client has it (fs/smb/client/smb2maperror.c), but for the last ones,
# of which POSIX knows better.
MET = [
    (0xC000007F, NoSpace, errno.ENOSPC),
    (0xC0000044, NoSpace, errno.EDQUOT),
    (0xC0000802, NoSpace, errno.EDQUOT),
    (0xC00000A2, Denied, errno.EROFS),
    (0xC0000022, Denied, errno.EACCES),
    (0xC0000121, Denied, errno.EACCES),
    (0xC0000061, Denied, errno.EPERM),
    (0xC0000056, NotFound, errno.ENOENT),
    (0xC0000034, NotFound, errno.ENOENT),
    (0xC000003A, NotFound, errno.ENOENT),
    (0xC0000035, Exists, errno.EEXIST),
    (0xC0000101, NotEmpty, errno.ENOTEMPTY),
    (0xC00000BA, WrongKind, errno.EISDIR),
    (0xC0000103, WrongKind, errno.ENOTDIR),
    (0xC0000043, Busy, errno.EBUSY),
    (0xC0000054, Busy, errno.EACCES),
    (0xC00000D4, StatusError, errno.EXDEV),
    (0xC0000265, StatusError, errno.EMLINK),
    (0xC0000052, StatusError, errno.ENODATA),
    (0xC000004F, Unsupported, errno.EOPNOTSUPP),
    (0xC000000D, StatusError, errno.EINVAL),
    (0xC0000106, StatusError, errno.ENAMETOOLONG),
    (0xC0000203, SessionGone, errno.EHOSTDOWN),
    (0xC0000128, StaleHandle, errno.ESTALE),
    (0xC0000904, StatusError, errno.EFBIG),
    (0xC0000427, StatusError, errno.EFBIG),
    (0xC0000050, NoSpace, errno.ENOSPC),
    (0xC000005A, Denied, errno.EPERM),
]


@pytest.mark.parametrize("value, error, number", MET, ids=[NtStatus(value).name for value, *_ in MET])
def test_what_writing_meets_has_its_class_and_errno(value: int, error: type[StatusError], number: int) -> None:
    raised = status.error(value, "WRITE", "file")
    assert type(raised) is error
    assert (raised.status, raised.errno) == (value, number)
    assert NtStatus(value).name in str(raised)


# [MS-CIFS] 2.2.2.4: the same refusals from a server that knows no NTSTATUS, class and code.
DOS = [
    (1, 112, errno.ENOSPC),
    (3, 39, errno.ENOSPC),
    (1, 19, errno.EROFS),
    (3, 19, errno.EROFS),
    (1, 5, errno.EACCES),
    (1, 16, errno.EACCES),
    (1, 2, errno.ENOENT),
    (1, 80, errno.EEXIST),
    (1, 183, errno.EEXIST),
    (1, 145, errno.ENOTEMPTY),
    (1, 32, errno.EBUSY),
    (1, 33, errno.EACCES),
    (1, 17, errno.EXDEV),
    (1, 1142, errno.EMLINK),
    (1, 512, errno.EDQUOT),
    (1, 206, errno.ENAMETOOLONG),
    (1, 223, errno.EFBIG),
    (1, 282, errno.EOPNOTSUPP),
    (1, 0x7777, errno.EIO),
]


@pytest.mark.parametrize("dos_class, code, number", DOS)
def test_a_dos_error_is_what_its_ntstatus_is(dos_class: int, code: int, number: int) -> None:
    assert status.error(status.from_dos(code << 16 | dos_class), "WRITE").errno == number


def test_every_severe_status_is_an_error_for_the_program() -> None:
    for row in NtStatus:
        assert isinstance(status.error(row, "TEST"), StatusError)
        assert status.error(row, "TEST").errno in errno.errorcode
        if row >= 0xC0000000:  # STATUS_SEVERITY_ERROR.  [MS-ERREF] 2.3
            assert row.errno, row.name


def test_a_status_that_nobody_knows_is_an_error_of_its_own_name() -> None:
    raised = status.error(0xC0DEAD00, "WRITE")
    assert (type(raised), raised.errno) == (StatusError, errno.EIO)
    assert "UNKNOWN_C0DEAD00" in str(raised)
    with pytest.raises(ValueError, match="4294967296"):
        NtStatus(1 << 32)
