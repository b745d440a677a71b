//! A TCP conversation made by hand, for losses that a network made of veth pairs does not have.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::packet::{ACK, FIN, Frame, PSH, PacketSocket, SYN};

/// Both sides of one connection, sent out of one interface as a mirror port does.
pub(crate) struct Handmade<'a> {
    wire: &'a PacketSocket,
    shape: &'a dyn Fn(&[u8]) -> Vec<Vec<u8>>,
    client: End,
    server: End,
}

pub(crate) const CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 4_000);
pub(crate) const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 2), 80);

struct End {
    address: SocketAddrV4,
    /// The next sequence number, lost octets included.
    next: u32,
}

impl<'a> Handmade<'a> {
    /// With its handshake. Sequence numbers wrap soon.
    pub(crate) fn open(wire: &'a PacketSocket) -> Self {
        Self::between(wire, CLIENT, SERVER)
    }

    pub(crate) fn between(wire: &'a PacketSocket, client: SocketAddrV4, server: SocketAddrV4) -> Self {
        Self::shaped(wire, client, server, &|frame| vec![frame.to_vec()])
    }

    /// With frames that `shape` makes of one.
    pub(crate) fn shaped(
        wire: &'a PacketSocket,
        client: SocketAddrV4,
        server: SocketAddrV4,
        shape: &'a dyn Fn(&[u8]) -> Vec<Vec<u8>>,
    ) -> Self {
        let [client, server] = [client, server].map(|address| End { address, next: u32::MAX - 1_000 });
        let mut this = Self { wire, shape, client, server };
        this.emit(true, SYN, &[]);
        this.emit(false, SYN | ACK, &[]);
        this.emit(true, ACK, &[]);
        this
    }

    pub(crate) fn client_sends(&mut self, payload: &[u8]) {
        self.emit(true, PSH | ACK, payload);
    }

    /// Octets that were sent on some other wire.
    pub(crate) fn client_loses(&mut self, octets: u32) {
        self.client.next = self.client.next.wrapping_add(octets);
    }

    pub(crate) fn server_sends(&mut self, payload: &[u8]) {
        self.emit(false, PSH | ACK, payload);
    }

    pub(crate) fn client_acknowledges(&mut self) {
        self.emit(true, ACK, &[]);
    }

    pub(crate) fn server_acknowledges(&mut self) {
        self.emit(false, ACK, &[]);
    }

    pub(crate) fn close(mut self) {
        self.emit(true, FIN | ACK, &[]);
        self.emit(false, FIN | ACK, &[]);
        self.emit(true, ACK, &[]);
    }

    fn emit(&mut self, by_client: bool, flags: u8, payload: &[u8]) {
        let (from, to) = if by_client { (&mut self.client, &self.server) } else { (&mut self.server, &self.client) };
        let acknowledgment = if flags & ACK == 0 { 0 } else { to.next };
        let (source, destination) = (from.address, to.address);
        let frame = Frame { source, destination, sequence: from.next, acknowledgment, flags, window: 0xffff, payload };
        let octets = payload.len() as u32 + u32::from(flags & (SYN | FIN) != 0);
        from.next = from.next.wrapping_add(octets);
        (self.shape)(&frame.bytes()).iter().for_each(|frame| self.wire.send(frame));
    }
}
