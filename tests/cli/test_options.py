"""Options: every name that users paste is understood, refused with a reason, or answered with the nearest one."""

import dataclasses
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest

from smbfuse.cli import compatibility, declined, manual
from smbfuse.cli.exits import CannotMount, Exit
from smbfuse.cli.options import PARTS, Draft, Takes, split_options
from smbfuse.config import CacheMode, ModeChanges, NameMapping, Sec, SymlinkKind, Vers

DOCS = Path(__file__).resolve().parents[2] / "docs"

# What stands in fstab lines all over the world, and must not fail.
PASTED = (
    "credentials=/x username=u password=p domain=D uid=1000 gid=1000 file_mode=0644 dir_mode=0755 iocharset=utf8 "
    "vers=3.0 sec=ntlmssp rw ro noperm nobrl nolock cache=strict actimeo=30 mfsymlinks noserverino serverino nounix "
    "soft hard rsize=1048576 wsize=1048576 seal sign guest _netdev nofail noauto users x-systemd.automount "
    "x-systemd.idle-timeout=60 x-systemd.device-timeout=5 x-systemd.requires=x echo_interval=60 nosharesock "
    "closetimeo=1 multichannel max_channels=4 mapposix noatime forceuid forcegid nosetuids ip=10.0.0.1 port=445 "
    "user exec suid dev auto async comment=x defaults nomapposix mapchars strictsync nostrictsync nouser_xattr"
)


def draft_of(*texts: str) -> Draft:
    draft = Draft()
    for text in texts:
        compatibility.table().apply(draft, text)
    return draft


def refusal(text: str) -> tuple[Exit, str]:
    with pytest.raises(CannotMount) as caught:
        draft_of(text)
    return caught.value.code, str(caught.value)


def test_pasted_options_do_not_fail() -> None:
    draft = draft_of(*PASTED.split(), ",".join(PASTED.split()))
    assert draft.username == "u"
    assert draft.warnings == []


@pytest.mark.parametrize(
    "text, part, name, value",
    [
        ("rsize=64k", "network", "rsize", 65536),
        ("rsize=1.5MiB", "network", "rsize", 3 << 19),
        ("cache_size=1G", "cache", "size", 1 << 30),
        ("timeo=500ms", "network", "timeo_s", 0.5),
        ("timeo=2min", "network", "timeo_s", 120.0),
        ("echo_interval=60", "network", "echo_interval_s", 60.0),
        ("port=139", "target", "port", 139),
        ("ip=::1", "target", "address", "::1"),
        ("addr=10.0.0.1", "target", "address", "10.0.0.1"),
        ("vers=1.0", "security", "vers", Vers.SMB1),
        ("vers=2.0.2", "security", "vers", Vers.SMB202),
        ("vers=3.02", "security", "vers", Vers.SMB302),
        ("vers=3.11", "security", "vers", Vers.SMB311),
        ("vers=AUTO", "security", "vers", Vers.AUTO),
        ("sec=krb5", "login", "sec", Sec.KRB5),
        ("sec=ntlmsspi", "security", "sign", True),
        ("nosign", "security", "sign", False),
        ("sign,nosign,sign", "security", "sign", True),
        ("uid=root", "view", "uid", 0),
        ("gid=7", "view", "gid", 7),
        ("fmask=0640", "view", "file_mode", 0o640),
        ("dirm=700", "view", "dir_mode", 0o700),
        ("noserverino", "view", "server_inode", False),
        ("nounix", "network", "unix_extensions", False),
        ("noposix", "network", "unix_extensions", False),
        ("nolinux", "network", "unix_extensions", False),
        ("smb1_open=nt", "network", "smb1_open_nt", True),
        ("smb1_open=andx", "network", "smb1_open_nt", False),
        ("nbsessinit", "network", "netbios_session", True),
        ("nonbsessinit", "network", "netbios_session", False),
        ("servern=NAS", "network", "server_netbios_name", "NAS"),
        ("cache=none", "cache", "mode", CacheMode.NONE),
        ("cache=singleclient", "cache", "mode", CacheMode.LOOSE),
        ("forcedirectio", "cache", "mode", CacheMode.NONE),
        ("actimeo=7", "cache", "attributes_s", 7.0),
        ("actimeo=7", "cache", "directories_s", 7.0),
        ("actimeo=7,acregmax=2", "cache", "attributes_s", 2.0),
        ("acregmax=2,noac", "cache", "attributes_s", 0.0),
        ("mapchars", "view", "mapping", NameMapping.SFU),
        ("mapchars,nomapchars", "view", "mapping", NameMapping.NONE),
        ("no_contain_symlinks", "view", "contain_symlinks", False),
        ("nocontain_symlinks", "view", "contain_symlinks", False),
        ("noperm", "mount", "check_permissions", False),
        ("default_permissions", "mount", "check_permissions", True),
        ("rw,ro", "mount", "read_only", True),
        ("ro,rw", "mount", "read_only", False),
        ("noro", "mount", "read_only", False),
        ("wsize=1M", "network", "wsize", 1 << 20),
        ("nolease", "network", "leases", False),
        ("nonotify", "cache", "notify", False),
        ("closetimeo=5", "cache", "close_timeout_s", 5.0),
        ("dirty_limit=1G", "cache", "dirty_limit", 1 << 30),
        ("nostrictsync", "cache", "strict_sync", False),
        ("writeback_cache", "cache", "mode", CacheMode.LOOSE),
        ("direct_io", "cache", "mode", CacheMode.NONE),
        ("symlink=wsl", "view", "symlink", SymlinkKind.WSL),
        ("symlink=unix", "view", "symlink", SymlinkKind.NONE),
        ("mfsymlinks", "view", "mf_symlinks", True),
        ("nomfsymlinks", "view", "mf_symlinks", False),
        ("dynperm", "view", "mode_changes", ModeChanges.REMEMBER),
        ("dynperm,nodynperm", "view", "mode_changes", ModeChanges.QUIET),
        ("modechanges=refuse", "view", "mode_changes", ModeChanges.REFUSE),
        ("user_xattr", "view", "user_xattrs", True),
        ("cifsacl", "view", "acls", True),
        ("acl,noacl", "view", "acls", False),
        ("noexec,sync,noexec", "mount", "kernel_options", ("noexec", "sync")),
        ("noexec,noatime,noexec", "mount", "kernel_options", ("noexec", "noatime")),
    ],
)
def test_an_option_sets_its_field(text: str, part: str, name: str, value: Any) -> None:
    draft = draft_of(text)
    assert draft.settings[part, name] == value
    assert type(draft.settings[part, name]) is type(value)


