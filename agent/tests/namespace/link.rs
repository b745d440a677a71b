//! Two namespaces, the links between them, and what is attached to an interface.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use aya::programs::{SchedClassifier, TcAttachType};
use serde_json::Value;

use crate::conversation::{Client, Server};
use crate::deadline::eventually;
use crate::namespace::Namespace;

/// A client's and a server's namespace. Link `n` is a veth pair: `c<n>` here, `s<n>` there.
pub(crate) struct Pair {
    pub client: Namespace,
    pub server: Namespace,
}

impl Pair {
    /// With link 0, as the kernel makes it.
    pub(crate) fn new() -> Self {
        let pair = Self { client: Namespace::new(), server: Namespace::new() };
        pair.link(0, "");
        pair
    }

    /// With link 0, both of whose ends have the `ip link` attributes `attributes` ("mtu 9000").
    pub(crate) fn with(attributes: &str) -> Self {
        let pair = Self { client: Namespace::new(), server: Namespace::new() };
        pair.link(0, attributes);
        pair
    }

    pub(crate) fn link(&self, n: u8, attributes: &str) {
        self.client.ip(&format!("link add c{n} type veth peer name s{n} netns {}", self.server.path()));
        for (namespace, side, host) in [(&self.client, 'c', CLIENT), (&self.server, 's', SERVER)] {
            namespace.ip(&format!("addr add {}/24 dev {side}{n}", v4(n, host)));
            namespace.ip(&format!("addr add {}/64 dev {side}{n} nodad", v6(n, host)));
            namespace.ip(&format!("link set {side}{n} {attributes} up"));
        }
        // An address is usable, and frames pass, once both ends have noticed each other.
        eventually("the link is up", Duration::from_secs(5), || {
            self.client.ip(&format!("link show c{n}")).contains("LOWER_UP")
                && self.server.ip(&format!("link show s{n}")).contains("LOWER_UP")
        });
    }

    /// A server on link 0, in both families.
    pub(crate) fn servers(&self) -> [Server; 2] {
        [self.serve(server_v4(0)), self.serve(server_v6(0))]
    }

    pub(crate) fn serve(&self, address: impl Into<IpAddr>) -> Server {
        Server::start(&self.server, (address.into(), 0).into())
    }

    /// Frames still pass both ways on link `n`.
    pub(crate) fn assert_passes(&self, n: u8) {
        let server = self.serve(server_v4(n));
        let mut client = Client::connect(&self.client, &server);
        client.exchange(3_000, 3_000);
        client.finish();
    }

    /// Nothing is left on the server's end of link 0, and frames still pass.
    pub(crate) fn assert_untouched(&self) {
        // The kernel takes a dead process's links off a moment after its end.
        let nothing = || attached(&self.server, "s0").is_empty();
        eventually("nothing is attached to s0", Duration::from_secs(2), nothing);
        self.assert_passes(0);
    }
}

pub(crate) fn server_v4(n: u8) -> Ipv4Addr {
    v4(n, SERVER)
}

pub(crate) fn server_v6(n: u8) -> Ipv6Addr {
    v6(n, SERVER)
}

/// Everything that looks at frames of `interface`: XDP and tcx programs by name, and a clsact qdisc.
pub(crate) fn attached(namespace: &Namespace, interface: &str) -> Vec<String> {
    let link: Value = serde_json::from_str(&namespace.ip(&format!("-d -j link show dev {interface}"))).unwrap();
    let xdp = link.pointer("/0/xdp").map(|xdp| format!("XDP {xdp}"));
    let qdiscs = namespace.output("tc", ["qdisc", "show", "dev", interface]);
    let clsact = qdiscs.lines().find(|line| line.contains("clsact")).map(str::to_owned);
    let tcx = namespace.run(|| {
        [TcAttachType::Ingress, TcAttachType::Egress].map(|side| SchedClassifier::query_tcx(interface, side).unwrap().1)
    });
    let tcx = tcx.iter().flatten().map(|program| format!("tcx {}", program.name_as_str().unwrap_or("?")));
    xdp.into_iter().chain(clsact).chain(tcx).collect()
}

const CLIENT: u8 = 1;
const SERVER: u8 = 2;

fn v4(n: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, n, host)
}

fn v6(n: u8, host: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd09, 0, 0, n.into(), 0, 0, 0, host.into())
}
