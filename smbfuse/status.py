"""Server statuses: value, errno, exception class. The only such table.

NTSTATUS values: [MS-ERREF] 2.3.1. DOS errors (SMB1 servers that know no NTSTATUS): [MS-CIFS] 2.2.2.4. errno follows
the Linux kernel client where POSIX does not decide, because users compare the two.
"""

import errno as posix
from collections.abc import Mapping
from enum import IntEnum
from typing import Final, Self

from smbfuse.errors import (
    AuthenticationFailed,
    Busy,
    Denied,
    Exists,
    NoSpace,
    NotEmpty,
    NotFound,
    Reason,
    SessionGone,
    SmbError,
    StaleHandle,
    StatusError,
    Unsupported,
    WrongKind,
)


class NtStatus(IntEnum):
    """One row a status: value, errno for POSIX callers, exception class."""

    errno: int
    error: type[StatusError]

    def __new__(cls, value: int, errno: int = posix.EIO, error: type[StatusError] = StatusError) -> Self:
        member = int.__new__(cls, value)
        member._value_ = value
        member.errno = errno
        member.error = error
        return member

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        # A strange server gives a member called UNKNOWN_C0DEAD00 and EIO, never a ValueError.
        if not isinstance(value, int) or not 0 <= value <= 0xFFFFFFFF:
            return None
        member = int.__new__(cls, value)
        member._name_ = f"UNKNOWN_{value:08X}"
        member._value_ = value
        member.errno = posix.EIO
        member.error = StatusError
        return member

    SUCCESS = 0x00000000, 0
    PENDING = 0x00000103, 0
    NOTIFY_CLEANUP = 0x0000010B, 0
    NOTIFY_ENUM_DIR = 0x0000010C, 0
    BUFFER_OVERFLOW = 0x80000005, 0
    NO_MORE_FILES = 0x80000006, 0
    DEVICE_BUSY = 0x80000011, posix.EBUSY, Busy
    INVALID_EA_NAME = 0x80000013, posix.EINVAL
    EA_LIST_INCONSISTENT = 0x80000014, posix.EINVAL
    INVALID_EA_FLAG = 0x80000015, posix.EINVAL
    NO_MORE_ENTRIES = 0x8000001A, 0
    STOPPED_ON_SYMLINK = 0x8000002D, posix.EOPNOTSUPP, Unsupported
    MORE_PROCESSING_REQUIRED = 0xC0000016, posix.EIO
    UNSUCCESSFUL = 0xC0000001, posix.EIO
    NOT_IMPLEMENTED = 0xC0000002, posix.EOPNOTSUPP, Unsupported
    INVALID_INFO_CLASS = 0xC0000003, posix.EOPNOTSUPP, Unsupported
    INFO_LENGTH_MISMATCH = 0xC0000004, posix.EIO
    PAGEFILE_QUOTA = 0xC0000007, posix.EDQUOT, NoSpace
    INVALID_HANDLE = 0xC0000008, posix.ESTALE, StaleHandle
    INVALID_PARAMETER = 0xC000000D, posix.EINVAL
    NO_SUCH_DEVICE = 0xC000000E, posix.ENXIO, NotFound
    NO_SUCH_FILE = 0xC000000F, posix.ENOENT, NotFound
    INVALID_DEVICE_REQUEST = 0xC0000010, posix.EOPNOTSUPP, Unsupported
    END_OF_FILE = 0xC0000011, posix.ENODATA
    NO_MEDIA_IN_DEVICE = 0xC0000013, posix.ENOMEDIUM
    NO_MEMORY = 0xC0000017, posix.EREMOTEIO
    ACCESS_DENIED = 0xC0000022, posix.EACCES, Denied
    BUFFER_TOO_SMALL = 0xC0000023, posix.EIO
    OBJECT_TYPE_MISMATCH = 0xC0000024, posix.EINVAL, WrongKind
    INVALID_PARAMETER_MIX = 0xC0000030, posix.EINVAL
    DISK_CORRUPT_ERROR = 0xC0000032, posix.EIO
    OBJECT_NAME_INVALID = 0xC0000033, posix.ENOENT, NotFound
    OBJECT_NAME_NOT_FOUND = 0xC0000034, posix.ENOENT, NotFound
    OBJECT_NAME_COLLISION = 0xC0000035, posix.EEXIST, Exists
    OBJECT_PATH_INVALID = 0xC0000039, posix.ENOTDIR, WrongKind
    OBJECT_PATH_NOT_FOUND = 0xC000003A, posix.ENOENT, NotFound
    OBJECT_PATH_SYNTAX_BAD = 0xC000003B, posix.ENOENT, NotFound
    CRC_ERROR = 0xC000003F, posix.EIO
    SECTION_TOO_BIG = 0xC0000040, posix.EFBIG
    SHARING_VIOLATION = 0xC0000043, posix.EBUSY, Busy
    QUOTA_EXCEEDED = 0xC0000044, posix.EDQUOT, NoSpace
    EAS_NOT_SUPPORTED = 0xC000004F, posix.EOPNOTSUPP, Unsupported
    EA_TOO_LARGE = 0xC0000050, posix.ENOSPC, NoSpace  # setxattr(2); the kernel client says EIO
    # The path is there, its attribute is not: no NotFound, which would be believed of the path.
    NONEXISTENT_EA_ENTRY = 0xC0000051, posix.ENODATA
    NO_EAS_ON_FILE = 0xC0000052, posix.ENODATA
    EA_CORRUPT_ERROR = 0xC0000053, posix.EIO
    FILE_LOCK_CONFLICT = 0xC0000054, posix.EACCES, Busy
    LOCK_NOT_GRANTED = 0xC0000055, posix.EACCES, Busy
    DELETE_PENDING = 0xC0000056, posix.ENOENT, NotFound
    INVALID_OWNER = 0xC000005A, posix.EPERM, Denied  # chown(2); the kernel client says EIO, here and for the next
    INVALID_PRIMARY_GROUP = 0xC000005B, posix.EPERM, Denied
    PRIVILEGE_NOT_HELD = 0xC0000061, posix.EPERM, Denied
    WRONG_PASSWORD = 0xC000006A, posix.EACCES, Denied
    LOGON_FAILURE = 0xC000006D, posix.EACCES, Denied
    ACCOUNT_RESTRICTION = 0xC000006E, posix.EACCES, Denied
    INVALID_LOGON_HOURS = 0xC000006F, posix.EACCES, Denied
    INVALID_WORKSTATION = 0xC0000070, posix.EACCES, Denied
    PASSWORD_EXPIRED = 0xC0000071, posix.EKEYEXPIRED, Denied
    ACCOUNT_DISABLED = 0xC0000072, posix.EACCES, Denied
    NO_SUCH_USER = 0xC0000064, posix.EACCES, Denied
    INVALID_ACL = 0xC0000077, posix.EINVAL
    INVALID_SID = 0xC0000078, posix.EINVAL
    INVALID_SECURITY_DESCR = 0xC0000079, posix.EINVAL
    DISK_FULL = 0xC000007F, posix.ENOSPC, NoSpace
    FILE_INVALID = 0xC0000098, posix.EIO
    ALLOTTED_SPACE_EXCEEDED = 0xC0000099, posix.EIO
    INSUFFICIENT_RESOURCES = 0xC000009A, posix.EAGAIN
    DEVICE_DATA_ERROR = 0xC000009C, posix.EIO
    MEDIA_WRITE_PROTECTED = 0xC00000A2, posix.EROFS, Denied
    DEVICE_NOT_READY = 0xC00000A3, posix.EIO
    BAD_TOKEN_TYPE = 0xC00000A8, posix.EACCES, Denied
    IO_TIMEOUT = 0xC00000B5, posix.EAGAIN
    FILE_FORCED_CLOSED = 0xC00000B6, posix.ESTALE, StaleHandle
    FILE_IS_A_DIRECTORY = 0xC00000BA, posix.EISDIR, WrongKind
    NOT_SUPPORTED = 0xC00000BB, posix.EOPNOTSUPP, Unsupported
    NETWORK_BUSY = 0xC00000BF, posix.EBUSY, Busy
    NETWORK_NAME_DELETED = 0xC00000C9, posix.EHOSTDOWN, SessionGone
    NETWORK_ACCESS_DENIED = 0xC00000CA, posix.EACCES, Denied
    BAD_DEVICE_TYPE = 0xC00000CB, posix.ENODEV, NotFound
    BAD_NETWORK_NAME = 0xC00000CC, posix.ENOENT, NotFound
    REQUEST_NOT_ACCEPTED = 0xC00000D0, posix.EUSERS, Busy
    NOT_SAME_DEVICE = 0xC00000D4, posix.EXDEV
    FILE_RENAMED = 0xC00000D5, posix.ENOENT, NotFound
    OPLOCK_NOT_GRANTED = 0xC00000E2, posix.EIO
    INVALID_OPLOCK_PROTOCOL = 0xC00000E3, posix.EIO
    UNEXPECTED_IO_ERROR = 0xC00000E9, posix.EIO
    DIRECTORY_NOT_EMPTY = 0xC0000101, posix.ENOTEMPTY, NotEmpty
    FILE_CORRUPT_ERROR = 0xC0000102, posix.EIO
    NOT_A_DIRECTORY = 0xC0000103, posix.ENOTDIR, WrongKind
    NAME_TOO_LONG = 0xC0000106, posix.ENAMETOOLONG
    FILES_OPEN = 0xC0000107, posix.EBUSY, Busy
    TOO_MANY_OPENED_FILES = 0xC000011F, posix.EMFILE, Busy
    CANCELLED = 0xC0000120, posix.EIO
    CANNOT_DELETE = 0xC0000121, posix.EACCES, Denied
    FILE_DELETED = 0xC0000123, posix.ENOENT, NotFound
    FILE_CLOSED = 0xC0000128, posix.ESTALE, StaleHandle
    PAGEFILE_QUOTA_EXCEEDED = 0xC000012C, posix.EDQUOT, NoSpace
    LINK_FAILED = 0xC000013E, posix.EXDEV
    INVALID_LEVEL = 0xC0000148, posix.EOPNOTSUPP, Unsupported
    LOGON_TYPE_NOT_GRANTED = 0xC000015B, posix.EACCES, Denied
    INVALID_DEVICE_STATE = 0xC0000184, posix.EIO
    IO_DEVICE_ERROR = 0xC0000185, posix.EIO
    USER_SESSION_DELETED = 0xC0000203, posix.EHOSTDOWN, SessionGone
    INSUFF_SERVER_RESOURCES = 0xC0000205, posix.EAGAIN
    INVALID_BUFFER_SIZE = 0xC0000206, posix.EIO
    PASSWORD_MUST_CHANGE = 0xC0000224, posix.EKEYEXPIRED, Denied
    NOT_FOUND = 0xC0000225, posix.ENOENT, NotFound
    DUPLICATE_OBJECTID = 0xC000022A, posix.EIO
    RETRY = 0xC000022D, posix.EAGAIN, Busy
    ACCOUNT_LOCKED_OUT = 0xC0000234, posix.EACCES, Denied
    ILLEGAL_CHARACTER = 0xC0000161, posix.EILSEQ  # Samba: half a surrogate pair in a name
    ACCOUNT_EXPIRED = 0xC0000193, posix.EKEYEXPIRED, Denied
    CONNECTION_REFUSED = 0xC0000236, posix.ECONNREFUSED
    USER_MAPPED_FILE = 0xC0000243, posix.EBUSY, Busy  # a program on the server has it mapped: no resizing now
    PATH_NOT_COVERED = 0xC0000257, posix.EREMOTE, Unsupported
    TOO_MANY_LINKS = 0xC0000265, posix.EMLINK
    FILE_IS_OFFLINE = 0xC0000267, posix.EIO
    VOLUME_DISMOUNTED = 0xC000026E, posix.EIO
    IO_REPARSE_TAG_NOT_HANDLED = 0xC0000279, posix.EOPNOTSUPP, Unsupported
    NOT_A_REPARSE_POINT = 0xC0000275, posix.EINVAL, WrongKind
    IO_REPARSE_TAG_INVALID = 0xC0000276, posix.EINVAL
    IO_REPARSE_TAG_MISMATCH = 0xC0000277, posix.EEXIST, Exists  # it is another kind of reparse point already
    IO_REPARSE_DATA_INVALID = 0xC0000278, posix.EINVAL
    FILE_SYSTEM_LIMITATION = 0xC0000427, posix.EFBIG  # [MS-ERREF]: the size that the file system can hold
    FILE_NOT_AVAILABLE = 0xC0000467, posix.EBUSY, Busy  # an earlier request on the open is still being executed
    DISK_QUOTA_EXCEEDED = 0xC0000802, posix.EDQUOT, NoSpace
    FILE_TOO_LARGE = 0xC0000904, posix.EFBIG
    CANNOT_BREAK_OPLOCK = 0xC0000909, posix.EBUSY, Busy
    NETWORK_SESSION_EXPIRED = 0xC000035C, posix.EKEYEXPIRED, SessionGone
    SMB_BAD_FID = 0x00060001, posix.ESTALE, StaleHandle
    SMB_BAD_TID = 0x00050002, posix.EHOSTDOWN, SessionGone
    SMB_BAD_UID = 0x005B0002, posix.EHOSTDOWN, SessionGone
    SMB_BAD_COMMAND = 0x00160002, posix.EOPNOTSUPP, Unsupported
    OS2_INVALID_LEVEL = 0x007C0001, posix.EOPNOTSUPP, Unsupported


