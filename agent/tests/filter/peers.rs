//! tcpdump and tshark on the same frames.

#![expect(clippy::print_stdout, reason = "xtask reads what was skipped")]

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use agent::filter;

use crate::{
    ask::{Ask, Vocabulary},
    capture,
    meaning::{agent_accepts, compile, kernel_accepts},
    packet::Packet,
    random::Random,
};

/// Expressions that tcpdump and we take for the same.
const EXPRESSIONS: &[&str] = &[
    "",
    "tcp",
    "ip",
    "ip6",
    "ip proto \\tcp",
    "ip6 proto 6",
    "proto 6 and not ip",
    "port 80",
    "tcp port 80 or 443",
    "port http or https",
    "port 0x50 or 0673",
    "src port 80 or dst port 443 and portrange 1024-65535",
    "portrange 1-1023",
    "tcp portrange 9000-8000 or 20-25",
    "not port 80",
    "port not 80",
    "! port 80 && ! port 443",
    "port 80 or not 443",
    "dst port (80 or 443)",
    "src or dst port 8080",
    "src and dst portrange 1024-65535",
    "src and dst net 10.0.0.0/8",
    "net 10",
    "net 192.168",
    "net 172.16.0.0 mask 255.240.0.0",
    "src net 192.168.0.0/16 and not dst net 192.168.0.0/16",
    "host 192.168.1.1 or 10.9.0.1 or 10.9.0.2",
    "not host 10.9.0.1 and 10.9.0.2",
    "src 10.9.0.1",
    "dst 10.9.0.1 or port 80",
    "ip host 10.9.0.1",
    "host fd09::1 or net 2001:db8::/32 or net fe80::/10",
    "ip6 and src net fd00::/8",
    "tcp port 443 and not net 10.0.0.0/8",
    "(port 80 or port 443) and (net 10.0.0.0/8 or net 192.168.0.0/16)",
    "port 80 or port 443 and net 10.0.0.0/8",
    "port 80 and port 443 or net 10.0.0.0/8",
    "not (port 80 or net 10.0.0.0/8)",
    "not port 80 or net 10.0.0.0/8",
    "ip[8] < 64",
    "ip[8] = 64 or ip[8] == 128",
    "ip[6] & 0x40 != 0",
    "not ip[6] & 0x40 != 0",
    "ip[6] & 0x40 = 0",
    "ip[0] & 0xf != 5",
    "ip[2:2] > 576",
    "ip[2:2] >= 100 and ip[2:2] <= 1000",
    "ip[12:4] = 0x0a090001",
    "1500 < ip[2:2]",
    "ip[1] >> 2 = 0",
    "(ip[0] & 0xf) << 2 > 20",
    "ip6[7] = 64",
    "ip6[4:2] > 100",
    "ip6[6] = 6 and not port 80",
    "ip[8] < 0 or ip[8] >= 256",
    "ip[8] != 300",
];

/// The same, but tcpdump asks IPv4 alone.
const OF_IPV4: &[&str] = &[
    "tcp[13] & 2 != 0",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "tcp[tcpflags] & (tcp-syn|tcp-ack) = tcp-syn",
    "tcp[tcpflags] == tcp-syn|tcp-ack",
    "tcp[tcpflags] & tcp-push != 0 and port 80",
    "not tcp[tcpflags] & tcp-rst != 0 and ip",
    "tcp[13] = 0x10",
    "tcp[13] > 0x10",
    "tcp[0:2] = 80 or tcp[2:2] = 80",
    "tcp[12] >> 4 > 5",
    "(tcp[12] & 0xf0) >> 2 = 20",
    "tcp[12] >> 4 << 2 >= 32",
    "tcp[14:2] < 1024",
    "tcp[4:4] > 0x7fffffff",
    "tcp[10+3] & 1 = 1",
    "((tcp[13] & 2) != 0 and (port 80 or (443)))",
    "2 = tcp[13] & 0x17",
    "tcp[19:1] = 0",
];

#[test]
fn tcpdump_finds_the_same_frames() {
    let Some(tcpdump) = Peer::find("tcpdump", "tcpdump_finds_the_same_frames") else { return };
    let frames = capture::frames();
    assert!(frames.len() > 700, "{} frames", frames.len());
    let path = tcpdump.store(&frames);
    for expression in EXPRESSIONS {
        assert_eq!(ours(expression, &frames), tcpdump.matches(&path, expression), "{expression}");
    }
    let is_v4 = |number: &usize| frames[*number][12] == 0x08;
    for expression in OF_IPV4 {
        let found: Vec<_> = ours(expression, &frames).into_iter().filter(is_v4).collect();
        let said: Vec<_> = tcpdump.matches(&path, expression).into_iter().filter(is_v4).collect();
        assert_eq!(found, said, "{expression}");
    }
}

#[test]
fn tcpdump_finds_the_same_frames_with_random_expressions() {
    let Some(tcpdump) = Peer::find("tcpdump", "tcpdump_finds_the_same_frames_with_random_expressions") else { return };
    let mut random = Random(7);
    let packet = |random: &mut Random| Packet { tags: Vec::new(), ..Packet::random(random) }.frame();
    let frames: Vec<_> = (0..2_000).map(|_| packet(&mut random)).collect();
    let v4: Vec<_> = frames.iter().filter(|frame| frame[12] == 0x08).cloned().collect();
    for (octets, frames) in [(false, frames), (true, v4)] {
        let path = tcpdump.store(&frames);
        let mut some = 0;
        for _ in 0..150 {
            let expression = Ask::random(&mut random, 4, Vocabulary { ours: false, octets }).to_string();
            let found = ours(&expression, &frames);
            assert_eq!(found, tcpdump.matches(&path, &expression), "{expression}");
            some += u32::from(!found.is_empty() && found.len() < frames.len());
        }
        assert!(some > 40, "{some}");
    }
}

