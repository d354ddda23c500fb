"""Wireshark's opinion: the fields of every capture, compared with what our decoders make of the same messages.

Each row names a field of `tshark -T json` and the attribute of ours that says the same. The values of one field are
compared over a whole capture, in their order, so that nothing can be read twice, left out or taken for another.
"""

import collections
import json
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from smbfuse.errors import DecodeError
from smbfuse.wire.smb1.header import NO_ANDX, PROTOCOL, Command
from smbfuse.wire.smb1.message import decode_message
from tests.fuzz.gather import messages
from tests.wire.smb1.blocks import REQUESTS, SHARED_CAPTURES, Message

needs_both = pytest.mark.skipif(
    not SHARED_CAPTURES.is_dir() or shutil.which("tshark") is None,
    reason="tshark and the collection of captures are not both here",
)

Row = Mapping[str, Callable[[Any], Any]]

_TRANSACTION: Final[Row] = {
    "smb.tpc": lambda v: v.total_parameter_count,
    "smb.tdc": lambda v: v.total_data_count,
    "smb.pc": lambda v: len(v.parameters),
    "smb.dc": lambda v: len(v.data),
    "smb.mpc": lambda v: getattr(v, "max_parameter_count", None),
    "smb.mdc": lambda v: getattr(v, "max_data_count", None),
    "smb.pd": lambda v: getattr(v, "parameter_displacement", None),
    "smb.data_disp": lambda v: getattr(v, "data_displacement", None),
}
REQUEST_FIELDS: Final[dict[int, Row]] = {
    Command.NEGOTIATE: {"smb.dialect.name": lambda v: v.dialects},
    Command.SESSION_SETUP_ANDX: {
        "smb.max_buf": lambda v: v.max_buffer_size,
        "smb.vc": lambda v: v.vc_number,
        "smb.native_os": lambda v: v.native_os,
        "smb.native_lanman": lambda v: v.native_lan_man,
        "smb.account": lambda v: getattr(v, "account_name", None),
    },
    Command.TREE_CONNECT_ANDX: {
        "smb.service": lambda v: v.service,
        "smb.pwlen": lambda v: len(v.password),
    },
    Command.READ_ANDX: {
        "smb.maxcount_low": lambda v: v.max_count,
        "smb.mincount": lambda v: v.min_count,
        "smb.maxcount_high": lambda v: v.max_count_high,
        "smb.offset": lambda v: v.offset,
        "smb.offset_high": lambda v: v.offset_high,
    },
    Command.WRITE_ANDX: {
        "smb.data_len_low": lambda v: len(v.data) & 0xFFFF,
        "smb.data_len_high": lambda v: len(v.data) >> 16,
        "smb.offset": lambda v: v.offset,
        "smb.offset_high": lambda v: v.offset_high,
    },
    Command.NT_CREATE_ANDX: {
        "smb.impersonation.level": lambda v: v.impersonation_level,
    },
    Command.TRANSACTION2: _TRANSACTION,
    Command.TRANSACTION: _TRANSACTION,
    Command.TRANSACTION2_SECONDARY: _TRANSACTION,
    Command.TRANSACTION_SECONDARY: _TRANSACTION,
    Command.ECHO: {"smb.echo.count": lambda v: v.number},
}
RESPONSE_FIELDS: Final[dict[int, Row]] = {
    Command.NEGOTIATE: {
        "smb.dialect.index": lambda v: v.dialect_index,
        "smb.max_bufsize": lambda v: getattr(v, "max_buffer_size", None),
        "smb.max_vcs": lambda v: getattr(v, "max_number_vcs", None),
        "smb.max_raw": lambda v: getattr(v, "max_raw_size", None),
        "smb.server_timezone": lambda v: getattr(v, "server_time_zone", None),
    },
    Command.SESSION_SETUP_ANDX: {
        "smb.setup.action": lambda v: v.action,
        "smb.native_os": lambda v: v.native_os,
        "smb.native_lanman": lambda v: v.native_lan_man,
    },
    Command.TREE_CONNECT_ANDX: {
        "smb.service": lambda v: v.service,
        "smb.native_fs": lambda v: v.native_file_system,
    },
    Command.READ_ANDX: {
        "smb.data_len_low": lambda v: len(v.data) & 0xFFFF,
        "smb.data_len_high": lambda v: len(v.data) >> 16,
    },
    Command.WRITE_ANDX: {"smb.count_low": lambda v: v.count & 0xFFFF, "smb.count_high": lambda v: v.count >> 16},
    Command.NT_CREATE_ANDX: {"smb.create.action": lambda v: v.create_disposition},
    Command.TRANSACTION2: _TRANSACTION,
    Command.TRANSACTION: _TRANSACTION,
    Command.ECHO: {"smb.echo.seq_num": lambda v: v.number},
}
HEADER_FIELDS: Final[Row] = {
    "smb.pid.high": lambda header: header.pid_high,
    "smb.tid": lambda header: header.tid,
    "smb.uid": lambda header: header.uid,
    "smb.mid": lambda header: header.mid,
}
FIELDS: Final = sorted(
    {*HEADER_FIELDS, *(name for rows in (REQUEST_FIELDS, RESPONSE_FIELDS) for row in rows.values() for name in row)}
)


