//! What a run has to say at its end, and whether it adds up.

use std::{
    fmt::{self, Display},
    time::Duration,
};

use agent_common::counter::Counter;

use crate::shard::Totals;

/// Everything counted in one run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    pub source: Source,
    pub totals: Totals,
    /// Connections in the kernel's flow table at the end, and those that were taken out of it.
    pub flows_spared: u64,
    /// Most unread octets that the kernel saw in a ring, and octets of that ring; it does not look at each record.
    pub ring_level_max: u64,
    pub ring_size: u32,
    /// How often the filter was changed; always 0 in a replay.
    pub filter_changes: u64,
    pub elapsed: Duration,
}

/// Where frames came from, and how many it says there were.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// The kernel's counters, read after the last record.
    Kernel([u64; Counter::ALL.len()]),
    /// Frames in the capture files.
    Files(u64),
}

impl Default for Source {
    fn default() -> Self {
        Self::Files(0)
    }
}

/// One equation of the two ledgers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Equation {
    pub ledger: &'static str,
    pub left: (&'static str, u64),
    pub right: Vec<(&'static str, u64)>,
}

impl Equation {
    pub fn holds(&self) -> bool {
        self.right.iter().try_fold(0_u64, |sum, &(_, term)| sum.checked_add(term)) == Some(self.left.1)
    }
}

impl Display for Equation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, value) = self.left;
        write!(f, "{}: {value} {name} =", self.ledger)?;
        let mut sign = ' ';
        for (name, value) in self.right.iter().filter(|(_, value)| *value > 0) {
            write!(f, "{}{value} {name}", if sign == ' ' { " " } else { " + " })?;
            sign = '+';
        }
        if sign == ' ' { write!(f, " 0") } else { Ok(()) }
    }
}

impl Report {
    /// Both ledgers, as equations between terms that were each counted at their own place.
    pub fn ledgers(&self) -> Vec<Equation> {
        let Totals { frames, fragments, reassembly, sink } = &self.totals;
        let (source, refused) = match self.source {
            Source::Kernel(counters) => {
                let count = |counter: Counter| counters[counter as usize];
                let refused = vec![
                    ("dropped by a full ring", count(Counter::RingFull)),
                    ("unreadable", count(Counter::Unreadable)),
                    ("ACKs withheld", count(Counter::WithheldAcks)),
                    ("withheld behind the cut-off", count(Counter::WithheldCutoff)),
                    ("of connections shed", count(Counter::ShedFrames)),
                ];
                (("matched", count(Counter::Matched)), refused)
            }
            Source::Files(frames) => (("in the files", frames), vec![]),
        };
        vec![
            Equation {
                ledger: "frames",
                left: source,
                right: std::iter::once(("read", frames.read)).chain(refused).collect(),
            },
            Equation {
                ledger: "frames",
                left: ("read", frames.read),
                right: vec![
                    ("segments", frames.segments),
                    ("not TCP", frames.not_tcp),
                    ("malformed", frames.malformed),
                    ("fragments", frames.fragments),
                    ("filtered again", frames.filtered),
                    ("of a wrong checksum", frames.bad_checksum),
                    ("dropped by a full mailbox", frames.mailbox_full),
                    ("bad records", frames.bad),
                ],
            },
            Equation {
                ledger: "frames",
                left: ("segments", frames.segments),
                right: vec![("reassembled", reassembly.segments)],
            },
            Equation {
                ledger: "frames",
                left: ("fragments", frames.fragments),
                right: vec![
                    ("put together", fragments.joined),
                    ("duplicate", fragments.duplicate),
                    ("overlapping", fragments.overlapping),
                    ("timed out", fragments.timeout),
                    ("dropped at a limit", fragments.limit),
                    ("left at the end", fragments.unfinished),
                ],
            },
            Equation {
                ledger: "bytes",
                left: ("captured", frames.payload),
                right: vec![
                    ("delivered", reassembly.delivered),
                    ("duplicate", reassembly.duplicate),
                    ("conflicting", reassembly.conflict),
                    ("below start", reassembly.below_start),
                    ("late", reassembly.late),
                    ("keep-alive", reassembly.probe),
                    ("implausible", reassembly.implausible),
                    ("after close", reassembly.after_close),
                    ("in RST", reassembly.rst_payload),
                    ("without handshake", reassembly.no_handshake),
                    ("refused by strict checks", reassembly.strict),
                    ("behind the cut-off", reassembly.cutoff),
                    ("queued", reassembly.queued),
                    ("of a wrong checksum", frames.bad_checksum_payload),
                ],
            },
            Equation {
                ledger: "bytes",
                left: ("delivered", reassembly.delivered),
                right: vec![
                    ("written", sink.written),
                    ("digested", sink.digested),
                    ("lost to a slow disk", sink.disk_slow),
                    ("lost to a full disk", sink.disk_full),
                    ("lost to write errors", sink.write_error),
                ],
            },
            Equation {
                ledger: "connections",
                left: ("opened", reassembly.opened),
                right: vec![("recorded", sink.records), ("records lost", sink.records_lost)],
            },
            Equation {
                ledger: "streams",
                left: ("whose bytes and gaps are not their length", sink.records_unbalanced),
                right: vec![],
            },
        ]
    }

