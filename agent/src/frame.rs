//! One frame as a source hands it over, whether that is a ring or a capture file.

use agent_common::frame::LinkType;

use crate::segment::{FlowNote, Origin, Timestamp};

/// Borrowed from the ring or from the reader's block until the next frame is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    pub timestamp: Timestamp,
    /// Length where the frame was tapped (pcap `len`); `bytes` may be shorter (snaplen).
    pub len: u32,
    pub bytes: &'a [u8],
    pub link_type: LinkType,
    pub origin: Origin,
    /// What the kernel says of the connection; `None` in replay.
    pub flow: Option<&'a FlowNote>,
}
