//! xdpflow: a kernel-filtered TCP capture agent. See ARCHITECTURE.md for the whole line from NIC to file.

pub mod capture;
pub mod cli;
pub mod clock;
pub mod control;
pub mod decode;
mod ends;
pub mod error;
pub mod filter;
mod flows;
pub mod frame;
pub mod generations;
pub mod interface;
pub mod judge;
pub mod kernel;
pub mod mailbox;
mod netlink;
pub mod pcap;
pub mod reassembly;
pub mod replay;
pub mod report;
pub mod roles;
pub mod segment;
pub mod shard;
pub mod signals;
pub mod sink;
mod steady;
pub mod voice;
