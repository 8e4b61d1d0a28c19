//! nbdsh, of libnbd: the protocol's finer points, in Python.

use tests::{Gateway, Image, Place, requires, run_with_input, tool};

use super::served::on_each_disk;

/// What every script begins with.
const PRELUDE: &str = r#"
import nbd

def fails(errno, do):
    "`do` must fail with this error."
    try:
        do()
    except nbd.Error as error:
        assert error.errno == errno, (error.errno, errno)
        return
    assert False, "it succeeded instead of failing with " + errno

def extents(offset, length, flags=0):
    "Status of a range, in base:allocation."
    found = []
    def take(context, start, entries, error):
        assert context == "base:allocation" and start == offset
        found.extend(entries)
    h.block_status_64(length, offset, take, flags)
    return found
"#;

/// Runs a script with the connected handle `h`.
#[track_caller]
fn script(uri: &str, context: bool, script: &str) {
    let mut command = std::process::Command::new(tool("nbdsh").unwrap());
    command.args(if context { &["--base-allocation"][..] } else { &[] }).args(["--uri", uri, "-c", "-"]);
    let output = run_with_input(&mut command, &format!("{PRELUDE}\n{script}"));
    assert!(output.status.success(), "{}{}", output.stdout, output.stderr);
}

#[test]
fn holes_come_as_holes_and_data_as_data() {
    requires!("nbdsh");
    on_each_disk(16 << 20, |served| {
        script(
            &served.uri(),
            true,
            r#"
block = 1 << 18
h.pwrite(b"x" * block, block)
h.pwrite(b"y" * block, 5 * block)
data, pieces = bytearray(8 * block), []
def take(chunk, offset, status, error):
    pieces.append((offset, len(chunk), status))
    data[offset:offset + len(chunk)] = chunk
buffer = h.pread_structured(8 * block, 0, take)
expected = b"\0" * block + b"x" * block + b"\0" * 3 * block + b"y" * block + b"\0" * 2 * block
assert buffer == expected
assert sum(length for _, length, _ in pieces) == 8 * block
holes = sum(length for _, length, status in pieces if status == nbd.READ_HOLE)
assert holes == 6 * block, pieces
"#,
        );
    });
}

#[test]
fn df_gives_one_piece() {
    requires!("nbdsh");
    on_each_disk(16 << 20, |served| {
        script(
            &served.uri(),
            true,
            r#"
h.pwrite(b"x" * 4096, 8192)
pieces = []
h.pread_structured(65536, 0, lambda chunk, offset, status, error: pieces.append((offset, len(chunk), status)),
                   nbd.CMD_FLAG_DF)
assert pieces == [(0, 65536, nbd.READ_DATA)], pieces
"#,
        );
    });
}

#[test]
fn status_follows_what_is_written_zeroed_and_trimmed() {
    requires!("nbdsh");
    on_each_disk(16 << 20, |served| {
        script(
            &served.uri(),
            true,
            r#"
size = h.get_size()
hole = nbd.STATE_HOLE | nbd.STATE_ZERO
assert extents(0, size) == [(size, hole)], extents(0, size)
block = 1 << 16
h.pwrite(b"x" * 2 * block, 4 * block)
assert extents(0, 16 * block)[:2] == [(4 * block, hole), (2 * block, 0)], extents(0, 16 * block)
h.trim(block, 4 * block)
assert extents(4 * block, 2 * block) == [(block, hole), (block, 0)], extents(4 * block, 2 * block)
h.zero(block, 5 * block)
assert h.pread(2 * block, 4 * block) == b"\0" * 2 * block
h.zero(block, 5 * block, nbd.CMD_FLAG_NO_HOLE)
assert h.pread(block, 5 * block) == b"\0" * block
one = extents(0, size, nbd.CMD_FLAG_REQ_ONE)
assert len(one) == 1 and one[0][0] <= size, one
"#,
        );
    });
}

