"""Real conversations: requests come out byte for byte, and whatever is decoded encodes to what decodes alike."""

from dataclasses import replace
from pathlib import Path

import pytest

from smbfuse.errors import DecodeError
from smbfuse.wire.smb1.header import PROTOCOL, Command, Flags, decode_header, encode_header
from smbfuse.wire.smb1.message import decode_message, encode_message
from smbfuse.wire.smb1.transaction import TransactionPart, TransactionRequest
from tests.fuzz.gather import messages
from tests.wire.smb1.blocks import (
    OWN_CAPTURES,
    REQUESTS,
    RESPONSES,
    SHARED_CAPTURES,
    Message,
    parameters_of,
    smb1_messages,
)

OURS = ["CLOSE", "NT_CREATE_ANDX", "OPEN_ANDX", "READ_ANDX", "TRANSACTION2"]
OWN = sorted(path for path in OWN_CAPTURES.glob("own-*") if "SMB2" not in path.name and "SMB3" not in path.name)
SHARED = sorted(SHARED_CAPTURES.glob("*.pcap*"))
SHARED_OWN = [path for path in SHARED if path.name.startswith("own-")]

needs_shared = pytest.mark.skipif(not SHARED_CAPTURES.is_dir(), reason="the collection of captures is not beside us")

# What other clients put where no field is, and we do not: by the start of a capture's name, and the command.
HABITS = {
    ("own-torture", Command.SESSION_SETUP_ANDX): "smbtorture counts one zero byte behind its last string",
    ("own-impacket-torture", Command.SESSION_SETUP_ANDX): "smbtorture counts one zero byte behind its last string",
    ("own-node-torture", Command.SESSION_SETUP_ANDX): "smbtorture counts one zero byte behind its last string",
    ("own-torture-raw.open", Command.OPEN_ANDX): "smbtorture fills the reserved byte of the last AndX part of a chain",
    ("own-torture-raw.open", Command.NT_CREATE_ANDX): "smbtorture fills the reserved byte of the last AndX part",
    ("own-openandx-samba", Command.TRANSACTION2): "impacket's client aligns nothing",
    ("own-openandx-samba", Command.DELETE): "impacket's client ends a name twice",
    ("own-torture-base.attr", Command.SET_INFORMATION): "Samba's client sends a second, empty name",
    ("own-impacket-torture-base.attr", Command.SET_INFORMATION): "Samba's client sends a second, empty name",
    ("own-node-torture-base.attr", Command.SET_INFORMATION): "Samba's client sends a second, empty name",
    ("own-torture-base.openattr", Command.SET_INFORMATION): "Samba's client sends a second, empty name",
    ("own-torture-raw.open", Command.SET_INFORMATION): "Samba's client sends a second, empty name",
    ("own-smbclient-NT1", Command.SET_INFORMATION): "Samba's client sends a second, empty name",
    ("own-legacy-LANMAN2", Command.TRANSACTION2): "smbclient's FIND_NEXT2 of LANMAN days pads with what lay there",
}

# Messages that are refused, and why: capture, command, whether it is a response, the reason as the decoder says it.
REFUSED = {
    # Forms of dialects that smbfuse does not offer.
    ("own-legacy-LANMAN1.pcap.gz", Command.SESSION_SETUP_ANDX, False, "16 bytes of parameters instead of 22"),
    ("own-legacy-LANMAN2.pcap.gz", Command.SESSION_SETUP_ANDX, False, "16 bytes of parameters instead of 22"),
    # An exploit makes the server send more than it announces.
    ("suricata-filestore-filecontainer-smb1-data-offset.pcap.gz", Command.NT_TRANSACT, True, "outside of its totals"),
    # Chains that lead outside of their message, or in a circle.
    ("zeek-smb1-logoff-andx-no-advance.pcap", Command.LOGOFF_ANDX, False, "AndXOffset 0 after a block at 32"),
    # Messages cut by whoever made the capture.
    ("zeek-smb1_transaction2_request.pcap", Command.TRANSACTION2, False, "[65, 83) in 82 bytes"),
    ("zeek-smb1_transaction2_secondary_request.pcap", Command.TRANSACTION2, False, "[65, 83) in 82 bytes"),
    ("zeek-smb1_transaction_response.pcap", Command.TRANSACTION, False, "[63, 9791) in 105 bytes"),
    ("zeek-smb1_transaction_response.pcap", Command.TRANSACTION, True, "[63, 28078) in 83 bytes"),
    ("zeek-smb1_transaction_secondary_request.pcap", Command.TRANSACTION, False, "[63, 9791) in 105 bytes"),
}
# Captures that are no sequence of whole session packets.
UNREADABLE = {"zeek-netbios-split-session-msg.pcap": "an Ethernet frame cut in the middle of its headers"}


