//! Floods of what waits: octets behind holes, and the gaps that they leave.

use agent::{
    reassembly::Config,
    segment::{Endpoint, Flags, Segment, SeqNum},
};

use crate::{
    allocator::measure,
    bed::{Bed, segment},
    memory,
};

fn server() -> Endpoint {
    Endpoint::v4([192, 0, 2, 1], 80)
}

fn client(number: u32) -> Endpoint {
    let [_, b, c, d] = number.to_be_bytes();
    Endpoint::v4([11, b, c, d], 1_024)
}

/// A connection of which the first octet never comes.
fn open(bed: &mut Bed, client: Endpoint) {
    bed.send(&segment(client, server(), Flags::SYN));
    bed.send(&Segment { ack: SeqNum(1), ..segment(server(), client, Flags::SYN | Flags::ACK) });
}

/// One octet so far behind the first one.
fn octet(client: Endpoint, at: u32) -> Segment<'static> {
    Segment { seq: SeqNum(1 + at), payload: b"x", ..segment(client, server(), Flags::ACK) }
}

#[test]
fn single_octets_behind_a_hole() {
    const SEGMENTS: u32 = 50_000;
    for (max_stream_queue, max_stream_chunks) in [(64 << 10, 4_096), (4 << 20, 500)] {
        let config = Config {
            max_stream_queue,
            max_stream_chunks,
            max_connections: 16,
            max_linger: 16,
            max_total_queue: 1 << 20,
            ..Config::default()
        };
        let (stats, usage) = measure(|| {
            let mut bed = Bed::new(config);
            open(&mut bed, client(0));
            for number in 1..SEGMENTS {
                bed.send(&octet(client(0), 2 * number));
                let queued = u64::from(max_stream_queue).min(u64::from(max_stream_chunks) * 128);
                assert!(bed.queued_memory() <= queued + GAPS);
                if number % 1_000 == 0 {
                    bed.talk_in_disorder();
                }
            }
            bed.finish()
        });
        // 512 pieces of 128 octets each are 64 KiB; 500 were allowed otherwise.
        let fit = u64::from(max_stream_chunks.min(512));
        assert_eq!(stats.limit_stream_queue, u64::from(SEGMENTS) - 1 - fit);
        assert_eq!(stats.gaps, u64::from(SEGMENTS));
        memory::check(usage, &config, 3, 512);
    }
}

#[test]
fn single_octets_on_many_connections() {
    const CONNECTIONS: u32 = 4_000;
    let config =
        Config { max_total_queue: 4 << 20, max_connections: 1 << 12, max_linger: 1 << 12, ..Config::default() };
    let (stats, usage) = measure(|| {
        let mut bed = Bed::new(config);
        for number in 0..CONNECTIONS {
            open(&mut bed, client(number));
        }
        for round in 1..50 {
            for number in 0..CONNECTIONS {
                bed.send(&octet(client(number), 2 * round));
            }
            bed.talk();
            assert!(bed.queued_memory() <= 4 << 20);
        }
        bed.finish()
    });
    assert!(stats.limit_total_queue > 100_000, "{stats:?}");
    assert_eq!((stats.limit_stream_queue, stats.limit_connections), (0, 0));
    memory::check(usage, &config, 4_000, 49);
}

#[test]
fn whole_segments_on_many_connections() {
    const CONNECTIONS: u32 = 200;
    let config = Config { max_total_queue: 4 << 20, max_connections: 256, max_linger: 256, ..Config::default() };
    for len in [1_400, 128] {
        let (stats, usage) = measure(|| {
            let mut bed = Bed::new(config);
            for number in 0..CONNECTIONS {
                open(&mut bed, client(number));
            }
            for round in 0..400 {
                for number in 0..CONNECTIONS {
                    let segment = segment(client(number), server(), Flags::ACK);
                    bed.send(&Segment { seq: SeqNum(2 + round * 1_500), payload: &[b'x'; 1_400][..len], ..segment });
                }
                bed.talk();
                assert!(bed.queued_memory() <= 4 << 20);
            }
            bed.finish()
        });
        assert!(stats.limit_total_queue > 40_000, "{stats:?}");
        assert_eq!((stats.limit_stream_queue, stats.limit_connections), (0, 0));
        memory::check(usage, &config, 202, 400);
    }
}

/// Each octet makes a gap of the hole that the one before it waited for.
#[test]
fn gaps() {
    const SEGMENTS: u32 = 300_000;
    for (max_total_queue, remembered) in [(1 << 20, 1_023), (4 << 10, 192)] {
        let config = Config { max_stream_chunks: 1, max_connections: 16, max_linger: 16, ..Config::default() };
        let config = Config { max_total_queue, ..config };
        let (stats, usage) = measure(|| {
            let mut bed = Bed::new(config);
            open(&mut bed, client(0));
            for number in 1..SEGMENTS {
                bed.send(&octet(client(0), 2 * number));
                assert!(bed.queued_memory() <= max_total_queue);
                if number % 1_000 == 0 {
                    bed.talk_in_disorder();
                }
            }
            bed.finish()
        });
        assert_eq!((stats.gaps, stats.limit_stream_queue), (u64::from(SEGMENTS), u64::from(SEGMENTS) - 2));
        if remembered == 1_023 {
            // All that do not fit are forgotten one by one.
            assert_eq!((stats.limit_gaps, stats.limit_total_queue), (u64::from(SEGMENTS) - 1 - 1_023, 0));
        } else {
            // All but the first 64 are forgotten at once when their memory, which doubles, is more than the queues may have.
            assert!(stats.limit_gaps > 1_000, "{stats:?}");
        }
        memory::check(usage, &config, 3, remembered);
    }
}

/// What the gaps of a stream may take, of which most count as queued.
const GAPS: u64 = 1_024 * 32;
