//! One direction of a connection.

use std::collections::VecDeque;

use super::{
    assembler::{Assembler, Content},
    config::{Config, Late},
    event::{ConnectionId, Direction, Event, Gap, GapCause, Sink, StreamSummary},
    gaps::Gaps,
    stats::Stats,
};
use crate::segment::{SeqNum, Timestamp};

/// Sequence numbers stop here: everything behind it sees 64-bit offsets, where offset 0 is the octet after the SYN or the
/// point at which the stream was picked up.
#[derive(Default)]
pub(super) struct Stream {
    /// Everything below has been delivered or is in a gap (RCV.NXT as an offset).
    next: u64,
    /// Highest believable ACK of the peer as an offset; the FIN counts as one octet.
    acked: u64,
    /// Where the stream ends, once the FIN was seen.
    fin: Option<u64>,
    segments: u64,
    /// Sequence number of offset 0.
    base: SeqNum,
    /// Highest sequence number that this sender has used, and highest that its peer has acknowledged.
    sent: Option<SeqNum>,
    peer_ack: Option<SeqNum>,
    /// Low half of the ring's count of refused records at the last segment with payload or FIN.
    refused: u32,
    /// Window that this sender last offered its peer, unscaled, and the scale that its SYN announced.
    window: u16,
    /// The largest of them: an update may be overtaken by the data that it made room for. That of the SYN stands apart,
    /// since it is never scaled (RFC 7323 section 2.2).
    window_max: u16,
    window_of_syn: u16,
    scale: Option<u8>,
    start: Start,
    /// What only streams with irregularities need.
    extra: Option<Box<Extra>>,
}

/// What is known of offset 0.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Start {
    #[default]
    Unknown,
    /// Picked up, and still open for an earlier segment: `base` lies [`PICKUP_ROOM`] before the first one for now.
    Pickup,
    /// Known without a SYN of this sender.
    Midstream,
    /// One behind the ISN.
    Syn,
}

#[derive(Default)]
struct Extra {
    assembler: Assembler,
    fin_seen: Timestamp,
    pickup_since: Timestamp,
    /// ACKs that are ahead of `next`, and when they arrived; at most [`ACKS_MAX`].
    acks: VecDeque<(u64, Timestamp)>,
    /// What ACKs cover that are older than the hold.
    matured: u64,
    /// When the peer last acknowledged anything.
    last_ack: Timestamp,
    /// The ring had refused frames when a hole opened that is still open.
    ring_full: bool,
    /// Segments far from everything known, until something corroborates them.
    parked: VecDeque<Parked>,
    gaps: Gaps,
    /// Octets from `next` up to here were cut off by the snaplen. They are a gap once something is captured behind them.
    cut_until: u64,
    /// Nobody waits any more for what is missing before the FIN, and why.
    tail_given_up: Option<GapCause>,
    trailing_gap: Option<Gap>,
    retransmitted: u64,
    out_of_order: u64,
    conflict: u64,
    late: u64,
}

struct Parked {
    seq: SeqNum,
    octets: Box<[u8]>,
    cut: u32,
    fin: bool,
}

/// What a stream needs to act, lent for one call.
pub(super) struct Context<'a, S> {
    pub(super) config: &'a Config,
    pub(super) stats: &'a mut Stats,
    pub(super) now: Timestamp,
    pub(super) id: ConnectionId,
    pub(super) direction: Direction,
    pub(super) sink: &'a mut S,
}

/// Payload and FIN of a segment.
#[derive(Clone, Copy)]
pub(super) struct Piece<'a> {
    /// Sequence number of the first octet.
    pub(super) seq: SeqNum,
    pub(super) octets: &'a [u8],
    /// Octets behind them that the snaplen cut off.
    pub(super) cut: u32,
    pub(super) fin: bool,
    pub(super) push: bool,
    /// [`Origin::refused`](crate::segment::Origin::refused).
    pub(super) refused: u64,
    /// How far beyond the highest position known a segment of this sender is believed.
    pub(super) window: i64,
}

/// Window that is assumed where a scale is unknown.
pub(super) const WINDOW_UNKNOWN: i64 = 16 << 20;
/// Any sequence number is believed.
const WINDOW_ANY: i64 = 1 << 32;
/// How far before the highest position known a segment is believed.
const BEHIND_MAX: i64 = 1 << 30;
/// Room for earlier segments in front of the first one of a picked-up stream.
const PICKUP_ROOM: u64 = 1 << 30;
const PARKED_MAX: usize = 2;
/// With more, the newest two become one, which only makes a gap later.
const ACKS_MAX: usize = 16;