def name(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".pcap")


@pytest.mark.parametrize("capture", OWN, ids=name)
def test_requests_come_out_byte_for_byte(capture: Path) -> None:
    assert_requests_equal(capture)


def test_the_committed_captures_have_every_request_that_reading_makes() -> None:
    seen = {part.command for capture in OWN for message in smb1_messages(capture) for part in message.blocks}
    assert {Command[command] for command in OURS} <= seen


@needs_shared
@pytest.mark.parametrize("capture", SHARED_OWN, ids=name)
def test_requests_of_every_own_capture_come_out_byte_for_byte(capture: Path) -> None:
    assert_requests_equal(capture)


def assert_requests_equal(capture: Path) -> None:
    habits = {command for start, command in HABITS if capture.name.startswith(start)}
    kept = set()
    for message in all_messages(capture):
        if message.header.is_reply or any(block.command not in REQUESTS for block in message.blocks):
            continue
        try:
            values = [value for _, value in message.values()]
        except DecodeError as error:
            expect_refused(capture, message.data, error)
            continue
        encoded = bytes(encode_message(message.header, values, message.strings))
        if encoded != message.data and message.header.command in habits:
            kept.add(message.header.command)
            continue
        assert encoded == message.data, values
    # A habit that is no longer seen leaves the table.
    assert kept == habits


@pytest.mark.parametrize("capture", OWN, ids=name)
def test_what_is_decoded_encodes_to_what_decodes_alike(capture: Path) -> None:
    assert_round_trips(capture)


@needs_shared
@pytest.mark.parametrize("capture", [path for path in SHARED if path.name not in UNREADABLE], ids=name)
def test_what_is_decoded_of_any_capture_encodes_to_what_decodes_alike(capture: Path) -> None:
    assert_round_trips(capture)


def assert_round_trips(capture: Path) -> None:
    for message in all_messages(capture):
        assert encode_header(message.header) == message.data[:12] + message.data[12:22] + bytes(2) + message.data[24:32]
        try:
            values = [value for _, value in message.values()]
        except DecodeError:
            continue  # what is refused, and why, is the business of the test below
        table = RESPONSES if message.header.is_reply else REQUESTS
        for value in values:
            header = replace(message.header, command=value.command)
            _, (block, *_) = decode_message(memoryview(bytes(encode_message(header, (value,), message.strings))))
            assert plain(table[value.command](block, message.strings)) == plain(value)
            if isinstance(value, TransactionRequest) and len(value.parameters) == value.total_parameter_count:
                assert_parameters_round_trip(value, message)


def assert_parameters_round_trip(value: TransactionRequest, message: Message) -> None:
    parameters = parameters_of(value, message.strings)
    if parameters is None:
        return
    encoded = parameters.encode(message.strings) if hasattr(parameters, "file_name") else parameters.encode()
    again = TransactionRequest(value.command, value.setup, encoded, b"", len(encoded), 0, 0, 0)
    assert parameters_of(again, message.strings) == parameters


def plain(value: object) -> object:
    """Return a value that compares by its bytes, not by views."""
    if isinstance(value, TransactionPart):
        return replace(value, parameters=bytes(value.parameters), data=bytes(value.data))
    return value


def all_messages(capture: Path) -> list[Message]:
    """Return the messages that can be taken apart; the others are refused for a committed reason."""
    found = []
    for number, data in enumerate(data for data in messages(capture) if data[:4] == PROTOCOL):
        try:
            header, blocks = decode_message(memoryview(data))
        except DecodeError as error:
            expect_refused(capture, data, error)
            continue
        found.append(Message(number, header, blocks, data))
    return found


def expect_refused(capture: Path, data: bytes, error: DecodeError) -> tuple[str, int, bool, str]:
    """Return the row of the committed list that says why `data` is refused."""
    is_reply = bool(data[9] & Flags.REPLY)
    rows = [row for row in REFUSED if row[:3] == (capture.name, data[4], is_reply) and row[3] in str(error)]
    assert rows, f"{capture.name}: {decode_header(data)}: {error}"
    return rows[0]


@needs_shared
def test_what_is_refused_is_exactly_the_committed_list() -> None:
    refused = set()
    for capture in SHARED:
        if capture.name in UNREADABLE:
            continue
        for data in messages(capture):
            if data[:4] != PROTOCOL:
                continue
            try:
                header, blocks = decode_message(memoryview(data))
                list(Message(0, header, blocks, data).values())
            except DecodeError as error:
                refused.add(expect_refused(capture, data, error))
    assert refused == REFUSED