def test_a_password_may_hold_anything() -> None:
    draft = draft_of("username=u,password=a,,b=c;%,,,nobrl")
    assert draft.settings["login", "password"].reveal() == "a,b=c;%,"
    assert draft.notes == [f"option nobrl has no effect: {declined.LOCKS_ARE_LOCAL}"]
    assert split_options("a,,,b") == [("a,", None), ("b", None)]
    assert split_options(",rw,,") == [("rw,", None)]
    assert split_options("") == []


def test_user_alone_is_for_mount_8_and_with_a_value_is_a_name() -> None:
    assert draft_of("user").username is None
    assert draft_of("user=bob").username == "bob"
    assert draft_of("username=").username == ""


@pytest.mark.parametrize(
    "text, near",
    [("credential=/x", "credentials"), ("usrname=x", "username"), ("serverinode", "serverino"), ("fileMode=7", "mode")],
)
def test_an_unknown_option_is_answered_with_the_nearest(text: str, near: str) -> None:
    code, sentence = refusal(text)
    assert code is Exit.UNKNOWN_OPTION
    assert f"did you mean {near}" in sentence or near in sentence


def test_an_unknown_option_like_no_other_points_at_the_list() -> None:
    code, sentence = refusal("\x1b[2Jqqq")
    assert code is Exit.UNKNOWN_OPTION
    assert sentence == r"unknown option \x1b[2Jqqq; smbfuse --help lists them all"


def test_sloppy_notes_what_follows() -> None:
    draft = draft_of("sloppy,nonsense=1,rsize=4k")
    assert draft.settings["network", "rsize"] == 4096
    assert draft.notes == ["option nonsense is unknown, and ignored (sloppy)"]
    assert refusal("nonsense,sloppy")[0] is Exit.UNKNOWN_OPTION


@pytest.mark.parametrize(
    "text",
    [
        "rsize=", "rsize=x", "rsize=-1", "rsize=1Q", "rsize=9999999999999T", "rsize", "timeo=soon", "timeo=5parsec",
        "port=0", "port=65536", "port=http", "vers=4.0", "sec=ntlm7", "sec=krb5p", "uid=no-such-user-here",
        "uid=4294967295", "gid=-1", "file_mode=999", "file_mode=17777", "umask=x", "cache=sometimes",
        "iocharset=latin1", "sign=yes", "noserverino=1", "smb1_open=maybe", "credentials=", "max_credits=0",
        "wsize=x", "dirty_limit=-1", "closetimeo=soon", "symlink=sfu", "modechanges=loudly", "ro=1", "rw=1",
    ],
)  # fmt: skip
def test_a_bad_value_is_one_sentence(text: str) -> None:
    code, sentence = refusal(text)
    assert code is Exit.BAD_VALUE
    assert text.partition("=")[0] in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("name", ["brl", "forcemandatorylock", "forcemand"])
def test_locks_are_refused_in_words(name: str) -> None:
    code, sentence = refusal(name)
    assert code is Exit.OPTION_REFUSED
    assert "local" in sentence
    assert "database" in sentence


@pytest.mark.parametrize("name", declined.NOT_TO_BE_HAD)
def test_what_is_refused_has_a_reason(name: str) -> None:
    code, sentence = refusal(f"{name}=1")
    assert code is Exit.OPTION_REFUSED
    assert sentence.startswith(f"option {name}: ")


def test_no_name_means_two_things() -> None:
    table = compatibility.table()
    assert len(table.names()) == len(set(table.names()))
    assert not set(declined.WITHOUT_EFFECT) & set(declined.NOT_TO_BE_HAD)


def test_every_option_says_what_it_does_and_in_what_unit() -> None:
    for option in compatibility.table().options:
        assert option.help, option.names
        if option.takes is Takes.VALUE:
            assert option.metavar, option.names
    for owner, _ in PARTS.values():
        for declared in dataclasses.fields(owner):
            numeric = typing.get_type_hints(owner)[declared.name] in (int, float)
            if declared.metadata and numeric:
                assert declared.metadata["unit"], declared.name


def test_the_manual_is_what_the_table_says() -> None:
    assert (DOCS / "options.md").read_text() == manual.markdown(), "python -m smbfuse.cli.options --markdown"
    text = manual.help_text(80)
    assert max(map(len, text.splitlines())) <= 80
    for option in compatibility.table().options:
        assert option.names[0] in text


def test_the_manual_prints_itself() -> None:
    command = [sys.executable, "-m", "smbfuse.cli.options", "--markdown"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True, cwd=DOCS.parent)
    assert ran.stdout == manual.markdown()
