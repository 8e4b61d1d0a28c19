//! [`Trace`]: a line in the log for the beginning and the end of each request, for those who look for a fault.
//!
//! The log is asked once in a turn whether it wants them (target `request`, level `trace`). When it does not, a request
//! pays a look at one pointer that is there anyway, at its beginning and at its end. A request ends when its reply is
//! ready to be sent.

use std::fmt;
use std::time::Instant;

use nbd::{CommandFlags, Cookie, RequestHeader, wire::cmd};
use tracing::Level;

use crate::log::Shown;
use crate::net::visit::Visit;

/// The target of these lines. As words and not as the name of a module, since people type it.
pub(crate) const TARGET: &str = "request";

/// Requests whose beginning is kept. A client has a few more under way at most than operations may be.
const BEGUN_MAX: usize = 1024;

/// What there is to know about requests under way. Nothing while the log does not want it.
#[derive(Debug, Default)]
pub(super) struct Trace(Option<Vec<Begun>>);

/// A request that has no reply.
#[derive(Debug)]
struct Begun {
    header: RequestHeader,
    at: Instant,
}

impl Trace {
    /// Asks the log whether it wants to know.
    pub(super) fn look(&mut self) {
        let is_wanted = tracing::enabled!(target: TARGET, Level::TRACE);
        if is_wanted != self.0.is_some() {
            self.0 = is_wanted.then(Vec::new);
        }
    }

    /// A request is there; it may be told several times.
    pub(super) fn begin(&mut self, header: &RequestHeader, visit: &Visit) {
        if let Some(begun) = &mut self.0 {
            begin(begun, header, visit);
        }
    }

    /// Its reply is ready.
    pub(super) fn end(&mut self, cookie: Cookie, result: Result<(), nbd::Errno>, visit: &Visit) {
        if let Some(begun) = &mut self.0 {
            end(begun, cookie, result, visit);
        }
    }
}

#[cold]
fn begin(begun: &mut Vec<Begun>, header: &RequestHeader, visit: &Visit) {
    if begun.iter().any(|begun| begun.header == *header) {
        return;
    }
    // It has no reply.
    if header.kind != cmd::DISC {
        begun.truncate(BEGUN_MAX - 1);
        begun.push(Begun { header: *header, at: Instant::now() });
    }
    let (client, export) = (visit.client(), visit.export());
    let RequestHeader { cookie, offset, len, .. } = header;
    tracing::trace!(
        target: TARGET,
        client,
        export,
        cookie = cookie.0,
        operation = %Operation(header.kind),
        offset,
        length = len,
        flags = %Flags(header.flags),
        "{client}, export {}: begin",
        Shown(export)
    );
}

#[cold]
fn end(begun: &mut Vec<Begun>, cookie: Cookie, result: Result<(), nbd::Errno>, visit: &Visit) {
    // One that began when the log did not want to know is not known.
    let Some(at) = begun.iter().position(|begun| begun.header.cookie == cookie) else { return };
    let Begun { header, at } = begun.swap_remove(at);
    let (client, export) = (visit.client(), visit.export());
    let micros = u64::try_from(at.elapsed().as_micros()).unwrap_or(u64::MAX);
    let result: &dyn fmt::Display = match &result {
        Ok(()) => &"success",
        Err(errno) => errno,
    };
    tracing::trace!(
        target: TARGET,
        client,
        export,
        cookie = cookie.0,
        operation = %Operation(header.kind),
        offset = header.offset,
        length = header.len,
        flags = %Flags(header.flags),
        %result,
        micros,
        "{client}, export {}: end",
        Shown(export)
    );
}

/// A command in words (doc/proto.md, section "Request types").
struct Operation(u16);

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            cmd::READ => "read",
            cmd::WRITE => "write",
            cmd::DISC => "disconnect",
            cmd::FLUSH => "flush",
            cmd::TRIM => "trim",
            cmd::CACHE => "cache",
            cmd::WRITE_ZEROES => "write-zeroes",
            cmd::BLOCK_STATUS => "block-status",
            cmd::RESIZE => "resize",
            other => return write!(f, "command-{other}"),
        })
    }
}

