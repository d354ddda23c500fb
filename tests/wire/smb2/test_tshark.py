"""A second opinion: every field that we decode from captures is what tshark says it is."""

import json
import re
import shutil
import subprocess
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from smbfuse.wire.dirlist import decode_page
from smbfuse.wire.dtyp import filetime_to_ns
from smbfuse.wire.fscc import FileAllInformation, FileFsFullSizeInformation, FileInformation, VolumeInformation
from smbfuse.wire.smb2 import control, create, errors, info, io, negotiate, session
from smbfuse.wire.smb2.header import UNSOLICITED, Command, Header, HeaderFlags
from tests.wire.smb2.elements import OWN_CAPTURES, SHARED_CAPTURES, Element, elements

Pairs = list[tuple[str, Any]]
Fields = dict[str, str]

QUICK: Final = [OWN_CAPTURES / f"own-sign-{name}.pcap" for name in ("SMB2_02", "SMB3_00", "SMB3_11-AES-128-GMAC")]
SHARED: Final = [
    SHARED_CAPTURES / name
    for name in (
        "zeek-smb2readwrite.pcap",
        "zeek-smb_v2_only_non_zero_reserved1.pcap",
        "zeek-smb2_100_small_files.pcap.gz",
        "suricata-smb2-delete.pcap",
        "suricata-smb2-async.pcap",
        "zeek-smb3_negotiate_context.pcap",
        "own-smbclient-SMB3_11.pcap.gz",
        "own-scapy-SMB3_11-smbclient.pcap.gz",
        "own-impacket-SMB3_11-smbclient.pcap.gz",
    )
]

pytestmark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")


def by_tshark(capture: Path) -> Iterator[tuple[Fields, Fields]]:
    """Yield header and body of each SMB2 element, with the first value of each field."""
    argv = ["tshark", "-r", str(capture), "-Y", "smb2", "-T", "json"]
    found = subprocess.run(argv, capture_output=True, check=True, timeout=60).stdout
    for packet in json.loads(found, object_pairs_hook=list):
        layers = dict(dict(packet)["_source"])["layers"]
        for name, layer in layers:
            if name != "smb2":
                continue
            header: Fields | None = None
            for part, content in layer:
                if part == "SMB2 Header":
                    header = dict(flattened(content))
                elif header is not None and isinstance(content, list) and re.search(r"\(0x[0-9a-f]{2}\)$", part):
                    yield header, dict(reversed(list(flattened(content))))
                    header = None


def flattened(pairs: Pairs) -> Iterator[tuple[str, str]]:
    for name, value in pairs:
        if isinstance(value, str):
            yield name, value
        elif isinstance(value, list) and value and isinstance(value[0], tuple | list) and len(value[0]) == 2:
            yield from flattened(value)


def key_of_tshark(header: Fields) -> tuple[int, ...]:
    status = number(header["smb2.nt_status"]) if "smb2.nt_status" in header else 0
    signature = int(header["smb2.signature"].replace(":", ""), 16)
    named = ("smb2.cmd", "smb2.msg_id", "smb2.flags", "smb2.sesid", "smb2.chain_offset", "smb2.credit.charge")
    return (*(number(header[name]) for name in named), status, signature)


def key_of_ours(element: Element) -> tuple[int, ...]:
    header = Header.decode(element.data)
    status = header.status if element.is_response else 0
    signature = int.from_bytes(header.signature, "big")
    return (
        header.command,
        header.message_id,
        header.flags,
        header.session_id,
        header.next_command,
        header.credit_charge,
        status,
        signature,
    )


def number(text: str) -> int:
    return int(text, 0)


def time(text: str) -> int | None:
    """Return nanoseconds since 1970 of tshark's "Nov 21, 2026 01:00:55.961532400 UTC"; None for 0."""
    match = re.fullmatch(r"(\w+ +\d+, \d+ [\d:]+)\.(\d{9}) UTC", text)
    if match is None:
        return None
    since = datetime.strptime(match[1], "%b %d, %Y %H:%M:%S").replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return since // timedelta(seconds=1) * 10**9 + int(match[2])


def hexadecimal(data: bytes) -> str:
    return data.hex(":")


def guid(data: bytes) -> str:
    return str(uuid.UUID(bytes_le=data))


