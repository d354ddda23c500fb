"""Exit codes: the only table of them. docs/exit-codes.md is printed from it.

0 to 32 are those of mount(8); what it would call a mount failure (32) has a code of its own here, above it, so that a
script can tell a wrong password from a server that is switched off.
"""

from enum import IntEnum
from typing import Final, Self

from smbfuse.config import Login, Target
from smbfuse.errors import (
    AuthenticationFailed,
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    Denied,
    NotFound,
    Reason,
    SecurityRefused,
    Silence,
    Timeout,
    UnsavedData,
    WrongKind,
)
from smbfuse.status import NtStatus


class Exit(IntEnum):
    """One row a code: value, meaning."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> Self:
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    OK = 0, "mounted, or what was asked for was done"
    USAGE = 1, "the command line makes no sense"
    SYSTEM = 2, "the system refused something: memory, processes, files"
    INTERNAL = 4, "a bug in smbfuse; the log has more"
    INTERRUPTED = 8, "interrupted by the user before the mount was ready"
    MOUNT_FAILED = 32, "not mounted, for a reason without a code of its own"
    UNKNOWN_OPTION = 33, "no option of that name; the message names the nearest one"
    BAD_VALUE = 34, "an option's value is wrong"
    OPTION_REFUSED = 35, "an option that mount.cifs knows, and smbfuse cannot follow"
    NO_SUCH_HOST = 40, "the host's name has no address"
    CONNECTION_REFUSED = 41, "nothing listens on the host's SMB ports"
    UNREACHABLE = 42, "there is no way to the host"
    NO_ANSWER = 43, "the host does not answer in time"
    NETBIOS_ONLY = 44, "nothing listens on 445, but 139 answers"
    NETBIOS_REFUSED = 45, "the server refused the NetBIOS session"
    SMB1_ONLY = 46, "the server speaks only SMB1, which was not asked for"
    SMB2_ONLY = 47, "the server does not speak SMB1, which was asked for"
    NOT_SMB = 48, "what listens there is not an SMB server"
    CONNECTION_LOST = 49, "the connection broke before the mount was ready"
    BAD_LOGIN = 50, "wrong user name or password"
    ACCOUNT_LOCKED = 51, "the account is locked"
    ACCOUNT_EXPIRED = 52, "the account or its password has expired"
    LOGIN_NOT_ALLOWED = 53, "the account may not log in: disabled, wrong time, wrong machine"
    GUEST_REFUSED = 54, "the server made us a guest, which was not asked for"
    SECURITY_REFUSED = 55, "signing, encryption or a dialect was demanded and is not to be had"
    NO_PASSWORD = 56, "a password is needed, and there is no terminal to ask on"
    CREDENTIALS = 57, "the credentials cannot be read"
    NO_SUCH_SHARE = 60, "the server has no such share"
    ACCESS_DENIED = 61, "the server does not let this user into the share"
    NO_SUCH_FOLDER = 62, "the share has no such folder, or it is a file"
    MOUNTPOINT_MISSING = 70, "the mount point does not exist"
    MOUNTPOINT_NOT_A_FOLDER = 71, "the mount point is not a folder"
    MOUNTPOINT_NOT_EMPTY = 72, "the mount point has entries"
    MOUNTPOINT_BUSY = 73, "something is mounted there already"
    MOUNTPOINT_NOT_OURS = 74, "the mount point does not belong to the user"
    NO_FUSE_DEVICE = 75, "there is no /dev/fuse, or it may not be opened"
    NO_FUSERMOUNT = 76, "fusermount3 is not installed"
    ALLOW_OTHER_FORBIDDEN = 77, "allow_other is not allowed to users by /etc/fuse.conf"
    UNSAVED = 80, "unmounted, and something that programs wrote is not on the server; the log names it"
    ABORTED = 81, "ended at once, by a second signal; the log names what is not on the server"


class CannotMount(Exception):
    """Ends the command with one sentence and an exit code; nothing that a caller could repair."""

    def __init__(self, code: Exit, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


_BY_REASON: Final = {
    Reason.NO_SUCH_HOST: Exit.NO_SUCH_HOST,
    Reason.REFUSED: Exit.CONNECTION_REFUSED,
    Reason.UNREACHABLE: Exit.UNREACHABLE,
    Reason.TIMED_OUT: Exit.NO_ANSWER,
    Reason.NETBIOS_ONLY: Exit.NETBIOS_ONLY,
    Reason.NETBIOS_REFUSED: Exit.NETBIOS_REFUSED,
    Reason.SMB1_ONLY: Exit.SMB1_ONLY,
    Reason.SMB2_ONLY: Exit.SMB2_ONLY,
    Reason.NOT_SMB: Exit.NOT_SMB,
    Reason.BAD_LOGIN: Exit.BAD_LOGIN,
    Reason.ACCOUNT_LOCKED: Exit.ACCOUNT_LOCKED,
    Reason.ACCOUNT_EXPIRED: Exit.ACCOUNT_EXPIRED,
    Reason.LOGIN_NOT_ALLOWED: Exit.LOGIN_NOT_ALLOWED,
    Reason.GUEST_REFUSED: Exit.GUEST_REFUSED,
}


def exit_code(error: BaseException) -> Exit:
    """Return the code for what ended the start of a mount."""
    match error:
        case CannotMount(code=code):
            return code
        case ConnectFailed(reason=reason) | AuthenticationFailed(reason=reason):
            return _BY_REASON[reason]
        case SecurityRefused():
            return Exit.SECURITY_REFUSED
        case NotFound(status=NtStatus.BAD_NETWORK_NAME):
            return Exit.NO_SUCH_SHARE
        case NotFound() | WrongKind():
            return Exit.NO_SUCH_FOLDER
        case Denied():
            return Exit.ACCESS_DENIED
        case Timeout() | Silence():
            return Exit.NO_ANSWER
        case ConnectionLost():
            return Exit.CONNECTION_LOST
        case UnsavedData():
            return Exit.UNSAVED
        case ConfigError():
            return Exit.BAD_VALUE
        case KeyboardInterrupt():
            return Exit.INTERRUPTED
        case OSError():
            return Exit.SYSTEM
        case _:
            return Exit.MOUNT_FAILED


def in_words(code: Exit, sentence: str, target: Target, login: Login) -> str:
    """Put what the server's status means for the user before what it is called in the protocol."""
    user = repr(login.user) if login.user else "the anonymous user"
    meaning = {
        Exit.NO_SUCH_SHARE: f"{target.host} has no share {target.share!r}, or does not show it to {user}",
        Exit.ACCESS_DENIED: f"{target.host} does not let {user} into {target.share!r}; its administrator can",
        Exit.NO_SUCH_FOLDER: f"the share {target.share!r} has no folder {target.path!r}",
    }.get(code)
    return f"{meaning} ({sentence})" if meaning else sentence


def markdown() -> str:
    """Return docs/exit-codes.md."""
    rows = "\n".join(f"| {code.value} | `{code.name}` | {code.meaning} |" for code in Exit)
    return f"""# Exit codes

Printed from `smbfuse/cli/exits.py` by `python -m smbfuse.cli.exits`; do not edit by hand.

0 to 32 mean what mount(8) means by them. What mount(8) calls a mount failure has a code of its own above 32, so that a
script can tell a wrong password from a server that is switched off.

| code | name | meaning |
|---|---|---|
{rows}
"""


if __name__ == "__main__":
    print(markdown(), end="")
