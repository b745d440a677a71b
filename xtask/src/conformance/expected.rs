//! What a program should make of a capture, and whether it did.

use std::{
    fs::File,
    io::{self, Read},
    ops::Range,
    os::unix::fs::FileExt,
    path::PathBuf,
};

use super::{ranges::Ranges, segment::octets};

/// One direction of a conversation, as the capture determines it.
pub(crate) struct Stream {
    /// Which octets it holds.
    pub(crate) key: u64,
    /// The first that counts.
    pub(crate) begin: u64,
    pub(crate) captured: Ranges,
    /// What is known to be missing behind the last octet, and why.
    pub(crate) trailing: Option<(u64, &'static str)>,
    /// What the record says of the connection, where a capture is about it.
    pub(crate) started: Option<&'static str>,
    pub(crate) ended: Option<&'static str>,
}

impl Stream {
    /// Without an octet there is nothing that a file could hold.
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces().next().is_none()
    }

    pub(crate) fn gaps(&self) -> Vec<Range<u64>> {
        let holes = self.captured.holes(self.begin);
        holes.into_iter().map(|hole| hole.start - self.begin..hole.end - self.begin).collect()
    }

    /// Captured octets by their place in the stream.
    fn pieces(&self) -> impl Iterator<Item = Range<u64>> {
        let ranges = self.captured.iter().filter(|range| range.end > self.begin);
        ranges.map(|range| range.start.max(self.begin)..range.end)
    }

    /// Gaps included.
    pub(crate) fn len(&self) -> u64 {
        self.captured.end().unwrap_or(self.begin) - self.begin
    }

    /// All captured octets, and between them what `fill` makes of a gap's length.
    fn bytes(&self, fill: impl Fn(u64) -> Vec<u8>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut next = self.begin;
        for piece in self.pieces() {
            if piece.start > next {
                bytes.extend(fill(piece.start - next));
            }
            next = piece.end;
            bytes.extend(octets(self.key, piece));
        }
        bytes
    }
}

/// A stream that a program found.
pub(crate) enum Found {
    Bytes(Vec<u8>),
    /// A sparse one, which would not fit into memory.
    Large(PathBuf),
}

impl Found {
    pub(crate) fn read(path: PathBuf) -> io::Result<Self> {
        let mut file = File::open(&path)?;
        if file.metadata()?.len() > LARGE {
            return Ok(Self::Large(path));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(Self::Bytes(bytes))
    }

    /// Byte for byte. How a gap is shown is a program's own choice: zeros, nothing, or words in its place.
    pub(crate) fn is(&self, stream: &Stream) -> io::Result<bool> {
        match self {
            Self::Bytes(bytes) => {
                let gaps = stream.gaps();
                let missing: u64 = gaps.iter().map(|gap| gap.end - gap.start).sum();
                Ok(bytes == &stream.bytes(|_| Vec::new())
                    || !gaps.is_empty() && missing < LARGE && bytes == &stream.bytes(|len| vec![0; len as usize])
                    || !gaps.is_empty()
                        && bytes
                            == &stream.bytes(|len| format!("[{len} bytes missing in capture file]\0").into_bytes()))
            }
            Self::Large(path) => {
                let file = File::open(path)?;
                if file.metadata()?.len() != stream.len() {
                    return Ok(false);
                }
                let mut buffer = Vec::new();
                for piece in stream.pieces() {
                    buffer.resize((piece.end - piece.start) as usize, 0);
                    file.read_exact_at(&mut buffer, piece.start - stream.begin)?;
                    if buffer != octets(stream.key, piece) {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }

    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Large(path) => path.metadata().map_or(0, |metadata| metadata.len()),
        }
    }
}

/// Whether all streams are there, and nothing else. Otherwise the lengths of what was found and of what should have been.
pub(crate) fn judge(expected: &[Stream], mut found: Vec<Found>) -> io::Result<Result<(), String>> {
    // Some make a file before they know that nothing will be in it.
    found.retain(|found| found.len() > 0);
    let mut missing = Vec::new();
    for stream in expected.iter().filter(|stream| !stream.is_empty()) {
        let mut place = None;
        for (at, candidate) in found.iter().enumerate() {
            if candidate.is(stream)? {
                place = Some(at);
                break;
            }
        }
        match place {
            Some(at) => drop(found.swap_remove(at)),
            None => missing.push(stream.pieces().map(|piece| piece.end - piece.start).sum::<u64>()),
        }
    }
    let list = |lens: Vec<u64>| {
        let mut words: Vec<String> = lens.iter().take(3).map(u64::to_string).collect();
        if lens.len() > 3 {
            words.push(format!("{} more", lens.len() - 3));
        }
        words.join(", ")
    };
    let left = list(found.iter().map(Found::len).collect());
    Ok(match (missing.is_empty(), left.is_empty()) {
        (true, true) => Ok(()),
        (true, false) => Err(format!("and {left}")),
        (false, true) => Err(format!("no {}", list(missing))),
        (false, false) => Err(format!("{left} for {}", list(missing))),
    })
}

/// More than any capture has octets of a stream.
const LARGE: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(ranges: &[Range<u64>]) -> Stream {
        let mut captured = Ranges::default();
        ranges.iter().for_each(|range| captured.insert(range.clone()));
        Stream { key: 7, begin: 10, captured, trailing: None, started: None, ended: None }
    }

    fn verdict(expected: &[Stream], found: &[&[u8]]) -> Result<(), String> {
        judge(expected, found.iter().map(|bytes| Found::Bytes(bytes.to_vec())).collect()).unwrap()
    }

    #[test]
    fn each_stream_is_found_once_and_nothing_else() {
        let expected = [stream(&[5..12, 12..20]), stream(&[10..15, 12..30]), stream(&[])];
        let [short, long] = [10..20, 10..30].map(|range| octets(7, range));
        assert_eq!(verdict(&expected, &[&long, b"", &short]), Ok(()));
        assert!(verdict(&expected, &[&long, &long]).is_err());
        assert!(verdict(&expected, &[&long]).is_err());
        assert!(verdict(&expected, &[&long, &short, b"x"]).is_err());
        let mut wrong = short.clone();
        wrong[3] ^= 1;
        assert!(verdict(&expected, &[&long, &wrong]).is_err());
    }

    #[test]
    fn a_gap_may_be_shown_in_three_ways() {
        let expected = [stream(&[10..20, 25..30, 35..40])];
        let [first, second, third] = [10..20, 25..30, 35..40].map(|range| octets(7, range));
        assert_eq!(expected[0].gaps(), [10..15, 20..25]);
        for fill in [&b""[..], &[0; 5], b"[5 bytes missing in capture file]\0"] {
            assert_eq!(verdict(&expected, &[&[&first, fill, &second, fill, &third].concat()]), Ok(()));
        }
        assert!(verdict(&expected, &[&[&first[..], &[0; 4], &second, &[0; 5], &third].concat()]).is_err());
    }
}
