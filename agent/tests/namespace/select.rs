//! What the filter language selects, wherever it is evaluated.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::thread::sleep;
use std::time::Duration;

use crate::capture::{Capture, Outcome, Scratch};
use crate::conversation::noise;
use crate::handmade::{Handmade, SERVER};
use crate::link::Pair;
use crate::packet::{PacketSocket, fragmented, tagged};
use crate::recording::Recording;
use crate::runner::Test;

pub(crate) const TESTS: &[Test] = &[
    Test::new("select::native", || conditions("native")),
    Test::new("select::generic", || conditions("generic")),
    Test::new("select::tc", || conditions("tc")),
    Test::new("select::samples", samples),
];

/// Two hosts on the same two ports, each of which opens a connection to the other; one of them on another VLAN as well;
/// and one in fragments.
fn conditions(attach: &str) {
    let scratch = Scratch::new();
    let list = |name: &str, line: &dyn Fn(u32) -> String, last: &str| {
        let path = scratch.path().join(name);
        fs::write(&path, (0..20_000).map(|n| line(n) + "\n").collect::<String>() + last + "\n").unwrap();
        path.display().to_string()
    };
    let hosts = list("hosts", &|n| Ipv4Addr::from(0x0a00_0000 + n * 7).to_string(), "198.51.100.1");
    let nets = list("nets", &|n| format!("{}/29", Ipv4Addr::from(0x0b00_0000 + n * 8)), "198.51.0.0/16");
    let hosts = format!("--hosts-file {hosts} --port 4000");
    let nets = format!("--exclude-nets-file {nets}");
    let cases: &[(&str, &[Who])] = &[
        ("", &Who::ALL),
        ("--client-host 192.0.2.1", &[Who::There, Who::Tagged, Who::Fragmented]),
        // A fragment does not say who opened the connection.
        ("--server-net 192.0.2.1/32 --exclude-host 192.0.2.4", &[Who::Back]),
        ("--client-port 4000 --exclude-vlan 7", &[Who::There, Who::Fragmented]),
        ("--server-port 4000 --exclude-host 192.0.2.4", &[Who::Back]),
        ("--exclude-server-port 4000", &[Who::There, Who::Tagged, Who::Fragmented, Who::Far]),
        ("--vlan 7", &[Who::Tagged]),
        ("--vlan 8", &[]),
        ("--exclude-vlan 7 --client-port 4000", &[Who::There, Who::Fragmented]),
        ("vlan 7 and client port 4000", &[Who::Tagged]),
        ("tcp port 4000 and not (vlan or server host 192.0.2.1) and host 192.0.2.1", &[Who::There, Who::Fragmented]),
        (&hosts, &[]),
        (&hosts.replace("4000", "4001"), &[Who::Far]),
        (&nets, &[Who::There, Who::Back, Who::Tagged, Who::Fragmented]),
        ("--ipv6-only", &[]),
        ("--exclude-host 192.0.2.1", &[Who::Far]),
    ];
    let speak = |pair: &Pair| {
        let wire = PacketSocket::open(&pair.client, "c0");
        Who::ALL.into_iter().for_each(|who| who.speak(&wire));
        sleep(Duration::from_millis(20));
    };
    let start = |pair: &Pair, flags: &str| {
        Capture::start(&pair.server, &format!("-i s0 --attach {attach} --shards 1 --ring-size 1M {flags}"))
    };
    if attach == "tc" {
        let pair = Pair::new();
        let captures: Vec<_> = cases.iter().map(|(flags, _)| start(&pair, flags)).collect();
        speak(&pair);
        captures.into_iter().zip(cases).for_each(|(capture, (flags, wanted))| assert_only(capture, flags, wanted));
    } else {
        // An interface has room for one XDP program.
        for (flags, wanted) in cases.iter().skip(1).step_by(4) {
            let pair = Pair::new();
            let capture = start(&pair, flags);
            speak(&pair);
            assert_only(capture, flags, wanted);
        }
    }
}