# For each message: tshark's field -> how to get the same from ours.
Getter = Callable[[Any], Any]
NUMBERS: Final[dict[type, dict[str, Getter]]] = {
    session.SessionSetupRequest: {
        "smb2.sec_mode": lambda m: m.security_mode,
        "smb2.capabilities": lambda m: m.capabilities,
        "smb2.previous_sesid": lambda m: m.previous_session_id,
        "smb2.olb.length": lambda m: len(m.token),
    },
    session.SessionSetupResponse: {"smb2.session_flags": lambda m: m.session_flags},
    session.TreeConnectResponse: {
        "smb2.share_type": lambda m: m.share_type,
        "smb2.share_flags": lambda m: m.share_flags,
        "smb2.share.caps": lambda m: m.capabilities,
        "smb.access_mask": lambda m: m.maximal_access,
    },
    create.CreateRequest: {
        "smb2.create.oplock": lambda m: m.requested_oplock_level,
        "smb2.impersonation.level": lambda m: m.impersonation_level,
        "smb.access_mask": lambda m: m.desired_access,
        "smb2.file_attribute": lambda m: m.file_attributes,
        "smb2.share_access": lambda m: m.share_access,
        "smb2.create.disposition": lambda m: m.create_disposition,
        "smb2.create_options": lambda m: m.create_options,
    },
    create.CreateResponse: {
        "smb2.create.oplock": lambda m: m.oplock_level,
        "smb2.create.action": lambda m: m.create_action,
        "smb2.allocation_size": lambda m: m.allocation_size,
        "smb2.eof": lambda m: m.end_of_file,
        "smb2.file_attribute": lambda m: m.file_attributes,
    },
    create.CloseRequest: {"smb2.close.flags": lambda m: m.flags},
    create.CloseResponse: {
        "smb2.close.flags": lambda m: m.flags,
        "smb2.allocation_size": lambda m: m.allocation_size,
        "smb2.eof": lambda m: m.end_of_file,
        "smb2.file_attribute": lambda m: m.file_attributes,
    },
    io.ReadRequest: {
        "smb2.read_padding": lambda m: m.padding,
        "smb2.read_flags": lambda m: m.flags,
        "smb2.read_length": lambda m: m.length,
        "smb2.file_offset": lambda m: m.offset,
        "smb2.min_count": lambda m: m.minimum_count,
        "smb2.channel": lambda m: m.channel,
        "smb2.remaining_bytes": lambda m: m.remaining_bytes,
    },
    io.ReadResponse: {
        "smb2.olb.length": lambda m: len(m.data),
        "smb2.read_remaining": lambda m: m.data_remaining,
    },
    info.QueryDirectoryRequest: {
        "smb2.find.infolevel": lambda m: m.file_information_class,
        "smb2.find.flags": lambda m: m.flags,
        "smb2.file_index": lambda m: m.file_index,
        "smb2.output_buffer_len": lambda m: m.output_buffer_length,
    },
    info.QueryInfoRequest: {
        "smb2.class": lambda m: m.info_type,
        "smb2.max_response_size": lambda m: m.output_buffer_length,
        "smb2.getsetinfo_additional": lambda m: m.additional_information,
        "smb2.getinfo_flags": lambda m: m.flags,
    },
    info.QueryInfoResponse: {"smb2.olb.length": lambda m: len(m.data)},
    control.IoctlRequest: {
        "smb2.ioctl.function": lambda m: m.ctl_code,
        "smb2.max_ioctl_in_size": lambda m: m.max_input_response,
        "smb2.max_ioctl_out_size": lambda m: m.max_output_response,
        "smb2.ioctl.flags": lambda m: m.flags,
    },
    control.IoctlResponse: {"smb2.ioctl.function": lambda m: m.ctl_code},
    negotiate.NegotiateRequest: {
        "smb2.dialect_count": lambda m: len(m.dialects),
        "smb2.sec_mode": lambda m: m.security_mode,
        "smb2.capabilities": lambda m: m.capabilities,
    },
    negotiate.NegotiateResponse: {
        "smb2.sec_mode": lambda m: m.security_mode,
        "smb2.dialect": lambda m: m.dialect_revision,
        "smb2.capabilities": lambda m: m.capabilities,
        "smb2.max_trans_size": lambda m: m.max_transact_size,
        "smb2.max_read_size": lambda m: m.max_read_size,
        "smb2.max_write_size": lambda m: m.max_write_size,
    },
    errors.ErrorResponse: {
        "smb2.error.context_count": lambda m: len(m.contexts),
        "smb2.error.byte_count": lambda m: len(m.data) if not m.contexts else None,
    },
}
TEXTS: Final[dict[type, dict[str, Getter]]] = {
    session.TreeConnectRequest: {"smb2.tree": lambda m: m.path},
    create.CreateRequest: {"smb2.filename": lambda m: m.name},
    create.CreateResponse: {"smb2.fid": lambda m: guid(m.file_id)},
    create.CloseRequest: {"smb2.fid": lambda m: guid(m.file_id)},
    io.ReadRequest: {"smb2.fid": lambda m: guid(m.file_id)},
    io.ReadResponse: {"smb2.read.blob": lambda m: hexadecimal(m.data)},
    info.QueryDirectoryRequest: {
        "smb2.fid": lambda m: guid(m.file_id),
        "smb2.find.pattern": lambda m: m.search_pattern,
    },
    info.QueryInfoRequest: {"smb2.fid": lambda m: guid(m.file_id)},
    control.IoctlRequest: {"smb2.fid": lambda m: guid(m.file_id)},
    negotiate.NegotiateRequest: {"smb2.client_guid": lambda m: guid(m.client_guid)},
    negotiate.NegotiateResponse: {"smb2.server_guid": lambda m: guid(m.server_guid)},
}
TIMES: Final = {
    "smb2.create.time": "creation_time",
    "smb2.last_access.time": "last_access_time",
    "smb2.last_write.time": "last_write_time",
    "smb2.last_change.time": "change_time",
}


