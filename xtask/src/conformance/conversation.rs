//! The language that captures are written down in. A conversation is what two ends say to each other, segment by segment,
//! in the order in which it happens. What a stream holds is known beforehand: a segment is a range of it. So what a
//! program should make of a capture follows from what was sent, whatever became of it on the way.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Range,
};

use super::{
    expected::Stream,
    ranges::Ranges,
    segment::{ACK, Checksum, FIN, IpLen, PSH, SYN, Segment, Truth},
};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    Client,
    Server,
}

impl Side {
    pub(crate) fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

pub(crate) struct Conversation {
    ends: [End; 2],
    segments: Vec<Segment>,
    /// How many of the segments are accounted for in `ends`. The last one may still be changed.
    settled: usize,
    /// When the next segment is sent.
    now: u64,
    /// What the clock of the capture is off by.
    step: i64,
    /// Both sides' packets carry IPv4 options or IPv6 extension headers.
    pub(crate) extended: bool,
    /// How many connections it is to xdpflow.
    pub(crate) connections: usize,
    pub(crate) ended: Option<&'static str>,
    pub(crate) started: Option<&'static str>,
}

/// One of the two, and what is known of its stream.
pub(crate) struct End {
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
    isn: u32,
    /// Its SYN was sent.
    syn: bool,
    /// Where its FIN stands, once that was sent.
    fin: Option<u64>,
    /// What the capture has of the stream.
    captured: Ranges,
    /// What the peer has of it.
    received: Ranges,
    /// Where the stream begins if not behind a SYN.
    begin: Option<u64>,
    trailing: Option<(u64, &'static str)>,
    /// How many it sent, modulo 2^16: the next IP identification.
    packets: u16,
}

impl Conversation {
    pub(crate) fn new() -> Self {
        Self::between(Ipv4Addr::new(10, 1, 0, 1), Ipv4Addr::new(10, 1, 0, 2))
    }

    pub(crate) fn v6() -> Self {
        Self::between(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2))
    }

    /// With a client that has an address of Teredo's (RFC 4380 2.6).
    pub(crate) fn teredo() -> Self {
        Self::between(
            Ipv6Addr::new(0x2001, 0, 0xc000, 0x0201, 0, 0x3fff, 0x3fff, 0xfdf5),
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2),
        )
    }

    fn between<A: Into<IpAddr>>(client: A, server: A) -> Self {
        let end = |ip, port, isn| End {
            ip,
            port,
            isn,
            syn: false,
            fin: None,
            captured: Ranges::default(),
            received: Ranges::default(),
            begin: None,
            trailing: None,
            packets: 0,
        };
        Self {
            ends: [end(client.into(), 40_000, 0x1111_1111), end(server.into(), 80, 0x9999_9999)],
            segments: Vec::new(),
            settled: 0,
            now: START,
            step: 0,
            extended: false,
            connections: 1,
            ended: None,
            started: None,
        }
    }

    /// The client's port.
    pub(crate) fn port(mut self, port: u16) -> Self {
        self.ends[0].port = port;
        self
    }

    pub(crate) fn isns(mut self, client: u32, server: u32) -> Self {
        (self.ends[0].isn, self.ends[1].isn) = (client, server);
        self
    }

    /// On the same endpoints, with other ISNs, once the first one has got as far as it is written.
    pub(crate) fn again(first: &Self) -> Self {
        let mut again = Self::between(first.ends[0].ip, first.ends[1].ip);
        again.now = first.now;
        for (end, before) in again.ends.iter_mut().zip(&first.ends) {
            // RFC 9293 3.4.1: the ISN grows by a quarter of a million in a second.
            (end.port, end.isn) = (before.port, before.isn.wrapping_add(40_000_000));
        }
        again
    }

    pub(crate) fn with_extended_headers(mut self) -> Self {
        self.extended = true;
        self
    }

    /// Under way before the capture: so much of either stream has passed.
    pub(crate) fn midstream(client: u64, server: u64) -> Self {
        let mut midstream = Self::new();
        midstream.ends[0].begin = Some(client);
        midstream.ends[1].begin = Some(server);
        midstream
    }

    // What is said.

    pub(crate) fn handshake(&mut self) {
        self.syn(Side::Client);
        self.syn(Side::Server);
        self.ack(Side::Client);
    }

    /// A SYN, or a SYN-ACK once the peer's SYN was sent.
    pub(crate) fn syn(&mut self, side: Side) -> &mut Segment {
        self.say(side, 0..0).syn()
    }

    /// The client sends this part of its stream.
    pub(crate) fn client(&mut self, range: Range<u64>) -> &mut Segment {
        self.say(Side::Client, range)
    }

    /// The server sends this part of its stream.
    pub(crate) fn server(&mut self, range: Range<u64>) -> &mut Segment {
        self.say(Side::Server, range)
    }

    /// An ACK for everything that was received so far without a hole.
    pub(crate) fn ack(&mut self, side: Side) -> &mut Segment {
        self.settle();
        let end = &self.ends[side as usize];
        let next = end.received.end().or(end.begin).unwrap_or(0);
        let behind_fin = u32::from(end.fin.is_some());
        let segment = self.say(side, next..next);
        segment.seq = segment.seq.wrapping_add(behind_fin);
        segment
    }

