//! What model endpoints exchange. Positions are of 128 bits and from the sender's side; only the tap folds them into 32.

/// In sequence space: 0 is the SYN, 1 the first octet, the FIN stands behind the last one. In a stream: 0 is the first
/// octet. Also lengths, so that nothing has to be converted.
pub(crate) type Position = u128;

/// 0 is the side that sends the first SYN, 1 its peer.
pub(crate) type Side = usize;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet {
    pub(crate) conversation: usize,
    pub(crate) from: Side,
    /// In sequence space.
    pub(crate) seq: Position,
    pub(crate) ack: Option<Position>,
    pub(crate) syn: bool,
    pub(crate) fin: bool,
    pub(crate) rst: bool,
    pub(crate) psh: bool,
    pub(crate) urg: bool,
    pub(crate) len: Position,
    pub(crate) window: u16,
    pub(crate) scale: Option<u8>,
    pub(crate) mss: Option<u16>,
    /// Identification of the IPv4 header, which its sender counts up.
    pub(crate) id: Option<u16>,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Real,
    /// At SND.UNA - 1 (RFC 9293 section 3.8.4); its octet, if any, is garbage.
    KeepAlive,
    /// Somebody else's: far from all that the connection uses.
    Forged,
    /// Somebody else's RST, near enough to be believed by all but its receiver.
    Guessed,
    /// A copy whose octets are not those that were sent.
    Tampered,
}

impl Packet {
    /// Position of the payload's first octet.
    pub(crate) fn position(&self) -> Position {
        if self.syn { 0 } else { self.seq.saturating_sub(1) }
    }

    /// Stream octets, which keep-alives and resets do not carry.
    pub(crate) fn stream_octets(&self) -> Position {
        let stream = !self.rst && matches!(self.kind, Kind::Real | Kind::Tampered);
        if stream { self.len } else { 0 }
    }

    /// The sequence number behind it.
    pub(crate) fn end(&self) -> Position {
        self.seq + self.len + Position::from(self.syn) + Position::from(self.fin)
    }
}
