//! Compressed capture files.

use std::io::{self, BufRead as _, BufReader, Read};

use flate2::{Decompress, FlushDecompress, Status};
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, zstd_sys::ZSTD_ErrorCode};

use super::{Cause, error::Offset};

/// Reads what was compressed, in the pieces that the decompressor has: gzip members (RFC 1952 section 2.2) or zstd frames
/// (RFC 8878 section 3.1), one after the other. Everything in front of damage comes out before the error does.
pub(super) struct Decompressor {
    read: BufReader<Box<dyn Read + Send>>,
    compression: Compression,
    codec: Codec,
    /// A piece ended, or none has begun: here the file may end.
    between: bool,
    /// Octets that went in.
    consumed: u64,
    /// Octets that came out.
    produced: u64,
    /// Found behind octets that were still to be given out.
    fault: Option<Fault>,
}

impl Decompressor {
    pub(super) fn new(compression: Compression, read: Box<dyn Read + Send>) -> Self {
        let read = BufReader::with_capacity(BLOCK_LEN, read);
        let codec = Codec::new(compression);
        Self { read, compression, codec, between: true, consumed: 0, produced: 0, fault: None }
    }

    pub(super) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Fills `output` or a part of it; nothing at the end of the file.
    pub(super) fn read(&mut self, output: &mut [u8]) -> Result<usize, Cause> {
        loop {
            if let Some(fault) = self.fault.take() {
                return Err(self.cause(fault));
            }
            let input = match self.read.fill_buf() {
                Ok(input) => input,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Cause::Io(error)),
            };
            if self.between {
                match input.first() {
                    None => return Ok(0),
                    // Tapes pad with zeros, and gzip(1) ignores them.
                    Some(0) if self.compression == Compression::Gzip => {
                        self.read.consume(1);
                        self.consumed += 1;
                        continue;
                    }
                    Some(_) if self.compression.begins(input) => self.codec.begin(),
                    Some(_) => return Err(self.cause(Fault::Trailing)),
                }
                self.between = false;
            }
            let Step { consumed, produced, state } = self.codec.step(input, output);
            self.read.consume(consumed);
            self.consumed += consumed as u64;
            self.produced += produced as u64;
            match state {
                Ok(State::Under) if consumed == 0 && produced == 0 => self.fault = Some(Fault::CutShort),
                Ok(State::Under) => {}
                Ok(State::Ended) => self.between = true,
                Err(fault) => self.fault = Some(fault),
            }
            if produced > 0 {
                return Ok(produced);
            }
        }
    }

    fn cause(&self, fault: Fault) -> Cause {
        let with = self.compression.name();
        let offset = Offset { octets: self.produced, decompressed: true };
        match fault {
            Fault::CutShort => Cause::CompressedCutShort { with, offset },
            Fault::Window => Cause::WindowTooLarge { with, offset },
            Fault::Trailing => Cause::Trailing { with, offset },
            Fault::Damage(why) => Cause::CompressedDamaged { with, offset, why },
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Compression {
    Gzip,
    Zstd,
}

impl Compression {
    /// What the first octets of a file tell.
    pub(super) fn of(magic: [u8; 4]) -> Option<Self> {
        [Self::Gzip, Self::Zstd].into_iter().find(|compression| compression.begins(&magic))
    }

    /// Whether `input`, as far as it goes, is the beginning of a piece.
    fn begins(self, input: &[u8]) -> bool {
        let is = |magic: &[u8]| input.iter().zip(magic).all(|(octet, expected)| octet == expected);
        match (self, input.first()) {
            (Self::Gzip, _) => is(&[0x1f, 0x8b]),
            // A skippable frame: pzstd begins with one.
            (Self::Zstd, Some(&first @ 0x50..=0x5f)) => is(&[first, 0x2a, 0x4d, 0x18]),
            (Self::Zstd, _) => is(&[0x28, 0xb5, 0x2f, 0xfd]),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

enum Codec {
    Gzip(Decompress),
    /// `wanted` is how much it takes to decode a block and to read the header of the next.
    Zstd {
        context: DCtx<'static>,
        wanted: usize,
    },
}

/// What a call did, whether it failed or not.
struct Step {
    consumed: usize,
    produced: usize,
    state: Result<State, Fault>,
}

enum State {
    Under,
    Ended,
}

enum Fault {
    /// There is no more input.
    CutShort,
    /// Behind a whole piece stands no other one.
    Trailing,
    Damage(String),
    /// Nothing is wrong, it only takes more memory than it is given.
    Window,
}

impl Codec {
    fn new(compression: Compression) -> Self {
        match compression {
            Compression::Gzip => Self::Gzip(Decompress::new_gzip(GZIP_WINDOW_LOG)),
            Compression::Zstd => {
                let mut context = DCtx::create();
                // It is the limit of the library as well, so there is no harm in a refusal.
                let _ = context.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX));
                Self::Zstd { context, wanted: ZSTD_WANTED_FIRST }
            }
        }
    }

    /// Gets ready for another piece.
    fn begin(&mut self) {
        match self {
            Self::Gzip(_) => *self = Self::new(Compression::Gzip),
            Self::Zstd { wanted, .. } => *wanted = ZSTD_WANTED_FIRST,
        }
    }

    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Step {
        match self {
            Self::Gzip(inflate) => {
                let (before_in, before_out) = (inflate.total_in(), inflate.total_out());
                let state = match inflate.decompress(input, output, FlushDecompress::None) {
                    Ok(Status::StreamEnd) => Ok(State::Ended),
                    Ok(Status::Ok | Status::BufError) => Ok(State::Under),
                    Err(error) => Err(Fault::Damage(error.message().unwrap_or("invalid data").to_owned())),
                };
                Step {
                    consumed: (inflate.total_in() - before_in) as usize,
                    produced: (inflate.total_out() - before_out) as usize,
                    state,
                }
            }
            Self::Zstd { context, wanted } => {
                // A call that fails gives nothing out. So each gets a block without the header of the next, or a header.
                let block = wanted.checked_sub(ZSTD_BLOCK_HEADER_LEN).filter(|&len| len > 0).unwrap_or(*wanted);
                let mut input = InBuffer::around(input.get(..block).unwrap_or(input));
                let mut output = OutBuffer::around(output);
                let state = match context.decompress_stream(&mut output, &mut input) {
                    Ok(0) => Ok(State::Ended),
                    Ok(more) => {
                        *wanted = more;
                        Ok(State::Under)
                    }
                    Err(WINDOW_TOO_LARGE) => Err(Fault::Window),
                    Err(code) => Err(Fault::Damage(zstd_safe::get_error_name(code).to_lowercase())),
                };
                Step { consumed: input.pos(), produced: output.pos(), state }
            }
        }
    }
}

/// Compressed octets are read in blocks of this size.
const BLOCK_LEN: usize = 128 * 1024;
/// The only one there is: 32 KiB.
const GZIP_WINDOW_LOG: u8 = 15;
/// 128 MiB, which zstd(1) also takes without being asked to.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
const WINDOW_TOO_LARGE: usize = (ZSTD_ErrorCode::ZSTD_error_frameParameter_windowTooLarge as usize).wrapping_neg();
/// RFC 8878 section 3.1.1.2.
const ZSTD_BLOCK_HEADER_LEN: usize = 3;
/// Octets of a frame from which its header's length is known (RFC 8878 section 3.1.1).
const ZSTD_WANTED_FIRST: usize = 5;
