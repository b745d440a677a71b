//! The recorded capture, and what its endpoints say they sent.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::{
    file,
    frame::{Frame, SYN},
};

/// Frames, and the conversations they carry, in the order in which they began.
#[derive(Clone)]
pub(crate) struct Recording {
    pub frames: Vec<Frame>,
    pub conversations: Vec<Conversation>,
}

/// A connection and everything that was said on it.
#[derive(Clone)]
pub(crate) struct Conversation {
    pub client: SocketAddr,
    pub server: SocketAddr,
    /// When the SYN was sent.
    pub start: u64,
    /// By the client and by the server.
    pub said: [Said; 2],
}

/// One direction of a conversation.
#[derive(Clone)]
pub(crate) struct Said {
    /// Sequence number of the first octet.
    pub first: u32,
    pub octets: Vec<u8>,
}

impl Recording {
    /// The file as it lies in the repository.
    pub(crate) fn path() -> PathBuf {
        Path::new(DEMO).join("recorded.pcap")
    }

    /// Read once, and held against the manifest before anyone sees it.
    pub(crate) fn get() -> &'static Self {
        static RECORDING: LazyLock<Recording> = LazyLock::new(Recording::read);
        &RECORDING
    }

    fn read() -> Self {
        let frames = file::read(&fs::read(Self::path()).unwrap());
        let manifest = fs::read_to_string(Path::new(DEMO).join("recorded.jsonl")).unwrap();
        let mut conversations: Vec<_> = manifest
            .lines()
            .map(|line| {
                let noted: Transcript = serde_json::from_str(line).unwrap();
                let [sent, received] = [(noted.client, noted.server), (noted.server, noted.client)]
                    .map(|(src, dst)| said(&frames, src, dst));
                for (said, noted) in [(&sent, &noted.sent), (&received, &noted.received)] {
                    assert_eq!(said.octets.len(), noted.len, "{line}");
                    assert_eq!(format!("{:x}", Sha256::digest(&said.octets)), noted.sha256, "{line}");
                }
                let syn = frames.iter().find(|frame| frame.tcp().src == noted.client).unwrap();
                Conversation { client: noted.client, server: noted.server, start: syn.at, said: [sent, received] }
            })
            .collect();
        conversations.sort_by_key(|conversation| conversation.start);
        Self { frames, conversations }
    }
}

impl Conversation {
    /// Which of the two said what is in `frame`, if it is of this conversation.
    pub(crate) fn direction(&self, frame: &Frame) -> Option<usize> {
        let tcp = frame.tcp();
        [(self.client, self.server), (self.server, self.client)].iter().position(|ends| *ends == (tcp.src, tcp.dst))
    }

    /// Source and destination of a direction.
    pub(crate) fn ends(&self, direction: usize) -> (SocketAddr, SocketAddr) {
        if direction == 0 { (self.client, self.server) } else { (self.server, self.client) }
    }
}

/// Puts payloads together by sequence number, which is all there is to it when nothing is missing.
fn said(frames: &[Frame], src: SocketAddr, dst: SocketAddr) -> Said {
    let sent = || frames.iter().map(Frame::tcp).filter(move |tcp| (tcp.src, tcp.dst) == (src, dst));
    let syn = sent().find(|tcp| tcp.flags & SYN != 0).unwrap_or_else(|| panic!("{src} > {dst}: no SYN"));
    let first = syn.seq.wrapping_add(1);
    let pieces: BTreeMap<u32, &[u8]> =
        sent().filter(|tcp| !tcp.payload.is_empty()).map(|tcp| (tcp.seq.wrapping_sub(first), tcp.payload)).collect();
    let mut octets = Vec::new();
    for (offset, payload) in pieces {
        let known = octets.len().checked_sub(offset as usize).unwrap_or_else(|| panic!("{src} > {dst}: a hole"));
        octets.extend_from_slice(payload.get(known..).unwrap_or_default());
    }
    Said { first, octets }
}

/// A line of the manifest.
#[derive(Deserialize)]
struct Transcript {
    client: SocketAddr,
    server: SocketAddr,
    sent: Octets,
    received: Octets,
}

#[derive(Deserialize)]
struct Octets {
    len: usize,
    sha256: String,
}

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../xtask/demo");

#[test]
fn the_recording_holds_what_its_endpoints_noted() {
    let recording = Recording::get();
    // Frames of connections that the manifest does not know would make every other test vague.
    let known = |frame: &Frame| recording.conversations.iter().any(|it| it.direction(frame).is_some());
    assert!(recording.frames.iter().all(known));
    let long = |said: &Said| said.octets.len() > 50_000;
    assert!(recording.conversations.iter().any(|it| it.said.iter().any(long)), "nothing long in it");
    assert!(recording.conversations.iter().any(|it| it.client.is_ipv6()), "no IPv6 in it");
}
