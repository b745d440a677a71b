//! xdpflow: a kernel-filtered TCP capture agent. See ARCHITECTURE.md for the whole line from NIC to file.

pub mod decode;
pub mod frame;
pub mod interface;
pub mod kernel;
mod netlink;
pub mod pcap;
pub mod reassembly;
pub mod segment;
pub mod sink;
