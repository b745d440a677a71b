//! Who opened which connection, for as long as there is room: what filters by client and server ask.

use std::{collections::HashMap, mem};

use agent_common::{
    flow::FlowKey,
    head::{Client, Head},
};

/// The clients of connections whose handshakes were seen, whether or not anything of them was wanted.
///
/// Two generations: when the younger one is full, the older one is forgotten, which is what was not asked for since.
#[derive(Debug, Default)]
pub struct Roles {
    young: HashMap<FlowKey, usize>,
    old: HashMap<FlowKey, usize>,
    forgotten: u64,
}

/// Most connections in a generation.
pub const GENERATION_MAX: usize = 1 << 17;

impl Roles {
    /// Who the client is, seen from a segment. One that is part of a handshake says so itself, and is remembered.
    pub fn client(&mut self, head: &Head, said: Client) -> Client {
        let (key, side) = FlowKey::of(head);
        let client = match said {
            Client::Source => Some(side),
            Client::Destination => Some(side ^ 1),
            Client::Unknown => None,
        };
        let known = client.or_else(|| self.young.get(&key).copied());
        // What is asked for belongs to the younger generation.
        let promoted = if known.is_some() { client } else { self.old.remove(&key) };
        if let Some(client) = promoted {
            self.remember(key, client);
        }
        match known.or(promoted) {
            Some(client) if client == side => Client::Source,
            Some(_) => Client::Destination,
            None => Client::Unknown,
        }
    }

    /// Connections that were forgotten, ever.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    fn remember(&mut self, key: FlowKey, client: usize) {
        if self.young.len() >= GENERATION_MAX && !self.young.contains_key(&key) {
            let forgotten = mem::replace(&mut self.old, mem::take(&mut self.young));
            self.forgotten += forgotten.len() as u64;
        }
        self.old.remove(&key);
        self.young.insert(key, client);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(src_port: u16, dst_port: u16) -> Head {
        Head { src: [1, 2], dst: [3, 4], src_port, dst_port, ..Head::default() }
    }

    #[test]
    fn the_handshake_says_it_for_both_directions() {
        let mut roles = Roles::default();
        let (there, back) = (head(80, 40_000), head(40_000, 80));
        let (there, back) =
            (Head { src: back.src, dst: back.dst, ..there }, Head { src: there.dst, dst: there.src, ..back });
        assert_eq!(roles.client(&there, Client::Unknown), Client::Unknown);
        assert_eq!(roles.client(&there, Client::Source), Client::Source);
        assert_eq!(roles.client(&there, Client::Unknown), Client::Source);
        assert_eq!(roles.client(&back, Client::Unknown), Client::Destination);
        // The endpoints are used again, the other way round.
        assert_eq!(roles.client(&there, Client::Destination), Client::Destination);
        assert_eq!(roles.client(&back, Client::Unknown), Client::Source);
    }

    #[test]
    fn what_is_asked_for_stays_and_the_rest_is_forgotten_and_counted() {
        let mut roles = Roles::default();
        let number = |n: usize| Head { src: [n as u64, 1], ..head(1, 2) };
        let mut known = 0;
        for n in 0..3 * GENERATION_MAX {
            roles.client(&number(n), Client::Source);
            known += usize::from(roles.client(&number(0), Client::Unknown) == Client::Source);
            assert!(roles.young.len() <= GENERATION_MAX && roles.old.len() <= GENERATION_MAX);
        }
        assert_eq!(known, 3 * GENERATION_MAX);
        assert_eq!(roles.client(&number(1), Client::Unknown), Client::Unknown);
        assert_eq!(roles.client(&number(3 * GENERATION_MAX - 1), Client::Unknown), Client::Source);
        let held = roles.young.len() + roles.old.len();
        assert_eq!(roles.forgotten() as usize + held, 3 * GENERATION_MAX);
    }
}
