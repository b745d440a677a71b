//! What the capture has shown so far of every conversation, from its sender's side: the truth that events are held
//! against. It only ever knows the records up to the current one.

use crate::{
    network::{Capture, Record},
    packet::{Kind, Side},
    spans::Spans,
};

#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) talks: Vec<TalkLedger>,
    /// Index of the current record, counted from 1: 0 is before the first.
    pub(crate) record: usize,
    /// Latest stamp so far, on the clock that never steps.
    pub(crate) now: u64,
    pub(crate) refused: u64,
    pub(crate) payload: u64,
    require_handshake: bool,
}

#[derive(Default)]
pub(crate) struct TalkLedger {
    pub(crate) sides: [SideLedger; 2],
    /// Stamp and index of the last record; of the one before it.
    pub(crate) last_seen: u64,
    pub(crate) real_rst: Option<usize>,
    pub(crate) first_record: Option<usize>,
    /// The first record that may open a connection.
    pub(crate) opener: Option<usize>,
}

#[derive(Default)]
pub(crate) struct SideLedger {
    /// Payload that was captured, and what the snaplen cut off, with the record that brought it first.
    pub(crate) octets: Spans,
    pub(crate) cut: Spans,
    pub(crate) syn: Option<usize>,
    pub(crate) syn_ack: Option<usize>,
    pub(crate) fin: Option<(usize, u64)>,
    /// ACKs of the peer for this side.
    pub(crate) acks: Vec<Ack>,
    /// Records of this side.
    pub(crate) records: Vec<SideRecord>,
    /// Octets of keep-alives: while nothing says that they lie before RCV.NXT, they may be taken for data (row 16).
    pub(crate) ambiguous: Spans,
    /// Where the stream may have been picked up: every number that anybody has named.
    pub(crate) starts: Vec<u64>,
    highest: u64,
    window: Option<u64>,
    scale: Option<u8>,
}

#[derive(Clone, Copy)]
pub(crate) struct SideRecord {
    pub(crate) record: usize,
    pub(crate) time: u64,
    pub(crate) position: u64,
    pub(crate) len: u64,
    /// It takes sequence numbers, or seems to.
    pub(crate) occupies: bool,
    /// Within the window that the tap knows of (row 21); what is not may be believed or not.
    pub(crate) plausible: bool,
}

#[derive(Clone, Copy)]
pub(crate) struct Ack {
    pub(crate) record: usize,
    pub(crate) time: u64,
    pub(crate) position: u64,
    /// Within the window that the tap knows of (row 21).
    pub(crate) plausible: bool,
}

impl Ledger {
    pub(crate) fn new(capture: &Capture, require_handshake: bool) -> Self {
        let talks = capture.talks.iter().map(|_| TalkLedger::default()).collect();
        Self { talks, require_handshake, ..Self::default() }
    }

    /// Takes note of a record that is about to be handed to the reassembler; `captured` octets of its payload are.
    pub(crate) fn note(&mut self, record: &Record, captured: u64) {
        self.record += 1;
        self.now = self.now.max(record.time);
        self.refused = record.refused;
        self.payload += captured;
        self.apply(record, captured);
    }

    /// A connection is picked up that had been given up: nothing before this record is known to it.
    pub(crate) fn forget(&mut self, record: &Record, captured: u64) {
        self.talks[record.packet.conversation] = TalkLedger::default();
        self.apply(record, captured);
    }

    fn apply(&mut self, record: &Record, captured: u64) {
        let (index, now, packet) = (self.record, self.now, record.packet);
        let talk = &mut self.talks[packet.conversation];
        talk.last_seen = now;
        talk.first_record.get_or_insert(index);
        if packet.kind == Kind::Forged {
            return;
        }
        let opens = packet.syn || !packet.rst && packet.len > 0 && !self.require_handshake;
        if opens {
            talk.opener.get_or_insert(index);
        }
        if talk.opener.is_none() {
            return;
        }
        let scaled = talk.sides.iter().all(|side| side.scale.is_some());
        let known = talk.sides.iter().all(|side| side.syn.or(side.syn_ack).is_some());
        let [one, other] = &mut talk.sides;
        let (sender, peer) = if packet.from == 0 { (one, other) } else { (other, one) };

        let reach = |side: &SideLedger| side.highest + if known { side.window.unwrap_or(0).max(1) } else { 16 << 20 };
        if let Some(ack) = packet.ack.and_then(|ack| ack.checked_sub(1)) {
            let plausible = ack < reach(peer);
            peer.acks.push(Ack { record: index, time: now, position: ack, plausible });
            peer.starts.push(ack);
            if plausible {
                peer.highest = peer.highest.max(ack);
            }
        }
        let offered = u64::from(packet.window);
        peer.window = Some(match (sender.scale, packet.syn) {
            (Some(shift), false) if scaled => offered << shift,
            _ => offered,
        });
        let plausible = packet.position() < reach(sender) || sender.records.is_empty();

        if packet.syn {
            sender.scale = packet.scale;
            let syn = if packet.ack.is_some() { &mut sender.syn_ack } else { &mut sender.syn };
            syn.get_or_insert(index);
        }
        let position = packet.position();
        sender.starts.extend([position, position + packet.len]);
        if packet.rst {
            talk.real_rst.get_or_insert(index);
        }
        let len = packet.stream_octets();
        if len > 0 {
            let captured = captured.min(len);
            sender.octets.add(position, position + captured, index);
            sender.cut.add(position + captured, position + len, index);
        } else if packet.kind == Kind::KeepAlive && packet.len > 0 {
            sender.ambiguous.add(position, position + 1, index);
        }
        if packet.fin {
            sender.fin.get_or_insert((index, position + packet.len));
        }
        let occupies = !packet.rst && packet.end() > packet.seq;
        if plausible && occupies {
            sender.highest = sender.highest.max(position + len);
        }
        sender.records.push(SideRecord { record: index, time: now, position, len, occupies, plausible });
    }

    pub(crate) fn side(&self, talk: usize, side: Side) -> &SideLedger {
        &self.talks[talk].sides[side]
    }
}

impl SideLedger {
    /// When the peer was first seen to acknowledge everything below `position`, by record `until`.
    pub(crate) fn acked(&self, position: u64, until: usize) -> Option<u64> {
        self.acks.iter().find(|ack| ack.position >= position && ack.record <= until).map(|ack| ack.time)
    }

    pub(crate) fn window_is_closed(&self) -> bool {
        self.window == Some(0)
    }

    pub(crate) fn all_plausible(&self) -> bool {
        self.records.iter().all(|record| record.plausible)
    }
}