impl Piece<'_> {
    fn len(&self) -> u64 {
        self.octets.len() as u64 + u64::from(self.cut)
    }
}

impl Parked {
    fn end(&self) -> SeqNum {
        self.seq.advance(self.octets.len() as u64 + u64::from(self.cut))
    }

    fn piece(&self, refused: u32) -> Piece<'_> {
        Piece {
            seq: self.seq,
            octets: &self.octets,
            cut: self.cut,
            fin: self.fin,
            push: true,
            refused: u64::from(refused),
            window: WINDOW_ANY,
        }
    }
}

impl Extra {
    /// When the first hole opened.
    fn hole_opened(&mut self) -> Timestamp {
        self.assembler.oldest().unwrap_or(self.fin_seen)
    }
}

impl Stream {
    /// Sequence number of the SYN, where one was seen.
    pub(super) fn isn(&self) -> Option<SeqNum> {
        (self.start == Start::Syn).then(|| before(self.base))
    }

    /// The same where only the peer's SYN-ACK was seen. Of a stream that was picked up it is some number before it.
    pub(super) fn presumed_isn(&self) -> Option<SeqNum> {
        self.is_located().then(|| before(self.base))
    }

    /// Whether offset 0 is known for good.
    pub(super) fn is_located(&self) -> bool {
        matches!(self.start, Start::Midstream | Start::Syn)
    }

    pub(super) fn is_unseen(&self) -> bool {
        self.segments == 0
    }

    pub(super) fn has_fin(&self) -> bool {
        self.fin.is_some()
    }

    /// Whether delivery has reached the FIN, or nobody waits for it any more.
    pub(super) fn is_finished(&self) -> bool {
        let given_up = || self.extra.as_ref().is_some_and(|extra| extra.tail_given_up.is_some());
        self.is_located() && self.fin.is_some_and(|fin| fin <= self.edge() || given_up())
    }

    pub(super) fn refused(&self) -> u32 {
        self.refused
    }

    /// Memory that queued octets cost.
    pub(super) fn charged(&self) -> u64 {
        self.extra.as_ref().map_or(0, |extra| extra.assembler.charged() as u64)
    }

    /// How far `peer` may be believed to send beyond what is known: the largest window this side has offered it. With a
    /// scale, that of the SYN alone says little: what was offered next may have been overtaken as well.
    pub(super) fn window_for(&self, peer: &Self) -> i64 {
        match self.shift_for(peer) {
            Some(shift) if shift == 0 || self.window_max > 0 => {
                (i64::from(self.window_max) << shift).max(i64::from(self.window_of_syn))
            }
            _ => WINDOW_UNKNOWN,
        }
    }

    /// The scale of the windows that this side offers, where both SYNs were seen: it takes both sides (RFC 7323 section
    /// 2.2), and a shift beyond 14 counts as 14 (section 2.3).
    fn shift_for(&self, peer: &Self) -> Option<u8> {
        let both = self.start == Start::Syn && peer.start == Start::Syn;
        both.then(|| self.scale.filter(|_| peer.scale.is_some()).unwrap_or(0).min(14))
    }

    /// Whether a SYN with this ISN and so many octets of data can be the beginning of this stream. `shaking_hands` says
    /// that the peer's SYN was seen.
    pub(super) fn agrees_with(&self, isn: SeqNum, octets: u64, shaking_hands: bool) -> bool {
        let first = isn.advance(1);
        let leads_to = |seq: SeqNum| (0..WINDOW_UNKNOWN).contains(&i64::from(seq.distance_from(first)));
        match self.start {
            Start::Unknown => shaking_hands || self.sent.or(self.peer_ack).is_none_or(leads_to),
            Start::Pickup => leads_to(self.base.advance(self.lowest())),
            // The peer's SYN-ACK came first, and acknowledged data of the SYN.
            Start::Midstream if self.next == 0 => {
                u64::try_from(self.base.distance_from(first)).is_ok_and(|ahead| ahead <= octets)
            }
            Start::Midstream | Start::Syn => self.base == first,
        }
    }

    /// Takes a SYN that [agrees](Self::agrees_with).
    pub(super) fn handle_syn<S: Sink>(&mut self, isn: SeqNum, scale: Option<u8>, cx: &mut Context<'_, S>) {
        self.begin_at(isn.advance(1), Start::Syn, cx);
        self.scale = scale;
    }

