"""Seeds that no capture holds: values of our own, through our own encoders, and strange bytes worth keeping."""

from collections.abc import Iterator
from struct import Struct

from smbfuse.wire import descriptor, fscc, fscc_changes, fscc_ea, nbss, notify, reparse
from smbfuse.wire.dirlist import DirectoryEntry, encode_page
from smbfuse.wire.dtyp import encode_utf16
from smbfuse.wire.fscc import FileInformation
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
from smbfuse.wire.smb1.header import Command, Flags, Flags2, Header
from smbfuse.wire.smb1.message import OEM, UNICODE, Message, encode_message
from smbfuse.wire.smb2 import breaks, create
from smbfuse.wire.smb2 import control as control2
from smbfuse.wire.smb2 import errors as errors2
from smbfuse.wire.smb2 import header as header2
from smbfuse.wire.smb2 import info as info2
from smbfuse.wire.smb2 import io as io2
from smbfuse.wire.smb2 import notify as notify2
from smbfuse.wire.smb2 import posix as posix2
from smbfuse.wire.smb2 import session as session2
from smbfuse.wire.smb2.durable import (
    DurableReconnect,
    DurableReconnectV2,
    DurableRequest,
    DurableRequestV2,
    DurableResponse,
    DurableResponseV2,
)
from smbfuse.wire.smb2.lease import LeaseV1, LeaseV2

_NAMES = ("α", "b.txt", "Ordner [é] 🐚")
_TIMES = (0x01DC5B0000000000, 0x01DC5B1000000000, 0x01DC5B2000000000, 0x01DC5B3000000000)


def golden() -> Iterator[tuple[str, bytes]]:
    """Yield (decoder, bytes)."""
    yield from _structures()
    yield from _netbios()
    yield from _reparse_points()
    yield from _owners_and_attributes()
    yield from _smb1_structures()
    yield from _smb1_messages()
    yield from _smb2_messages()
    yield from _rpc()


def _counted(record: type[Record]) -> bytes:
    """Return a structure filled with 1, 2, 3 …: enough for one whose numbers mean nothing to the decoder."""
    return bytes(index % 251 + 1 for index in range(record.SIZE))


def _structures() -> Iterator[tuple[str, bytes]]:
    yield "dtyp.decode_utf16", encode_utf16("é🐚\ud800")
    for kind in (1, 2, 3, 37, 38):
        entries = [DirectoryEntry(name, *_TIMES, 5, 4096, 0x20, 0, 77) for name in _NAMES]
        page = encode_page(FileInformation(kind), entries)
        yield f"dirlist.decode_page[{FileInformation(kind).name}]", page
    for record in (
        fscc.FileBasicInformation,
        fscc.FileStandardInformation,
        fscc.FileInternalInformation,
        fscc.FileNetworkOpenInformation,
        fscc.FileAttributeTagInformation,
        fscc.FileFsFullSizeInformation,
        fscc.FileFsSizeInformation,
        fscc.FileFsDeviceInformation,
    ):
        yield f"fscc.{record.__name__}.decode", _counted(record)
    for change in (
        fscc_changes.FileEndOfFileInformation(4096),
        fscc_changes.FileDispositionInformation(1),
        fscc_changes.FileRenameInformation(True, "a\\größe"),
        fscc_changes.FileRenameInformation(False, "a"),
    ):
        yield f"fscc_changes.{type(change).__name__}.decode", change.encode()
    yield "fscc.FileFsVolumeInformation.decode", fscc.FileFsVolumeInformation(_TIMES[0], 7, 0, "Büro").encode()
    yield "fscc.FileFsAttributeInformation.decode", fscc.FileFsAttributeInformation(0x4F, 255, "NTFS").encode()


