//! Records: one line of JSON about one connection.

use std::iter;

use crate::{
    clock::Clock,
    reassembly::{
        ConnectionId, Direction, Ended, GAPS_LISTED, Gap, GapCause, Started, StreamSummary as CoreStream, Summary,
    },
    segment::{Endpoint, Origin, Timestamp},
    sink::text,
};

/// What names a connection and its files.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    pub(super) serial: u64,
    pub(super) start: Timestamp,
    pub(super) client: Endpoint,
    pub(super) server: Endpoint,
}

impl Identity {
    pub(super) fn new(connection: ConnectionId, summary: &Summary<'_>) -> Self {
        Self { serial: connection.serial, start: summary.start, client: summary.client, server: summary.server }
    }

    /// Where a direction comes from and where it goes.
    pub(super) const fn ends(&self, direction: Direction) -> (Endpoint, Endpoint) {
        match direction {
            Direction::ClientToServer => (self.client, self.server),
            Direction::ServerToClient => (self.server, self.client),
        }
    }
}

/// Stream octets that were lost between the core and the disk, for one reason.
#[derive(Clone, Debug, Default)]
pub(super) struct Loss {
    /// The first of them.
    gaps: Vec<Gap>,
    octets: u64,
}

impl Loss {
    pub(super) fn add(&mut self, offset: u64, len: u64, cause: GapCause) {
        self.octets += len;
        let listed = self.gaps.len();
        match self.gaps.last_mut() {
            Some(last) if last.offset + last.len == offset => last.len += len,
            _ if listed < GAPS_LISTED => self.gaps.push(Gap::new(offset, len, cause)),
            _ => {}
        }
    }

    fn cause(&self) -> Option<GapCause> {
        Some(self.gaps.first()?.cause)
    }
}

/// A line of the index before it is one.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) event: Kind,
    pub(super) identity: Identity,
    pub(super) end: Timestamp,
    started: Started,
    ended: Option<Ended>,
    origin: Origin,
    continues: Option<u64>,
    pub(super) streams: [StreamRecord; 2],
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Open,
    Update,
    Close,
}

/// The core's numbers of one direction, and what the shard lost of it on the way to the writer.
#[derive(Debug)]
pub(super) struct StreamRecord {
    pub(super) len: u64,
    delivered: u64,
    segments: u64,
    retransmitted: u64,
    out_of_order: u64,
    conflict: u64,
    late: u64,
    urgent: u64,
    ring_full: u64,
    gaps: Vec<Gap>,
    gap_totals: [u64; GapCause::ALL.len()],
    trailing_gap: Option<Gap>,
    loss: Loss,
}

impl Record {
    pub(super) fn new(event: Kind, connection: ConnectionId, summary: &Summary<'_>, losses: [Loss; 2]) -> Self {
        let [c2s, s2c] = losses;
        Self {
            event,
            identity: Identity::new(connection, summary),
            end: summary.end,
            started: summary.started,
            ended: summary.ended,
            origin: summary.origin,
            continues: summary.continues,
            streams: [StreamRecord::new(&summary.streams[0], c2s), StreamRecord::new(&summary.streams[1], s2c)],
        }
    }

    /// Memory as allocated.
    pub(super) fn size(&self) -> usize {
        let gaps: usize = self.streams.iter().map(|stream| stream.gaps.len() + stream.loss.gaps.len()).sum();
        size_of::<Self>() + gaps * size_of::<Gap>()
    }

