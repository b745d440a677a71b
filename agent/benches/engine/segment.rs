//! Segments of one direction, and a sink that only counts.

use agent::{
    reassembly::{ConnectionId, Event, Reassembler, Sink},
    segment::{Endpoint, Flags, Origin, Segment, SeqNum, Timestamp},
};

pub(crate) const PAYLOAD: [u8; 1_448] = [b'x'; 1_448];

/// With [`PAYLOAD`], of the connection with this number.
pub(crate) fn segment(connection: u32, seq: SeqNum) -> Segment<'static> {
    let [_, high, middle, low] = connection.to_be_bytes();
    Segment {
        timestamp: Timestamp(1),
        src: Endpoint::v4([10, high, middle, low], 40_000),
        dst: Endpoint::v4([192, 0, 2, 1], 80),
        seq,
        ack: SeqNum(0),
        flags: Flags::PSH,
        window: 1_024,
        window_scale: None,
        mss: None,
        ip_id: None,
        payload: &PAYLOAD,
        missing: 0,
        flow: None,
        origin: Origin::default(),
    }
}

/// Opens so many connections, of which the first octets have this sequence number.
pub(crate) fn open(reassembler: &mut Reassembler, connections: u32, first: SeqNum) {
    let syn = SeqNum(first.0.wrapping_sub(1));
    for number in 0..connections {
        let segment = Segment { flags: Flags::SYN, payload: &[], ..segment(number, syn) };
        reassembler.handle_segment(&segment, &mut Counting::default());
    }
}

#[derive(Default)]
pub(crate) struct Counting {
    pub(crate) octets: u64,
}

impl Sink for Counting {
    fn event(&mut self, _: ConnectionId, event: Event<'_>) {
        if let Event::Data { bytes, .. } = event {
            self.octets += bytes.len() as u64;
        }
    }
}