def _netbios() -> Iterator[tuple[str, bytes]]:
    yield "nbss.decode_header", nbss.frame(0x1234)
    yield "nbss.decode_header", nbss.frame(0x1234) + b"\xffSMB"
    yield "nbss.decode_name", nbss.encode_name("SERVER", nbss.SUFFIX_SERVER)
    yield "nbss.decode_session_request", nbss.encode_session_request("SERVER", "CLIENT")[nbss.HEADER_SIZE :]
    yield "nbss.refusal", b"\x82"
    yield "nbss.decode_retarget", bytes((192, 0, 2, 1, 1, 189))
    yield "nbss.decode_node_status_query", nbss.encode_node_status_query(7)
    names = (nbss.NodeName("SERVER", 0x20, False), nbss.NodeName("GROUP", 0, True))
    yield "nbss.NodeStatus.decode", nbss.NodeStatus(7, names, bytes(range(6))).encode()


def _reparse_points() -> Iterator[tuple[str, bytes]]:
    points: tuple[reparse.ReparsePoint, ...] = (
        reparse.SymlinkReparse(r"\??\C:\x", r"C:\x"),
        reparse.SymlinkReparse("..\\é", "..\\é", reparse.SYMLINK_FLAG_RELATIVE),
        reparse.MountPointReparse(r"\??\Volume{1}", "d:"),
        reparse.NfsReparse(reparse.NfsType.SYMLINK, target="../é"),
        reparse.NfsReparse(reparse.NfsType.BLOCK, device=(8, 1)),
        reparse.WslSymlinkReparse("/usr/bin"),
        reparse.OtherReparse(0x80000017, b"dedup"),
    )
    for point in points:
        yield "reparse.decode", reparse.encode(point)
        yield f"reparse.{type(point).__name__}.decode_data", point.encode_data()


def _owners_and_attributes() -> Iterator[tuple[str, bytes]]:
    user, group, domain = descriptor.unix_user(1000), descriptor.unix_group(100), descriptor.Sid(5, (21, 1, 2, 3, 1001))
    for sid in (user, domain):
        yield "descriptor.Sid.decode", sid.encode()
    acl = descriptor.allowing([descriptor.nfs_mode(0o640)])
    for whole in (descriptor.Descriptor(user, group, acl), descriptor.Descriptor(dacl=acl)):
        yield "descriptor.Descriptor.decode", whole.encode()
    attributes = [fscc_ea.ExtendedAttribute("NAME", b"value"), fscc_ea.ExtendedAttribute("größe", b"12")]
    yield "fscc_ea.decode_attributes", fscc_ea.encode_attributes(attributes)
    told = [notify.FileNotifyInformation(action, name) for action, name in enumerate(_NAMES, 3)]
    yield "notify.decode_notifications", notify.encode_notifications(told)
    yield "reparse.decode_wsl_device", reparse.encode_wsl_device((8, 1))
    posix = posix2.PosixAttributes(2, 0, 0o10750, domain.encode(), group.encode())
    found = posix2.PosixInformation(*_TIMES, 5, 4096, 0x20, 77, 2049, posix)
    yield "smb2.posix.decode_posix_attributes", posix.encode()
    yield "smb2.posix.decode_posix_information", found.encode()
    yield "smb2.posix.decode_posix_page", posix2.encode_posix_page([posix2.PosixEntry(name, found) for name in _NAMES])
    yield "smb2.posix.FileFsPosixInformation.decode", _counted(posix2.FileFsPosixInformation)


