//! The two ends of a connection, in as little memory as they take.

use std::net::IpAddr;

use agent_common::head::Address;

use crate::segment::Endpoint;

/// Client and server. Those of IPv4 are kept as they are, which of a million silent connections saves as much as all that
/// their sink knows of them; others are an allocation.
pub(crate) enum Ends {
    V4([[u8; 4]; 2], [u16; 2]),
    V6(Box<([Address; 2], [u16; 2])>),
}

impl Ends {
    pub(crate) fn new(client: Endpoint, server: Endpoint) -> Self {
        let ports = [client.port, server.port];
        match (client.ip(), server.ip()) {
            (IpAddr::V4(client), IpAddr::V4(server)) => Self::V4([client.octets(), server.octets()], ports),
            _ => Self::V6(Box::new(([client.address, server.address], ports))),
        }
    }

    #[inline]
    pub(crate) fn get(&self) -> (Endpoint, Endpoint) {
        match self {
            Self::V4([client, server], ports) => (Endpoint::v4(*client, ports[0]), Endpoint::v4(*server, ports[1])),
            Self::V6(ends) => {
                let ([client, server], ports) = **ends;
                (Endpoint { address: client, port: ports[0] }, Endpoint { address: server, port: ports[1] })
            }
        }
    }
}

const _: () = assert!(size_of::<Ends>() <= 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_either_family_come_back() {
        let v4 = Endpoint::v4([10, 9, 0, 1], 51_244);
        let v6 = Endpoint { address: [0x0000_0000_b80d_0120, 0x0100_0000_0000_0000], port: 443 };
        for ends in [(v4, Endpoint::v4([192, 0, 2, 1], 80)), (v6, Endpoint { port: 1, ..v6 }), (v4, v6), (v6, v4)] {
            assert_eq!(Ends::new(ends.0, ends.1).get(), ends);
        }
    }
}
