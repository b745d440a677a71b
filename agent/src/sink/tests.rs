//! Scripted events in, files and records out: on a plain directory, a full one, a frozen one.

use std::{
    collections::HashMap,
    env, fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{self, Command},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use super::{Directory, Gaps, Names, OnFull, Output, Stats, block::Pool};
use crate::{
    clock::Clock,
    reassembly::{
        ConnectionId, Direction, Ended, Event, GAPS_LISTED, Gap, GapCause, Sink, Started, StreamSummary, Summary,
    },
    segment::{Endpoint, Origin, Timestamp},
};

use Direction::{ClientToServer as C2S, ServerToClient as S2C};

/// 2026-11-20T07:30:05.123456789Z
const START: Timestamp = Timestamp(1_795_159_805_123_456_789);
const SECOND: u64 = 1_000_000_000;

/// A folder of its own, gone at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("xdpflow-sink-{}-{number}", process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn output(&self, change: impl FnOnce(&mut Output)) -> (Output, Reports) {
        output(&self.0.join("out"), change)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

type Reports = Arc<Mutex<Vec<String>>>;

fn output(dir: &Path, change: impl FnOnce(&mut Output)) -> (Output, Reports) {
    let reports = Reports::default();
    let report = {
        let reports = reports.clone();
        Arc::new(move |line: &str| reports.lock().unwrap().push(line.to_owned()))
    };
    let mut output = Output::new(dir.to_owned(), "run".to_owned(), Clock::replay(), report);
    output.on_full = OnFull::Wait;
    change(&mut output);
    (output, reports)
}

/// What the core does on this side of the sink: events that keep its promises, and summaries that add up.
struct Feed {
    sink: Directory,
    open: HashMap<u32, Connection>,
    serial: u64,
}

#[derive(Clone)]
struct Connection {
    id: ConnectionId,
    client: Endpoint,
    server: Endpoint,
    start: Timestamp,
    streams: [Stream; 2],
}

#[derive(Clone, Default)]
struct Stream {
    len: u64,
    gaps: Vec<Gap>,
}

impl Feed {
    fn new(output: Output) -> Self {
        Self { sink: Directory::for_shards(&output).unwrap().remove(0), open: HashMap::new(), serial: 0 }
    }

    fn open(&mut self, slot: u32) {
        let octets = slot.to_be_bytes();
        self.open_as(slot, Endpoint::v4([10, octets[1], octets[2], octets[3]], 51_244));
    }

    fn open_as(&mut self, slot: u32, client: Endpoint) {
        let connection = Connection {
            id: ConnectionId { slot, serial: self.serial },
            client,
            server: Endpoint::v4([192, 0, 2, 1], 80),
            start: START.after(self.serial),
            streams: Default::default(),
        };
        self.serial += 1;
        self.open.insert(slot, connection);
        self.summary(slot, None, |summary| Event::Open(summary));
    }

    fn data(&mut self, slot: u32, direction: Direction, len: usize) {
        let connection = self.open.get_mut(&slot).unwrap();
        let stream = &mut connection.streams[direction as usize];
        let offset = stream.len;
        stream.len += len as u64;
        let bytes = content(slot, direction, offset, len);
        self.sink.event(connection.id, Event::Data { direction, offset, bytes: &bytes });
    }

    fn gap(&mut self, slot: u32, direction: Direction, len: u64) {
        let connection = self.open.get_mut(&slot).unwrap();
        let stream = &mut connection.streams[direction as usize];
        let gap = Gap::new(stream.len, len, GapCause::NotCaptured);
        stream.len += len;
        stream.gaps.push(gap);
        self.sink.event(connection.id, Event::Gap { direction, gap });
    }

    /// Octets for the middle of a gap.
    fn late(&mut self, slot: u32, direction: Direction, offset: u64, len: usize) {
        let connection = self.open.get_mut(&slot).unwrap();
        let gaps = &mut connection.streams[direction as usize].gaps;
        let (at, end) = (gaps.iter().rposition(|gap| gap.offset < offset).unwrap(), offset + len as u64);
        let rest = Gap { offset: end, len: gaps[at].offset + gaps[at].len - end, ..gaps[at] };
        gaps[at].len = offset - gaps[at].offset;
        gaps.insert(at + 1, rest);
        let bytes = content(slot, direction, offset, len);
        self.sink.event(connection.id, Event::Late { direction, offset, bytes: &bytes });
    }

    fn update(&mut self, slot: u32) {
        self.summary(slot, None, |summary| Event::Update(summary));
    }

    fn close(&mut self, slot: u32) -> Connection {
        self.summary(slot, Some(Ended::Fin), |summary| Event::Close(summary));
        self.open.remove(&slot).unwrap()
    }

    fn summary(&mut self, slot: u32, ended: Option<Ended>, event: impl for<'a> Fn(&'a Summary<'a>) -> Event<'a>) {
        let connection = &self.open[&slot];
        let streams = connection.streams.each_ref().map(|stream| {
            let mut gap_totals = [0; GapCause::ALL.len()];
            for gap in &stream.gaps {
                gap_totals[gap.cause as usize] += gap.len;
            }
            StreamSummary {
                len: stream.len,
                delivered: stream.len - gap_totals.iter().sum::<u64>(),
                segments: 3,
                gaps: &stream.gaps[..stream.gaps.len().min(GAPS_LISTED)],
                gap_totals,
                trailing_gap: None,
                ..StreamSummary::default()
            }
        });
        let summary = Summary {
            client: connection.client,
            server: connection.server,
            start: connection.start,
            end: connection.start.after(2 * SECOND),
            started: Started::Handshake,
            ended,
            origin: Origin { interface: 1, vlan: Some(7), generation: 3, ..Origin::default() },
            continues: (slot == 9).then_some(4),
            streams,
        };
        self.sink.event(connection.id, event(&summary));
    }

    fn finish(self) -> Stats {
        let stats = self.sink.finish();
        assert!(stats.balanced(), "{stats:#?}");
        stats
    }
}

/// What a stream carries at an offset.
fn content(slot: u32, direction: Direction, offset: u64, len: usize) -> Vec<u8> {
    let octet = |at: u64| (at.wrapping_mul(0x9e37_79b9).rotate_right(11) as u8) ^ slot as u8 ^ direction as u8 | 1;
    (offset..offset + len as u64).map(octet).collect()
}

/// What the file of a stream must hold.
fn expected(slot: u32, direction: Direction, stream: &Stream, gaps: Gaps) -> Vec<u8> {
    let mut bytes = content(slot, direction, 0, stream.len as usize);
    for gap in stream.gaps.iter().rev() {
        let range = gap.offset as usize..(gap.offset + gap.len) as usize;
        match gaps {
            Gaps::Skip => drop(bytes.drain(range)),
            Gaps::Hole | Gaps::Zero => bytes[range].fill(0),
            Gaps::Mark => drop(bytes.splice(range, format!("\n<<gap {}>>\n", gap.len).into_bytes())),
        }
    }
    bytes
}

/// All lines of all days.
fn records(dir: &Path) -> Vec<Value> {
    let mut records = Vec::new();
    for day in fs::read_dir(dir).unwrap() {
        let Ok(index) = fs::read_to_string(day.unwrap().path().join("connections.jsonl")) else { continue };
        assert!(index.ends_with('\n'));
        records.extend(index.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
    }
    records
}

fn closed(dir: &Path) -> Vec<Value> {
    records(dir).into_iter().filter(|record| record["event"] == "close").collect()
}

fn entries(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

#[test]
fn every_kind_of_gap_in_every_mode() {
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Data(usize),
        Gap(u64),
        Late(u64, usize),
    }
    use Step::{Data, Gap, Late};

    let check = |steps: &[Step], gaps: Gaps, stream_memory: usize| {
        let scratch = Scratch::new();
        let (output, _) = scratch.output(|output| {
            output.gaps = gaps;
            output.stream_memory = stream_memory;
        });
        let dir = output.dir.clone();
        let mut feed = Feed::new(output);
        feed.open(5);
        for &step in steps {
            match step {
                Data(len) => feed.data(5, S2C, len),
                Gap(len) => feed.gap(5, S2C, len),
                Late(..) if !gaps.have_room() => {}
                Late(offset, len) => feed.late(5, S2C, offset, len),
            }
        }
        let stream = feed.close(5).streams[1].clone();
        let stats = feed.finish();
        let what = format!("{steps:?} {gaps:?} {stream_memory} {stats:#?}");

        let record = &closed(&dir)[0]["s2c"];
        let missing: u64 = stream.gaps.iter().map(|gap| gap.len).sum();
        assert_eq!(record["bytes"], stream.len - missing, "{what}");
        let total = record["gap_totals"].get("not-captured").map_or(0, |total| total.as_u64().unwrap());
        assert_eq!(total, missing, "{what}");
        let want: Vec<_> = (stream.gaps.iter())
            .map(|gap| json!({"offset": gap.offset, "len": gap.len, "cause": "not-captured"}))
            .collect();
        assert_eq!(record["gaps"], json!(want), "{what}");
        assert_eq!(stats.written, stats.handed, "{what}");
        assert_eq!(entries(&dir.join("open")), 0, "{what}");
        if stats.written == 0 {
            assert_eq!(record["file"], Value::Null, "{what}");
            assert_eq!((stats.files, entries(&dir)), (0, 2), "{what}");
            return;
        }
        let path = dir.join(record["file"].as_str().unwrap());
        assert!(fs::read(&path).unwrap() == expected(5, S2C, &stream, gaps), "{what}");
        let blocks = fs::metadata(&path).unwrap().blocks() * 512;
        match gaps {
            // Trailing zeros, too, take up space.
            Gaps::Zero => assert!(blocks >= stream.len, "{what}: {blocks}"),
            // Of a gap longer than any block of a file system, most is a hole.
            Gaps::Hole if missing >= 1 << 20 => assert!(blocks < stream.len - missing / 2, "{what}: {blocks}"),
            _ => {}
        }
    };

    let scripts: &[&[Step]] = &[
        &[],
        &[Data(1)],
        &[Data(10), Data(300), Data(5_000), Data(70_000), Data(3)],
        &[Gap(10)],
        &[Gap(10), Data(10)],
        &[Data(10), Gap(20), Data(30)],
        &[Data(10), Gap(20)],
        &[Data(10), Gap(1 << 20), Data(10)],
        &[Data(300_000), Gap(2 << 20), Data(600_000), Gap(1 << 20)],
        &[Data(10), Gap(20), Data(30), Late(12, 3), Data(7)],
        &[Data(10), Gap(20), Late(15, 3), Late(25, 2), Late(12, 1), Data(7)],
        &[Data(10), Gap(2 << 20), Late(1_000_000, 100_000), Data(400_000), Late(500_000, 7), Gap(9)],
        &[Gap(30), Late(10, 5)],
        &[Data(1_448), Gap(1_448), Data(200_000), Late(1_500, 1_000), Data(1_448), Gap(5), Data(1), Gap(5)],
    ];
    for &script in scripts {
        for gaps in [Gaps::Hole, Gaps::Skip, Gaps::Zero, Gaps::Mark] {
            for stream_memory in [0, 64 << 10, 8 << 20] {
                check(script, gaps, stream_memory);
            }
        }
    }
}

#[test]
fn a_record_says_all_there_is() {
    let scratch = Scratch::new();
    let (output, _) = scratch.output(|output| {
        output.stream_memory = 4 << 20;
        output.interfaces = vec!["eth0".to_owned(), "tap\"1\\".to_owned()];
    });
    let dir = output.dir.clone();
    let mut feed = Feed::new(output);
    feed.open(9);
    feed.data(9, C2S, 10);
    feed.update(9);
    feed.gap(9, C2S, 5);
    feed.close(9);
    let stats = feed.finish();
    assert_eq!((stats.records, stats.notes, stats.files), (1, 2, 1));

    let name = "073005.123456789-10.0.0.9.51244-192.0.2.1.80";
    let empty = json!({
        "bytes": 0, "segments": 3, "retransmitted": 0, "out_of_order": 0, "conflict": 0, "late": 0, "urgent": 0, "file": null,
        "gaps": [], "gap_totals": {}, "trailing_gap": null,
    });
    let mut c2s = empty.clone();
    let mut record = json!({
        "v": 1, "event": "open", "run": "run", "id": "0-0",
        "client": {"ip": "10.0.0.9", "port": 51_244}, "server": {"ip": "192.0.2.1", "port": 80},
        "start": "2026-11-20T07:30:05.123456789Z", "end": "2026-11-20T07:30:07.123456789Z",
        "started": "handshake", "ended": null, "c2s": c2s, "s2c": empty,
        "vlan": 7, "interface": "tap\"1\\", "filter": 3, "continues": "0-4",
    });
    let lines = records(&dir);
    assert_eq!(lines[0], record);
    c2s["bytes"] = json!(10);
    (record["event"], record["c2s"]) = (json!("update"), c2s.clone());
    assert_eq!(lines[1], record);
    c2s["file"] = json!(format!("2026-11-20/0730/{name}"));
    c2s["gaps"] = json!([{"offset": 10, "len": 5, "cause": "not-captured"}]);
    c2s["gap_totals"] = json!({"not-captured": 5});
    (record["event"], record["ended"], record["c2s"]) = (json!("close"), json!("fin"), c2s);
    assert_eq!(lines[2], record);

    let mode = |path: &str| fs::metadata(dir.join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&format!("2026-11-20/0730/{name}")), 0o600);
    assert_eq!(mode("2026-11-20/connections.jsonl"), 0o600);
    for folder in ["", "open", "2026-11-20", "2026-11-20/0730"] {
        assert_eq!(mode(folder), 0o700, "{folder}");
    }
}

#[test]
fn tcpflow_names_and_names_that_are_taken() {
    let scratch = Scratch::new();
    let (output, _) = scratch.output(|output| {
        output.names = Names::Tcpflow;
        output.stream_memory = 64 << 10;
    });
    let dir = output.dir.clone();
    let base = "010.000.000.001.51244-192.000.002.001.00080";
    fs::create_dir_all(&dir).unwrap();
    for taken in ["c1", "c2"] {
        fs::write(dir.join(format!("{base}{taken}")), "somebody else's").unwrap();
    }
    let mut feed = Feed::new(output);
    for len in [10, 20, 300_000] {
        feed.open(1);
        feed.data(1, C2S, len);
        feed.data(1, S2C, 1);
        feed.close(1);
    }
    let stats = feed.finish();
    assert_eq!((stats.files, stats.files_grown, stats.names_taken), (6, 1, 2));
    let files: Vec<_> = closed(&dir).iter().map(|record| record["c2s"]["file"].as_str().unwrap().to_owned()).collect();
    assert_eq!(files, [base.to_owned(), format!("{base}c1.run-0-1"), format!("{base}c2.run-0-2")]);
    for (file, len) in files.iter().zip([10, 20, 300_000]) {
        assert!(fs::read(dir.join(file)).unwrap() == content(1, C2S, 0, len));
    }
    for taken in ["c1", "c2"] {
        assert_eq!(fs::read(dir.join(format!("{base}{taken}"))).unwrap(), b"somebody else's");
    }
    assert!(dir.join("192.000.002.001.00080-010.000.000.001.51244c2").exists());
}

#[test]
fn octets_do_not_stay_in_memory_for_longer_than_they_may() {
    let scratch = Scratch::new();
    let (output, _) = scratch.output(|output| output.write_age = 30 * SECOND);
    let dir = output.dir.clone();
    let mut feed = Feed::new(output);
    for slot in 0..3 {
        feed.sink.tick(START.after(u64::from(slot) * 10 * SECOND));
        feed.open(slot);
        feed.data(slot, C2S, 100);
    }
    feed.sink.tick(START.after(45 * SECOND));
    feed.data(0, C2S, 11);
    feed.update(0);
    feed.update(2);
    // A sink that is not finished, like a process that dies: what is old enough is there all the same.
    let stats = feed.sink.stats_of_now();
    assert_eq!(stats.early_age, 2);
    assert_eq!(stats.written, 200);
    assert_eq!(entries(&dir.join("open")), 2);
    let lines = records(&dir);
    let file = lines[3]["c2s"]["file"].as_str().unwrap();
    assert_eq!((&lines[3]["event"], &lines[3]["c2s"]["bytes"]), (&json!("update"), &json!(111)));
    assert_eq!(file, "open/073005.123456789-10.0.0.0.51244-192.0.2.1.80");
    assert!(fs::read(dir.join(file)).unwrap() == content(0, C2S, 0, 100));
    assert_eq!(lines[4]["c2s"]["file"], Value::Null);

    for slot in 0..3 {
        feed.close(slot);
    }
    let stats = feed.finish();
    assert_eq!((stats.files, stats.files_grown, stats.written), (3, 2, 311));
    let (output, reports) = scratch.output(|_| {});
    Feed::new(output).finish();
    assert_eq!(reports.lock().unwrap().len(), 0);
}

#[test]
fn a_start_says_what_was_cut_short() {
    let scratch = Scratch::new();
    let (output, _) = scratch.output(|output| output.stream_memory = 0);
    let mut feed = Feed::new(output);
    for slot in 0..2 {
        feed.open(slot);
        feed.data(slot, S2C, 200_000);
    }
    // The core closes all connections at its end. A process that dies does not.
    let stats = feed.finish();
    assert_eq!((stats.files, stats.files_left, stats.written), (0, 2, 400_000));

    let (output, reports) = scratch.output(|_| {});
    let dir = output.dir.clone();
    Feed::new(output).finish();
    assert!(reports.lock().unwrap()[0].contains("open/ holds 2 streams"), "{reports:?}");
    assert_eq!(entries(&dir.join("open")), 2);
}

#[test]
fn a_small_pool_is_enough_and_never_exceeded() {
    let scratch = Scratch::new();
    let (output, _) = scratch.output(|output| {
        output.buffer = 0;
        output.queue = 64 << 10;
    });
    let dir = output.dir.clone();
    let mut feed = Feed::new(output);
    let slots = 2_000;
    for slot in 0..slots {
        feed.open(slot);
    }
    // In all four times the pool, and no stream ever closes while it is short of blocks.
    for round in 1..=4 {
        for slot in 0..slots {
            feed.data(slot, C2S, 131 * round);
        }
    }
    feed.data(0, S2C, 5_000_000);
    for slot in 0..slots {
        feed.close(slot);
    }
    let stats = feed.finish();
    assert!(stats.early_pool > 0, "{stats:#?}");
    assert!(stats.buffer_high <= Pool::MIN as u64, "{stats:#?}");
    assert_eq!(stats.streams_stopped + stats.disk_slow + stats.records_lost + stats.notes_lost, 0, "{stats:#?}");
    assert_eq!((stats.records, stats.files), (u64::from(slots), u64::from(slots) + 1));
    for record in closed(&dir) {
        let slot: u32 = record["id"].as_str().unwrap().strip_prefix("0-").unwrap().parse().unwrap();
        let file = fs::read(dir.join(record["c2s"]["file"].as_str().unwrap())).unwrap();
        assert!(file == content(slot, C2S, 0, 1_310), "{slot}");
    }
}

#[test]
fn shards_share_the_pool_and_a_shard_that_waits_is_served() {
    let scratch = Scratch::new();
    let (output, _) = scratch.output(|output| {
        output.buffer = 0;
        output.stream_memory = 256 << 10;
        output.shards = 3;
    });
    let dir = output.dir.clone();
    let shards = Directory::for_shards(&output).unwrap();
    // Each could hold all of the pool, and writes more than it holds.
    let threads: Vec<_> = (0..)
        .zip(shards)
        .map(|(shard, sink)| {
            thread::spawn(move || {
                let mut feed = Feed { sink, open: HashMap::new(), serial: 0 };
                let slots = shard * 100..shard * 100 + 40;
                slots.clone().for_each(|slot| feed.open(slot));
                for _ in 0..10 {
                    slots.clone().for_each(|slot| feed.data(slot, S2C, 10_000));
                }
                slots.for_each(|slot| drop(feed.close(slot)));
                feed.finish()
            })
        })
        .collect();
    for thread in threads {
        let stats = thread.join().unwrap();
        assert!(stats.buffer_high <= Pool::MIN as u64, "{stats:#?}");
        assert_eq!((stats.written, stats.files, stats.streams_stopped), (40 * 100_000, 40, 0), "{stats:#?}");
    }
    let closed = closed(&dir);
    assert_eq!(closed.len(), 120);
    for record in closed {
        let client: std::net::Ipv4Addr = record["client"]["ip"].as_str().unwrap().parse().unwrap();
        let slot = u32::from(client) & 0x00ff_ffff;
        let file = fs::read(dir.join(record["s2c"]["file"].as_str().unwrap())).unwrap();
        assert!(file == content(slot, S2C, 0, 100_000), "{slot}");
    }
}

#[test]
fn more_long_streams_than_files_may_be_open() {
    let scratch = Scratch::new();
    let (output, _) = scratch.output(|output| {
        output.max_open_files = 16;
        output.buffer = 8 << 20;
    });
    let dir = output.dir.clone();
    let mut feed = Feed::new(output);
    for slot in 0..5_000 {
        feed.open(slot);
    }
    for _ in 0..4 {
        for slot in 0..5_000 {
            feed.data(slot, S2C, 1_448);
        }
    }
    let files = || fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
    let growing = files().filter(|file| file.parent() == Some(&dir.join("open"))).count();
    assert!(growing <= 17, "{growing} files open");
    for slot in 0..5_000 {
        feed.close(slot);
    }
    let stats = feed.finish();
    assert!(stats.files_evicted > 0 && stats.files_grown > 4_000, "{stats:#?}");
    assert_eq!((stats.files, stats.disk_slow, stats.errors), (5_000, 0, 0), "{stats:#?}");
    for record in closed(&dir) {
        let slot: u32 = record["id"].as_str().unwrap().strip_prefix("0-").unwrap().parse().unwrap();
        let file = fs::read(dir.join(record["s2c"]["file"].as_str().unwrap())).unwrap();
        assert!(file == content(slot, S2C, 0, 4 * 1_448), "{slot}");
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_a_write_error() {
    let scratch = Scratch::new();
    let (output, reports) = scratch.output(|output| output.stream_memory = 64 << 10);
    let dir = output.dir.clone();
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("2026-11-20"), "in the way").unwrap();
    let mut feed = Feed::new(output);
    for (slot, len) in [(0, 100), (1, 100), (2, 200_000)] {
        feed.open(slot);
        feed.data(slot, C2S, len);
        feed.close(slot);
    }
    let stats = feed.finish();
    assert_eq!((stats.write_error, stats.written), (200, 200_000));
    assert_eq!((stats.records, stats.records_lost, stats.notes_lost), (0, 3, 3));
    assert_eq!((stats.files, stats.files_left), (0, 1));
    let reports = reports.lock().unwrap();
    assert_eq!(reports.len(), 3, "{reports:#?}");
    // Records wait for one another, so which failure is met first is open.
    for what in ["append a record to connections.jsonl", "write a new file", "move a file out of open/"] {
        assert!(reports.iter().any(|it| it.starts_with(&format!("{what}: not a directory ("))), "{reports:#?}");
    }
}

#[test]
fn an_index_that_is_removed_is_made_again() {
    let scratch = Scratch::new();
    let (output, _) = scratch.output(|_| {});
    let dir = output.dir.clone();
    let mut feed = Feed::new(output);
    feed.open(0);
    feed.open(1);
    feed.sink.stats_of_now();
    fs::remove_dir_all(dir.join("2026-11-20")).unwrap();
    feed.close(0);
    feed.sink.stats_of_now();
    assert_eq!(records(&dir).len(), 1);
    fs::remove_dir_all(&dir).unwrap();
    feed.close(1);
    let stats = feed.finish();
    assert_eq!((stats.records, stats.records_lost), (1, 1));
}

#[test]
fn with_sync_it_is_the_same() {
    let scratch = Scratch::new();
    let (output, _) = scratch.output(|output| {
        output.sync = true;
        output.stream_memory = 64 << 10;
    });
    let dir = output.dir.clone();
    let mut feed = Feed::new(output);
    for (slot, len) in [(0, 100), (1, 200_000), (2, 0)] {
        feed.open(slot);
        feed.data(slot, C2S, len);
        feed.close(slot);
    }
    let stats = feed.finish();
    assert_eq!((stats.files, stats.files_grown, stats.records, stats.errors), (2, 1, 3, 0));
    for (record, (slot, len)) in closed(&dir).iter().zip([(0, 100), (1, 200_000)]) {
        let file = fs::read(dir.join(record["c2s"]["file"].as_str().unwrap())).unwrap();
        assert!(file == content(slot, C2S, 0, len));
    }
}

#[test]
fn bad_arguments_are_refused_in_one_line() {
    let scratch = Scratch::new();
    let (output, _) = scratch.output(|output| output.run = "../x".to_owned());
    let error = Directory::for_shards(&output).err().unwrap();
    assert_eq!(error.to_string(), "run name \"../x\": only letters, digits, - and _ fit into names");
    fs::write(scratch.0.join("out"), "a file").unwrap();
    let error = Directory::for_shards(&scratch.output(|_| {}).0).err().unwrap();
    assert!(error.to_string().starts_with("create /"), "{error}");
}

/// A file system of its own, unmounted at the end.
struct Mount(PathBuf);

impl Mount {
    fn new(path: PathBuf, arguments: &[&str]) -> Self {
        fs::create_dir_all(&path).unwrap();
        run(Command::new("mount").args(arguments).arg(&path));
        Self(path)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "needs root: mounts a tmpfs of 1 MiB and fills it"]
fn a_full_disk_ends_streams_and_not_the_run() {
    let scratch = Scratch::new();
    let mount = Mount::new(scratch.0.join("full"), &["-t", "tmpfs", "-o", "size=1m", "tmpfs"]);
    let (output, reports) = output(&mount.0.join("out"), |output| output.stream_memory = 64 << 10);
    let dir = output.dir.clone();
    let mut feed = Feed::new(output);
    feed.open(0);
    feed.data(0, C2S, 500_000);
    feed.close(0);
    feed.open(1);
    feed.data(1, S2C, 1_000);
    feed.data(1, C2S, 900_000);
    feed.gap(1, C2S, 1_000);
    feed.data(1, C2S, 100_000);
    feed.open(2);
    feed.data(2, C2S, 70_000);
    feed.close(2);
    let stats = feed.sink.stats_of_now();
    assert!(stats.disk_full > 0, "{stats:#?}");
    // Room comes back: what is new is written again, what was hurt stays hurt.
    fs::remove_file(dir.join(closed(&dir)[0]["c2s"]["file"].as_str().unwrap())).unwrap();
    feed.data(1, C2S, 100);
    let hurt = feed.close(1).streams[0].clone();
    feed.open(3);
    feed.data(3, C2S, 100_000);
    feed.close(3);
    let stats = feed.finish();
    assert_eq!((stats.write_error, stats.disk_slow), (0, 0), "{stats:#?}");
    let reports = reports.lock().unwrap();
    let full = reports.iter().filter(|line| line.contains("no space left on device (streams end here")).count();
    assert_eq!(full, 1, "{reports:#?}");

    let closed = closed(&dir);
    let record = |serial: u64| closed.iter().find(|record| record["id"] == format!("0-{serial}").as_str());
    let record_of_hurt = &record(1).unwrap()["c2s"];
    let bytes = record_of_hurt["bytes"].as_u64().unwrap();
    let total = record_of_hurt["gap_totals"]["disk-full"].as_u64().unwrap();
    assert_eq!(bytes + total + 1_000, hurt.len);
    let file = fs::read(dir.join(record_of_hurt["file"].as_str().unwrap())).unwrap();
    assert_eq!(file.len() as u64, hurt.len);
    assert!(file[..bytes as usize] == content(1, C2S, 0, bytes as usize));
    let gaps = json!([
        {"offset": bytes, "len": 900_000 - bytes, "cause": "disk-full"},
        {"offset": 900_000, "len": 1_000, "cause": "not-captured"},
        {"offset": 901_000, "len": 100_100, "cause": "disk-full"},
    ]);
    assert_eq!(record_of_hurt["gaps"], gaps);
    // One page of it fits or does not; in either case the file, if any, is what the record says.
    let file = &record(1).unwrap()["s2c"];
    assert_eq!(file["file"].is_null(), file["bytes"] == 0);
    let recovered = &record(3).unwrap()["c2s"];
    assert_eq!((&recovered["bytes"], &recovered["gaps"]), (&json!(100_000), &json!([])));
}

#[test]
#[ignore = "needs root: mounts a tmpfs of 1 MiB and fills it"]
fn a_torn_line_does_not_spoil_that_of_another_shard() {
    let scratch = Scratch::new();
    let mount = Mount::new(scratch.0.join("full"), &["-t", "tmpfs", "-o", "size=1m", "tmpfs"]);
    let (output, _) = output(&mount.0.join("out"), |output| output.shards = 2);
    let dir = output.dir.clone();
    let shards = Directory::for_shards(&output).unwrap();
    let [mut one, mut other] =
        <[_; 2]>::try_from(shards).ok().unwrap().map(|sink| Feed { sink, open: HashMap::new(), serial: 0 });
    one.open(0);
    one.sink.stats_of_now();
    // Fills the rest of the device, then the rest of the index's last page.
    let filler = mount.0.join("filler");
    let _ = fs::write(&filler, vec![0; 1 << 20]);
    let mut slots = 1..;
    while one.sink.stats_of_now().notes_lost == 0 {
        one.open(slots.next().unwrap());
    }
    let index = dir.join("2026-11-20/connections.jsonl");
    assert!(!fs::read(&index).unwrap().ends_with(b"\n"));
    fs::remove_file(filler).unwrap();
    other.open(100_000);
    assert_eq!(other.sink.stats_of_now().notes, 1);
    let lines = fs::read_to_string(&index).unwrap();
    let last = lines.lines().last().unwrap();
    assert_eq!(serde_json::from_str::<Value>(last).unwrap()["client"]["ip"], "10.1.134.160");
    assert_eq!(lines.lines().filter(|line| serde_json::from_str::<Value>(line).is_err()).count(), 1);
}

/// An ext4 file system whose writers can be made to hang.
struct Freezer {
    mount: Mount,
    image: PathBuf,
}

impl Freezer {
    fn new(scratch: &Scratch) -> Self {
        let image = scratch.0.join("image");
        fs::File::create(&image).unwrap().set_len(256 << 20).unwrap();
        run(Command::new("mkfs.ext4").arg("-q").arg(&image));
        let mount = Mount::new(scratch.0.join("slow"), &["-o", "loop", image.to_str().unwrap()]);
        Self { mount, image }
    }

    fn freeze(&self) {
        run(Command::new("fsfreeze").arg("--freeze").arg(&self.mount.0));
    }

    fn thaw(&self) {
        run(Command::new("fsfreeze").arg("--unfreeze").arg(&self.mount.0));
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("--unfreeze").arg(&self.mount.0).output();
        let _ = fs::remove_file(&self.image);
    }
}

#[test]
#[ignore = "needs root: mounts an ext4 image and freezes it"]
fn a_disk_that_hangs_costs_streams_and_not_time() {
    let scratch = Scratch::new();
    let freezer = Freezer::new(&scratch);
    let (output, _) = output(&freezer.mount.0.join("out"), |output| {
        output.on_full = OnFull::Drop;
        output.buffer = 4 << 20;
        output.queue = 256 << 10;
        output.stream_memory = 64 << 10;
    });
    let dir = output.dir.clone();
    let mut feed = Feed::new(output);
    feed.open(0);
    feed.data(0, C2S, 300_000);
    feed.sink.stats_of_now();

    freezer.freeze();
    // Would anything below wait for the disk, it would be until somebody else thaws it.
    let (done, waits) = mpsc::channel::<()>();
    let waited = Arc::new(AtomicBool::new(false));
    let watchdog = {
        let (waited, mount) = (waited.clone(), freezer.mount.0.clone());
        thread::spawn(move || {
            if waits.recv_timeout(Duration::from_secs(60)).is_err() {
                waited.store(true, Ordering::Relaxed);
                run(Command::new("fsfreeze").arg("--unfreeze").arg(mount));
            }
        })
    };
    for _ in 0..64 {
        feed.data(0, C2S, 1 << 20);
        feed.sink.tick(START);
    }
    for slot in 1..5_000 {
        feed.open(slot);
        feed.data(slot, C2S, 1_000);
        feed.close(slot);
    }
    // The watchdog is gone if it had to act.
    let _ = done.send(());
    watchdog.join().unwrap();
    assert!(!waited.load(Ordering::Relaxed), "the shard waited for the disk");

    freezer.thaw();
    let stats = feed.sink.stats_of_now();
    assert!(stats.streams_stopped > 0 && stats.records_lost > 0 && stats.notes_lost > 0, "{stats:#?}");
    let hurt = feed.close(0).streams[0].clone();
    feed.open(5_000);
    feed.data(5_000, C2S, 2_000_000);
    feed.close(5_000);
    let stats = feed.finish();
    assert!(stats.buffer_high <= 4 << 20, "{stats:#?}");
    assert_eq!((stats.disk_full, stats.write_error, stats.errors), (0, 0, 0), "{stats:#?}");
    assert_eq!(stats.records + stats.records_lost, 5_001, "{stats:#?}");
    assert_eq!(stats.notes + stats.notes_lost, 5_001, "{stats:#?}");

    let closed = closed(&dir);
    let record = |serial: u64| closed.iter().find(|record| record["id"] == format!("0-{serial}").as_str());
    let record_of_hurt = &record(0).unwrap()["c2s"];
    let bytes = record_of_hurt["bytes"].as_u64().unwrap();
    assert!(bytes >= 300_000);
    assert_eq!(record_of_hurt["gaps"], json!([{"offset": bytes, "len": hurt.len - bytes, "cause": "disk-slow"}]));
    let file = fs::read(dir.join(record_of_hurt["file"].as_str().unwrap())).unwrap();
    assert_eq!(file.len() as u64, hurt.len);
    assert!(file[..bytes as usize] == content(0, C2S, 0, bytes as usize));
    assert!(file[bytes as usize..].iter().all(|&octet| octet == 0));
    let recovered = &record(5_000).unwrap()["c2s"];
    assert_eq!((&recovered["bytes"], &recovered["gaps"]), (&json!(2_000_000), &json!([])));
}

#[test]
fn at_the_end_records_wait_for_room() {
    let scratch = Scratch::new();
    let (output, _) = scratch.output(|output| {
        output.on_full = OnFull::Drop;
        output.queue = 4_096;
    });
    let mut feed = Feed::new(output);
    for slot in 0..1_000 {
        feed.open(slot);
        feed.data(slot, C2S, 5);
    }
    feed.sink.source_ended();
    for slot in 0..1_000 {
        feed.close(slot);
    }
    let stats = feed.finish();
    assert_eq!((stats.records, stats.records_lost), (1_000, 0), "{stats:#?}");
    assert_eq!(closed(&scratch.0.join("out")).len(), 1_000);
}

#[test]
#[ignore = "needs root: mounts an ext4 image and freezes it"]
fn the_end_does_not_wait_for_a_disk_that_hangs() {
    let scratch = Scratch::new();
    let freezer = Freezer::new(&scratch);
    let (output, reports) = output(&freezer.mount.0.join("out"), |output| {
        output.on_full = OnFull::Drop;
        output.patience = Duration::from_millis(200);
        output.stream_memory = 64 << 10;
    });
    let mut feed = Feed::new(output);
    feed.open(0);
    feed.data(0, C2S, 300_000);
    feed.sink.stats_of_now();
    freezer.freeze();
    feed.data(0, C2S, 500_000);
    feed.close(0);
    feed.open(1);
    feed.data(1, C2S, 5);
    feed.close(1);
    let stats = feed.finish();
    assert!(stats.written > 0, "{stats:#?}");
    assert!(stats.disk_slow >= 500_005, "{stats:#?}");
    assert_eq!((stats.records_lost, stats.notes_lost), (2, 1), "{stats:#?}");
    assert!(reports.lock().unwrap()[0].starts_with("stop waiting for the disk"), "{reports:?}");
    freezer.thaw();
}
