//! What memory the core keeps for a connection that is open and silent: `cargo run --release -p agent --example idle`.
//! Octets, both directions, table and timers included.
#![expect(clippy::print_stdout, reason = "this prints a table")]

#[path = "../tests/flood/allocator.rs"]
mod allocator;

use agent::{
    reassembly::{Config, ConnectionId, Event, Reassembler, Sink},
    segment::{Endpoint, Flags, Origin, Segment, SeqNum, Timestamp},
};
use allocator::{Counting, measure};
use anyhow::{Result, ensure};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CONNECTIONS: u32 = 1_000_000;
const PAYLOAD: &[u8] = b"ten octets";

fn main() -> Result<()> {
    let mut sink = Delivered::default();
    let (reassembler, usage) = measure(|| {
        let mut reassembler = Reassembler::new(Config::default());
        for number in 0..CONNECTIONS {
            for segment in conversation(number) {
                reassembler.handle_segment(&segment, &mut sink);
            }
        }
        reassembler
    });
    ensure!(reassembler.open_connections() == CONNECTIONS as usize, "a connection is not open");
    ensure!(sink.octets == u64::from(CONNECTIONS) * 2 * PAYLOAD.len() as u64, "an octet was not delivered");
    let each = |octets: u64| octets.div_ceil(u64::from(CONNECTIONS));
    println!("{:>6} an idle connection, {CONNECTIONS} of them", each(usage.kept));
    println!("{:>6} at most while they opened", each(usage.peak));
    println!("{:>6} allocations for all of them", usage.allocations);
    Ok(())
}

/// A handshake, and a word from each side.
fn conversation(number: u32) -> [Segment<'static>; 5] {
    let [_, high, middle, low] = number.to_be_bytes();
    let client = Endpoint::v4([10, high, middle, low], 40_000);
    let server = Endpoint::v4([192, 0, 2, 1], 443);
    let segment = |from_client, seq, ack, flags, payload| {
        let (src, dst) = if from_client { (client, server) } else { (server, client) };
        Segment {
            // A microsecond for each connection.
            timestamp: Timestamp(1_000_000_000 + u64::from(number) * 1_000),
            src,
            dst,
            seq: SeqNum(seq),
            ack: SeqNum(ack),
            flags,
            window: 64_240,
            window_scale: flags.contains(Flags::SYN).then_some(7),
            mss: None,
            ip_id: None,
            payload,
            missing: 0,
            origin: Origin::default(),
            flow: None,
        }
    };
    let ten = PAYLOAD.len() as u32;
    [
        segment(true, 999, 0, Flags::SYN, &[]),
        segment(false, 4_999, 1_000, Flags::SYN | Flags::ACK, &[]),
        segment(true, 1_000, 5_000, Flags::ACK, &[]),
        segment(true, 1_000, 5_000, Flags::ACK | Flags::PSH, PAYLOAD),
        segment(false, 5_000, 1_000 + ten, Flags::ACK | Flags::PSH, PAYLOAD),
    ]
}

/// A sink that keeps nothing.
#[derive(Default)]
struct Delivered {
    octets: u64,
}

impl Sink for Delivered {
    fn event(&mut self, _: ConnectionId, event: Event<'_>) {
        if let Event::Data { bytes, .. } = event {
            self.octets += bytes.len() as u64;
        }
    }
}
