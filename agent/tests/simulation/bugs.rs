//! Bugs planted between the reassembler and the checker, one at a time: a checker that lets one pass is no checker.

use std::collections::HashMap;

use agent::reassembly::{
    Config, ConnectionId, Direction, Ended, Event, Gap, GapCause, Overlap, Sink, Started, Stats, StreamSummary, Summary,
};

use crate::{checker::Checker, drive::Watch, packet::Position};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Bug {
    DropOctet,
    WrongOctet,
    ShiftOffset,
    SwapDirections,
    DeliverTwice,
    GapOverCaptured,
    LoseGap,
    EmptyGap,
    LongerGap,
    WrongCause,
    LateTwice,
    LateElsewhere,
    WrongLateOctet,
    LoseLate,
    WrongReason,
    LoseClose,
    CloseTwice,
    OpenTwice,
    SwapEnds,
    WrongContinues,
    WrongStarted,
    WrongSlot,
    WrongNumbers,
    WrongTotals,
    LoseListedGap,
    LongerTrailingGap,
    WrongSegments,
    WrongStart,
    WrongEnd,
    WrongConflict,
    WrongLate,
    WrongRetransmitted,
    WrongOutOfOrder,
    WrongUrgent,
    WrongLateOfGap,
    WrongUpdate,
    UpdateTwice,
    WrongRingFull,
    WrongTrailingCause,
    ShorterTrailingGap,
    BehindCutoff,
    ShedDelivers,
}

impl Bug {
    pub(crate) const ALL: [Self; 42] = [
        Self::DropOctet,
        Self::WrongOctet,
        Self::ShiftOffset,
        Self::SwapDirections,
        Self::DeliverTwice,
        Self::GapOverCaptured,
        Self::LoseGap,
        Self::EmptyGap,
        Self::LongerGap,
        Self::WrongCause,
        Self::LateTwice,
        Self::LateElsewhere,
        Self::WrongLateOctet,
        Self::LoseLate,
        Self::WrongReason,
        Self::LoseClose,
        Self::CloseTwice,
        Self::OpenTwice,
        Self::SwapEnds,
        Self::WrongContinues,
        Self::WrongStarted,
        Self::WrongSlot,
        Self::WrongNumbers,
        Self::WrongTotals,
        Self::LoseListedGap,
        Self::LongerTrailingGap,
        Self::WrongSegments,
        Self::WrongStart,
        Self::WrongEnd,
        Self::WrongConflict,
        Self::WrongLate,
        Self::WrongRetransmitted,
        Self::WrongOutOfOrder,
        Self::WrongUrgent,
        Self::WrongLateOfGap,
        Self::WrongUpdate,
        Self::UpdateTwice,
        Self::WrongRingFull,
        Self::WrongTrailingCause,
        Self::ShorterTrailingGap,
        Self::BehindCutoff,
        Self::ShedDelivers,
    ];

    /// Wherever it strikes. The others touch figures that are known only where the capture leaves no doubt.
    pub(crate) fn is_always_found(self) -> bool {
        !matches!(
            self,
            Self::WrongContinues
                | Self::LongerTrailingGap
                | Self::ShorterTrailingGap
                | Self::WrongRingFull
                | Self::LoseListedGap
                | Self::WrongStarted
                | Self::WrongSegments
                | Self::WrongStart
                | Self::WrongEnd
                | Self::WrongConflict
                | Self::WrongLate
                | Self::WrongRetransmitted
                | Self::WrongOutOfOrder
                | Self::WrongLateOfGap
                | Self::SwapEnds
                | Self::UpdateTwice
        )
    }
}

/// Changes the configuration behind the checker's back.
pub(crate) type Plant = fn(&mut Config);

/// Bugs of the reassembler itself, as far as a configuration that is not the promised one can play them.
pub(crate) const IMPATIENCE: [(&str, Plant); 6] = [
    ("no hold for acknowledged holes", |config| config.gap_hold = 0),
    ("no wait for unacknowledged holes", |config| config.gap_timeout = 0),
    ("connections closed while they talk", |config| config.idle_timeout = 1_000_000),
    ("no linger", |config| config.linger = 0),
    ("the last copy of queued octets wins", |config| config.overlap = Overlap::Last),
    ("a queue limit nobody set", |config| config.max_stream_chunks = 1),
];

/// Changes the counters behind the reassembler's back.
pub(crate) type Miscount = fn(&mut Stats);

/// Counters that end too high by one: the ledgers, and what the events say for themselves.
pub(crate) const MISCOUNTS: [(&str, Miscount); 14] = [
    ("segments", |stats| stats.segments += 1),
    ("payload", |stats| stats.payload += 1),
    ("delivered", |stats| stats.delivered += 1),
    ("duplicate", |stats| stats.duplicate += 1),
    ("late", |stats| stats.late += 1),
    ("implausible", |stats| stats.implausible += 1),
    ("urgent", |stats| stats.urgent += 1),
    ("queued", |stats| stats.queued += 1),
    ("gaps", |stats| stats.gaps += 1),
    ("gaps_filled", |stats| stats.gaps_filled += 1),
    ("gaps_trailing", |stats| stats.gaps_trailing += 1),
    ("opened", |stats| stats.opened += 1),
    ("closed", |stats| stats.closed += 1),
    ("delivered for duplicate", |stats| {
        let octet = u64::from(stats.duplicate > 0);
        (stats.duplicate, stats.delivered) = (stats.duplicate - octet, stats.delivered + 1);
    }),
];

