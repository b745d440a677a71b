//! What can be wrong with a capture file.

use std::{fmt, io, path::PathBuf};

use agent_common::frame::LinkType;

use super::CAPLEN_MAX;
use crate::{
    decode,
    error::{Name, Reason},
};

/// One line: the file, what is wrong with it and where, what to try.
#[derive(Debug)]
pub struct Error {
    pub path: PathBuf,
    pub cause: Cause,
}

/// All sizes are octets.
#[derive(Debug)]
pub enum Cause {
    Io(io::Error),
    /// Standard input, which someone would have to type.
    Terminal,
    /// The same, named more than once.
    NamedTwice,
    /// What is no ordinary file gives its octets once, and every thread wants them.
    ReadOnce,
    /// As many others are open whose times overlap.
    TooManyOpen(usize),
    Empty,
    NotACapture,
    /// Compressed in a way that is not undone here. `by` is the command that does.
    Compressed {
        with: &'static str,
        by: &'static str,
    },
    /// The file is fine, and of a network that is not read here.
    UnsupportedLinkType(LinkType),
    /// So many frames of a file are of such a network.
    LeftOut {
        link_type: LinkType,
        frames: u64,
    },
    /// The file ends inside `what`.
    CutShort {
        what: &'static str,
        offset: Offset,
        has: u64,
        needs: u64,
    },
    /// A frame longer than [`CAPLEN_MAX`], or a block that cannot be that long.
    TooLong {
        what: &'static str,
        offset: Offset,
        claims: u64,
    },
    /// `what` contradicts itself.
    Damaged {
        what: &'static str,
        offset: Offset,
        why: &'static str,
    },
    /// What is compressed ends in the middle.
    CompressedCutShort {
        with: &'static str,
        offset: Offset,
    },
    CompressedDamaged {
        with: &'static str,
        offset: Offset,
        why: String,
    },
    /// Behind a whole piece of compressed data stands something else.
    Trailing {
        with: &'static str,
        offset: Offset,
    },
    /// Takes more memory than a decompressor is given.
    WindowTooLarge {
        with: &'static str,
        offset: Offset,
    },
}

/// A place in a file.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Offset {
    pub octets: u64,
    /// It counts what came out of the decompressor, not what the file has.
    pub decompressed: bool,
}

impl Error {
    /// Whether the file is in order, and something else should have been asked for.
    pub fn is_misuse(&self) -> bool {
        matches!(
            self.cause,
            Cause::UnsupportedLinkType(_)
                | Cause::LeftOut { .. }
                | Cause::Terminal
                | Cause::NamedTwice
                | Cause::ReadOnce
        )
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "read {}: {}", Name(&self.path), self.cause)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Io(ref error) => Reason(error).fmt(f),
            Self::Terminal => write!(f, "it is a terminal (pipe a capture file into it)"),
            Self::NamedTwice => write!(f, "it was named twice, and can be read once"),
            Self::ReadOnce => write!(f, "it can be read once, and every thread reads all files (try --shards 1)"),
            Self::TooManyOpen(files) => {
                write!(
                    f,
                    "{files} files whose times overlap are open already (try a higher ulimit -n, or mergecap first)"
                )
            }
            Self::Empty => write!(f, "empty, and so neither a pcap nor a pcapng file"),
            Self::NotACapture => write!(f, "neither a pcap nor a pcapng file"),
            Self::Compressed { with, by } => write!(f, "compressed with {with} (decompress it with {by} first)"),
            Self::UnsupportedLinkType(link_type) => {
                write!(f, "link type {} is not supported", decode::Name(link_type))
            }
            Self::LeftOut { link_type, frames } => {
                let name = decode::Name(link_type);
                write!(f, "link type {name} is not supported (frames left out: {frames})")
            }
            Self::CutShort { what, offset, has, needs } => {
                write!(f, "{what} at {offset} ends after {has} of {needs} octets (the file is cut short)")
            }
            Self::TooLong { what, offset, claims } => write!(
                f,
                "{what} at {offset} claims {claims} octets, and frames have at most {CAPLEN_MAX} (the file is damaged)"
            ),
            Self::Damaged { what, offset, why } => {
                write!(f, "{what} at {offset} {why} (the file is damaged)")
            }
            Self::CompressedCutShort { with, offset } => {
                write!(f, "the {with} data ends too early, at {offset} (the file is cut short)")
            }
            Self::CompressedDamaged { with, offset, ref why } => {
                write!(f, "the {with} data goes wrong behind {offset}: {why} (the file is damaged)")
            }
            Self::Trailing { with, offset } => {
                write!(f, "behind the {with} data, which ends at {offset}, stands something else (ignored)")
            }
            Self::WindowTooLarge { with, offset } => {
                write!(
                    f,
                    "the {with} data at {offset} takes more than 128 MiB of memory (decompress it first, with unzstd --long=31)"
                )
            }
        }
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offset {}", self.octets)?;
        if self.decompressed { f.write_str(" of the decompressed data") } else { Ok(()) }
    }
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
