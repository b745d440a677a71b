//! Captures that are made for measuring: the same octets for the same seed, and for each a manifest of its streams.

mod content;
mod conversation;
mod manifest;
mod pcap;

use std::{net::SocketAddrV4, path::Path};

use anyhow::{Context, Result};

pub(super) use self::manifest::{Manifest, Stream, Verdict};
use self::{
    content::Content,
    conversation::Conversation,
    pcap::{ACK, PSH, Pcap, SYN, Segment},
};
use crate::{
    interrupt,
    random::{self, Random},
};

#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(super) enum Workload {
    /// Many connections of a request and a response of 1 KiB to 256 KiB, on few ports
    Short,
    /// Eight downloads at a time
    Bulk,
    /// A million connections that are open and silent, and then say one word more
    Idle,
    /// Segments that are late, come twice and overlap
    Hostile,
}

/// A capture and what is in it.
pub(super) struct Made {
    pub(super) manifest: Manifest,
    pub(super) frames: u64,
}

impl Workload {
    pub(super) const ALL: [Self; 4] = [Self::Short, Self::Bulk, Self::Idle, Self::Hostile];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Bulk => "bulk",
            Self::Idle => "idle",
            Self::Hostile => "hostile",
        }
    }

    /// Writes the capture; at a scale of 1 in the size that the targets are about.
    pub(super) fn make(self, path: &Path, scale: f64, seed: u64) -> Result<Made> {
        let scaled = |count: u64| ((count as f64 * scale) as u64).max(1);
        let mut making = Making::new(path, seed)?;
        match self {
            Self::Short => making.short(scaled(24_000), 0)?,
            Self::Bulk => making.bulk(scaled(64 << 20))?,
            Self::Idle => making.idle(scaled(1_000_000), 2)?,
            Self::Hostile => making.hostile(scaled(4_000))?,
        }
        making.finish()
    }
}

/// [`Workload::Idle`] of so many connections, with so many words on each.
pub(super) fn idle(path: &Path, connections: u64, words: u64, seed: u64) -> Result<Made> {
    let mut making = Making::new(path, seed)?;
    making.idle(connections, words)?;
    making.finish()
}

/// [`Workload::Short`] of so many connections, of which a capture misses so many of a million segments of full size.
pub(super) fn lossy(path: &Path, connections: u64, loss: u64, seed: u64) -> Result<Made> {
    let mut making = Making::new(path, seed)?;
    making.short(connections, loss)?;
    making.finish()
}

/// What a seed says, so many octets of it.
pub(super) fn octets(seed: u64, len: u64) -> Vec<u8> {
    let mut octets = Vec::new();
    Content::random(seed, len).read(0..len, &mut octets);
    octets
}

struct Making {
    pcap: Pcap,
    manifest: Manifest,
    random: Random,
}

impl Making {
    fn new(path: &Path, seed: u64) -> Result<Self> {
        Ok(Self { pcap: Pcap::create(path)?, manifest: Manifest::default(), random: Random::new(seed) })
    }

    fn finish(self) -> Result<Made> {
        let Self { pcap, manifest, .. } = self;
        let frames = pcap.frames;
        pcap.finish()?;
        Ok(Made { manifest, frames })
    }

    fn short(&mut self, connections: u64, loss: u64) -> Result<()> {
        let ports = ports(connections);
        self.interleave(50, connections, |number, random, used| {
            let ends = [free_port(number, ports, used), SERVER];
            let len = random.scaled(1 << 10, 256 << 10);
            let request = Content::text(format!(
                "GET /octets/{len}?{number} HTTP/1.1\r\nHost: 10.1.0.1\r\nUser-Agent: bench\r\nConnection: close\r\n\r\n"
            ));
            let mut response = Content::text(format!(
                "HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n"
            ));
            (response.seed, response.len) = (random.next(), response.len + len);
            Conversation::new(ends, isns(number, random)).losing(loss).exchange(request, response)
        })
    }

    fn bulk(&mut self, octets: u64) -> Result<()> {
        self.interleave(8, 8, |number, random, _| {
            let client = SocketAddrV4::new([10, 1, 0, 2].into(), 40_000 + number as u16);
            let request = Content::text(format!("GET /octets/{octets} HTTP/1.1\r\nHost: 10.1.0.1\r\n\r\n"));
            let response = Content::random(random.next(), octets);
            Conversation::new([client, SERVER], isns(number, random)).exchange(request, response)
        })
    }

    fn hostile(&mut self, connections: u64) -> Result<()> {
        let ports = ports(connections);
        self.interleave(50, connections, |number, random, used| {
            let ends = [free_port(number, ports, used), SERVER];
            let contents = [0, 1].map(|_| Content::random(random.next(), random.scaled(1 << 10, 128 << 10)));
            Conversation::new(ends, isns(number, random)).quarrel(contents, random)
        })
    }