    /// Everything counted, by name: one object for each part, and the ledgers.
    pub fn to_json(&self) -> serde_json::Value {
        let Totals { frames, fragments, reassembly, sink } = &self.totals;
        let source = match self.source {
            Source::Kernel(counters) => {
                let named = Counter::ALL.iter().map(|&counter| (counter.name(), counters[counter as usize]));
                let mut named: std::collections::BTreeMap<_, _> = named.collect();
                named.insert("flows_evicted", self.flows_evicted(&counters));
                named.insert("shed_unheard", shed_unheard(&counters));
                named.insert("ring_level_max", self.ring_level_max);
                named.insert("ring_size", self.ring_size.into());
                serde_json::json!({ "kernel": named })
            }
            Source::Files(frames) => serde_json::json!({ "files": { "frames": frames } }),
        };
        let ledgers: Vec<_> = self
            .ledgers()
            .iter()
            .map(|equation| {
                let right: Vec<_> =
                    equation.right.iter().map(|(name, value)| serde_json::json!([name, value])).collect();
                let (name, value) = equation.left;
                serde_json::json!({
                    "ledger": equation.ledger, "left": [name, value], "right": right, "balances": equation.holds(),
                })
            })
            .collect();
        serde_json::json!({
            "source": source,
            "frames": frames,
            "fragments": fragments,
            "reassembly": reassembly,
            "sink": sink,
            "missing": self.missing(),
            "filter_changes": self.filter_changes,
            "elapsed_seconds": self.elapsed.as_secs_f64(),
            "ledgers": ledgers,
            "balances": self.imbalances().is_empty(),
        })
    }

    /// Connections whose place in the kernel's flow table others needed.
    fn flows_evicted(&self, counters: &[u64; Counter::ALL.len()]) -> u64 {
        counters[Counter::FlowsCreated as usize].saturating_sub(self.flows_spared)
    }

    /// Octets that are known to have been sent and are in no file.
    fn missing(&self) -> u64 {
        let Totals { reassembly, sink, .. } = &self.totals;
        let gaps = reassembly.gaps - reassembly.gaps_filled + reassembly.gaps_trailing;
        gaps + sink.disk_slow + sink.disk_full + sink.write_error
    }

    /// The equations that do not hold.
    pub fn imbalances(&self) -> Vec<Equation> {
        self.ledgers().into_iter().filter(|equation| !equation.holds()).collect()
    }
}

