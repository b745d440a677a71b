//! What the kernel counts of a connection and does not copy.

use super::{Connection, Core, octets};
use crate::{
    reassembly::{
        event::{Direction, Sink},
        flow::FlowState,
        stream::Stream,
    },
    segment::{Acknowledgment, Flags, FlowNote, Segment, SeqNum, Timestamp},
};

/// Of one side, modulo 2^64.
#[derive(Clone, Copy, Default)]
pub(super) struct Ahead {
    segments: u64,
    reach: u64,
    /// Sequence number of what was the first octet then. Where a stream is picked up it may turn out to be another one.
    first: Option<SeqNum>,
    /// Not known yet where the accounts are older than the connection: it takes a segment of this side.
    lost: Option<u64>,
    /// Of the octets that were sent that is not known yet: it takes a segment of this side that has some, or is its first.
    is_open: bool,
}

impl Connection {
    /// Whether the kernel withholds something of it.
    pub(in crate::reassembly) fn has_flow(&self) -> bool {
        self.has_flow
    }

    /// Takes note of what the kernel has withheld, before something is decided that no segment brings.
    pub(in crate::reassembly) fn ask<S: Sink>(&mut self, core: &mut Core<'_, S>) {
        self.ask_before(Timestamp(u64::MAX), core);
    }

    /// The same, unless a side has gone on after `until`: the accounts may be ahead of what is being done.
    pub(super) fn ask_before<S: Sink>(&mut self, until: Timestamp, core: &mut Core<'_, S>) {
        if !self.has_flow {
            return;
        }
        let (client, server) = self.endpoints();
        let Some(FlowState { sides, shed }) = core.flows.flow(client, server) else { return };
        // Accounts that have begun anew say no more than that somebody was heard, until there is a record with them.
        let missing = self.missing_in(Direction::BOTH, sides.each_ref().map(|side| side.segments));
        let anew = missing.iter().any(|missing| *missing > 0);
        let segments = sides.iter().fold(0_u64, |sum, side| sum.wrapping_add(side.segments));
        let sides = Direction::BOTH.into_iter().zip(&sides).filter(|(_, side)| side.last_seen <= until);
        sides.clone().for_each(|(_, side)| _ = self.hear(side.last_seen, core));
        for (direction, side) in sides.clone().filter(|_| !anew) {
            self.handle_reach(direction, side.reach, segments, side.lost, side.cut || shed);
        }
        let until = sides.clone().map(|(_, side)| side.last_seen).max();
        for (direction, side) in sides.filter(|_| !anew) {
            self.handle_withheld(direction, side.segments, side.ack, side.last_seen, true, core);
        }
        if let Some((extra, until)) = self.extra.as_mut().zip(until).filter(|_| !anew) {
            extra.asked_until = until;
        }
    }

    /// Counts a segment of which the kernel says nothing: one that it saw as something else. It stands for itself alone.
    pub(super) fn count_segment(&mut self, direction: Direction) -> i64 {
        self.stream_mut(direction).count_segment();
        if self.has_flow {
            let ahead = &mut self.extra.get_or_insert_default().ahead[direction as usize];
            ahead.segments = ahead.segments.wrapping_sub(1);
        }
        1
    }

    /// What the kernel says of the connection with a segment of `direction`, before that is handled. How many of them it
    /// stands for, with those that were withheld, or refused by a full ring.
    pub(super) fn handle_note<S: Sink>(
        &mut self,
        note: &FlowNote,
        segment: &Segment<'_>,
        direction: Direction,
        core: &mut Core<'_, S>,
    ) -> i64 {
        // Connections are shed when they begin, if need be again. What is said later is about another one, on the same
        // endpoints.
        if note.shed && (!self.has_flow || self.is_own_syn(segment, direction)) {
            self.streams.iter_mut().for_each(Stream::shed);
        }
        self.keep_accounts(note, segment, direction);
        let counted = note.segments[0].wrapping_add(note.segments[1]);
        self.handle_reach(direction, note.reach, counted, note.lost, note.cut || note.shed);
        let segments = self.count_up_to(direction, note.segments[0], false).max(1);
        // Without an ACK it stands for itself alone: what those before it have acknowledged is still to be asked for.
        let segments = if segment.flags.contains(Flags::ACK) {
            segments.saturating_add(self.take_unheard(direction))
        } else {
            self.note_unheard(direction, segments - 1);
            1
        };
        self.stream_mut(direction).note_record();
        // Some time before the segment, and so not after the hole that this may open.
        let heard = Timestamp(segment.timestamp.0.saturating_sub(1));
        self.handle_withheld(direction.reverse(), note.segments[1], note.peer_ack, heard, false, core);
        segments
    }

