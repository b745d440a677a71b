//! A TCP endpoint: as much of RFC 9293 as a passive observer can tell from outside, and nothing shared with the agent.

mod sender;

use crate::{
    packet::{Kind, Packet, Position, Side},
    plan::{Close, MS, Plan},
    rng::Rng,
};

pub(crate) struct Endpoint {
    pub(crate) state: State,
    /// Octets it will have sent in the end.
    pub(crate) total: Position,
    plan: Plan,
    conversation: usize,
    side: Side,
    rng: Rng,
    /// SND.UNA, SND.NXT, and the highest SND.NXT ever; in sequence space.
    una: Position,
    nxt: Position,
    max: Position,
    /// Of the plan's octets, those the application has written; and the next write.
    written: Position,
    write: usize,
    closing: bool,
    peer_window: Position,
    /// Shifts in effect: what we receive, what we send.
    shifts: [u8; 2],
    /// RCV.NXT, and what waits beyond it.
    rcv: Position,
    queue: Vec<(Position, Position)>,
    peer_fin: Option<Position>,
    unread: Position,
    reading: bool,
    duplicate_acks: u32,
    retries: u32,
    acks_owed: u32,
    ack_at: Option<u64>,
    retry_at: Option<u64>,
    app_at: Option<u64>,
    read_at: Option<u64>,
    alive_at: Option<u64>,
    alive_left: u32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum State {
    Listen,
    SynSent,
    SynReceived,
    /// ESTABLISHED to TIME-WAIT: which of them follows from what was sent, acknowledged and received.
    Open,
    /// Aborted, reset, or given up.
    Closed,
}

impl Endpoint {
    pub(crate) fn new(conversation: usize, side: Side, mut plan: Plan, rng: Rng) -> Self {
        let total = plan.total();
        // What goes with the SYN need not be written again.
        let mut already = plan.open_data;
        for write in &mut plan.writes {
            let taken = already.min(write.1);
            write.1 -= taken;
            already -= taken;
        }
        Self {
            state: State::Listen,
            total,
            written: plan.open_data,
            plan,
            conversation,
            side,
            rng,
            una: 0,
            nxt: 0,
            max: 0,
            write: 0,
            closing: false,
            peer_window: 0,
            shifts: [0; 2],
            rcv: 0,
            queue: Vec::new(),
            peer_fin: None,
            unread: 0,
            reading: true,
            duplicate_acks: 0,
            retries: 0,
            acks_owed: 0,
            ack_at: None,
            retry_at: None,
            app_at: None,
            read_at: None,
            alive_at: None,
            alive_left: 4,
        }
    }

    pub(crate) fn connect(&mut self, now: u64, out: &mut Vec<Packet>) {
        self.state = State::SynSent;
        self.send_syn(now, out);
    }

    /// Highest stream position sent, and whether the FIN was.
    pub(crate) fn sent(&self) -> (Position, bool) {
        let fin = self.total + 2;
        ((self.max.max(1) - 1).min(self.total), self.max == fin)
    }

    /// Sent all, FIN included, heard that it arrived, and received the peer's FIN.
    pub(crate) fn closed_in_order(&self) -> bool {
        self.state == State::Open && self.una == self.total + 2 && self.got_fin()
    }

    /// SND.UNA and SND.NXT.
    pub(crate) fn unacknowledged(&self) -> (Position, Position) {
        (self.una, self.max)
    }

    /// RCV.NXT.
    pub(crate) fn received(&self) -> Position {
        self.rcv
    }

    /// Nothing will be sent any more, whatever arrives, but answers.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Closed | State::Listen) || self.closed_in_order()
    }

    /// Both handshakes are over and neither side has begun to close.
    pub(crate) fn established(&self) -> bool {
        self.state == State::Open && !self.closing && self.peer_fin.is_none()
    }

    pub(crate) fn next_timer(&self) -> Option<u64> {
        [self.ack_at, self.retry_at, self.app_at, self.read_at, self.alive_at].into_iter().flatten().min()
    }