/// What is one tag deep, tcpdump looks for behind `vlan`.
#[test]
fn tcpdump_finds_the_same_frames_behind_a_tag() {
    let Some(tcpdump) = Peer::find("tcpdump", "tcpdump_finds_the_same_frames_behind_a_tag") else { return };
    let mut random = Random(8);
    let packet = |random: &mut Random| {
        let packet = Packet::random(random);
        Packet { tags: packet.tags.into_iter().take(1).collect(), ..packet }.frame()
    };
    let frames: Vec<_> = (0..2_000).map(|_| packet(&mut random)).collect();
    let path = tcpdump.store(&frames);
    for expression in ["vlan", "vlan 7", "vlan 0", "vlan 7 and port 80", "vlan and net 10.0.0.0/8 and not port 443"] {
        let found = ours(expression, &frames);
        assert!(!found.is_empty());
        assert_eq!(found, tcpdump.matches(&path, expression), "{expression}");
    }
}

#[test]
fn tshark_finds_the_same_frames() {
    let Some(tshark) = Peer::find("tshark", "tshark_finds_the_same_frames") else { return };
    let frames = capture::frames();
    // What is above TCP may hold an IP header as well.
    let path = tshark.store_cut(&frames, capture::headers);
    for (expression, display_filter) in [
        ("port 80", "tcp.port == 80"),
        ("src port 80 and not net 10.0.0.0/8", "tcp.srcport == 80 && !(ip.addr == 10.0.0.0/8)"),
        ("portrange 8000-9000", "tcp.port in {8000..9000}"),
        ("dst host 10.9.0.2 or port 443", "ip.dst == 10.9.0.2 || tcp.port == 443"),
        ("ip6 and net fd00::/8", "ipv6.addr == fd00::/8"),
        ("tcp[tcpflags] & tcp-syn != 0", "tcp.flags.syn == 1"),
        ("tcp[tcpflags] & (tcp-syn|tcp-ack) = tcp-syn", "tcp.flags.syn == 1 && tcp.flags.ack == 0"),
        ("tcp[tcpflags] & (tcp-fin|tcp-rst) != 0", "tcp.flags.fin == 1 || tcp.flags.reset == 1"),
        ("ip[8] < 64 or ip6[7] < 64", "ip.ttl < 64 || ipv6.hlim < 64"),
        ("tcp[12] >> 4 > 5", "tcp.hdr_len > 20"),
        ("tcp[14:2] < 1024", "tcp.window_size_value < 1024"),
        ("ip[6] & 0x40 != 0", "ip.flags.df == 1"),
    ] {
        assert_eq!(ours(expression, &frames), tshark.displays(&path, display_filter), "{expression}");
    }
}

/// The numbers of the frames that match, on which kernel and agent agree.
fn ours(expression: &str, frames: &[Vec<u8>]) -> Vec<usize> {
    let filter = compile(&filter::parse(expression).unwrap());
    let matches = |(number, frame): (usize, &Vec<u8>)| {
        let accepts = agent_accepts(&filter, frame);
        assert_eq!(accepts, kernel_accepts(&filter, frame, agent_common::head::Client::Unknown), "{expression}");
        accepts.then_some(number)
    };
    frames.iter().enumerate().filter_map(matches).collect()
}

/// Another program, and a folder of its own.
struct Peer {
    program: &'static str,
    folder: PathBuf,
}

impl Peer {
    fn find(program: &'static str, test: &str) -> Option<Self> {
        match Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                println!("skipped: {test} (needs {program})");
                None
            }
            status => {
                assert!(status.unwrap().success());
                let folder = std::env::temp_dir().join(format!("xdpflow-{test}-{}", std::process::id()));
                fs::create_dir_all(&folder).unwrap();
                Some(Self { program, folder })
            }
        }
    }

    fn store(&self, frames: &[Vec<u8>]) -> PathBuf {
        self.store_cut(frames, <[u8]>::len)
    }

    fn store_cut(&self, frames: &[Vec<u8>], snaplen: impl Fn(&[u8]) -> usize) -> PathBuf {
        let path = self.folder.join("frames.pcap");
        fs::write(&path, capture::file(frames, snaplen)).unwrap();
        path
    }

    fn matches(&self, path: &Path, expression: &str) -> Vec<usize> {
        let mut command = Command::new(self.program);
        capture::numbers(&self.run(command.arg("-r").arg(path).args(["-w", "-", expression])))
    }

    fn displays(&self, path: &Path, filter: &str) -> Vec<usize> {
        let mut command = Command::new(self.program);
        let numbers = self.run(command.arg("-r").arg(path).args(["-Y", filter, "-T", "fields", "-e", "frame.number"]));
        let numbers = String::from_utf8(numbers).unwrap();
        numbers.lines().map(|number| number.parse::<usize>().unwrap() - 1).collect()
    }

    fn run(&self, command: &mut Command) -> Vec<u8> {
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        // It looks ahead: then it reads nothing.
        if said.contains("expression rejects all packets") {
            return capture::file(&[], <[u8]>::len);
        }
        assert!(output.status.success(), "{command:?}: {said}");
        output.stdout
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
