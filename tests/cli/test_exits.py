"""Exit codes: one for each cause, written down once."""

from pathlib import Path

import pytest

from smbfuse import status
from smbfuse.cli import exits
from smbfuse.cli.exits import CannotMount, Exit, exit_code
from smbfuse.errors import (
    AuthenticationFailed,
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    DecodeError,
    Reason,
    SecurityRefused,
    SmbError,
    Timeout,
    UnsavedData,
)
from smbfuse.status import NtStatus

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_every_reason_has_a_code_of_its_own() -> None:
    codes = [exit_code(ConnectFailed("x", reason=reason)) for reason in Reason]
    assert len(set(codes)) == len(Reason)
    assert [exit_code(AuthenticationFailed("x", reason=reason)) for reason in Reason] == codes


@pytest.mark.parametrize(
    "error, code",
    [
        (CannotMount(Exit.USAGE, "x"), Exit.USAGE),
        (SecurityRefused("x"), Exit.SECURITY_REFUSED),
        (status.error(NtStatus.BAD_NETWORK_NAME, "TREE_CONNECT"), Exit.NO_SUCH_SHARE),
        (status.error(NtStatus.OBJECT_NAME_NOT_FOUND, "CREATE"), Exit.NO_SUCH_FOLDER),
        (status.error(NtStatus.ACCESS_DENIED, "TREE_CONNECT"), Exit.ACCESS_DENIED),
        (status.login_refused(NtStatus.LOGON_FAILURE, user="u", host="h"), Exit.BAD_LOGIN),
        (status.login_refused(NtStatus.ACCOUNT_LOCKED_OUT, user="u", host="h"), Exit.ACCOUNT_LOCKED),
        (status.login_refused(NtStatus.PASSWORD_EXPIRED, user="u", host="h"), Exit.ACCOUNT_EXPIRED),
        (status.login_refused(NtStatus.ACCOUNT_DISABLED, user="", host="h"), Exit.LOGIN_NOT_ALLOWED),
        (Timeout("x"), Exit.NO_ANSWER),
        (ConnectionLost("x", sent=True), Exit.CONNECTION_LOST),
        (UnsavedData("x"), Exit.UNSAVED),
        (ConfigError("x"), Exit.BAD_VALUE),
        (DecodeError("x"), Exit.MOUNT_FAILED),
        (SmbError("x"), Exit.MOUNT_FAILED),
        (KeyboardInterrupt(), Exit.INTERRUPTED),
        (OSError(2, "x"), Exit.SYSTEM),
    ],
    ids=repr,
)
def test_what_went_wrong_has_its_code(error: BaseException, code: Exit) -> None:
    assert exit_code(error) is code


def test_codes_fit_a_process_and_leave_mount_8_its_own() -> None:
    assert all(0 <= code < 126 for code in Exit)
    assert {code for code in Exit if code <= 32} == {0, 1, 2, 4, 8, 32}


def test_the_document_is_what_the_table_says() -> None:
    assert (DOCS / "exit-codes.md").read_text() == exits.markdown(), "python -m smbfuse.cli.exits"