    /// Sent and received, and not in the capture.
    pub(crate) fn unseen(&mut self, side: Side, range: Range<u64>) {
        self.settle();
        self.ends[side as usize].received.insert(range);
    }

    /// Both sides say that they have said everything.
    pub(crate) fn close(&mut self) {
        self.ack(Side::Client).fin();
        self.ack(Side::Server).fin();
        self.ack(Side::Client);
    }

    pub(crate) fn wait_seconds(&mut self, seconds: u64) {
        self.now += seconds * 1_000_000_000;
    }

    /// The clock of the machine that captures is set.
    pub(crate) fn clock_step(&mut self, seconds: i64) {
        self.clock_step_milliseconds(seconds * 1000);
    }

    pub(crate) fn clock_step_milliseconds(&mut self, milliseconds: i64) {
        self.step += milliseconds * 1_000_000;
    }

    /// One that was said before.
    pub(crate) fn segment(&mut self, number: usize) -> &mut Segment {
        &mut self.segments[number]
    }

    // What should become of it, where that does not follow from what was said.

    /// That many octets are known to be missing at the end.
    pub(crate) fn trailing(&mut self, side: Side, len: u64, cause: &'static str) {
        self.ends[side as usize].trailing = Some((len, cause));
    }

    /// The `started` of the record.
    pub(crate) fn started(&mut self, started: &'static str) {
        self.started = Some(started);
    }

    /// The `ended` of the record.
    pub(crate) fn ended(&mut self, ended: &'static str) {
        self.ended = Some(ended);
    }

    /// Neither a stream nor a record comes of it.
    pub(crate) fn opens_nothing(&mut self) {
        self.connections = 0;
    }

    /// What its two streams should be.
    pub(crate) fn streams(&mut self) -> Vec<Stream> {
        self.settle();
        let sides = [Side::Client, Side::Server];
        sides.into_iter().filter(|_| self.connections > 0).map(|side| self.stream(side)).collect()
    }

    /// In the order in which they were sent.
    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    pub(crate) fn end(&self, side: Side) -> &End {
        &self.ends[side as usize]
    }

    fn stream(&self, side: Side) -> Stream {
        let end = self.end(side);
        Stream {
            key: end.key(),
            begin: end.begin.unwrap_or(0),
            captured: end.captured.clone(),
            trailing: end.trailing,
            started: self.started,
            ended: self.ended,
        }
    }

    fn say(&mut self, side: Side, range: Range<u64>) -> &mut Segment {
        self.settle();
        let now = self.now;
        self.now += PACE;
        let ack = self.acknowledgment(side);
        let (peer_isn, answers) = (self.end(side.peer()).isn, self.end(side.peer()).syn);
        let end = &mut self.ends[side as usize];
        end.packets = end.packets.wrapping_add(1);
        self.segments.push(Segment {
            side,
            order: now,
            time: now.wrapping_add_signed(self.step),
            seq: end.isn.wrapping_add(1).wrapping_add(range.start as u32),
            ack,
            peer_isn,
            answers,
            flags: ACK | if range.is_empty() { 0 } else { PSH },
            window: WINDOW,
            urgent: 0,
            key: end.key(),
            range,
            truth: Truth::Sent,
            garbled: false,
            text: &[],
            captured_len: None,
            checksum: Checksum::Right,
            ip_len: IpLen::Right,
            fragments: Vec::new(),
            ip_id: end.packets,
        });
        self.segments.last_mut().unwrap_or_else(|| unreachable!("one was pushed"))
    }

    /// The next octet that `side` expects.
    fn acknowledgment(&self, side: Side) -> u32 {
        let peer = &self.ends[side.peer() as usize];
        let begin = peer.begin.unwrap_or(0);
        let next = peer.received.reach(begin);
        let behind_fin = u32::from(peer.fin == Some(next));
        peer.isn.wrapping_add(1).wrapping_add(next as u32).wrapping_add(behind_fin)
    }

    /// Accounts for what was said last, now that it is complete.
    fn settle(&mut self) {
        for segment in &self.segments[self.settled..] {
            let end = &mut self.ends[segment.side as usize];
            if segment.truth != Truth::Sent {
                continue;
            }
            end.received.insert(segment.range.clone());
            end.captured.insert(segment.captured());
            end.syn |= segment.flags & SYN != 0;
            if segment.flags & FIN != 0 {
                end.fin = Some(segment.range.end);
            }
        }
        self.settled = self.segments.len();
    }
}

impl End {
    /// What tells its stream from all others of a capture.
    fn key(&self) -> u64 {
        u64::from(self.port) << 32 | u64::from(self.isn)
    }
}

/// 2026-11-20 12:00 UTC.
const START: u64 = 1_795_176_000_000_000_000;

/// Between two segments.
const PACE: u64 = 1_000_000;

/// Times the 128 of the SYN's window scale: 8 MiB.
const WINDOW: u16 = 65_535;