/// Passes every event on, but for one.
pub(crate) struct Saboteur<'a> {
    checker: Checker<'a>,
    bug: Bug,
    /// Opportunities to let pass first.
    patience: u64,
    pub(crate) fired: bool,
    turned: HashMap<(u32, Direction), Gap>,
    /// An octet is to be delivered there that nobody wants.
    behind: Option<u64>,
}

impl<'a> Saboteur<'a> {
    pub(crate) fn new(checker: Checker<'a>, bug: Bug, patience: u64) -> Self {
        Self { checker, bug, patience, fired: false, turned: HashMap::new(), behind: None }
    }

    fn now(&mut self, bug: Bug) -> bool {
        if self.bug != bug || self.fired {
            return false;
        }
        self.fired = self.patience == 0;
        self.patience = self.patience.saturating_sub(1);
        self.fired
    }

    fn on_data(&mut self, id: ConnectionId, direction: Direction, offset: u64, bytes: &[u8]) {
        let data = |direction, offset, bytes| Event::Data { direction, offset, bytes };
        // One octet in two streams may be the same, and 1 in 256 is no proof.
        let telling = bytes.len() >= 8;
        if telling && self.now(Bug::DropOctet) {
            self.checker.event(id, data(direction, offset, &bytes[1..]));
        } else if self.now(Bug::WrongOctet) {
            let mut wrong = bytes.to_vec();
            wrong[bytes.len() / 2] ^= 1;
            self.checker.event(id, data(direction, offset, &wrong));
        } else if self.now(Bug::ShiftOffset) {
            self.checker.event(id, data(direction, offset + 1, bytes));
        } else if telling && self.now(Bug::SwapDirections) {
            self.checker.event(id, data(direction.reverse(), offset, bytes));
        } else if self.now(Bug::DeliverTwice) {
            self.checker.event(id, data(direction, offset, bytes));
            self.checker.event(id, data(direction, offset + bytes.len() as u64, bytes));
        } else if self.now(Bug::GapOverCaptured) {
            // Down to the closing numbers, so that only the truth can tell.
            let gap = Gap::new(offset, bytes.len() as u64, GapCause::NotCaptured);
            self.turned.insert((id.slot, direction), gap);
            self.checker.event(id, Event::Gap { direction, gap });
        } else {
            self.checker.event(id, data(direction, offset, bytes));
        }
    }

    fn on_gap(&mut self, id: ConnectionId, direction: Direction, mut gap: Gap) {
        if self.now(Bug::LoseGap) {
            return;
        }
        if self.now(Bug::EmptyGap) {
            self.checker.event(id, Event::Gap { direction, gap: Gap { len: 0, ..gap } });
        }
        if self.now(Bug::LongerGap) {
            gap.len += 1;
        }
        if self.now(Bug::WrongCause) {
            gap.cause = match gap.cause {
                GapCause::Snaplen => GapCause::NotCaptured,
                GapCause::Limit => GapCause::DiskFull,
                _ => GapCause::Snaplen,
            };
        }
        self.checker.event(id, Event::Gap { direction, gap });
    }

    fn on_late(&mut self, id: ConnectionId, direction: Direction, offset: u64, bytes: &[u8]) {
        let late = |offset, bytes| Event::Late { direction, offset, bytes };
        if self.now(Bug::LoseLate) {
            return;
        }
        if self.now(Bug::LateTwice) {
            self.checker.event(id, late(offset, bytes));
        }
        if self.now(Bug::LateElsewhere) {
            return self.checker.event(id, late(offset + 1, bytes));
        }
        if bytes.len() >= 2 && self.now(Bug::WrongLateOctet) {
            let mut wrong = bytes.to_vec();
            wrong[bytes.len() / 2] ^= 1;
            return self.checker.event(id, late(offset, &wrong));
        }
        self.checker.event(id, late(offset, bytes));
    }

    fn on_open(&mut self, id: ConnectionId, summary: &Summary<'_>) {
        let mut summary = *summary;
        if self.now(Bug::OpenTwice) {
            self.checker.event(id, Event::Open(&summary));
        }
        if self.now(Bug::SwapEnds) {
            (summary.client, summary.server) = (summary.server, summary.client);
        }
        if self.now(Bug::WrongContinues) {
            summary.continues = Some(summary.continues.map_or(99, |serial| serial + 1));
        }
        self.checker.event(id, Event::Open(&summary));
    }

