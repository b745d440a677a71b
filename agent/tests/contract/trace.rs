//! Hand-written segments in, one readable line per connection out.

use std::{iter, ops::Range};

use agent::{
    reassembly::{
        Config, ConnectionId, Direction, Ended, Event, Gap, GapCause, Reassembler, Sink, StreamSummary, Summary,
    },
    segment::{Endpoint, Flags, FlowNote, Origin, Segment, SeqNum, Timestamp},
};

use crate::kernel::{Kernel, Orders};

/// Who sends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    C,
    S,
}

pub(crate) use Side::{C, S};

impl Side {
    pub(crate) fn syn(self, isn: u32) -> Seg {
        Seg::new(self, isn, Flags::SYN)
    }

    /// A bare ACK.
    pub(crate) fn ack(self, seq: u32, ack: u32) -> Seg {
        Seg::new(self, seq, Flags(0)).ack(ack)
    }

    /// Payload, with PSH and without an ACK until [`Seg::ack`] gives one.
    pub(crate) fn data(self, seq: u32, payload: impl AsRef<[u8]>) -> Seg {
        Seg::new(self, seq, Flags::PSH).with(payload)
    }

    pub(crate) fn fin(self, seq: u32) -> Seg {
        Seg::new(self, seq, Flags::FIN)
    }

    pub(crate) fn rst(self, seq: u32) -> Seg {
        Seg::new(self, seq, Flags::RST)
    }
}

/// One segment of the table.
#[derive(Clone, Debug)]
pub(crate) struct Seg {
    side: Side,
    client_port: u16,
    seq: u32,
    ack: u32,
    flags: Flags,
    window: u16,
    scale: Option<u8>,
    payload: Vec<u8>,
    missing: u32,
    refused: u64,
    mss: Option<u16>,
    ip_id: Option<u16>,
    interface: u16,
    vlan: Option<u16>,
    at: Option<u64>,
}

impl Seg {
    fn new(side: Side, seq: u32, flags: Flags) -> Self {
        Self {
            side,
            client_port: 40_000,
            seq,
            ack: 0,
            flags,
            window: 65_535,
            scale: None,
            payload: Vec::new(),
            missing: 0,
            refused: 0,
            mss: None,
            ip_id: None,
            interface: 0,
            vlan: None,
            at: None,
        }
    }

    pub(crate) fn ack(mut self, ack: u32) -> Self {
        self.ack = ack;
        self.flags = self.flags | Flags::ACK;
        self
    }

    pub(crate) fn with(mut self, payload: impl AsRef<[u8]>) -> Self {
        self.payload = payload.as_ref().to_vec();
        self
    }

    pub(crate) fn and_fin(mut self) -> Self {
        self.flags = self.flags | Flags::FIN;
        self
    }

    pub(crate) fn without_psh(mut self) -> Self {
        self.flags = Flags(self.flags.0 & !Flags::PSH.0);
        self
    }

    pub(crate) fn window(mut self, window: u16) -> Self {
        self.window = window;
        self
    }

    pub(crate) fn scale(mut self, shift: u8) -> Self {
        self.scale = Some(shift);
        self
    }

    pub(crate) fn missing(mut self, octets: u32) -> Self {
        self.missing = octets;
        self
    }

    pub(crate) fn refused(mut self, records: u64) -> Self {
        self.refused = records;
        self
    }

    pub(crate) fn mss(mut self, octets: u16) -> Self {
        self.mss = Some(octets);
        self
    }

    pub(crate) fn urgent(mut self) -> Self {
        self.flags = self.flags | Flags::URG;
        self
    }

    /// Identification in the IPv4 header.
    pub(crate) fn ip_id(mut self, id: u16) -> Self {
        self.ip_id = Some(id);
        self
    }

    pub(crate) fn interface(mut self, number: u16) -> Self {
        self.interface = number;
        self
    }

    pub(crate) fn vlan(mut self, id: u16) -> Self {
        self.vlan = Some(id);
        self
    }

    /// Milliseconds of the capture clock; without it, the time of the segment before.
    pub(crate) fn at(mut self, milliseconds: u64) -> Self {
        self.at = Some(milliseconds);
        self
    }