fn assert_only(capture: Capture, flags: &str, wanted: &[Who]) {
    let outcome = capture.stop();
    outcome.assert_success();
    assert_eq!(outcome.output.closed.len(), wanted.len(), "{flags}: {:#?}", outcome.output.closed);
    for who in wanted {
        let [client, server] = who.ends();
        let record = outcome.output.record(client.into(), server.into());
        assert_eq!((record.started.as_str(), record.ended.as_str()), ("handshake", "fin"), "{flags}: {record:#?}");
        assert_eq!(record.vlan, matches!(who, Who::Tagged).then_some(7), "{record:#?}");
        outcome.output.assert_stream(record, &record.c2s, &[b"up".repeat(200), b"end".to_vec()].concat());
    }
}

/// One connection in so many, and the same ones wherever one looks.
fn samples() {
    const CONNECTIONS: u16 = 1_600;
    let pair = Pair::new();
    let recording = Recording::start(&pair.server, "s0");
    let captures = [
        Capture::start(&pair.server, "-i s0 --attach tc --sample 1/16 --shards 3"),
        Capture::start(&pair.server, "-i s0 --attach native --sample 1/16 --shards 1"),
        Capture::start(&pair.client, "-i c0 --attach tc sample 1/16"),
        Capture::start(&pair.client, "-i c0 --attach tc --sample 1/4"),
    ];
    let wire = PacketSocket::open(&pair.client, "c0");
    let sent = noise(500);
    for n in 0..CONNECTIONS {
        let client = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 10_000 + n);
        let mut talk = Handmade::between(&wire, client, SERVER);
        talk.client_sends(&sent);
        talk.server_acknowledges();
        talk.close();
    }
    let mut outcomes: Vec<_> = captures.into_iter().map(Capture::stop).collect();
    let (file, _scratch) = recording.stop();
    outcomes.push(Capture::replay(&format!("{} --sample 1/16", file.display())));
    for outcome in &outcomes {
        outcome.assert_success();
        for record in &outcome.output.closed {
            record.assert_finished();
            outcome.output.assert_stream(record, &record.c2s, &sent);
        }
    }
    let clients = |outcome: &Outcome| {
        let clients: BTreeSet<SocketAddr> = outcome.output.closed.iter().map(|record| record.client).collect();
        assert_eq!(clients.len(), outcome.output.closed.len());
        clients
    };
    let first = clients(&outcomes[0]);
    // 100 of them, give or take five standard deviations.
    assert!((52..148).contains(&first.len()), "{}", first.len());
    for which in [1, 2, 4] {
        assert_eq!(clients(&outcomes[which]), first);
    }
    let more = clients(&outcomes[3]);
    assert!((313..487).contains(&more.len()), "{}", more.len());
}

#[derive(Clone, Copy, Debug)]
enum Who {
    There,
    Back,
    Tagged,
    Fragmented,
    Far,
}

impl Who {
    const ALL: [Self; 5] = [Self::There, Self::Back, Self::Tagged, Self::Fragmented, Self::Far];

    /// Client and server.
    fn ends(self) -> [SocketAddrV4; 2] {
        let end = |host, port| SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, host), port);
        match self {
            Self::There => [end(1, 4000), end(2, 80)],
            Self::Back => [end(5, 80), end(1, 4000)],
            Self::Tagged => [end(1, 4000), end(3, 80)],
            Self::Fragmented => [end(1, 4000), end(4, 80)],
            Self::Far => [SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 1), 4001), end(9, 81)],
        }
    }

    fn speak(self, wire: &PacketSocket) {
        let [client, server] = self.ends();
        let shape = |frame: &[u8]| match self {
            Self::Tagged => vec![tagged(frame, 0xa007)],
            Self::Fragmented if frame.len() > 200 => fragmented(frame, 104).to_vec(),
            _ => vec![frame.to_vec()],
        };
        let mut talk = Handmade::shaped(wire, client, server, &shape);
        talk.client_sends(&b"up".repeat(200));
        talk.server_acknowledges();
        talk.client_sends(b"end");
        talk.close();
    }
}