def error(status: int, operation: str, path: str | None = None) -> StatusError:
    """Return the exception for an error `status`, ready to be raised.

    `operation` is what was asked in the protocol's words ("CREATE"), `path` what it was asked of.
    """
    row = NtStatus(status)
    where = f" {path!r}" if path is not None else ""
    return row.error(f"{operation}{where}: {row.name} (0x{status:08X})", status=status, errno=row.errno or posix.EIO)


# DOS errors by class and code, as the NTSTATUS of the same meaning.  [MS-CIFS] 2.2.2.4
_ERRDOS, _ERRSRV, _ERRHRD = 1, 2, 3
_DOS_ERRORS: Final[Mapping[tuple[int, int], NtStatus]] = {
    (_ERRDOS, 1): NtStatus.NOT_IMPLEMENTED,  # ERRbadfunc
    (_ERRDOS, 2): NtStatus.OBJECT_NAME_NOT_FOUND,  # ERRbadfile
    (_ERRDOS, 3): NtStatus.OBJECT_PATH_NOT_FOUND,  # ERRbadpath
    (_ERRDOS, 4): NtStatus.TOO_MANY_OPENED_FILES,  # ERRnofids
    (_ERRDOS, 5): NtStatus.ACCESS_DENIED,  # ERRnoaccess
    (_ERRDOS, 6): NtStatus.INVALID_HANDLE,  # ERRbadfid
    (_ERRDOS, 8): NtStatus.INSUFFICIENT_RESOURCES,  # ERRnomem
    (_ERRDOS, 12): NtStatus.ACCESS_DENIED,  # ERRbadaccess
    (_ERRDOS, 15): NtStatus.OBJECT_PATH_NOT_FOUND,  # ERRbaddrive
    (_ERRDOS, 16): NtStatus.ACCESS_DENIED,  # ERRremcd
    (_ERRDOS, 17): NtStatus.NOT_SAME_DEVICE,  # ERRdiffdevice
    (_ERRDOS, 18): NtStatus.NO_MORE_FILES,  # ERRnofiles
    (_ERRDOS, 19): NtStatus.MEDIA_WRITE_PROTECTED,  # ERRwriteprotect
    (_ERRDOS, 32): NtStatus.SHARING_VIOLATION,  # ERRbadshare
    (_ERRDOS, 33): NtStatus.FILE_LOCK_CONFLICT,  # ERRlock
    (_ERRDOS, 38): NtStatus.END_OF_FILE,  # ERReof
    (_ERRDOS, 39): NtStatus.DISK_FULL,  # the disk is full
    (_ERRDOS, 50): NtStatus.NOT_SUPPORTED,  # ERRunsup
    (_ERRDOS, 53): NtStatus.BAD_NETWORK_NAME,  # the network path was not found
    (_ERRDOS, 65): NtStatus.ACCESS_DENIED,  # ERRnetworkaccessdenied
    (_ERRDOS, 67): NtStatus.BAD_NETWORK_NAME,  # ERRnosuchshare
    (_ERRDOS, 71): NtStatus.REQUEST_NOT_ACCEPTED,  # no more connections
    (_ERRDOS, 80): NtStatus.OBJECT_NAME_COLLISION,  # ERRfilexists
    (_ERRDOS, 86): NtStatus.WRONG_PASSWORD,  # the network password is wrong
    (_ERRDOS, 87): NtStatus.INVALID_PARAMETER,  # ERRinvalidparam
    (_ERRDOS, 110): NtStatus.OBJECT_NAME_NOT_FOUND,  # the system cannot open the file
    (_ERRDOS, 112): NtStatus.DISK_FULL,  # ERRdiskfull
    (_ERRDOS, 123): NtStatus.OBJECT_NAME_INVALID,  # ERRinvalidname
    (_ERRDOS, 124): NtStatus.INVALID_INFO_CLASS,  # ERRunknownlevel
    (_ERRDOS, 145): NtStatus.DIRECTORY_NOT_EMPTY,  # ERRdirnotempty
    (_ERRDOS, 158): NtStatus.LOCK_NOT_GRANTED,  # ERRnotlocked
    (_ERRDOS, 183): NtStatus.OBJECT_NAME_COLLISION,  # ERRrename
    (_ERRDOS, 206): NtStatus.NAME_TOO_LONG,  # the file name is too long
    (_ERRDOS, 223): NtStatus.FILE_TOO_LARGE,  # the file size exceeds the limit
    (_ERRDOS, 234): NtStatus.BUFFER_OVERFLOW,  # ERRmoredata
    (_ERRDOS, 254): NtStatus.INVALID_EA_NAME,  # the extended attribute name was invalid
    (_ERRDOS, 255): NtStatus.EA_LIST_INCONSISTENT,  # the extended attributes are inconsistent
    (_ERRDOS, 267): NtStatus.NOT_A_DIRECTORY,  # the directory name is invalid
    (_ERRDOS, 275): NtStatus.EA_TOO_LARGE,  # the extended attributes did not fit
    (_ERRDOS, 282): NtStatus.EAS_NOT_SUPPORTED,  # ERReasunsupported
    (_ERRDOS, 303): NtStatus.DELETE_PENDING,  # the file is being deleted
    (_ERRDOS, 512): NtStatus.QUOTA_EXCEEDED,  # ERRquota
    (_ERRDOS, 1142): NtStatus.TOO_MANY_LINKS,  # too many links
    (_ERRSRV, 2): NtStatus.LOGON_FAILURE,  # ERRbadpw
    (_ERRSRV, 4): NtStatus.ACCESS_DENIED,  # ERRaccess
    (_ERRSRV, 5): NtStatus.SMB_BAD_TID,  # ERRinvtid
    (_ERRSRV, 6): NtStatus.BAD_NETWORK_NAME,  # ERRinvnetname
    (_ERRSRV, 7): NtStatus.BAD_DEVICE_TYPE,  # ERRinvdevice
    (_ERRSRV, 64): NtStatus.SMB_BAD_COMMAND,  # ERRsmbcmd
    (_ERRSRV, 81): NtStatus.REQUEST_NOT_ACCEPTED,  # ERRpaused
    (_ERRSRV, 89): NtStatus.REQUEST_NOT_ACCEPTED,  # ERRnoroom
    (_ERRSRV, 90): NtStatus.REQUEST_NOT_ACCEPTED,  # ERRtoomanyuids
    (_ERRSRV, 91): NtStatus.SMB_BAD_UID,  # ERRbaduid
    (_ERRSRV, 2239): NtStatus.ACCOUNT_EXPIRED,  # ERRaccountExpired
    (_ERRSRV, 2240): NtStatus.INVALID_WORKSTATION,  # ERRbadClient
    (_ERRSRV, 2241): NtStatus.INVALID_LOGON_HOURS,  # ERRbadLogonTime
    (_ERRSRV, 2242): NtStatus.PASSWORD_EXPIRED,  # ERRpasswordExpired
    (_ERRSRV, 0xFFFF): NtStatus.NOT_SUPPORTED,  # ERRnosupport
    (_ERRHRD, 19): NtStatus.MEDIA_WRITE_PROTECTED,  # ERRnowrite
    (_ERRHRD, 20): NtStatus.NO_SUCH_DEVICE,  # ERRbadunit
    (_ERRHRD, 21): NtStatus.NO_MEDIA_IN_DEVICE,  # ERRnotready
    (_ERRHRD, 23): NtStatus.CRC_ERROR,  # ERRdata
    (_ERRHRD, 27): NtStatus.CRC_ERROR,  # ERRbadsector
    (_ERRHRD, 29): NtStatus.IO_DEVICE_ERROR,  # ERRwrite
    (_ERRHRD, 30): NtStatus.IO_DEVICE_ERROR,  # ERRread
    (_ERRHRD, 32): NtStatus.SHARING_VIOLATION,  # ERRbadshare
    (_ERRHRD, 33): NtStatus.FILE_LOCK_CONFLICT,  # ERRlock
    (_ERRHRD, 39): NtStatus.DISK_FULL,  # ERRdiskfull
}


