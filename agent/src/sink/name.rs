//! What files and folders are called. Names are made of times, addresses and the run's name, so nothing that was on the
//! wire can lead a path anywhere.

use std::{collections::BTreeMap, net::IpAddr};

use hashbrown::HashMap;

use crate::{
    clock::{Clock, Wall},
    reassembly::Direction,
    segment::Endpoint,
    sink::{Names, record::Identity, text},
};

/// Gives every stream a path that nothing else has, without looking at the disk.
pub(super) struct Namer {
    names: Names,
    clock: Clock,
    /// Entries by minute, for [`Names::Time`].
    minutes: BTreeMap<u64, u32>,
    /// How often endpoints were used, for [`Names::Tcpflow`].
    uses: HashMap<(Endpoint, Endpoint), u32>,
}

impl Namer {
    pub(super) fn new(names: Names, clock: Clock) -> Self {
        Self { names, clock, minutes: BTreeMap::new(), uses: HashMap::new() }
    }

    /// Counts a connection that has octets, and says how many before it had the same endpoints.
    pub(super) fn number(&mut self, identity: &Identity) -> u32 {
        if self.names == Names::Time {
            return 0;
        }
        let ends = (identity.client.min(identity.server), identity.client.max(identity.server));
        if let Some(uses) = self.uses.get_mut(&ends) {
            *uses += 1;
            return *uses;
        }
        // At the limit the endpoints are forgotten: a name that exists already gets the run and the connection appended.
        if self.uses.len() < ENDPOINTS_MAX {
            self.uses.insert(ends, 0);
        }
        0
    }

    /// Appends the name of one direction.
    pub(super) fn name(&self, path: &mut String, identity: &Identity, number: u32, direction: Direction) {
        let (src, dst) = identity.ends(direction);
        match self.names {
            Names::Time => {
                let at = self.clock.wall(identity.start).civil();
                for value in [at.hour, at.minute, at.second] {
                    text::digits::<2>(path, value);
                }
                path.push('.');
                text::digits::<9>(path, at.nanosecond);
                for end in [src, dst] {
                    path.push('-');
                    text::ip(path, end.ip());
                    path.push('.');
                    text::number(path, end.port);
                }
            }
            Names::Tcpflow => {
                tcpflow(path, src);
                path.push('-');
                tcpflow(path, dst);
                if number > 0 {
                    path.push('c');
                    text::number(path, number);
                }
            }
        }
    }

    /// Folder for one more finished file of a connection, with a slash at its end, and empty for the directory itself.
    pub(super) fn folder(&mut self, identity: &Identity) -> String {
        if self.names == Names::Tcpflow {
            return String::new();
        }
        let wall = self.clock.wall(identity.start);
        let minute = wall.0 / MINUTE;
        let entries = self.minutes.entry(minute).or_insert(0);
        let folder = *entries / FOLDER_MAX;
        *entries += 1;
        if self.minutes.len() > MINUTES_MAX {
            self.minutes.pop_first();
        }
        let at = wall.civil();
        let mut path = String::with_capacity(PATH);
        text::date(&mut path, at);
        path.push('/');
        text::digits::<2>(&mut path, at.hour);
        text::digits::<2>(&mut path, at.minute);
        if folder > 0 {
            path.push('.');
            text::number(&mut path, folder);
        }
        path.push('/');
        path
    }
}

/// Folder of a day.
pub(super) fn day(wall: Wall) -> String {
    let mut path = String::new();
    text::date(&mut path, wall.civil());
    path
}

const MINUTE: u64 = 60_000_000_000;

/// Octets of most paths.
const PATH: usize = 80;

/// Entries of one sink in one folder.
const FOLDER_MAX: u32 = 20_000;

/// Minutes that are counted; forgetting one means another `FOLDER_MAX` entries in its first folder.
const MINUTES_MAX: usize = 10_000;

/// Pairs of endpoints that are counted: 80 MiB of them.
const ENDPOINTS_MAX: usize = 1 << 20;

/// `010.009.000.001.51244`; an IPv6 address as RFC 5952 writes it.
fn tcpflow(name: &mut String, end: Endpoint) {
    match end.ip() {
        IpAddr::V4(ip) => {
            for octet in ip.octets() {
                text::digits::<3>(name, octet.into());
                name.push('.');
            }
        }
        IpAddr::V6(ip) => text::format(name, format_args!("{ip}.")),
    }
    text::digits::<5>(name, end.port.into());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::Timestamp;

    const V6: Endpoint = Endpoint { address: [0x0000_0000_b80d_0120, 0x0100_0000_0000_0000], port: 443 };

    fn identity(client: Endpoint, server: Endpoint) -> Identity {
        Identity { serial: 7, start: Timestamp(1_795_159_805_123_456_789), client, server }
    }

    #[test]
    fn names() {
        let v4 = identity(Endpoint::v4([10, 9, 0, 1], 51_244), Endpoint::v4([10, 9, 0, 2], 80));
        let v6 = identity(V6, Endpoint { port: 65_535, ..V6 });
        let check = |names, identity: &Identity, number, direction, expected: &str| {
            let mut name = String::new();
            Namer::new(names, Clock::replay()).name(&mut name, identity, number, direction);
            assert_eq!(name, expected);
        };
        use Direction::{ClientToServer, ServerToClient};
        check(Names::Time, &v4, 0, ClientToServer, "073005.123456789-10.9.0.1.51244-10.9.0.2.80");
        check(Names::Time, &v4, 0, ServerToClient, "073005.123456789-10.9.0.2.80-10.9.0.1.51244");
        check(Names::Time, &v6, 0, ClientToServer, "073005.123456789-2001:db8::1.443-2001:db8::1.65535");
        check(Names::Tcpflow, &v4, 0, ClientToServer, "010.009.000.001.51244-010.009.000.002.00080");
        check(Names::Tcpflow, &v4, 2, ServerToClient, "010.009.000.002.00080-010.009.000.001.51244c2");
        check(Names::Tcpflow, &v6, 1, ClientToServer, "2001:db8::1.00443-2001:db8::1.65535c1");
    }

    #[test]
    fn tcpflow_counts_uses_of_either_way() {
        let (a, b) = (Endpoint::v4([10, 0, 0, 1], 1), Endpoint::v4([10, 0, 0, 2], 2));
        let mut namer = Namer::new(Names::Tcpflow, Clock::replay());
        assert_eq!(namer.number(&identity(a, b)), 0);
        assert_eq!(namer.number(&identity(b, a)), 1);
        assert_eq!(namer.number(&identity(a, b)), 2);
        assert_eq!(namer.number(&identity(a, V6)), 0);
        assert_eq!(namer.folder(&identity(a, b)), "");
    }

    #[test]
    fn folders_are_bounded() {
        let mut namer = Namer::new(Names::Time, Clock::replay());
        let connection = identity(V6, V6);
        for file in 0..2 * FOLDER_MAX + 1 {
            let folder = namer.folder(&connection);
            let expected = ["2026-11-20/0730/", "2026-11-20/0730.1/", "2026-11-20/0730.2/"];
            assert_eq!(folder, expected[(file / FOLDER_MAX) as usize]);
        }
        for minute in 0..MINUTES_MAX as u64 + 10 {
            namer.folder(&Identity { start: Timestamp(minute * MINUTE), ..connection });
        }
        assert_eq!(namer.minutes.len(), MINUTES_MAX);
    }
}