    /// Appends the line to `out`. `files` holds, for each direction, the path and what the writer lost.
    pub(super) fn print(&self, out: &mut String, run: &Run<'_>, files: [FileRecord<'_>; 2]) {
        let Self { event, identity, end, started, ended, origin, continues, streams } = self;
        let event = match event {
            Kind::Open => "open",
            Kind::Update => "update",
            Kind::Close => "close",
        };
        for text in [r#"{"v":1,"event":""#, event, r#"","run":""#, run.name, r#"","id":""#] {
            out.push_str(text);
        }
        run.id(out, identity.serial);
        for (name, end) in [(r#"","client":{"ip":""#, identity.client), (r#"},"server":{"ip":""#, identity.server)] {
            out.push_str(name);
            text::ip(out, end.ip());
            out.push_str(r#"","port":"#);
            text::number(out, end.port);
        }
        out.push_str(r#"},"start":""#);
        text::time(out, run.clock.wall(identity.start));
        out.push_str(r#"","end":""#);
        text::time(out, run.clock.wall(*end));
        for text in [r#"","started":""#, started.name(), r#"","ended":"#] {
            out.push_str(text);
        }
        match ended {
            Some(ended) => ["\"", ended.name(), "\""].into_iter().for_each(|text| out.push_str(text)),
            None => out.push_str("null"),
        }
        for ((name, stream), file) in [r#","c2s":"#, r#","s2c":"#].into_iter().zip(streams).zip(files) {
            out.push_str(name);
            stream.print(out, file);
        }
        out.push_str(r#","vlan":"#);
        match origin.vlan {
            Some(vlan) => text::number(out, vlan),
            None => out.push_str("null"),
        }
        out.push_str(r#","interface":"#);
        match run.interfaces.get(origin.interface as usize) {
            Some(name) => text::format(out, format_args!("{}", serde_json::Value::from(name.as_str()))),
            None => out.push_str("null"),
        }
        field(out, r#","filter":"#, origin.generation.into());
        out.push_str(r#","continues":"#);
        match continues {
            Some(serial) => {
                out.push('"');
                run.id(out, *serial);
                out.push('"');
            }
            None => out.push_str("null"),
        }
        out.push_str("}\n");
    }
}

/// What all records of a sink have in common.
pub(super) struct Run<'a> {
    pub(super) name: &'a str,
    pub(super) shard: u32,
    pub(super) clock: Clock,
    pub(super) interfaces: &'a [String],
}

impl Run<'_> {
    /// Unique within the run. Shard and serial rather than something made of time and endpoints, because these need
    /// not be unique (a clock of milliseconds, endpoints used twice) and because `continues` is a serial.
    pub(super) fn id(&self, out: &mut String, serial: u64) {
        text::number(out, self.shard);
        out.push('-');
        text::number(out, serial);
    }
}

/// What the writer knows of one direction.
#[derive(Clone, Copy, Default)]
pub(super) struct FileRecord<'a> {
    pub(super) path: Option<&'a str>,
    pub(super) loss: Option<&'a Loss>,
}

impl StreamRecord {
    fn new(stream: &CoreStream<'_>, loss: Loss) -> Self {
        Self {
            len: stream.len,
            delivered: stream.delivered,
            segments: stream.segments,
            retransmitted: stream.retransmitted,
            out_of_order: stream.out_of_order,
            conflict: stream.conflict,
            late: stream.late,
            urgent: stream.urgent,
            ring_full: stream.ring_full,
            gaps: stream.gaps.to_vec(),
            gap_totals: stream.gap_totals,
            trailing_gap: stream.trailing_gap,
            loss,
        }
    }

    fn losses<'a>(&'a self, file: FileRecord<'a>) -> impl Iterator<Item = &'a Loss> + Clone {
        iter::once(&self.loss).chain(file.loss)
    }

    /// Octets by cause, of the core's gaps and of ours.
    pub(super) fn gap_totals(&self, file: FileRecord<'_>) -> [u64; GapCause::ALL.len()] {
        let mut totals = self.gap_totals;
        for loss in self.losses(file) {
            if let Some(cause) = loss.cause() {
                totals[cause as usize] += loss.octets;
            }
        }
        totals
    }

    /// The first gaps of the core's and ours, in order, touching ones of one cause as one, up to so many stretches.
    /// Each list holds the first of its own, so the first of them all are among them.
    fn gaps(&self, file: FileRecord<'_>) -> Vec<Gap> {
        let ours = self.losses(file).flat_map(|loss| &loss.gaps);
        let mut all: Vec<Gap> = self.gaps.iter().chain(ours).copied().collect();
        all.sort_by_key(|gap| gap.offset);
        all.dedup_by(|gap, before| {
            let touches = before.cause == gap.cause && before.offset + before.len == gap.offset;
            if touches {
                before.len += gap.len;
                before.late += gap.late;
            }
            touches
        });
        let (mut stretches, mut end) = (0, None);
        let listed = all.iter().take_while(|gap| {
            stretches += usize::from(end != Some(gap.offset));
            end = Some(gap.offset + gap.len);
            stretches <= STRETCHES_LISTED
        });
        let listed = listed.count();
        all.truncate(listed);
        all
    }

    fn print(&self, out: &mut String, file: FileRecord<'_>) {
        let bytes = self.delivered - self.losses(file).map(|loss| loss.octets).sum::<u64>().min(self.delivered);
        field(out, r#"{"bytes":"#, bytes);
        field(out, r#","segments":"#, self.segments);
        field(out, r#","retransmitted":"#, self.retransmitted);
        field(out, r#","out_of_order":"#, self.out_of_order);
        field(out, r#","conflict":"#, self.conflict);
        field(out, r#","late":"#, self.late);
        field(out, r#","urgent":"#, self.urgent);
        if self.ring_full > 0 {
            field(out, r#","ring_full":"#, self.ring_full);
        }
        out.push_str(r#","file":"#);
        match file.path {
            // Paths below the directory are made of digits and addresses: nothing in them needs escaping.
            Some(path) => ["\"", path, "\""].into_iter().for_each(|text| out.push_str(text)),
            None => out.push_str("null"),
        }
        out.push_str(r#","gaps":["#);
        let mut comma = "";
        for gap in self.gaps(file) {
            out.push_str(comma);
            print_gap(out, gap);
            comma = ",";
        }
        out.push_str(r#"],"gap_totals":{"#);
        comma = "";
        for (cause, octets) in GapCause::ALL.into_iter().zip(self.gap_totals(file)) {
            if octets > 0 {
                [comma, "\"", cause.name()].into_iter().for_each(|text| out.push_str(text));
                field(out, r#"":"#, octets);
                comma = ",";
            }
        }
        out.push_str(r#"},"trailing_gap":"#);
        match self.trailing_gap {
            Some(gap) => print_gap(out, gap),
            None => out.push_str("null"),
        }
        out.push('}');
    }
}

/// Stretches without octets that a record lists; touching gaps of different causes are one.
const STRETCHES_LISTED: usize = 256;

fn print_gap(out: &mut String, Gap { offset, len, cause, late }: Gap) {
    field(out, r#"{"offset":"#, offset);
    field(out, r#","len":"#, len);
    [r#","cause":""#, cause.name(), "\""].into_iter().for_each(|text| out.push_str(text));
    if late > 0 {
        field(out, r#","late":"#, late);
    }
    out.push('}');
}

fn field(out: &mut String, name: &str, value: u64) {
    out.push_str(name);
    text::number(out, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(offset: u64, len: u64, cause: GapCause) -> Gap {
        Gap::new(offset, len, cause)
    }

    #[test]
    fn gaps_of_the_core_and_losses_are_one_list() {
        use GapCause::{DiskFull, DiskSlow, Timeout};
        let core = [gap(10, 10, Timeout), gap(50, 10, Timeout), gap(70, 10, Timeout)];
        let mut gap_totals = [0; GapCause::ALL.len()];
        gap_totals[Timeout as usize] = 30;
        let stream = CoreStream { len: 100, delivered: 70, gaps: &core, gap_totals, ..CoreStream::default() };
        let (mut slow, mut full) = (Loss::default(), Loss::default());
        // The disk was full from 40 on; from 65 on there were no blocks; then a part of the first gap came late.
        full.add(40, 6, DiskFull);
        full.add(46, 4, DiskFull);
        full.add(60, 5, DiskFull);
        slow.add(65, 5, DiskSlow);
        slow.add(80, 20, DiskSlow);
        slow.add(20, 3, DiskSlow);
        let record = StreamRecord::new(&stream, slow);
        let file = FileRecord { path: None, loss: Some(&full) };
        let expected = [
            core[0],
            gap(20, 3, DiskSlow),
            gap(40, 10, DiskFull),
            core[1],
            gap(60, 5, DiskFull),
            gap(65, 5, DiskSlow),
            core[2],
            gap(80, 20, DiskSlow),
        ];
        assert_eq!(record.gaps(file), expected);
        let totals = record.gap_totals(file);
        assert_eq!([Timeout, DiskFull, DiskSlow].map(|cause| totals[cause as usize]), [30, 15, 28]);
        let mut line = String::new();
        record.print(&mut line, file);
        assert!(line.starts_with(r#"{"bytes":27,"#), "{line}");
    }

    #[test]
    fn lists_are_bounded_and_totals_exact() {
        let core: Vec<Gap> = (0..GAPS_LISTED as u64).map(|n| gap(n * 10, 5, GapCause::Limit)).collect();
        let stream = CoreStream { len: 2_000, delivered: 1_500, gaps: &core, ..CoreStream::default() };
        let mut loss = Loss::default();
        for n in 0..100 {
            loss.add(n * 10 + 6, 2, GapCause::WriteError);
        }
        let record = StreamRecord::new(&stream, loss);
        let gaps = record.gaps(FileRecord::default());
        assert_eq!(gaps.len(), STRETCHES_LISTED);
        assert!(gaps.is_sorted_by_key(|gap| gap.offset));
        assert_eq!(gaps[199], gap(996, 2, GapCause::WriteError));
        assert_eq!(record.gap_totals(FileRecord::default())[GapCause::WriteError as usize], 200);
    }

    #[test]
    fn gaps_that_touch_are_listed_as_one_stretch() {
        let pair = |n: u64| [gap(n * 10, 5, GapCause::Snaplen), gap(n * 10 + 5, 2, GapCause::NotCaptured)];
        let core: Vec<Gap> = (0..GAPS_LISTED as u64 / 2).flat_map(pair).collect();
        let stream = CoreStream { len: 9_000, delivered: 1_500, gaps: &core, ..CoreStream::default() };
        let record = StreamRecord::new(&stream, Loss::default());
        assert_eq!(record.gaps(FileRecord::default()), core);
    }
}