def _smb1_structures() -> Iterator[tuple[str, bytes]]:
    for record in (
        levels.InfoStandard,
        levels.UnixBasic,
        levels.UnixInfo2,
        levels.UnixInfo,
        levels.PosixFsInfo,
        levels.InfoAllocation,
        trans2.FindFirst2Response,
        trans2.FindNext2Response,
        trans2.QueryFileRequest,
        trans2.QueryFsRequest,
        trans2.SetFsRequest,
        trans2.EaErrorResponse,
        changes.SetFileRequest,
        changes.SetStandard,
        nt_transact.IoctlSetup,
        nt_transact.NotifyChangeSetup,
        nt_transact.QuerySecurityResponse,
        nt_transact.SecurityRequest,
        posix.PosixOpenRequest,
        posix.PosixOpenResponse,
        posix.PosixUnlinkRequest,
    ):
        yield f"smb1.{record.__module__.rpartition('.')[2]}.{record.__name__}.decode", _counted(record)
    for strings, label in ((UNICODE, "UNICODE"), (OEM, "OEM")):
        for method in ("decode_bare", "decode_oem"):
            yield f"smb1.message.Strings.{method}[{label}]", strings.encode_bare("größe") + b"\xd8"
        standard = levels.InfoStandard.decode(_counted(levels.InfoStandard))
        page = listing.encode_standard_page(
            [listing.StandardEntry(name, standard, 9) for name in ("a", "größe")], strings
        )
        yield f"smb1.listing.decode_standard_page[{label}]", b"\2" + page
    for level, layout in ((listing.FindLevel.UNIX, levels.UnixBasic), (listing.FindLevel.UNIX_INFO2, levels.UnixInfo2)):
        info = layout.decode(_counted(layout))
        entries = [listing.UnixEntry(name, info) for name in _NAMES]
        yield f"smb1.listing.decode_unix_page[{level.name}]", listing.encode_unix_page(level, entries, UNICODE)
    full, id_full = Struct("<I4xQQQQqqIII"), Struct("<I4xQQQQqqIII4xQ")
    name = OEM.encode_bare("größe")
    step = full.size + 8
    first = full.pack(step, *_TIMES, 5, 4096, 0x20, len(name), 0) + name.ljust(8, b"\0")
    page = first + full.pack(0, *_TIMES, 5, 4096, 0x20, len(name), 0) + name
    yield "smb1.listing.decode_oem_page[FULL_DIRECTORY_INFO]", page
    page = id_full.pack(0, *_TIMES, 5, 4096, 0x20, len(name), 0, 77) + name
    yield "smb1.listing.decode_oem_page[ID_FULL_DIRECTORY_INFO]", page
    yield "smb1.levels.decode_unix_link", UNICODE.encode("../größe", 0)
    attributes = [fscc_ea.ExtendedAttribute("user.größe", b"value"), fscc_ea.ExtendedAttribute("b", b"")]
    yield "smb1.eas.decode_list", eas.encode_list(attributes)
    for strings in (UNICODE, OEM):
        yield "smb1.changes.Smb1RenameInformation.decode", changes.Smb1RenameInformation(True, "größe").encode(strings)
        yield "smb1.changes.SetPathRequest.decode", changes.SetPathRequest(0x101, "\\größe").encode(strings)


def _smb1(message: Message, *, reply: bool = False, unicode: bool = True) -> bytes:
    flags2 = Flags2.NT_STATUS | Flags2.LONG_NAMES | (Flags2.UNICODE if unicode else 0)
    header = Header(message.command, 0, Flags.REPLY if reply else 0, flags2, 0, bytes(8), 1, 2, 3, 4)
    return bytes(encode_message(header, (message,), UNICODE if unicode else OEM))


# Decoders that choose between messages, for requests and for responses.
_FUNCTIONS = {
    False: ("session.decode_setup_request",),
    True: (
        "files.decode_open_response",
        "files.decode_create_response",
        "negotiate.decode_negotiate_response",
        "io.decode_read",
        "write.decode_written",
    ),
}


