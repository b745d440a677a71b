//! What the kernel half costs per frame, above a program that only passes, as `BPF_PROG_TEST_RUN` measures it:
//! `cargo run --release -p agent --example cost`, as root. A frame that does not match may cost 35 ns more.
#![expect(clippy::print_stdout, reason = "this prints a table")]

use agent::{
    filter::{End, Expression, Filter, Test, compile},
    kernel::{Kernel, Options},
};
use agent_common::{shard::ShardKey, tunnel::Tunnels};
use anyhow::Result;
use etherparse::PacketBuilder;

fn main() -> Result<()> {
    println!("{:>12} {:>8} {:>6} {:>6} {:>6} {:>6}", "filter", "frame", "pass", "XDP", "more", "tc");
    for (name, ports, hosts, nets) in [
        ("none", 0, 0, 0),
        ("cut off", 0, 0, 0),
        ("1 port", 1, 0, 0),
        ("16 ports", 16, 0, 0),
        ("60 ports", 60, 0, 0),
        ("1 host", 0, 1, 0),
        ("16 hosts", 0, 16, 0),
        ("1 net", 0, 0, 1),
        ("16 nets", 0, 0, 16),
        ("10000 nets", 0, 0, 10_000),
    ] {
        let filter = filter(ports, hosts, nets)?;
        let mut options = Options { shards: 2, ..Options::new(filter, ShardKey::FIXED, 0) };
        if name == "cut off" {
            // What each frame costs that is accounted for and not copied.
            (options.flows, options.cutoff, options.withhold_acks) = (1 << 16, Some(0), true);
        }
        let (mut kernel, mut rings) = Kernel::load(&options)?;
        for (frame_name, frame) in frames()? {
            // Frames that match fill the ring, which is then another measurement.
            let repeat = if name == "none" && frame_name != "UDP" { 4_000 } else { 1_000_000 };
            let mut cost = |program, repeat| -> Result<i128> {
                let mut least = i128::MAX;
                for _ in 0..9 {
                    least = least.min(kernel.test_run(program, &frame, None, repeat)?.duration.as_nanos() as i128);
                    for ring in &mut rings {
                        while ring.next().is_some() {}
                    }
                }
                Ok(least)
            };
            let pass = cost("xdpflow_pass", 1_000_000)?;
            let (xdp, tc) = (cost("xdpflow_xdp", repeat)?, cost("xdpflow_tx", repeat)?);
            println!("{name:>12} {frame_name:>8} {pass:>6} {xdp:>6} {:>6} {tc:>6}", xdp - pass);
        }
    }
    Ok(())
}

/// A filter with so many entries, none of which the frames match.
fn filter(ports: u16, hosts: u8, nets: u32) -> Result<Filter> {
    let net =
        |octets: [u8; 4], prefix| Test::Net(End::Either, ipnet::Ipv4Net::new_assert(octets.into(), prefix).into());
    let lists = [
        (1..=ports).map(|port| Test::Ports(End::Either, port, port)).collect::<Vec<_>>(),
        (0..hosts).map(|i| net([192, 0, 2, i], 32)).collect(),
        (0..nets).map(|i| net([198, (i >> 8) as u8, i as u8, 0], 24)).collect(),
    ];
    let any = |tests: Vec<Test>| Expression::Or(tests.into_iter().map(Expression::Test).collect());
    compile(&Expression::And(lists.into_iter().filter(|list| !list.is_empty()).map(any).collect()), 0, Tunnels::NONE)
}

fn frames() -> Result<[(&'static str, Vec<u8>); 4]> {
    let ethernet = || PacketBuilder::ethernet2([1; 6], [2; 6]);
    let (mut v4, mut v6, mut vlan, mut udp) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    ethernet().ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).tcp(1234, 8080, 1, 2).write(&mut v4, &[])?;
    ethernet().ipv6([1; 16], [2; 16], 64).tcp(1234, 8080, 1, 2).write(&mut v6, &[])?;
    ethernet()
        .single_vlan(5.try_into()?)
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .tcp(1234, 8080, 1, 2)
        .write(&mut vlan, &[])?;
    ethernet().ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(1234, 8080).write(&mut udp, &[])?;
    Ok([("v4", v4), ("v6", v6), ("v4 VLAN", vlan), ("UDP", udp)])
}