    /// Has `count` conversations, of which `at_once` go on at a time, in bursts of up to eight frames. Each is made of its
    /// number, from 1 on, and of those that go on.
    fn interleave(
        &mut self,
        at_once: usize,
        count: u64,
        mut make: impl FnMut(u64, &mut Random, &[Conversation]) -> Conversation,
    ) -> Result<()> {
        let Self { pcap, manifest, random } = self;
        let mut numbers = 1..=count;
        let mut active = Vec::new();
        let mut octets = Vec::new();
        loop {
            interrupt::check()?;
            while active.len() < at_once
                && let Some(number) = numbers.next()
            {
                let conversation = make(number, random, &active);
                active.push(conversation);
            }
            if active.is_empty() {
                return Ok(());
            }
            let number = random.below(active.len() as u64) as usize;
            for _ in 0..=random.below(8) {
                if !active[number].write(pcap, manifest, &mut octets)? {
                    active.swap_remove(number);
                    break;
                }
            }
        }
    }

    /// Every connection opens, says a word and is silent until all have; then each says another, in another order.
    fn idle(&mut self, connections: u64, words: u64) -> Result<()> {
        let Self { pcap, manifest, random } = self;
        let count = u32::try_from(connections).context("as many connections have no addresses")?;
        let mut order: Vec<u32> = (0..count).collect();
        let mut started = vec![0; order.len()];
        let mut octets = Vec::new();
        let isn = |number: u32, side: u64| random::word(side, number.into()) as u32;
        for phase in 0..2 + words {
            random.shuffle(&mut order);
            interrupt::check()?;
            for &number in &order {
                let [_, high, middle, low] = number.to_be_bytes();
                let client = SocketAddrV4::new([10, high, middle, low].into(), 1_024 + (number % 50_000) as u16);
                let [ours, theirs] = [isn(number, 1), isn(number, 2)];
                let (ack, reply) = (theirs.wrapping_add(1), ours.wrapping_add(1));
                let said = Content::random(number.into(), words * WORD);
                let from_client =
                    |seq: u32, ack, flags| Segment { src: client, dst: FAR_SERVER, seq, ack, flags, payload: &[] };
                let segment = match phase {
                    0 => {
                        started[number as usize] = pcap.time();
                        from_client(ours, 0, SYN)
                    }
                    1 => Segment { src: FAR_SERVER, dst: client, ..from_client(theirs, reply, SYN | ACK) },
                    _ => {
                        let offset = (phase - 2) * WORD;
                        said.read(offset..offset + WORD, &mut octets);
                        Segment { payload: &octets, ..from_client(reply.wrapping_add(offset as u32), ack, PSH | ACK) }
                    }
                };
                pcap.write(&segment, 1)?;
                if phase == 1 + words {
                    manifest.add(client, FAR_SERVER, started[number as usize], &said);
                }
            }
        }
        Ok(())
    }
}

/// Each is used a dozen times; more at a time than there are conversations, and fewer than a host has.
fn ports(connections: u64) -> u64 {
    (connections / 12).clamp(100, 4_000)
}

/// A client with the port that was not used for longest.
fn free_port(number: u64, ports: u64, used: &[Conversation]) -> SocketAddrV4 {
    let mut number = number;
    loop {
        let client = SocketAddrV4::new([10, 1, 0, 2].into(), 32_768 + (number % ports) as u16);
        if used.iter().all(|conversation| conversation.ends()[0] != client) {
            return client;
        }
        number += 1;
    }
}

/// Those of a later connection lie ahead (RFC 6528 section 3), by more than an earlier one on the same port has said.
fn isns(number: u64, random: &mut Random) -> [u32; 2] {
    [0, 1].map(|side| (side << 31) + (number as u32).wrapping_mul(4_096).wrapping_add(random.below(4_096) as u32))
}

const SERVER: SocketAddrV4 = SocketAddrV4::new(std::net::Ipv4Addr::new(10, 1, 0, 1), 80);
const FAR_SERVER: SocketAddrV4 = SocketAddrV4::new(std::net::Ipv4Addr::new(192, 0, 2, 1), 443);
/// What an idle connection says at a time.
const WORD: u64 = 10;

#[cfg(test)]
mod tests {
    use std::{env, fs, process};

    use super::*;

    #[test]
    fn a_seed_is_a_capture() {
        let folder = env::temp_dir().join(format!("xtask-workload-{}", process::id()));
        fs::create_dir(&folder).unwrap();
        for workload in Workload::ALL {
            let [first, again, other] = [1, 1, 2].map(|seed| {
                let path = folder.join("capture");
                let made = workload.make(&path, 0.001, seed).unwrap();
                (fs::read(path).unwrap(), made.manifest.digest, made.manifest.count, made.manifest.octets)
            });
            assert!(first == again && first.1 != other.1, "{workload:?}");
            // Nothing is as long as what was sent but a capture of it.
            assert!(first.0.len() as u64 > first.3 && first.3 > 0, "{workload:?}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn ports_are_used_again_and_never_by_two_at_a_time() {
        let mut random = Random::new(1);
        let ports = ports(24_000);
        let mut active = Vec::new();
        for number in 0..2 * ports {
            let client = free_port(number, ports, &active);
            assert!(active.iter().all(|it: &Conversation| it.ends()[0] != client));
            active.push(Conversation::new([client, SERVER], isns(number, &mut random)));
            active.drain(..active.len().saturating_sub(50));
        }
    }
}
