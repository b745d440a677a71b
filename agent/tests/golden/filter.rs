//! Filters let through exactly the connections that they name.

use std::{fs, net::IpAddr};

use crate::{
    account::assert_complete,
    outcome::{Folder, replay_frames},
    recording::{Conversation, Recording},
};

#[test]
fn ports_hosts_and_nets_select_exactly_the_matching_connections() {
    let recording = of_many_clients();
    let [port, other] = [3, 11].map(|place: usize| recording.conversations[place].client.port());
    let v6 = recording.conversations.iter().find(|it| it.client.is_ipv6()).unwrap().client;
    let [port_flag, other_flag, v6_flag] = [port, other, v6.port()].map(|port| port.to_string());
    let host = v6.ip().to_string();
    let is_at = |text: &str| {
        let address: IpAddr = text.parse().unwrap();
        move |it: &Conversation| [it.client.ip(), it.server.ip()].contains(&address)
    };
    let starts = |prefix: &'static str| {
        move |it: &Conversation| [it.client, it.server].iter().any(|end| end.ip().to_string().starts_with(prefix))
    };

    let (both_ports, range) = (format!("{port},{other}"), format!("{port}-65535"));
    let expression = format!("tcp port {port} or {other} and not net ::/0");
    let folder = Folder::new();
    let hosts_file = folder.path().join("hosts");
    fs::write(&hosts_file, format!("# two of them\n10.9.1.4\n\n{host} # and IPv6\n")).unwrap();
    let hosts_file = hosts_file.to_str().unwrap();

    type Selects<'a> = Box<dyn Fn(&Conversation) -> bool + 'a>;
    let cases: Vec<(Vec<&str>, Selects<'_>)> = vec![
        (vec!["--port", "8080"], Box::new(|_| true)),
        (vec!["--port", "8081"], Box::new(|_| false)),
        (vec!["--port", &port_flag], Box::new(|it| it.client.port() == port)),
        (vec!["--port", &port_flag, "--port", &other_flag], Box::new(|it| [port, other].contains(&it.client.port()))),
        (vec!["--host", "10.9.0.2"], Box::new(is_at("10.9.0.2"))),
        (vec!["--host", "10.9.1.4"], Box::new(is_at("10.9.1.4"))),
        (vec!["--host", &host], Box::new(is_at(&host))),
        (vec!["--host", "192.0.2.1"], Box::new(|_| false)),
        (vec!["--net", "10.9.1.0/24"], Box::new(starts("10.9.1."))),
        (vec!["--net", "10.9.2.0/23"], Box::new(|it| starts("10.9.2.")(it) || starts("10.9.3.")(it))),
        (vec!["--net", "fd09:0:0:1::/64"], Box::new(starts("fd09:0:0:1:"))),
        (vec!["--net", "0.0.0.0/0"], Box::new(|it| it.client.is_ipv4())),
        (vec!["--net", "::/0"], Box::new(|it| it.client.is_ipv6())),
        (vec!["--net", "10.9.1.0/24", "--host", &host], Box::new(|it| starts("10.9.1.")(it) && is_at(&host)(it))),
        (
            vec!["--net", "10.9.1.0/24", "--port", &port_flag],
            Box::new(|it| starts("10.9.1.")(it) && it.client.port() == port),
        ),
        (vec!["--host", &host, "--port", &v6_flag], Box::new(|it| it.client == v6)),
        (vec!["--port", &both_ports], Box::new(|it| [port, other].contains(&it.client.port()))),
        (vec!["--port", &range, "--ipv4-only"], Box::new(|it| it.client.port() >= port && it.client.is_ipv4())),
        (vec!["--server-port", "8080"], Box::new(|_| true)),
        (vec!["--server-port", &port_flag], Box::new(|_| false)),
        (vec!["--client-port", &port_flag], Box::new(|it| it.client.port() == port)),
        (vec!["--client-net", "10.9.1.0/24"], Box::new(starts("10.9.1."))),
        (vec!["--server-net", "10.9.1.0/24"], Box::new(|_| false)),
        (vec!["--exclude-client-port", &port_flag], Box::new(|it| it.client.port() != port)),
        (vec!["--exclude-port", "8080"], Box::new(|_| false)),
        (
            vec!["--net", "0.0.0.0/0", "--exclude-net", "10.9.1.0/24,10.9.2.0/24"],
            Box::new(|it| it.client.is_ipv4() && !starts("10.9.1.")(it) && !starts("10.9.2.")(it)),
        ),
        (vec!["--hosts-file", hosts_file], Box::new(|it| is_at(&host)(it) || is_at("10.9.1.4")(it))),
        (vec!["--exclude-nets-file", hosts_file], Box::new(|it| !is_at(&host)(it) && !is_at("10.9.1.4")(it))),
        (
            vec!["--filter", &expression],
            Box::new(|it| [port, other].contains(&it.client.port()) && it.client.is_ipv4()),
        ),
        (vec!["--filter", "client net 10.9.1.0/24", "--filter", "not server port 8080"], Box::new(|_| false)),
        (vec!["--filter", "not ip", "--net", "fd09:0:0:1::/64"], Box::new(starts("fd09:0:0:1:"))),
    ];
    let mut counts = Vec::new();
    for (args, selects) in cases {
        let selected: Vec<_> = recording.conversations.iter().filter(|it| selects(it)).collect();
        let shards = if counts.len() % 2 == 0 { "1" } else { "2" };
        let args = [&args[..], &["--shards", shards]].concat();
        assert_complete(&replay_frames(&recording.frames, &args), selected.iter().copied());
        counts.push(selected.len());
    }
    // Cases that select nothing, one, some and all, or the above would say little.
    let all = recording.conversations.len();
    assert!([0, 1, all].iter().all(|count| counts.contains(count)), "{counts:?}");
    assert!(counts.iter().filter(|count| (2..all).contains(*count)).count() > 5, "{counts:?}");
}

#[test]
fn what_the_filter_refuses_is_counted() {
    let recording = of_many_clients();
    let outcome = replay_frames(&recording.frames, &["--net", "10.9.1.0/24", "--json"]);
    let is_in = |address: IpAddr| address.to_string().starts_with("10.9.1.");
    let others = recording.frames.iter().map(|it| it.tcp()).filter(|tcp| !is_in(tcp.src.ip()) && !is_in(tcp.dst.ip()));
    assert_eq!(outcome.summary()["frames"]["filtered"], others.count());
}

/// The recording with clients in four networks of each family.
fn of_many_clients() -> Recording {
    let mut recording = Recording::get().clone();
    for (number, conversation) in (0_u8..).zip(&mut recording.conversations) {
        let old = conversation.client.ip();
        let new: IpAddr = match old {
            IpAddr::V4(_) => [10, 9, number % 4, number / 4 + 4].into(),
            IpAddr::V6(_) => [0xfd09, 0, 0, u16::from(number % 4), 0, 0, 0, u16::from(number / 4 + 4)].into(),
        };
        for frame in &mut recording.frames {
            if conversation.direction(frame).is_some() {
                frame.readdress(old, new);
            }
        }
        conversation.client.set_ip(new);
    }
    recording
}
