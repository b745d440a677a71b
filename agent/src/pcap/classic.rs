//! pcap: a file header, then records (draft-ietf-opsawg-pcap).

use agent_common::frame::LinkType;

use super::{
    CAPLEN_MAX, Cause, Record,
    input::{ByteOrder, Fields, Input},
};
use crate::{decode, segment::Timestamp};

pub(super) struct Classic {
    order: ByteOrder,
    link_type: LinkType,
    /// Nanoseconds in a unit of the second half of a timestamp.
    unit: u64,
    /// Octets before a frame's first.
    header_len: usize,
    swapped: Swapped,
}

/// Whether a record has its lengths the other way round.
#[derive(Clone, Copy)]
enum Swapped {
    No,
    /// Where that makes sense of them: nothing is captured that was not there.
    IfCaplenIsMore,
    Yes,
}

impl Classic {
    /// Reads the file header, unless `magic` is another format's.
    pub(super) fn open(magic: [u8; 4], input: &mut Input) -> Result<Option<Self>, Cause> {
        let (order, number) = match u32::from_be_bytes(magic) {
            number @ (MICROSECONDS | NANOSECONDS | MODIFIED) => (ByteOrder::Big, number),
            number => (ByteOrder::Little, number.swap_bytes()),
        };
        let (unit, header_len) = match number {
            MICROSECONDS => (1_000, 16),
            NANOSECONDS => (1, 16),
            MODIFIED => (1_000, 24),
            _ => return Ok(None),
        };
        const WHAT: &str = "file header";
        let mut fields = Fields { bytes: input.require(FILE_HEADER_LEN, WHAT)?, order };
        // As libpcap has it: the lengths changed places in version 2.3, which not all writers noticed.
        let swapped = match fields.u32().and_then(|_magic| fields.u16().zip(fields.u16())) {
            Some((2, 0..=2)) => Swapped::Yes,
            Some((2, 3)) => Swapped::IfCaplenIsMore,
            Some((2, _)) => Swapped::No,
            _ => return Err(Cause::Damaged { what: WHAT, offset: input.offset(), why: "is of an unknown version" }),
        };
        // Time zone, accuracy and snaplen go before.
        let network = fields.slice(12).and_then(|_| fields.u32()).unwrap_or_default();
        // The upper half says how long the frame check sequence is, if there is one.
        let link_type = LinkType(network as u16);
        if !decode::supported(link_type) {
            return Err(Cause::UnsupportedLinkType(link_type));
        }
        input.consume(FILE_HEADER_LEN);
        Ok(Some(Self { order, link_type, unit, header_len, swapped }))
    }

    pub(super) fn next(&self, input: &mut Input) -> Result<Option<Record>, Cause> {
        if input.is_at_end()? {
            return Ok(None);
        }
        let offset = input.offset();
        let Some(header) = self.header(input.require(self.header_len, WHAT)?) else { return Ok(None) };
        if header.caplen > CAPLEN_MAX {
            return Err(Cause::TooLong { what: WHAT, offset, claims: u64::from(header.caplen) });
        }
        input.require(self.header_len + header.caplen as usize, WHAT)?;
        Ok(Some(self.record(&header, input)))
    }

    /// The next record, if it is whole and all of it has been read.
    #[inline]
    pub(super) fn next_in_memory(&self, input: &mut Input) -> Option<Record> {
        let available = input.available();
        let header = self.header(available)?;
        let is_whole = header.caplen <= CAPLEN_MAX && self.header_len + header.caplen as usize <= available.len();
        is_whole.then(|| self.record(&header, input))
    }

    #[inline]
    fn header(&self, octets: &[u8]) -> Option<Header> {
        let words: [[u8; 4]; 4] = bytemuck::cast(*octets.first_chunk::<16>()?);
        let [seconds, fraction, caplen, len] = words.map(|word| self.order.u32(word));
        let (caplen, len) = match self.swapped {
            Swapped::Yes => (len, caplen),
            Swapped::IfCaplenIsMore if caplen > len => (len, caplen),
            Swapped::No | Swapped::IfCaplenIsMore => (caplen, len),
        };
        Some(Header { seconds, fraction, caplen, len })
    }

    #[inline]
    fn record(&self, header: &Header, input: &mut Input) -> Record {
        let Header { seconds, fraction, caplen, len } = *header;
        let mut bytes = input.consume(self.header_len + caplen as usize);
        bytes.start += self.header_len;
        Record {
            timestamp: Timestamp(u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * self.unit),
            len,
            bytes,
            link_type: self.link_type,
            interface: 0,
        }
    }
}

struct Header {
    seconds: u32,
    fraction: u32,
    caplen: u32,
    len: u32,
}

const WHAT: &str = "record";
const FILE_HEADER_LEN: usize = 24;

const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;
/// Of Alexey Kuznetzov's patched libpcap: records also have interface, protocol and packet type.
const MODIFIED: u32 = 0xa1b2_cd34;
