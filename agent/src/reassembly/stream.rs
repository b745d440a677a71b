//! One direction of a connection.

mod held;
mod hole;
mod parked;
mod pickup;
mod wall;
mod window;

use std::{collections::VecDeque, num::NonZeroU64};

use super::{
    assembler::{Assembler, Content},
    config::{Config, Late},
    event::{ConnectionId, Direction, Event, Gap, GapCause, Sink, StreamSummary},
    gaps::Gaps,
    stats::Stats,
};
use crate::segment::{SeqNum, Timestamp};
use held::Held;
use parked::Parked;
use pickup::PICKUP_ROOM;

/// Sequence numbers stop here: everything behind it sees 64-bit offsets, where offset 0 is the octet after the SYN or the
/// point at which the stream was picked up.
#[derive(Default)]
pub(super) struct Stream {
    /// Everything below has been delivered or is in a gap (RCV.NXT as an offset).
    next: u64,
    /// Highest believable ACK of the peer as an offset; the FIN counts as one octet.
    acked: u64,
    fin: Fin,
    segments: u64,
    /// What only streams with irregularities need.
    extra: Option<Box<Extra>>,
    /// Sequence number of offset 0.
    base: SeqNum,
    /// Highest sequence number that this sender has used, and highest that its peer has acknowledged, where `known`.
    sent: SeqNum,
    peer_ack: SeqNum,
    /// Low half of the ring's count of refused records at the last segment before which nothing was missing, or at a later
    /// one with payload or FIN.
    refused: u32,
    /// Window that this sender last offered its peer, unscaled, and the scale that its SYN announced.
    window: u16,
    /// The largest of them: an update may be overtaken by the data that it made room for.
    window_max: u16,
    scale: Option<u8>,
    start: Start,
    known: Known,
}

// There are two of these in every connection.
const _: () = assert!(size_of::<Stream>() <= 64);

/// Where a stream ends, once its FIN was seen: one more than that, so that it takes no more room than a number.
#[derive(Clone, Copy, Default)]
struct Fin(Option<NonZeroU64>);

impl Fin {
    fn at(offset: u64) -> Self {
        Self(NonZeroU64::new(offset.saturating_add(1)))
    }

    fn offset(self) -> Option<u64> {
        self.0.map(|next| next.get() - 1)
    }
}

/// What is known of a sender, one bit each.
#[derive(Clone, Copy, Default)]
struct Known(u8);

impl Known {
    const SENT: u8 = 1;
    const PEER_ACK: u8 = 2;
    /// Of its windows that of the SYN alone, which is never scaled (RFC 7323 section 2.2).
    const WINDOW_OF_SYN: u8 = 4;
    /// It was shed: no octet is wanted.
    const SHED: u8 = 8;

    fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }

    fn set(&mut self, bit: u8, value: bool) {
        self.0 = if value { self.0 | bit } else { self.0 & !bit };
    }
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
    /// Of what the peer has acknowledged, as much as the ring has come to, where the kernel was asked and is ahead of it.
    told: Option<u64>,
    /// ACKs that are ahead of `next`, and when they arrived; at most [`ACKS_MAX`].
    acks: VecDeque<(u64, Timestamp)>,
    /// What ACKs cover that are older than the hold.
    matured: u64,
    /// When the peer last acknowledged anything.
    last_ack: Timestamp,
    /// When there was last a look at what was due.
    looked: Timestamp,
    /// The ring had refused frames when a hole opened that is still open.
    ring_full: bool,
    /// Where segments begin of which only a part has come yet, in fragments; at most [`FRAGMENTED_MAX`].
    fragmented: VecDeque<u64>,
    /// Segments far from everything known, until something corroborates them.
    parked: VecDeque<Parked>,
    held: Held,
    /// The last ACK far from everything known.
    far_ack: Option<SeqNum>,
    gaps: Gaps,
    /// Octets from `next` up to here were cut off by the snaplen. They are a gap once something is captured behind them.
    cut_until: u64,
    /// Behind what was captured behind the cut-off, and behind all that was sent, by the accounts of the kernel.
    beyond: u64,
    reach: u64,
    /// Segments that these had counted then.
    reached_with: u64,
    /// Octets that a full ring has cost, and those of them that were sent before the last segment.
    lost: u64,
    lost_before: u64,
    /// Nobody waits any more for what is missing before the FIN, and why.
    tail_given_up: Option<GapCause>,
    trailing_gap: Option<Gap>,
    retransmitted: u64,
    out_of_order: u64,
    conflict: u64,
    late: u64,
    /// Segments with URG set.
    urgent: u64,
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
    /// Captured twice: it was not sent again.
    pub(super) twin: bool,
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

impl Piece<'_> {
    fn len(&self) -> u64 {
        self.octets.len() as u64 + u64::from(self.cut)
    }
}

impl Stream {
    /// `refused` is the ring's count at the first segment of the connection.
    pub(super) fn new(refused: u64) -> Self {
        Self { refused: refused as u32, ..Self::default() }
    }

