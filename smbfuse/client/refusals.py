"""What a refused login means for the user: one sentence each, with the cause and what to do."""

from collections.abc import Mapping
from typing import Final

from smbfuse import status
from smbfuse.config import Login
from smbfuse.errors import AuthenticationFailed, SmbError
from smbfuse.status import NtStatus

# The cause, put behind "HOST refused the login of USER: ".
_CAUSES: Final[Mapping[int, str]] = {
    NtStatus.LOGON_FAILURE: "wrong user name or password",
    NtStatus.WRONG_PASSWORD: "wrong password",
    NtStatus.NO_SUCH_USER: "there is no such user",
    NtStatus.ACCOUNT_LOCKED_OUT: "the account is locked after too many failed logins; wait, or ask the administrator",
    NtStatus.ACCOUNT_DISABLED: "the account is disabled; ask the administrator",
    NtStatus.ACCOUNT_EXPIRED: "the account has expired; ask the administrator",
    NtStatus.PASSWORD_EXPIRED: "the password has expired; change it, then mount again",
    NtStatus.PASSWORD_MUST_CHANGE: "the password must be changed before the first login; change it, then mount again",
    NtStatus.ACCOUNT_RESTRICTION: "the account may not log in this way (an empty password is often the reason)",
    NtStatus.INVALID_LOGON_HOURS: "the account may not log in at this time of day",
    NtStatus.INVALID_WORKSTATION: "the account may not log in from this machine",
    NtStatus.LOGON_TYPE_NOT_GRANTED: "the account may not log in over the network; ask the administrator",
    NtStatus.PRIVILEGE_NOT_HELD: "the account may not log in over the network; ask the administrator",
    NtStatus.ACCESS_DENIED: "the server takes no such login; anonymous or guest logins may be forbidden, or a stronger "
    "dialect, signing or encryption required",
    NtStatus.NETWORK_ACCESS_DENIED: "the account may not be used over the network",
}


def login_refused(value: int, login: Login, host: str) -> SmbError:
    """Return the exception for a SESSION_SETUP that ended with status `value`, ready to be raised.

    AuthenticationFailed, which is final, where the login itself was refused; else what the status table says: a server
    that is short of memory may be asked again.
    """
    cause = _CAUSES.get(value)
    if cause is None:
        return status.error(value, f"login at {host}")
    who = f"{login.domain}\\{login.user}" if login.domain and login.user else login.user or "the anonymous user"
    return AuthenticationFailed(f"{host} refused the login of {who}: {cause}", errno=NtStatus(value).errno)