    pub(crate) fn on_timer(&mut self, now: u64, out: &mut Vec<Packet>) {
        let due = |timer: &mut Option<u64>| timer.take_if(|at| *at <= now).is_some();
        if due(&mut self.app_at) {
            self.on_application(now, out);
        }
        if due(&mut self.read_at) {
            self.on_reader(now, out);
        }
        if due(&mut self.ack_at) && self.acks_owed > 0 {
            self.send_ack(out);
        }
        if due(&mut self.retry_at) {
            self.on_retry(now, out);
        }
        if due(&mut self.alive_at) {
            self.on_keep_alive(now, out);
        }
    }

    pub(crate) fn on_packet(&mut self, now: u64, p: &Packet, out: &mut Vec<Packet>) {
        match self.state {
            State::Listen if p.syn && p.ack.is_none() && !p.rst => self.on_first_syn(now, p, out),
            State::Listen => {}
            State::SynSent => self.on_packet_in_syn_sent(now, p, out),
            State::Closed => self.refuse(p, out),
            State::SynReceived | State::Open => self.on_packet_synchronized(now, p, out),
        }
    }

    fn on_first_syn(&mut self, now: u64, p: &Packet, out: &mut Vec<Packet>) {
        let Some(with_ack) = self.plan.split else {
            return self.on_syn(now, p, State::SynReceived, out);
        };
        if with_ack {
            let mut ack = self.segment(0, 0);
            ack.ack = Some(1);
            out.push(ack);
        }
        self.connect(now, out);
    }

    /// RFC 9293 section 3.10.7.3.
    fn on_packet_in_syn_sent(&mut self, now: u64, p: &Packet, out: &mut Vec<Packet>) {
        let acknowledged = p.ack.is_some_and(|ack| ack >= 1 && ack <= self.max);
        if p.rst {
            if acknowledged {
                self.stop();
            }
        } else if p.syn && p.kind == Kind::Real {
            if acknowledged {
                self.una = p.ack.unwrap_or(1);
                self.nxt = self.nxt.max(self.una);
                self.on_syn(now, p, State::Open, out);
            } else if p.ack.is_none() {
                self.on_syn(now, p, State::SynReceived, out);
            }
        }
    }

    fn on_syn(&mut self, now: u64, p: &Packet, next: State, out: &mut Vec<Packet>) {
        // Of the data on a SYN all, some or nothing is taken (RFC 7413 section 4.2).
        self.rcv = 1 + if p.ack.is_some() { p.len } else { p.len.min(self.plan.accept_open_data) };
        self.peer_window = p.window.into();
        if let (Some(ours), Some(theirs)) = (self.plan.scale, p.scale) {
            self.shifts = [theirs, ours];
        }
        self.state = next;
        if next == State::Open {
            self.send_ack(out);
            self.on_established(now, out);
        } else {
            self.nxt = 0;
            self.send_syn(now, out);
        }
    }

    fn on_established(&mut self, now: u64, out: &mut Vec<Packet>) {
        self.state = State::Open;
        self.retry_at = None;
        self.retries = 0;
        // Data of our SYN that the peer did not take goes again at once.
        self.nxt = self.una;
        self.app_at = Some(now);
        self.read_at = self.plan.pause.map(|(start, _)| now + start);
        self.pump(now, out);
        self.touch(now);
    }

    fn on_packet_synchronized(&mut self, now: u64, p: &Packet, out: &mut Vec<Packet>) {
        let window = self.window_octets();
        if p.rst {
            // RFC 5961 section 3.2: exactly at RCV.NXT, otherwise a challenge.
            if p.seq == self.rcv {
                self.stop();
            } else if p.seq > self.rcv && p.seq < self.rcv + window {
                self.send_ack(out);
            }
            return;
        }
        if p.syn && !(self.state == State::SynReceived && p.ack.is_some()) {
            return self.send_ack(out);
        }
        if let Some(ack) = p.ack {
            if ack > self.max {
                return self.send_ack(out);
            }
            if self.state == State::SynReceived && ack >= 1 {
                self.una = self.una.max(ack);
                self.on_established(now, out);
            }
            self.on_ack(now, p, ack, out);
        }
        self.on_payload(now, p, window, out);
        self.pump(now, out);
        self.touch(now);
    }

