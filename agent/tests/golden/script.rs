//! Conversations written by hand, frame by frame, for what no recording has.

use crate::frame::{ACK, FIN, Frame, RST, SYN, URG};

/// Who speaks: 10.9.0.1 from the port that the segment names, or 10.9.0.2 from port 80.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Side {
    Client,
    Server,
}

pub(crate) use Side::{Client as C, Server as S};

/// A segment. Offsets count from the first octet behind the SYN.
#[derive(Clone, Copy)]
pub(crate) struct Segment {
    from: Side,
    port: u16,
    offset: u32,
    acknowledged: u32,
    flags: u8,
    mss: Option<u16>,
    /// IPv4 identification; 0 is none.
    id: u16,
    text: &'static str,
}

impl Side {
    pub(crate) const fn syn(self) -> Segment {
        let flags = match self {
            Self::Client => SYN,
            Self::Server => SYN | ACK,
        };
        Segment { from: self, port: 1, offset: u32::MAX, acknowledged: 0, flags, mss: None, id: 0, text: "" }
    }

    pub(crate) const fn data(self, offset: u32, text: &'static str) -> Segment {
        Segment { offset, flags: ACK, text, ..self.syn() }
    }

    /// Acknowledges so many octets, and says nothing.
    pub(crate) const fn ack(self, acknowledged: u32) -> Segment {
        self.data(0, "").acks(acknowledged)
    }

    pub(crate) const fn fin(self, offset: u32) -> Segment {
        Segment { flags: FIN | ACK, ..self.data(offset, "") }
    }

    pub(crate) const fn rst(self, offset: u32) -> Segment {
        Segment { flags: RST, ..self.data(offset, "") }
    }
}

impl Segment {
    pub(crate) const fn acks(self, acknowledged: u32) -> Self {
        Self { acknowledged, ..self }
    }

    pub(crate) const fn port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    pub(crate) const fn mss(self, mss: u16) -> Self {
        Self { mss: Some(mss), ..self }
    }

    pub(crate) const fn id(self, id: u16) -> Self {
        Self { id, ..self }
    }

    pub(crate) const fn urgent(self) -> Self {
        Self { flags: self.flags | URG, ..self }
    }

    /// The frame, so many milliseconds after midnight of 2026-11-20.
    pub(crate) fn at(self, milliseconds: u64) -> Frame {
        let (client, server) = ((1, self.port, CLIENT), (2, 80, SERVER));
        let (src, dst) = if self.from == C { (client, server) } else { (server, client) };
        let options = self.mss.map_or(vec![], |mss| [&[2, 4][..], &mss.to_be_bytes()].concat());
        let header_len = 20 + options.len() as u8;
        let acknowledgment = if self.flags & ACK == 0 { 0 } else { dst.2 + self.acknowledged };
        let tcp = [
            &src.1.to_be_bytes()[..],
            &dst.1.to_be_bytes(),
            &src.2.wrapping_add(self.offset).to_be_bytes(),
            &acknowledgment.to_be_bytes(),
            &[header_len << 2, self.flags, 0xff, 0xff, 0, 0, 0, 0],
            &options,
            self.text.as_bytes(),
        ]
        .concat();
        let ip = [
            &[0x45, 0][..],
            &(20 + tcp.len() as u16).to_be_bytes(),
            &self.id.to_be_bytes(),
            &[0, 0, 64, 6, 0, 0, 10, 9, 0, src.0, 10, 9, 0, dst.0],
        ]
        .concat();
        Frame { at: MIDNIGHT + milliseconds * 1_000_000, bytes: [&MACS[..], &[8, 0], &ip, &tcp].concat() }
    }
}

/// SYN, SYN-ACK and ACK, one millisecond after the other, and then more.
pub(crate) fn opened(port: u16, milliseconds: u64, more: &[(u64, Segment)]) -> Vec<Frame> {
    let handshake = [C.syn(), S.syn(), C.ack(0)].into_iter().zip(milliseconds..);
    let handshake = handshake.map(|(segment, at)| segment.port(port).at(at));
    handshake.chain(more.iter().map(|(at, segment)| segment.port(port).at(*at))).collect()
}

/// Sequence numbers of the first octets.
const CLIENT: u32 = 1_000;
const SERVER: u32 = 5_000;

const MACS: [u8; 12] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];

/// date --utc -d 2026-11-20 +%s, in nanoseconds.
const MIDNIGHT: u64 = 1_795_132_800_000_000_000;
