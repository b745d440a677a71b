//! What xdpflow says of the streams that it wrote.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::{
    capture::Capture,
    expected::{Found, Stream},
};

/// Whether xdpflow's account of the streams is right, too: which gaps there are and why, and how many connections.
pub(crate) fn check(capture: &Capture, expected: &[Stream], output: &Path) -> Result<Result<(), String>> {
    let mut closed = Vec::new();
    index(output, &mut closed)?;
    if closed.len() != capture.connections() {
        return Ok(Err(format!("{} connections in the index instead of {}", closed.len(), capture.connections())));
    }
    for stream in expected.iter().filter(|stream| !stream.is_empty()) {
        let mut account = None;
        for record in &closed {
            for direction in [&record.c2s, &record.s2c] {
                if let Some(file) = &direction.file
                    && Found::read(output.join(file))?.is(stream)?
                {
                    account = Some((record, direction));
                }
            }
        }
        let Some((record, direction)) = account else {
            return Ok(Err("a stream that is in no record".to_owned()));
        };
        let written =
            direction.file.as_ref().map_or(0, |file| output.join(file).metadata().map_or(0, |file| file.len()));
        let gaps: u64 = stream.gaps().iter().map(|gap| gap.end - gap.start).sum();
        // A file without its gaps would be taken from a peer, not from xdpflow unless that was asked for.
        if written != stream.len() - if capture.flags.contains(&"skip") { gaps } else { 0 } {
            return Ok(Err(format!("a file of {written} octets for a stream of {}", stream.len())));
        }
        if let Err(problem) = direction.check(stream, capture.cause) {
            return Ok(Err(problem));
        }
        for (what, said, wanted) in
            [("started", Some(&record.started), stream.started), ("ended", record.ended.as_ref(), stream.ended)]
        {
            if let Some(wanted) = wanted
                && said.is_none_or(|said| said != wanted)
            {
                return Ok(Err(format!("{what} by {} instead of {wanted}", said.map_or("nothing", String::as_str))));
            }
        }
    }
    Ok(Ok(()))
}

fn index(dir: &Path, closed: &mut Vec<Record>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            index(&path, closed)?;
        } else if path.extension().is_some_and(|extension| extension == "jsonl") {
            let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            for line in text.lines() {
                let record: Record = serde_json::from_str(line).with_context(|| format!("read {}", path.display()))?;
                closed.extend((record.event == "close").then_some(record));
            }
        }
    }
    Ok(())
}

/// A line of the index, as far as captures are about it.
#[derive(Deserialize)]
struct Record {
    event: String,
    started: String,
    ended: Option<String>,
    c2s: Direction,
    s2c: Direction,
}

#[derive(Deserialize)]
struct Direction {
    file: Option<PathBuf>,
    /// The first ones.
    gaps: Vec<Gap>,
    gap_totals: BTreeMap<String, u64>,
    trailing_gap: Option<Gap>,
}

impl Direction {
    fn check(&self, stream: &Stream, cause: Option<&str>) -> Result<(), String> {
        let wanted = stream.gaps();
        let same = self.gaps.iter().zip(&wanted).all(|(gap, wanted)| {
            (gap.offset, gap.len) == (wanted.start, wanted.end - wanted.start)
                && cause.is_none_or(|cause| gap.cause == cause)
        });
        let missing: u64 = wanted.iter().map(|gap| gap.end - gap.start).sum();
        let listed = LISTED.min(wanted.len())..=wanted.len();
        if !same || !listed.contains(&self.gaps.len()) || self.gap_totals.values().sum::<u64>() != missing {
            let said: Vec<String> = self.gaps.iter().take(3).map(Gap::to_string).collect();
            let wanted: Vec<String> =
                wanted.iter().take(3).map(|gap| format!("{} at {}", gap.end - gap.start, gap.start)).collect();
            return Err(format!(
                "gaps [{}] instead of [{}] {}",
                said.join(", "),
                wanted.join(", "),
                cause.unwrap_or_default()
            ));
        }
        let trailing = self.trailing_gap.as_ref().map(|gap| (gap.len, gap.cause.as_str()));
        if trailing != stream.trailing {
            return Err(format!("a trailing gap {trailing:?} instead of {:?}", stream.trailing));
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Gap {
    offset: u64,
    len: u64,
    cause: String,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} ({})", self.len, self.offset, self.cause)
    }
}

/// So many gaps of a stream are listed at least.
const LISTED: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::ranges::Ranges;

    #[test]
    fn gaps_must_be_the_right_ones_for_the_right_cause() {
        let mut captured = Ranges::default();
        captured.insert(0..10);
        captured.insert(15..20);
        let stream = Stream { key: 7, begin: 0, captured, trailing: None, started: None, ended: None };
        let direction = |offset: u64, total: u64, trailing: bool| Direction {
            file: None,
            gaps: vec![Gap { offset, len: 5, cause: "limit".to_owned() }],
            gap_totals: [("limit".to_owned(), total)].into(),
            trailing_gap: trailing.then(|| Gap { offset: 20, len: 1, cause: "limit".to_owned() }),
        };
        assert_eq!(direction(10, 5, false).check(&stream, Some("limit")), Ok(()));
        assert!(direction(10, 5, false).check(&stream, Some("close")).is_err());
        assert!(direction(11, 5, false).check(&stream, Some("limit")).is_err());
        assert!(direction(10, 6, false).check(&stream, Some("limit")).is_err());
        assert!(direction(10, 5, true).check(&stream, Some("limit")).is_err());
    }
}
