//! Captures of real traffic that this project recorded itself, replayed by the binary that users run. Every stream is
//! compared with the octets that the endpoints sent, as their manifests have them; nothing that is expected here was ever
//! printed by xdpflow.
//!
//! `xtask/demo/recorded.pcap` is what the demo replays, and `cargo xtask demo --record` makes it: HTTP, where nothing goes
//! wrong. `troubles.pcap` beside this file is where something does, and `cargo run -p agent --example record_troubles`
//! makes that. Whatever else is replayed is one of them rewritten, by code that is as simple as its formats and shares
//! nothing with `agent/src`; or, to show what a flag changes, a few frames written by hand (`script.rs`).

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world fails there")]

mod account;
mod file;
mod frame;
mod outcome;
mod random;
mod recording;
mod script;

mod compressed;
mod damage;
mod digest;
mod disorder;
mod filter;
mod flag;
mod format;
mod link;
mod loss;
mod merge;
mod output;
mod pipe;
mod time;
mod trouble;
mod tunnel;
mod usage;