# Wireshark gives some of these names to fields of LOCKING_ANDX and NT_TRANSACT, too.
READ_HERE: Final = {*REQUESTS} - {Command.LOCKING_ANDX, Command.NT_TRANSACT}

# Where tshark has seen other messages than we have, and why; the fields cannot be compared then.
OTHER_MESSAGES: Final = {
    "ndpi-dos_win98": "no TCP: NetBEUI frames",
    "ndpi-netbios": "mailslots in UDP datagrams",
    "own-legacy-LANMAN": "a login in the form of a dialect that is not offered is refused",
    "suricata-filestore": "NT_TRANSACT in several messages is refused",
    "suricata-smb-eicar-file-nbss-more": "an ECHO behind another message in its segment is not seen by tshark",
    "suricata-smb-eicar-overlap": "another kind of link",
    "suricata-smb-named-pipe-ascii": "another kind of link",
    "suricata-smb1_eicar_andx": "another kind of link",
    "suricata-smb2": "messages in several messages, and cut connections",
    "suricata-zerologon": "a repeated segment",
    "zeek-fragment-state-exhaustion": "cut connections",
    "zeek-netbios-split": "a frame cut in the middle of its headers",
    "zeek-smb1-logoff-andx-no-advance": "refused: it leads in a circle",
    "zeek-smb1_transaction": "refused: cut",
    "zeek-smb2-zero-byte": "pcapng",
    "zeek-smb_v2_only": "mailslots in UDP datagrams",
}
# Captures without SMB1, apart from a NEGOTIATE.
SMB2_ALONE: Final = ("SMB2", "SMB3", "smb2", "smb3", "wireshark")
# Values that differ although the messages are the same: impacket aligns no string.
UNALIGNED: Final = ("own-impacket", "smb.native_fs")


def number_or_text(value: object) -> object:
    """Return what tshark shows as text in the form that ours has: numbers as numbers."""
    text = str(value)
    try:
        return int(text, 0)
    except ValueError:
        return text


def said_by_tshark(capture: Path) -> dict[str, list[object]]:
    command = ["tshark", "-r", str(capture), "-Y", "smb", "-T", "json"]
    for field in (*FIELDS, "smb.cmd"):
        command += ["-e", field]
    frames = json.loads(subprocess.run(command, capture_output=True, check=True).stdout or b"[]")
    said: dict[str, list[object]] = collections.defaultdict(list)
    for frame in frames:
        layers = frame["_source"]["layers"]
        commands = {int(command, 0) for command in layers["smb.cmd"]} - {NO_ANDX}
        for field, values in layers.items():
            if field in HEADER_FIELDS or (field in FIELDS and commands <= READ_HERE):
                said[field] += [number_or_text(value) for value in values]
    return said


def said_by_us(capture: Path) -> dict[str, list[object]]:
    said: dict[str, list[object]] = collections.defaultdict(list)
    for number, data in enumerate(data for data in messages(capture) if data[:4] == PROTOCOL):
        try:
            header, blocks = decode_message(memoryview(data))
            values = list(Message(number, header, blocks, data).values())
        except DecodeError:
            continue
        for field, attribute in HEADER_FIELDS.items():
            said[field].append(attribute(header))
        if not {block.command for block in blocks} <= READ_HERE:
            continue  # some names of fields serve commands that nobody here reads, too
        table = RESPONSE_FIELDS if header.is_reply else REQUEST_FIELDS
        for block, value in values:
            for field, attribute in table.get(block.command, {}).items():
                ours = attribute(value)
                if ours is None:
                    continue
                said[field] += [number_or_text(one) for one in (ours if isinstance(ours, tuple) else (ours,))]
    return said


CAPTURES: Final = [
    path for path in sorted(SHARED_CAPTURES.glob("*.pcap*")) if not any(part in path.name for part in SMB2_ALONE)
]


@needs_both
@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.name)
def test_fields_are_what_tshark_says(capture: Path) -> None:
    if any(capture.name.startswith(start) for start in OTHER_MESSAGES):
        pytest.skip(next(why for start, why in OTHER_MESSAGES.items() if capture.name.startswith(start)))
    theirs, ours = said_by_tshark(capture), said_by_us(capture)
    for field in FIELDS:
        if capture.name.startswith(UNALIGNED[0]) and field == UNALIGNED[1]:
            continue
        assert ours[field] == theirs[field], field
