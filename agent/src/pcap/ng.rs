//! pcapng: blocks, in sections of either byte order (draft-ietf-opsawg-pcapng).

use agent_common::frame::LinkType;

use super::{
    CAPLEN_MAX, Cause, Record,
    error::Offset,
    input::{ByteOrder, Fields, Input},
};
use crate::{decode, segment::Timestamp};

/// Block type of a section header, which reads the same in both byte orders.
pub(super) const SECTION_HEADER: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// The section that is being read.
#[derive(Default)]
pub(super) struct Ng {
    order: ByteOrder,
    interfaces: Vec<Interface>,
    /// Of the last frame, for those that come without.
    timestamp: Timestamp,
    /// Frames of interfaces that nothing here can read, and the link type of the first.
    left_out: Option<(LinkType, u64)>,
    /// There was a frame that can be read.
    readable: bool,
}

impl Ng {
    pub(super) fn next(&mut self, input: &mut Input) -> Result<Option<Record>, Cause> {
        while !input.is_at_end()? {
            let offset = input.offset();
            if input.require(8, WHAT)?.starts_with(&SECTION_HEADER) {
                self.section(input)?;
                continue;
            }
            let mut head = Fields { bytes: input.require(8, WHAT)?, order: self.order };
            let (kind, len) = head.u32().zip(head.u32()).ok_or_else(|| damaged(offset, TOO_SHORT))?;
            let block_len = padded(len, offset)?;
            if !matches!(kind, INTERFACE | PACKET | SIMPLE_PACKET | ENHANCED_PACKET) {
                input.skip(block_len, WHAT)?;
                continue;
            }
            if block_len > BLOCK_LEN_MAX {
                return Err(Cause::TooLong { what: WHAT, offset, claims: block_len });
            }
            let block_len = block_len as usize;
            let block = input.require(block_len, WHAT)?;
            let (block, trailer) = block.split_last_chunk().ok_or_else(|| damaged(offset, TOO_SHORT))?;
            if self.order.u32(*trailer) != len {
                return Err(damaged(offset, "does not end with its length"));
            }
            let body = Fields { bytes: block.get(8..).unwrap_or_default(), order: self.order };
            if kind == INTERFACE {
                self.interface(body, offset)?;
                input.consume(block_len);
                continue;
            }
            let record = self.record(kind, body, offset)?;
            let body_start = input.consume(block_len).start + 8;
            let Some(mut record) = record else { continue };
            record.bytes = body_start + record.bytes.start..body_start + record.bytes.end;
            return Ok(Some(record));
        }
        Ok(None)
    }

    /// Says once that frames were left out.
    pub(super) fn take_left_out(&mut self) -> Option<Cause> {
        let (link_type, frames) = self.left_out.take()?;
        Some(if self.readable { Cause::LeftOut { link_type, frames } } else { Cause::UnsupportedLinkType(link_type) })
    }

    fn section(&mut self, input: &mut Input) -> Result<(), Cause> {
        let offset = input.offset();
        let mut head = Fields { bytes: input.require(16, WHAT)?, order: ByteOrder::Little };
        // Which order the length is in, only the magic behind it tells.
        let (len, magic) =
            head.slice(4).and_then(|_| head.array().zip(head.array())).ok_or_else(|| damaged(offset, TOO_SHORT))?;
        head.order = match magic {
            [0x1a, 0x2b, 0x3c, 0x4d] => ByteOrder::Big,
            [0x4d, 0x3c, 0x2b, 0x1a] => ByteOrder::Little,
            _ => return Err(damaged(offset, "has no byte-order magic")),
        };
        if head.u16() != Some(1) {
            return Err(damaged(offset, "is of an unknown version"));
        }
        self.order = head.order;
        self.interfaces.clear();
        input.skip(padded(self.order.u32(len), offset)?, WHAT)
    }

    fn interface(&mut self, body: Fields<'_>, offset: Offset) -> Result<(), Cause> {
        // One less than a `u16` can count: see `Packet::interface`.
        if self.interfaces.len() >= usize::from(u16::MAX) {
            return Err(damaged(offset, "is one interface too many"));
        }
        self.interfaces.push(Interface::read(body).ok_or_else(|| damaged(offset, TOO_SHORT))?);
        Ok(())
    }

    /// The frame in a packet block, unless nothing here can read it: its place counts from the start of the body.
    fn record(&mut self, kind: u32, mut body: Fields<'_>, offset: Offset) -> Result<Option<Record>, Cause> {
        let whole = body.bytes.len();
        let snaplen = self.interfaces.first().map_or(0, |interface| interface.snaplen);
        let packet = Packet::read(kind, &mut body, snaplen).ok_or_else(|| damaged(offset, TOO_SHORT))?;
        let interface = self
            .interfaces
            .get(usize::from(packet.interface))
            .ok_or_else(|| damaged(offset, "names an interface that was not described"))?;
        if packet.caplen > CAPLEN_MAX {
            return Err(Cause::TooLong { what: "frame in block", offset, claims: u64::from(packet.caplen) });
        }
        let start = whole - body.bytes.len();
        let bytes = start..start + packet.caplen as usize;
        if bytes.end > whole {
            return Err(damaged(offset, "is shorter than the frame in it"));
        }
        if let Some((high, low)) = packet.ticks {
            self.timestamp = interface.clock.timestamp(u64::from(high) << 32 | u64::from(low));
        }
        if !decode::supported(interface.link_type) {
            self.left_out.get_or_insert((interface.link_type, 0)).1 += 1;
            return Ok(None);
        }
        self.readable = true;
        Ok(Some(Record {
            timestamp: self.timestamp,
            len: packet.len,
            bytes,
            link_type: interface.link_type,
            interface: packet.interface,
        }))
    }
}

