//! Row 24: every limit, what gives way at it, and that nothing else does.

use agent::reassembly::Config;

use crate::trace::{C, S, Trace};

#[test]
fn row_24_queued_octets_of_a_stream() {
    let mut trace = Trace::established(Config { max_stream_queue: 700, ..Config::default() });
    for n in 0..3 {
        trace.send(C.data(1004 + 200 * n, [b'x'; 200]));
    }
    trace.expect(&["handshake open c2s= s2c="]);
    trace.send(C.data(1604, [b'x'; 200]));
    trace.expect(&[&format!("handshake open c2s=[3 limit]{} s2c=", "x".repeat(800))]);
    trace.send(C.data(1804, "end")).expect(&[&format!("handshake open c2s=[3 limit]{}end s2c=", "x".repeat(800))]);
}

#[test]
fn row_24_chunks_of_a_stream() {
    let mut trace = Trace::established(Config { max_stream_chunks: 4, ..Config::default() });
    for n in 1..=4 {
        trace.send(C.data(1001 + 2 * n, "x"));
    }
    trace.expect(&["handshake open c2s= s2c="]);
    trace.send(C.data(1011, "x")).expect(&["handshake open c2s=[2 limit]x s2c="]);
    trace.send(C.data(1004, "y")).expect(&["handshake open c2s=[2 limit]xyx s2c="]);
}

#[test]
fn row_24_a_small_chunk_costs_what_it_allocates() {
    // 128 octets each, whatever they hold: the ninth is beyond 1,024.
    let mut trace = Trace::established(Config { max_stream_queue: 1_024, ..Config::default() });
    for n in 1..=8 {
        trace.send(C.data(1001 + 2 * n, "x"));
    }
    trace.expect(&["handshake open c2s= s2c="]);
    trace.send(C.data(1019, "x")).expect(&["handshake open c2s=[2 limit]x s2c="]);
}

#[test]
fn row_24_the_stream_that_holds_most_gives_way_first() {
    let mut trace = Trace::new(Config { max_total_queue: 1_000, ..Config::default() });
    for port in [1, 2] {
        trace.send(C.syn(1000).port(port)).send(S.syn(5000).ack(1001).port(port));
    }
    trace.send(C.data(1004, [b'a'; 600]).port(1)).send(C.data(1004, [b'b'; 300]).port(2));
    trace.expect(&["handshake open c2s= s2c=", "handshake open c2s= s2c="]);
    trace.send(C.data(1304, [b'b'; 200]).port(2));
    trace.expect(&[&format!("handshake open c2s=[3 limit]{} s2c=", "a".repeat(600)), "handshake open c2s= s2c="]);
    trace.send(C.data(1001, "BBB").port(2));
    trace.expect(&[
        &format!("handshake open c2s=[3 limit]{} s2c=", "a".repeat(600)),
        &format!("handshake open c2s=BBB{} s2c=", "b".repeat(500)),
    ]);
}

#[test]
fn row_24_the_longest_idle_connection_is_evicted() {
    let mut trace = Trace::new(Config { max_connections: 2, ..Config::default() });
    trace.send(C.syn(1000).port(1).at(0)).send(C.data(1001, "one").port(1));
    trace.send(C.syn(1000).port(2).at(10)).send(C.data(1001, "two").port(2));
    trace.send(C.data(1004, "!").port(1).at(20)).send(C.syn(1000).port(3).at(30));
    trace.expect(&["handshake open c2s=one! s2c=", "handshake evicted c2s=two s2c=", "handshake open c2s= s2c="]);
}

#[test]
fn row_24_an_evicted_connection_is_picked_up_again() {
    let mut trace = Trace::new(Config { max_connections: 1, ..Config::default() });
    trace.send(C.syn(1000).port(1)).send(C.data(1001, "one").port(1)).send(C.syn(1000).port(2).at(10));
    trace.send(C.data(1004, "more").port(1).at(20)).finish();
    trace.expect(&["handshake evicted c2s=one s2c=", "handshake evicted c2s= s2c=", "midstream finish c2s=more s2c="]);
    assert_eq!(trace.continues(2), Some(trace.serial(0)));
}

#[test]
fn row_24_a_full_linger_forgets_the_oldest() {
    let mut trace = Trace::new(Config { max_linger: 1, ..Config::default() });
    for port in [1, 2] {
        trace
            .send(C.syn(1000).port(port))
            .send(S.syn(5000).ack(1001).port(port))
            .send(C.fin(1001).ack(5001).port(port));
        trace.send(S.fin(5001).ack(1002).port(port));
    }
    // The one that is still remembered absorbs.
    trace.send(C.data(1001, "late").ack(5001).port(2)).finish();
    trace.expect(&["handshake fin c2s= s2c=", "handshake fin c2s= s2c="]);
}

#[test]
fn row_24_gaps_that_time_makes_count_as_queued() {
    let mut trace = Trace::established(Config { max_total_queue: 1_000, ..Config::default() });
    for n in 0..100_u32 {
        let at = u64::from(n) * 2_000;
        trace.send(C.data(1002 + 2 * n, "x").ack(5001).at(at)).send(S.ack(5001, 1003 + 2 * n).at(at));
        assert!(trace.wait_until(at + 1_500).reassembler().queued_memory() <= 1_000, "after {n} gaps");
    }
    assert!(trace.reassembler().stats().limit_gaps > 0);
}

#[test]
fn row_24_what_is_parked_counts_as_queued() {
    let mut trace = Trace::new(Config { max_total_queue: 1_000, ..Config::default() });
    for port in 1..=4 {
        trace.send(C.syn(1000).port(port)).send(S.syn(5000).ack(1001).port(port));
        trace.send(C.data(0x4000_0000, [b'x'; 400]).port(port));
        assert!(trace.reassembler().queued_memory() <= 1_000);
    }
    assert_eq!(trace.reassembler().stats().limit_total_queue, 2);
    assert_eq!(trace.reassembler().stats().implausible, 800);
}

#[test]
fn row_24_the_data_of_a_remembered_syn_counts_as_queued() {
    let mut trace = Trace::new(Config { max_total_queue: 1_000, ..Config::default() });
    for port in 1..=4 {
        trace.send(C.syn(1000).port(port)).send(S.syn(5000).ack(1001).port(port));
        trace.send(C.data(1001, "x").ack(5001).port(port)).send(C.syn(700_000).with([b'x'; 400]).port(port));
        assert!(trace.reassembler().queued_memory() <= 1_000);
    }
    assert_eq!(trace.reassembler().stats().after_close, 800);
}

#[test]
fn row_24_a_remembered_syn_gives_up_its_data_and_still_begins_a_connection() {
    let mut trace = Trace::established(Config { max_total_queue: 200, ..Config::default() });
    trace.send(C.data(1001, "old").ack(5001)).send(C.syn(700_000).with([b'x'; 400]).at(100));
    trace.send(S.syn(900_000).ack(700_301)).send(C.data(700_401, "new").ack(900_001)).send(S.ack(900_001, 700_404));
    trace.wait_until(3_000);
    trace.expect(&["handshake reused c2s=old s2c=", "handshake open c2s=[400 not-captured]new s2c="]);
    let stats = trace.reassembler().stats();
    assert_eq!((stats.after_close, stats.syn_unconfirmed, stats.imbalance()), (400, 0, 0));
}
