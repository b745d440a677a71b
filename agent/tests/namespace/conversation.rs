//! Real TCP connections that remember what each side sent.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::namespace::Namespace;

/// What was said on one connection.
#[derive(Clone)]
pub(crate) struct Conversation {
    pub client: SocketAddr,
    pub server: SocketAddr,
    /// Sent by the client.
    pub c2s: Vec<u8>,
    /// Sent by the server.
    pub s2c: Vec<u8>,
}

/// Answers every request of [`Client::exchange`] on every connection, until it is dropped.
pub(crate) struct Server {
    pub address: SocketAddr,
    log: Arc<Log>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Port 0 means any.
    pub(crate) fn start(namespace: &Namespace, address: SocketAddr) -> Self {
        let listener =
            namespace.run(|| TcpListener::bind(address)).unwrap_or_else(|error| panic!("{address}: {error}"));
        let address = listener.local_addr().unwrap();
        let (log, stop) = (Arc::<Log>::default(), Arc::<AtomicBool>::default());
        let thread = thread::spawn({
            let (log, stop) = (Arc::clone(&log), Arc::clone(&stop));
            move || accept(&listener, &log, &stop)
        });
        Self { address, log, stop, thread: Some(thread) }
    }

    /// What was sent to `client` so far.
    pub(crate) fn sent_to(&self, client: SocketAddr) -> Vec<u8> {
        self.log.sent(client).lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One end of an open connection.
pub(crate) struct Client<'a> {
    stream: TcpStream,
    sent: Vec<u8>,
    server: &'a Server,
}

impl<'a> Client<'a> {
    pub(crate) fn connect(namespace: &Namespace, server: &'a Server) -> Self {
        let stream = namespace.run(|| TcpStream::connect_timeout(&server.address, PATIENCE));
        let stream = stream.unwrap_or_else(|error| panic!("connect to {}: {error}", server.address));
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // What is written is sent: small writes are segments of their own.
        stream.set_nodelay(true).unwrap();
        Self { stream, sent: Vec::new(), server }
    }

    /// Sends `up` octets (16 at least) and receives `down`, both at the same time.
    pub(crate) fn exchange(&mut self, up: usize, down: usize) {
        self.try_exchange(up, down).unwrap_or_else(|error| panic!("exchange with {}: {error}", self.server.address));
    }

