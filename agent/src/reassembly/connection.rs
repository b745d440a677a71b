//! A pair of endpoints, both directions.

mod accounts;
mod pending;

use std::hint::black_box;

use agent_common::flow::JUMP_MAX;

use super::{
    config::Config,
    event::{ConnectionId, Direction, Ended, Event, GapCause, Sink, Started, Summary},
    flow::Flows,
    stats::Stats,
    stream::{Context, Piece, Stream},
    strict::{Refusal, Strict},
};
use crate::{
    ends::Ends,
    segment::{Endpoint, Flags, Origin, Segment, SeqNum, Timestamp},
    steady::SteadyClock,
};
use accounts::Ahead;
use pending::PendingSyn;

// In this order, for [`Connection::expect`].
#[repr(C)]
pub(super) struct Connection {
    pub(super) serial: u64,
    ends: Ends,
    /// First and last segment, on the clock of the frames.
    start: Timestamp,
    end: Timestamp,
    /// Last segment and last `Open` or `Update`, on the core's clock, which never steps.
    pub(super) last_seen: Timestamp,
    updated: Timestamp,
    /// What few connections need.
    extra: Option<Box<Extra>>,
    streams: [Stream; 2],
    /// Where the first segment was seen.
    interface: u16,
    vlan: Option<u16>,
    generation: u32,
    started: Started,
    /// The kernel has accounts of it.
    has_flow: bool,
}

#[derive(Default)]
struct Extra {
    reset: Option<Reset>,
    continues: Option<u64>,
    strict: Strict,
    /// SYNs with another ISN, at most one of either side, until something confirms that they begin another connection.
    pending: Vec<PendingSyn>,
    /// What the kernel's accounts have beyond ours, as they began before the connection, or in its middle.
    ahead: [Ahead; 2],
    /// Segments of either side that count, and of which it is still to be asked what they have acknowledged.
    unheard: [i64; 2],
    /// Segments of either side of which the kernel has told when it was asked, and which the ring has not come to.
    asked: [i64; 2],
    /// When the last of them came, on the clock of the frames.
    asked_until: Timestamp,
}

/// An RST that was accepted.
#[derive(Clone, Copy)]
struct Reset {
    since: Timestamp,
    /// What had been acknowledged of either stream.
    acked: [u64; 2],
}

/// What a segment, or the passing of time, means for the connection as a whole.
pub(super) enum Outcome {
    Open,
    Closed(Ended),
    /// This SYN began another connection. Does the segment at hand belong to that as well, or is it the SYN itself?
    Reused {
        syn: PendingSyn,
        then_segment: bool,
    },
}

/// What a connection needs to act, lent for one call.
pub(super) struct Core<'a, S> {
    pub(super) config: &'a Config,
    pub(super) stats: &'a mut Stats,
    pub(super) clock: &'a SteadyClock,
    pub(super) now: Timestamp,
    pub(super) slot: u32,
    pub(super) flows: &'a mut dyn Flows,
    pub(super) sink: &'a mut S,
}

impl<S: Sink> Core<'_, S> {
    fn stream(&mut self, serial: u64, direction: Direction) -> Context<'_, S> {
        Context {
            config: self.config,
            stats: self.stats,
            now: self.now,
            id: ConnectionId { slot: self.slot, serial },
            direction,
            sink: self.sink,
        }
    }
}

impl Connection {
    /// A connection whose first segment is `first`; that still has to be handled.
    pub(super) fn new(serial: u64, first: &Segment<'_>, now: Timestamp, continues: Option<u64>) -> Self {
        let from_server = first.flags.contains(Flags::SYN | Flags::ACK);
        let (client, server) = if from_server { (first.dst, first.src) } else { (first.src, first.dst) };
        let started = if first.flags.contains(Flags::SYN) { Started::Handshake } else { Started::Midstream };
        Self {
            serial,
            ends: Ends::new(client, server),
            start: first.timestamp,
            end: first.timestamp,
            last_seen: now,
            updated: now,
            extra: continues.map(|serial| Box::new(Extra { continues: Some(serial), ..Extra::default() })),
            streams: Direction::BOTH.map(|_| Stream::new(first.origin.refused)),
            interface: first.origin.interface,
            vlan: first.origin.vlan,
            generation: first.origin.generation,
            started,
            has_flow: false,
        }
    }

