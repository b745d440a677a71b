//! The kernel's flow table, as reassembly asks for it.

use agent_common::{
    flow::{Flow, FlowKey, Side, state},
    head::{Client, Head},
};

use crate::{
    kernel,
    reassembly::{FlowSide, FlowState, Flows},
    segment::{Acknowledgment, Endpoint, SeqNum, Timestamp},
};

impl Flows for kernel::Flows {
    fn flow(&mut self, a: Endpoint, b: Endpoint) -> Option<FlowState> {
        let (key, side) = key(a, b);
        self.get(&key).and_then(|flow| read(&flow, side))
    }

    fn client(&mut self, a: Endpoint, b: Endpoint) -> Client {
        let (key, side) = key(a, b);
        self.get(&key).map_or(Client::Unknown, |flow| flow.client(side))
    }

    fn forget(&mut self, a: Endpoint, b: Endpoint) {
        self.remove(&key(a, b).0);
    }
}

/// The key of what is between two endpoints, and the side that `a` is.
fn key(a: Endpoint, b: Endpoint) -> (FlowKey, usize) {
    FlowKey::of(&Head { src: a.address, dst: b.address, src_port: a.port, dst_port: b.port, ..Head::default() })
}

/// An entry, seen from `side`. What the filter has refused is there only for its client to be known.
fn read(flow: &Flow, side: usize) -> Option<FlowState> {
    let has = |bits| flow.state & bits != 0;
    if has(state::REFUSED) {
        return None;
    }
    let read = |side: usize| {
        let Side { segments, lost, last_seen, ack, ack_time, window, .. } = flow.sides[side & 1];
        let ack = Acknowledgment { number: SeqNum(ack), time: Timestamp(ack_time), window };
        FlowSide {
            segments,
            reach: flow.sides[side & 1].reach(),
            lost,
            ack: has(state::ACKED << side).then_some(ack),
            last_seen: Timestamp(last_seen),
            cut: has(state::CUT << side),
        }
    };
    Some(FlowState { sides: [read(side), read(side ^ 1)], shed: has(state::SHED) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow() -> Flow {
        let low = Side { segments: 3, start: 1 << 32, end: (1 << 32) + 500, last_seen: 90, ..Side::default() };
        let high =
            Side { segments: 4, lost: 7, ack: 1_001, ack_time: 80, window: 512, last_seen: 85, ..Side::default() };
        let state = state::ANNOUNCED | state::CUT | state::ACKED << 1;
        Flow { sides: [low, high], last_seen: 90, state, ..Flow::default() }
    }

    #[test]
    fn each_end_is_seen_from_the_one_that_is_asked_for_first() {
        let low = FlowSide { segments: 3, reach: 500, last_seen: Timestamp(90), cut: true, ..FlowSide::default() };
        let ack = Acknowledgment { number: SeqNum(1_001), time: Timestamp(80), window: 512 };
        let high = FlowSide { segments: 4, lost: 7, ack: Some(ack), last_seen: Timestamp(85), ..FlowSide::default() };
        assert_eq!(read(&flow(), 0), Some(FlowState { sides: [low, high], shed: false }));
        assert_eq!(read(&flow(), 1), Some(FlowState { sides: [high, low], shed: false }));
        let shed = Flow { state: state::SHED, ..flow() };
        assert!(read(&shed, 0).is_some_and(|flow| flow.shed && !flow.sides[0].cut && flow.sides[1].ack.is_none()));
    }

    #[test]
    fn what_was_refused_is_not_known() {
        assert_eq!(read(&Flow { state: state::REFUSED, ..flow() }, 0), None);
    }

    #[test]
    fn both_directions_have_one_key() {
        for (a, b) in [([10, 0, 0, 1], [10, 0, 0, 2]), ([10, 0, 0, 1], [10, 0, 0, 1]), ([192, 0, 2, 1], [10, 0, 0, 1])]
        {
            let (a, b) = (Endpoint::v4(a, 40_000), Endpoint::v4(b, 443));
            let ((there, from), (back, to)) = (key(a, b), key(b, a));
            assert_eq!((there, from), (back, to ^ 1));
            assert_eq!((there.addresses[from], there.ports[from]), (a.address, a.port));
            assert_eq!((there.addresses[to], there.ports[to]), (b.address, b.port));
        }
    }
}
