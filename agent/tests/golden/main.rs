//! A capture of real traffic that this project recorded itself, replayed by the binary that users run. Every stream is
//! compared with the octets that the endpoints sent, as their manifest has them; nothing that is expected here was ever
//! printed by xdpflow. `cargo xtask demo --record` makes the capture and the manifest, and the demo uses them, too.
//!
//! What is rewritten is rewritten here, by code that is as simple as its formats and shares nothing with `agent/src`.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world fails there")]

mod account;
mod file;
mod frame;
mod outcome;
mod random;
mod recording;

mod damage;
mod disorder;
mod filter;
mod format;
mod link;
mod loss;
mod output;
mod time;
