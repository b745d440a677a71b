//! A TCP endpoint: as much of RFC 9293 as a passive observer can tell from outside, and nothing shared with the agent.

use crate::{
    packet::{Kind, Packet, Side},
    plan::{Close, MS, Plan, SECOND},
    rng::Rng,
};

pub(crate) struct Endpoint {
    pub(crate) state: State,
    /// Octets it will have sent in the end.
    pub(crate) total: u64,
    plan: Plan,
    conversation: usize,
    side: Side,
    rng: Rng,
    /// SND.UNA, SND.NXT, and the highest SND.NXT ever; in sequence space.
    una: u64,
    nxt: u64,
    max: u64,
    /// Of the plan's octets, those the application has written; and the next write.
    written: u64,
    write: usize,
    closing: bool,
    peer_window: u64,
    /// Shifts in effect: what we receive, what we send.
    shifts: [u8; 2],
    /// RCV.NXT, and what waits beyond it.
    rcv: u64,
    queue: Vec<(u64, u64)>,
    peer_fin: Option<u64>,
    unread: u64,
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
    pub(crate) fn sent(&self) -> (u64, bool) {
        let fin = self.total + 2;
        ((self.max.max(1) - 1).min(self.total), self.max == fin)
    }

    /// Sent all, FIN included, heard that it arrived, and received the peer's FIN.
    pub(crate) fn closed_in_order(&self) -> bool {
        self.state == State::Open && self.una == self.total + 2 && self.got_fin()
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
            State::Listen if p.syn && p.ack.is_none() && !p.rst => self.on_syn(now, p, State::SynReceived, out),
            State::Listen => {}
            State::SynSent => self.on_packet_in_syn_sent(now, p, out),
            State::Closed => self.refuse(p, out),
            State::SynReceived | State::Open => self.on_packet_synchronized(now, p, out),
        }
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
        self.rcv = 1 + if self.plan.accept_open_data || p.ack.is_some() { p.len } else { 0 };
        self.peer_window = u64::from(p.window);
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

