//! What a frame costs in the kernel, above a program that does nothing:
//! `cargo run --release -p agent --example cost`, as root. Frames are in rotation, so that no two in a row are of one
//! connection, and the rings are drained between rounds: a ring that refuses one ends the measurement.
#![expect(clippy::print_stdout, reason = "this prints a table")]

use agent::{
    filter::{End, Expression, Filter, Set, Test, compile},
    kernel::{Kernel, Options, Ring},
};
use agent_common::{counter::Counter, shard::ShardKey, tunnel::Tunnels};
use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf, EbpfLoader, TestRunOptions,
    maps::{MapData, ProgramArray, RingBuf},
    programs::{TestRun as _, Xdp},
};
use etherparse::{IpHeaders, PacketBuilder, PacketBuilderStep, TcpHeader};

fn main() -> Result<()> {
    println!("{:>44} {:>7} {:>7} {:>7} {:>7}", "ns per frame", "frames", "empty", "with", "more");
    let [short, full] = [64, 1_514].map(|len| segment(1, &vec![7; len - HEADERS]));
    let (short, full) = (short?, full?);
    let port = |port| Expression::Test(Test::Ports(End::Either, port, port));
    for terms in [1, 10, 60] {
        let filter = compile(&Expression::Or((1..=terms).map(port).collect()), 0, Tunnels::NONE)?;
        Case { filter, ..Case::default() }.measure(&format!("no match, {terms} ports"), &short)?;
    }
    for nets in [10, 30] {
        let filter = compile(&Expression::Or((0..nets).map(|i| net(i, 24)).collect()), 0, Tunnels::NONE)?;
        Case { filter, ..Case::default() }.measure(&format!("no match, {nets} nets"), &short)?;
    }
    let ten = ten_terms();
    let filter = compile(&ten, 0, Tunnels::NONE)?;
    Case { filter, ..Case::default() }.measure("no match, an expression of 10 terms", &short)?;
    let set = |end| Expression::Test(Test::Set(end, ten_thousand().into()));
    let both = Expression::And(vec![set(End::Source), set(End::Destination)]);
    // An end among them is looked up to its last octet.
    for (what, source, destination, wanted) in [
        ("neither end among", SOURCE_ELSEWHERE, DESTINATION, both.clone()),
        ("one end among", SOURCE_IN_NETS, DESTINATION, both.clone()),
        ("both ends among", SOURCE_IN_NETS, SOURCE_IN_NETS, Expression::Not(both.into())),
    ] {
        let filter = compile(&wanted, 0, Tunnels::NONE)?;
        let rotation = Rotation { frames: 8_192, source, destination, shift: 8 };
        Case { filter, rotation, ..Case::default() }.measure(&format!("{what} 10,000 nets"), &short)?;
    }
    let bare = [("copy_64", &short), ("copy_1514", &full)];
    for (program, frame) in bare {
        let (empty, with) = Rig::new(&Rotation::default())?.bare(program, frame)?;
        row(&format!("a bare {program}"), 4_096, empty, with);
    }
    for (size, frame) in [(64, &short), (1_514, &full)] {
        Case { matches: true, ..Case::default() }.measure(&format!("match, {size} octets"), frame)?;
    }
    let rotation = Rotation { frames: 131_072, ..Rotation::default() };
    let behind = segment(CUTOFF + 1, &vec![7; 1_460])?;
    Case { rotation, cutoff: Some(CUTOFF.into()), ..Case::default() }.measure("behind the cut-off", &behind)?;
    let case = || Case { withhold_acks: true, ..Case::default() };
    case().measure("a bare ACK, withheld", &segment(1, &[])?)?;
    Case { rotation, ..case() }.measure("a bare ACK, withheld", &segment(1, &[])?)?;
    Ok(())
}

/// What is measured.
struct Case {
    filter: Filter,
    rotation: Rotation,
    /// The frames go into a ring, so that not all can be measured in a row.
    matches: bool,
    /// With one of these the frames match and are withheld, all flows being known to the table by a SYN.
    cutoff: Option<u64>,
    withhold_acks: bool,
}

