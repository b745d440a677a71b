//! A client that asks at a given rate, whatever the answers take, with a connection for each request.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::bodies::{Bodies, END, length};

#[derive(clap::Args)]
pub(crate) struct Args {
    server: SocketAddr,
    #[arg(long)]
    seconds: u64,
    /// Requests per second; as many as are answered if there is none
    #[arg(long)]
    rate: Option<f64>,
}

/// What came of it, a line of JSON.
#[derive(Clone, Copy, Deserialize, Serialize)]
pub(crate) struct Answered {
    /// Requests whose response came with as many octets as it announced.
    pub(crate) complete: u64,
    pub(crate) failed: u64,
    /// Of those that were due, asked so late that the load was another one than was meant.
    pub(crate) late: u64,
    pub(crate) seconds: f64,
}

/// In a process of its own, since it belongs into another network namespace.
pub(crate) fn run(args: &Args) -> Result<()> {
    let [next, complete, failed, late] = [const { AtomicU64::new(0) }; 4];
    let start = Instant::now();
    let limit = Duration::from_secs(args.seconds);
    let worker = || {
        let mut buffer = vec![0; 256 << 10];
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let due = args.rate.map_or_else(|| start.elapsed(), |rate| Duration::from_secs_f64(number as f64 / rate));
            if due >= limit {
                return;
            }
            let now = start.elapsed();
            thread::sleep(due.saturating_sub(now));
            late.fetch_add(u64::from(now > due + LATE), Ordering::Relaxed);
            let counter = match ask(args.server, number % u64::from(Bodies::COUNT), &mut buffer) {
                Ok(true) => &complete,
                Ok(false) | Err(_) => &failed,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    };
    thread::scope(|scope| (0..AT_ONCE).for_each(|_| drop(scope.spawn(worker))));
    let [complete, failed, late] = [complete, failed, late].map(AtomicU64::into_inner);
    let answered = Answered { complete, failed, late, seconds: start.elapsed().as_secs_f64() };
    println!("{}", serde_json::to_string(&answered)?);
    Ok(())
}

/// Whether the response is as long as it says.
fn ask(server: SocketAddr, number: u64, buffer: &mut [u8]) -> io::Result<bool> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(format!("GET /{number} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut filled = 0;
    let expected = loop {
        match stream.read(&mut buffer[filled..])? {
            0 => return Ok(false),
            read => filled += read,
        }
        if let Some(end) = buffer[..filled].windows(END.len()).position(|window| window == END) {
            break length(&buffer[..end]).map(|len| end + END.len() + len);
        }
    };
    loop {
        match stream.read(buffer)? {
            0 => return Ok(expected == Some(filled)),
            read => filled += read,
        }
    }
}

const AT_ONCE: usize = 50;

const LATE: Duration = Duration::from_millis(100);

const TIMEOUT: Duration = Duration::from_secs(10);
