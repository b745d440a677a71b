//! gopacket's vectors (reassembly/tcpassembly_test.go), sequence numbers and octets as they are there; what must come
//! out follows the contract, which differs in row 5: the first copy wins in the queue too.

use agent::reassembly::{Config, Direction::ClientToServer};

use crate::trace::{C, S, Trace};

const TEN: [u8; 10] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 0];

fn trace() -> Trace {
    Trace::new(Config::default())
}

#[test]
fn row_03_reorder() {
    let mut trace = trace();
    trace.send(C.data(1001, [1, 2, 3])).send(C.data(1004, [4, 5, 6])).send(C.data(1010, [10, 11, 12]));
    trace.send(C.data(1007, [7, 8, 9])).send(C.data(1016, [2, 2, 3])).send(C.data(1019, [3, 2, 3]));
    trace.send(C.data(1013, [1, 2, 3])).finish();
    trace.expect(&[
        r"midstream finish c2s=\x01\x02\x03\x04\x05\x06\x07\x08\t\n\x0b\x0c\x01\x02\x03\x02\x02\x03\x03\x02\x03 s2c=",
    ]);
}

#[test]
fn row_24_max_per_skip() {
    // There four pages are the limit. Here memory is: four chunks of 128 octets at the least.
    let mut trace = Trace::new(Config { max_stream_queue: 4 * 128 - 1, max_stream_chunks: 3, ..Config::default() });
    trace.send(C.syn(1000).with([1, 2, 3]));
    for (n, seq) in (3..7).zip([1007, 1107, 1207, 1307]) {
        trace.send(C.data(seq, [n; 99]));
    }
    let skipped = |n: u8, len| format!("[{len} limit]{}", std::ascii::escape_default(n).to_string().repeat(99));
    trace.expect(&[&format!(r"handshake open c2s=\x01\x02\x03{} s2c=", skipped(3, 3))]);
}

#[test]
fn row_03_reorder_fast() {
    let mut trace = trace();
    trace.send(C.syn(1000).with([1, 2, 3])).send(C.data(1007, [3, 2, 3])).send(C.data(1004, [2, 2, 3]));
    trace.expect(&[r"handshake open c2s=\x01\x02\x03\x02\x02\x03\x03\x02\x03 s2c="]);
}

#[test]
fn row_04_overlap() {
    let mut trace = trace();
    trace.send(C.syn(1000).with(TEN)).send(C.data(1007, [7, 8, 9, 0, 1, 2, 3, 4, 5]));
    trace.send(C.data(1010, [0, 1, 2, 3, 4, 5, 6, 7]));
    trace.expect(&[r"handshake open c2s=\x01\x02\x03\x04\x05\x06\x07\x08\t\x00\x01\x02\x03\x04\x05\x06\x07 s2c="]);
}

#[test]
fn row_05_buffered_overlap_1() {
    let mut trace = trace();
    trace.send(C.data(1007, [7, 8, 9, 0, 1, 2, 3, 4, 5])).send(C.data(1010, [0, 1, 2, 3, 4, 5, 6, 7]));
    trace.send(C.syn(1000).with(TEN)).finish();
    trace.expect(&[r"handshake finish c2s=\x01\x02\x03\x04\x05\x06\x07\x08\t\x00\x01\x02\x03\x04\x05\x06\x07 s2c="]);
}

#[test]
fn row_05_buffered_overlap_case_6() {
    let mut trace = trace();
    trace.send(C.data(1007, [7, 8, 9, 0, 1, 2, 3, 4, 5])).send(C.data(1010, [10, 11, 12, 13, 14]));
    trace.send(C.syn(1000).with(TEN)).finish();
    trace.expect(&[r"handshake finish c2s=\x01\x02\x03\x04\x05\x06\x07\x08\t\x00\x01\x02\x03\x04\x05 s2c="]);
    assert_eq!(trace.summary(0, ClientToServer).conflict, 5);
}

#[test]
fn row_04_buffered_overlap_existing() {
    let mut trace = trace();
    trace.send(C.syn(1000).with([1, 2, 3, 4, 5, 6, 7])).send(C.data(1005, [5, 6, 7, 8, 9, 10]));
    trace.expect(&[r"handshake open c2s=\x01\x02\x03\x04\x05\x06\x07\x08\t\n s2c="]);
}

