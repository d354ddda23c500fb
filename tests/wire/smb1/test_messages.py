"""Each message: what is encoded decodes to itself, whatever its values; what is malformed is refused."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbfuse.errors import DecodeError, NotFound
from smbfuse.wire.dirlist import DirectoryEntry
from smbfuse.wire.fscc import FileBasicInformation, FileStandardInformation
from smbfuse.wire.fscc_ea import ExtendedAttribute
from smbfuse.wire.record import Record
from smbfuse.wire.smb1 import (
    changes,
    control,
    eas,
    files,
    io,
    levels,
    listing,
    names,
    negotiate,
    nt_transact,
    posix,
    session,
    trans2,
    transaction,
    write,
)
from smbfuse.wire.smb1.header import Command, Header, decode_header, encode_header
from smbfuse.wire.smb1.listing import FindLevel
from smbfuse.wire.smb1.message import OEM, UNICODE, Block, Strings, Tail, decode_message, encode_message
from smbfuse.wire.smb1.negotiate import Capabilities

U8, U16, U32, U64 = (st.integers(0, (1 << bits) - 1) for bits in (8, 16, 32, 64))
BLOB = st.binary(max_size=100)
# No NUL: it ends a string. No code page has more than the first of these.
ASCII = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
NAMES = {
    UNICODE: st.text(st.characters(blacklist_characters="\0", blacklist_categories=()), max_size=30),
    OEM: st.text(st.sampled_from("abcÄßéñ¥ {}~"), max_size=30),
}
NT = int(Capabilities.UNICODE)


def messages(text: Any) -> dict[Any, Any]:
    """Return what each message is made of, by its class."""
    return {
        negotiate.NegotiateRequest: st.tuples(st.lists(ASCII, max_size=5).map(tuple)),
        negotiate.CoreNegotiateResponse: st.tuples(U16),
        session.SessionSetupRequest: st.tuples(U16, U16, U16, U32, U32, BLOB, BLOB, text, text, text, text),
        session.SessionSetupExtendedRequest: st.tuples(U16, U16, U16, U32, U32, BLOB, text, text),
        session.SessionSetupResponse: st.tuples(U16, st.none() | BLOB, text, text, text),
        session.LogoffMessage: st.tuples(),
        session.TreeConnectRequest: st.tuples(U16, BLOB, text, ASCII),
        session.TreeConnectResponse: st.tuples(U16, st.none() | st.tuples(U32, U32), ASCII, text),
        session.TreeDisconnectMessage: st.tuples(),
        files.OpenAndxRequest: st.tuples(U16, U16, U16, U16, U32, U16, U32, U32, text),
        files.OpenAndxResponse: st.tuples(U16, U16, U32, U32, U16, U16, U16, U16),
        files.OpenAndxExtendedResponse: st.tuples(U16, U16, U32, U32, U16, U16, U16, U16, U32, U32, U32),
        files.NtCreateRequest: st.tuples(U32, U32, U32, U64, U32, U32, U32, U32, U32, U8, text),
        files.CloseRequest: st.tuples(U16, U32),
        names.QueryInformationRequest: st.tuples(text),
        names.QueryInformationResponse: st.tuples(U16, U32, U32),
        names.SetInformationRequest: st.tuples(U16, U32, text),
        names.CreateDirectoryRequest: st.tuples(text),
        names.DeleteDirectoryRequest: st.tuples(text),
        names.DeleteRequest: st.tuples(U16, text),
        names.RenameRequest: st.tuples(U16, text, text),
        names.NtRenameRequest: st.tuples(U16, U16, text, text),
        files.QueryInformationDiskRequest: st.tuples(),
        files.QueryInformationDiskResponse: st.tuples(U16, U16, U16, U16),
        io.ReadRequest: st.tuples(U16, U32, U16, U16, U32, U16, st.none() | U32),
        write.WriteRequest: st.tuples(U16, U32, U32, U16, U16, st.none() | U32, st.binary(max_size=3), BLOB),
        write.WriteResponse: st.tuples(U32, U16),
        write.FlushRequest: st.tuples(U16),
        write.SetEndRequest: st.tuples(U16, U32),
        write.SetInformation2Request: st.tuples(*[U16] * 7),
        control.EchoMessage: st.tuples(U16, BLOB),
        control.NtCancelRequest: st.tuples(),
        control.LockingRequest: st.tuples(U16, U8, U8, U32, U16, U16, BLOB),
        trans2.FindClose2Request: st.tuples(U16),
    }


CASES = [(kind, strings) for strings in (UNICODE, OEM) for kind in messages(NAMES[strings])]


def block_of(message: Any, strings: Strings, command: int | None = None) -> Block:
    header = Header(message.command if command is None else command, 0, 0, 0, 0, bytes(8), 0, 0, 0, 0)
    _, (block,) = decode_message(memoryview(bytes(encode_message(header, (message,), strings))))
    return block


@pytest.mark.parametrize("kind, strings", CASES, ids=[f"{kind.__name__}-{text.unicode}" for kind, text in CASES])
@given(data=st.data())
def test_messages_survive(kind: Any, strings: Strings, data: st.DataObject) -> None:
    message = kind(*data.draw(messages(NAMES[strings])[kind]))
    assert kind.decode_block(block_of(message, strings), strings) == message


@given(st.builds(Header, U8, U32, U8, U16, U16, st.binary(min_size=8, max_size=8), U16, U16, U16, U16))
def test_headers_survive(header: Header) -> None:
    assert decode_header(encode_header(header)) == header
    assert len(encode_header(header)) == 32


@given(st.data(), st.booleans())
def test_negotiate_responses_survive(data: st.DataObject, extended: bool) -> None:
    capabilities = NT | (int(Capabilities.EXTENDED_SECURITY) if extended else 0)
    words = data.draw(st.tuples(U16, U8, U16, U16, U32, U32, U32))
    zone = data.draw(st.integers(-720, 720))
    tail: dict[str, Any] = {"challenge": bytes(8), "domain_name": data.draw(NAMES[UNICODE]), "server_name": "S"}
    if extended:
        tail = {"server_guid": bytes(16), "security_blob": data.draw(BLOB)}
    message = negotiate.NegotiateResponse(*(*words, capabilities, data.draw(U64), zone), **tail)
    assert negotiate.decode_negotiate_response(block_of(message, OEM), OEM) == message


@given(st.data())
def test_old_negotiate_responses_survive(data: st.DataObject) -> None:
    words = data.draw(st.tuples(U16, U16, U16, U16, U16, U16, U32, U16, U16, st.integers(-720, 720)))
    message = negotiate.LanmanNegotiateResponse(*(*words, data.draw(BLOB), data.draw(ASCII)))
    assert negotiate.decode_negotiate_response(block_of(message, OEM), OEM) == message


@given(fid=U16, offset=U64, length=st.integers(0, 0xFFFFFF))
def test_the_hot_read_request_is_the_cold_one(fid: int, offset: int, length: int) -> None:
    assert io.encode_read(fid, offset, length) == io.ReadRequest.at(fid, offset, length).encode_block(32, OEM)


@given(fid=U16, offset=U64, length=st.integers(0, 0x1FFFF), large_files=st.booleans())
def test_the_hot_write_request_is_the_cold_one_without_its_data(
    fid: int, offset: int, length: int, large_files: bool
) -> None:
    offset = offset if large_files else offset & 0xFFFFFFFF
    hot = write.Write(fid, offset, length, large_files).encode_block(32, OEM)
    high = offset >> 32 if large_files else None
    cold = write.WriteRequest(fid, offset & 0xFFFFFFFF, 0, 0, 0, high, b"\0", bytes(length)).encode_block(32, OEM)
    assert hot + bytes(length) == cold
    assert 32 + len(hot) <= write.WRITE_OVERHEAD


@given(count=st.integers(0, 0x1FFFF), more=st.integers(0, 0x1FFFF))
def test_what_was_written_is_counted_in_as_many_bits_as_were_sent(count: int, more: int) -> None:
    block = block_of(write.WriteResponse(count, 0xFFFF), OEM)
    length = count + more
    assert write.decode_written(block, length) == (count if length > 0xFFFF else count & 0xFFFF)


def test_more_written_than_was_sent_is_refused() -> None:
    with pytest.raises(DecodeError):
        write.decode_written(block_of(write.WriteResponse(11, 0), OEM), 10)
    with pytest.raises(DecodeError):
        write.decode_written(block_of(files.EmptyResponse(), OEM), 10)


@given(data=st.binary(max_size=200_000) | st.integers(65_500, 65_600).map(bytes), pad=st.binary(max_size=3))
def test_the_hot_read_response_is_the_cold_one(data: bytes, pad: bytes) -> None:
    pad = pad if data else b""
    message = io.ReadResponse(0xFFFF, 0, pad, data)
    block = block_of(message, OEM)
    assert bytes(io.decode_read(block)) == data
    assert io.ReadResponse.decode_block(block, OEM) == message


TRANSACTIONS = st.tuples(st.lists(U16, max_size=3).map(tuple), BLOB, BLOB)


@given(TRANSACTIONS, st.sampled_from([Command.TRANSACTION, Command.TRANSACTION2]), NAMES[UNICODE])
def test_transactions_survive(parts: Any, command: Command, name: str) -> None:
    setup, parameters, data = parts
    name = name if command == Command.TRANSACTION else ""
    counts = (len(parameters) + 5, len(data) + 7, 10, 20, 1, 2, 3)
    message = transaction.TransactionRequest(command, setup, parameters, data, *counts, name)
    assert transaction.TransactionRequest.decode_block(block_of(message, UNICODE), UNICODE) == message


@given(TRANSACTIONS, st.sampled_from([Command.TRANSACTION, Command.TRANSACTION2, Command.NT_TRANSACT]))
def test_transaction_responses_survive(parts: Any, command: Command) -> None:
    setup, parameters, data = parts
    message = transaction.TransactionPart(command, len(parameters) + 9, len(data) + 9, parameters, 9, data, 9, setup)
    decoded = transaction.TransactionPart.decode_block(block_of(message, UNICODE), UNICODE)
    assert replace(decoded, parameters=bytes(decoded.parameters), data=bytes(decoded.data)) == message


@given(BLOB, BLOB, st.sampled_from([Command.TRANSACTION_SECONDARY, Command.TRANSACTION2_SECONDARY]))
def test_secondary_requests_survive(parameters: bytes, data: bytes, command: Command) -> None:
    fid = 7 if command == Command.TRANSACTION2_SECONDARY else transaction.NO_FID
    message = transaction.TransactionSecondary(command, 1000, 2000, parameters, 3, data, 4, fid)
    assert transaction.TransactionSecondary.decode_block(block_of(message, UNICODE), UNICODE) == message


@given(BLOB, BLOB, st.integers(0, 4))
def test_nt_transactions_survive(parameters: bytes, data: bytes, setup: int) -> None:
    message = transaction.NtTransactRequest(2, bytes(2 * setup), parameters, data, 1000, 2000, 10, 20, 3)
    assert transaction.NtTransactRequest.decode_block(block_of(message, UNICODE), UNICODE) == message


@given(BLOB, BLOB)
def test_secondary_nt_transactions_survive(parameters: bytes, data: bytes) -> None:
    message = transaction.NtTransactSecondary(1000, 2000, parameters, 3, data, 4)
    assert transaction.NtTransactSecondary.decode_block(block_of(message, UNICODE), UNICODE) == message


@pytest.mark.parametrize("strings", [UNICODE, OEM], ids=["unicode", "oem"])
@given(data=st.data())
def test_parameters_survive(strings: Strings, data: st.DataObject) -> None:
    name = data.draw(NAMES[strings])
    for value in (
        trans2.FindFirst2Request(*data.draw(st.tuples(U16, U16, U16, U16, U32)), name),
        trans2.FindNext2Request(*data.draw(st.tuples(U16, U16, U16, U32, U16)), name),
        trans2.QueryPathRequest(data.draw(U16), name),
        changes.SetPathRequest(data.draw(U16), name),
        changes.Smb1RenameInformation(data.draw(st.booleans()), name),
    ):
        assert type(value).decode(value.encode(strings), strings) == value


@given(st.data())
def test_levels_survive(data: st.DataObject) -> None:
    unix = data.draw(st.tuples(*[U64] * 7, U32, *[U64] * 5))
    values: list[Record] = [
        levels.InfoStandard(*data.draw(st.tuples(*[U16] * 6, U32, U32, U16))),
        levels.UnixBasic(*unix),
        levels.UnixInfo2(*(*unix, *data.draw(st.tuples(U64, U32, U32)))),
        levels.UnixInfo(*data.draw(st.tuples(U16, U16, U64))),
        levels.PosixFsInfo(*data.draw(st.tuples(U32, U32, *[U64] * 6))),
        levels.InfoAllocation(*data.draw(st.tuples(*[U32] * 4, U16))),
        changes.SetFileRequest(*data.draw(st.tuples(U16, U16))),
        changes.SetStandard(*data.draw(st.tuples(*[U16] * 6))),
        posix.PosixOpenRequest(*data.draw(st.tuples(U32, U32, U64, U16))),
        posix.PosixOpenResponse(*data.draw(st.tuples(U16, U16, U32, U16))),
        posix.PosixUnlinkRequest(data.draw(U16)),
        nt_transact.SecurityRequest(*data.draw(st.tuples(U16, U32))),
        nt_transact.IoctlSetup(*data.draw(st.tuples(U32, U16, U8, U8))),
        nt_transact.QuerySecurityResponse(data.draw(U32)),
        nt_transact.NotifyChangeSetup(*data.draw(st.tuples(U32, U16, U8))),
    ]
    for value in values:
        assert type(value).decode(value.encode()) == value
    basic, standard = FileBasicInformation(1, 2, 3, 4, 5), FileStandardInformation(6, 7, 8, 0, 1)
    whole = levels.QueryFileAllInfo(basic, standard, data.draw(U32), data.draw(NAMES[UNICODE]))
    assert levels.QueryFileAllInfo.decode(whole.encode(UNICODE), UNICODE) == whole


EA_NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=60)


@given(st.lists(st.builds(ExtendedAttribute, EA_NAMES, BLOB, U8), max_size=5))
def test_lists_of_extended_attributes_survive(attributes: list[ExtendedAttribute]) -> None:
    assert eas.decode_list(eas.encode_list(attributes)) == attributes


def test_a_list_of_extended_attributes_as_samba_sends_it() -> None:
    listed = bytes.fromhex("11000000 00 03 0500 666f6f00 6669727374")
    assert eas.decode_list(listed + bytes(3)) == [ExtendedAttribute("foo", b"first")]


@pytest.mark.parametrize("listed", [b"\0\0\0\0", b"\4\0\0\0"])
def test_no_extended_attributes_in_either_spelling(listed: bytes) -> None:
    assert eas.decode_list(listed) == []


@pytest.mark.parametrize(
    "listed", ["", "03000000", "05000000", "0500000000", "0d000000 00 03 0500 666f6f00", "09000000 00 ff 0000 61"]
)
def test_extended_attributes_that_lie_outside_of_their_list_are_refused(listed: str) -> None:
    with pytest.raises(DecodeError):
        eas.decode_list(bytes.fromhex(listed))


@pytest.mark.parametrize(
    "attribute", [ExtendedAttribute("", b""), ExtendedAttribute("a" * 256, b""), ExtendedAttribute("a", bytes(65536))]
)
def test_what_can_be_no_extended_attribute_is_not_sent(attribute: ExtendedAttribute) -> None:
    with pytest.raises(ValueError, match="extended attribute"):
        eas.encode_list([attribute])


def test_what_is_not_changed_is_all_ones() -> None:
    unchanged = posix.unix_changes(permissions=0o640)
    assert unchanged.permissions == 0o640
    assert unchanged.end_of_file == unchanged.uid == unchanged.gid == unchanged.last_modification_time == 2**64 - 1
    assert len(unchanged.encode()) == 100


INFO = levels.InfoStandard(1, 2, 3, 4, 5, 6, 7, 8, 9)
BASIC = levels.UnixBasic(*range(13))
INFO2 = levels.UnixInfo2(*range(16))


@pytest.mark.parametrize("strings", [UNICODE, OEM], ids=["unicode", "oem"])
@given(data=st.data())
def test_pages_survive(strings: Strings, data: st.DataObject) -> None:
    names = data.draw(st.lists(NAMES[strings].filter(bool), max_size=5))
    standard = [listing.StandardEntry(name, INFO, key) for key, name in enumerate(names)]
    page = listing.encode_standard_page(standard, strings)
    assert listing.decode_standard_page(page, len(standard), strings) == standard
    for level, info in ((FindLevel.UNIX, BASIC), (FindLevel.UNIX_INFO2, INFO2)):
        entries = [listing.UnixEntry(name, info) for name in names]
        assert listing.decode_unix_page(level, listing.encode_unix_page(level, entries, strings), strings) == entries


def test_an_oem_page_of_an_nt_level() -> None:
    fixed = (1, 2, 3, 4, 5, 6, 0x20)
    page = b""
    for step, name in ((96, b"gr\x94\xe1e"), (0, b"b")):
        head = step.to_bytes(4, "little") + bytes(4)
        head += b"".join(value.to_bytes(8, "little") for value in fixed[:6])
        entry = head + (0x20).to_bytes(4, "little") + len(name).to_bytes(4, "little") + bytes(8)
        page += (entry + (7).to_bytes(8, "little") + name).ljust(step, b"\0")
    assert listing.decode_oem_page(FindLevel.ID_FULL_DIRECTORY_INFO, page, Strings(unicode=False)) == [
        DirectoryEntry(name, *fixed, 0, 7) for name in ("größe", "b")
    ]


@given(st.integers(315_619_200, 4_323_283_200), st.integers(-720, 720))
def test_dos_times_survive(seconds: int, zone: int) -> None:
    even = seconds // 2 * 2
    date, clock = levels.unix_to_dos_time(even, zone)
    assert levels.dos_time_to_unix(date, clock, zone) == even


def test_a_dos_time_of_a_real_server() -> None:
    # INFO_STANDARD of own-torture-base.trans2: Nov 21, 2026 00:59:50 UTC in Wireshark's words.
    assert levels.dos_time_to_unix(0x5D75, 0x0779, 0) == 1_795_222_790


@pytest.mark.parametrize("date, clock", [(0, 0), (0x5DA0, 0), (0x5D75, 0xFFFF)])
def test_no_date_is_no_time(date: int, clock: int) -> None:
    assert levels.dos_time_to_unix(date, clock, 0) is None


# --- strings ----------------------------------------------------------------------------------------------------------


def test_unicode_strings_are_aligned_from_the_header() -> None:
    assert UNICODE.encode("a", 64) == b"a\0\0\0"
    assert UNICODE.encode("a", 65) == b"\0a\0\0\0"
    assert Tail(memoryview(b"\0a\0\0\0b\0"), 65, UNICODE).string() == "a"


def test_strings_that_end_with_their_block_or_are_not_there() -> None:
    tail = Tail(memoryview(b"a\0b\0"), 64, UNICODE)
    assert [tail.string(), tail.string()] == ["ab", ""]


def test_a_character_that_has_a_zero_byte_does_not_end_a_string() -> None:
    assert Tail(memoryview("Āā".encode("utf-16-le") + b"\0\0"), 64, UNICODE).string() == "Āā"


def test_bytes_outside_of_a_code_page_travel_unchanged() -> None:
    japanese = Strings(unicode=False, codepage="cp932")
    assert japanese.encode_oem(japanese.decode_oem(b"\x81\x20ok\xff")) == b"\x81\x20ok\xff"


def test_what_a_code_page_cannot_spell_is_not_found() -> None:
    with pytest.raises(NotFound):
        OEM.encode("🐙", 0)


# --- what is refused --------------------------------------------------------------------------------------------------

HEADER = encode_header(Header(Command.OPEN_ANDX, 0, 0, 0, 0, bytes(8), 0, 0, 0, 0))
REFUSED = {
    "no header": b"\xffSMB",
    "another protocol": b"\xfeSMB" + HEADER[4:] + bytes(3),
    "words beyond the end": HEADER + b"\x0f" + bytes(20),
    "no ByteCount": HEADER + b"\0",
    "bytes beyond the end": HEADER + b"\0\x01\0",
    "a chain into itself": HEADER + bytes.fromhex("02 2e00 2000 0000"),
    "a chain backwards": HEADER + bytes.fromhex("02 2e00 0000 0000"),
    "a chain beyond the end": HEADER + bytes.fromhex("02 2e00 ff00 0000"),
    "a chain to its own end": HEADER + bytes.fromhex("02 2e00 2700 0000"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_malformed_messages_are_refused(what: str) -> None:
    with pytest.raises(DecodeError):
        decode_message(memoryview(REFUSED[what]))


@given(st.binary(max_size=300))
def test_whatever_the_bytes_a_value_or_a_refusal(data: bytes) -> None:
    for command in Command:
        header = Header(command, 0, 0x80, 0xC000, 0, bytes(8), 0, 0, 0, 0)
        try:
            _, blocks = decode_message(memoryview(encode_header(header) + data))
        except DecodeError:
            continue
        assert blocks[0].command == command


def write_refused(words: str, data: str = "") -> bytes:
    header = encode_header(Header(Command.WRITE_ANDX, 0, 0, 0, 0, bytes(8), 0, 0, 0, 0))
    body = bytes.fromhex("ff000000" + words)
    content = bytes.fromhex(data)
    return header + bytes((len(body) // 2,)) + body + len(content).to_bytes(2, "little") + content


@pytest.mark.parametrize(
    "words, data",
    [
        ("0100 00000000 00000000 0000 0000 0000 0400 3a00", "61626364"),  # one byte before the data block
        ("0100 00000000 00000000 0000 0000 0000 0500 3b00", "61626364"),  # beyond the end
        ("0100 00000000 00000000 0000 0000 0100 0400 3b00", "61626364"),  # 64 KiB beyond the end
        ("0100 00000000", ""),
    ],
)
def test_data_of_a_write_that_lies_outside_of_its_message_is_refused(words: str, data: str) -> None:
    _, (block,) = decode_message(memoryview(write_refused(words, data)))
    with pytest.raises(DecodeError):
        write.WriteRequest.decode_block(block, OEM)


def test_a_name_behind_another_buffer_format_is_refused() -> None:
    message = names.DeleteRequest(6, "a")
    header = Header(message.command, 0, 0, 0, 0, bytes(8), 0, 0, 0, 0)
    pdu = encode_message(header, (message,), OEM)
    pdu[-3] = 5
    _, (block,) = decode_message(memoryview(pdu))
    with pytest.raises(DecodeError, match="buffer format 0x05"):
        names.DeleteRequest.decode_block(block, OEM)


def test_a_write_with_data_is_not_taken_for_a_new_end() -> None:
    block = block_of(write.SetEndRequest(1, 2), OEM)
    words = bytearray(block.words)
    words[2] = 1
    with pytest.raises(DecodeError):
        write.SetEndRequest.decode_block(replace(block, words=memoryview(words)), OEM)
