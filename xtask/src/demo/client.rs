//! The demo's web client: groups of connections, one group after the other, each connection a line on standard output.

use std::{
    io::{self, BufReader, Read},
    net::{IpAddr, SocketAddr, TcpStream},
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use anyhow::{Context, Result, anyhow, bail};

use super::{
    http::{self, Head},
    transcript::{Recorded, Transcript},
};
use crate::random::Random;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    port: u16,
    #[arg(long)]
    v4: IpAddr,
    #[arg(long)]
    v6: IpAddr,
    /// Traffic that a repository has room for
    #[arg(long)]
    small: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    for group in GROUPS {
        let group = if args.small { group.small() } else { group };
        group.run(args)?;
    }
    Ok(())
}

/// Connections of one kind.
#[derive(Clone, Copy)]
struct Group {
    kind: &'static str,
    connections: u64,
    at_once: u64,
    over: Over,
    does: Does,
    /// Octets of one body, from the smallest to the largest.
    octets: (u64, u64),
}

#[derive(Clone, Copy)]
enum Over {
    V4,
    V6,
    Both,
}

#[derive(Clone, Copy)]
enum Does {
    Download,
    Upload,
    /// Downloads and uploads in turn on one connection, so many of them.
    Exchanges(u64),
    /// Asks, says that it will not ask again, and then reads.
    HalfClose,
    /// Connects and leaves.
    Nothing,
}

const GROUPS: [Group; 10] = {
    use {Does::*, Over::*};
    const fn group(
        kind: &'static str,
        connections: u64,
        at_once: u64,
        over: Over,
        does: Does,
        octets: (u64, u64),
    ) -> Group {
        Group { kind, connections, at_once, over, does, octets }
    }
    [
        group("pages, one after the other", 80, 1, V4, Download, (0, 65_536)),
        group("pages over IPv6", 40, 1, V6, Download, (0, 65_536)),
        group("uploads", 40, 2, Both, Upload, (0, 2_000_000)),
        group("keep-alive, eight requests", 24, 4, Both, Exchanges(8), (0, 200_000)),
        group("downloads, sixteen at once", 48, 16, Both, Download, (1_000, 1_000_000)),
        group("megabytes both ways", 6, 3, Both, Exchanges(2), (2_000_000, 8_000_000)),
        group("half closed by the client", 8, 2, Both, HalfClose, (0, 100_000)),
        group("opened and closed", 4, 1, Both, Nothing, (0, 0)),
        group("a large upload over IPv6", 1, 1, V6, Upload, (32_000_000, 32_000_000)),
        group("a large download", 1, 1, V4, Download, (128_000_000, 128_000_000)),
    ]
};

impl Group {
    /// The same in little.
    fn small(self) -> Self {
        let (smallest, largest) = self.octets;
        Self { connections: self.connections.div_ceil(6), octets: (smallest.min(30_000), largest.min(75_000)), ..self }
    }

    fn run(self, args: &Args) -> Result<()> {
        let next = AtomicU64::new(0);
        thread::scope(|scope| {
            let worker = || -> Result<()> {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= self.connections {
                        return Ok(());
                    }
                    let transcript =
                        self.connect(args, index).with_context(|| format!("{}, connection {index}", self.kind))?;
                    println!("{}", serde_json::to_string(&transcript)?);
                }
            };
            let workers: Vec<_> = (0..self.at_once).map(|_| scope.spawn(worker)).collect();
            workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| anyhow!("{}: panicked", self.kind))?)
        })
    }

    fn connect(self, args: &Args, index: u64) -> Result<Transcript> {
        let address = match self.over {
            Over::V4 => args.v4,
            Over::V6 => args.v6,
            Over::Both => [args.v4, args.v6][(index % 2) as usize],
        };
        let stream = TcpStream::connect(SocketAddr::new(address, args.port)).context("connect")?;
        let mut reader = BufReader::with_capacity(256 * 1024, Recorded::client(stream)?);
        let mut random = Random::new(index);
        match self.does {
            Does::Download => exchange(&mut reader, Method::Get, self.size(index, &mut random), true)?,
            Does::Upload => exchange(&mut reader, Method::Post, self.size(index, &mut random), true)?,
            Does::Exchanges(count) => {
                for turn in 0..count {
                    let method = if turn % 2 == 0 { Method::Get } else { Method::Post };
                    let size = self.size(turn + index % 2, &mut random);
                    // Every third server is asked to end the connection itself.
                    exchange(&mut reader, method, size, index.is_multiple_of(3) && turn + 1 == count)?;
                }
            }
            Does::HalfClose => {
                let size = self.size(index, &mut random);
                request(&mut reader, Method::Get, size, false)?;
                reader.get_ref().end_sending().context("end sending")?;
                response(&mut reader, size)?;
                until_end(&mut reader)?;
            }
            Does::Nothing => {}
        }
        Ok(reader.into_inner().finish(self.kind))
    }

    /// Mixed: the first of a group is its smallest, the last its largest, and of the others most are small.
    fn size(self, index: u64, random: &mut Random) -> u64 {
        let (smallest, largest) = self.octets;
        let span = largest - smallest + 1;
        match index {
            0 => smallest,
            index if index + 1 == self.connections => largest,
            _ => smallest + ((random.next() % span) >> (random.next() % 8)),
        }
    }
}

#[derive(Clone, Copy)]
enum Method {
    Get,
    Post,
}

fn exchange(reader: &mut BufReader<Recorded>, method: Method, size: u64, close: bool) -> Result<()> {
    request(reader, method, size, close)?;
    match method {
        Method::Get => response(reader, size)?,
        Method::Post => response(reader, 0)?,
    }
    if close { until_end(reader) } else { Ok(()) }
}

fn request(reader: &mut BufReader<Recorded>, method: Method, size: u64, close: bool) -> Result<()> {
    let connection = if close { "close" } else { "keep-alive" };
    let common = format!("Host: demo\r\nUser-Agent: demo\r\nConnection: {connection}\r\n");
    match method {
        Method::Get => {
            let head = format!("GET /octets/{size} HTTP/1.1\r\n{common}\r\n");
            http::send(reader.get_mut(), &head, &mut io::empty())
        }
        Method::Post => {
            let head = format!("POST /octets HTTP/1.1\r\n{common}Content-Length: {size}\r\n\r\n");
            http::send(reader.get_mut(), &head, &mut http::body(!size, size))
        }
    }
    .context("send a request")
}

fn response(reader: &mut BufReader<Recorded>, size: u64) -> Result<()> {
    let head = Head::read(reader).context("read a response")?.context("the server ended the connection")?;
    let read = io::copy(&mut reader.by_ref().take(head.length), &mut io::sink()).context("read a body")?;
    if (head.length, read) != (size, size) {
        bail!("asked for {size} octets, {} were announced and {read} came", head.length);
    }
    Ok(())
}

/// The server closes first, so that the demo has connections that either side ended.
fn until_end(reader: &mut BufReader<Recorded>) -> Result<()> {
    match io::copy(reader, &mut io::sink()).context("read to the end")? {
        0 => Ok(()),
        more => bail!("{more} octets came after the last response"),
    }
}