impl Default for Case {
    fn default() -> Self {
        let (filter, rotation) = (Filter::everything(), Rotation::default());
        Self { filter, rotation, matches: false, cutoff: None, withhold_acks: false }
    }
}

impl Case {
    fn measure(self, name: &str, frame: &[u8]) -> Result<()> {
        let Self { filter, rotation, matches, cutoff, withhold_acks } = self;
        let withholds = cutoff.is_some() || withhold_acks;
        let flows = if withholds { FLOWS } else { 0 };
        let basic = Options::new(filter, ShardKey::FIXED, 0);
        let options = Options { ring_size: RING_SIZE, flows, cutoff, withhold_acks, ..basic };
        let (mut kernel, mut rings) = Kernel::load(&options)?;
        let mut rig = Rig::new(&rotation)?;
        let empty = rig.run("pass", frame, LONG)?;
        kernel.set_number(1, 0)?;
        rig.call(kernel.loaded("xdpflow_xdp")?)?;
        if withholds {
            rig.round(&syn()?, rotation.frames)?;
            rings.iter_mut().for_each(drain);
        }
        let mut with = u64::MAX;
        for _ in 0..ROUNDS {
            with = with.min(rig.round(frame, if matches { rotation.frames.min(SHORT) } else { LONG })?);
            rings.iter_mut().for_each(drain);
        }
        let counters = kernel.counters()?;
        ensure!(counters[Counter::RingFull as usize] == 0, "{name}: a ring was full");
        ensure!((counters[Counter::Matched as usize] > 0) == (matches || withholds), "{name}: {counters:?}");
        let withheld = counters[Counter::WithheldCutoff as usize] + counters[Counter::WithheldAcks as usize];
        ensure!(withheld == u64::from(if withholds { ROUNDS * LONG } else { 0 }), "{name}: {counters:?}");
        row(name, rotation.frames, empty, with);
        Ok(())
    }
}

/// How the frames differ, see `agent-ebpf/src/bench.rs`.
#[derive(Clone, Copy)]
struct Rotation {
    frames: u32,
    source: u32,
    destination: u32,
    shift: u32,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { frames: 4_096, source: SOURCE_ELSEWHERE, destination: DESTINATION, shift: 0 }
    }
}

/// The programs that are measured against.
struct Rig {
    ebpf: Ebpf,
    target: ProgramArray<MapData>,
}

impl Rig {
    fn new(rotation: &Rotation) -> Result<Self> {
        let &Rotation { frames, source, destination, shift } = rotation;
        let mut ebpf = EbpfLoader::new()
            .override_global("FRAMES", &frames, true)
            .override_global("SOURCE", &source, true)
            .override_global("DESTINATION", &destination, true)
            .override_global("SHIFT", &shift, true)
            .load(OBJECT)?;
        for name in ["rotate", "pass", "copy_64", "copy_1514"] {
            program(&mut ebpf, name)?.load()?;
        }
        let target = ProgramArray::try_from(ebpf.take_map("TARGET").context("the map TARGET")?)?;
        Ok(Self { ebpf, target })
    }

    /// From here on `program` is what the frames are rotated for.
    fn call(&mut self, program: &aya::programs::ProgramFd) -> Result<()> {
        Ok(self.target.set(0, program, 0)?)
    }

    /// Nanoseconds that one of ours takes, the rotation included.
    fn run(&mut self, name: &str, frame: &[u8], repeat: u32) -> Result<u64> {
        let called = program(&mut self.ebpf, name)?.fd()?.try_clone()?;
        self.call(&called)?;
        (0..ROUNDS).map(|_| self.round(frame, repeat)).try_fold(u64::MAX, |least, round| Ok(least.min(round?)))
    }