/// The summary, in the manner of tcpdump: a line for each thing that happened.
impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals { frames, fragments, reassembly, sink } = &self.totals;
        match self.source {
            Source::Kernel(counters) => {
                let count = |counter: Counter| counters[counter as usize];
                writeln!(f, "{:>14} frames seen by the kernel", count(Counter::Seen))?;
                writeln!(f, "{:>14} frames matched by the filter", count(Counter::Matched))?;
                writeln!(f, "{:>14} frames captured", frames.read)?;
                writeln!(f, "{:>14} frames dropped by a full ring", count(Counter::RingFull))?;
                let size = self.ring_size;
                line(f, self.ring_level_max, &format!("bytes waiting in a ring of {size} at the most"))?;
                line(f, count(Counter::Unreadable), "frames dropped that the kernel could not read")?;
                line(f, count(Counter::WithheldAcks), "frames with an ACK alone, counted and not copied")?;
                line(f, count(Counter::WithheldCutoff), "frames behind the cut-off, counted and not copied")?;
                line(f, count(Counter::ShedFrames), "frames of connections shed, counted and not copied")?;
                line(f, count(Counter::ShedConnections), "connections shed: a ring was too full when they began")?;
                line(f, shed_unheard(&counters), "of them without a record: no frame of them found room in a ring")?;
                line(f, self.flows_evicted(&counters), "connections that the kernel forgot: its flow table was full")?;
                line(f, count(Counter::Malformed), "frames too short for their headers, not matched")?;
                line(f, count(Counter::Cut), "frames cut by the snaplen")?;
                line(f, self.filter_changes, "changes of the filter")?;
            }
            Source::Files(count) => {
                writeln!(f, "{count:>14} frames in the files")?;
                line(f, frames.cut, "frames cut by the snaplen")?;
            }
        }
        line(f, frames.not_tcp, "frames not TCP")?;
        line(f, frames.malformed, "frames malformed")?;
        line(f, fragments.joined, "fragments put together with the one that completed their datagram")?;
        line(f, fragments.duplicate, "fragments seen before")?;
        line(f, fragments.overlapping, "fragments dropped: others of their datagram contradict them")?;
        line(f, fragments.timeout, "fragments dropped: the rest of their datagram did not come in time")?;
        line(f, fragments.limit, "fragments dropped: too many were waiting")?;
        line(f, fragments.unfinished, "fragments left at the end")?;
        line(f, frames.filtered, "frames refused by the filter")?;
        line(f, frames.bad_checksum, "segments with a wrong checksum, dropped")?;
        line(f, frames.mailbox_full, "segments dropped on their way from one shard to another")?;
        line(f, frames.bad, "records not of this program's kernel half")?;
        line(f, frames.badlen, "segments whose IP header claims more than was there")?;
        line(f, frames.clients_forgotten, "connections whose client was forgotten")?;

        writeln!(f, "{:>14} connections", reassembly.opened)?;
        match sink.digest {
            None => writeln!(f, "{:>14} bytes delivered to {} files", sink.written, sink.files)?,
            Some(digest) => {
                let (bytes, streams) = (sink.digested, sink.digested_streams);
                writeln!(f, "{bytes:>14} bytes delivered, of {streams} streams with the digest {digest:016x}")?;
            }
        }
        writeln!(f, "{:>14} bytes missing (gaps)", self.missing())?;
        line(f, reassembly.gaps_cutoff, "of them behind the cut-off")?;
        line(f, reassembly.gaps_shed, "of them of connections shed")?;
        line(f, sink.disk_slow, "of them because the disk was too slow")?;
        line(f, sink.disk_full, "of them because the disk was full")?;
        line(f, sink.write_error, "of them because of write errors")?;
        line(f, reassembly.ring_full, "bytes of streams, retransmitted ones included, dropped by a full ring")?;
        line(f, reassembly.cutoff, "bytes captured behind the cut-off, not kept")?;
        line(f, reassembly.duplicate, "bytes retransmitted")?;
        line(f, reassembly.conflict, "bytes retransmitted with other values")?;
        line(f, reassembly.late, "bytes too late for their gap")?;
        line(f, reassembly.below_start, "bytes before the start of their stream")?;
        line(f, reassembly.implausible, "bytes of implausible segments")?;
        line(f, reassembly.after_close, "bytes after the end of their connection")?;
        line(f, reassembly.probe, "bytes of keep-alive probes")?;
        line(f, reassembly.rst_payload, "bytes in RST segments")?;
        line(f, reassembly.no_handshake, "bytes of connections without a handshake, refused")?;
        line(f, reassembly.strict, "bytes of segments that the strict checks refused")?;
        line(f, reassembly.refused_fsm, "segments that do not fit the state of their connection, refused")?;
        line(f, reassembly.refused_options, "segments beyond MSS or window, refused")?;
        line(f, reassembly.duplicate_frames, "frames captured twice")?;
        line(f, reassembly.urgent, "segments with urgent data, kept in line")?;
        line(f, reassembly.orphans, "segments of unknown connections")?;
        line(f, reassembly.rst_implausible, "RST segments that nobody can have believed")?;
        line(f, reassembly.reopened, "RST segments that their receiver ignored")?;
        line(f, reassembly.syn_unconfirmed, "SYN segments on open connections that nothing confirmed")?;
        line(f, reassembly.clock_steps, "steps of the clock")?;
        line(f, reassembly.limit_stream_queue, "times a stream's queue was full")?;
        line(f, reassembly.limit_total_queue, "times the queues of all streams were full")?;
        line(f, reassembly.limit_connections, "connections evicted: the table was full")?;
        line(f, reassembly.limit_linger, "closed connections forgotten early")?;
        line(f, reassembly.limit_gaps, "gaps too many to remember")?;
        line(f, sink.streams_stopped, "streams stopped: the write buffer was full")?;
        line(f, sink.records_lost, "records lost")?;
        line(f, sink.notes_lost, "open and update lines lost")?;
        line(f, sink.files_left, "files left in open/")?;
        for equation in self.imbalances() {
            writeln!(f, "does not balance: {equation}")?;
        }
        Ok(())
    }
}

