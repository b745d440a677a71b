//! The filter, asked again: with all of the headers at hand, for what was in fragments or in a tunnel, and in a replay.

use agent_common::head::{Client, HEADER_WORDS, Head, TCP_WORD};

use crate::{decode::Decoded, filter::Filter, generations::Filters, reassembly::Flows, roles::Roles};

/// Says of segments whether the user wants them, as the kernel half does.
#[derive(Debug)]
pub struct Judge {
    filters: Filters,
    /// Of connections that the kernel half has said nothing about.
    roles: Roles,
}

impl Judge {
    pub fn new(filters: impl Into<Filters>) -> Self {
        Self { filters: filters.into(), roles: Roles::default() }
    }

    /// That by which the last segment was judged.
    pub fn filter(&self) -> &Filter {
        self.filters.last()
    }

    pub fn filters(&self) -> &Filters {
        &self.filters
    }

    /// Judges by the filter that let the frame through. Who opened which connection is known whatever filter it is, and
    /// else asked of `flows`: the kernel lets fragments of a connection through whose handshake it has refused.
    #[inline]
    pub fn accepts(&mut self, decoded: &Decoded<'_>, flows: &mut dyn Flows) -> bool {
        let mut head = decoded.segment.head();
        let graph = &self.filters.of(decoded.segment.origin.generation).graph;
        let (asks_client, asks_headers) = (graph.asks_client != 0, graph.asks_headers != 0);
        if asks_headers || asks_client {
            put_headers(decoded, &mut head);
        }
        let client = if asks_client { self.client(decoded, &head, flows) } else { Client::Unknown };
        self.filters.last().accepts(&head, client)
    }

    /// Connections whose client was known and is not any more.
    pub fn forgotten(&self) -> u64 {
        self.roles.forgotten()
    }

    /// Which end opened the connection, as far as anyone remembers.
    fn client(&mut self, decoded: &Decoded<'_>, head: &Head, flows: &mut dyn Flows) -> Client {
        let segment = &decoded.segment;
        let noted = segment.flow.map_or(Client::Unknown, |note| note.client);
        if noted != Client::Unknown {
            return noted;
        }
        match self.roles.client(head, head.client()) {
            // With a note the kernel has answered already.
            Client::Unknown if segment.flow.is_none() => flows.client(segment.src, segment.dst),
            client => client,
        }
    }
}

/// As the parser of the kernel half leaves them: without options, zeros where a capture has cut them off.
#[inline]
fn put_headers(decoded: &Decoded<'_>, head: &mut Head) {
    let octets: &mut [u8; 4 * HEADER_WORDS] = bytemuck::cast_mut(&mut head.headers);
    let (ip, tcp) = octets.split_at_mut(4 * TCP_WORD);
    match decoded.ip {
        [0x60..0x70, ..] => put::<40>(ip, decoded.ip),
        _ => put::<20>(ip, decoded.ip),
    }
    put::<20>(tcp, decoded.tcp);
}

/// Of constant length where all octets are there, which is nearly always.
#[inline]
fn put<const N: usize>(to: &mut [u8], from: &[u8]) {
    match from.first_chunk::<N>() {
        Some(from) => to.iter_mut().zip(from).for_each(|(to, from)| *to = *from),
        None => to.iter_mut().zip(from).for_each(|(to, from)| *to = *from),
    }
}
