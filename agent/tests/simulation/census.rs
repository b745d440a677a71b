//! How often each situation was reached. What is not reached is not tested.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use agent::reassembly::{Ended, GapCause, Started, Stats};

#[derive(Clone, Debug, Default)]
pub(crate) struct Census {
    pub(crate) seeds: u64,
    counts: BTreeMap<Cow<'static, str>, Count>,
    /// Conversations by the segments that were recorded of them.
    lengths: BTreeMap<usize, u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    times: u64,
    seeds: u64,
}

impl Census {
    pub(crate) fn add(&mut self, what: &'static str) {
        self.add_many(what, 1);
    }

    pub(crate) fn add_many(&mut self, what: impl Into<Cow<'static, str>>, count: u64) {
        if count > 0 {
            self.counts.entry(what.into()).or_default().times += count;
        }
    }

    pub(crate) fn add_counters(&mut self, stats: &Stats) {
        for (name, value) in counters(stats) {
            self.add_many(counter(&name), value);
        }
    }

    /// All of it was reached with one seed.
    pub(crate) fn of_one_seed(mut self) -> Self {
        self.seeds = 1;
        self.counts.values_mut().for_each(|count| count.seeds = 1);
        self
    }

    pub(crate) fn add_conversation(&mut self, segments: usize) {
        *self.lengths.entry(segments).or_default() += 1;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.seeds += other.seeds;
        for (what, count) in &other.counts {
            let known = self.counts.entry(what.clone()).or_default();
            known.times += count.times;
            known.seeds += count.seeds;
        }
        for (segments, count) in &other.lengths {
            *self.lengths.entry(*segments).or_default() += count;
        }
    }

    /// What was reached with too few seeds. In a small run chance has its share: three standard deviations are granted.
    pub(crate) fn scarce(&self) -> Vec<String> {
        let mut scarce = Vec::new();
        for (what, per_million) in expected() {
            let mean = per_million as f64 * self.seeds as f64 / 1e6;
            let (least, found) = ((mean - 3.0 * mean.sqrt()).max(0.0) as u64, self.get(&what).seeds);
            if found < least {
                scarce.push(format!("{what}: {found}, at least {least} ({per_million} per million seeds)"));
            }
        }
        for (what, per_thousand) in SHARES {
            let mean = per_thousand * self.get("streams").times as f64 / 1e3;
            let (least, found) = ((mean - 3.0 * mean.sqrt()).max(0.0) as u64, self.get(what).times);
            if found < least {
                scarce.push(format!("{what}: {found}, at least {least} ({per_thousand} of 1,000 streams)"));
            }
        }
        if self.median() < MEDIAN {
            scarce.push(format!("the median conversation has {} segments, at least {MEDIAN}", self.median()));
        }
        scarce
    }

    /// Segments of the median conversation.
    fn median(&self) -> usize {
        let half = self.lengths.values().sum::<u64>() / 2;
        let mut below = 0;
        let mut reaches_half = |count: &u64| {
            below += count;
            below > half
        };
        self.lengths.iter().find(|(_, count)| reaches_half(count)).map_or(0, |(segments, _)| *segments)
    }

    fn get(&self, what: &str) -> Count {
        self.counts.get(what).copied().unwrap_or_default()
    }
}

impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>12}  seeds", self.seeds)?;
        writeln!(f, "{:>12} {:>9}", "times", "in seeds")?;
        writeln!(f, "{:>12}  segments in the median conversation", self.median())?;
        let mut counts = self.counts.clone();
        for (what, _) in expected() {
            counts.entry(what).or_default();
        }
        counts.iter().try_for_each(|(what, count)| writeln!(f, "{:>12} {:>9}  {what}", count.times, count.seeds))
    }
}

/// Every line that has to be there, and with how many of a million seeds.
fn expected() -> Vec<(Cow<'static, str>, u64)> {
    let mut lines: Vec<_> = ROWS.iter().map(|(what, per_million)| (Cow::from(*what), *per_million)).collect();
    lines.extend(
        GapCause::ALL.into_iter().filter(|cause| comes_from_the_core(*cause)).map(|it| (cause(it).into(), LEAST)),
    );
    lines.extend(Ended::ALL.map(|it| (ended(it).into(), LEAST)));
    lines.extend([Started::Handshake, Started::Midstream].map(|it| (started(it).into(), LEAST)));
    let moves = counters(&Stats::default()).into_iter().filter(|(name, _)| !IMMOBILE.contains(&name.as_str()));
    lines.extend(moves.map(|(name, _)| (counter(&name).into(), LEAST)));
    lines
}

pub(crate) fn cause(cause: GapCause) -> String {
    format!("gap {}", cause.name())
}

pub(crate) fn ended(ended: Ended) -> String {
    format!("ended {}", ended.name())
}