    /// A program that copies, beside one that does not.
    fn bare(mut self, name: &str, frame: &[u8]) -> Result<(u64, u64)> {
        let empty = self.run("pass", frame, LONG)?;
        let mut copies = RingBuf::try_from(self.ebpf.take_map("COPIES").context("the map COPIES")?)?;
        let mut with = u64::MAX;
        let called = program(&mut self.ebpf, name)?.fd()?.try_clone()?;
        self.call(&called)?;
        for _ in 0..ROUNDS {
            with = with.min(self.round(frame, SHORT)?);
            let copied = std::iter::from_fn(|| copies.next().map(drop)).count();
            ensure!(copied == SHORT as usize, "{name}: {copied} of {SHORT} were copied");
        }
        Ok((empty, with))
    }

    fn round(&mut self, frame: &[u8], repeat: u32) -> Result<u64> {
        let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::default() };
        let result = program(&mut self.ebpf, "rotate")?.test_run(options)?;
        Ok(u64::try_from(result.duration.as_nanos())?)
    }
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    Ok(ebpf.program_mut(name).with_context(|| format!("the program {name}"))?.try_into()?)
}

fn drain(ring: &mut Ring) {
    while ring.next().is_some() {}
}

fn row(name: &str, frames: u32, empty: u64, with: u64) {
    println!("{name:>44} {frames:>7} {empty:>7} {with:>7} {:>7}", with as i64 - empty as i64);
}

/// 10.0.0.0, 198.18.0.0 and 172.16.0.0.
const SOURCE_ELSEWHERE: u32 = 0x0a00_0000;
const SOURCE_IN_NETS: u32 = 0xc612_0000;
const DESTINATION: u32 = 0xac10_0000;

fn net(number: u32, prefix: u8) -> Expression {
    let address = (SOURCE_IN_NETS + (number << 8)).to_be_bytes();
    Expression::Test(Test::Net(End::Either, ipnet::Ipv4Net::new_assert(address.into(), prefix).into()))
}

fn ten_thousand() -> Set {
    let nets = (0..10_000).filter_map(|number| match net(number, 24) {
        Expression::Test(Test::Net(_, net)) => Some(net),
        _ => None,
    });
    Set { name: "ten thousand".to_owned(), nets: nets.collect() }
}

/// Ten questions, the last of which has the answer.
fn ten_terms() -> Expression {
    let port = |port| Expression::Test(Test::Ports(End::Destination, port, port));
    let ports = Expression::Or((443..449).map(port).collect());
    let nets = Expression::Or((0..4).map(|i| net(i, 24)).collect());
    Expression::Or(vec![ports, nets])
}

/// An Ethernet frame from port 1024 to 8080.
fn segment(seq: u32, payload: &[u8]) -> Result<Vec<u8>> {
    frame(|ends| ends.tcp(1_024, 8_080, seq, 1_000).ack(1), payload)
}

/// What opens the connection of [`segment`]s, the first octet of which has the number 1.
fn syn() -> Result<Vec<u8>> {
    frame(|ends| ends.tcp(1_024, 8_080, 0, 1_000).syn(), &[])
}

fn frame(
    tcp: impl FnOnce(PacketBuilderStep<IpHeaders>) -> PacketBuilderStep<TcpHeader>,
    payload: &[u8],
) -> Result<Vec<u8>> {
    let mut frame = Vec::new();
    let ends = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4([10, 0, 0, 1], [172, 16, 0, 1], 64);
    tcp(ends).write(&mut frame, payload)?;
    frame.resize(frame.len().max(ETHERNET_MIN), 0);
    Ok(frame)
}

/// Octets before the payload: Ethernet, IPv4, TCP.
const HEADERS: usize = 14 + 20 + 20;

/// A frame is padded to this length, without its checksum (IEEE 802.3, 4A.4.2).
const ETHERNET_MIN: usize = 60;

const CUTOFF: u32 = 1 << 20;
/// Twice as many as are measured, so that none has to make room.
const FLOWS: u32 = 262_144;

const ROUNDS: u32 = 9;
const LONG: u32 = 500_000;
/// As many as fit into a ring.
const SHORT: u32 = 4_096;
const RING_SIZE: u32 = 64 << 20;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bench.o"));