    /// The peer's SYN-ACK says where this stream begins.
    pub(super) fn handle_syn_ack<S: Sink>(&mut self, first: SeqNum, cx: &mut Context<'_, S>) {
        if !self.is_located() && self.agrees_with(before(first), 0, true) {
            self.begin_at(first, Start::Midstream, cx);
        }
    }

    pub(super) fn count_segment(&mut self) {
        self.segments += 1;
    }

    /// Takes note of what a segment of this sender has used and offers, after its contents have been taken. `end` is
    /// behind all that it occupies, `peer_window` what its peer has offered. Unless it is believable, it says nothing.
    pub(super) fn note_sent(&mut self, end: SeqNum, window: u16, syn: bool, peer_window: i64) {
        if self.is_located() && self.offset_of(end, peer_window.saturating_add(1)).is_none() {
            return;
        }
        self.window = window;
        if syn {
            self.window_of_syn = window;
        } else {
            self.window_max = self.window_max.max(window);
        }
        if goes_on(self.sent, end, self.is_located()) {
            self.sent = Some(end);
        }
    }

    /// Whether a segment with this sequence number goes on in the sequence space of this stream.
    pub(super) fn believes(&self, seq: SeqNum, peer_window: i64) -> bool {
        self.is_located() && self.offset_of(seq, peer_window).is_some()
    }

    /// Whether an RST of this sender is believable (RFC 9293 section 3.10.7.4, RFC 5961 section 3.2).
    pub(super) fn may_reset(&self, seq: SeqNum, peer: &Self) -> bool {
        let fin = self.fin.map(|fin| self.base.advance(fin));
        let in_window = || match (self.peer_ack, peer.shift_for(self)) {
            (Some(ack), Some(shift)) => {
                (0..i64::from(peer.window) << shift).contains(&i64::from(seq.distance_from(ack)))
            }
            _ => false,
        };
        self.peer_ack == Some(seq)
            || self.sent == Some(seq)
            || fin.is_some_and(|fin| fin == seq || fin.advance(1) == seq)
            || in_window()
    }

    /// Takes an ACK number of the peer.
    pub(super) fn handle_ack<S: Sink>(&mut self, ack: SeqNum, window: i64, cx: &mut Context<'_, S>) {
        if !self.is_located() {
            if goes_on(self.peer_ack, ack, false) {
                self.peer_ack = Some(ack);
            }
            if let Some(extra) = &mut self.extra {
                extra.last_ack = cx.now;
            }
            return;
        }
        if self.extra.is_some() {
            self.corroborate(ack, cx);
        }
        let Some(offset) = self.offset_of(ack, window).and_then(|offset| u64::try_from(offset).ok()) else { return };
        if goes_on(self.peer_ack, ack, true) {
            self.peer_ack = Some(ack);
        }
        if offset <= self.acked {
            return;
        }
        self.set_acked(offset, cx.now);
    }

    /// Takes payload and FIN of one segment.
    pub(super) fn handle_piece<S: Sink>(&mut self, piece: &Piece<'_>, cx: &mut Context<'_, S>) {
        if self.is_probe(piece) {
            cx.stats.probe += piece.octets.len() as u64;
            return;
        }
        if self.start == Start::Unknown {
            self.start = Start::Pickup;
            self.base = SeqNum(piece.seq.0.wrapping_sub(PICKUP_ROOM as u32));
            self.extra.get_or_insert_default().pickup_since = cx.now;
        }
        let offset = self.offset_of(piece.seq, piece.window).or_else(|| {
            // A later segment that continues a parked one corroborates it.
            let extra = self.extra.as_mut()?;
            let at = extra.parked.iter().position(|parked| parked.end() == piece.seq)?;
            let parked = extra.parked.remove(at)?;
            self.believe(&parked, cx);
            self.offset_of(piece.seq, piece.window)
        });
        match offset {
            Some(offset) => {
                self.place(offset, piece, cx);
                self.unpark(piece.window, cx);
            }
            None => self.park(piece, cx),
        }
        self.flush_due(cx);
    }