#[test]
fn row_04_buffered_overlap_reemit() {
    let mut trace = trace();
    trace.send(C.syn(1000).with([1, 2, 3, 4, 5, 6, 7])).send(C.data(1003, [3, 4, 5])).finish();
    trace.expect(&[r"handshake finish c2s=\x01\x02\x03\x04\x05\x06\x07 s2c="]);
    assert_eq!(trace.summary(0, ClientToServer).retransmitted, 1);
}

#[test]
fn row_05_reorder_retransmission_1() {
    let mut trace = trace();
    trace.send(C.syn(1000)).send(C.data(1007, [2, 2, 3])).send(C.data(1007, [2, 2, 3])).send(C.data(1004, [6, 6, 6]));
    trace.send(C.data(1001, [1, 2, 3])).expect(&[r"handshake open c2s=\x01\x02\x03\x06\x06\x06\x02\x02\x03 s2c="]);
}

#[test]
fn row_05_reorder_retransmission_2() {
    let mut trace = trace();
    trace.send(C.data(1001, [1, 2, 3])).send(C.data(1007, [2, 2, 3])).send(C.data(1007, [2, 2, 3]));
    trace.send(C.data(1010, [10, 11])).send(C.data(1004, [6, 6, 6, 2, 2])).finish();
    trace.expect(&[r"midstream finish c2s=\x01\x02\x03\x06\x06\x06\x02\x02\x03\n\x0b s2c="]);
    assert_eq!(trace.summary(0, ClientToServer).conflict, 0);
}

#[test]
fn row_02_overrun_1() {
    let mut trace = trace();
    trace.send(C.syn(0xffff_ffff).with(TEN)).send(C.data(10, [1, 2, 3, 4]));
    trace.expect(&[r"handshake open c2s=\x01\x02\x03\x04\x05\x06\x07\x08\t\x00\x01\x02\x03\x04 s2c="]);
}

#[test]
fn row_02_overrun_2() {
    let mut trace = trace();
    trace.send(C.data(10, [1, 2, 3, 4])).send(C.syn(0xffff_ffff).with(TEN)).finish();
    trace.expect(&[r"handshake finish c2s=\x01\x02\x03\x04\x05\x06\x07\x08\t\x00\x01\x02\x03\x04 s2c="]);
}

#[test]
fn row_13_cache_large_packet() {
    let mut trace = trace();
    trace.send(C.data(1001, [b'z'; 5_700])).send(C.syn(1000)).finish();
    trace.expect(&[&format!("handshake finish c2s={} s2c=", "z".repeat(5_700))]);
}

#[test]
fn row_07_flush_gives_up_on_a_hole() {
    let mut trace = trace();
    trace.send(C.data(1001, [1, 2, 3])).send(C.data(1010, [4, 5, 6, 7]).at(50)).wait_until(31_000);
    trace.expect(&[r"midstream open c2s=\x01\x02\x03[6 timeout]\x04\x05\x06\x07 s2c="]);
}