def from_dos(value: int) -> int:
    """Return the NTSTATUS for a DOS error as it lies in an SMB1 header: the class in the low byte, the code on top.

    What the table does not know is UNSUCCESSFUL, because a reader of the status must see an error.
    """
    if value == 0:
        return NtStatus.SUCCESS
    return _DOS_ERRORS.get((value & 0xFF, value >> 16), NtStatus.UNSUCCESSFUL)


# How a refused login is explained: what it means, what to do, and the reason behind the exit code.
_LOGIN_REFUSALS: Final[Mapping[NtStatus, tuple[str, Reason]]] = {
    NtStatus.LOGON_FAILURE: ("wrong user name or password; check both, and the domain", Reason.BAD_LOGIN),
    NtStatus.WRONG_PASSWORD: ("wrong password", Reason.BAD_LOGIN),
    NtStatus.NO_SUCH_USER: ("the server knows no such user; check the name and the domain", Reason.BAD_LOGIN),
    NtStatus.ACCOUNT_LOCKED_OUT: (
        "the account is locked after too many wrong passwords; wait, or ask the server's administrator",
        Reason.ACCOUNT_LOCKED,
    ),
    NtStatus.PASSWORD_EXPIRED: ("the password has expired; change it on the server", Reason.ACCOUNT_EXPIRED),
    NtStatus.PASSWORD_MUST_CHANGE: (
        "the password must be changed before the first login; change it on the server",
        Reason.ACCOUNT_EXPIRED,
    ),
    NtStatus.ACCOUNT_EXPIRED: ("the account has expired; ask the server's administrator", Reason.ACCOUNT_EXPIRED),
    NtStatus.ACCOUNT_DISABLED: (
        "the account is disabled; ask the server's administrator",
        Reason.LOGIN_NOT_ALLOWED,
    ),
    NtStatus.ACCOUNT_RESTRICTION: (
        "the server does not let this account log in so (an empty password, or a login of a kind that it forbids)",
        Reason.LOGIN_NOT_ALLOWED,
    ),
    NtStatus.BAD_TOKEN_TYPE: (
        "the server belongs to no domain, and takes no ticket that tells of one (Samba: server role = member server)",
        Reason.LOGIN_NOT_ALLOWED,
    ),
    NtStatus.INVALID_LOGON_HOURS: ("the account may not log in at this time", Reason.LOGIN_NOT_ALLOWED),
    NtStatus.INVALID_WORKSTATION: ("the account may not log in from this machine", Reason.LOGIN_NOT_ALLOWED),
    NtStatus.LOGON_TYPE_NOT_GRANTED: ("the account may not log in over the network", Reason.LOGIN_NOT_ALLOWED),
    NtStatus.PRIVILEGE_NOT_HELD: ("the account may not log in over the network", Reason.LOGIN_NOT_ALLOWED),
    NtStatus.NETWORK_ACCESS_DENIED: ("the account may not be used over the network", Reason.LOGIN_NOT_ALLOWED),
    NtStatus.ACCESS_DENIED: (
        "the server refuses the login; it may allow no anonymous users or no such kind of login (sec=)",
        Reason.LOGIN_NOT_ALLOWED,
    ),
}


def login_refused(status: int, *, user: str, host: str, as_guest: bool = False) -> SmbError:
    """Return the exception for a SESSION_SETUP that `host` answered with an error `status`, ready to be raised.

    `as_guest`: the login had no password on purpose. AuthenticationFailed, which is final, where the login itself was
    refused; else what the table says: a server that is short of memory may be asked again.
    """
    row = NtStatus(status)
    if row not in _LOGIN_REFUSALS:
        return error(status, f"login at {host}")
    words, reason = _LOGIN_REFUSALS[row]
    if as_guest and reason is Reason.BAD_LOGIN:
        words, reason = "it takes no guests; log in with username= and a password", Reason.GUEST_REFUSED
    who = f"user {user!r}" if user else "the anonymous user"
    return AuthenticationFailed(
        f"{host} refused {who}: {words} ({row.name})", reason=reason, errno=row.errno or posix.EACCES
    )
