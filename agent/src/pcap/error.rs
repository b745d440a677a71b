//! What can be wrong with a capture file.

use std::{fmt, io, path::PathBuf};

use agent_common::frame::LinkType;

use super::CAPLEN_MAX;
use crate::decode;

/// One line: the file, what is wrong with it and where, what to try.
#[derive(Debug)]
pub struct Error {
    pub path: PathBuf,
    pub cause: Cause,
}

/// Offsets count from the start of the file, all sizes are octets.
#[derive(Debug)]
pub enum Cause {
    Io(io::Error),
    NotACapture,
    /// `by` is the command that undoes it.
    Compressed {
        with: &'static str,
        by: &'static str,
    },
    /// The file is fine, and of a network that is not read here.
    UnsupportedLinkType(LinkType),
    /// The file ends inside `what`.
    CutShort {
        what: &'static str,
        offset: u64,
        has: u64,
        needs: u64,
    },
    /// A frame longer than [`CAPLEN_MAX`], or a block that cannot be that long.
    TooLong {
        what: &'static str,
        offset: u64,
        claims: u64,
    },
    /// `what` contradicts itself.
    Damaged {
        what: &'static str,
        offset: u64,
        why: &'static str,
    },
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "read {}: {}", self.path.display(), self.cause)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Io(ref error) => error.fmt(f),
            Self::NotACapture => write!(f, "neither a pcap nor a pcapng file"),
            Self::Compressed { with, by } => write!(f, "compressed with {with} (decompress it with {by} first)"),
            Self::UnsupportedLinkType(link_type) => {
                write!(f, "link type {} is not supported", decode::Name(link_type))
            }
            Self::CutShort { what, offset, has, needs } => {
                write!(f, "{what} at offset {offset} ends after {has} of {needs} octets (the file is cut short)")
            }
            Self::TooLong { what, offset, claims } => write!(
                f,
                "{what} at offset {offset} claims {claims} octets, and frames have at most {CAPLEN_MAX} (the file is damaged)"
            ),
            Self::Damaged { what, offset, why } => {
                write!(f, "{what} at offset {offset} {why} (the file is damaged)")
            }
        }
    }
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