#[test]
fn row_13_flush_two_ways() {
    let mut trace = trace();
    trace
        .send(C.data(1001, [1, 2, 3]))
        .send(S.data(890, [11, 22, 33]).at(50))
        .send(S.data(893, [44, 55, 66, 77]).at(100));
    trace.send(C.data(1004, [8, 9]).at(150)).finish();
    trace.expect(&[r#"midstream finish c2s=\x01\x02\x03\x08\t s2c=\x0b\x16!,7BM"#]);
}

#[test]
fn row_10_flush_with_a_late_rst() {
    // There the RST closes its half. Here it lies below the highest number its sender used, and no ACK names it.
    let mut trace = trace();
    trace
        .send(C.data(1005, [5, 6, 7]))
        .send(C.rst(1001).with([1, 2, 3]).at(40))
        .send(C.data(1010, [10, 11, 12]).at(80));
    trace.finish().expect(&[r"midstream finish c2s=\x05\x06\x07[2 close]\n\x0b\x0c s2c="]);
}

/// TestFSM* and TestCheckFSM*: a query and its answer over TCP, as they were captured, with and without parts of the
/// handshake. `SupportMissingEstablishment` is the opposite of `require_handshake`.
fn dns(require_handshake: bool) -> Trace {
    Trace::new(Config { strict_fsm: true, require_handshake, ..Config::default() })
}

const QUERY: [u8; 33] = [b'q'; 33];
const ANSWER: [u8; 600] = [b'a'; 600];

#[track_caller]
fn refused(trace: &Trace, segments: u64) {
    let stats = trace.reassembler().stats();
    assert_eq!((stats.refused_fsm, stats.imbalance()), (segments, 0));
}

#[test]
fn row_28_fsm_normal_flow() {
    let mut trace = dns(true);
    trace.send(C.syn(374_511_116)).send(S.syn(3_465_787_765).ack(374_511_117));
    trace.send(C.ack(374_511_117, 3_465_787_766)).send(C.data(374_511_117, QUERY).ack(3_465_787_766));
    trace.send(S.ack(3_465_787_766, 374_511_150)).send(S.data(3_465_787_766, ANSWER).ack(374_511_150));
    trace.send(C.ack(374_511_150, 3_465_788_366)).send(C.fin(374_511_150).ack(3_465_788_366));
    trace.send(S.fin(3_465_788_366).ack(374_511_151)).send(C.ack(374_511_151, 3_465_788_367));
    trace.expect(&[&format!("handshake fin c2s={} s2c={}", "q".repeat(33), "a".repeat(600))]);
    refused(&trace, 0);
}

#[test]
fn row_28_fsm_early_rst() {
    let mut trace = dns(true);
    trace.send(C.syn(374_511_116)).send(S.syn(3_465_787_765).ack(374_511_117)).send(C.rst(374_511_117));
    trace.send(C.data(374_511_117, QUERY).ack(3_465_787_766)).send(S.ack(3_465_787_766, 374_511_150)).finish();
    trace.expect(&["handshake rst c2s= s2c="]);
    refused(&trace, 2);
}

#[test]
fn row_28_fsm_established_then_rst() {
    let mut trace = dns(true);
    trace.send(C.syn(374_511_116)).send(S.syn(3_465_787_765).ack(374_511_117));
    trace.send(C.ack(374_511_117, 3_465_787_766)).send(C.data(374_511_117, QUERY).ack(3_465_787_766));
    trace.send(S.rst(3_465_787_766).ack(374_511_150)).send(S.data(3_465_787_766, ANSWER).ack(374_511_150)).finish();
    trace.expect(&[&format!("handshake rst c2s={} s2c=", "q".repeat(33))]);
    refused(&trace, 1);
}

#[test]
fn row_28_fsm_missing_syn_ack() {
    let mut trace = dns(true);
    trace.send(C.syn(374_511_116)).send(C.ack(374_511_117, 3_465_787_766));
    trace.send(C.data(374_511_117, QUERY).ack(3_465_787_766)).finish();
    trace.expect(&["handshake finish c2s= s2c="]);
    refused(&trace, 2);
}

#[test]
fn row_28_fsm_missing_syn() {
    for require_handshake in [false, true] {
        let mut trace = dns(require_handshake);
        trace
            .send(C.data(12, "1").ack(1_012))
            .send(S.data(1_012, "2").ack(13))
            .send(S.data(1_013, "3").ack(13))
            .finish();
        trace.expect(if require_handshake { &[] } else { &["midstream finish c2s=1 s2c=23"] });
        refused(&trace, 0);
    }
}

/// TestCheckOptions, but for its last segment: gopacket refuses what was delivered already even where it goes on behind that,
/// and here it is a retransmission.
#[test]
fn row_28_options_ack_before_data() {
    let mut trace = Trace::new(Config { strict_options: true, ..Config::default() });
    trace.send(S.ack(3_465_787_765, 374_511_119)).send(C.data(374_511_116, "abc"));
    trace.send(C.data(374_511_119, "def").ack(3_465_787_766)).send(C.data(374_511_132, "ghi").ack(3_465_787_766));
    trace.send(C.data(374_511_119, "def").ack(3_465_787_766)).finish();
    trace.expect(&["midstream finish c2s=abcdef[10 close]ghi s2c="]);
    assert_eq!(trace.reassembler().stats().refused_options, 0);
    assert_eq!(trace.summary(0, ClientToServer).retransmitted, 1);
}
