"""Passwords in a command line: found wherever they may stand, and overwritten."""

import subprocess
import sys
from pathlib import Path

import pytest

from smbfuse.cli.argv import overwrite_passwords, password_spans

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "argument, hidden",
    [
        ("password=secret", "password=******"),
        ("-opassword=secret,rw", "-opassword=******,rw"),
        ("user=a,pass=a,,b,rw,password2=c", "user=a,pass=****,rw,password2=*"),
        ("username=DOM/u%secret,rw", "username=DOM/u%******,rw"),
        ("smb://u:secret@host/share", "smb://u:******@host/share"),
        ("smb://u:a@b@host/s:x@y", "smb://u:***@host/s:x@y"),
        ("source=smb://u:pw@host/share", "source=smb://u:**@host/share"),
        ("password=Größe", "password=" + "*" * len("Größe".encode())),
        ("//host/password=x", "//host/password=x"),
        ("nopassword=x", "nopassword=x"),
        ("smb://host/share", "smb://host/share"),
        ("user=plain", "user=plain"),
        ("password=", "password="),
    ],
)
def test_where_passwords_stand(argument: str, hidden: str) -> None:
    raw = bytearray(argument.encode())
    for start, end in password_spans(bytes(raw)):
        raw[start:end] = b"*" * (end - start)
    assert raw.decode() == hidden


def test_without_a_password_nothing_is_touched() -> None:
    assert not overwrite_passwords(["//host/share", "/mnt", "-o", "ro"])


def test_the_kernel_shows_them_no_longer() -> None:
    program = (
        "import sys; from smbfuse.cli.argv import overwrite_passwords\n"
        "assert overwrite_passwords(sys.argv[1:])\n"
        "print(open('/proc/self/cmdline', 'rb').read().split(b'\\0')[-5:-1])"
    )
    arguments = ["//h/s", "-o", "user=x,password=x", "smb://u:x@h/s"]
    ran = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=20, check=True, cwd=ROOT
    )
    # The short password is overwritten where it stands, and nowhere else.
    assert ran.stdout.strip() == str([b"//h/s", b"-o", b"user=x,password=*", b"smb://u:*@h/s"])