    /// Another connection than the usual one.
    pub(crate) fn port(mut self, client_port: u16) -> Self {
        self.client_port = client_port;
        self
    }
}

/// A reassembler, its clock and all that it has said; and another one that a kernel withholds bare ACKs from, which has to
/// say the same (row 27).
pub(crate) struct Trace {
    now: u64,
    copied: Listener,
    withheld: Option<Listener>,
    /// A clock has jumped, and what was withheld then is known as of another time.
    jumped: bool,
    /// What a kernel has copied, and nobody has read yet.
    ring: Vec<(Seg, FlowNote)>,
}

/// A reassembler, and what it has said.
struct Listener {
    reassembler: Reassembler,
    heard: Heard,
    /// What stands before it.
    kernel: Option<Kernel>,
}

const MS: u64 = 1_000_000;
/// The capture clock starts away from zero, where subtractions that go wrong would saturate unnoticed.
const EPOCH: u64 = 1_000_000_000_000_000;

impl Trace {
    pub(crate) fn new(config: Config) -> Self {
        let Config { strict_fsm, strict_options, interface_key, vlan_key, .. } = config;
        // These want to see all segments, or tell more connections apart than the kernel does.
        if strict_fsm || strict_options || interface_key || vlan_key {
            return Self { now: 0, copied: Listener::new(config), withheld: None, jumped: false, ring: Vec::new() };
        }
        Self::behind(Orders { acks: true, ..Orders::default() }, config)
    }

    /// With a kernel that withholds what it is told to.
    pub(crate) fn behind(orders: Orders, config: Config) -> Self {
        let withheld = Some(Listener::behind(Kernel::new(orders), config));
        Self { now: 0, copied: Listener::new(config), withheld, jumped: false, ring: Vec::new() }
    }

    /// Behind a kernel alone: for what no segments are there of.
    pub(crate) fn live(orders: Orders, config: Config) -> Self {
        Self {
            now: 0,
            copied: Listener::behind(Kernel::new(orders), config),
            withheld: None,
            jumped: false,
            ring: Vec::new(),
        }
    }

    /// The usual handshake.
    pub(crate) fn shake_hands(mut self) -> Self {
        self.send(C.syn(1000)).send(S.syn(5000).ack(1001)).send(C.ack(1001, 5001));
        self
    }

    pub(crate) fn kernel(&self) -> &Kernel {
        self.copied.kernel.as_ref().expect("a live one")
    }

    /// From here on the kernel sheds what begins.
    pub(crate) fn shed(&mut self) -> &mut Self {
        for listener in self.listeners() {
            listener.kernel.iter_mut().for_each(|kernel| kernel.orders.shed = true);
        }
        self
    }

    /// As if `side` had sent so many octets more, all of them behind the cut-off.
    pub(crate) fn skip(&mut self, side: Side, octets: u64) -> &mut Self {
        let seg = Seg::new(side, 0, Flags(0));
        let segment = segment(&seg, 0);
        self.kernel().skip(segment.src, segment.dst, octets);
        self
    }

    /// A segment that a full ring costs, or that the kernel has seen and withheld before its time comes here.
    pub(crate) fn lose(&mut self, seg: Seg) -> &mut Self {
        self.kernel().lose(&segment(&seg, seg.at.unwrap_or(self.now)));
        self
    }

    /// A segment that lies in the ring from now on.
    pub(crate) fn fill(&mut self, seg: Seg) -> &mut Self {
        let (_, note) = self.kernel().copy(&segment(&seg, self.now)).expect("one that is copied");
        self.ring.push((Seg { at: Some(self.now), ..seg }, note));
        self
    }

    /// Hands over what lies in the ring.
    pub(crate) fn drain(&mut self) -> &mut Self {
        let Listener { reassembler, heard, .. } = &mut self.copied;
        for (seg, note) in self.ring.drain(..) {
            reassembler
                .handle_segment(&Segment { flow: Some(&note), ..segment(&seg, seg.at.unwrap_or(self.now)) }, heard);
        }
        self
    }

