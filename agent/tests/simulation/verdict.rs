//! What is judged when a connection closes: every gap, every octet that was captured, the reason, the summary.

use std::ops::Range;

use agent::reassembly::{
    Config, ConnectionId, Direction, Ended, GAPS_LISTED, Gap, GapCause, Late, Started, StreamSummary, Summary,
};

use crate::{
    census,
    checker::{Checker, Declared, Open, OpenStream, Step},
    drive::EPOCH,
    ledger::{Ack, ForgedAck, SideLedger, SideRecord},
    network::Record,
    packet::{Packet, Position, Side},
    scenario::generous,
};

impl Checker<'_> {
    pub(crate) fn on_close(&mut self, id: ConnectionId, open: &mut Open, summary: &Summary<'_>, full: bool) {
        let Some(ended) = summary.ended else {
            return self.fail(|| format!("{id:?} closed without a reason"));
        };
        self.census.add_many(census::ended(ended), 1);
        self.census.add_many(census::started(summary.started), 1);
        self.census.add_many("row 13 picked up", u64::from(summary.started == Started::Midstream));
        let trailing = summary.streams.iter().filter_map(|stream| stream.trailing_gap);
        let trailing: Position = trailing.map(|gap| Position::from(gap.len)).sum();
        if let Some(last) = self.became[open.talk].last_mut() {
            last.closed = Some((self.ledger.record, ended, self.ledger.now));
            let unwanted = summary.streams.iter().filter_map(|stream| stream.trailing_gap);
            let unwanted = unwanted.filter(|gap| matches!(gap.cause, GapCause::Cutoff | GapCause::Shed));
            let unwanted: Position = unwanted.map(|gap| Position::from(gap.len)).sum();
            let missing: Position = open.streams.iter().map(|stream| stream.missing.len()).sum();
            last.missing = missing + trailing - unwanted;
        }
        self.evicted += u64::from(ended == Ended::Evicted);
        self.reset += u64::from(ended == Ended::Rst);
        self.missed[2] += trailing;
        let mut wrong = self.judge_reason(open, summary, ended, full);
        for direction in Direction::BOTH {
            let side = open.side(direction);
            let numbers = &summary.streams[direction as usize];
            let verdict = self
                .judge_summary(&open.streams[side], numbers)
                .or_else(|| self.judge_closing_figures(open, side, numbers))
                .or_else(|| self.judge_stream(open, side, ended, numbers.trailing_gap));
            wrong = wrong.or_else(|| verdict.map(|why| format!("{direction:?}: {why}")));
            let Some(late) = numbers.late.checked_add(numbers.conflict) else { continue };
            self.census.add_many("row 05 conflict", numbers.conflict);
            self.census.add_many("row 06a counted", late - numbers.conflict);
            self.urgent += numbers.urgent;
            self.ring_full += numbers.ring_full;
            self.census.add_many("row 27 stream hurt by the ring", u64::from(numbers.ring_full > 0));
            if let Some(gap) = numbers.trailing_gap {
                match gap.cause {
                    GapCause::Cutoff => self.unwanted[0] += Position::from(gap.len),
                    GapCause::Shed => self.unwanted[1] += Position::from(gap.len),
                    _ => {}
                }
                let cause = census::cause(gap.cause);
                self.census.add_many(cause, u64::from(matches!(gap.cause, GapCause::Cutoff | GapCause::Shed)));
            }
            self.census.add_many("row 04 retransmitted", numbers.retransmitted);
            self.census.add_many("gap trailing", u64::from(numbers.trailing_gap.is_some()));
        }
        if let Some(why) = wrong {
            self.fail(|| format!("{id:?}, conversation {}, {ended:?}: {why}", open.talk));
        }
        if matches!(ended, Ended::Idle | Ended::Evicted) {
            self.ledger.give_up(open.talk);
        }
    }

    fn judge_reason(&self, open: &Open, summary: &Summary<'_>, ended: Ended, full: bool) -> Option<String> {
        if self.scenario.is_strict() {
            return None;
        }
        let talk = &self.ledger.talks[open.talk];
        let fins = talk.sides.iter().all(|side| side.fin.is_some());
        let syn = talk.sides.iter().any(|side| side.syn.or(side.syn_ack).is_some());
        // Of what the kernel has forgotten nobody was told.
        let heard = if talk.spoilt { talk.told } else { talk.last_seen };
        let idle = self.ledger.now.max(self.clock_hint) - heard;
        let legal = match ended {
            Ended::Fin => fins,
            Ended::Rst => {
                // Row 10: for a while it might still prove to be ignored.
                let waited = self.ledger.now.max(self.clock_hint).saturating_sub(talk.rst_seen);
                let over = waited >= self.config.rst_hold || idle >= self.least_timeout(open);
                talk.real_rst.is_some() && (self.step != Step::Timeout || over)
            }
            Ended::Idle => idle >= self.least_timeout(open),
            Ended::Reused => self.ledger.talks.iter().enumerate().any(|(other, later)| {
                other > open.talk
                    && self.capture.talks[other].pair == self.capture.talks[open.talk].pair
                    && later.first_record.is_some()
            }),
            Ended::Evicted => full,
            Ended::Finish => self.step == Step::Finish,
        };
        if !legal {
            return Some(format!("not a legal reason (idle for {idle} ns, FINs {fins}, RST {:?})", talk.real_rst));
        }
        let told = (summary.start.0, summary.end.0);
        // Of what is ahead of the ring only the kernel knows.
        let asked_late = self.is_ahead() || talk.spoilt || ended == Ended::Evicted;
        let least = if asked_late { talk.told_stamp } else { talk.last_stamp };
        let ahead = self.scenario.kernel.map_or(0, |plan| plan.ahead);
        let most = if ahead > 0 { talk.last_stamp.max(EPOCH + self.now()) + ahead } else { talk.last_stamp };
        let ends = (least..=most).contains(&told.1);
        if self.is_alone(open) && !(told.0 == open.start && ends) {
            return Some(format!("from and to {told:?}, not {:?}", (open.start, talk.last_stamp)));
        }
        if summary.started == Started::Handshake && !syn {
            return Some("started with a handshake that was not captured".into());
        }
        let first = talk.opener.unwrap_or(0);
        let sides = &talk.sides;
        if summary.started == Started::Midstream && sides.iter().any(|side| side.syn == Some(first)) && open.since == 0
        {
            return Some("started midstream although its first record is a SYN".into());
        }
        let simultaneous = sides.iter().all(|side| side.syn.is_some());
        if open.since == 0 && sides[0].syn == Some(first) && !simultaneous && open.client != 0 {
            return Some("the sender of the SYN is not the client".into());
        }
        None
    }

    /// The shortest time without a segment that may close it. What came before a SYN was confirmed went elsewhere.
    fn least_timeout(&self, open: &Open) -> u64 {
        let talk = &self.ledger.talks[open.talk];
        let mut least = self.config.idle_timeout;
        if talk.sides.iter().any(|side| side.fin.is_some()) {
            least = least.min(self.config.fin_timeout);
        }
        let mut records = talk.sides.iter().flat_map(|side| &side.records);
        // What comes behind octets that were withheld, and forgotten, is not believed.
        let forgotten = talk.spoilt && (talk.shed || self.config.cutoff.is_some());
        if !talk.is_plausible() || forgotten || records.all(|record| record.record < open.opened || record.opens) {
            least = least.min(self.config.handshake_timeout);
        }
        least
    }

    /// The closing numbers against the events.
    pub(crate) fn judge_summary(&self, stream: &OpenStream, numbers: &StreamSummary<'_>) -> Option<String> {
        let missing = stream.missing_by_cause();
        if Position::from(numbers.len) != stream.edge || Position::from(numbers.delivered) != stream.delivered {
            return Some(format!(
                "the summary says {} of {}, the events {} of {}",
                numbers.delivered, numbers.len, stream.delivered, stream.edge
            ));
        }
        if numbers.gap_totals.map(Position::from) != missing
            || numbers.delivered + numbers.gap_totals.iter().sum::<u64>() != numbers.len
        {
            return Some(format!("gap totals {:?}, the events {missing:?}", numbers.gap_totals));
        }
        let mut listed = 0;
        let mut late = 0;
        let mut edge = None;
        for gap in numbers.gaps {
            if edge.is_some_and(|(end, cause)| gap.offset < end || gap.offset == end && cause == gap.cause) {
                return Some(format!("{gap:?} is out of order or touches its like"));
            }
            edge = Some((gap.offset + gap.len, gap.cause));
            let inside: Position = stream
                .missing
                .within(gap.offset.into(), Position::from(gap.offset + gap.len))
                .filter(|(.., index)| stream.gaps[*index].gap.cause == gap.cause)
                .map(|(from, until, _)| until - from)
                .sum();
            if inside != Position::from(gap.len) {
                return Some(format!("{gap:?} is listed, but {inside} octets of it are missing"));
            }
            listed += Position::from(gap.len);
            late += gap.late;
        }
        let lists_all = numbers.gaps.len() < GAPS_LISTED && stream.knows_all_gaps(&self.config);
        if late > numbers.late || lists_all && late < numbers.late {
            return Some(format!("{} octets came late, {late} of them for the gaps listed", numbers.late));
        }
        let total: Position = missing.iter().sum();
        (lists_all && listed != total).then(|| format!("{listed} of {total} missing octets are listed"))
    }

    /// With the start that fits best: what is wrong with the stream, if anything.
    fn judge_stream(&self, open: &Open, side: Side, ended: Ended, trailing: Option<Gap>) -> Option<String> {
        if self.scenario.is_strict() {
            return None;
        }
        let stream = &open.streams[side];
        let bases = match &stream.bases {
            Some(bases) => bases.clone(),
            None if stream.edge == 0 && open.since > 0 => return None,
            None => self.possible_bases(open, side),
        };
        let mut first = None;
        for base in bases {
            match self.judge_from(open, side, ended, base, trailing) {
                None => return None,
                Some(why) => first = first.or_else(|| Some(format!("from {base}: {why}"))),
            }
        }
        first
    }

    fn judge_from(
        &self,
        open: &Open,
        side: Side,
        ended: Ended,
        base: Position,
        trailing: Option<Gap>,
    ) -> Option<String> {
        let stream = &open.streams[side];
        let ledger = self.ledger.side(open.talk, side);
        let sent = self.capture.talks[open.talk].sent[side];
        // Of a connection that is reused, ACKs may have been taken that belong to the next one.
        let behind = trailing.filter(|_| ended != Ended::Reused).map_or(0, |gap| Position::from(gap.len));
        // A keep-alive at the FIN's number may have been taken for an octet.
        let probes = Position::from(ledger.may_be_probed(sent));
        // Of what is not copied, behind a cut-off or of a connection that was shed, the kernel may have believed what somebody
        // else has sent; and an ACK that stands for many may have gone as far as somebody else says, to a FIN at most.
        let talk = &self.ledger.talks[open.talk];
        let end = base + stream.edge + behind;
        let forged = || ledger.forged_acks.iter().any(|ack| [end, end + 1].contains(&ack.position));
        // Or of another connection on the same endpoints, which is ahead of what has come out of the ring.
        let succeeded = || self.is_ahead() && self.passes().any(|record| self.succeeds(open, &record.packet));
        let spoilt = talk.spoilt && (stream.edge == self.wall() || talk.shed || forged() || succeeded());
        if !spoilt && stream.edge + behind > 0 && end > sent + probes {
            return Some(format!("{} and {behind} octets long, but only {sent} were sent", base + stream.edge));
        }
        // Where these are what positions are told by, of a FIN no more is certain than its sequence number.
        let agrees = |at: Position| at == end || spoilt && at as u32 == end as u32;
        if ended == Ended::Fin && !ledger.fin.is_some_and(|(_, at)| agrees(at)) {
            return Some(format!("ended by FIN at {}, but that was {:?}", base + stream.edge + behind, ledger.fin));
        }
        stream
            .gaps
            .iter()
            .find_map(|gap| self.judge_gap(open, side, gap, base).map(|why| format!("{:?}: {why}", gap.gap)))
            .or_else(|| self.judge_captured(open, ledger, stream, base))
            .or_else(|| self.judge_tail(open, ended, ledger, stream, base, trailing))
    }

    fn judge_gap(&self, open: &Open, side: Side, declared: &Declared, base: Position) -> Option<String> {
        let ledger = self.ledger.side(open.talk, side);
        let start = base + Position::from(declared.gap.offset);
        let end = start + Position::from(declared.gap.len);
        let cause = declared.gap.cause;
        let until = declared.record;
        let known = |record: usize| record > open.since && record <= until;
        if let Some((from, to, record)) = ledger.octets.within(start, end).find(|span| known(span.2))
            && self.must_take(open, ledger, record)
            && ledger.ambiguous.within(from, to).next().is_none()
        {
            return Some(format!("a gap over {from}..{to}, captured by record {record} (now {until})"));
        }
        let rst = self.ledger.talks[open.talk].real_rst.unwrap_or(usize::MAX);
        let (cut, surely) = ledger.cut_within(start, end, known, rst);
        let bare = self.bare_within(open, ledger, start..end, base, until);
        let closing = declared.step == self.steps || open_after_rst(self, open, until);
        let acked = ledger.acked(end, until);
        let spoilt = self.ledger.talks[open.talk].spoilt;
        let far = !ledger.all_plausible() || (spoilt || ledger.lost_ack) && ledger.is_unheard(until);
        let elapsed = |since: u64| self.elapsed(declared, since);
        let [perhaps, surely_fragmented] = self.is_fragmented(open, ledger, start..end, until);
        let at_wall = closing && Position::from(declared.gap.offset + declared.gap.len) == self.wall();
        let held = |since: u64| closing || self.small_limits() || elapsed(since) >= self.config.gap_hold;
        // An ACK that stands for many may have gone as far as somebody else says.
        let forged = |ack: &ForgedAck| ack.position >= end && ack.record <= until && held(ack.time);
        let ahead = || self.passing_ahead(declared.record, declared.time).map(|record| &record.packet);
        let told = |packet: &Packet| match packet.from == side {
            _ if packet.conversation != open.talk => false,
            true => at_wall && packet.position() + packet.stream_octets() > end,
            false => packet.ack.is_some_and(|ack| ack > end),
        };
        let waited = |cause: GapCause| match cause {
            // Behind it more was sent, of which nothing is wanted, or the kernel has believed somebody else that it was.
            GapCause::NotCaptured if at_wall && (spoilt || ledger.sent_end[1] > end) => true,
            GapCause::NotCaptured => {
                far || acked.is_some_and(held)
                    || spoilt && ledger.forged_acks.iter().any(forged)
                    || closing && ahead().any(told)
                    || spoilt && ahead().any(|packet| packet.ack.is_some() && self.succeeds(open, packet))
            }
            GapCause::Timeout => self.judge_timeout(open, ledger, declared, start, end),
            GapCause::Limit => self.may_be_full(ledger, start, until),
            GapCause::Close => {
                // Of what is ahead of an RST nobody asks: an ACK comes itself, or beside what its peer sends after it.
                let passed = |ack: &Ack| ledger.records.iter().any(|r| (ack.record + 1..=until).contains(&r.record));
                let comes = |ack: &Ack| ack.handed && ack.position >= end || passed(ack);
                let told = |ack: &Ack| ack.believable >= end && (!self.is_ahead() || comes(ack));
                // While a stream is picked up, an ACK far ahead of the one before it is not believed.
                let doubtful = spoilt || open.since > 0 && self.scenario.long;
                closing && (doubtful || !ledger.acks.iter().rev().filter(|ack| ack.record <= until).any(told))
            }
            _ => false,
        };
        let wanted = |position: Position| position >= end && (at_wall || position < base + self.wall());
        let ring_full = ledger.records.iter().any(|r| r.hurt && known(r.record) && wanted(r.position));
        let legal = match cause {
            _ if ring_full && !far && rst > until && open.since == 0 && ledger.begins_with_syn() => {
                matches!(cause, GapCause::RingFull | GapCause::Snaplen)
            }
            // Of a keep-alive's octet nobody can know that it is none, if it was cut off as well.
            GapCause::Snaplen => {
                far || at_wall && cut + bare > 0
                    || cut + bare >= end - start
                    || ledger.ambiguous.within(start, end).next().is_some()
            }
            _ if surely > 0 && !far && !(at_wall && surely < end - start) => {
                return Some(format!("{cut} octets of it were cut off by the snaplen"));
            }
            GapCause::RingFull => {
                let hurt = || self.is_hurt_ahead(open, ledger, until, declared.time);
                declared.refused > 0 || closing && (ledger.lost[0] > 0 || hurt())
            }
            GapCause::Fragment => {
                let causes = [GapCause::NotCaptured, GapCause::Timeout, GapCause::Limit, GapCause::Close];
                perhaps && causes.into_iter().any(waited)
            }
            _ if surely_fragmented => return Some("a segment within it was begun by a fragment".into()),
            GapCause::NotCaptured | GapCause::Timeout | GapCause::Limit | GapCause::Close => waited(cause),
            GapCause::Cutoff | GapCause::Shed | GapCause::DiskSlow | GapCause::DiskFull | GapCause::WriteError => false,
        };
        (!legal).then(|| {
            let waited = acked.map(elapsed);
            format!("not a legal cause (acknowledged {waited:?} ns ago, cut {cut}, closing {closing}, record {until})")
        })
    }

    /// Octets of which the kernel has copied the headers alone by record `until`, although they lie before the cut-off: its
    /// accounts begin elsewhere, or somebody has spoilt them. To the reassembler they were cut off.
    fn bare_within(
        &self,
        open: &Open,
        ledger: &SideLedger,
        range: Range<Position>,
        base: Position,
        until: usize,
    ) -> Position {
        let elsewhere = base > 0 || self.ledger.talks[open.talk].spoilt;
        let spans = ledger.bare.within(range.start, range.end).filter(|span| elsewhere && span.2 <= until);
        spans.map(|(from, to, _)| to - from).sum()
    }

    /// Whether a segment within `range` was begun by a fragment by record `until`: perhaps, and surely.
    fn is_fragmented(&self, open: &Open, ledger: &SideLedger, range: Range<Position>, until: usize) -> [bool; 2] {
        // The reassembler remembers that many.
        const KNOWN: usize = 8;
        let begun = ledger.begun.iter().filter(|begun| (open.since..=until).contains(&begun.record));
        let rst = self.ledger.talks[open.talk].real_rst.is_some_and(|rst| rst <= until);
        let clear = open.since == 0 && ledger.begins_with_syn() && self.ledger.talks[open.talk].is_plausible();
        let recent = begun.clone().rev().take(KNOWN);
        let surely = clear && !rst && self.is_alone(open) && {
            recent.filter(|begun| begun.sure).any(|begun| range.contains(&begun.position))
        };
        [begun.clone().any(|begun| range.contains(&begun.position)), surely]
    }

    /// Whether what waits behind `start` may have reached a limit: one segment may be several chunks, each of which costs
    /// 128 octets at the least.
    fn may_be_full(&self, ledger: &SideLedger, start: Position, until: usize) -> bool {
        const CHUNKS: Position = 3;
        let waits = ledger.records.iter().filter(|r| r.record <= until && r.len > 0 && r.position + r.len > start);
        let (records, octets) = waits.fold((0, 0), |(records, octets), r| (records + 1, octets + r.len));
        CHUNKS * records > self.config.max_stream_chunks.into()
            || octets + CHUNKS * records * 128 > self.config.max_stream_queue.into()
            || self.config.max_total_queue != Config::default().max_total_queue
    }

    /// Row 7: nobody has denied the hole since it opened, and it has been open for the timeout. An RST denies nothing: a
    /// refused one changes nothing, and another gives up every hole.
    fn judge_timeout(
        &self,
        open: &Open,
        ledger: &SideLedger,
        declared: &Declared,
        start: Position,
        end: Position,
    ) -> bool {
        let beyond = ledger.records.iter().filter(|r| r.record > open.since && r.record <= declared.record);
        // Behind the cut-off only a FIN says that something is missing before it; where that is, nobody knows before the start.
        let wall = start - Position::from(declared.gap.offset) + self.wall();
        let first = beyond.clone().find(|r| r.occupies && ledger.syn.or(ledger.syn_ack).is_none());
        let begins = first.map_or(0, |first| first.time + self.config.pickup_hold);
        let is_fin = |r: &SideRecord| ledger.fin.is_some_and(|(record, _)| record == r.record);
        let opens = |r: &&SideRecord| r.position < wall || r.time < begins || is_fin(r);
        let opened = beyond.clone().filter(opens);
        let opened = opened.clone().find(|r| r.occupies && r.position + r.len >= end && r.position >= start);
        let Some(opened) = opened else { return false };
        let before = ledger.octets.within(0, start).map(|(.., record)| record).max().unwrap_or(0);
        let since = opened.record.max(before);
        let later = |ack: &&Ack| ack.record > since && ack.record <= declared.record && !ack.of_rst;
        let denied = ledger.acks.iter().filter(later).any(|ack| ack.position <= start);
        let doubtful = !ledger.all_plausible() || self.ledger.talks[open.talk].spoilt;
        self.elapsed(declared, opened.time) >= self.config.gap_timeout && (!denied || doubtful)
    }

    /// Every octet that was captured in time is in the output.
    fn judge_captured(&self, open: &Open, ledger: &SideLedger, stream: &OpenStream, base: Position) -> Option<String> {
        if self.ledger.talks[open.talk].shed {
            // What is copied because the kernel has forgotten that is not wanted.
            return None;
        }
        for (from, until, record) in ledger.octets.all().filter(|span| span.2 > open.since) {
            if !self.must_take(open, ledger, record) {
                continue;
            }
            if from < base && self.below_start_is_wrong(open, ledger, record) {
                return Some(format!("{from}..{until}, captured by record {record}, lies below the start"));
            }
            let end = base + stream.edge;
            let until = until.min(base + self.wall());
            if until <= from {
                continue;
            }
            if until > end
                && ledger.ambiguous.within(end, until).map(|(from, until, _)| until - from).sum::<Position>()
                    < until - end.max(from)
            {
                return Some(format!("{from}..{until}, captured by record {record}, lies beyond the end at {end}"));
            }
            let (from, until) = (from.max(base) - base, until.max(base) - base);
            let left: Position = stream.missing.within(from, until).map(|(from, until, _)| until - from).sum();
            let doubtful = ledger.ambiguous.within(base + from, base + until).next().is_some();
            if left > 0 && self.config.late == Late::Fill && !doubtful && stream.knows_all_gaps(&self.config) {
                return Some(format!(
                    "{left} octets of {from}..{until} came late with record {record}, and are missing"
                ));
            }
        }
        None
    }

    /// What the peer acknowledged beyond the last octet is the trailing gap; one octet may be the FIN's.
    fn judge_tail(
        &self,
        open: &Open,
        ended: Ended,
        ledger: &SideLedger,
        stream: &OpenStream,
        base: Position,
        trailing: Option<Gap>,
    ) -> Option<String> {
        let rst = self.ledger.talks[open.talk].real_rst.unwrap_or(usize::MAX);
        let acks = ledger.acks.iter().rfind(|ack| ack.record < rst);
        let acked = acks.map_or(0, |ack| ack.believable);
        let fin = ledger.fin.filter(|(record, _)| *record < rst);
        let acked = fin.map_or_else(|| acked.saturating_sub(1), |(_, fin)| acked.min(fin));
        // Of several each may have gone a window further than the one before it.
        let most = acks.map_or(acked, |ack| acked.max(ack.reach.saturating_sub(1)));
        let reach = base + stream.edge + trailing.map_or(0, |gap| Position::from(gap.len));
        let talk = &self.ledger.talks[open.talk];
        // Accounts that begin anew may not know that it was.
        let shed = talk.shed && !talk.spoilt && open.since == 0 && self.is_alone(open);
        if let Some(gap) = trailing {
            let start = base + Position::from(gap.offset);
            let end = start + Position::from(gap.len);
            let (cut, _) = ledger.cut_within(start, end, |_| true, rst);
            let (_, surely) = ledger.cut_within(start, end, |record| self.must_take(open, ledger, record), rst);
            let [perhaps, surely_fragmented] = self.is_fragmented(open, ledger, start..end, self.ledger.record);
            let legal = match gap.cause {
                GapCause::Cutoff => !shed && stream.edge == self.wall(),
                GapCause::Shed => talk.shed || !self.is_alone(open),
                // One tail has one cause, though part of it may have been lost otherwise.
                GapCause::Snaplen => {
                    let bare = self.bare_within(open, ledger, start..end, base, self.ledger.record);
                    cut + bare > 0 || ledger.ambiguous.within(start, end).next().is_some()
                }
                _ if surely == Position::from(gap.len) => false,
                // Its count comes with records, and what it has cost a stream is also told when asked for.
                GapCause::RingFull => {
                    let hurt = || self.is_hurt_ahead(open, ledger, self.ledger.record, self.now());
                    self.ledger.refused > 0 || ledger.lost[0] > 0 || hurt()
                }
                GapCause::Fragment => perhaps,
                _ if surely_fragmented => false,
                GapCause::NotCaptured => true,
                GapCause::Close | GapCause::Timeout | GapCause::Limit => ledger.fin.is_some(),
                GapCause::DiskSlow | GapCause::DiskFull | GapCause::WriteError => false,
            };
            let legal = legal && (!shed || gap.cause == GapCause::Shed);
            let legal = legal && (stream.edge < self.wall() || matches!(gap.cause, GapCause::Cutoff | GapCause::Shed));
            if Position::from(gap.offset) != stream.edge || !legal {
                return Some(format!("{gap:?} trails it, {cut} octets of it cut off by the snaplen"));
            }
        }
        // Of a connection that was shed the kernel withholds also what speaks of octets that it has not seen, and does not tell.
        let heard = if talk.shed { acked.min(ledger.sent_end[1]) } else { acked };
        if let Some(why) = self.judge_size(open, ledger, ended, fin.map(|(_, fin)| fin), [heard, most], reach) {
            return Some(why);
        }
        let started = stream.edge > 0 || stream.bases.is_some();
        (started && heard > reach && ledger.all_plausible() && !talk.spoilt)
            .then(|| format!("ends at {reach}, but {heard} octets were acknowledged"))
    }

    /// Where octets are withheld their number is known all the same: up to the FIN, or as far as was sent or acknowledged.
    fn judge_size(
        &self,
        open: &Open,
        ledger: &SideLedger,
        ended: Ended,
        fin: Option<Position>,
        [heard, acked]: [Position; 2],
        reach: Position,
    ) -> Option<String> {
        let talk = &self.ledger.talks[open.talk];
        let begins = open.since == 0 && ledger.begins_with_syn() && self.is_alone(open);
        let clear = begins && talk.is_plausible() && talk.real_rst.is_none() && !talk.spoilt && !self.small_limits();
        if !clear || !(talk.shed || self.config.cutoff.is_some() && reach >= self.wall()) {
            return None;
        }
        // What closes it with a record says what was sent up to that.
        let [told, sent] = ledger.sent_end;
        let [told, sent] = if ledger.withheld || self.scenario.kernel.is_none() { [told, sent] } else { [0, sent] };
        let told = if matches!(ended, Ended::Fin | Ended::Rst) { told } else { sent };
        // A FIN may have been near only what was acknowledged and not told.
        let unheard = ledger.fin.is_some_and(|(record, _)| talk.shed && ledger.is_unheard(record));
        let least = told.max(heard);
        let [least, most] =
            fin.map_or_else(|| [least, sent.max(acked)], |fin| [if unheard { least } else { fin }, fin]);
        // A keep-alive's octet may have been taken for one that was sent.
        let most = most.max(ledger.probed_end());
        let most = if self.is_ahead() { Position::MAX } else { most };
        (!(least..=most).contains(&reach)).then(|| format!("ends at {reach}, and {least} to {most} octets were sent"))
    }

    /// Whether the octets of `record` have to be in the output, however strictly the contract is read.
    fn must_take(&self, open: &Open, ledger: &SideLedger, record: usize) -> bool {
        let talk = &self.ledger.talks[open.talk];
        let rst = talk.real_rst.unwrap_or(usize::MAX);
        // What corroborated it may have been withheld, and forgotten.
        let resumed = ledger.resumed.is_some_and(|first| record >= first) && !self.small_limits() && !talk.spoilt;
        let given_up = self.may_give_up_syn(open) && ledger.syn.or(ledger.syn_ack) == Some(record);
        let unheard = self.ledger.talks[open.talk].spoilt && ledger.is_unheard(record);
        record < rst && !given_up && !unheard && (resumed || ledger.implausible.is_none_or(|first| first > record))
    }

    /// Row 13: the start is the lowest number seen within the hold.
    fn below_start_is_wrong(&self, open: &Open, ledger: &SideLedger, record: usize) -> bool {
        let Some(first) = ledger.records.iter().find(|r| r.record > open.since && r.occupies) else { return false };
        let Some(this) = ledger.records.iter().find(|r| r.record == record) else { return false };
        let doubtful = first.len <= 1 || this.len <= 1;
        // Or it is the number that the peer's SYN-ACK acknowledged.
        let sides = &self.ledger.talks[open.talk].sides;
        let told = |side: &SideLedger| !std::ptr::eq(side, ledger) && side.syn_ack.is_some_and(|first| first < record);
        if sides.iter().any(told) {
            return false;
        }
        !doubtful && this.time < first.time + self.config.pickup_hold && !self.small_limits()
    }

    /// What the kernel may have told of by `time`, when the ring had come to `record`.
    fn passing_ahead(&self, record: usize, time: u64) -> impl Iterator<Item = &Record> {
        let until = time + self.scenario.kernel.map_or(0, |plan| plan.ahead);
        self.capture.records.iter().skip(record).take_while(move |record| record.time <= until)
    }

    /// What it may have told of by now.
    pub(crate) fn passes(&self) -> impl Iterator<Item = &Record> {
        self.passing_ahead(self.ledger.record, self.now())
    }

    /// Whether the kernel may have told of what the ring has cost a stream behind `record`.
    fn is_hurt_ahead(&self, open: &Open, ledger: &SideLedger, record: usize, time: u64) -> bool {
        let sides = &self.ledger.talks[open.talk].sides;
        self.passing_ahead(record, time).any(|Record { squeezed, packet, .. }| {
            *squeezed && packet.conversation == open.talk && std::ptr::eq(&sides[packet.from], ledger)
        })
    }

    /// Whether a packet belongs to a later conversation on the same endpoints.
    fn succeeds(&self, open: &Open, packet: &Packet) -> bool {
        let pair = |talk: usize| self.capture.talks[talk].pair;
        packet.conversation > open.talk && pair(packet.conversation) == pair(open.talk)
    }

    /// Between the time that something happened and a gap. Timers may run while the ledger's clock stands still.
    fn elapsed(&self, declared: &Declared, since: u64) -> u64 {
        declared.time.saturating_sub(since)
    }

    pub(crate) fn small_limits(&self) -> bool {
        !generous(&self.config)
    }
}

/// An accepted RST gives up every hole at once.
fn open_after_rst(checker: &Checker<'_>, open: &Open, record: usize) -> bool {
    checker.ledger.talks[open.talk].real_rst.is_some_and(|rst| rst <= record)
}