/// What a packet block says about its frame.
struct Packet {
    /// `u16::MAX` for all numbers that are too high to exist.
    interface: u16,
    /// Upper and lower half.
    ticks: Option<(u32, u32)>,
    caplen: u32,
    len: u32,
}

impl Packet {
    /// Reads what stands before the frame. A simple packet block does not say how much was captured: `snaplen` does,
    /// that of the first interface, or the block's length.
    fn read(kind: u32, body: &mut Fields<'_>, snaplen: u32) -> Option<Self> {
        if kind == SIMPLE_PACKET {
            let len = body.u32()?;
            let room = u32::try_from(body.bytes.len()).unwrap_or(u32::MAX);
            let limit = if snaplen == 0 { u32::MAX } else { snaplen };
            return Some(Self { interface: 0, ticks: None, caplen: len.min(room).min(limit), len });
        }
        let interface = if kind == PACKET {
            let (interface, _drops) = body.u16().zip(body.u16())?;
            interface
        } else {
            body.u32()?.try_into().unwrap_or(u16::MAX)
        };
        let ticks = body.u32().zip(body.u32())?;
        Some(Self { interface, ticks: Some(ticks), caplen: body.u32()?, len: body.u32()? })
    }
}

struct Interface {
    link_type: LinkType,
    snaplen: u32,
    clock: Clock,
}

impl Interface {
    fn read(mut body: Fields<'_>) -> Option<Self> {
        let (link_type, _reserved, snaplen) = (body.u16()?, body.u16()?, body.u32()?);
        let mut interface = Self { link_type: LinkType(link_type), snaplen, clock: Clock::default() };
        // An option that reaches beyond the block ends the list; what it would have said is not vital.
        while let Some((code, len)) = body.u16().zip(body.u16()) {
            let len = usize::from(len);
            let Some(value) = body.slice(len) else { break };
            match (code, value) {
                (END_OF_OPTIONS, _) => break,
                (TIMESTAMP_RESOLUTION, &[resolution]) => interface.clock.resolution = resolution,
                (TIMESTAMP_OFFSET, value) => {
                    if let Ok(octets) = value.try_into() {
                        interface.clock.offset = body.order.i64(octets);
                    }
                }
                _ => {}
            }
            let _padding = body.slice(len.next_multiple_of(4) - len);
        }
        Some(interface)
    }
}

/// How an interface tells the time.
struct Clock {
    /// Of ticks in a second: the exponent, of 2 with the highest bit, else of 10; negated.
    resolution: u8,
    /// Seconds.
    offset: i64,
}

impl Default for Clock {
    fn default() -> Self {
        Self { resolution: 6, offset: 0 }
    }
}

impl Clock {
    /// Times before the epoch count as the epoch, times beyond the year 2554 as that.
    fn timestamp(&self, ticks: u64) -> Timestamp {
        const SECOND: u128 = 1_000_000_000;
        let exponent = u32::from(self.resolution & 0x7f);
        let nanoseconds = match self.resolution {
            6 if self.offset == 0 => return Timestamp(ticks.saturating_mul(1_000)),
            0..=9 => u128::from(ticks) * 10_u128.pow(9 - exponent),
            // From 10^29 on, no number of ticks is a nanosecond.
            10..=0x7f => u128::from(ticks) / 10_u128.checked_pow(exponent - 9).unwrap_or(u128::MAX),
            0x80.. => (u128::from(ticks) * SECOND) >> exponent,
        };
        let nanoseconds = nanoseconds.cast_signed() + i128::from(self.offset) * SECOND.cast_signed();
        Timestamp(u64::try_from(nanoseconds.max(0)).unwrap_or(u64::MAX))
    }
}

/// Octets of a block, given what it claims. They are a multiple of four; some writers forget to say so.
fn padded(claimed: u32, offset: Offset) -> Result<u64, Cause> {
    if claimed < 12 {
        return Err(damaged(offset, TOO_SHORT));
    }
    Ok(u64::from(claimed).next_multiple_of(4))
}

fn damaged(offset: Offset, why: &'static str) -> Cause {
    Cause::Damaged { what: WHAT, offset, why }
}

const WHAT: &str = "block";
const TOO_SHORT: &str = "is too short for its fields";

/// Most octets of a block that is looked into: the largest frame and as much again for options.
const BLOCK_LEN_MAX: u64 = 2 * CAPLEN_MAX as u64;

// Block types.
const INTERFACE: u32 = 1;
/// Obsolete, and still met.
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

// Options.
const END_OF_OPTIONS: u16 = 0;
const TIMESTAMP_RESOLUTION: u16 = 9;
const TIMESTAMP_OFFSET: u16 = 14;