    /// Touches every cache line of it.
    pub(super) fn expect(&self) {
        let [c2s, s2c] = &self.streams;
        black_box((self.serial, c2s.segments(), s2c.segments(), self.has_flow));
    }

    pub(super) fn endpoints(&self) -> (Endpoint, Endpoint) {
        self.ends.get()
    }

    /// Where the first segment was seen.
    pub(super) fn origin(&self) -> Origin {
        let Self { interface, vlan, generation, .. } = *self;
        Origin { interface, vlan, generation, ..Origin::default() }
    }

    pub(super) fn is_between(&self, a: Endpoint, b: Endpoint) -> bool {
        let ends = self.endpoints();
        ends == (a, b) || ends == (b, a)
    }

    /// ISNs of client and server, as far as known.
    pub(super) fn isns(&self) -> [Option<SeqNum>; 2] {
        self.streams.each_ref().map(Stream::presumed_isn)
    }

    pub(super) fn open(&mut self, slot: u32, sink: &mut impl Sink) {
        let id = ConnectionId { slot, serial: self.serial };
        sink.event(id, Event::Open(&self.summary(None)));
    }

    pub(super) fn direction_of(&self, segment: &Segment<'_>) -> Direction {
        if (segment.src, segment.dst) == self.endpoints() {
            Direction::ClientToServer
        } else {
            Direction::ServerToClient
        }
    }

    /// Takes one segment. A `twin` is one that was captured twice.
    pub(super) fn handle_segment<S: Sink>(
        &mut self,
        segment: &Segment<'_>,
        direction: Direction,
        twin: bool,
        core: &mut Core<'_, S>,
    ) -> Outcome {
        if let Some(pending) = self.confirmed(segment, direction) {
            return Outcome::Reused { syn: pending, then_segment: true };
        }
        // The kernel may have told of later ones.
        self.last_seen = self.last_seen.max(core.now);
        self.end = segment.timestamp;
        let serial = self.serial;
        let syn = segment.flags.contains(Flags::SYN);

        let segments = match segment.flow {
            Some(note) => self.handle_note(note, segment, direction, core),
            None => self.count_segment(direction),
        };
        if segment.flags.contains(Flags::URG) {
            self.stream_mut(direction).count_urgent();
        }
        core.stats.urgent += u64::from(segment.flags.contains(Flags::URG));
        if (core.config.strict_fsm || core.config.strict_options) && self.refuses(segment, direction, core) {
            return Outcome::Open;
        }
        if segment.flags.contains(Flags::RST) {
            self.handle_reset(segment, direction, segments, core);
            return Outcome::Open;
        }
        if self.is_own_syn(segment, direction) {
            if self.stream(direction).isn().is_none() {
                self.started = Started::Handshake;
                self.stream_mut(direction).handle_syn(
                    segment.seq,
                    segment.window_scale,
                    &mut core.stream(serial, direction),
                );
                let [c2s, s2c] = &mut self.streams;
                c2s.agree_on_scales(s2c);
            }
        } else if syn && !self.is_old_syn_ack(segment, direction) {
            let syn = PendingSyn::new(segment, direction);
            if self.reset().is_some() {
                return Outcome::Reused { syn, then_segment: false };
            }
            self.remember(syn, core.stats);
            return Outcome::Open;
        }
        if segment.flags.contains(Flags::ACK) {
            if segments > 1 && self.has_flow && self.may_have_wrapped(direction, segments) {
                self.ask_before(segment.timestamp, core);
            }
            self.handle_ack(segment, direction, segments, core);
        }
        let piece = self.piece(segment, direction, twin);
        if !piece.octets.is_empty() || piece.cut > 0 || piece.fin {
            let cx = &mut core.stream(serial, direction);
            if self.reset().is_some() {
                self.stream_mut(direction).hold_piece(&piece, cx);
            } else {
                self.stream_mut(direction).handle_piece(&piece, cx);
            }
        }
        let occupied = octets(segment) + u64::from(piece.fin);
        let end = piece.seq.advance(occupied);
        self.stream_mut(direction).note_sent(segment, end, piece.window);
        self.doubt_pending(segment, direction, piece.window);

        if self.reset().is_none() && self.is_finished(core.config) {
            return Outcome::Closed(Ended::Fin);
        }
        Outcome::Open
    }

