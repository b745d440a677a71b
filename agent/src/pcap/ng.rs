//! pcapng: blocks, in sections of either byte order (draft-ietf-opsawg-pcapng).

use agent_common::frame::LinkType;

use super::{
    CAPLEN_MAX, Cause, Record, check_link_type,
    input::{ByteOrder, Fields, Input},
};
use crate::segment::Timestamp;

/// Block type of a section header, which reads the same in both byte orders.
pub(super) const SECTION_HEADER: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// The section that is being read.
#[derive(Default)]
pub(super) struct Ng {
    order: ByteOrder,
    interfaces: Vec<Interface>,
    /// Of the last frame, for those that come without.
    timestamp: Timestamp,
}

impl Ng {
    pub(super) fn next(&mut self, input: &mut Input) -> Result<Option<Record>, Cause> {
        while !input.is_at_end()? {
            let offset = input.offset();
            let damaged = |why| Cause::Damaged { what: WHAT, offset, why };
            if input.require(4, WHAT)? == SECTION_HEADER {
                self.section(input)?;
                continue;
            }
            let mut head = Fields { bytes: input.require(8, WHAT)?, order: self.order };
            let (kind, len) = head.u32().zip(head.u32()).ok_or_else(|| damaged(TOO_SHORT))?;
            let block_len = block_len(len, offset)?;
            if !matches!(kind, INTERFACE | PACKET | SIMPLE_PACKET | ENHANCED_PACKET) {
                input.skip(block_len, WHAT)?;
                continue;
            }
            if block_len > BLOCK_LEN_MAX {
                return Err(Cause::TooLong { what: WHAT, offset, claims: block_len });
            }
            let block = input.require(block_len as usize, WHAT)?;
            let (body, trailer) = block.split_last_chunk::<4>().ok_or_else(|| damaged(TOO_SHORT))?;
            if self.order.u32(*trailer) != len {
                return Err(damaged("does not end with its length"));
            }
            let mut body = Fields { bytes: body.get(8..).unwrap_or_default(), order: self.order };
            if kind == INTERFACE {
                if self.interfaces.len() >= usize::from(u16::MAX) {
                    return Err(damaged("is one interface too many"));
                }
                self.interfaces.push(Interface::read(&mut body).ok_or_else(|| damaged(TOO_SHORT))?);
                input.consume(block_len as usize);
                continue;
            }
            let packet = self.packet(kind, &mut body).ok_or_else(|| damaged(TOO_SHORT))?;
            let interface = self
                .interfaces
                .get(usize::from(packet.interface))
                .ok_or_else(|| damaged("names an interface that was not described"))?;
            check_link_type(interface.link_type)?;
            if packet.caplen > CAPLEN_MAX {
                return Err(Cause::TooLong { what: "frame in block", offset, claims: u64::from(packet.caplen) });
            }
            if body.slice(packet.caplen as usize).is_none() {
                return Err(damaged("is shorter than the frame in it"));
            }
            if let Some(ticks) = packet.ticks {
                self.timestamp = interface.clock.timestamp(ticks);
            }
            let mut bytes = input.consume(block_len as usize);
            bytes.start += packet.start;
            bytes.end = bytes.start + packet.caplen as usize;
            return Ok(Some(Record {
                timestamp: self.timestamp,
                len: packet.len,
                bytes,
                link_type: interface.link_type,
                interface: packet.interface,
            }));
        }
        Ok(None)
    }

    fn section(&mut self, input: &mut Input) -> Result<(), Cause> {
        let offset = input.offset();
        let damaged = |why| Cause::Damaged { what: WHAT, offset, why };
        let mut head = Fields { bytes: input.require(16, WHAT)?, order: ByteOrder::Little };
        let (len, magic) =
            head.slice(4).and_then(|_| head.array().zip(head.array())).ok_or_else(|| damaged(TOO_SHORT))?;
        head.order = match magic {
            [0x1a, 0x2b, 0x3c, 0x4d] => ByteOrder::Big,
            [0x4d, 0x3c, 0x2b, 0x1a] => ByteOrder::Little,
            _ => return Err(damaged("has no byte-order magic")),
        };
        if head.u16() != Some(1) {
            return Err(damaged("is of an unknown version"));
        }
        self.order = head.order;
        self.interfaces.clear();
        input.skip(block_len(self.order.u32(len), offset)?, WHAT)
    }

    /// Reads what stands before the frame.
    fn packet(&self, kind: u32, body: &mut Fields<'_>) -> Option<Packet> {
        let whole = body.bytes.len();
        let (interface, ticks, lengths) = match kind {
            SIMPLE_PACKET => (0, None, None),
            PACKET => {
                // An interface and a count of drops.
                let interface = body.u16().zip(body.u16())?.0;
                let ticks = body.u32().zip(body.u32())?;
                (interface, Some(ticks), Some(body.u32()?))
            }
            _ => {
                // Interfaces are numbered as they are counted: no more than a `u16` holds.
                let interface = body.u32()?.try_into().unwrap_or(u16::MAX);
                let ticks = body.u32().zip(body.u32())?;
                (interface, Some(ticks), Some(body.u32()?))
            }
        };
        let len = body.u32()?;
        let caplen = lengths.unwrap_or_else(|| {
            let snaplen = self.interfaces.first().map_or(0, |interface| interface.snaplen);
            let room = u32::try_from(body.bytes.len()).unwrap_or(u32::MAX);
            len.min(room).min(if snaplen == 0 { u32::MAX } else { snaplen })
        });
        let ticks = ticks.map(|(high, low)| u64::from(high) << 32 | u64::from(low));
        Some(Packet { interface, ticks, caplen, len, start: 8 + whole - body.bytes.len() })
    }
}

/// What a packet block says about its frame.
struct Packet {
    interface: u16,
    ticks: Option<u64>,
    caplen: u32,
    len: u32,
    /// Place of the frame in the block.
    start: usize,
}

struct Interface {
    link_type: LinkType,
    snaplen: u32,
    clock: Clock,
}

impl Interface {
    fn read(body: &mut Fields<'_>) -> Option<Self> {
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
fn block_len(claimed: u32, offset: u64) -> Result<u64, Cause> {
    if claimed < 12 {
        return Err(Cause::Damaged { what: WHAT, offset, why: TOO_SHORT });
    }
    Ok(u64::from(claimed).next_multiple_of(4))
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
