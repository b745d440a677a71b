//! xdpflow: a kernel-filtered TCP capture agent. See ARCHITECTURE.md for the whole line from NIC to file.

pub mod clock;
pub mod decode;
pub mod frame;
pub mod pcap;
pub mod reassembly;
pub mod segment;
pub mod sink;