pub(crate) fn started(started: Started) -> String {
    format!("started {}", started.name())
}

fn counter(name: &str) -> String {
    format!("counter {name}")
}

/// By the names of their fields, so that none can be forgotten.
fn counters(stats: &Stats) -> Vec<(String, u64)> {
    let serde_json::Value::Object(fields) = serde_json::to_value(stats).expect("counters are numbers") else {
        panic!("counters have names")
    };
    fields.into_iter().filter_map(|(name, value)| Some((name, value.as_u64()?))).collect()
}

/// Exhaustive, so that a new cause cannot be forgotten. Of the others the contract's and the sink's own tests know.
fn comes_from_the_core(cause: GapCause) -> bool {
    match cause {
        GapCause::NotCaptured
        | GapCause::RingFull
        | GapCause::Timeout
        | GapCause::Limit
        | GapCause::Close
        | GapCause::Fragment
        | GapCause::Snaplen
        | GapCause::Cutoff
        | GapCause::Shed => true,
        GapCause::DiskSlow | GapCause::DiskFull | GapCause::WriteError => false,
    }
}

/// Of a million seeds, for whatever has no number of its own.
const LEAST: u64 = 1_000;

/// What is queued is delivered in the end.
const IMMOBILE: [&str; 1] = ["queued"];

/// Segments recorded of the median conversation.
const MEDIAN: usize = 200;

/// Of 1,000 streams with octets.
const SHARES: [(&str, f64); 2] = [("streams that cross 2^32", 10.0), ("streams beyond 4 GiB", 1.0)];

/// Rows of the byte contract that concern the core, and limits. Of a million seeds.
const ROWS: &[(&str, u64)] = &[
    ("clean conversations", 90_000),
    ("row 01 in order", 500_000),
    ("row 02 wrap", 400_000),
    ("row 02 wrap with retransmission", 70_000),
    ("row 03 out of order", 400_000),
    ("row 04 overlap", 400_000),
    ("row 04 retransmitted", 400_000),
    ("row 05 conflict", 20_000),
    ("row 06 acknowledged hole", 100_000),
    ("row 07 hole that nobody fills", 100_000),
    ("row 06a late", 20_000),
    ("row 06a counted", 20_000),
    ("row 08 one-sided", 10_000),
    ("row 09 FIN", 500_000),
    ("row 09 empty FIN out of order", 100_000),
    ("row 10 RST", 200_000),
    ("row 10 forged RST", 9_000),
    ("row 10 RST with text", 50_000),
    ("row 10 RST that was ignored", 1_000),
    ("row 11 reuse", 300_000),
    ("row 11 forged SYN", 8_000),
    ("row 12 after the close", 400_000),
    ("row 13 picked up", 100_000),
    ("row 14 SYN with data", 200_000),
    ("row 14 SYN data refused", 30_000),
    ("row 14 SYN data partly taken", 20_000),
    ("row 15 simultaneous open", 70_000),
    ("row 15 split handshake", 40_000),
    ("row 16 keep-alive", 200_000),
    ("row 16 keep-alive with an octet", 100_000),
    ("row 17 window probe", 20_000),
    ("row 18 urgent", 200_000),
    ("row 20 snaplen", 70_000),
    ("row 21 far", 50_000),
    ("row 21 forged ACK", 5_000),
    ("row 21 forged data", 5_000),
    ("row 21 corroborated", 20_000),
    ("row 22 fragments joined", 5_000),
    ("row 22 fragment seen twice", 5_000),
    ("row 22 fragments overlap", 5_000),
    ("row 22 fragment lost", 5_000),
    ("row 27 bare ACK withheld", 200_000),
    ("row 27 asked", 150_000),
    ("row 27 cut off", 10_000),
    ("row 27 shed", 10_000),
    ("row 27 lost to the ring", 20_000),
    ("row 27 stream hurt by the ring", 10_000),
    ("row 27 flow forgotten", 10_000),
    ("row 29 frame seen twice", 20_000),
    ("row 29 interface is key", 5_000),
    ("row 29 VLAN is key", 5_000),
    ("row 25 clock step that is none", 10_000),
    ("row 23 opens nothing", 4_000),
    ("row 24 max_connections", 4_000),
    ("row 24 max_linger", 9_000),
    ("row 24 max_stream_queue", 10_000),
    ("row 24 max_stream_chunks", 10_000),
    ("row 24 max_total_queue", 10_000),
    ("row 25 clock step", 40_000),
    ("row 25 silence", 200_000),
    ("row 26 continues", 50_000),
    ("row 26 half-closed for long", 60_000),
    ("decoded IPv4", 40_000),
    ("decoded IPv6", 40_000),
    ("updates", 100_000),
    ("gap trailing", 100_000),
];