def _smb1_messages() -> Iterator[tuple[str, bytes]]:
    for message, reply in (
        (control.EchoMessage(1, b"smbfuse"), False),
        (control.LockingRequest(1, 2, 0, 0, 0, 1, bytes(10)), False),
        (control.NtCancelRequest(), False),
        (files.CloseRequest(5, 0), False),
        (files.EmptyResponse(), True),
        (files.OpenAndxRequest(1, 0x40, 0x16, 0, 0, 1, 0, 0, "\\größe"), False),
        (files.OpenAndxResponse(1, 0x20, 7, 5, 0, 0, 0, 1), True),
        (files.OpenAndxExtendedResponse(1, 0x20, 7, 5, 0, 0, 0, 1, 9, 0x1FF, 0), True),
        (files.NtCreateRequest(0, 0, 0x89, 0, 0, 7, 1, 0x40, 2, 0, "\\größe"), False),
        (files.NtCreateResponse(0, 5, 1, *_TIMES, 0x20, 4096, 5, 0, 0, 0), True),
        (names.QueryInformationRequest("\\größe"), False),
        (names.QueryInformationResponse(0x20, 7, 5), True),
        (names.SetInformationRequest(0x21, 7, "\\größe"), False),
        (names.CreateDirectoryRequest("\\größe"), False),
        (names.DeleteDirectoryRequest("\\größe"), False),
        (names.DeleteRequest(6, "\\größe"), False),
        (names.RenameRequest(0x16, "\\größe", "\\b"), False),
        (names.NtRenameRequest(0x16, 0x103, "\\größe", "\\b"), False),
        (files.QueryInformationDiskRequest(), False),
        (files.QueryInformationDiskResponse(1000, 8, 512, 500), True),
        (io.ReadRequest.at(5, 1 << 33, 60000), False),
        (io.ReadResponse(0xFFFF, 0, b"\0", b"data"), True),
        (write.WriteRequest(5, 7, 0, 0, 0, 1, b"\0", b"data"), False),
        (write.WriteRequest(5, 7, 0, 0, 0, None, b"", b"data"), False),
        (write.WriteResponse(70000, 0), True),
        (write.FlushRequest(5), False),
        (write.SetEndRequest(5, 7), False),
        (write.SetInformation2Request(5, 1, 2, 3, 4, 5, 6), False),
        (negotiate.NegotiateRequest(("NT LM 0.12", "LANMAN1.0")), False),
        (negotiate.CoreNegotiateResponse(0xFFFF), True),
        (negotiate.LanmanNegotiateResponse(2, 3, 4356, 50, 1, 3, 7, 1, 1, -60, bytes(8), "GROUP"), True),
        (
            negotiate.NegotiateResponse(
                0, 3, 50, 1, 16644, 65536, 7, 0xD4, _TIMES[0], -60, bytes(range(8)), "GROUP", "SERVER"
            ),
            True,
        ),
        (
            negotiate.NegotiateResponse(
                0,
                15,
                50,
                1,
                16644,
                65536,
                7,
                0x8000F3FD,
                _TIMES[0],
                -60,
                server_guid=bytes(16),
                security_blob=b"\x60\x02",
            ),
            True,
        ),
        (session.SessionSetupRequest(16644, 50, 1, 7, 0xD4, bytes(24), bytes(24), "u", "d", "Unix", "smbfuse"), False),
        (session.SessionSetupExtendedRequest(16644, 50, 1, 7, 0x800000D4, b"NTLMSSP\0", "Unix", "smbfuse"), False),
        (session.SessionSetupResponse(1, None, "Unix", "Samba", "GROUP"), True),
        (session.SessionSetupResponse(0, b"\xa1\x07\x30\x05", "Unix", "Samba", "GROUP"), True),
        (session.LogoffMessage(), False),
        (session.TreeConnectRequest(8, b"\0", r"\\h\Büro", "?????"), False),
        (session.TreeConnectResponse(1, (0x1F01FF, 0), "A:", "NTFS"), True),
        (session.TreeConnectResponse(None, None, "A:", "FAT"), True),
        (session.TreeDisconnectMessage(), False),
        (trans2.FindClose2Request(3), False),
        (transaction.TransactionRequest(Command.TRANSACTION2, (1,), b"param", b"data", 5, 4, 10, 4096), False),
        (transaction.TransactionSecondary(Command.TRANSACTION2_SECONDARY, 5, 8, b"", 5, b"data", 4), False),
        (transaction.TransactionSecondary(Command.TRANSACTION_SECONDARY, 5, 8, b"pa", 3, b"data", 4), False),
        (transaction.TransactionPart(Command.TRANSACTION2, 5, 4, b"param", 0, b"data", 0), True),
        (transaction.TransactionPart(Command.NT_TRANSACT, 5, 4, b"param", 0, b"data", 0, setup=(1, 2)), True),
        (transaction.NtTransactRequest(2, bytes(8), b"param", b"data", 5, 4, 10, 4096), False),
        (transaction.NtTransactSecondary(5, 8, b"", 5, b"data", 4), False),
    ):
        cls, module = type(message), type(message).__module__.rpartition(".")[2]
        for unicode in (True, False):
            pdu = _smb1(message, reply=reply, unicode=unicode)
            yield f"smb1.{module}.{cls.__name__}.decode_block", pdu
            for function in _FUNCTIONS[reply]:
                if function.partition(".")[0] == module:
                    yield f"smb1.{function}", pdu
    yield (
        "smb1.trans2.FindFirst2Request.decode",
        trans2.FindFirst2Request(0x16, 100, 6, 0x105, 0, "\\*").encode(UNICODE),
    )
    yield "smb1.trans2.FindNext2Request.decode", trans2.FindNext2Request(3, 100, 0x105, 0, 6, "größe").encode(UNICODE)
    yield "smb1.trans2.QueryPathRequest.decode", trans2.QueryPathRequest(0x107, "\\größe").encode(UNICODE)