    /// Finds out how far the kernel's accounts are ahead of ours, if they began before the connection or in its middle.
    fn keep_accounts(&mut self, note: &FlowNote, segment: &Segment<'_>, direction: Direction) {
        let sides = [direction, direction.reverse()];
        let known = sides.map(|side| self.stream(side).segments());
        let counted = note.segments[0].wrapping_add(note.segments[1]);
        let asked = self.extra.as_ref().map_or([0; 2], |extra| extra.asked);
        let missing = || self.missing_in(sides, note.segments).into_iter().fold(0, i64::saturating_add);
        let most = asked.into_iter().fold(DISORDER_MAX, i64::saturating_add);
        let anew = self.has_flow && (counted <= 1 || missing() > most);
        // What they count that is not of the connection: all before this segment, or, where they began in its middle, nothing.
        let before = if anew { [0; 2] } else { [note.segments[0].wrapping_sub(1), note.segments[1]] };
        if anew || !self.has_flow && before != known {
            // What the kernel told ahead of this segment were these accounts.
            let until = self.extra.as_ref().map_or_else(Timestamp::default, |extra| extra.asked_until);
            let told = if until >= segment.timestamp { asked } else { [0; 2] };
            if let Some(extra) = &mut self.extra {
                extra.asked = told;
            }
            for (place, side) in sides.into_iter().enumerate() {
                let known = known[place].wrapping_sub(told[side as usize].cast_unsigned());
                let segments = before[place].wrapping_sub(known);
                let lost = anew.then(|| 0_u64.wrapping_sub(self.stream(side).lost()));
                self.extra.get_or_insert_default().ahead[side as usize] =
                    Ahead { segments, lost, is_open: true, ..Ahead::default() };
            }
        }
        self.has_flow = true;
        let syn = segment.flags.contains(Flags::SYN);
        if !syn && !self.stream(direction).has_sent() && !self.ahead(direction).is_open {
            // Accounts that began with the connection may have another first octet than a stream that is picked up.
            let ahead = &mut self.extra.get_or_insert_default().ahead[direction as usize];
            *ahead = Ahead { lost: Some(0), is_open: true, ..*ahead };
        }
        // The SYN of another connection on the same endpoints says nothing of where this one is, nor does any RST.
        let is_elsewhere = segment.flags.contains(Flags::RST)
            || syn && !self.stream(direction).agrees_with(segment.seq, octets(segment), true);
        let (stream, is_open) = (self.stream(direction), self.ahead(direction).is_open);
        // They begin behind a SYN also where its peer has acknowledged more before it came.
        let was_overtaken = || syn && stream.isn().is_none() && stream.first().is_some();
        if (is_open || was_overtaken()) && !is_elsewhere {
            let seq = segment.seq.advance(u64::from(syn));
            let first = stream.first().unwrap_or(seq);
            let position = stream.position_of(seq).wrapping_add(octets(segment));
            let (reach, lost) = (note.reach.wrapping_sub(position), note.lost.wrapping_sub(stream.lost()));
            let ahead = &mut self.extra.get_or_insert_default().ahead[direction as usize];
            if is_open {
                ahead.lost.get_or_insert(lost);
            }
            // Without octets it may have overtaken some, unless it is the first of its side.
            if octets(segment) > 0 || syn || note.segments[0] <= 1 {
                *ahead = Ahead { reach, first: Some(first), is_open: false, ..*ahead };
            }
        }
    }

    /// How many segments we know of that the accounts, which have counted so many of these sides, do not.
    pub(super) fn missing_in(&self, sides: [Direction; 2], counted: [u64; 2]) -> [i64; 2] {
        let known = sides.map(|side| self.stream(side).segments().wrapping_add(self.ahead(side).segments));
        [known[0].wrapping_sub(counted[0]), known[1].wrapping_sub(counted[1])].map(u64::cast_signed)
    }