    pub(super) fn has_fin(&self) -> bool {
        self.fin.offset().is_some()
    }

    /// Whether delivery has reached the FIN, or nobody waits for it any more.
    pub(super) fn is_finished(&self, config: &Config) -> bool {
        let given_up = || self.extra.as_ref().is_some_and(|extra| extra.tail_given_up.is_some());
        self.is_located() && self.awaited_end(config).is_some_and(|end| end <= self.edge() || given_up())
    }

    pub(super) fn refused(&self) -> u32 {
        self.refused
    }

    /// Memory that queued and parked octets cost, and the gaps that are remembered.
    pub(super) fn charged(&self) -> u64 {
        self.extra.as_ref().map_or(0, |extra| (extra.queued() + extra.gaps.charged()) as u64)
    }

    pub(super) fn segments(&self) -> u64 {
        self.segments
    }

    pub(super) fn count_segment(&mut self) {
        self.segments = self.segments.wrapping_add(1);
    }

    pub(super) fn count_urgent(&mut self) {
        self.extra.get_or_insert_default().urgent += 1;
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

    /// The last thing that happens to a stream: what is queued is delivered, and what the peer acknowledged beyond it is
    /// the trailing gap. `refused` is the ring's count at the end of the connection.
    pub(super) fn close<S: Sink>(&mut self, refused: u32, cx: &mut Context<'_, S>) {
        self.flush_all(GapCause::Close, cx);
        while self.drop_parked(cx) {}
        cx.stats.ring_full += self.lost();
        let end = self.sent_end().max(self.edge());
        if !self.is_located() || end <= self.next {
            return;
        }
        let wall = self.wall(cx.config);
        let mut gap = Gap::new(self.next, end - self.next, self.tail_cause(end.min(wall), refused));
        if end > wall {
            // What is missing before the cut-off has a cause of its own.
            if self.next < wall {
                self.skip_to(wall, gap.cause, cx);
            }
            gap = Gap::new(wall, end - wall, self.cause_of_wall());
        }
        cx.stats.gaps_trailing += gap.len;
        match gap.cause {
            GapCause::Cutoff => cx.stats.gaps_cutoff += gap.len,
            GapCause::Shed => cx.stats.gaps_shed += gap.len,
            _ => {}
        }
        self.extra.get_or_insert_default().trailing_gap = Some(gap);
    }

    /// Behind the last octet that is known to have been sent. Of what was acknowledged one may be the FIN's.
    fn sent_end(&self) -> u64 {
        let unseen = self.extra.as_ref().map_or(0, |extra| extra.beyond.max(extra.reach));
        self.fin.offset().unwrap_or_else(|| self.acked.saturating_sub(1).max(unseen))
    }

    /// Why the octets from the delivered edge to `end` are missing, behind which nothing was captured.
    fn tail_cause(&mut self, end: u64, refused: u32) -> GapCause {
        let (next, hurt) = (self.next, refused.wrapping_sub(self.refused).cast_signed() > 0);
        let extra = self.extra.get_or_insert_default();
        let fragmented = extra.is_fragmented(next, end);
        match extra.tail_given_up {
            // Otherwise more was sent behind what was cut off, and the rest of it is the worse loss.
            _ if extra.cut_until >= end => GapCause::Snaplen,
            _ if extra.ring_full || hurt || extra.lost > extra.lost_before => GapCause::RingFull,
            _ if fragmented => GapCause::Fragment,
            given_up => given_up.unwrap_or(GapCause::NotCaptured),
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
            summary.urgent = extra.urgent;
            summary.ring_full = extra.lost;
        }
        summary
    }

    /// Where a sequence number lies, if that is believable.
    fn offset_of(&self, seq: SeqNum, window: i64) -> Option<i64> {
        let highest = self.highest();
        self.offset_near(highest, seq, window.saturating_add_unsigned(self.acked.saturating_sub(highest)))
    }

    /// The same seen from `known`, and no further than a window from there: the one place where a sequence number becomes an
    /// offset.
    fn offset_near(&self, known: u64, seq: SeqNum, window: i64) -> Option<i64> {
        let distance = i64::from(seq.distance_from(self.base.advance(known)));
        let ahead = if distance < -BEHIND_MAX { distance + (1 << 32) } else { distance };
        // The very next octet is always believed: it may be a window probe.
        (ahead < window.max(1)).then(|| known.cast_signed() + ahead)
    }

    /// Highest position known: delivered, queued, held, withheld, acknowledged or the FIN. What was asked for does not count:
    /// the segments that come out of the ring are not there yet, and 32 bits would not tell them from those far ahead.
    fn highest(&self) -> u64 {
        let (acked, queued) = self.extra.as_ref().map_or((self.acked, 0), |extra| {
            let unseen = extra.beyond.max(extra.reach);
            let queued = extra.assembler.end().unwrap_or(0).max(extra.held.end);
            (extra.told.unwrap_or(self.acked), queued.max(unseen))
        });
        let picked_up = if self.start == Start::Pickup { PICKUP_ROOM } else { 0 };
        self.edge().max(acked).max(self.fin.offset().unwrap_or(0)).max(queued).max(picked_up)
    }

    /// Everything below has been delivered, or is missing for a reason that is known.
    fn edge(&self) -> u64 {
        self.extra.as_ref().map_or(self.next, |extra| extra.cut_until.max(self.next))
    }

    /// Puts a piece whose position is believed where it belongs.
    fn place<S: Sink>(&mut self, offset: i64, piece: &Piece<'_>, cx: &mut Context<'_, S>) {
        let below = usize::try_from(-offset).unwrap_or(0).min(piece.octets.len());
        cx.stats.below_start += below as u64;
        let mut octets = &piece.octets[below..];
        let end = u64::try_from(offset + piece.len() as i64).unwrap_or(0);
        let offset = u64::try_from(offset).unwrap_or(0);
        let hurt = piece.refused as u32 != std::mem::replace(&mut self.refused, piece.refused as u32);
        if piece.fin && self.fin.offset().is_none() && end >= self.captured_end() {
            self.fin = Fin::at(end);
            if end > self.next {
                self.extra.get_or_insert_default().fin_seen = cx.now;
            }
        }
        let mut end = end.min(self.fin.offset().unwrap_or(u64::MAX));
        let before = |end: u64| usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
        if let Some((kept, behind)) = octets.split_at_checked(before(end)) {
            cx.stats.implausible += behind.len() as u64;
            octets = kept;
        }
        let (wall, edge) = (self.wall(cx.config), self.edge());
        if end > wall && self.is_located() {
            let extra = self.extra.get_or_insert_default();
            extra.beyond = extra.beyond.max(end);
            if let Some((kept, behind)) = octets.split_at_checked(before(wall)) {
                cx.stats.cutoff += behind.len() as u64;
                octets = kept;
            }
            if offset >= wall {
                // What is missing before the cut-off lies before it.
                extra.ring_full |= hurt && edge < wall;
                return;
            }
            end = wall;
        }
        let cut = end.saturating_sub(offset + octets.len() as u64);

        if cut == 0 && octets.is_empty() {
            let opens_hole = offset > self.edge();
            if let Some(extra) = &mut self.extra {
                extra.ring_full |= hurt && opens_hole;
            }
            return;
        }
        self.make_way(offset, octets, cx);
        if self.start == Start::Pickup || offset > self.next {
            let opens_hole = self.start != Start::Pickup && offset > self.edge();
            self.queue(offset, octets, piece.twin, cx);
            let extra = self.extra.get_or_insert_default();
            if cut > 0 {
                extra.assembler.insert_cut(offset + octets.len() as u64, cut, cx.now);
            }
            if opens_hole {
                extra.out_of_order += u64::from(!piece.twin);
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
                self.extra.get_or_insert_default().retransmitted += u64::from(!piece.twin);
            }
        }
        match &mut self.extra {
            Some(extra) if !extra.assembler.is_empty() => {
                let next = self.next;
                self.queue(next, fresh, piece.twin, cx);
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
        let behind = |extra: &Extra| extra.assembler.end().unwrap_or(0).max(extra.beyond);
        self.edge().max(self.extra.as_deref().map_or(0, behind))
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
                    cx.stats.limit_gaps += u64::from(extra.gaps.fill(start, until));
                    cx.stats.delivered += len;
                    cx.stats.gaps_filled += len;
                    let bytes = &octets[(start - offset) as usize..(until - offset) as usize];
                    cx.sink.event(cx.id, Event::Late { direction: cx.direction, offset: start, bytes });
                }
                Late::Count => {
                    extra.gaps.count_late(start, len);
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

    fn queue<S>(&mut self, offset: u64, octets: &[u8], twin: bool, cx: &mut Context<'_, S>) {
        if octets.is_empty() {
            return;
        }
        let extra = self.extra.get_or_insert_default();
        let inserted = extra.assembler.insert(offset, octets, cx.now, cx.config.overlap);
        if inserted.new == 0 {
            extra.retransmitted += u64::from(!twin);
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
            match extra.assembler.pop_at(edge) {
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
        let edge = self.edge();
        if self.behind_hole(cx.config).is_none()
            && let Some(extra) = &mut self.extra
        {
            // What was captured behind the cut-off may still stand behind a hole.
            extra.ring_full &= extra.beyond > edge;
        }
    }

    fn skip_to<S: Sink>(&mut self, upto: u64, cause: GapCause, cx: &mut Context<'_, S>) {
        let gap = Gap::new(self.next, upto - self.next, cause);
        cx.stats.gaps += gap.len;
        cx.stats.limit_gaps += u64::from(self.extra.get_or_insert_default().gaps.push(gap));
        cx.sink.event(cx.id, Event::Gap { direction: cx.direction, gap });
        self.next = upto;
    }
}
