//! The TCP header. Not etherparse's, which wants all octets, while a capture may end inside the options.

use super::{Reject, Rest};
use crate::segment::{Flags, SeqNum};

/// What a TCP header says (RFC 9293 section 3.1).
pub(super) struct Header {
    pub(super) src_port: u16,
    pub(super) dst_port: u16,
    pub(super) seq: SeqNum,
    pub(super) ack: SeqNum,
    /// Octets, options included.
    pub(super) len: usize,
    pub(super) flags: Flags,
    pub(super) window: u16,
    pub(super) options: Options,
}

impl Header {
    /// `segment` must hold all that [`Header`] does; checksum, urgent pointer and options may have been cut off.
    #[inline]
    pub(super) fn read(segment: Rest<'_>) -> Result<Self, Reject> {
        let fixed: [u8; 16] = segment.array(0)?;
        let [s0, s1, d0, d1, q0, q1, q2, q3, a0, a1, a2, a3, offset, flags, w0, w1] = fixed;
        let len = usize::from(offset >> 4) * 4;
        if len < FIXED_LEN {
            return Err(Reject::Malformed);
        }
        let flags = Flags(flags);
        let options = segment.truncate(len).bytes.get(FIXED_LEN..).unwrap_or_default();
        Ok(Self {
            src_port: u16::from_be_bytes([s0, s1]),
            dst_port: u16::from_be_bytes([d0, d1]),
            seq: SeqNum(u32::from_be_bytes([q0, q1, q2, q3])),
            ack: SeqNum(u32::from_be_bytes([a0, a1, a2, a3])),
            len,
            flags,
            window: u16::from_be_bytes([w0, w1]),
            options: if flags.contains(Flags::SYN) { Options::read(options) } else { Options::default() },
        })
    }
}

/// Octets of a TCP header without options.
const FIXED_LEN: usize = 20;

/// What the options of a SYN say, as far as anybody asks.
#[derive(Default)]
pub(super) struct Options {
    pub(super) mss: Option<u16>,
    pub(super) window_scale: Option<u8>,
}

impl Options {
    /// Not by etherparse's iterator, which ends at the first option it does not know: Fast Open, Multipath TCP and MD5 may
    /// all precede these. Of two the first counts.
    #[cold]
    fn read(mut octets: &[u8]) -> Self {
        let mut options = Self::default();
        loop {
            octets = match *octets {
                [] | [0, ..] => return options,
                [1, ref rest @ ..] => rest,
                [kind, len, ref data @ ..] if len >= 2 => {
                    match (kind, len, data) {
                        (2, 4, [high, low, ..]) => {
                            options.mss = options.mss.or_else(|| Some(u16::from_be_bytes([*high, *low])));
                        }
                        (3, 3, [shift, ..]) => {
                            options.window_scale = options.window_scale.or_else(|| Some((*shift).min(SHIFT_MAX)));
                        }
                        _ => {}
                    }
                    octets.get(usize::from(len)..).unwrap_or_default()
                }
                _ => return options,
            };
        }
    }
}

/// RFC 7323 section 2.3: a larger shift counts as this one.
const SHIFT_MAX: u8 = 14;
