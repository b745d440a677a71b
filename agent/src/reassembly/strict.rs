//! Checks in the manner of gopacket, for those who want them: they refuse much that receivers accept.

use super::{config::Config, event::Direction};
use crate::segment::{Flags, Segment};

/// What the checks remember of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Strict {
    machine: Machine,
    /// What each side announced in its SYN: octets of payload that it takes in one segment.
    mss: [Option<u16>; 2],
}

/// Why a segment is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    /// It does not fit the state of the connection.
    State,
    /// It is longer than its receiver's MSS, or beyond the window that it offered last.
    Options,
}

impl Strict {
    /// Judges a segment of which `beyond_window` says whether it ends behind the window last offered.
    pub(super) fn judge(
        &mut self,
        segment: &Segment<'_>,
        direction: Direction,
        beyond_window: bool,
        config: &Config,
    ) -> Result<(), Refusal> {
        if config.strict_fsm && !self.machine.accepts(segment.flags, direction, !config.require_handshake) {
            return Err(Refusal::State);
        }
        if segment.flags.contains(Flags::SYN) {
            self.mss[direction as usize] = segment.mss;
        } else if config.strict_options {
            let len = segment.payload.len() as u64 + u64::from(segment.missing);
            let too_long = self.mss[direction.reverse() as usize].is_some_and(|mss| mss > 0 && len > u64::from(mss));
            if too_long || beyond_window {
                return Err(Refusal::Options);
            }
        }
        Ok(())
    }
}

/// A state machine for the connection as a whole. What it knows of a sender is who opened, and who closed first.
#[derive(Clone, Copy, Debug, Default)]
enum Machine {
    #[default]
    Closed,
    /// By the sender of the SYN.
    SynSent(Direction),
    Established,
    /// By the sender of the first FIN.
    CloseWait(Direction),
    LastAck(Direction),
    Over,
}

impl Machine {
    /// Whether a segment fits, and if so, where it leads. `midstream` lets a connection begin with any segment.
    fn accepts(&mut self, flags: Flags, direction: Direction, midstream: bool) -> bool {
        let [syn, ack, fin, rst] = [Flags::SYN, Flags::ACK, Flags::FIN, Flags::RST].map(|flag| flags.contains(flag));
        if matches!(self, Self::Closed) && midstream && (ack || !syn) {
            *self = match (syn, fin) {
                (true, _) => Self::SynSent(direction.reverse()),
                (_, true) if ack => Self::CloseWait(direction.reverse()),
                _ => Self::Established,
            };
        }
        let next = match *self {
            Self::Closed if syn && !ack => Self::SynSent(direction),
            Self::SynSent(_) | Self::Established | Self::CloseWait(_) | Self::LastAck(_) if rst => Self::Over,
            Self::SynSent(opener) if syn && ack && direction != opener => Self::Established,
            Self::SynSent(opener) if syn && !ack && direction == opener => *self,
            Self::Established if fin => Self::CloseWait(direction),
            Self::Established => *self,
            Self::CloseWait(closer) if fin && ack && direction != closer => Self::LastAck(closer),
            Self::CloseWait(_) if ack => *self,
            Self::LastAck(closer) if ack && direction == closer => Self::Closed,
            _ => return false,
        };
        *self = next;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{ClientToServer as C, ServerToClient as S};

    const SYN: Flags = Flags::SYN;
    const ACK: Flags = Flags::ACK;
    const RST: Flags = Flags::RST;
    const SYN_ACK: Flags = Flags(0x12);
    const FIN: Flags = Flags(0x11);

    /// Which segments fit.
    fn accepted(midstream: bool, segments: &[(Direction, Flags)]) -> Vec<bool> {
        let mut machine = Machine::default();
        segments.iter().map(|&(direction, flags)| machine.accepts(flags, direction, midstream)).collect()
    }

    #[test]
    fn a_connection_in_order() {
        let all = [(C, SYN), (C, SYN), (S, SYN_ACK), (C, ACK), (S, ACK), (C, FIN), (S, ACK), (S, FIN), (C, ACK)];
        assert_eq!(accepted(false, &all), [true; 9]);
    }

    #[test]
    fn without_a_handshake() {
        assert_eq!(accepted(false, &[(C, ACK), (S, SYN_ACK), (C, RST)]), [false; 3]);
        assert_eq!(accepted(true, &[(C, ACK), (S, ACK), (S, FIN), (C, FIN), (S, ACK)]), [true; 5]);
        assert_eq!(accepted(true, &[(S, SYN_ACK), (C, ACK), (S, FIN)]), [true; 3]);
    }

    #[test]
    fn data_before_the_answer_and_after_the_end() {
        assert_eq!(accepted(false, &[(C, SYN), (C, ACK), (S, SYN_ACK), (C, ACK)]), [true, false, true, true]);
        assert_eq!(accepted(false, &[(C, SYN), (S, SYN_ACK), (C, RST), (S, ACK)]), [true, true, true, false]);
        assert_eq!(
            accepted(false, &[(C, SYN), (S, SYN_ACK), (C, FIN), (C, FIN), (S, SYN)]),
            [true, true, true, true, false]
        );
    }
}
