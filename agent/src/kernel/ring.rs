//! The reading end of a ring: records, validated and lent one at a time.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use agent_common::{
    frame::{FrameHeader, VERSION, flags},
    head::{Client, VLAN_ID},
};
use aya::maps::{MapData, RingBuf, ring_buf::RingBufItem};

use crate::{
    frame::Frame,
    segment::{Acknowledgment, FlowNote, Origin, SeqNum, Timestamp},
};

/// The ring of one shard; the shard's thread owns it. Its descriptor becomes readable when the programs wake the reader,
/// which they do when the level crosses a mark, so that the rest needs a look every few milliseconds.
pub struct Ring {
    inner: RingBuf<MapData>,
}

impl Ring {
    pub(super) fn new(inner: RingBuf<MapData>) -> Self {
        Self { inner }
    }

    /// The next record; its room in the ring is free again when it is dropped.
    ///
    /// An error means that the kernel half is not the one that this agent was built with, or that memory was
    /// overwritten: the record is skipped, and the caller counts it.
    #[expect(clippy::should_implement_trait, reason = "the record borrows the ring, which no Iterator can say")]
    pub fn next(&mut self) -> Option<Result<Record<'_>, BadRecord>> {
        self.inner.next().map(Record::new)
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.inner.as_raw_fd()
    }
}

/// One captured frame, still in the ring.
pub struct Record<'a> {
    header: FrameHeader,
    flow: Option<FlowNote>,
    item: RingBufItem<'a>,
}

/// A record whose header contradicts this agent's idea of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BadRecord;

impl<'a> Record<'a> {
    fn new(item: RingBufItem<'a>) -> Result<Self, BadRecord> {
        let bytes = item.get(..size_of::<FrameHeader>()).ok_or(BadRecord)?;
        let header: FrameHeader = bytemuck::pod_read_unaligned(bytes);
        let fits = usize::from(header.header_len) == size_of::<FrameHeader>()
            && header.caplen <= header.len
            && header.caplen as usize <= item.len() - bytes.len();
        if header.version == VERSION && fits { Ok(Self { header, flow: note(&header), item }) } else { Err(BadRecord) }
    }

    pub fn header(&self) -> &FrameHeader {
        &self.header
    }

    /// The captured octets: `caplen` of them.
    pub fn bytes(&self) -> &[u8] {
        let start = size_of::<FrameHeader>();
        self.item.get(start..start + self.header.caplen as usize).unwrap_or_default()
    }

    /// What every source of frames hands over.
    pub fn frame(&self) -> Frame<'_> {
        let FrameHeader { link_type, flags, interface, timestamp, len, vlan, generation, refused, .. } = self.header;
        let vlan = (flags & flags::VLAN != 0).then_some(vlan & VLAN_ID);
        Frame {
            timestamp: Timestamp(timestamp),
            len,
            bytes: self.bytes(),
            link_type,
            origin: Origin {
                interface,
                vlan,
                generation,
                refused,
                checksum_partial: flags & flags::CHECKSUM_PARTIAL != 0,
            },
            flow: self.flow.as_ref(),
        }
    }
}

/// What the header says of the connection.
fn note(header: &FrameHeader) -> Option<FlowNote> {
    let has = |flag| header.flags & flag != 0;
    has(flags::FLOW).then(|| FlowNote {
        reach: header.reach,
        lost: header.lost,
        segments: header.segments,
        peer_ack: has(flags::PEER_ACKED).then_some(Acknowledgment {
            number: SeqNum(header.peer_ack),
            time: Timestamp(header.peer_ack_time),
            window: header.peer_window,
        }),
        client: match (has(flags::CLIENT_SOURCE), has(flags::CLIENT_DESTINATION)) {
            (true, false) => Client::Source,
            (false, true) => Client::Destination,
            _ => Client::Unknown,
        },
        cut: has(flags::CUTOFF),
        shed: has(flags::SHED),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_says_of_its_connection_what_its_flags_vouch_for() {
        let mut header = FrameHeader {
            reach: 7,
            lost: 1,
            segments: [3, 2],
            peer_ack_time: 9,
            peer_ack: 1_001,
            peer_window: 512,
            ..FrameHeader::default()
        };
        assert_eq!(note(&header), None);
        header.flags = flags::FLOW | flags::CLIENT_DESTINATION | flags::CUTOFF;
        let mut expected = FlowNote { reach: 7, lost: 1, segments: [3, 2], ..FlowNote::default() };
        (expected.client, expected.cut) = (Client::Destination, true);
        assert_eq!(note(&header), Some(expected));
        header.flags = flags::FLOW | flags::PEER_ACKED | flags::SHED;
        let acked = Acknowledgment { number: SeqNum(1_001), time: Timestamp(9), window: 512 };
        let expected = FlowNote { client: Client::Unknown, cut: false, shed: true, peer_ack: Some(acked), ..expected };
        assert_eq!(note(&header), Some(expected));
    }
}
