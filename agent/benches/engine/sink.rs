//! What becomes of octets that were delivered.

use std::{env, fs, path::PathBuf, process, sync::Arc};

use agent::{
    clock::Clock,
    reassembly::{ConnectionId, Direction, Ended, Event, Sink, Started, StreamSummary, Summary},
    segment::{Endpoint, Origin, Timestamp},
    sink::{Destination, Form, OnFull, Output},
};
use divan::{Bencher, counter::BytesCount};

use crate::segment::PAYLOAD;

const FORMS: [&str; 2] = ["digest", "files"];

/// A connection with one octet on it; no file has to be waited for before the end.
#[divan::bench(args = FORMS, sample_size = 1_000)]
fn connection(bencher: Bencher<'_, '_>, form: &str) {
    let scratch = Scratch::new();
    let mut sink = scratch.sink(form);
    let mut serial = 0;
    bencher.bench_local(|| {
        serial += 1;
        let id = ConnectionId { slot: 0, serial };
        let mut summary = summary(serial);
        sink.event(id, Event::Open(&summary));
        sink.event(id, Event::Data { direction: Direction::ClientToServer, offset: 0, bytes: b"x" });
        (summary.streams[0].len, summary.streams[0].delivered) = (1, 1);
        summary.ended = Some(Ended::Fin);
        sink.event(id, Event::Close(&summary));
    });
    assert!(sink.finish().balanced());
}

/// A segment of a long stream.
#[divan::bench(args = FORMS, sample_size = 1_000)]
fn segment(bencher: Bencher<'_, '_>, form: &str) {
    let scratch = Scratch::new();
    let mut sink = scratch.sink(form);
    let id = ConnectionId { slot: 0, serial: 1 };
    let mut offset = 0;
    sink.event(id, Event::Open(&summary(1)));
    bencher.counter(BytesCount::new(PAYLOAD.len())).bench_local(|| {
        sink.event(id, Event::Data { direction: Direction::ClientToServer, offset, bytes: &PAYLOAD });
        offset += PAYLOAD.len() as u64;
    });
    let mut summary = summary(1);
    (summary.streams[0].len, summary.streams[0].delivered) = (offset, offset);
    summary.ended = Some(Ended::Fin);
    sink.event(id, Event::Close(&summary));
    assert!(sink.finish().balanced());
}

fn summary(serial: u64) -> Summary<'static> {
    let start = Timestamp(1_795_132_800_000_000_000 + serial * 1_000);
    Summary {
        client: Endpoint::v4([10, 0, 0, 1], 40_000),
        server: Endpoint::v4([10, 0, 0, 2], 80),
        start,
        end: start,
        started: Started::Handshake,
        ended: None,
        origin: Origin::default(),
        continues: None,
        streams: [StreamSummary::default(); 2],
    }
}

/// A folder that is gone afterwards: in memory, where there is one.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let memory = PathBuf::from("/dev/shm");
        let parent = if memory.is_dir() { memory } else { env::temp_dir() };
        Self(parent.join(format!("xdpflow-benches-{}", process::id())))
    }

    fn sink(&self, form: &str) -> Destination {
        let mut output = Output::new(self.0.clone(), "run".to_owned(), Clock::replay(), Arc::new(|_: &str| {}));
        output.on_full = OnFull::Wait;
        output.form = if form == "digest" { Form::Digest } else { Form::Files };
        let mut sinks = Destination::for_shards(&output).expect("the output is made");
        sinks.pop().expect("there is a sink for each shard")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