    /// Keeps octets that arrive behind an accepted RST: they are stream data only if the peer acknowledges them.
    pub(super) fn hold_piece<S: Sink>(&mut self, piece: &Piece<'_>, cx: &mut Context<'_, S>) {
        let offset = self.offset_of(piece.seq, piece.window).and_then(|offset| u64::try_from(offset).ok());
        let full = self.charged() + piece.octets.len() as u64 > u64::from(cx.config.max_stream_queue);
        let Some(offset) = offset.filter(|_| self.is_located() && self.fin.is_none() && !full) else {
            cx.stats.after_close += piece.octets.len() as u64;
            return;
        };
        let known = (self.edge().saturating_sub(offset)).min(piece.octets.len() as u64);
        let (again, fresh) = piece.octets.split_at(known as usize);
        cx.stats.duplicate += again.len() as u64;
        self.queue(offset + known, fresh, cx);
        let cut = (offset + piece.octets.len() as u64).max(self.edge());
        let end = offset + piece.len();
        if end > cut {
            self.extra.get_or_insert_default().assembler.insert_cut(cut, end - cut, cx.now);
        }
    }

    /// Whether the peer has acknowledged octets that arrived behind an accepted RST: then it had ignored that.
    pub(super) fn held_was_acked(&self) -> bool {
        self.extra.as_ref().and_then(|extra| extra.assembler.first()).is_some_and(|first| self.acked > first)
    }

    /// Delivers what was held.
    pub(super) fn release<S: Sink>(&mut self, cx: &mut Context<'_, S>) {
        self.drain(cx);
        self.flush_due(cx);
    }

    /// Drops what was held.
    pub(super) fn discard_held<S>(&mut self, cx: &mut Context<'_, S>) {
        if let Some(extra) = &mut self.extra {
            let dropped = extra.assembler.clear();
            cx.stats.queued -= dropped;
            cx.stats.after_close += dropped;
        }
    }

    /// Does what time demands.
    pub(super) fn flush_due<S: Sink>(&mut self, cx: &mut Context<'_, S>) {
        let Some(extra) = &mut self.extra else { return };
        if self.start == Start::Pickup && extra.pickup_since.after(cx.config.pickup_hold) <= cx.now {
            self.end_pickup(cx);
        }
        while let Some(behind) = self.behind_hole() {
            let Some(extra) = &mut self.extra else { return };
            let opened = extra.hole_opened();
            let edge = extra.cut_until.max(self.next);
            while let Some(&(upto, at)) = extra.acks.front()
                && at.after(cx.config.gap_hold) <= cx.now
            {
                extra.matured = extra.matured.max(upto);
                extra.acks.pop_front();
            }
            if extra.matured > edge {
                let upto = extra.matured.min(behind);
                self.declare(upto, GapCause::NotCaptured, cx);
            } else if self.acked <= edge && extra.last_ack < opened && opened.after(cx.config.gap_timeout) <= cx.now {
                self.declare(behind, GapCause::Timeout, cx);
            } else {
                return;
            }
        }
    }

    /// When [`flush_due`](Self::flush_due) has something to do.
    pub(super) fn deadline(&mut self, config: &Config) -> Option<Timestamp> {
        let (hole, edge) = (self.behind_hole().is_some(), self.edge());
        let extra = self.extra.as_mut()?;
        if self.start == Start::Pickup {
            return Some(extra.pickup_since.after(config.pickup_hold));
        }
        if !hole {
            return None;
        }
        let held = extra.acks.iter().find(|&&(upto, _)| upto > edge).map(|&(_, at)| at.after(config.gap_hold));
        let opened = extra.hole_opened();
        held.or_else(|| (extra.last_ack < opened).then(|| opened.after(config.gap_timeout)))
    }

    /// Gives up the first hole, because a limit on queues was reached.
    pub(super) fn give_way<S: Sink>(&mut self, cx: &mut Context<'_, S>) {
        if self.start == Start::Pickup {
            self.end_pickup(cx);
        } else if let Some(behind) = self.behind_hole() {
            self.declare(behind, GapCause::Limit, cx);
        }
    }

    /// Delivers all that is queued, behind gaps: `cause` is that of holes which the peer has not acknowledged.
    pub(super) fn flush_all<S: Sink>(&mut self, cause: GapCause, cx: &mut Context<'_, S>) {
        if self.start == Start::Pickup {
            self.end_pickup(cx);
        }
        while let Some(behind) = self.behind_hole() {
            if self.acked > self.edge() {
                self.declare(self.acked.min(behind), GapCause::NotCaptured, cx);
            } else {
                self.declare(behind, cause, cx);
            }
        }
    }