    /// Takes note of a segment of which a part has come, in a fragment.
    pub(super) fn handle_fragment(&mut self, segment: &Segment<'_>) {
        let direction = self.direction_of(segment);
        let window = self.window(direction);
        self.stream_mut(direction).note_fragment(segment.seq, window);
    }

    /// Does what time demands.
    pub(super) fn handle_timeout<S: Sink>(&mut self, core: &mut Core<'_, S>) -> Outcome {
        if let Some(Reset { since, .. }) = self.reset() {
            if since.after(core.config.rst_hold) <= core.now {
                return Outcome::Closed(Ended::Rst);
            }
        } else {
            for direction in Direction::BOTH {
                let cx = &mut core.stream(self.serial, direction);
                self.stream_mut(direction).flush_due(cx);
            }
            if self.is_finished(core.config) {
                return Outcome::Closed(Ended::Fin);
            }
        }
        if self.last_seen.after(self.idle_timeout(core.config)) <= core.now {
            return Outcome::Closed(Ended::Idle);
        }
        if self.updated.after(core.config.update_interval) <= core.now {
            if self.last_seen > self.updated {
                let id = ConnectionId { slot: core.slot, serial: self.serial };
                core.sink.event(id, Event::Update(&self.summary(None)));
            }
            self.updated = core.now;
        }
        Outcome::Open
    }

    /// When [`handle_timeout`](Self::handle_timeout) next has something to do.
    pub(super) fn deadline(&self, config: &Config) -> Timestamp {
        let idle = self.last_seen.after(self.idle_timeout(config)).min(self.updated.after(config.update_interval));
        if let Some(Reset { since, .. }) = self.reset() {
            return idle.min(since.after(config.rst_hold));
        }
        let deadlines = self.streams.iter().filter_map(|stream| stream.deadline(self.has_flow, config));
        deadlines.fold(idle, Timestamp::min)
    }

    /// Delivers what is queued and says goodbye. An accepted RST is the reason whatever else is.
    pub(super) fn close<S: Sink>(&mut self, ended: Ended, core: &mut Core<'_, S>) -> Ended {
        let refused = self.streams.each_ref().map(Stream::refused);
        let reset = self.reset().is_some();
        for direction in Direction::BOTH {
            let cx = &mut core.stream(self.serial, direction);
            let stream = self.stream_mut(direction);
            if reset {
                stream.discard_held(cx);
            }
            stream.close(refused[direction.reverse() as usize], cx);
        }
        core.stats.closed += 1;
        let ended = match ended {
            _ if reset => Ended::Rst,
            // A picked-up direction knows its end only now.
            Ended::Finish if self.is_finished(core.config) => Ended::Fin,
            ended => ended,
        };
        let id = ConnectionId { slot: core.slot, serial: self.serial };
        core.sink.event(id, Event::Close(&self.summary(Some(ended))));
        ended
    }

    /// The remembered SYNs that begin another connection now that both ends have closed this one: those whose sender has
    /// not gone on in the old sequence space. The others are dropped.
    pub(super) fn take_pending(&mut self, ended: Ended, stats: &mut Stats) -> Vec<PendingSyn> {
        let mut pending = self.extra.as_mut().map(|extra| std::mem::take(&mut extra.pending)).unwrap_or_default();
        pending.extract_if(.., |syn| syn.doubted || ended != Ended::Fin).for_each(|syn| syn.count_dropped(stats));
        pending
    }

    /// Gives up the first hole of one direction, or the data of a remembered SYN: without that it still says whose the segments
    /// behind it are.
    pub(super) fn give_way<S: Sink>(&mut self, direction: Direction, core: &mut Core<'_, S>) {
        if self.stream(direction).charged() == 0 {
            let pending = self.extra.iter_mut().flat_map(|extra| &mut extra.pending);
            for syn in pending.filter(|syn| syn.direction == direction) {
                core.stats.after_close += syn.segment.take_payload().len() as u64;
            }
            return;
        }
        let cx = &mut core.stream(self.serial, direction);
        let reset = self.reset().is_some();
        let stream = self.stream_mut(direction);
        match stream.forget_gaps(cx) {
            true => {}
            false if reset => stream.discard_held(cx),
            false => stream.give_way(cx),
        }
    }