    fn on_ack(&mut self, now: u64, p: &Packet, ack: u64, out: &mut Vec<Packet>) {
        if ack < self.una || p.syn {
            return;
        }
        let window = u64::from(p.window) << self.shifts[0];
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

    fn on_payload(&mut self, now: u64, p: &Packet, window: u64, out: &mut Vec<Packet>) {
        let (start, end) = (p.seq.max(1), p.seq + p.len + u64::from(p.syn));
        if p.kind == Kind::KeepAlive || p.len == 0 && !p.fin {
            // Whatever lies outside the window is answered, which is what probes are for.
            if p.seq < self.rcv {
                self.send_ack(out);
            }
            return;
        }
        if end + u64::from(p.fin) <= self.rcv || start > self.rcv + window || (window == 0 && p.len > 0) {
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
                    let mut rst = self.segment(self.max, 0);
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

    fn on_retry(&mut self, now: u64, out: &mut Vec<Packet>) {
        self.retries += 1;
        if self.retries > 7 {
            return self.stop();
        }
        let again = now + (self.plan.rto << self.retries.min(5)).min(60 * SECOND);
        match self.state {
            State::SynSent | State::SynReceived => {
                self.nxt = 0;
                self.send_syn(now, out);
            }
            _ if self.una < self.max => {
                if self.plan.go_back {
                    self.nxt = self.una;
                }
                self.retransmit_one(out);
                self.pump(now, out);
            }
            // The persist timer of RFC 9293 section 3.8.6.1.
            _ if self.peer_window == 0 && self.unsent() > 0 => {
                let probe =
                    if self.plan.probe_with_data { self.segment(self.nxt, 1) } else { self.segment(self.una - 1, 0) };
                if self.plan.probe_with_data {
                    self.max = self.max.max(self.nxt + 1);
                }
                out.push(probe);
                self.retries = self.retries.min(5);
            }
            _ => return,
        }
        self.retry_at = Some(again);
    }

    fn on_keep_alive(&mut self, now: u64, out: &mut Vec<Packet>) {
        let Some((_, octets)) = self.plan.keep_alive else { return };
        if self.state == State::Open
            && self.una == self.max
            && self.una > 1
            && self.alive_left > 0
            && !self.closed_in_order()
        {
            self.alive_left -= 1;
            let mut probe = self.segment(self.una - 1, octets);
            probe.kind = Kind::KeepAlive;
            probe.psh = false;
            out.push(probe);
            self.touch(now);
        }
    }

    /// Sends what the windows allow, FIN included.
    fn pump(&mut self, now: u64, out: &mut Vec<Packet>) {
        if self.state != State::Open {
            return;
        }
        let edge = self.una + self.peer_window.min(self.plan.congestion_window);
        let fin_at = self.total + 1;
        loop {
            let data_end = 1 + self.written;
            let room = edge.saturating_sub(self.nxt);
            let len = data_end.saturating_sub(self.nxt).min(room).min(self.segment_size());
            let last = self.closing && self.nxt + len == fin_at && self.written == self.total;
            let fin = last && (len == 0 || self.plan.fin_with_data);
            if len == 0 && !fin || self.nxt > fin_at {
                break;
            }
            let mut packet = self.segment(self.nxt, len);
            packet.fin = fin;
            packet.psh = packet.seq + len == data_end || len == 1;
            self.nxt = packet.end();
            self.max = self.max.max(self.nxt);
            out.push(packet);
        }
        if self.una < self.max || self.peer_window == 0 && self.unsent() > 0 {
            self.retry_at.get_or_insert(now + (self.plan.rto << self.retries.min(5)));
        } else {
            self.retry_at = None;
        }
    }

    fn retransmit_one(&mut self, out: &mut Vec<Packet>) {
        let fin_at = self.total + 1;
        let data = self.max.min(fin_at).saturating_sub(self.una);
        let len = data.min(self.segment_size());
        let mut packet = self.segment(self.una, len);
        packet.fin = self.max > fin_at && packet.seq + packet.len == fin_at;
        self.nxt = self.nxt.max(packet.end());
        out.push(packet);
    }

    /// Retransmissions are cut elsewhere than the originals.
    fn segment_size(&mut self) -> u64 {
        let whole = self.plan.mss * if self.plan.merge > 1 { self.rng.between(1, self.plan.merge) } else { 1 };
        if self.nxt < self.max || self.rng.chance(10) { self.rng.between(1, whole) } else { whole }
    }

    fn send_syn(&mut self, now: u64, out: &mut Vec<Packet>) {
        // A retransmitted SYN goes without data (RFC 7413 section 4.1.3).
        let mut syn = self.segment(0, if self.retries == 0 { self.plan.open_data } else { 0 });
        syn.syn = true;
        syn.scale = self.plan.scale;
        syn.window = self.plan.buffer.min(65_535) as u16;
        self.nxt = syn.end();
        self.max = self.max.max(self.nxt);
        self.retry_at.get_or_insert(now + self.plan.rto);
        out.push(syn);
    }

    fn send_ack(&mut self, out: &mut Vec<Packet>) {
        let ack = self.segment(self.nxt, 0);
        out.push(ack);
    }

    /// RFC 9293 section 3.10.7.1: what a closed endpoint says.
    fn refuse(&mut self, p: &Packet, out: &mut Vec<Packet>) {
        if !p.rst && p.kind != Kind::Forged {
            let mut rst = self.segment(p.ack.unwrap_or(self.max), 0);
            rst.rst = true;
            rst.ack = p.ack.is_none().then_some(p.end());
            out.push(rst);
        }
    }

    fn segment(&mut self, seq: u64, len: u64) -> Packet {
        self.acks_owed = 0;
        self.ack_at = None;
        Packet {
            conversation: self.conversation,
            from: self.side,
            seq,
            ack: (self.rcv > 0).then_some(self.rcv),
            syn: false,
            fin: false,
            rst: false,
            psh: len > 0,
            len,
            window: (self.window_octets() >> self.shifts[1]).min(65_535) as u16,
            scale: None,
            kind: Kind::Real,
        }
    }

    /// What we are ready to take, rounded as the peer will see it.
    fn window_octets(&self) -> u64 {
        let free = self.plan.buffer.saturating_sub(self.unread);
        (free >> self.shifts[1]).min(65_535) << self.shifts[1]
    }

    fn unsent(&self) -> u64 {
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
