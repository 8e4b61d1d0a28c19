//! First inputs of each target, one for each path worth starting from.

use nbd::client::header_for;
use nbd::option::{Info, InfoRequest, MetaContext, MetaRequest, OptionHeader, OptionReplyHeader};
use nbd::wire::{TransmissionFlags, info, opt, rep};
use nbd::{BlockSizes, Command, Cookie, Errno, Extent, ReplyMode, Request, StatusQuery};

use super::session;
use crate::Seed;

const MODES: [ReplyMode; 3] = [ReplyMode::Simple, ReplyMode::Structured, ReplyMode::Extended];

/// All of them.
pub fn all() -> Vec<Seed> {
    [server_handshake(), client_handshake(), request(), reply(), uri()].concat()
}

fn option(number: u32, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    OptionHeader::encode(number, data, &mut out);
    out
}

fn info_option(number: u32, name: &str) -> Vec<u8> {
    let mut data = Vec::new();
    InfoRequest { name, types: vec![info::BLOCK_SIZE, info::NAME, info::DESCRIPTION] }.encode(&mut data);
    option(number, &data)
}

fn meta_option(number: u32, queries: &[&str]) -> Vec<u8> {
    let mut data = Vec::new();
    MetaRequest { name: "disk", queries: queries.to_vec() }.encode(&mut data);
    option(number, &data)
}

fn server_handshake() -> Vec<Seed> {
    let structured = option(opt::STRUCTURED_REPLY, b"");
    let extended = option(opt::EXTENDED_HEADERS, b"");
    let select = meta_option(opt::SET_META_CONTEXT, &["base:allocation", "x-a:b"]);
    let go = info_option(opt::GO, "disk");
    let parts: [(&str, Vec<Vec<u8>>); 8] = [
        ("go", vec![structured, select.clone(), go.clone()]),
        ("extended", vec![extended, select, go.clone()]),
        ("export-name", vec![option(opt::EXPORT_NAME, b"disk")]),
        ("info", vec![info_option(opt::INFO, "nope"), info_option(opt::INFO, "strict")]),
        ("list", vec![option(opt::LIST, b""), option(99, b"junk"), option(opt::ABORT, b"")]),
        (
            "list-contexts",
            vec![meta_option(opt::LIST_META_CONTEXT, &["qemu:"]), meta_option(opt::LIST_META_CONTEXT, &[])],
        ),
        ("tls", vec![option(opt::STARTTLS, b"")]),
        ("secret", vec![info_option(opt::GO, "secret"), go]),
    ];
    let seed = |(name, parts): (&str, Vec<Vec<u8>>)| {
        let tls = u8::from(name == "tls" || name == "secret");
        let start = [vec![0, 0, tls], vec![0, 0, 0, 3], parts.concat()].concat();
        ("nbd_server_handshake", name.to_owned(), start)
    };
    parts.into_iter().map(seed).collect()
}

fn client_handshake() -> Vec<Seed> {
    let reply = |option, kind, data: &[u8]| {
        let mut out = Vec::new();
        OptionReplyHeader::encode(option, kind, data, &mut out);
        out
    };
    let ack = |option| reply(option, rep::ACK, b"");
    let info = |option, info: Info<'_>| reply(option, rep::INFO, &info.encode());
    let facts = |option| {
        let flags = TransmissionFlags::all();
        [
            info(option, Info::Export { size_bytes: 1 << 30, flags }),
            info(option, Info::Name("disk")),
            info(option, Info::Description("text")),
            info(option, Info::BlockSize(BlockSizes::DEFAULT)),
            ack(option),
        ]
        .concat()
    };
    let context = reply(
        opt::SET_META_CONTEXT,
        rep::META_CONTEXT,
        &MetaContext { id: 5, name: "base:allocation" }.encode(),
    );
    let selected = [context, ack(opt::SET_META_CONTEXT)].concat();
    let refused = reply(opt::EXTENDED_HEADERS, rep::ERR_UNSUP, b"no");
    let list = [reply(opt::LIST, rep::SERVER, b"\0\0\0\x04disktext"), ack(opt::LIST)].concat();
    let unsupported = reply(opt::GO, rep::ERR_UNSUP, b"old");
    let old = [&1u64.to_be_bytes()[..], &[0, 1]].concat();
    // Goal, wishes that are left out, TLS, contexts.
    let table: [(&str, [u8; 4], Vec<u8>); 6] = [
        ("extended", [0, 0, 0, 1], [ack(opt::EXTENDED_HEADERS), selected.clone(), facts(opt::GO)].concat()),
        (
            "structured",
            [0, 0, 0, 1],
            [refused, ack(opt::STRUCTURED_REPLY), selected, facts(opt::GO)].concat(),
        ),
        ("describe", [1, 3, 0, 0], facts(opt::INFO)),
        ("list", [2, 0, 0, 0], list),
        ("fallback", [0, 3, 0, 0], [unsupported, old].concat()),
        ("tls", [0, 0, 2, 0], ack(opt::STARTTLS)),
    ];
    let seed = |(name, knobs, replies): (&str, [u8; 4], Vec<u8>)| {
        let input = [&knobs, &b"NBDMAGICIHAVEOPT\0\x03"[..], &replies].concat();
        ("nbd_client_handshake", name.to_owned(), input)
    };
    table.into_iter().map(seed).collect()
}