    /// The usual start: ISN 1000 for the client, 5000 for the server, no window scaling.
    pub(crate) fn established(config: Config) -> Self {
        Self::new(config).shake_hands()
    }

    /// Timers that are due fire first, as in a live capture.
    pub(crate) fn send(&mut self, seg: Seg) -> &mut Self {
        if let Some(at) = seg.at {
            self.wait_until(at);
        }
        self.send_untimed(seg)
    }

    /// As [`send`](Self::send), but the clock shows whatever `at` says and no timer gets to run before the segment.
    pub(crate) fn send_untimed(&mut self, seg: Seg) -> &mut Self {
        self.jumped |= seg.at.is_some_and(|at| at != self.now);
        self.now = seg.at.unwrap_or(self.now);
        let now = self.now;
        for listener in self.listeners() {
            listener.handle(&segment(&seg, now));
        }
        self
    }

    /// The first of several fragments that this segment was sent in: all that is seen of it is its header.
    pub(crate) fn send_first_fragment(&mut self, seg: Seg) -> &mut Self {
        let segment = Segment { payload: &[], ..segment(&seg, self.now) };
        for listener in self.listeners() {
            listener.reassembler.handle_fragment(&segment);
        }
        self
    }

    /// Lets the clock run, and every timer fire when it is due.
    pub(crate) fn wait_until(&mut self, milliseconds: u64) -> &mut Self {
        for listener in self.listeners() {
            listener.wait_until(Timestamp(EPOCH + milliseconds * MS));
        }
        self.now = milliseconds;
        self
    }

    /// From here on nothing is withheld.
    pub(crate) fn copied(mut self) -> Self {
        self.withheld = None;
        self
    }

    pub(crate) fn finish(&mut self) -> &mut Self {
        for listener in self.listeners() {
            listener.reassembler.finish(&mut listener.heard);
        }
        self
    }

    /// Asserts what has been said so far, one line per connection in the order they opened: how it started, how it ended
    /// (`open` if it has not), its two streams with gaps in brackets, the trailing
    /// one in braces.
    #[track_caller]
    pub(crate) fn expect(&mut self, lines: &[&str]) -> &mut Self {
        for listener in self.listeners() {
            let heard: Vec<_> = listener.heard.connections.iter().map(Connection::line).collect();
            assert_eq!(heard, lines, "withheld: {}", listener.kernel.is_some());
        }
        self.compare();
        self
    }

    /// Asserts that the numbers of what has ended are the same.
    #[track_caller]
    fn compare(&self) {
        let Some(withheld) = self.withheld.as_ref().filter(|_| !self.jumped) else { return };
        let counts = withheld.kernel.as_ref().is_some_and(|kernel| !kernel.has_restarted());
        for (ours, theirs) in self.copied.heard.connections.iter().zip(&withheld.heard.connections) {
            if ours.ended.is_some() {
                let numbers = |connection: &Connection| {
                    let segments = |numbers: &Numbers| if counts { numbers.segments } else { 0 };
                    connection.numbers.each_ref().map(|it| Numbers { segments: segments(it), ..it.clone() })
                };
                assert_eq!((numbers(ours), ours.end), (numbers(theirs), theirs.end), "{:?} withheld", ours.id);
            }
        }
    }

    fn listeners(&mut self) -> impl Iterator<Item = &mut Listener> {
        iter::once(&mut self.copied).chain(&mut self.withheld)
    }

    /// The numbers of the `n`th connection's last summary.
    pub(crate) fn summary(&self, n: usize, direction: Direction) -> &Numbers {
        &self.copied.heard.connections[n].numbers[direction as usize]
    }

    pub(crate) fn continues(&self, n: usize) -> Option<u64> {
        self.copied.heard.connections[n].continues
    }

    pub(crate) fn serial(&self, n: usize) -> u64 {
        self.copied.heard.connections[n].id.serial
    }

    pub(crate) fn client_port(&self, n: usize) -> u16 {
        self.copied.heard.connections[n].client.port
    }