    /// Memory that waits in both directions: queues, parked segments, data of remembered SYNs.
    pub(super) fn charged(&self) -> [u64; 2] {
        let mut charged = self.streams.each_ref().map(Stream::charged);
        for syn in self.extra.iter().flat_map(|extra| &extra.pending) {
            charged[syn.direction as usize] += syn.segment().payload.len() as u64;
        }
        charged
    }

    fn summary(&mut self, ended: Option<Ended>) -> Summary<'_> {
        let (client, server) = self.endpoints();
        let origin = self.origin();
        let [c2s, s2c] = &mut self.streams;
        Summary {
            client,
            server,
            start: self.start,
            end: self.end,
            started: self.started,
            ended,
            origin,
            continues: self.extra.as_ref().and_then(|extra| extra.continues),
            streams: [c2s.summary(), s2c.summary()],
        }
    }

    /// How far beyond what is known the sender of a direction may be believed to send.
    fn window(&self, direction: Direction) -> i64 {
        self.stream(direction.reverse()).window_for(self.stream(direction))
    }

    /// Whether both directions have come to their FINs.
    fn is_finished(&self, config: &Config) -> bool {
        self.streams.iter().all(|stream| stream.is_finished(config))
    }

    fn reset(&self) -> Option<Reset> {
        self.extra.as_ref()?.reset
    }

    fn stream(&self, direction: Direction) -> &Stream {
        &self.streams[direction as usize]
    }

    fn stream_mut(&mut self, direction: Direction) -> &mut Stream {
        &mut self.streams[direction as usize]
    }

    /// Whether the strict checks refuse a segment.
    fn refuses<S>(&mut self, segment: &Segment<'_>, direction: Direction, core: &mut Core<'_, S>) -> bool {
        let (stream, peer) = (self.stream(direction), self.stream(direction.reverse()));
        let beyond_window = stream.exceeds(segment.seq.advance(octets(segment)), peer);
        let strict = &mut self.extra.get_or_insert_default().strict;
        let Err(refusal) = strict.judge(segment, direction, beyond_window, core.config) else { return false };
        match refusal {
            Refusal::State => core.stats.refused_fsm += 1,
            Refusal::Options => core.stats.refused_options += 1,
        }
        core.stats.strict += segment.payload.len() as u64;
        true
    }

    fn piece<'a>(&self, segment: &Segment<'a>, direction: Direction, twin: bool) -> Piece<'a> {
        let syn = segment.flags.contains(Flags::SYN);
        Piece {
            seq: segment.seq.advance(u64::from(syn)),
            octets: segment.payload,
            cut: segment.missing,
            fin: segment.flags.contains(Flags::FIN),
            push: segment.flags.contains(Flags::PSH),
            twin,
            refused: segment.origin.refused,
            window: self.window(direction),
        }
    }

    fn handle_reset<S: Sink>(
        &mut self,
        segment: &Segment<'_>,
        direction: Direction,
        segments: i64,
        core: &mut Core<'_, S>,
    ) {
        core.stats.rst_payload += segment.payload.len() as u64;
        if self.reset().is_some() {
            return;
        }
        if !self.may_reset(segment, direction) {
            core.stats.rst_implausible += 1;
            return;
        }
        // What its sender acknowledged before, and how far its peer has come, no record says. What comes after it may prove
        // that it was ignored.
        self.ask_before(segment.timestamp, core);
        if segment.flags.contains(Flags::ACK) {
            self.handle_ack(segment, direction, segments, core);
        }
        let acked = self.streams.each_ref().map(Stream::acked);
        self.extra.get_or_insert_default().reset = Some(Reset { since: core.now, acked });
        for direction in Direction::BOTH {
            let cx = &mut core.stream(self.serial, direction);
            self.stream_mut(direction).flush_all(GapCause::Close, cx);
        }
    }

    /// Takes the ACK of a segment, the last of so many.
    fn handle_ack<S: Sink>(
        &mut self,
        segment: &Segment<'_>,
        direction: Direction,
        segments: i64,
        core: &mut Core<'_, S>,
    ) {
        let (serial, reverse) = (self.serial, direction.reverse());
        if segment.flags.contains(Flags::SYN) {
            let cx = &mut core.stream(serial, reverse);
            self.stream_mut(reverse).handle_syn_ack(segment.ack, cx);
        }
        self.acknowledge(segment.ack, direction, core.now, segments, false, core);
        if self.reset().is_none() {
            self.stream_mut(reverse).flush_due(&mut core.stream(serial, reverse));
        }
    }

    /// Takes an ACK number of `direction`, which came at `at`, the last of so many. What it makes due is done with a segment or
    /// by a timer.
    fn acknowledge<S: Sink>(
        &mut self,
        ack: SeqNum,
        direction: Direction,
        at: Timestamp,
        acks: i64,
        asked: bool,
        core: &mut Core<'_, S>,
    ) {
        let (serial, reverse) = (self.serial, direction.reverse());
        if !self.believe(ack, direction, at, acks, asked, core) {
            // How far the other side has come, only the kernel may know, which has withheld that.
            let is_near = self.has_flow && !asked && {
                self.ask(core);
                self.believe(ack, direction, at, acks, asked, core)
            };
            if !is_near {
                self.stream_mut(reverse).note_far_ack(ack);
            }
        }
        let Some(reset) = self.reset() else { return };
        if !self.stream(reverse).held_was_acked(reset.acked[reverse as usize]) {
            return;
        }
        if let Some(extra) = &mut self.extra {
            extra.reset = None;
        }
        core.stats.reopened += 1;
        for direction in Direction::BOTH {
            let window = self.window(direction);
            let cx = &mut core.stream(serial, direction);
            self.stream_mut(direction).release(window, cx);
        }
    }

    /// Whether the ACKs of so many segments of `direction` may have gone further than 32 bits tell: how far, the kernel knows.
    fn may_have_wrapped(&self, direction: Direction, segments: i64) -> bool {
        self.window(direction.reverse()).saturating_mul(segments) > JUMP_MAX.cast_signed()
    }

    /// Takes an ACK number, unless it is far from everything known. Each of so many may have acknowledged a window more than the
    /// one before it.
    fn believe<S: Sink>(
        &mut self,
        ack: SeqNum,
        direction: Direction,
        at: Timestamp,
        acks: i64,
        asked: bool,
        core: &mut Core<'_, S>,
    ) -> bool {
        let (serial, reverse) = (self.serial, direction.reverse());
        let window = self.window(reverse);
        let reach = window.saturating_mul(acks).clamp(window, window.max(JUMP_MAX.cast_signed()));
        self.stream_mut(reverse).handle_ack(ack, [window, reach], at, asked, &mut core.stream(serial, reverse))
    }

    /// Whether an RST is believable: see row 10 of the byte contract.
    fn may_reset(&self, segment: &Segment<'_>, direction: Direction) -> bool {
        let (stream, peer) = (self.stream(direction), self.stream(direction.reverse()));
        let unanswered = !stream.is_located() && !stream.has_fin();
        let answers_syn = unanswered && segment.flags.contains(Flags::ACK) && peer.is_answered_by(segment.ack);
        answers_syn || stream.may_reset(segment.seq, peer)
    }

    /// Whether this is a SYN of this connection, the first one or again. Nobody shakes hands behind an RST.
    fn is_own_syn(&self, segment: &Segment<'_>, direction: Direction) -> bool {
        let shaking_hands = self.reset().is_none() && self.stream(direction.reverse()).isn().is_some();
        segment.flags.contains(Flags::SYN)
            && self.stream(direction).agrees_with(segment.seq, octets(segment), shaking_hands)
    }

    /// Whether this is the SYN-ACK of a connection that was picked up, and comes late: both its numbers lie right before
    /// what is known, as those of the next connection do not (RFC 6528 section 3). Of data in a SYN it acknowledges some.
    fn is_old_syn_ack(&self, segment: &Segment<'_>, direction: Direction) -> bool {
        let peer = self.stream(direction.reverse());
        segment.flags.contains(Flags::ACK)
            && self.stream(direction).may_begin_at(segment.seq.advance(1))
            && (peer.may_begin_at(segment.ack) || peer.is_answered_by(segment.ack))
    }

    /// RFC 5382 section 5, and the states before and after it.
    fn idle_timeout(&self, config: &Config) -> u64 {
        if self.streams.iter().any(Stream::has_fin) {
            config.fin_timeout
        } else if self.started == Started::Handshake && self.streams.iter().all(Stream::is_opening) {
            config.handshake_timeout
        } else {
            config.idle_timeout
        }
    }
}

/// Octets of payload that were on the wire.
fn octets(segment: &Segment<'_>) -> u64 {
    segment.payload.len() as u64 + u64::from(segment.missing)
}
