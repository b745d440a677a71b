//! Row 18: urgent data.

use agent::reassembly::{Config, Direction::ClientToServer};

use crate::trace::{C, Trace};

#[test]
fn row_18_urgent_data_stays_in_line_and_is_counted() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "ab").urgent()).send(C.data(1003, "!").urgent()).send(C.data(1004, "cd"));
    trace.expect(&["handshake open c2s=ab!cd s2c="]).finish();
    assert_eq!(trace.summary(0, ClientToServer).urgent, 2);
    assert_eq!(trace.reassembler().stats().urgent, 2);
}

#[test]
fn row_18_an_urgent_octet_sent_again_is_not_stored_twice() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "ab!").urgent()).send(C.data(1003, "!c").urgent());
    trace.expect(&["handshake open c2s=ab!c s2c="]);
}