    pub(crate) fn try_exchange(&mut self, up: usize, down: usize) -> io::Result<()> {
        let body = up.saturating_sub(HEADER);
        let start = self.sent.len();
        self.sent.extend_from_slice(&(body as u64).to_be_bytes());
        self.sent.extend_from_slice(&(down as u64).to_be_bytes());
        append_noise(&mut self.sent, body);
        let request = self.sent.get(start..).unwrap_or_default();
        thread::scope(|scope| {
            let sending = scope.spawn(|| (&self.stream).write_all(request));
            discard(&self.stream, down)?;
            sending.join().unwrap()
        })
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// Closes the connection from this side, waits until the other has followed.
    pub(crate) fn finish(self) -> Conversation {
        self.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!((&self.stream).read(&mut [0]).unwrap(), 0, "the server sent more than it was asked for");
        self.so_far()
    }

    /// What was said until now.
    pub(crate) fn so_far(&self) -> Conversation {
        let client = self.stream.local_addr().unwrap();
        let s2c = self.server.sent_to(client);
        Conversation { client, server: self.server.address, c2s: self.sent.clone(), s2c }
    }
}

/// One connection for each of `sizes` (up, down), a few at a time.
pub(crate) fn talk(namespace: &Namespace, server: &Server, sizes: &[(usize, usize)]) -> Vec<Conversation> {
    let (queue, said) = (Mutex::new(sizes.iter()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME.min(sizes.len()) {
            scope.spawn(|| {
                while let Some(&(up, down)) = { queue.lock().unwrap().next() } {
                    let mut client = Client::connect(namespace, server);
                    client.exchange(up, down);
                    said.lock().unwrap().push(client.finish());
                }
            });
        }
    });
    said.into_inner().unwrap()
}

/// Does `work` while one connection for each of `sizes` is made, again and again.
pub(crate) fn talk_during<T>(
    namespace: &Namespace,
    server: &Server,
    sizes: &[(usize, usize)],
    work: impl FnOnce() -> T,
) -> (T, Vec<Conversation>) {
    let done = AtomicBool::default();
    thread::scope(|scope| {
        let talking = scope.spawn(|| {
            let mut said = Vec::new();
            while !done.load(Ordering::Relaxed) {
                said.extend(talk(namespace, server, sizes));
            }
            said
        });
        let result = {
            let _done = Finish(&done);
            work()
        };
        (result, talking.join().unwrap())
    })
}

/// `count` small connections of sizes from one segment to some hundred kilobytes.
pub(crate) fn short(count: usize) -> Vec<(usize, usize)> {
    (0..count).map(|i| (16 + i * 97 % 5_000, i * i * 131 % 300_000)).collect()
}

/// Octets that compress badly, repeat never and are different for every call.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    append_noise(&mut bytes, len);
    bytes
}

/// Octets sent to each client, by its address.
#[derive(Default)]
struct Log(Mutex<HashMap<SocketAddr, Arc<Mutex<Vec<u8>>>>>);

impl Log {
    fn sent(&self, client: SocketAddr) -> Arc<Mutex<Vec<u8>>> {
        Arc::clone(self.0.lock().unwrap().entry(client).or_default())
    }
}

/// Done when dropped, so that a test that panics ends its traffic too.
struct Finish<'a>(&'a AtomicBool);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A request begins with the length of the rest of it and that of the answer wanted.
const HEADER: usize = 16;
const AT_A_TIME: usize = 8;
const PATIENCE: Duration = Duration::from_secs(30);

fn accept(listener: &TcpListener, log: &Log, stop: &AtomicBool) {
    listener.set_nonblocking(true).unwrap();
    thread::scope(|scope| {
        while !stop.load(Ordering::Relaxed) {
            let Ok((stream, client)) = listener.accept() else {
                let mut ready = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
                poll(&mut ready, PollTimeout::from(20u8)).unwrap();
                continue;
            };
            let sent = log.sent(client);
            // A client that went away in the middle is the test's business, not ours.
            scope.spawn(move || serve(&stream, &sent, stop));
        }
    });
}

fn serve(mut stream: &TcpStream, sent: &Mutex<Vec<u8>>, stop: &AtomicBool) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    let mut header = [0; HEADER];
    loop {
        // Between requests, and only there, a silent client is looked after: it may outlive us.
        match stream.peek(&mut header) {
            Ok(0) => return Ok(()),
            Ok(_) => stream.read_exact(&mut header)?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !stop.load(Ordering::Relaxed) => continue,
            Err(error) => return Err(error),
        }
        let (body, answer) = header.split_at(HEADER / 2);
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, &byte| number << 8 | usize::from(byte));
        let answer = noise(number(answer));
        sent.lock().unwrap().extend_from_slice(&answer);
        thread::scope(|scope| {
            let sending = scope.spawn(|| { stream }.write_all(&answer));
            stream.set_read_timeout(Some(PATIENCE))?;
            discard(stream, number(body))?;
            stream.set_read_timeout(Some(Duration::from_millis(100)))?;
            sending.join().unwrap()
        })?;
    }
}

fn discard(mut stream: &TcpStream, mut len: usize) -> io::Result<()> {
    let mut buffer = vec![0; len.min(1 << 18)];
    while len > 0 {
        let want = len.min(buffer.len());
        match stream.read(buffer.get_mut(..want).unwrap_or_default())? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => len -= read,
        }
    }
    Ok(())
}

/// xorshift64* (Vigna 2014), seeded from a counter.
fn append_noise(bytes: &mut Vec<u8>, len: usize) {
    static CALLS: AtomicU64 = AtomicU64::new(1);
    let mut state = CALLS.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let end = bytes.len() + len;
    while bytes.len() < end {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(end);
}
