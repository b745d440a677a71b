//! As much of HTTP/1.1 as the demo's two ends say to each other.

use std::io::{self, BufRead, Read, Write};

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

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators"). The same every time: a demo that
/// fails should fail again.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(Self::STEP);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
}

/// The same octets however they are read: the generator counts, so it can start anywhere.
struct Noise {
    seed: u64,
    position: u64,
}

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut rest = &mut *buffer;
        while !rest.is_empty() {
            let word =
                Random(self.seed.wrapping_add((self.position / 8).wrapping_mul(Random::STEP))).next().to_le_bytes();
            let part = &word[(self.position % 8) as usize..];
            let (filled, unfilled) = rest.split_at_mut(part.len().min(rest.len()));
            filled.copy_from_slice(&part[..filled.len()]);
            self.position += filled.len() as u64;
            rest = unfilled;
        }
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
