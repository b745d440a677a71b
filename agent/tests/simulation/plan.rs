//! What one endpoint is going to do, drawn from the seed.

use crate::{packet::Position, rng::Rng};

pub(crate) const US: u64 = 1_000;
pub(crate) const MS: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1_000_000_000;

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Pause before the write, then octets.
    pub(crate) writes: Vec<(u64, Position)>,
    pub(crate) close: Close,
    pub(crate) close_delay: u64,
    pub(crate) mss: u64,
    /// What its SYN says that it takes in one segment, which its peer does not know from what it sends itself.
    pub(crate) announced_mss: Option<u16>,
    /// Segments that offload merges before the tap.
    pub(crate) merge: u64,
    pub(crate) congestion_window: Position,
    pub(crate) buffer: Position,
    pub(crate) scale: Option<u8>,
    /// Since the handshake: when the application stops to read, and for how long.
    pub(crate) pause: Option<(u64, u64)>,
    pub(crate) ack_every: u32,
    /// Interval, and the octets of the probe: 0 or 1.
    pub(crate) keep_alive: Option<(u64, u64)>,
    /// A window probe carries the next octet; otherwise it looks like a keep-alive (as Linux does it).
    pub(crate) probe_with_data: bool,
    /// Octets on the SYN or SYN-ACK, and how many of those on the peer's SYN are taken at the most.
    pub(crate) open_data: Position,
    pub(crate) accept_open_data: Position,
    /// A listener answers a SYN with a SYN of its own, perhaps after a bare ACK: four segments make the handshake.
    pub(crate) split: Option<bool>,
    pub(crate) fin_with_data: bool,
    /// Octets of text on an RST (RFC 9293 section 3.5.3).
    pub(crate) last_words: Position,
    /// Percentage of data segments that are marked urgent.
    pub(crate) urgent: u64,
    /// On a timeout everything is sent again from SND.UNA, in segments of other sizes.
    pub(crate) go_back: bool,
    pub(crate) rto: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Close {
    /// FIN after the last write.
    Fin,
    /// FIN after the last write and the peer's FIN.
    AfterPeer,
    /// RST after the last write.
    Abort,
    Never,
}

impl Plan {
    pub(crate) fn total(&self) -> Position {
        self.writes.iter().map(|write| write.1).sum()
    }

    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let mss = rng.pick(&[88, 100, 216, 536, 536, 1_220, 1_448, 1_460, 8_960]);
        let merge = if rng.chance(20) { rng.between(2, 8) } else { 1 };
        let segment = mss * (1 + merge) / 2;
        let size = match rng.below(20) {
            0..2 => 0,
            2..4 => rng.between(1, 20),
            4..18 => (segment * rng.between(30, 220)).min(rng.magnitude(64 << 10, 512 << 10)),
            _ => (segment * rng.between(220, 1_000)).min(rng.magnitude(256 << 10, 1 << 20)),
        };
        let pieces = rng.between(1, 5).min(size);
        let writes = (0..pieces).map(|n| {
            let pause = match rng.below(100) {
                0..60 => 0,
                60..97 => rng.magnitude(100 * US, 20 * SECOND),
                // Long enough for every timeout but the longest.
                _ => rng.magnitude(10 * SECOND, 900 * SECOND),
            };
            (pause, Position::from(size / pieces + if n == 0 { size % pieces } else { 0 }))
        });
        Self {
            writes: writes.collect(),
            close: match rng.below(20) {
                0..12 => Close::Fin,
                12..17 => Close::AfterPeer,
                17..19 => Close::Abort,
                _ => Close::Never,
            },
            close_delay: if rng.chance(60) { 0 } else { rng.magnitude(MS, 10 * SECOND) },
            mss,
            announced_mss: rng.chance(80).then(|| rng.pick(&[88, 536, 1_220, 1_460, 8_960, 65_495])),
            merge,
            congestion_window: rng.magnitude(4 << 10, 256 << 10).into(),
            buffer: rng.magnitude(4 << 10, 1 << 20).into(),
            scale: rng.chance(80).then(|| rng.between(0, 9) as u8),
            pause: rng.chance(20).then(|| (rng.magnitude(MS, SECOND), rng.magnitude(100 * MS, 20 * SECOND))),
            ack_every: rng.between(1, 2) as u32,
            keep_alive: rng.chance(30).then(|| (rng.magnitude(100 * MS, 60 * SECOND), rng.below(2))),
            probe_with_data: rng.chance(50),
            open_data: if rng.chance(10) { rng.between(1, 1_000).min(size).into() } else { 0 },
            accept_open_data: match rng.below(10) {
                0..5 => Position::MAX,
                5..8 => rng.between(1, 800).into(),
                _ => 0,
            },
            split: rng.chance(5).then(|| rng.chance(50)),
            fin_with_data: rng.chance(50),
            last_words: if rng.chance(20) { rng.between(1, 40).into() } else { 0 },
            urgent: if rng.chance(10) { rng.between(1, 50) } else { 0 },
            go_back: rng.chance(60),
            rto: rng.magnitude(200 * MS, 3 * SECOND),
        }
    }

    /// Makes it write more than 4 GiB, in segments that no network carries but that a segment may hold.
    pub(crate) fn enlarge(&mut self, rng: &mut Rng) {
        self.writes = vec![(0, rng.between(9 << 29, 14 << 30).into())];
        self.open_data = 0;
        self.mss = 64 << 10;
        self.merge = rng.between(64, 256);
        self.congestion_window = rng.magnitude(64 << 20, 512 << 20).into();
        self.accept_enlarged();
    }

    /// Makes room for a peer that writes more than 4 GiB.
    pub(crate) fn accept_enlarged(&mut self) {
        (self.buffer, self.scale, self.pause) = (1 << 30, Some(14), None);
    }
}
