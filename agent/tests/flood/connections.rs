//! Floods of connections: more than there is room for, on endpoints that collide, on the same endpoints again.

use agent::{
    reassembly::Config,
    segment::{Endpoint, Flags, Segment, SeqNum},
};
use agent_common::shard::ShardKey;

use crate::{
    allocator::measure,
    bed::{Bed, segment},
    memory,
};

const SERVER: ([u8; 4], u16) = ([192, 0, 2, 1], 80);

fn server() -> Endpoint {
    Endpoint::v4(SERVER.0, SERVER.1)
}

#[test]
fn ten_million_syns() {
    const SYNS: u32 = 10_000_000;
    let config = Config { max_connections: 1 << 12, max_linger: 1 << 12, max_total_queue: 0, ..Config::default() };
    let (stats, usage) = measure(|| {
        let mut bed = Bed::new(config);
        for number in 0..SYNS {
            let [a, b, c, d] = number.to_be_bytes();
            let client = Endpoint::v4([11 + a, b, c, d], 1_024);
            bed.send(&Segment { seq: SeqNum(number), ..segment(client, server(), Flags::SYN) });
            if number % 1_000 == 0 {
                bed.talk();
            }
        }
        bed.finish()
    });
    let opened = u64::from(SYNS) + 1;
    assert_eq!((stats.opened, stats.limit_connections), (opened, opened - (1 << 12)));
    assert_eq!(stats.limit_linger, opened - 2 * (1 << 12));
    memory::check(usage, &config, 2, 0);
}

#[test]
fn connections_that_end_at_once() {
    const CONNECTIONS: u32 = 500_000;
    let config = Config { max_connections: 1_024, max_linger: 1 << 14, max_total_queue: 0, ..Config::default() };
    let (stats, usage) = measure(|| {
        let mut bed = Bed::new(config);
        for number in 0..CONNECTIONS {
            let [_, b, c, d] = number.to_be_bytes();
            let client = Endpoint::v4([11, b, c, d], 1_024);
            let (from, to) = (|flags| segment(client, server(), flags), |flags| segment(server(), client, flags));
            bed.send(&Segment { seq: SeqNum(7), ..from(Flags::SYN) });
            bed.send(&Segment { seq: SeqNum(70), ack: SeqNum(8), ..to(Flags::SYN | Flags::ACK) });
            bed.send(&Segment { seq: SeqNum(8), ack: SeqNum(71), ..from(Flags::FIN | Flags::ACK) });
            bed.send(&Segment { seq: SeqNum(71), ack: SeqNum(9), ..to(Flags::FIN | Flags::ACK) });
            // And once more, which is absorbed.
            bed.send(&Segment { seq: SeqNum(8), ack: SeqNum(71), ..from(Flags::FIN | Flags::ACK) });
            if number % 1_000 == 0 {
                bed.talk();
            }
        }
        bed.finish()
    });
    assert_eq!((stats.opened, stats.closed), (u64::from(CONNECTIONS) + 1, u64::from(CONNECTIONS) + 1));
    assert_eq!(stats.lingering, u64::from(CONNECTIONS));
    assert_eq!(stats.limit_linger, u64::from(CONNECTIONS) + 1 - (1 << 14));
    memory::check(usage, &config, 2, 0);
}

#[test]
fn one_pair_of_endpoints_a_million_times() {
    const TIMES: u32 = 1_000_000;
    let config = Config::default();
    let (stats, usage) = measure(|| {
        let mut bed = Bed::new(config);
        let client = Endpoint::v4([11, 0, 0, 1], 1_024);
        for number in 0..TIMES {
            // The old connection is never closed: the SYN is remembered, and the SYN-ACK confirms it.
            let isn = SeqNum(number.wrapping_mul(100_000_007));
            bed.send(&Segment { seq: isn, ..segment(client, server(), Flags::SYN) });
            let ack = isn.advance(1);
            bed.send(&Segment { seq: isn, ack, ..segment(server(), client, Flags::SYN | Flags::ACK) });
            bed.send(&Segment { seq: ack, ack, payload: b"x", ..segment(client, server(), Flags::ACK) });
            if number % 1_000 == 0 {
                bed.talk();
            }
        }
        bed.finish()
    });
    assert_eq!(stats.opened, u64::from(TIMES) + 1);
    assert_eq!(stats.delivered, u64::from(TIMES + TIMES / 1_000 * 200));
    // So many steps, whatever came before: nothing is kept of a connection that another one replaced.
    assert!(usage.allocations < 4 * u64::from(TIMES), "{usage:?}");
    memory::check(usage, &Config { max_connections: 2, max_linger: 2, max_total_queue: 0, ..config }, 4, 0);
}

/// Whoever knows the key can choose endpoints whose hashes are equal in as many bits as a table looks at.
#[test]
fn endpoints_that_collide_under_a_known_key() {
    let key = Config::default().hash_key;
    let low = |key, client| table_hash(key, client) & 0xffff;
    let clients: Vec<Endpoint> = colliding(key).take(20_000).collect();
    assert!(clients.iter().all(|&client| low(key, client) == low(key, clients[0])), "they collide");

    // A key that they were not made for spreads them: 65,536 places for 20,000.
    let secret = key.map(|word| word.rotate_left(23) ^ 0x1357_9bdf_0246_8ace);
    let mut places = vec![0_u32; 1 << 16];
    clients.iter().for_each(|&client| places[low(secret, client) as usize] += 1);
    assert!(places.iter().max().is_some_and(|&most| most < 12));

    for hash_key in [key, secret] {
        let config = Config { hash_key, max_connections: 1 << 15, ..Config::default() };
        let mut bed = Bed::new(config);
        for (number, &client) in clients.iter().enumerate() {
            bed.send(&segment(client, server(), Flags::SYN));
            if number % 100 == 0 {
                bed.talk();
            }
        }
        // Each is found again, and by its own segments alone.
        for &client in &clients {
            bed.send(&Segment { seq: SeqNum(1), payload: b"x", ..segment(client, server(), Flags::ACK) });
        }
        let stats = bed.finish();
        assert_eq!((stats.opened, stats.limit_connections), (clients.len() as u64 + 1, 0));
        assert_eq!(stats.delivered, clients.len() as u64 + clients.len() as u64 / 100 * 200);
    }
}

/// Clients whose table hashes differ in no bit below the sixteenth. Of the greater address's first word the hash takes
/// `(k4 + low) * (k5 + high)` and keeps the upper half of a sum of such products. With `high` the negative of `k5` modulo
/// 2^32, the lower half of the factor is zero, and a multiple of 2^16 in `low` leaves the sixteen bits alone.
fn colliding(key: [u64; 12]) -> impl Iterator<Item = Endpoint> {
    let high = (second(key)[5] as u32).wrapping_neg();
    (0..1 << 16).map(move |n: u64| Endpoint { address: [u64::from(high) << 32 | n << 16, 0], port: 1_024 })
}

/// The half of the hash that picks a place in the table.
fn table_hash(key: [u64; 12], client: Endpoint) -> u32 {
    ShardKey(second(key)).hash(&segment(client, server(), Flags::SYN).head())
}

/// The table's second key: SplitMix64's finaliser of each word.
fn second(key: [u64; 12]) -> [u64; 12] {
    key.map(|word| {
        let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
    })
}