/// Connections that were shed and of which no record tells.
fn shed_unheard(counters: &[u64; Counter::ALL.len()]) -> u64 {
    counters[Counter::ShedConnections as usize].saturating_sub(counters[Counter::ShedAnnounced as usize])
}

/// A line that is there only when there is something to say.
fn line(f: &mut fmt::Formatter<'_>, value: u64, what: &str) -> fmt::Result {
    if value == 0 { Ok(()) } else { writeln!(f, "{value:>14} {what}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters() -> [u64; Counter::ALL.len()] {
        let mut counters = [0; Counter::ALL.len()];
        for (counter, count) in [(Counter::Seen, 10), (Counter::Matched, 5), (Counter::RingFull, 1)] {
            counters[counter as usize] = count;
        }
        counters
    }

    fn report() -> Report {
        let mut report = Report { source: Source::Kernel(counters()), ..Report::default() };
        report.totals.frames.read = 4;
        report.totals.frames.segments = 3;
        report.totals.frames.not_tcp = 1;
        report.totals.reassembly.segments = 3;
        report
    }

    #[test]
    fn balances_when_every_frame_is_accounted_for() {
        assert_eq!(report().imbalances(), []);
    }

    #[test]
    fn a_lost_record_is_noticed() {
        let mut report = report();
        report.totals.frames.read -= 1;
        report.totals.frames.segments -= 1;
        report.totals.reassembly.segments -= 1;
        let lost: Vec<String> = report.imbalances().iter().map(ToString::to_string).collect();
        assert_eq!(lost, ["frames: 5 matched = 3 read + 1 dropped by a full ring"]);
    }

    #[test]
    fn what_the_kernel_withheld_is_accounted_for() {
        let mut counters = counters();
        let withheld = [Counter::WithheldAcks, Counter::WithheldCutoff, Counter::ShedFrames];
        for (counter, count) in withheld.into_iter().zip([3, 5, 7]) {
            counters[counter as usize] = count;
            counters[Counter::Matched as usize] += count;
        }
        let report = Report { source: Source::Kernel(counters), ..report() };
        assert_eq!(report.imbalances(), []);
        for counter in withheld {
            counters[counter as usize] -= 1;
            assert_eq!(Report { source: Source::Kernel(counters), ..report }.imbalances().len(), 1, "{counter:?}");
            counters[counter as usize] += 1;
        }
    }

    #[test]
    fn a_lost_fragment_is_noticed() {
        let mut report = report();
        report.totals.frames.segments -= 1;
        report.totals.reassembly.segments -= 1;
        report.totals.frames.fragments += 1;
        let lost: Vec<String> = report.imbalances().iter().map(ToString::to_string).collect();
        assert!(lost.contains(&"frames: 1 fragments = 0".to_owned()), "{lost:?}");
        report.totals.fragments.timeout += 1;
        assert!(!report.imbalances().iter().any(|equation| equation.left.0 == "fragments"));
    }

    #[test]
    fn a_segment_with_a_wrong_checksum_has_its_place_in_both_ledgers() {
        let mut report = report();
        let frames = &mut report.totals.frames;
        (frames.segments, frames.bad_checksum) = (2, 1);
        (frames.payload, frames.bad_checksum_payload) = (100, 100);
        report.totals.reassembly.segments = 2;
        assert_eq!(report.imbalances(), []);
    }

    #[test]
    fn a_lost_octet_is_noticed() {
        let mut report = report();
        report.totals.frames.payload = 1;
        assert!(report.to_string().ends_with("does not balance: bytes: 1 captured = 0\n"));
    }
}