def compare(element: Element, theirs: Fields, query: info.QueryInfoRequest | None) -> int:
    """Compare one element; return how many fields were compared."""
    value = element.kind.decode(element.data)
    ours: dict[str, Any] = {}
    expected: dict[str, Any] = {}

    def add(name: str, mine: Any, convert: Callable[[str], Any]) -> None:
        if name in theirs and mine is not None:
            ours[name], expected[name] = mine, convert(theirs[name])

    for name, getter in NUMBERS.get(type(value), {}).items():
        add(name, getter(value), number)
    for name, getter in TEXTS.get(type(value), {}).items():
        add(name, getter(value), str)
    timed: Any = value
    if isinstance(value, info.QueryInfoResponse) and query is not None:
        timed = compared_information(value, query, add)
    for name, attribute in TIMES.items():
        add(name, filetime_to_ns(getattr(timed, attribute, 0)), time)
    if isinstance(value, info.QueryDirectoryResponse) and "smb2.find.info_blob" in theirs:
        add("smb2.find.info_blob", hexadecimal(bytes(value.page)), str)
        if theirs.get("smb2.find.infolevel") == "37":
            named = decode_page(FileInformation.ID_BOTH_DIRECTORY, value.page)
            add("smb2.filename", named[0].file_name, str)
            add("smb2.eof", named[0].end_of_file, number)
            add("smb2.file_id", named[0].file_id, number)
            timed = named[0]
            for name, attribute in TIMES.items():
                add(name, filetime_to_ns(getattr(timed, attribute)), time)
    assert ours == expected
    return len(ours)


def compared_information(
    value: info.QueryInfoResponse, query: info.QueryInfoRequest, add: Callable[[str, Any, Callable[[str], Any]], None]
) -> Any:
    kind = (query.info_type, query.file_info_class)
    if kind == (info.InfoType.FILE, FileInformation.ALL):
        whole = FileAllInformation.decode(value.data)
        add("smb2.nlinks", whole.standard.number_of_links, number)
        add("smb2.eof", whole.standard.end_of_file, number)
        add("smb2.allocation_size", whole.standard.allocation_size, number)
        add("smb2.file_id", whole.internal.index_number, number)
        add("smb2.file_attribute", whole.basic.file_attributes, number)
        return whole.basic
    if kind == (info.InfoType.FILESYSTEM, VolumeInformation.FULL_SIZE):
        size = FileFsFullSizeInformation.decode(value.data)
        add("smb2.caller_free_units", size.caller_available_allocation_units, number)
        add("smb2.actual_free_units", size.actual_available_allocation_units, number)
        add("smb2.sectors_per_unit", size.sectors_per_allocation_unit, number)
        add("smb2.bytes_per_sector", size.bytes_per_sector, number)
    return None


@pytest.mark.parametrize("capture", QUICK + SHARED, ids=lambda path: path.name.partition(".")[0])
def test_our_fields_are_what_tshark_says(capture: Path) -> None:
    if not capture.exists():
        pytest.skip("the collection of captures is not beside us")
    theirs: defaultdict[tuple[int, ...], list[Fields]] = defaultdict(list)
    for header, body in by_tshark(capture):
        theirs[key_of_tshark(header)].append(body)
    queries: dict[tuple[int, int], info.QueryInfoRequest] = {}
    fields = matched = missing = 0
    for element in elements(capture):
        if element.kind is None or element.header.message_id == UNSOLICITED:
            continue
        exchange = (element.header.session_id, element.header.message_id)
        if element.header.command == Command.QUERY_INFO and not element.header.flags & HeaderFlags.SERVER_TO_REDIR:
            queries[exchange] = info.QueryInfoRequest.decode(element.data)
        same = theirs[key_of_ours(element)]
        if not same:
            missing += 1  # in captures with lost packets tshark and we do not find the same
            continue
        fields += compare(element, same.pop(0), queries.get(exchange))
        matched += 1
    assert matched > 20 * missing
    assert fields > 3 * matched
