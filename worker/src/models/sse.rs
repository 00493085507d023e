//! Server-sent events out of bytes, however they are split.

/// An event larger than this is no event of a chat model.
const MAX_EVENT_BYTES: usize = 1 << 20;

/// The event was larger than any sane one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

/// Collects the `data` of events; names, ids and comments are dropped.
#[derive(Default)]
pub(super) struct SseParser {
    line: Vec<u8>,
    data: Option<Vec<u8>>,
    /// The last byte was a CR that ended a line: a LF right after it belongs to it.
    after_cr: bool,
    begun: bool,
}

impl SseParser {
    /// Takes the next bytes and hands out the events that they complete.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<Vec<Vec<u8>>, TooLarge> {
        let mut events = Vec::new();
        while let Some(end) = memchr::memchr2(b'\n', b'\r', bytes) {
            let (part, line_end) = (&bytes[..end], bytes[end]);
            bytes = &bytes[end + 1..];
            let lf_of_crlf = line_end == b'\n' && self.after_cr && part.is_empty();
            self.after_cr = line_end == b'\r';
            if lf_of_crlf {
                continue;
            }
            self.fits(part)?;
            if self.line.is_empty() {
                events.extend(self.end_line(part));
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(part);
                events.extend(self.end_line(&line));
            }
        }
        self.after_cr &= bytes.is_empty();
        self.fits(bytes)?;
        self.line.extend_from_slice(bytes);
        Ok(events)
    }

    /// Whether an event may go on with these bytes.
    fn fits(&self, more: &[u8]) -> Result<(), TooLarge> {
        let held = self.line.len() + self.data.as_ref().map_or(0, Vec::len);
        if held + more.len() > MAX_EVENT_BYTES { Err(TooLarge) } else { Ok(()) }
    }

    fn end_line(&mut self, mut line: &[u8]) -> Option<Vec<u8>> {
        if !std::mem::replace(&mut self.begun, true) {
            line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
        }
        if line.is_empty() {
            return self.data.take();
        }
        let value = line.strip_prefix(b"data").and_then(|rest| match rest {
            [] => Some(rest),
            [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
            _ => None,
        });
        if let Some(value) = value {
            match &mut self.data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                None => self.data = Some(value.to_vec()),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STREAM: &str = "\u{feff}: ping\r\nevent: x\rdata: {\"一\":1}\n\ndata:a\r\ndata\r\ndata:  b\r\n\r\n\
                          id: 7\n\ndatum: no\n\ndata: [DONE]\n\ndata: cut";

    #[test]
    fn data_lines_join_and_everything_else_is_dropped() {
        let events = SseParser::default().push(STREAM.as_bytes()).unwrap();
        let events: Vec<_> = events.into_iter().map(|event| String::from_utf8(event).unwrap()).collect();
        assert_eq!(events, ["{\"一\":1}", "a\n\n b", "[DONE]"]);
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut parser = SseParser::default();
        let chunk = vec![b'x'; 1 << 16];
        assert!((0..17).any(|_| parser.push(&chunk).is_err()));
    }

    proptest! {
        #[test]
        fn events_are_the_same_however_bytes_are_split(cuts in prop::collection::vec(0..STREAM.len(), 0..12)) {
            let whole = SseParser::default().push(STREAM.as_bytes()).unwrap();
            let mut cuts = cuts;
            cuts.extend([0, STREAM.len()]);
            cuts.sort_unstable();
            let mut parser = SseParser::default();
            let mut events = Vec::new();
            for pair in cuts.windows(2) {
                events.extend(parser.push(&STREAM.as_bytes()[pair[0]..pair[1]]).unwrap());
            }
            prop_assert_eq!(events, whole);
        }
    }
}