    /// The last thing that happens to a stream: what is queued is delivered, and what the peer acknowledged beyond it is
    /// the trailing gap. `refused` is the ring's count at the end of the connection.
    pub(super) fn close<S: Sink>(&mut self, refused: u32, cx: &mut Context<'_, S>) {
        self.flush_all(GapCause::Close, cx);
        if let Some(extra) = &mut self.extra {
            for parked in std::mem::take(&mut extra.parked) {
                cx.stats.implausible += parked.octets.len() as u64;
            }
        }
        // One octet may be the FIN's.
        let end = self.fin.unwrap_or_else(|| self.acked.saturating_sub(1)).max(self.edge());
        if self.is_located() && end > self.edge() && self.edge() > self.next {
            // More was sent behind what was cut off.
            self.skip_to(self.edge(), GapCause::Snaplen, cx);
        }
        if self.is_located() && end > self.next {
            let extra = self.extra.get_or_insert_default();
            let ring_full = extra.ring_full || refused.wrapping_sub(self.refused).cast_signed() > 0;
            let cause = match extra.tail_given_up {
                _ if extra.cut_until > self.next => GapCause::Snaplen,
                _ if ring_full => GapCause::RingFull,
                given_up => given_up.unwrap_or(GapCause::NotCaptured),
            };
            let gap = Gap { offset: self.next, len: end - self.next, cause };
            cx.stats.gaps_trailing += gap.len;
            extra.trailing_gap = Some(gap);
        }
    }