#[test]
fn every_flag_that_is_announced_works() {
    requires!("nbdsh");
    on_each_disk(16 << 20, |served| {
        script(
            &served.uri(),
            false,
            r#"
assert h.can_fua() and h.can_flush() and h.can_trim() and h.can_zero() and h.can_fast_zero() and h.can_df()
assert h.can_multi_conn() and not h.is_read_only()
h.pwrite(b"fua" * 1000, 777, nbd.CMD_FLAG_FUA)
assert h.pread(3000, 777) == b"fua" * 1000
h.zero(1000, 1777, nbd.CMD_FLAG_FUA)
assert h.pread(3000, 777) == (b"fua" * 1000)[:1000] + b"\0" * 1000 + (b"fua" * 1000)[2000:]
h.trim(65536, 65536, nbd.CMD_FLAG_FUA)
h.flush()
try:
    h.zero(1 << 20, 1 << 20, nbd.CMD_FLAG_FAST_ZERO)
    assert h.pread(1 << 20, 1 << 20) == b"\0" * (1 << 20)
except nbd.Error as error:
    assert error.errno == "ENOTSUP", error.errno
if h.can_cache():
    h.cache(1 << 20, 4096)
"#,
        );
    });
}

#[test]
fn requests_that_a_strict_client_would_not_send_get_their_errors() {
    requires!("nbdsh");
    on_each_disk(16 << 20, |served| {
        script(
            &served.uri(),
            false,
            r#"
h.set_strict_mode(0)
size = h.get_size()
fails("EINVAL", lambda: h.pread(512, size))
fails("ENOSPC", lambda: h.pwrite(b"x" * 512, size - 511))
fails("ENOSPC", lambda: h.zero(4096, size - 512))
fails("EINVAL", lambda: h.trim(4096, size - 512))
fails("EINVAL", lambda: h.flush(nbd.CMD_FLAG_DF))
fails("EINVAL", lambda: h.pread(512, 0, 1 << 14))
fails("EINVAL", lambda: h.block_status(512, 0, lambda *args: 0))
assert h.pread(512, 0) == b"\0" * 512
"#,
        );
    });
}

#[test]
fn a_disk_of_64_gib_is_told_and_zeroed_with_64_bit_lengths() {
    requires!("nbdsh");
    let gateway = Gateway::start(&["memory", "64G"]);
    script(
        &gateway.uri(),
        true,
        r#"
assert h.get_extended_headers_negotiated()
size = h.get_size()

def walk():
    "Status of the whole disk; a server may tell less than was asked for. Neighbours of one status are one."
    at, found = 0, []
    while at < size:
        for length, status in extents(at, size - at):
            at += length
            if found and found[-1][1] == status:
                found[-1] = (found[-1][0] + length, status)
            else:
                found.append((length, status))
    return found

assert extents(0, size)[0][0] > 1 << 31
assert walk() == [(size, 3)], walk()
h.pwrite(b"x" * 4096, 40 << 30)
assert walk() == [(40 << 30, 3), (4096, 0), (size - (40 << 30) - 4096, 3)], walk()
h.zero(size, 0)
assert h.pread(4096, 40 << 30) == b"\0" * 4096
assert walk() == [(size, 3)], walk()
if h.can_block_status_payload():
    found = []
    h.block_status_filter(size, 0, ["base:allocation"], lambda context, start, entries, error: found.append(entries))
    assert len(found) == 1 and found[0][0][1] == 3, found
"#,
    );
    gateway.stop();
}

#[test]
fn a_client_without_new_features_is_served() {
    requires!("nbdsh");
    let gateway = Gateway::start(&["memory", "16M"]);
    let uri = gateway.uri();
    for requests in ["h.set_request_structured_replies(False)", "h.set_request_extended_headers(False)"] {
        let text = format!(
            r#"
h.close()
h = nbd.NBD()
h.set_request_extended_headers(False)
{requests}
h.connect_uri("{uri}")
assert not h.get_extended_headers_negotiated()
h.pwrite(b"old" * 999, 12345)
assert h.pread(2997, 12345) == b"old" * 999
h.zero(2997, 12345)
assert h.pread(2997, 12345) == b"\0" * 2997
h.flush()
h.shutdown()
"#
        );
        script(&uri, false, &text);
    }
    gateway.stop();
}

#[test]
fn writes_to_a_read_only_disk_are_not_permitted() {
    requires!("nbdsh");
    let image = Image::with(Place::Memory, &[7; 1 << 20]);
    let gateway = Gateway::start(&["io_uring", &image.property(), "read-only=true"]);
    script(
        &gateway.uri(),
        false,
        r#"
h.set_strict_mode(0)
fails("EPERM", lambda: h.pwrite(b"x" * 512, 0))
fails("EPERM", lambda: h.zero(512, 0))
fails("EPERM", lambda: h.trim(512, 0))
assert h.pread(1 << 20, 0) == b"\7" * (1 << 20)
"#,
    );
    gateway.stop();
}
