//! The filter, asked again: with all of the headers at hand, for what was in fragments or in a tunnel, and in a replay.

use agent_common::head::{Client, HEADER_WORDS, Head, TCP_WORD};

use crate::{decode::Decoded, filter::Filter, roles::Roles, segment::Flags};

/// Says of segments whether the user wants them, as the kernel half does.
#[derive(Debug)]
pub struct Judge {
    filter: Filter,
    /// Of connections that the kernel half has said nothing about.
    roles: Roles,
}

impl Judge {
    pub fn new(filter: Filter) -> Self {
        Self { filter, roles: Roles::default() }
    }

    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Judges by another filter from now on. Who opened which connection stays known.
    pub fn set_filter(&mut self, filter: Filter) {
        self.filter = filter;
    }

    #[inline]
    pub fn accepts(&mut self, decoded: &Decoded<'_>) -> bool {
        let mut head = decoded.segment.head();
        let graph = &self.filter.graph;
        if graph.asks_headers != 0 {
            put_headers(decoded, &mut head);
        }
        let client = if graph.asks_client == 0 { Client::Unknown } else { self.client(decoded, &head) };
        self.filter.accepts(&head, client)
    }

    /// Connections whose client was known and is not any more.
    pub fn forgotten(&self) -> u64 {
        self.roles.forgotten()
    }

    /// Which end opened the connection: RFC 9293 section 3.5, and whoever remembers it.
    fn client(&mut self, decoded: &Decoded<'_>, head: &Head) -> Client {
        let flags = decoded.segment.flags;
        let said = match (flags.contains(Flags::SYN), flags.contains(Flags::ACK)) {
            (true, false) => Client::Source,
            (true, true) => Client::Destination,
            _ => Client::Unknown,
        };
        self.roles.client(head, said)
    }
}

/// As the parser of the kernel half leaves them: without options, zeros where a capture has cut them off.
fn put_headers(decoded: &Decoded<'_>, head: &mut Head) {
    let octets: &mut [u8; 4 * HEADER_WORDS] = bytemuck::cast_mut(&mut head.headers);
    let (ip, tcp) = octets.split_at_mut(4 * TCP_WORD);
    for (header, octets) in [(ip, decoded.ip), (&mut tcp[..20], decoded.tcp)] {
        header.iter_mut().zip(octets).for_each(|(header, octet)| *header = *octet);
    }
    // The options of IPv4 are none of it.
    if octets[0] >> 4 == 4 {
        octets[20..4 * TCP_WORD].fill(0);
    }
}
