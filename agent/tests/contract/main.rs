//! The byte contract, row by row. Every expectation here is worked out by hand from the text of the row that the test is
//! named after, never from what the reassembler happens to do. Where a row was drawn from one of gopacket's test
//! vectors, `gopacket.rs` keeps the vector's sequence numbers.

mod closing;
mod cutoff;
mod gaps;
mod gopacket;
mod kernel;
mod lifetime;
mod limits;
mod order;
mod pickup;
mod plausibility;
mod reset;
mod reuse;
mod strict;
mod trace;
mod twins;
mod urgent;
mod withheld;