    /// Octets that were delivered straight out of the segment that carried them.
    pub(crate) fn lent_octets(&self) -> usize {
        self.copied.heard.lent_octets
    }

    pub(crate) fn updates(&self) -> usize {
        self.copied.heard.updates
    }

    pub(crate) fn reassembler(&self) -> &Reassembler {
        &self.copied.reassembler
    }
}

impl Listener {
    fn new(config: Config) -> Self {
        Self { reassembler: Reassembler::new(config), heard: Heard::default(), kernel: None }
    }

    fn behind(kernel: Kernel, config: Config) -> Self {
        let reassembler = Reassembler::new(config).with_flows(Box::new(kernel.clone()));
        Self { reassembler, heard: Heard::default(), kernel: Some(kernel) }
    }

    fn handle(&mut self, segment: &Segment<'_>) {
        let copied = match &self.kernel {
            Some(kernel) => kernel.copy(segment),
            None => Some((*segment, FlowNote::default())),
        };
        let Some((segment, note)) = copied else {
            return self.reassembler.handle_timeout(segment.timestamp, &mut self.heard);
        };
        let flow = self.kernel.is_some().then_some(&note);
        let Range { start, end } = segment.payload.as_ptr_range();
        self.heard.lent = start as usize..end as usize;
        self.reassembler.handle_segment(&Segment { flow, ..segment }, &mut self.heard);
        self.heard.lent = 0..0;
    }

    fn wait_until(&mut self, end: Timestamp) {
        for _ in 0..20_000 {
            match self.reassembler.poll_timeout() {
                Some(due) if due <= end => self.reassembler.handle_timeout(due, &mut self.heard),
                _ => return self.reassembler.handle_timeout(end, &mut self.heard),
            }
        }
        panic!("poll_timeout asks for the same work again and again");
    }
}

fn segment(seg: &Seg, milliseconds: u64) -> Segment<'_> {
    let client = Endpoint::v4([10, 9, 0, 1], seg.client_port);
    let server = Endpoint::v4([10, 9, 0, 2], 80);
    let (src, dst) = if seg.side == C { (client, server) } else { (server, client) };
    Segment {
        timestamp: Timestamp(EPOCH + milliseconds * MS),
        src,
        dst,
        seq: SeqNum(seg.seq),
        ack: SeqNum(seg.ack),
        flags: seg.flags,
        window: seg.window,
        window_scale: seg.scale,
        mss: seg.mss,
        ip_id: seg.ip_id,
        payload: &seg.payload,
        missing: seg.missing,
        origin: Origin { interface: seg.interface, vlan: seg.vlan, refused: seg.refused, ..Origin::default() },
        flow: None,
    }
}

/// The events, and the promises of [`Sink`] checked as they come.
#[derive(Default)]
struct Heard {
    connections: Vec<Connection>,
    lent: Range<usize>,
    lent_octets: usize,
    updates: usize,
}

struct Connection {
    id: ConnectionId,
    client: Endpoint,
    end: Timestamp,
    started: &'static str,
    ended: Option<Ended>,
    continues: Option<u64>,
    streams: [Vec<Result<u8, GapCause>>; 2],
    numbers: [Numbers; 2],
}

/// [`StreamSummary`] without its lifetime.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Numbers {
    pub(crate) delivered: u64,
    pub(crate) segments: u64,
    pub(crate) retransmitted: u64,
    pub(crate) out_of_order: u64,
    pub(crate) conflict: u64,
    pub(crate) late: u64,
    pub(crate) urgent: u64,
    pub(crate) ring_full: u64,
    pub(crate) gaps: Vec<Gap>,
    pub(crate) trailing_gap: Option<Gap>,
}