def _smb2(command: int, body: bytes, *, status: int = 0) -> bytes:
    header = header2.Header(command=command, message_id=7, status=status, credits=1, flags=1, tree_id=2, session_id=3)
    return header.encode() + body


def _smb2_messages() -> Iterator[tuple[str, bytes]]:
    key = bytes(range(16))
    for notice in (breaks.OplockBreak(1, key), breaks.LeaseBreak(1, 1, key, 7, 3, 0, 0, 0)):
        pdu = _smb2(18, notice.encode())
        yield f"smb2.breaks.{type(notice).__name__}.decode", pdu
        yield "smb2.breaks.decode_break", pdu
    acknowledgment = breaks.LeaseBreakAcknowledgment(0, key, 3)
    yield "smb2.breaks.LeaseBreakAcknowledgment.decode", _smb2(18, acknowledgment.encode())
    for lease in (LeaseV1(key, 7), LeaseV2(key, 3, 4, 0, bytes(16), 9)):
        yield f"smb2.lease.{type(lease).__name__}.decode", lease.encode()
        yield "smb2.lease.decode_lease", lease.encode()
    for durable in (
        DurableRequest(),
        DurableResponse(),
        DurableReconnect(key),
        DurableRequestV2(60_000, 2, key),
        DurableResponseV2(60_000, 2),
        DurableReconnectV2(key, key, 2),
    ):
        yield f"smb2.durable.{type(durable).__name__}.decode", durable.encode()
    yield "smb2.control.NetworkResiliencyRequest.decode", control2.NetworkResiliencyRequest(60_000).encode()
    told = notify.encode_notifications([notify.FileNotifyInformation(3, "größe")])
    for watch in (notify2.ChangeNotifyRequest(1, 65536, key, 0x1DF), notify2.ChangeNotifyResponse(memoryview(told))):
        yield f"smb2.notify.{type(watch).__name__}.decode", _smb2(15, watch.encode())
    for command, message in (
        (9, io2.WriteRequest(b"data", 5, key, 0, 0, b"", 0)),
        (9, io2.WriteResponse(4, 0, b"")),
        (7, io2.FlushRequest(key)),
        (7, io2.FlushResponse()),
    ):
        yield f"smb2.io.{type(message).__name__}.decode", _smb2(command, message.encode())
    yield "smb2.io.decode_write", _smb2(9, io2.WriteResponse(4, 0, b"").encode())
    renaming = fscc_changes.FileRenameInformation(True, "a\\größe").encode()
    yield "smb2.info.SetInfoRequest.decode", _smb2(17, info2.SetInfoRequest(1, 10, renaming, 0, key).encode())
    yield "smb2.info.SetInfoResponse.decode", _smb2(17, info2.SetInfoResponse().encode())
    yield "smb2.control.EchoRequest.decode", _smb2(13, control2.EchoRequest().encode())
    yield "smb2.control.EchoResponse.decode", _smb2(13, control2.EchoResponse().encode())
    yield "smb2.control.CancelRequest.decode", _smb2(12, control2.CancelRequest().encode())
    for cls in (
        session2.LogoffRequest,
        session2.LogoffResponse,
        session2.TreeDisconnectRequest,
        session2.TreeDisconnectResponse,
    ):
        yield f"smb2.session.{cls.__name__}.decode", _smb2(2, cls().encode())
    contexts = (
        create.CreateContext(b"QFid", bytes(32)),
        create.CreateContext(b"MxAc", bytes(8)),
        create.CreateContext(b"X"),
    )
    yield "smb2.create.decode_contexts", create.encode_contexts(contexts)
    opened = create.CreateResponse(0, 0, 1, *_TIMES, 4096, 5, 0x20, bytes(range(16)), contexts)
    yield "smb2.create.CreateResponse.decode", _smb2(5, opened.encode())
    for record in (create.OnDiskId, create.MaximalAccess):
        yield f"smb2.create.{record.__name__}.decode", _counted(record)
    request = control2.ValidateNegotiateInfoRequest(0x7F, bytes(16), 1, (0x202, 0x210, 0x300))
    yield "smb2.control.ValidateNegotiateInfoRequest.decode", request.encode()
    yield "smb2.control.ValidateNegotiateInfoResponse.decode", _counted(control2.ValidateNegotiateInfoResponse)
    symlink = errors2.SymlinkError(6, 1, "..\\é", "..\\é")
    yield "smb2.errors.SymlinkError.decode", symlink.encode()
    for error in (
        errors2.ErrorResponse(),
        errors2.ErrorResponse(symlink.encode()),
        errors2.ErrorResponse(contexts=(errors2.ErrorContext(0, symlink.encode()), errors2.ErrorContext(1, b"x"))),
    ):
        for reader in ("decode", "symlink"):
            yield f"smb2.errors.ErrorResponse.{reader}", _smb2(5, error.encode(), status=0x8000002D)
    parts = [_smb2(5, bytes(89)), _smb2(8, bytes(24)), _smb2(6, bytes(60))]
    yield "smb2.header.split_compound", header2.join_compound(parts)


