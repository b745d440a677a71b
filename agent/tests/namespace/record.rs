//! The index that a capture writes, as the output contract has it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::conversation::Conversation;

/// The output folder of a capture that has ended.
pub(crate) struct Output {
    dir: PathBuf,
    /// `close` records, in order.
    pub closed: Vec<Record>,
    /// Lines that are not whole.
    torn: u32,
}

/// One line of `connections.jsonl`.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// Shard and number.
    pub id: String,
    pub client: SocketAddr,
    pub server: SocketAddr,
    pub started: String,
    pub ended: String,
    /// Its place among the `-i` flags.
    pub interface: String,
    pub vlan: Option<u64>,
    /// Of the filter.
    pub generation: u64,
    pub c2s: Stream,
    pub s2c: Stream,
    /// All of it.
    json: Value,
}

/// One direction in a record.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    /// Octets delivered.
    pub bytes: u64,
    pub segments: u64,
    pub retransmitted: u64,
    pub out_of_order: u64,
    pub conflict: u64,
    /// Octets that our ring had no room for.
    pub ring_full: u64,
    pub file: Option<PathBuf>,
    /// Those listed and, where there is room behind them, the trailing one.
    pub gaps: Vec<Gap>,
    /// Octets missing, by cause, the trailing gap's included.
    pub missing: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Gap {
    pub offset: u64,
    pub len: u64,
    pub cause: String,
}

impl Output {
    pub(crate) fn read(dir: &Path) -> Self {
        let (mut closed, mut torn) = (Vec::new(), 0);
        for index in files(dir).iter().filter(|path| is_index(path)) {
            let text = fs::read_to_string(dir.join(index)).unwrap();
            for line in text.lines() {
                match serde_json::from_str::<Value>(line) {
                    Ok(line) if text_at(&line, "/event") == "close" => closed.push(Record::parse(&line)),
                    Ok(_) => {}
                    Err(_) => torn += 1,
                }
            }
        }
        Self { dir: dir.to_owned(), closed, torn }
    }

    /// Every file but the index, relative to the folder.
    pub(crate) fn stream_files(&self) -> BTreeSet<PathBuf> {
        files(&self.dir).into_iter().filter(|path| !is_index(path)).collect()
    }

    /// Octets of a stream's file, none where it has no file.
    pub(crate) fn content(&self, stream: &Stream) -> Vec<u8> {
        let Some(file) = &stream.file else { return Vec::new() };
        fs::read(self.dir.join(file)).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    }

    /// The only record of these endpoints.
    pub(crate) fn record(&self, client: SocketAddr, server: SocketAddr) -> &Record {
        let found: Vec<_> = self.closed.iter().filter(|r| r.client == client && r.server == server).collect();
        let [record] = found.as_slice() else {
            panic!("{} records of {client} > {server}, not 1, among {}: {found:#?}", found.len(), self.closed.len());
        };
        record
    }

    /// The same, which is of a connection from handshake to FIN.
    #[track_caller]
    pub(crate) fn finished(&self, client: SocketAddr, server: SocketAddr) -> &Record {
        let record = self.record(client, server);
        record.assert_finished();
        record
    }

