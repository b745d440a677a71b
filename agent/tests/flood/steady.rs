//! Segments that come in order allocate nothing, once every table and buffer has the size that it needs.

use std::{env, fs, path::PathBuf, process, sync::Arc};

use agent::{
    clock::Clock,
    decode,
    filter::Filter,
    frame::Frame,
    reassembly::{Config, ConnectionId, Event, Reassembler, Sink},
    segment::{Endpoint, Flags, Origin, Segment, SeqNum, Timestamp},
    shard::{Part, Shard, Share},
    sink::{Directory, OnFull, Output},
};
use agent_common::{frame::LinkType, shard::ShardKey};
use etherparse::PacketBuilder;

use crate::allocator::measure;

#[test]
fn the_core_allocates_nothing_for_segments_in_order() {
    let mut reassembler = Reassembler::new(Config::default());
    let mut sink = Delivered(0);
    let mut talk = Talk::new();
    let mut say = |segments: u32| {
        for _ in 0..segments {
            reassembler.handle_segment(&talk.next().segment(), &mut sink);
        }
        sink.0
    };
    let before = say(3_000);
    let (after, usage) = measure(|| say(300_000));
    assert_eq!(after - before, 200_000 * PAYLOAD.len() as u64);
    assert_eq!(usage.allocations, 0, "{usage:?}");
}

#[test]
fn a_shard_allocates_nothing_for_frames_in_order() {
    let scratch = Scratch(env::temp_dir().join(format!("xdpflow-steady-{}", process::id())));
    let mut output = Output::new(scratch.0.clone(), "run".to_owned(), Clock::replay(), Arc::new(|_: &str| {}));
    // The shard waits for the writer when all blocks are in use.
    (output.on_full, output.buffer) = (OnFull::Wait, BLOCKS * BLOCK_LEN);
    let sink = Directory::for_shards(&output).unwrap().pop().unwrap();
    let mut shard =
        Shard::new(Filter::everything(), Part::File(WHOLE), decode::Config::default(), Config::default(), sink);
    let mut talk = Talk::new();
    let mut bytes = Vec::with_capacity(2_048);
    let mut round = || {
        for _ in 0..FRAMES {
            let turn = talk.next();
            bytes.clear();
            turn.write(&mut bytes);
            shard.handle_frame(&Frame {
                timestamp: turn.timestamp,
                len: bytes.len() as u32,
                bytes: &bytes,
                link_type: LinkType::ETHERNET,
                origin: Origin::default(),
                flow: None,
            });
        }
    };
    // How soon every block has been made depends on how far behind the writer ever is, but each is made once. So of more
    // rounds than there are blocks one allocates nothing, unless something else does.
    let warm = (0..).map(|_| measure(&mut round).1).take(ROUNDS).position(|usage| usage.allocations == 0);
    let rounds = warm.expect("a round without an allocation") as u32 + 1;
    let totals = shard.finish();
    assert_eq!(totals.sink.handed, u64::from(rounds * FRAMES / 3 - 1) * 2 * PAYLOAD.len() as u64);
    assert_eq!((totals.sink.written, totals.reassembly.imbalance()), (totals.sink.handed, 0));
    assert!(totals.sink.early_size > u64::from(rounds) * 10, "in each round files grew: {:?}", totals.sink);
}

/// The largest block of the pool with what precedes it, and the least number of them.
const BLOCK_LEN: usize = 65_536 + 40;
const BLOCKS: usize = 16;
/// Before it has its largest blocks the pool makes some of each other size, and the queue grows a few times.
const ROUNDS: usize = BLOCKS + 16;
const FRAMES: u32 = 6_000;

const PAYLOAD: [u8; 1_448] = [b'x'; 1_448];

/// An endless conversation: a handshake, then data of the client, data of the server and an ACK of the client in turn.
struct Talk {
    turns: u64,
    client: SeqNum,
    server: SeqNum,
}

/// One segment of it.
struct Turn {
    timestamp: Timestamp,
    from_client: bool,
    seq: SeqNum,
    ack: SeqNum,
    flags: Flags,
    payload: &'static [u8],
}

impl Talk {
    /// Both sequence numbers wrap soon.
    const fn new() -> Self {
        Self { turns: 0, client: SeqNum(0xfffe_0000), server: SeqNum(0xffff_fff0) }
    }

    fn next(&mut self) -> Turn {
        // A hundred microseconds lie between two segments, so that timers get to run.
        let timestamp = Timestamp(1_000_000_000 + self.turns * 100_000);
        let (syn, payload) = (self.turns < 2, if self.turns < 3 || self.turns % 3 == 2 { &[] } else { &PAYLOAD[..] });
        let from_client = self.turns % 3 != 1;
        let (sender, peer) =
            if from_client { (&mut self.client, self.server) } else { (&mut self.server, self.client) };
        let seq = *sender;
        *sender = seq.advance(u64::from(syn) + payload.len() as u64);
        let (ack, flags) = match self.turns {
            0 => (SeqNum(0), Flags::SYN),
            1 => (peer, Flags::SYN | Flags::ACK),
            _ => (peer, Flags::ACK),
        };
        self.turns += 1;
        Turn { timestamp, from_client, seq, ack, flags, payload }
    }
}

const CLIENT: ([u8; 4], u16) = ([10, 0, 0, 1], 40_000);
const SERVER: ([u8; 4], u16) = ([10, 0, 0, 2], 443);

impl Turn {
    const fn ends(&self) -> [([u8; 4], u16); 2] {
        if self.from_client { [CLIENT, SERVER] } else { [SERVER, CLIENT] }
    }

    fn segment(&self) -> Segment<'static> {
        let [src, dst] = self.ends().map(|(address, port)| Endpoint::v4(address, port));
        Segment {
            timestamp: self.timestamp,
            src,
            dst,
            seq: self.seq,
            ack: self.ack,
            flags: self.flags,
            window: 64_240,
            window_scale: None,
            mss: None,
            ip_id: Some(1),
            payload: self.payload,
            missing: 0,
            origin: Origin::default(),
            flow: None,
        }
    }

    /// Ethernet, IPv4, TCP.
    fn write(&self, bytes: &mut Vec<u8>) {
        let [src, dst] = self.ends();
        let mut builder =
            PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(src.0, dst.0, 64).tcp(src.1, dst.1, self.seq.0, 64_240);
        if self.flags.contains(Flags::SYN) {
            builder = builder.syn();
        }
        if self.flags.contains(Flags::ACK) {
            builder = builder.ack(self.ack.0);
        }
        builder.write(bytes, self.payload).expect("a segment fits into a packet");
    }
}

struct Delivered(u64);

impl Sink for Delivered {
    fn event(&mut self, _: ConnectionId, event: Event<'_>) {
        if let Event::Data { bytes, .. } = event {
            self.0 += bytes.len() as u64;
        }
    }
}

/// A folder that is gone at the end.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// One shard takes all.
const WHOLE: Share = Share { key: ShardKey::FIXED, shard: 0, shards: 1 };