    pub(super) fn summary(&mut self) -> StreamSummary<'_> {
        let mut summary = StreamSummary { segments: self.segments, ..Default::default() };
        if self.is_located() {
            (summary.len, summary.delivered) = (self.next, self.next);
        }
        if let Some(extra) = &mut self.extra {
            summary.gap_totals = extra.gaps.totals();
            summary.delivered -= summary.gap_totals.iter().sum::<u64>();
            summary.gaps = extra.gaps.listed();
            summary.trailing_gap = extra.trailing_gap;
            summary.retransmitted = extra.retransmitted;
            summary.out_of_order = extra.out_of_order;
            summary.conflict = extra.conflict;
            summary.late = extra.late;
        }
        summary
    }

    /// Where a sequence number lies, if that is believable: the one place where a sequence number becomes an offset.
    fn offset_of(&self, seq: SeqNum, window: i64) -> Option<i64> {
        let highest = self.highest();
        let distance = i64::from(seq.distance_from(self.base.advance(highest)));
        let ahead = if distance < -BEHIND_MAX { distance + (1 << 32) } else { distance };
        // The very next octet is always believed: it may be a window probe.
        (ahead < window.max(1)).then(|| highest.cast_signed() + ahead)
    }

    /// Highest position known: delivered, queued, acknowledged or the FIN.
    fn highest(&self) -> u64 {
        let queued = self.extra.as_ref().and_then(|extra| extra.assembler.end()).unwrap_or(0);
        let picked_up = if self.start == Start::Pickup { PICKUP_ROOM } else { 0 };
        self.edge().max(self.acked).max(self.fin.unwrap_or(0)).max(queued).max(picked_up)
    }

    /// Everything below has been delivered, or is missing for a reason that is known.
    fn edge(&self) -> u64 {
        self.extra.as_ref().map_or(self.next, |extra| extra.cut_until.max(self.next))
    }

    /// First position known while a stream is being picked up.
    fn lowest(&self) -> u64 {
        let queued = self.extra.as_ref().and_then(|extra| extra.assembler.first());
        queued.into_iter().chain(self.fin).min().unwrap_or(PICKUP_ROOM)
    }

    /// What lies behind the first hole, a segment or the FIN.
    fn behind_hole(&self) -> Option<u64> {
        let extra = self.extra.as_ref().filter(|_| self.is_located())?;
        let fin = self.fin.filter(|&fin| fin > self.edge() && extra.tail_given_up.is_none());
        extra.assembler.first().or(fin)
    }

    /// Whether this is a keep-alive probe: nothing or one octet, one before RCV.NXT (RFC 9293 section 3.8.4). RCV.NXT is
    /// the delivered edge, or what the peer acknowledged, or what this sender has used. Where the octet before it was not
    /// delivered, or nothing at all is known, it may also be data, and PSH tells: stacks set it on the last octet that
    /// they have, and not on a probe.
    fn is_probe(&self, piece: &Piece<'_>) -> bool {
        if piece.len() > 1 || piece.fin {
            return false;
        }
        let edge = piece.seq.advance(1);
        let delivered = self.is_located() && self.next > 0 && self.base.advance(self.next) == edge;
        let nothing_known = self.start == Start::Unknown && self.sent.is_none() && self.peer_ack.is_none();
        delivered || (!piece.push && (self.peer_ack == Some(edge) || self.sent == Some(edge) || nothing_known))
    }

    /// Remembers how far the peer has acknowledged, and since when where that is ahead of what was delivered.
    fn set_acked(&mut self, offset: u64, now: Timestamp) {
        self.acked = offset;
        if offset > self.edge() && !self.is_finished() {
            let next = self.next;
            let extra = self.extra.get_or_insert_default();
            while extra.acks.front().is_some_and(|&(upto, _)| upto <= next) {
                extra.acks.pop_front();
            }
            if extra.acks.len() >= ACKS_MAX {
                extra.acks.pop_back();
            }
            extra.acks.push_back((offset, now));
        }
    }

    /// Fixes offset 0 at `first`.
    fn begin_at<S: Sink>(&mut self, first: SeqNum, start: Start, cx: &mut Context<'_, S>) {
        if self.start != Start::Unknown {
            let shift = i64::from(first.distance_from(self.base));
            let moved = |offset: u64| offset.saturating_add_signed(-shift);
            self.fin = self.fin.map(moved);
            if self.acked > 0 {
                self.acked = moved(self.acked);
            }
            if let Some(extra) = &mut self.extra {
                extra.assembler.rebase(-shift);
                extra.acks.iter_mut().for_each(|(upto, _)| *upto = moved(*upto));
            }
        }
        (self.start, self.base) = (start, first);
        if self.acked == 0
            && let Some(ack) = self.peer_ack
            && let Some(offset) = self.offset_of(ack, WINDOW_UNKNOWN)
        {
            self.set_acked(u64::try_from(offset).unwrap_or(0), cx.now);
        }
        self.drain(cx);
    }

    fn end_pickup<S: Sink>(&mut self, cx: &mut Context<'_, S>) {
        let lowest = self.lowest();
        self.begin_at(self.base.advance(lowest), Start::Midstream, cx);
    }

    /// Puts a piece whose position is believed where it belongs.
    fn place<S: Sink>(&mut self, offset: i64, piece: &Piece<'_>, cx: &mut Context<'_, S>) {
        let below = usize::try_from(-offset).unwrap_or(0).min(piece.octets.len());
        cx.stats.below_start += below as u64;
        let mut octets = &piece.octets[below..];
        let end = u64::try_from(offset + piece.len() as i64).unwrap_or(0);
        let offset = u64::try_from(offset).unwrap_or(0);
        if piece.fin && self.fin.is_none() && end >= self.captured_end() {
            self.fin = Some(end);
            if end > self.next {
                self.extra.get_or_insert_default().fin_seen = cx.now;
            }
        }
        let end = end.min(self.fin.unwrap_or(u64::MAX));
        let room = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
        if octets.len() > room {
            cx.stats.implausible += (octets.len() - room) as u64;
            octets = &octets[..room];
        }
        let cut = end.saturating_sub(offset + octets.len() as u64);

        if cut == 0 && octets.is_empty() {
            return;
        }
        self.make_way(offset, octets, cx);
        let hurt = piece.refused as u32 != std::mem::replace(&mut self.refused, piece.refused as u32);
        if self.start == Start::Pickup || offset > self.next {
            let opens_hole = self.start != Start::Pickup && offset > self.edge();
            self.queue(offset, octets, cx);
            let extra = self.extra.get_or_insert_default();
            if cut > 0 {
                extra.assembler.insert_cut(offset + octets.len() as u64, cut, cx.now);
            }
            if opens_hole {
                extra.out_of_order += 1;
                extra.ring_full |= hurt;
            }
            if self.start != Start::Pickup {
                self.drain(cx);
            }
            self.limit_queue(cx);
            return;
        }
        let known = (self.next - offset).min(octets.len() as u64);
        let (again, fresh) = octets.split_at(known as usize);
        if !again.is_empty() {
            let filled = self.handle_again(offset, again, cx);
            if fresh.is_empty() && !filled {
                self.extra.get_or_insert_default().retransmitted += 1;
            }
        }
        match &mut self.extra {
            Some(extra) if !extra.assembler.is_empty() => {
                let next = self.next;
                self.queue(next, fresh, cx);
                if let Some(extra) = &mut self.extra
                    && cut > 0
                    && end > next
                {
                    let from = end - cut.min(end - next);
                    extra.assembler.insert_cut(from, end - from, cx.now);
                }
                self.drain(cx);
            }
            _ => {
                if !fresh.is_empty() {
                    self.deliver(fresh, cx);
                }
                if cut > 0 && end > self.next {
                    self.extra.get_or_insert_default().cut_until = end;
                }
            }
        }
    }

    /// Decides about what was cut off before `offset`: octets right behind it make it a gap, octets within may fill it.
    fn make_way<S: Sink>(&mut self, offset: u64, octets: &[u8], cx: &mut Context<'_, S>) {
        let (next, edge) = (self.next, self.edge());
        let Some(extra) = self.extra.as_mut().filter(|_| edge > next) else { return };
        if offset < edge {
            extra.cut_until = 0;
            extra.assembler.insert_cut(next, edge - next, cx.now);
        } else if offset == edge && !octets.is_empty() && extra.assembler.is_empty() {
            self.skip_to(edge, GapCause::Snaplen, cx);
        }
    }

    /// Highest position of anything captured.
    fn captured_end(&self) -> u64 {
        self.edge().max(self.extra.as_ref().and_then(|extra| extra.assembler.end()).unwrap_or(0))
    }

    /// Octets below the delivered edge: duplicates, or late ones for a gap. Whether any was late.
    fn handle_again<S: Sink>(&mut self, offset: u64, octets: &[u8], cx: &mut Context<'_, S>) -> bool {
        let end = offset + octets.len() as u64;
        let (mut at, mut late) = (offset, 0);
        while let Some(extra) = &mut self.extra
            && let Some((start, until)) = extra.gaps.first_within(at, end)
        {
            let len = until - start;
            match cx.config.late {
                Late::Fill => {
                    extra.gaps.fill(start, until);
                    cx.stats.delivered += len;
                    cx.stats.gaps_filled += len;
                    let bytes = &octets[(start - offset) as usize..(until - offset) as usize];
                    cx.sink.event(cx.id, Event::Late { direction: cx.direction, offset: start, bytes });
                }
                Late::Count => {
                    extra.late += len;
                    cx.stats.late += len;
                }
            }
            late += len;
            at = until;
        }
        cx.stats.duplicate += octets.len() as u64 - late;
        late > 0
    }

    fn queue<S>(&mut self, offset: u64, octets: &[u8], cx: &mut Context<'_, S>) {
        if octets.is_empty() {
            return;
        }
        let extra = self.extra.get_or_insert_default();
        let inserted = extra.assembler.insert(offset, octets, cx.now, cx.config.overlap);
        if inserted.new == 0 {
            extra.retransmitted += 1;
        }
        extra.conflict += inserted.conflict;
        cx.stats.queued += inserted.new;
        cx.stats.duplicate += inserted.duplicate;
        cx.stats.conflict += inserted.conflict;
    }

    fn limit_queue<S: Sink>(&mut self, cx: &mut Context<'_, S>) {
        while let Some(extra) = &self.extra
            && (extra.assembler.charged() > cx.config.max_stream_queue as usize
                || extra.assembler.chunks() > cx.config.max_stream_chunks as usize)
        {
            cx.stats.limit_stream_queue += 1;
            self.give_way(cx);
        }
    }

    fn deliver<S: Sink>(&mut self, bytes: &[u8], cx: &mut Context<'_, S>) {
        cx.stats.delivered += bytes.len() as u64;
        cx.sink.event(cx.id, Event::Data { direction: cx.direction, offset: self.next, bytes });
        self.next += bytes.len() as u64;
    }

    /// Delivers what the queue has at the delivered edge.
    fn drain<S: Sink>(&mut self, cx: &mut Context<'_, S>) {
        loop {
            let edge = self.edge();
            let Some(extra) = &mut self.extra else { return };
            match extra.assembler.pop_at(edge).map(|chunk| chunk.content) {
                Some(Content::Octets(octets)) => {
                    cx.stats.queued -= octets.len() as u64;
                    if edge > self.next {
                        self.skip_to(edge, GapCause::Snaplen, cx);
                    }
                    self.deliver(&octets, cx);
                }
                Some(Content::Cut(len)) => extra.cut_until = edge + len,
                None => break,
            }
        }
        if self.behind_hole().is_none()
            && let Some(extra) = &mut self.extra
        {
            extra.ring_full = false;
        }
    }

    /// Declares everything up to `upto` a gap and delivers what stands behind it. Where only the FIN stands behind it,
    /// this is the end: the trailing gap is told at close.
    fn declare<S: Sink>(&mut self, upto: u64, cause: GapCause, cx: &mut Context<'_, S>) {
        if let Some(extra) = &mut self.extra
            && extra.assembler.is_empty()
            && self.fin.is_some_and(|fin| upto <= fin)
        {
            extra.tail_given_up = Some(cause);
            return;
        }
        let ring_full = self.extra.as_ref().is_some_and(|extra| extra.ring_full);
        if self.edge() > self.next {
            self.skip_to(self.edge(), GapCause::Snaplen, cx);
        }
        self.skip_to(upto, if ring_full { GapCause::RingFull } else { cause }, cx);
        self.drain(cx);
    }

    fn skip_to<S: Sink>(&mut self, upto: u64, cause: GapCause, cx: &mut Context<'_, S>) {
        let gap = Gap { offset: self.next, len: upto - self.next, cause };
        cx.stats.gaps += gap.len;
        cx.stats.limit_gaps += u64::from(self.extra.get_or_insert_default().gaps.push(gap));
        cx.sink.event(cx.id, Event::Gap { direction: cx.direction, gap });
        self.next = upto;
    }

    /// Remembers a piece that lies far from everything known.
    fn park<S>(&mut self, piece: &Piece<'_>, cx: &mut Context<'_, S>) {
        if piece.len() == 0 {
            return;
        }
        let extra = self.extra.get_or_insert_default();
        if extra.parked.len() >= PARKED_MAX
            && let Some(oldest) = extra.parked.pop_front()
        {
            cx.stats.implausible += oldest.octets.len() as u64;
        }
        extra.parked.push_back(Parked { seq: piece.seq, octets: piece.octets.into(), cut: piece.cut, fin: piece.fin });
    }

    /// Notes an ACK of the peer, and believes the parked segment that it acknowledges.
    fn corroborate<S: Sink>(&mut self, ack: SeqNum, cx: &mut Context<'_, S>) {
        let Some(extra) = &mut self.extra else { return };
        extra.last_ack = cx.now;
        let within = |parked: &Parked| {
            ack.distance_from(parked.seq) > 0 && ack.distance_from(parked.end().advance(u64::from(parked.fin))) <= 0
        };
        if let Some(at) = extra.parked.iter().position(within)
            && let Some(parked) = extra.parked.remove(at)
        {
            self.believe(&parked, cx);
        }
    }

    /// Takes a parked segment after all: everything before it is a gap, unless the stream has come there on its own.
    fn believe<S: Sink>(&mut self, parked: &Parked, cx: &mut Context<'_, S>) {
        let Some(offset) = self.offset_of(parked.seq, WINDOW_ANY) else { return };
        if offset > self.highest().cast_signed() {
            self.flush_all(GapCause::NotCaptured, cx);
            self.skip_to(offset.cast_unsigned(), GapCause::NotCaptured, cx);
        }
        self.place(offset, &parked.piece(self.refused), cx);
    }

    /// Takes what is parked and no longer far from everything known.
    fn unpark<S: Sink>(&mut self, window: i64, cx: &mut Context<'_, S>) {
        while let Some(extra) = &self.extra
            && let Some((at, offset)) = extra
                .parked
                .iter()
                .map(|parked| self.offset_of(parked.seq, window))
                .enumerate()
                .find_map(|(at, offset)| Some((at, offset?)))
            && let Some(parked) = self.extra.as_mut().and_then(|extra| extra.parked.remove(at))
        {
            self.place(offset, &parked.piece(self.refused), cx);
        }
    }
}

/// Whether `new` comes after `known`, and near enough where nothing else tells.
fn goes_on(known: Option<SeqNum>, new: SeqNum, located: bool) -> bool {
    known.is_none_or(|known| {
        let ahead = i64::from(new.distance_from(known));
        ahead > 0 && (located || ahead < WINDOW_UNKNOWN)
    })
}

/// The sequence number before `seq`.
fn before(seq: SeqNum) -> SeqNum {
    SeqNum(seq.0.wrapping_sub(1))
}
