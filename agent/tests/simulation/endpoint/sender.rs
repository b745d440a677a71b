//! What an endpoint sends, first and again.

use super::{Endpoint, State};
use crate::{
    packet::{Kind, Packet, Position},
    plan::SECOND,
};

impl Endpoint {
    pub(super) fn on_retry(&mut self, now: u64, out: &mut Vec<Packet>) {
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

    pub(super) fn on_keep_alive(&mut self, now: u64, out: &mut Vec<Packet>) {
        let Some((_, octets)) = self.plan.keep_alive else { return };
        if self.state == State::Open
            && self.una == self.max
            && self.una > 1
            && self.alive_left > 0
            && !self.closed_in_order()
        {
            self.alive_left -= 1;
            let mut probe = self.segment(self.una - 1, octets.into());
            probe.kind = Kind::KeepAlive;
            probe.psh = false;
            out.push(probe);
            self.touch(now);
        }
    }

    /// Sends what the windows allow, FIN included.
    pub(super) fn pump(&mut self, now: u64, out: &mut Vec<Packet>) {
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
            packet.urg = len > 0 && self.rng.chance(self.plan.urgent);
            self.nxt = packet.end();
            self.max = self.max.max(self.nxt);
            out.push(packet);
        }
        if self.una < self.max || self.peer_window == 0 && self.unsent() > 0 {
            let due = now + (self.plan.rto << self.retries.min(5));
            self.retry_at.get_or_insert(due);
        } else {
            self.retry_at = None;
        }
    }

    pub(super) fn retransmit_one(&mut self, out: &mut Vec<Packet>) {
        let fin_at = self.total + 1;
        let data = self.max.min(fin_at).saturating_sub(self.una);
        let len = data.min(self.segment_size());
        let mut packet = self.segment(self.una, len);
        packet.fin = self.max > fin_at && packet.seq + packet.len == fin_at;
        self.nxt = self.nxt.max(packet.end());
        out.push(packet);
    }

    /// Retransmissions are cut elsewhere than the originals.
    pub(super) fn segment_size(&mut self) -> Position {
        let whole = self.plan.mss * if self.plan.merge > 1 { self.rng.between(1, self.plan.merge) } else { 1 };
        let again = self.nxt < self.max || self.rng.chance(10);
        if again { self.rng.between(1, whole).into() } else { whole.into() }
    }

    pub(super) fn send_syn(&mut self, now: u64, out: &mut Vec<Packet>) {
        // A retransmitted SYN goes without data (RFC 7413 section 4.1.3).
        let mut syn = self.segment(0, if self.retries == 0 { self.plan.open_data } else { 0 });
        syn.syn = true;
        (syn.scale, syn.mss) = (self.plan.scale, self.plan.announced_mss);
        syn.window = self.plan.buffer.min(65_535) as u16;
        self.nxt = syn.end();
        self.max = self.max.max(self.nxt);
        self.retry_at.get_or_insert(now + self.plan.rto);
        out.push(syn);
    }

    pub(super) fn send_ack(&mut self, out: &mut Vec<Packet>) {
        let ack = self.segment(self.nxt, 0);
        out.push(ack);
    }

    /// RFC 9293 section 3.10.7.1: what a closed endpoint says.
    pub(super) fn refuse(&mut self, p: &Packet, out: &mut Vec<Packet>) {
        if !p.rst && p.kind != Kind::Forged {
            let mut rst = self.segment(p.ack.unwrap_or(self.max), 0);
            rst.rst = true;
            rst.ack = p.ack.is_none().then_some(p.end());
            out.push(rst);
        }
    }

    pub(super) fn segment(&mut self, seq: Position, len: Position) -> Packet {
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
            urg: false,
            len,
            window: (self.window_octets() >> self.shifts[1]).min(65_535) as u16,
            scale: None,
            mss: None,
            id: None,
            kind: Kind::Real,
        }
    }
}
