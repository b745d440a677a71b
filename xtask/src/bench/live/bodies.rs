//! What the server serves, and whether a file holds it.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use super::super::{
    program::{ends, files},
    workload,
};

/// Bodies of lengths of which no two are the same, so that a response says by its length which one it has.
pub(super) struct Bodies(Vec<Vec<u8>>);

/// What a file has of a response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Response {
    /// Head and body, every octet.
    Whole,
    /// Its beginning.
    Cut,
    /// Something else.
    Wrong,
}

/// How many responses were which.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Tally {
    pub(super) whole: u64,
    pub(super) cut: u64,
    pub(super) wrong: u64,
}

impl Bodies {
    pub(super) const COUNT: u32 = 64;

    /// From 1 KiB to 256 KiB, each power of two as often as the others.
    pub(super) fn new(seed: u64) -> Self {
        let body = |number: u32| {
            let len = 1024.0 * 256_f64.powf(f64::from(number) / f64::from(Self::COUNT - 1));
            workload::octets(seed.wrapping_add(number.into()), len as u64)
        };
        Self((0..Self::COUNT).map(body).collect())
    }

    /// As files whose names are numbers from 0 on.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        for (number, body) in self.0.iter().enumerate() {
            let path = folder.join(number.to_string());
            fs::write(&path, body).with_context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }

    /// Holds a stream from the server against what it served.
    pub(super) fn judge(&self, stream: &[u8]) -> Response {
        let Some(end) = stream.windows(END.len()).position(|window| window == END) else {
            let len = stream.len().min(STATUS.len());
            return if stream[..len] == STATUS[..len] { Response::Cut } else { Response::Wrong };
        };
        let (head, body) = (&stream[..end], &stream[end + END.len()..]);
        let expected = length(head).and_then(|len| self.0.iter().find(|body| body.len() == len));
        match expected {
            Some(expected) if head.starts_with(STATUS) && body == expected => Response::Whole,
            Some(expected) if head.starts_with(STATUS) && expected.starts_with(body) => Response::Cut,
            _ => Response::Wrong,
        }
    }

    /// The same of all files that hold what the server sent.
    pub(super) fn judge_files(&self, folder: &Path) -> Result<Tally> {
        let mut tally = Tally::default();
        for path in files(folder)? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if ends(name).is_some_and(|[src, _]| src.port() == PORT) {
                let content = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
                tally.add(self.judge(&content));
            }
        }
        Ok(tally)
    }
}

impl Tally {
    pub(super) fn add(&mut self, response: Response) {
        match response {
            Response::Whole => self.whole += 1,
            Response::Cut => self.cut += 1,
            Response::Wrong => self.wrong += 1,
        }
    }
}

/// Of the body, as the head has it.
pub(super) fn length(head: &[u8]) -> Option<usize> {
    let head = std::str::from_utf8(head).ok()?;
    head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.trim().parse().ok())
}

/// The server's.
pub(super) const PORT: u16 = 80;

/// Of a head.
pub(super) const END: &[u8] = b"\r\n\r\n";

const STATUS: &[u8] = b"HTTP/1.1 200 OK\r\n";

/// The shortest body.
#[cfg(test)]
pub(super) fn first(seed: u64) -> Vec<u8> {
    Bodies::new(seed).0.swap_remove(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_whole_only_with_every_octet() {
        let bodies = Bodies::new(7);
        let body = bodies.0[3].clone();
        let mut stream = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        let head = stream.len();
        stream.extend(body);
        assert_eq!(bodies.judge(&stream), Response::Whole);
        for len in [0, 5, 17, head - 1, head, stream.len() - 1] {
            assert_eq!(bodies.judge(&stream[..len]), Response::Cut, "{len}");
        }
        stream.push(0);
        assert_eq!(bodies.judge(&stream), Response::Wrong);
        stream.pop();
        for at in [0, 10, head, stream.len() - 1] {
            stream[at] ^= 1;
            assert_eq!(bodies.judge(&stream), Response::Wrong, "{at}");
            stream[at] ^= 1;
        }
    }

    #[test]
    fn lengths_tell_bodies_apart() {
        let bodies = Bodies::new(1);
        let lens: std::collections::BTreeSet<usize> = bodies.0.iter().map(Vec::len).collect();
        assert_eq!(lens.len(), Bodies::COUNT as usize);
        assert_eq!((lens.first(), lens.last()), (Some(&1024), Some(&(256 << 10))));
    }
}
