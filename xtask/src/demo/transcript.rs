//! What an endpoint of the demo's traffic knows of a connection, kept while the octets pass through its socket.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// One connection as one of its ends saw it. A line of JSON between processes, and in the recorded capture's manifest.
#[derive(Deserialize, Serialize)]
pub(crate) struct Transcript {
    /// What the connection was for. Only the client knows.
    pub(crate) kind: String,
    pub(crate) client: SocketAddr,
    pub(crate) server: SocketAddr,
    pub(crate) sent: Octets,
    pub(crate) received: Octets,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Octets {
    pub(crate) len: u64,
    /// In hexadecimal, as sha256sum prints it.
    pub(crate) sha256: String,
}

impl Octets {
    /// Of everything that `source` yields.
    pub(crate) fn read(mut source: impl Read) -> io::Result<Self> {
        let mut tally = Tally::default();
        let mut block = vec![0; 256 * 1024];
        loop {
            match source.read(&mut block)? {
                0 => return Ok(tally.octets()),
                len => tally.add(&block[..len]),
            }
        }
    }
}

/// A socket that keeps account of what goes through it.
pub(crate) struct Recorded {
    stream: TcpStream,
    client: SocketAddr,
    server: SocketAddr,
    sent: Tally,
    received: Tally,
}

impl Recorded {
    /// The client's end. Addresses are asked for now: a closed socket does not know its peer.
    pub(crate) fn client(stream: TcpStream) -> io::Result<Self> {
        let (client, server) = (stream.local_addr()?, stream.peer_addr()?);
        Ok(Self { stream, client, server, sent: Tally::default(), received: Tally::default() })
    }

    /// The server's end.
    pub(crate) fn server(stream: TcpStream) -> io::Result<Self> {
        let (client, server) = (stream.peer_addr()?, stream.local_addr()?);
        Ok(Self { stream, client, server, sent: Tally::default(), received: Tally::default() })
    }

    /// Says that no more will be sent, and still receives.
    pub(crate) fn end_sending(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// Closes the connection.
    pub(crate) fn finish(self, kind: &str) -> Transcript {
        let Self { stream: _, client, server, sent, received } = self;
        Transcript { kind: kind.to_owned(), client, server, sent: sent.octets(), received: received.octets() }
    }
}

impl Read for Recorded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.stream.read(buffer)?;
        self.received.add(&buffer[..len]);
        Ok(len)
    }
}

impl Write for Recorded {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let len = self.stream.write(buffer)?;
        self.sent.add(&buffer[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[derive(Default)]
struct Tally {
    len: u64,
    hash: Sha256,
}

impl Tally {
    fn add(&mut self, bytes: &[u8]) {
        self.len += bytes.len() as u64;
        self.hash.update(bytes);
    }

    fn octets(self) -> Octets {
        Octets { len: self.len, sha256: format!("{:x}", self.hash.finalize()) }
    }
}