fn mode_knob(mode: ReplyMode) -> u8 {
    MODES.iter().position(|other| *other == mode).unwrap_or(0) as u8
}

fn request() -> Vec<Seed> {
    let commands = [
        ("read", Command::Read { df: true }),
        ("write", Command::Write { fua: true }),
        ("flush", Command::Flush),
        ("trim", Command::Trim { fua: false }),
        ("cache", Command::Cache),
        ("zeroes", Command::WriteZeroes { fua: true, no_hole: true, fast: true }),
        ("status", Command::BlockStatus { req_one: true, payload_bytes: None }),
        ("query", Command::BlockStatus { req_one: false, payload_bytes: Some(16) }),
        ("disconnect", Command::Disconnect),
        ("resize", Command::Resize),
    ];
    let mut seeds = Vec::new();
    for mode in MODES {
        // All but read-only.
        let flags = TransmissionFlags::all() - TransmissionFlags::READ_ONLY;
        let session = session(mode, flags.bits(), (1 << 33) + 777);
        for (name, command) in commands {
            let (offset, len) = if command == Command::Flush { (0, 0) } else { (4096, 512) };
            let request = Request { cookie: Cookie(1), offset, len, command };
            let Ok(header) = header_for(&request, &session) else { continue };
            let mut input = vec![mode_knob(mode)];
            input.extend_from_slice(&flags.bits().to_be_bytes());
            header.encode(session.header_format(), &mut input);
            if name == "query" {
                StatusQuery { len: 512, ids: vec![9, 7] }.encode(&mut input);
            }
            seeds.push(("nbd_request", format!("{name}-{}", mode_knob(mode)), input));
        }
    }
    seeds
}

fn reply() -> Vec<Seed> {
    let cookie = Cookie;
    let mut seeds = Vec::new();
    for mode in MODES {
        // READ, BLOCK_STATUS and WRITE of 64 bytes, and a FLUSH.
        let mut start = vec![mode_knob(mode)];
        for command in [0u8, 2, 4, 5] {
            start.extend_from_slice(&[command, 0, 0, 0x10, 0, 0, 64]);
        }
        let done = |cookie| mode.success(cookie, 4096).as_bytes().to_vec();
        let mut parts = vec![
            ("data", [mode.data(cookie(1), 4096, 4096, 64, true).as_bytes(), &[7; 64]].concat()),
            ("done", [done(cookie(3)), done(cookie(4))].concat()),
            ("error", mode.error(cookie(1), 4096, Errno::Io, "text").as_bytes().to_vec()),
        ];
        if mode.is_chunked() {
            let hole = mode.hole(cookie(1), 4096, 4128, 32, false);
            let half = mode.data(cookie(1), 4096, 4096, 32, false);
            let chunks = [hole.as_bytes(), half.as_bytes(), &[7; 32], &done(cookie(1))].concat();
            let extents = [Extent { len: 32, flags: 0 }, Extent { len: 64, flags: 3 }];
            let status = |id, done| mode.block_status(cookie(2), 4096, id, &extents, done);
            parts.push(("chunks", chunks));
            parts.push(("status", [status(9, false), status(7, true)].concat()));
            let error = mode.error_offset(cookie(1), 4096, Errno::Inval, "text", 4100);
            parts.push(("error-offset", error.as_bytes().to_vec()));
        }
        for (name, part) in parts {
            let input = [start.clone(), part].concat();
            seeds.push(("nbd_reply", format!("{name}-{}", mode_knob(mode)), input));
        }
    }
    seeds
}

fn uri() -> Vec<Seed> {
    let texts = [
        "nbd://example.com:1234/hello%20world",
        "nbds://user@[fe80::1%25eth0]:1//disk?tls-type=x509&tls-verify-peer=0&tls-hostname=h",
        "nbd+unix:///name?socket=/tmp/a%20b&x-a=b",
        "nbds+unix:///?socket=%00abstract",
        "nbd+vsock://2:10809/x",
        "nbd+ssh://root@h:22/x?nbd-port=10809&compress=1",
        "nbd+ssh://h/?socket=/s&tls-username=u",
        "nbds://h/?tls-certificates=/pki&tls-psk-file=/k",
    ];
    let seed = |(at, text): (usize, &str)| ("nbd_uri", format!("uri-{at}"), text.as_bytes().to_vec());
    texts.into_iter().enumerate().map(seed).collect()
}