/// Flags of a command in words, with commas.
struct Flags(u16);

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = CommandFlags::from_bits_retain(self.0);
        if flags.is_empty() {
            return f.write_str("none");
        }
        let mut names: Vec<String> = flags.iter_names().map(|(name, _)| name.to_owned()).collect();
        let unknown = flags.bits() & !CommandFlags::all().bits();
        if unknown != 0 {
            names.push(format!("{unknown:#x}"));
        }
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::tests::Sink;

    use tracing_subscriber::EnvFilter;

    /// Lines of the requests that are logged with this filter.
    fn lines(filter: &str, log: impl FnOnce()) -> Vec<String> {
        let sink = Sink::default();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(filter))
            .with_writer(sink.clone())
            .without_time()
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        sink.take().lines().filter(|line| line.contains(" request: ")).map(str::to_owned).collect()
    }

    fn header(kind: u16, flags: u16, cookie: u64) -> RequestHeader {
        RequestHeader { flags, kind, cookie: Cookie(cookie), offset: 4096, len: 512 }
    }

    fn requests() {
        let visit = Visit::begin("c".into(), None, "e");
        let mut trace = Trace::default();
        trace.look();
        for _ in 0..2 {
            trace.begin(&header(cmd::WRITE, 1, 7), &visit);
        }
        trace.begin(&header(cmd::READ, 0, 8), &visit);
        trace.end(Cookie(8), Ok(()), &visit);
        trace.end(Cookie(7), Err(nbd::Errno::NoSpc), &visit);
        trace.end(Cookie(9), Ok(()), &visit);
        trace.begin(&header(cmd::DISC, 0, 8), &visit);
    }

    #[test]
    fn a_request_has_a_line_at_its_beginning_and_one_at_its_end() {
        let lines = lines("request=trace", requests);
        let [write, read, read_end, write_end, disconnect] = &lines[..] else { panic!("{lines:?}") };
        let expect = |line: &str, words: &[&str]| {
            let fits = words.iter().all(|word| line.split_whitespace().any(|found| found == *word));
            assert!(fits, "{line} has {words:?}");
        };
        expect(write, &["begin", "operation=write", "offset=4096", "length=512", "flags=FUA", "cookie=7"]);
        expect(read, &["begin", "operation=read", "flags=none", "cookie=8"]);
        expect(read_end, &["end", "operation=read", "result=success", "cookie=8"]);
        expect(write_end, &["end", "operation=write", "result=no", "space", "left", "cookie=7"]);
        expect(disconnect, &["begin", "operation=disconnect"]);
        let micros = write_end.split("micros=").nth(1).and_then(|rest| rest.split(' ').next());
        assert!(micros.is_some_and(|micros| micros.parse::<u64>().is_ok()), "{write_end}");
    }

    #[test]
    fn nothing_is_kept_or_said_while_nobody_wants_to_know() {
        for filter in ["info", "trace,request=off", "request=debug"] {
            assert_eq!(lines(filter, requests), [""; 0], "{filter}");
        }
        let mut trace = Trace::default();
        trace.look();
        trace.begin(&header(cmd::READ, 0, 1), &Visit::begin("c".into(), None, "e"));
        assert!(trace.0.is_none());
    }

    #[test]
    fn what_is_kept_has_a_bound() {
        let visit = Visit::begin("c".into(), None, "e");
        let mut trace = Trace(Some(Vec::new()));
        for cookie in 0..3000 {
            trace.begin(&header(cmd::READ, 0, cookie), &visit);
        }
        assert_eq!(trace.0.map(|begun| begun.len()), Some(BEGUN_MAX));
    }

    #[test]
    fn unknown_commands_and_flags_have_numbers() {
        assert_eq!(Operation(77).to_string(), "command-77");
        assert_eq!(Flags(3 | 1 << 12).to_string(), "FUA,NO_HOLE,0x1000");
    }
}