def _rpc() -> Iterator[tuple[str, bytes]]:
    head = Struct("<BBBBIHHI")
    results = Struct("<B3xHH20s")
    ack = Struct("<HHI").pack(4280, 4280, 1) + Struct("<H").pack(13) + b"\\PIPE\\srvsvc\0" + bytes(1)
    ack += results.pack(1, 0, 0, bytes(20))
    yield "srvsvc.check_bind_ack", head.pack(5, 0, 12, 3, 0x10, head.size + len(ack), 0, 1) + ack
    words = Struct("<I")

    def text(value: str) -> bytes:
        raw = (value + "\0").encode("utf-16-le")
        return Struct("<III").pack(len(raw) // 2, 0, len(raw) // 2) + raw + bytes(-len(raw) % 4)

    stub = b"".join(map(words.pack, (1, 1, 0x20000, 2, 0x20004, 2, 0x20008, 0, 0x2000C, 0x20010, 0x80000003, 0x20014)))
    stub += text("Büro") + text("papers") + text("IPC$") + text("")
    stub += b"".join(map(words.pack, (2, 0, 0)))
    yield "srvsvc.decode_share_enum", stub
    body = Struct("<IHH").pack(len(stub), 0, 0) + stub
    fragment = head.pack(5, 0, 2, 3, 0x10, head.size + len(body), 0, 2) + body
    for reader in ("decode_fragment", "fragment_length", "missing"):
        yield f"srvsvc.{reader}", fragment
