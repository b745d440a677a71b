//! What one endpoint is going to do, drawn from the seed.

use crate::rng::Rng;

pub(crate) const US: u64 = 1_000;
pub(crate) const MS: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1_000_000_000;

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Pause before the write, then octets.
    pub(crate) writes: Vec<(u64, u64)>,
    pub(crate) close: Close,
    pub(crate) close_delay: u64,
    pub(crate) mss: u64,
    /// Segments that offload merges before the tap.
    pub(crate) merge: u64,
    pub(crate) congestion_window: u64,
    pub(crate) buffer: u64,
    pub(crate) scale: Option<u8>,
    /// Since the handshake: when the application stops to read, and for how long.
    pub(crate) pause: Option<(u64, u64)>,
    pub(crate) ack_every: u32,
    /// Interval, and the octets of the probe: 0 or 1.
    pub(crate) keep_alive: Option<(u64, u64)>,
    /// A window probe carries the next octet; otherwise it looks like a keep-alive (as Linux does it).
    pub(crate) probe_with_data: bool,
    /// Octets on the SYN or SYN-ACK, and whether those of the peer's SYN are taken.
    pub(crate) open_data: u64,
    pub(crate) accept_open_data: bool,
    pub(crate) fin_with_data: bool,
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
    pub(crate) fn total(&self) -> u64 {
        self.writes.iter().map(|write| write.1).sum()
    }

    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let size = match rng.below(20) {
            0..2 => 0,
            2..5 => rng.between(1, 20),
            5..17 => rng.magnitude(64, 64 << 10),
            _ => rng.magnitude(32 << 10, 512 << 10),
        };
        let pieces = rng.between(1, 5).min(size);
        let writes = (0..pieces).map(|n| {
            let pause = if rng.chance(60) { 0 } else { rng.magnitude(100 * US, 20 * SECOND) };
            (pause, size / pieces + if n == 0 { size % pieces } else { 0 })
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
            mss: rng.pick(&[100, 536, 1_220, 1_448, 1_460, 8_960]),
            merge: if rng.chance(30) { rng.between(2, 16) } else { 1 },
            congestion_window: rng.magnitude(4 << 10, 256 << 10),
            buffer: rng.magnitude(4 << 10, 1 << 20),
            scale: rng.chance(80).then(|| rng.between(0, 9) as u8),
            pause: rng.chance(15).then(|| (rng.magnitude(MS, SECOND), rng.magnitude(100 * MS, 20 * SECOND))),
            ack_every: rng.between(1, 2) as u32,
            keep_alive: rng.chance(30).then(|| (rng.magnitude(100 * MS, 60 * SECOND), rng.below(2))),
            probe_with_data: rng.chance(50),
            open_data: if rng.chance(10) { rng.between(1, 1_000).min(size) } else { 0 },
            accept_open_data: rng.chance(70),
            fin_with_data: rng.chance(50),
            go_back: rng.chance(60),
            rto: rng.magnitude(200 * MS, 3 * SECOND),
        }
    }
}