impl Sink for Heard {
    fn event(&mut self, id: ConnectionId, event: Event<'_>) {
        if let Event::Open(summary) = event {
            assert!(
                self.connections.iter().all(|c| c.id.serial < id.serial && (c.id.slot != id.slot || c.ended.is_some())),
                "{id:?} is in use"
            );
            assert_eq!(summary.ended, None);
            self.connections.push(Connection {
                id,
                client: summary.client,
                end: summary.end,
                started: summary.started.name(),
                ended: None,
                continues: summary.continues,
                streams: [Vec::new(), Vec::new()],
                numbers: [summary.streams[0].into(), summary.streams[1].into()],
            });
            return;
        }
        let connection = self.connections.iter_mut().find(|c| c.id == id).expect("opened before");
        assert_eq!(connection.ended, None, "an event after Close: {event:?}");
        match event {
            Event::Open(_) => {}
            Event::Data { direction, offset, bytes } => {
                let stream = &mut connection.streams[direction as usize];
                assert_eq!(offset, stream.len() as u64);
                assert!(!bytes.is_empty());
                stream.extend(bytes.iter().copied().map(Ok));
                if self.lent.contains(&(bytes.as_ptr() as usize)) {
                    self.lent_octets += bytes.len();
                }
            }
            Event::Gap { direction, gap } => {
                let stream = &mut connection.streams[direction as usize];
                assert_eq!(gap.offset, stream.len() as u64);
                assert!((1..1 << 28).contains(&gap.len), "{gap:?}");
                stream.extend((0..gap.len).map(|_| Err(gap.cause)));
            }
            Event::Late { direction, offset, bytes } => {
                let start = offset as usize;
                for (cell, octet) in connection.streams[direction as usize][start..].iter_mut().zip(bytes) {
                    assert!(cell.is_err(), "late octets lie in a gap");
                    *cell = Ok(*octet);
                }
            }
            Event::Update(summary) => {
                self.updates += 1;
                connection.take(summary);
            }
            Event::Close(summary) => {
                connection.take(summary);
                connection.ended = Some(summary.ended.expect("a reason"));
                for (stream, numbers) in connection.streams.iter().zip(summary.streams) {
                    let gone = stream.iter().filter(|cell| cell.is_err()).count() as u64;
                    assert_eq!(numbers.len, stream.len() as u64);
                    assert_eq!(numbers.delivered, numbers.len - gone);
                    assert_eq!(numbers.gap_totals.iter().sum::<u64>(), gone);
                    let listed: u64 = numbers.gaps.iter().map(|gap| gap.len).sum();
                    assert_eq!(listed, gone, "all gaps are listed while they are few");
                    assert!(numbers.trailing_gap.is_none_or(|gap| gap.offset == numbers.len && gap.len > 0));
                }
            }
        }
    }
}

impl Connection {
    fn take(&mut self, summary: &Summary<'_>) {
        self.started = summary.started.name();
        self.client = summary.client;
        self.end = summary.end;
        self.continues = summary.continues;
        self.numbers = [summary.streams[0].into(), summary.streams[1].into()];
    }

    fn line(&self) -> String {
        let [client, server] = &self.streams;
        let ended = self.ended.map_or("open", Ended::name);
        let [behind_client, behind_server] = self.numbers.each_ref().map(Numbers::trailing);
        format!("{} {ended} c2s={}{behind_client} s2c={}{behind_server}", self.started, text(client), text(server))
    }
}

impl Numbers {
    fn trailing(&self) -> String {
        self.trailing_gap.map_or(String::new(), |gap| format!("{{{} {}}}", gap.len, gap.cause.name()))
    }
}

fn text(stream: &[Result<u8, GapCause>]) -> String {
    stream
        .chunk_by(|a, b| a.is_ok() == b.is_ok() && a.err() == b.err())
        .map(|run| match run[0] {
            Ok(_) => run.iter().flatten().copied().flat_map(std::ascii::escape_default).map(char::from).collect(),
            Err(cause) => format!("[{} {}]", run.len(), cause.name()),
        })
        .collect()
}

impl From<StreamSummary<'_>> for Numbers {
    fn from(summary: StreamSummary<'_>) -> Self {
        Self {
            delivered: summary.delivered,
            segments: summary.segments,
            retransmitted: summary.retransmitted,
            out_of_order: summary.out_of_order,
            conflict: summary.conflict,
            late: summary.late,
            urgent: summary.urgent,
            ring_full: summary.ring_full,
            gaps: summary.gaps.to_vec(),
            trailing_gap: summary.trailing_gap,
        }
    }
}
