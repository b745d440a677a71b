//! Connections made by hand of which nobody knows what they do next, losses included.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::packet::{ACK, FIN, Frame, PSH, PacketSocket, RST, SYN};

/// Some connections at once, each of which takes another turn with every step.
pub(crate) struct Crowd<'a> {
    wire: &'a PacketSocket,
    chance: Chance,
    connections: Vec<[End; 2]>,
    /// All begin with a handshake, and none is reset.
    orderly: bool,
}

impl<'a> Crowd<'a> {
    pub(crate) fn begin(wire: &'a PacketSocket, seed: u64, connections: u16, orderly: bool) -> Self {
        let mut chance = Chance(seed);
        let connections = (0..connections).map(|n| {
            let client = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 10_000 + n);
            let server = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 2), 80 + n % 3);
            Self::ends([client, server], &mut chance)
        });
        let connections = connections.collect();
        let mut this = Self { wire, chance, connections, orderly };
        (0..this.connections.len()).for_each(|at| this.open(at));
        this
    }

    /// Every connection takes a turn.
    pub(crate) fn step(&mut self) {
        for at in 0..self.connections.len() {
            // Some are silent for a while.
            if self.chance.below(4) > 0 {
                self.turn(at);
            }
        }
    }

    fn ends(addresses: [SocketAddrV4; 2], chance: &mut Chance) -> [End; 2] {
        let [client, server] = addresses.map(|address| End::new(address, chance));
        [End { acknowledges: server.next, ..client }, End { acknowledges: client.next, ..server }]
    }

    fn open(&mut self, at: usize) {
        let flags = match self.chance.below(20) {
            _ if self.orderly => [Some(SYN), Some(SYN | ACK), Some(ACK)],
            0 => [None, None, None],
            1 => [Some(SYN), None, None],
            2 => [Some(SYN), Some(SYN | ACK), None],
            3 => [None, Some(SYN | ACK), Some(ACK)],
            4 => [None, None, Some(ACK)],
            _ => [Some(SYN), Some(SYN | ACK), Some(ACK)],
        };
        for ((side, flags), takes) in [0, 1, 0].into_iter().zip(flags).zip([1, 1, 0]) {
            if let Some(flags) = flags {
                self.catch_up(at, side);
                self.send(at, side, flags, 0, 0);
            }
            self.connections[at][side].next = self.connections[at][side].next.wrapping_add(takes);
        }
    }

    fn turn(&mut self, at: usize) {
        let side = self.chance.below(2) as usize;
        let own = self.connections[at][side];
        let len = 1 + self.chance.below(1_400);
        match self.chance.below(100) {
            0..30 if !own.finished => {
                if self.chance.below(2) > 0 {
                    self.catch_up(at, side);
                }
                self.say(at, side, PSH | ACK, len);
            }
            // Sent on some other wire.
            30..38 if !own.finished => self.connections[at][side].advance(len),
            // The second half before the first one.
            38..42 if !own.finished => {
                self.send(at, side, ACK, len, len);
                self.send(at, side, ACK, 0, len);
                self.connections[at][side].advance(2 * len);
            }
            42..60 => {
                self.catch_up(at, side);
                self.send(at, side, ACK, 0, 0);
            }
            // Something on the way to there: a hole that is asked for.
            60..66 => {
                let peer = self.connections[at][1 - side];
                let ahead = peer.next.wrapping_sub(own.acknowledges);
                let part = self.chance.below(ahead.max(1));
                self.connections[at][side].acknowledges = own.acknowledges.wrapping_add(part);
                self.send(at, side, ACK, 0, 0);
            }
            // Duplicates.
            66..70 => (0..3).for_each(|_| self.send(at, side, ACK, 0, 0)),
            // What was sent, or lost, before.
            70..78 => {
                let back = self.chance.below(own.next.wrapping_sub(own.start).clamp(1, 5_000));
                let from = 0u32.wrapping_sub(back);
                self.send(at, side, ACK, from, len.min(back));
            }
            78..81 => {
                self.connections[at][side].window = [0, 1, 500, 0xffff][self.chance.below(4) as usize];
                self.send(at, side, ACK, 0, 0);
            }
            // A keep-alive probe, and one of a window.
            81..84 => self.send(at, side, ACK, 0u32.wrapping_sub(1), 0),
            84..86 if !own.finished => {
                self.send(at, side, ACK, 0, 1);
                self.say(at, side, ACK, len);
            }
            86..94 if !own.finished => {
                self.say(at, side, FIN | ACK, if len.is_multiple_of(3) { len } else { 0 });
                self.connections[at][side].advance(1);
                self.connections[at][side].finished = true;
            }
            94 if !self.orderly => self.send(at, side, RST | ACK, 0, 0),
            // Forged.
            95 if !self.orderly => self.send(at, side, RST, len * 100_000, 0),
            // Acknowledges what nobody sent.
            96 => {
                let own = &mut self.connections[at][side];
                let before = own.acknowledges;
                own.acknowledges = before.wrapping_add(len * 1_000_000);
                self.send(at, side, ACK, 0, 0);
                self.connections[at][side].acknowledges = before;
            }
            // The same endpoints once more.
            97 if self.connections[at].iter().all(|end| end.finished) => {
                for side in [0, 1] {
                    // What was counted of the connection is in a record, before the accounts are those of another one.
                    self.send(at, side, FIN | ACK, 0u32.wrapping_sub(1), 0);
                }
                let addresses = self.connections[at].map(|end| end.address);
                self.connections[at] = Self::ends(addresses, &mut self.chance);
                self.open(at);
            }
            _ => {}
        }
    }

    /// Octets that are new.
    fn say(&mut self, at: usize, side: usize, flags: u8, len: u32) {
        self.send(at, side, flags, 0, len);
        self.connections[at][side].advance(len);
    }

    fn catch_up(&mut self, at: usize, side: usize) {
        self.connections[at][side].acknowledges = self.connections[at][1 - side].next;
    }

    /// A segment that begins `ahead` of what would be next.
    fn send(&self, at: usize, side: usize, flags: u8, ahead: u32, len: u32) {
        let (own, peer) = (self.connections[at][side], self.connections[at][1 - side]);
        let sequence = own.next.wrapping_add(ahead);
        // Copies of an octet are the same.
        let payload: Vec<_> = (0..len).map(|i| octet(own.address.port(), sequence.wrapping_add(i))).collect();
        let frame = Frame {
            source: own.address,
            destination: peer.address,
            sequence,
            acknowledgment: if flags & ACK == 0 { 0 } else { own.acknowledges },
            flags,
            window: own.window,
            payload: &payload,
        };
        self.wire.send(&frame.bytes());
    }
}

#[derive(Clone, Copy)]
struct End {
    address: SocketAddrV4,
    start: u32,
    /// Of what is sent next, lost octets included.
    next: u32,
    acknowledges: u32,
    window: u16,
    finished: bool,
}

impl End {
    /// Many of them near the wrap of their sequence numbers.
    fn new(address: SocketAddrV4, chance: &mut Chance) -> Self {
        let start = if chance.below(2) > 0 { 0u32.wrapping_sub(chance.below(4_000)) } else { chance.below(u32::MAX) };
        Self { address, start, next: start, acknowledges: 0, window: 0xffff, finished: false }
    }

    fn advance(&mut self, octets: u32) {
        self.next = self.next.wrapping_add(octets);
    }
}

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (mix(self.0) % u64::from(n)) as u32
    }
}

fn octet(port: u16, sequence: u32) -> u8 {
    mix(u64::from(port) << 32 | u64::from(sequence)) as u8
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