    /// Exactly these conversations were captured, from handshake to FIN, every octet of them, and nothing else was
    /// written.
    pub(crate) fn assert_complete<'a>(&self, conversations: impl IntoIterator<Item = &'a Conversation>) {
        let mut files = BTreeSet::new();
        let mut expected = 0;
        for said in conversations {
            let record = self.finished(said.client, said.server);
            self.assert_said(record, said);
            files.extend([&record.c2s.file, &record.s2c.file].into_iter().flatten().cloned());
            expected += 1;
        }
        assert_eq!((self.closed.len(), self.torn), (expected, 0), "records and torn lines");
        let found = self.stream_files();
        let stray: Vec<_> = found.symmetric_difference(&files).collect();
        assert!(stray.is_empty(), "files without a record, or records without their file: {stray:?}");
    }

    /// Both have the same records, in everything but what names the run, and the same octets in their files. What `other`
    /// need not say alike are the fields `except`.
    pub(crate) fn assert_alike(&self, other: &Self, except: &[&str]) {
        assert_eq!((self.torn, other.torn), (0, 0));
        let [ours, theirs] = [self, other].map(|output| {
            let mut records = BTreeMap::<_, Vec<_>>::new();
            for record in &output.closed {
                let (client, server) = (record.client, record.server);
                records.entry((client.min(server), client.max(server))).or_default().push(record);
            }
            records.values_mut().for_each(|records| records.sort_by_key(|record| record.time("start")));
            records
        });
        let mut different = Vec::new();
        for ends in ours.keys().chain(theirs.keys()).collect::<BTreeSet<_>>() {
            let [mine, yours] = [&ours, &theirs].map(|records| {
                records.get(ends).into_iter().flatten().map(|record| record.lasting(except)).collect::<Vec<_>>()
            });
            if mine != yours {
                let lines = |records: &[Value]| records.iter().map(|record| format!("\n{record}")).collect::<String>();
                different.push(format!("{}\nand{}\n", lines(&mine), lines(&yours)));
            }
        }
        let count = different.len();
        different.truncate(8);
        assert!(different.is_empty(), "{count} of {} differ:\n{}", ours.len(), different.join("\n"));
        let [ours, theirs] = [ours, theirs].map(|records| records.into_values().flatten());
        for (ours, theirs) in ours.zip(theirs) {
            for field in ["start", "end"] {
                let apart = (ours.time(field) - theirs.time(field)).rem_euclid(DAY);
                assert!(apart.min(DAY - apart) < SAME_TIME, "{field}: {}\n{}", ours.json, theirs.json);
            }
            for (mine, yours) in [(&ours.c2s, &theirs.c2s), (&ours.s2c, &theirs.s2c)] {
                assert_same(&self.content(mine), &other.content(yours), ours);
            }
        }
    }

    /// Both streams are what was said, without gaps.
    #[track_caller]
    pub(crate) fn assert_said(&self, record: &Record, said: &Conversation) {
        self.assert_stream(record, &record.c2s, &said.c2s);
        self.assert_stream(record, &record.s2c, &said.s2c);
    }

    /// `stream` is what was `sent`, without gaps.
    pub(crate) fn assert_stream(&self, record: &Record, stream: &Stream, sent: &[u8]) {
        assert!(stream.missing.is_empty() && stream.gaps.is_empty(), "gaps: {record:#?}");
        assert_eq!(stream.bytes, sent.len() as u64, "octets delivered: {record:#?}");
        assert_eq!(stream.conflict, 0, "{record:#?}");
        assert_eq!(stream.file.is_some(), !sent.is_empty(), "a file exists where there are octets: {record:#?}");
        assert_same(&self.content(stream), sent, record);
    }

    /// `stream` is what was `sent` where it has no gaps, and gaps and octets add up to all of it.
    pub(crate) fn assert_explained(&self, record: &Record, stream: &Stream, sent: &[u8]) {
        assert_eq!(stream.bytes + stream.missing_total(), sent.len() as u64, "{record:#?}");
        let content = self.content(stream);
        let mut at = 0;
        for gap in &stream.gaps {
            assert_same(slice(&content, at, gap.offset), slice(sent, at, gap.offset), record);
            at = gap.end();
        }
        // Behind the last gap listed there may be others, whose places nobody knows.
        if stream.gaps.iter().map(|gap| gap.len).sum::<u64>() == stream.missing_total() {
            assert_same(content.get(at as usize..).unwrap_or_default(), slice(sent, at, sent.len() as u64), record);
        }
    }
}

impl Record {
    fn parse(line: &Value) -> Self {
        let endpoint = |side: &str| {
            let ip: IpAddr = text_at(line, &format!("/{side}/ip")).parse().unwrap();
            let port = number_at(line, &format!("/{side}/port"));
            SocketAddr::new(ip, port.try_into().unwrap())
        };
        Self {
            id: text_at(line, "/id").to_owned(),
            client: endpoint("client"),
            server: endpoint("server"),
            started: text_at(line, "/started").to_owned(),
            ended: text_at(line, "/ended").to_owned(),
            interface: line["interface"].as_str().unwrap_or_default().to_owned(),
            vlan: line.pointer("/vlan").and_then(Value::as_u64),
            generation: number_at(line, "/filter"),
            c2s: Stream::parse(line.pointer("/c2s").unwrap()),
            s2c: Stream::parse(line.pointer("/s2c").unwrap()),
            json: line.clone(),
        }
    }

    #[track_caller]
    pub(crate) fn assert_finished(&self) {
        assert_eq!((self.started.as_str(), self.ended.as_str()), ("handshake", "fin"), "{self:#?}");
    }

