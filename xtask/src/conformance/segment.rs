//! One segment, and everything that may be unusual about it.

use std::ops::Range;

use super::conversation::Side;
use crate::random::Random;

/// Some of a stream, on its way.
pub(crate) struct Segment {
    pub(crate) side: Side,
    /// Its place in the capture, in nanoseconds.
    pub(crate) order: u64,
    /// Its stamp there.
    pub(crate) time: u64,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(super) peer_isn: u32,
    /// The peer's SYN was sent before it.
    pub(super) answers: bool,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) urgent: u16,
    /// Of the stream.
    pub(super) key: u64,
    pub(super) range: Range<u64>,
    pub(super) truth: Truth,
    /// It carries other octets than the stream has there.
    pub(super) garbled: bool,
    /// What it carries beside the stream.
    pub(super) text: &'static [u8],
    /// Of the octets, where the snaplen cut some off.
    pub(super) captured_len: Option<u64>,
    pub(crate) checksum: Checksum,
    pub(crate) ip_len: IpLen,
    /// Empty, or parts of the IP packet's payload in the order in which they are captured.
    pub(crate) fragments: Vec<Fragment>,
    pub(crate) ip_id: u16,
}

#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Truth {
    /// It is what the stream holds.
    Sent,
    /// It is not.
    Void,
}

#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Checksum {
    Right,
    Wrong,
    /// The sum over the pseudo-header, which the network card would complete.
    Partial,
}

/// What the IP header says of the packet's length.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum IpLen {
    Right,
    /// Offloaded: nobody counted.
    Zero,
    /// More than there is.
    Beyond(u16),
}

#[derive(Clone)]
pub(crate) struct Fragment {
    /// Of the IP packet's payload; `usize::MAX` is its end.
    pub(crate) range: Range<usize>,
    /// It holds something else.
    pub(crate) garbled: bool,
}

impl Segment {
    /// What it carries and the capture has.
    pub(crate) fn payload(&self) -> Vec<u8> {
        let mut payload = octets(self.key, self.captured());
        if self.garbled {
            payload.iter_mut().for_each(|octet| *octet = !*octet);
        }
        payload.extend(self.text);
        payload
    }

    /// How much of what it carries was not captured.
    pub(crate) fn cut_off(&self) -> usize {
        (self.range.end - self.captured().end) as usize
    }

    pub(super) fn captured(&self) -> Range<u64> {
        let len = self.captured_len.unwrap_or(u64::MAX).min(self.range.end - self.range.start);
        self.range.start..self.range.start + len
    }

    pub(crate) fn syn(&mut self) -> &mut Self {
        self.flags |= SYN;
        self.seq = self.seq.wrapping_sub(1);
        if !self.answers {
            self.without_ack();
        }
        self
    }

    pub(crate) fn fin(&mut self) -> &mut Self {
        self.flags |= FIN;
        self
    }

    pub(crate) fn rst(&mut self) -> &mut Self {
        self.flags = RST | self.flags & ACK;
        self
    }

    pub(crate) fn without_ack(&mut self) -> &mut Self {
        self.flags &= !ACK;
        self.ack = 0;
        self
    }

    pub(crate) fn without_push(&mut self) -> &mut Self {
        self.flags &= !PSH;
        self
    }

    /// Acknowledges as far as this place in the peer's stream.
    pub(crate) fn ack(&mut self, offset: u64) -> &mut Self {
        self.flags |= ACK;
        self.ack = self.peer_isn.wrapping_add(1).wrapping_add(offset as u32);
        self
    }

    pub(crate) fn window(&mut self, window: u16) -> &mut Self {
        self.window = window;
        self
    }

    /// The last octet is urgent (RFC 6093: the pointer stands behind it).
    pub(crate) fn urgent(&mut self) -> &mut Self {
        self.flags |= URG;
        self.urgent = (self.range.end - self.range.start) as u16;
        self
    }

    /// From somebody who is neither of the two, or from one who is mistaken: its octets are others.
    pub(crate) fn forged(&mut self) -> &mut Self {
        self.garbled = true;
        self.void()
    }

    /// What it holds is no part of the stream.
    pub(crate) fn void(&mut self) -> &mut Self {
        self.truth = Truth::Void;
        self
    }

    /// Its sequence number is lower by that many than the range says.
    pub(crate) fn back(&mut self, count: u32) -> &mut Self {
        self.seq = self.seq.wrapping_sub(count);
        self
    }

    /// Carries this as well, which is no part of the stream.
    pub(crate) fn text(&mut self, text: &'static [u8]) -> &mut Self {
        self.text = text;
        self
    }

    /// Passes the place of capture that many milliseconds after it was sent.
    pub(crate) fn late(&mut self, milliseconds: u64) -> &mut Self {
        self.late_by_microseconds(milliseconds * 1000)
    }

    pub(crate) fn late_by_microseconds(&mut self, microseconds: u64) -> &mut Self {
        self.order += microseconds * 1000;
        self.time += microseconds * 1000;
        self
    }

    /// Only so many octets of what it carries are captured.
    pub(crate) fn cut(&mut self, captured: u64) -> &mut Self {
        self.captured_len = Some(captured);
        self
    }

    pub(crate) fn checksum(&mut self, checksum: Checksum) -> &mut Self {
        self.checksum = checksum;
        self
    }

    pub(crate) fn ip_len(&mut self, ip_len: IpLen) -> &mut Self {
        self.ip_len = ip_len;
        self
    }

    /// Travels in parts; this one is captured next.
    pub(crate) fn fragment(&mut self, range: Range<usize>) -> &mut Self {
        self.fragments.push(Fragment { range, garbled: false });
        self
    }

    /// One more fragment, of which somebody else wrote the octets.
    pub(crate) fn forged_fragment(&mut self, range: Range<usize>) -> &mut Self {
        self.fragments.push(Fragment { range, garbled: true });
        self
    }
}

/// A part of a stream. All octets can be printed, and are so distributed that no part resembles another.
pub(crate) fn octets(key: u64, range: Range<u64>) -> Vec<u8> {
    let mix = |value| Random::new(value).next();
    range.map(|offset| b'!' + (mix(key ^ mix(offset)) % 94) as u8).collect()
}

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const PSH: u8 = 8;
pub(crate) const ACK: u8 = 16;
pub(crate) const URG: u8 = 32;
