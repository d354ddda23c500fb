"""The whole exception tree: each class answers one question, what can the caller do?

Every error that crosses a room's border is one of these. `errno` is what a POSIX caller is given; it follows the
Linux kernel's SMB client where POSIX does not decide, because users compare the two.
"""

import enum
import errno as posix


class Reason(enum.Enum):
    """Why there is no connection or no login; the command line turns each into its own exit code."""

    NO_SUCH_HOST = "no such host"
    REFUSED = "connection refused"
    UNREACHABLE = "network unreachable"
    TIMED_OUT = "no answer"
    NETBIOS_ONLY = "only the NetBIOS port answers"
    NETBIOS_REFUSED = "NetBIOS name refused"
    SMB1_ONLY = "the server speaks only SMB1"
    SMB2_ONLY = "the server does not speak SMB1"
    NOT_SMB = "no SMB server answers"
    BAD_LOGIN = "wrong user name or password"
    ACCOUNT_LOCKED = "account locked"
    ACCOUNT_EXPIRED = "account or password expired"
    LOGIN_NOT_ALLOWED = "login not allowed"
    GUEST_REFUSED = "the server made us a guest"


class SmbError(Exception):
    """Base of all that may go wrong between a system call and the server.

    `errno` is the POSIX error number for the program that asked; classes set a default, instances may refine it.
    """

    errno: int = posix.EIO

    def __init__(self, message: str, *, errno: int | None = None) -> None:
        super().__init__(message)
        if errno is not None:
            self.errno = errno


class StatusError(SmbError):
    """The server answered with an error status: the request was understood and refused.

    `status` is the NTSTATUS value (32 bits), or a DOS error mapped to one. Raised through `status.error()` only, so
    that the class and the errno always come from the one table.
    """

    def __init__(self, message: str, *, status: int, errno: int | None = None) -> None:
        super().__init__(message, errno=errno)
        self.status = status


class NotFound(StatusError):
    """No such name: cache that, or create it."""

    errno = posix.ENOENT


class Exists(StatusError):
    """The name is taken: choose another or replace it."""

    errno = posix.EEXIST


class Denied(StatusError):
    """The server does not allow it to this user: only another login or the server's administrator helps."""

    errno = posix.EACCES


class WrongKind(StatusError):
    """A folder where a file was expected, or the other way round: look again."""

    errno = posix.ENOTDIR


class NotEmpty(StatusError):
    """The folder still has entries."""

    errno = posix.ENOTEMPTY


class Busy(StatusError):
    """Somebody else has it open or locked: try again later."""

    errno = posix.EBUSY


class NoSpace(StatusError):
    """The disk or the quota is full."""

    errno = posix.ENOSPC


class StaleHandle(StatusError):
    """The handle is no longer known to the server: open the file again."""

    errno = posix.ESTALE


class Orphaned(StaleHandle):
    """The handle was lost after its file had been removed through us: the file is no more, and nobody can miss it."""


class SessionGone(StatusError):
    """The login or the tree connection has ended on the server: log in again, then repeat."""

    errno = posix.EHOSTDOWN


class Unsupported(StatusError):
    """The server, the dialect or this client does not have it: use another way."""

    errno = posix.EOPNOTSUPP


class AuthenticationFailed(SmbError):
    """The server refused the login, or answered it in a way that may not be accepted: ask for other credentials.

    Final for a connection: repeating it could lock the account.
    """

    errno = posix.EACCES

    def __init__(self, message: str, *, reason: Reason = Reason.BAD_LOGIN, errno: int | None = None) -> None:
        super().__init__(message, errno=errno)
        self.reason = reason


class NoTicket(AuthenticationFailed):
    """Kerberos gave no ticket for the server: there is none, it has expired, or the KDC is out of reach.

    The server was not asked, and no password was refused: a later login may work, once the user has a ticket again.
    """


class SecurityRefused(SmbError):
    """What was demanded (dialect, signing, sealing, the same server) is not to be had: never lowered silently."""

    errno = posix.EACCES


class ProtocolError(SmbError):
    """The server broke the protocol: the connection cannot be trusted any longer."""


class DecodeError(ProtocolError):
    """Bytes that are not what the specification says: the only exception that decoding raises."""


class Timeout(SmbError):
    """The server did not answer in time. The request may still be executed."""

    errno = posix.ETIMEDOUT


class ConnectionLost(SmbError):
    """The connection ended before the answer came.

    `sent` is False only if the request surely never left: then it may be repeated whatever it does.
    """

    errno = posix.EHOSTDOWN

    def __init__(self, message: str, *, sent: bool, errno: int | None = None) -> None:
        super().__init__(message, errno=errno)
        self.sent = sent

    def of_request(self, *, sent: bool) -> "ConnectionLost":
        """Return the same loss as who waits for one request is told of it."""
        return ConnectionLost(str(self), sent=sent, errno=self.errno)


class Silence(ConnectionLost):
    """The server gave no sign of life any more, so that the connection was given up."""

    def of_request(self, *, sent: bool) -> "Silence":
        return Silence(str(self), sent=sent, errno=self.errno)


class ConnectFailed(ConnectionLost):
    """No connection could be made: wrong name, closed port, refused NetBIOS name, no dialect in common."""

    def __init__(self, message: str, *, reason: Reason, errno: int | None = None) -> None:
        super().__init__(message, sent=False, errno=errno)
        self.reason = reason


class UnsavedData(SmbError):
    """A mount has ended, and bytes that programs wrote are not on the server: the log names them."""


class ConfigError(SmbError):
    """What the user asked for cannot be: the message says what, why and what to do."""

    errno = posix.EINVAL