    pub(super) fn ahead(&self, direction: Direction) -> Ahead {
        self.extra.as_ref().map_or_else(Ahead::default, |extra| extra.ahead[direction as usize])
    }

    /// How many segments of this side the kernel, which has counted up to `count`, knows of and we do not. If it was `asked`, the
    /// ring has still to come to them.
    pub(super) fn count_up_to(&mut self, direction: Direction, count: u64, asked: bool) -> i64 {
        let [missing, _] = self.missing_in([direction; 2], [count; 2]);
        let count = count.wrapping_sub(self.ahead(direction).segments);
        let more = self.stream_mut(direction).count_up_to(count);
        if asked && more > 0 {
            let ahead = &mut self.extra.get_or_insert_default().asked[direction as usize];
            *ahead = ahead.saturating_add(more);
        } else if !asked && let Some(extra) = &mut self.extra {
            let ahead = &mut extra.asked[direction as usize];
            *ahead = missing.clamp(0, *ahead);
        }
        more
    }

    pub(super) fn take_unheard(&mut self, direction: Direction) -> i64 {
        self.extra.as_mut().map_or(0, |extra| std::mem::take(&mut extra.unheard[direction as usize]))
    }

    pub(super) fn note_unheard(&mut self, direction: Direction, segments: i64) {
        if segments > 0 {
            let unheard = &mut self.extra.get_or_insert_default().unheard[direction as usize];
            *unheard = unheard.saturating_add(segments);
        }
    }

    /// What the kernel says of the octets that one side has sent, some of which it has `withheld`, when it has counted so many
    /// segments of both.
    pub(super) fn handle_reach(&mut self, direction: Direction, reach: u64, segments: u64, lost: u64, withheld: bool) {
        let ahead = self.ahead(direction);
        let earlier = ahead.segments.wrapping_add(self.ahead(direction.reverse()).segments);
        let window = self.window(direction);
        let stream = self.stream_mut(direction);
        if let Some(before) = ahead.lost.or_else(|| (!ahead.is_open).then_some(0)) {
            stream.note_lost(lost.wrapping_sub(before));
        }
        if withheld && !ahead.is_open {
            // As many octets as the first one lies further on now are none of the stream's.
            let moved = ahead.first.zip(stream.first()).map_or(0, |(then, now)| i64::from(now.distance_from(then)));
            let reach = reach.wrapping_sub(ahead.reach.wrapping_add_signed(moved));
            stream.note_reach(reach, segments.wrapping_sub(earlier), window);
        }
    }

    /// What the kernel has heard from one side, if it was more than we have: as if the last bare ACK were here. If it was
    /// `asked`, it may be ahead of the ring.
    pub(super) fn handle_withheld<S: Sink>(
        &mut self,
        direction: Direction,
        segments: u64,
        ack: Option<Acknowledgment>,
        heard: Timestamp,
        asked: bool,
        core: &mut Core<'_, S>,
    ) {
        let more = self.count_up_to(direction, segments, asked).saturating_add(self.take_unheard(direction));
        // A later record of this side has counted them all, and need not acknowledge as much.
        let is_news = |ack: Acknowledgment| self.stream(direction.reverse()).is_ahead(ack.number);
        if more == 0 && !ack.is_some_and(is_news) {
            if let Some(ack) = ack.filter(|_| !asked) {
                self.stream_mut(direction.reverse()).hear_again(ack.number);
            }
            return;
        }
        let heard = self.hear(heard, core);
        let Some(Acknowledgment { number, time, window }) = ack else { return };
        // What moves nothing forward, such as a duplicate, is a word from the peer as well.
        self.stream_mut(direction.reverse()).note_ack_time(heard);
        self.acknowledge(number, direction, core.clock.when(time), more.max(1), asked, core);
        self.stream_mut(direction).note_window(window, false);
    }

    /// Takes note of the last word from either side. When that was on the core's clock. Even where the accounts are ahead of
    /// what is being done: nobody will say it again.
    pub(super) fn hear<S>(&mut self, heard: Timestamp, core: &Core<'_, S>) -> Timestamp {
        self.end = self.end.max(heard);
        let heard = core.clock.when(heard);
        self.last_seen = self.last_seen.max(heard);
        heard
    }
}

/// Segments by which records of two processors may come in another order than they were counted in.
const DISORDER_MAX: i64 = 64;
