//! As much of HTTP/1.1 as the demo's two ends say to each other.

use std::io::{self, BufRead, Read, Write};

use crate::random;

/// The part of a message before its body.
pub(crate) struct Head {
    /// Request line or status line.
    pub(crate) line: String,
    /// Octets of the body.
    pub(crate) length: u64,
    /// Whether the connection ends with this exchange.
    pub(crate) close: bool,
}

impl Head {
    /// Reads up to the empty line; `None` where the peer ended the connection instead of asking for more.
    pub(crate) fn read(source: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut head = Self { line: String::new(), length: 0, close: false };
        if source.read_line(&mut head.line)? == 0 {
            return Ok(None);
        }
        let mut field = String::new();
        loop {
            field.clear();
            if source.read_line(&mut field)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let Some((name, value)) = field.trim_end().split_once(": ") else { break };
            match name {
                "Content-Length" => head.length = value.parse().map_err(io::Error::other)?,
                "Connection" => head.close = value == "close",
                _ => {}
            }
        }
        head.line.truncate(head.line.trim_end().len());
        Ok(Some(head))
    }
}

/// `len` octets that no compression, alignment or repetition could make look right by accident.
pub(crate) fn body(seed: u64, len: u64) -> impl Read {
    Noise { seed, position: 0 }.take(len)
}

/// Sends a head and then its body, in writes of a size that a web server makes.
pub(crate) fn send(sink: &mut impl Write, head: &str, body: &mut impl Read) -> io::Result<()> {
    let mut block = vec![0; 64 * 1024];
    let mut filled = head.len();
    block[..filled].copy_from_slice(head.as_bytes());
    loop {
        let len = body.read(&mut block[filled..])?;
        filled += len;
        if len == 0 || filled == block.len() {
            sink.write_all(&block[..filled])?;
            filled = 0;
        }
        if len == 0 {
            return sink.flush();
        }
    }
}

/// The same octets however they are read.
struct Noise {
    seed: u64,
    position: u64,
}

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        random::fill(self.seed, self.position, buffer);
        self.position += buffer.len() as u64;
        Ok(buffer.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reads_back() {
        let mut wire = Vec::new();
        let head = "POST /octets HTTP/1.1\r\nContent-Length: 100000\r\nConnection: close\r\n\r\n";
        send(&mut wire, head, &mut body(7, 100_000)).unwrap();

        let mut source = &wire[..];
        let head = Head::read(&mut source).unwrap().unwrap();
        assert_eq!((&*head.line, head.length, head.close), ("POST /octets HTTP/1.1", 100_000, true));
        let mut expected = Vec::new();
        body(7, 100_000).read_to_end(&mut expected).unwrap();
        assert!(source == expected);
    }

    #[test]
    fn the_end_between_messages_is_no_error_and_within_one_it_is() {
        assert!(Head::read(&mut &b""[..]).unwrap().is_none());
        assert!(Head::read(&mut &b"GET / HTTP/1.1\r\nConnection: close\r\n"[..]).is_err());
    }
}