    /// Everything but what names the run and says when exactly.
    fn lasting(&self, except: &[&str]) -> Value {
        let mut json = self.json.clone();
        let fields = json.as_object_mut().unwrap();
        fields.retain(|name, _| {
            !["run", "id", "start", "end"].contains(&name.as_str()) && !except.contains(&name.as_str())
        });
        fields["continues"] = (!fields["continues"].is_null()).into();
        for side in ["c2s", "s2c"] {
            fields[side]["file"] = (!fields[side]["file"].is_null()).into();
        }
        json
    }

    /// Nanoseconds since midnight.
    fn time(&self, field: &str) -> i64 {
        let time = &text_at(&self.json, &format!("/{field}"))["2026-01-01T".len()..];
        let number = |at: std::ops::Range<usize>| time[at].parse::<i64>().unwrap();
        ((number(0..2) * 60 + number(3..5)) * 60 + number(6..8)) * 1_000_000_000 + number(9..18)
    }
}

impl Stream {
    pub(crate) fn missing_total(&self) -> u64 {
        self.missing.values().sum()
    }

    /// Causes of what is missing.
    pub(crate) fn causes(&self) -> Vec<&str> {
        self.missing.keys().map(String::as_str).collect()
    }

    fn parse(json: &Value) -> Self {
        let gaps = json.pointer("/gaps").and_then(Value::as_array).unwrap();
        let mut gaps: Vec<_> = gaps.iter().map(Gap::parse).collect();
        let totals = json.pointer("/gap_totals").and_then(Value::as_object).unwrap().iter();
        let totals = totals.map(|(cause, octets)| (cause.clone(), octets.as_u64().unwrap()));
        let mut missing: BTreeMap<_, _> = totals.filter(|(_, octets)| *octets > 0).collect();
        if let Some(trailing) = json.pointer("/trailing_gap").filter(|gap| !gap.is_null()).map(Gap::parse) {
            *missing.entry(trailing.cause.clone()).or_default() += trailing.len;
            if gaps.len() < GAPS_LISTED {
                gaps.push(trailing);
            }
        }
        Self {
            bytes: number_at(json, "/bytes"),
            segments: number_at(json, "/segments"),
            retransmitted: number_at(json, "/retransmitted"),
            out_of_order: number_at(json, "/out_of_order"),
            conflict: number_at(json, "/conflict"),
            ring_full: json["ring_full"].as_u64().unwrap_or_default(),
            file: json.pointer("/file").and_then(Value::as_str).map(PathBuf::from),
            gaps,
            missing,
        }
    }
}

impl Gap {
    pub(crate) fn new(offset: u64, len: u64, cause: &str) -> Self {
        Self { offset, len, cause: cause.to_owned() }
    }

    fn parse(json: &Value) -> Self {
        Self::new(number_at(json, "/offset"), number_at(json, "/len"), text_at(json, "/cause"))
    }

    fn end(&self) -> u64 {
        self.offset + self.len
    }
}

const DAY: i64 = 86_400 * 1_000_000_000;
/// Of two programs that look at one frame, nanoseconds.
const SAME_TIME: i64 = 100_000_000;

/// Gaps that a record lists one by one.
const GAPS_LISTED: usize = 256;

/// As `assert_eq!`, for octets nobody wants to see in full.
fn assert_same(found: &[u8], sent: &[u8], record: &Record) {
    if found != sent {
        let first = found.iter().zip(sent).position(|(found, sent)| found != sent);
        let first = first.unwrap_or_else(|| found.len().min(sent.len()));
        panic!("{} octets in the file, {} sent, first difference at {first}: {record:#?}", found.len(), sent.len());
    }
}

fn slice(bytes: &[u8], from: u64, to: u64) -> &[u8] {
    bytes.get(from as usize..to as usize).unwrap_or_else(|| panic!("{} octets, wanted {from}..{to}", bytes.len()))
}

fn is_index(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "connections.jsonl")
}

/// All files below `dir`, relative to it.
fn files(dir: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(dir).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

fn text_at<'a>(json: &'a Value, pointer: &str) -> &'a str {
    json.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no text {pointer} in {json}"))
}

fn number_at(json: &Value, pointer: &str) -> u64 {
    json.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("no number {pointer} in {json}"))
}