    fn on_ack(&mut self, now: u64, p: &Packet, ack: Position, out: &mut Vec<Packet>) {
        if ack < self.una || p.syn {
            return;
        }
        let window = Position::from(p.window) << self.shifts[0];
        if ack > self.una {
            self.una = ack;
            self.nxt = self.nxt.max(ack);
            self.retries = 0;
            self.duplicate_acks = 0;
            self.retry_at = (self.una < self.max).then_some(now + self.plan.rto);
        } else if self.una < self.max && p.len == 0 && !p.fin && window == self.peer_window {
            self.duplicate_acks += 1;
            if self.duplicate_acks == 3 {
                self.retransmit_one(out);
            }
        }
        self.peer_window = window;
    }

    fn on_payload(&mut self, now: u64, p: &Packet, window: Position, out: &mut Vec<Packet>) {
        let (start, end) = (p.seq.max(1), p.seq + p.len + Position::from(p.syn));
        if p.kind == Kind::KeepAlive || p.len == 0 && !p.fin {
            // Whatever lies outside the window is answered, which is what probes are for.
            if p.seq < self.rcv {
                self.send_ack(out);
            }
            return;
        }
        if end + Position::from(p.fin) <= self.rcv || start > self.rcv + window || (window == 0 && p.len > 0) {
            return self.send_ack(out);
        }
        if p.fin {
            self.peer_fin = Some(end);
        }
        let before = self.rcv;
        self.queue.push((start, end.min(self.rcv + window)));
        self.queue.sort_unstable();
        for &(start, end) in &self.queue {
            if start <= self.rcv {
                self.rcv = self.rcv.max(end);
            }
        }
        let rcv = self.rcv;
        self.queue.retain(|(_, end)| *end > rcv);
        let in_order = self.rcv > before && self.queue.is_empty();
        if !self.reading {
            self.unread += self.rcv - before;
        }
        if self.peer_fin == Some(self.rcv) {
            self.rcv += 1;
            self.app_at.get_or_insert(now);
            return self.send_ack(out);
        }
        self.acks_owed += 1;
        if !in_order || self.acks_owed >= self.plan.ack_every {
            self.send_ack(out);
        } else {
            self.ack_at.get_or_insert(now + 40 * MS);
        }
    }

    fn on_application(&mut self, now: u64, out: &mut Vec<Packet>) {
        if self.state != State::Open {
            return;
        }
        if let Some(&(pause, octets)) = self.plan.writes.get(self.write) {
            // A pause of zero has been waited for already.
            self.write += 1;
            self.written += octets;
            let next = self.plan.writes.get(self.write).map_or(self.plan.close_delay, |write| write.0);
            self.app_at = Some(now + next.max(pause / 8));
        } else {
            match self.plan.close {
                Close::Fin => self.closing = true,
                Close::AfterPeer if self.got_fin() => self.closing = true,
                Close::Abort => {
                    let mut rst = self.segment(self.max, self.plan.last_words);
                    rst.rst = true;
                    out.push(rst);
                    return self.stop();
                }
                Close::AfterPeer | Close::Never => {}
            }
        }
        self.pump(now, out);
    }

    fn on_reader(&mut self, now: u64, out: &mut Vec<Packet>) {
        if self.reading {
            self.reading = false;
            self.read_at = self.plan.pause.map(|(_, length)| now + length);
        } else {
            self.reading = true;
            self.unread = 0;
            if self.state == State::Open {
                self.send_ack(out);
            }
        }
    }

    /// What we are ready to take, rounded as the peer will see it.
    fn window_octets(&self) -> Position {
        let free = self.plan.buffer.saturating_sub(self.unread);
        (free >> self.shifts[1]).min(65_535) << self.shifts[1]
    }

    fn unsent(&self) -> Position {
        (1 + self.written).saturating_sub(self.nxt)
    }

    fn got_fin(&self) -> bool {
        self.peer_fin.is_some_and(|fin| self.rcv > fin)
    }

    fn touch(&mut self, now: u64) {
        self.alive_at = self.plan.keep_alive.filter(|_| self.alive_left > 0).map(|(interval, _)| now + interval);
    }

    fn stop(&mut self) {
        self.state = State::Closed;
        (self.ack_at, self.retry_at, self.app_at, self.read_at, self.alive_at) = (None, None, None, None, None);
    }
}