    fn on_update(&mut self, id: ConnectionId, summary: &Summary<'_>) {
        let mut summary = *summary;
        if self.now(Bug::WrongUpdate) {
            summary.streams[1].len += 1;
        }
        self.checker.event(id, Event::Update(&summary));
        if self.now(Bug::UpdateTwice) {
            self.checker.event(id, Event::Update(&summary));
        }
    }

    fn on_close(&mut self, id: ConnectionId, summary: &Summary<'_>) {
        if self.now(Bug::LoseClose) {
            return;
        }
        let mut summary = *summary;
        if self.now(Bug::WrongReason) {
            summary.ended = match summary.ended {
                Some(Ended::Evicted) => Some(Ended::Finish),
                _ => Some(Ended::Evicted),
            };
        }
        if self.now(Bug::WrongStarted) {
            summary.started = match summary.started {
                Started::Handshake => Started::Midstream,
                Started::Midstream => Started::Handshake,
            };
        }
        if self.now(Bug::WrongStart) {
            summary.start = summary.start.after(1);
        }
        if self.now(Bug::WrongEnd) {
            summary.end = summary.end.after(1);
        }
        self.spoil(&mut summary.streams[0]);
        if let Some(offset) = self.behind.take() {
            self.checker.event(id, Event::Data { direction: Direction::ClientToServer, offset, bytes: &[0] });
        }
        let mut lists = summary.streams.map(|stream| stream.gaps.to_vec());
        for direction in Direction::BOTH {
            if let Some(gap) = self.turned.remove(&(id.slot, direction)) {
                let stream = &mut summary.streams[direction as usize];
                stream.delivered -= gap.len;
                stream.gap_totals[gap.cause as usize] += gap.len;
                lists[direction as usize].push(gap);
                lists[direction as usize].sort_by_key(|gap| gap.offset);
            }
        }
        if let Some(gap) = lists[0].first_mut()
            && self.now(Bug::WrongLateOfGap)
        {
            gap.late += 1;
        }
        for (stream, list) in summary.streams.iter_mut().zip(&lists) {
            stream.gaps = list;
        }
        self.checker.event(id, Event::Close(&summary));
        if self.now(Bug::CloseTwice) {
            self.checker.event(id, Event::Close(&summary));
        }
    }
}

impl Saboteur<'_> {
    /// Closing numbers.
    fn spoil(&mut self, stream: &mut StreamSummary<'_>) {
        stream.delivered += u64::from(self.now(Bug::WrongNumbers));
        stream.gap_totals[0] += u64::from(self.now(Bug::WrongTotals));
        stream.segments += u64::from(self.now(Bug::WrongSegments));
        stream.conflict += u64::from(self.now(Bug::WrongConflict));
        stream.late += u64::from(self.now(Bug::WrongLate));
        stream.retransmitted += u64::from(self.now(Bug::WrongRetransmitted));
        stream.urgent += u64::from(self.now(Bug::WrongUrgent));
        stream.out_of_order += u64::from(self.now(Bug::WrongOutOfOrder));
        if !stream.gaps.is_empty() && self.now(Bug::LoseListedGap) {
            stream.gaps = &stream.gaps[1..];
        }
        stream.ring_full += u64::from(stream.ring_full > 0 && self.now(Bug::WrongRingFull));
        let (end, wanted) = (stream.len, self.checker.wall());
        if let Some(gap) = &mut stream.trailing_gap {
            gap.len += u64::from(self.now(Bug::LongerTrailingGap));
            let withheld = matches!(gap.cause, GapCause::Cutoff | GapCause::Shed);
            if withheld && gap.len > 1 && self.now(Bug::ShorterTrailingGap) {
                gap.len -= 1;
            }
            if withheld && self.now(Bug::WrongTrailingCause) {
                gap.cause = if gap.cause == GapCause::Shed { GapCause::Cutoff } else { GapCause::DiskFull };
            }
            if gap.cause == GapCause::Cutoff && Position::from(end) == wanted && self.now(Bug::BehindCutoff) {
                self.behind = Some(end);
            }
            if gap.cause == GapCause::Shed && self.now(Bug::ShedDelivers) {
                self.behind = Some(end);
            }
        }
    }
}

impl Sink for Saboteur<'_> {
    fn event(&mut self, mut id: ConnectionId, event: Event<'_>) {
        match event {
            Event::Open(summary) => self.on_open(id, summary),
            Event::Data { direction, offset, bytes } => {
                if self.now(Bug::WrongSlot) {
                    id.slot += 1;
                }
                self.on_data(id, direction, offset, bytes);
            }
            Event::Gap { direction, gap } => self.on_gap(id, direction, gap),
            Event::Late { direction, offset, bytes } => self.on_late(id, direction, offset, bytes),
            Event::Update(summary) => self.on_update(id, summary),
            Event::Close(summary) => self.on_close(id, summary),
        }
    }
}

impl<'a> Watch<'a> for Saboteur<'a> {
    fn checker(&mut self) -> &mut Checker<'a> {
        &mut self.checker
    }
}
