//! Records `agent/tests/golden/troubles.pcap`: connections that are refused, aborted, left alone or starved, between two
//! network namespaces, and next to it what their endpoints sent. As root, with ip and tcpdump:
//! `cargo run -p agent --example record_troubles`. It takes half a minute.
//!
//! Every octet is known from its place: a stream is numbered lines, each of which names the connection and the side. So
//! the manifest has only lengths.
#![expect(clippy::unwrap_used, reason = "a recording that cannot be made ends there")]

#[path = "../tests/namespace/namespace.rs"]
#[expect(dead_code, reason = "the tests need more of it")]
mod namespace;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
    process::{Child, Command, Stdio},
    thread::{sleep, spawn},
    time::Duration,
};

use namespace::Namespace;
use nix::{
    sys::{
        signal::{Signal, kill},
        socket::{
            AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, bind, connect, send, setsockopt, socket, sockopt,
        },
    },
    unistd::Pid,
};

fn main() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let network = Network::new();
    let tap = network.record(&folder.join("troubles.pcap"));
    let mut manifest = String::new();
    let mut left_open = Vec::new();
    for (port, (what, ended, act)) in (9_001..).zip(TROUBLES) {
        let mut call = Call::new(&network, what, port);
        act(&mut call);
        for talk in call.talks {
            manifest += &format!(
                "{{\"what\":\"{what}\",\"client\":\"{}\",\"server\":\"{}\",\"sent\":{},\"answered\":{},\"ended\":\"{ended}\"}}\n",
                talk.client, talk.server, talk.sent, talk.answered
            );
            left_open.extend(talk.sockets);
        }
    }
    stop(tap);
    fs::write(folder.join("troubles.jsonl"), manifest).unwrap();
}

type Act = fn(&mut Call<'_>);

/// What happens, how such a connection ends, and how it comes about.
const TROUBLES: [(&str, &str, Act); 13] = [
    ("refused", "rst", |call| {
        let address = call.server();
        assert!(call.network.client.run(|| TcpStream::connect(address)).is_err());
        call.unheard(address);
    }),
    ("never answered", "finish", |call| {
        call.network.mislead(&call.network.client, Network::SERVER, true);
        let address = call.server();
        // Long enough for the SYN to be sent again after one second.
        let timeout = Duration::from_millis(1_500);
        assert!(call.network.client.run(|| TcpStream::connect_timeout(&address, timeout)).is_err());
        call.network.mislead(&call.network.client, Network::SERVER, false);
        call.unheard(address);
    }),
    ("aborted by the client", "rst", |call| {
        let mut talk = call.open();
        talk.ask(1_000);
        talk.answer(3_000);
        talk.abort();
        call.talks.push(talk);
    }),
    ("closed with octets unread", "rst", |call| {
        let mut talk = call.open();
        talk.answer(500);
        let octets = text(talk.what, "c2s", 300);
        talk.client().write_all(&octets).unwrap();
        talk.sent = 300;
        sleep(SETTLE);
        talk.sockets.pop();
        sleep(SETTLE);
        talk.sockets.clear();
        call.talks.push(talk);
    }),
    ("kept alive", "fin", |call| {
        let mut talk = call.open();
        talk.ask(700);
        setsockopt(talk.client(), sockopt::KeepAlive, &true).unwrap();
        setsockopt(talk.client(), sockopt::TcpKeepIdle, &1).unwrap();
        setsockopt(talk.client(), sockopt::TcpKeepInterval, &1).unwrap();
        sleep(Duration::from_millis(3_500));
        talk.answer(900);
        sleep(Duration::from_millis(2_500));
        talk.ask(100);
        talk.close();
        call.talks.push(talk);
    }),
    ("starved by a window of zero", "fin", |call| {
        let mut talk = call.open();
        const LEN: usize = 24_000;
        let octets = text(talk.what, "c2s", LEN);
        let mut client = talk.client().try_clone().unwrap();
        let writer = spawn(move || client.write_all(&octets).unwrap());
        // Window probes come after 200, 600 and 1,400 ms.
        sleep(Duration::from_millis(1_800));
        talk.hear(LEN);
        writer.join().unwrap();
        talk.answer(10);
        talk.close();
        call.talks.push(talk);
    }),
    ("lost on the way to the server", "fin", |call| {
        let mut talk = call.open();
        talk.ask(2_000);
        let network = call.network;
        network.mislead(&network.client, Network::SERVER, true);
        let octets = text(talk.what, "c2s", 7_000);
        talk.client().write_all(&octets[2_000..]).unwrap();
        sleep(Duration::from_millis(100));
        network.mislead(&network.client, Network::SERVER, false);
        talk.hear(5_000);
        talk.answer(3_000);
        talk.close();
        call.talks.push(talk);
    }),
    ("lost on the way to the client", "fin", |call| {
        let mut talk = call.open();
        talk.ask(100);
        let network = call.network;
        network.mislead(&network.server, Network::CLIENT, true);
        let octets = text(talk.what, "s2c", 9_000);
        talk.server_side().write_all(&octets).unwrap();
        sleep(Duration::from_millis(700));
        network.mislead(&network.server, Network::CLIENT, false);
        talk.client().read_exact(&mut [0; 9_000]).unwrap();
        talk.answered = 9_000;
        talk.close();
        call.talks.push(talk);
    }),
    ("urgent in the middle", "fin", |call| {
        let mut talk = call.open();
        talk.ask(50);
        setsockopt(talk.server_side(), sockopt::OobInline, &true).unwrap();
        let text = text(talk.what, "c2s", 120);
        send(talk.client().as_raw_fd(), &text[50..80], MsgFlags::MSG_OOB).unwrap();
        talk.client().write_all(&text[80..]).unwrap();
        talk.hear(70);
        talk.close();
        call.talks.push(talk);
    }),
    ("opened with data in the SYN", "fin", |call| {
        // The first gets the cookie (RFC 7413), the second uses it.
        for len in [200, 1_200] {
            let listener = call.listen();
            let socket = call.socket();
            setsockopt(&socket, sockopt::TcpFastOpenConnect, &true).unwrap();
            connect(socket.as_raw_fd(), &address(call.server())).unwrap();
            let mut client = TcpStream::from(socket);
            client.write_all(&text(call.what, "c2s", len)).unwrap();
            let mut talk = Talk::new(call.what, client, listener.accept().unwrap().0);
            talk.hear(len);
            talk.answer(400);
            talk.close();
            call.talks.push(talk);
        }
    }),
    ("the same endpoints three times", "rst", |call| {
        let from: SocketAddr = (Network::CLIENT.parse::<std::net::Ipv4Addr>().unwrap(), 40_000).into();
        for len in [111, 222, 333] {
            let listener = call.listen();
            let socket = call.socket();
            bind(socket.as_raw_fd(), &address(from)).unwrap();
            connect(socket.as_raw_fd(), &address(call.server())).unwrap();
            let mut talk = Talk::new(call.what, TcpStream::from(socket), listener.accept().unwrap().0);
            talk.ask(len);
            talk.answer(2 * len);
            talk.abort();
            call.talks.push(talk);
        }
    }),
    ("half closed and left", "finish", |call| {
        let mut talk = call.open();
        talk.ask(60);
        talk.client().shutdown(Shutdown::Write).unwrap();
        sleep(SETTLE);
        talk.answer(4_000);
        call.talks.push(talk);
    }),
    ("left open", "finish", |call| {
        let mut talk = call.open();
        talk.ask(10);
        talk.answer(20);
        call.talks.push(talk);
    }),
];

/// Numbered lines.
fn text(what: &str, side: &str, len: usize) -> Vec<u8> {
    let lines = (0..).flat_map(|number| format!("{what} {side} {number:05}\n").into_bytes());
    lines.take(len).collect()
}

/// A kind of trouble, and the connections that were in it.
struct Call<'a> {
    network: &'a Network,
    what: &'static str,
    port: u16,
    talks: Vec<Talk>,
}

impl<'a> Call<'a> {
    fn new(network: &'a Network, what: &'static str, port: u16) -> Self {
        Self { network, what, port, talks: Vec::new() }
    }

    fn server(&self) -> SocketAddr {
        (Network::SERVER.parse::<std::net::Ipv4Addr>().unwrap(), self.port).into()
    }

    fn listen(&self) -> TcpListener {
        let listener = self.network.server.run(|| TcpListener::bind(self.server())).unwrap();
        // Inherited by the connections. The window is a few segments.
        setsockopt(&listener, sockopt::RcvBuf, &8_192).unwrap();
        listener
    }

    fn socket(&self) -> OwnedFd {
        let make = || socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None);
        let socket = self.network.client.run(make).unwrap();
        setsockopt(&socket, sockopt::ReuseAddr, &true).unwrap();
        socket
    }

    fn open(&self) -> Talk {
        let listener = self.listen();
        let client = self.network.client.run(|| TcpStream::connect(self.server())).unwrap();
        Talk::new(self.what, client, listener.accept().unwrap().0)
    }

    /// A connection that never came to be: nobody was told its port, and 0 stands for any.
    fn unheard(&mut self, server: SocketAddr) {
        let client = (Network::CLIENT.parse::<std::net::Ipv4Addr>().unwrap(), 0).into();
        let talk = Talk { what: self.what, client, server, sent: 0, answered: 0, sockets: vec![] };
        self.talks.push(talk);
    }
}

/// A connection and how much was said on it.
struct Talk {
    what: &'static str,
    client: SocketAddr,
    server: SocketAddr,
    sent: usize,
    answered: usize,
    /// The client's, then the server's.
    sockets: Vec<TcpStream>,
}

impl Talk {
    fn new(what: &'static str, client: TcpStream, server: TcpStream) -> Self {
        for socket in [&client, &server] {
            socket.set_nodelay(true).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        }
        let (from, to) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
        Self { what, client: from, server: to, sent: 0, answered: 0, sockets: vec![client, server] }
    }

    fn client(&mut self) -> &mut TcpStream {
        &mut self.sockets[0]
    }

    fn server_side(&mut self) -> &mut TcpStream {
        &mut self.sockets[1]
    }

    fn ask(&mut self, len: usize) {
        let octets = text(self.what, "c2s", self.sent + len).split_off(self.sent);
        self.client().write_all(&octets).unwrap();
        self.hear(len);
    }

    /// The server receives what the client sent.
    fn hear(&mut self, len: usize) {
        self.server_side().read_exact(&mut vec![0; len]).unwrap();
        self.sent += len;
    }

    fn answer(&mut self, len: usize) {
        let octets = text(self.what, "s2c", self.answered + len).split_off(self.answered);
        self.server_side().write_all(&octets).unwrap();
        self.client().read_exact(&mut vec![0; len]).unwrap();
        self.answered += len;
    }

    fn close(&mut self) {
        for mut socket in self.sockets.drain(..) {
            socket.shutdown(Shutdown::Write).unwrap();
            let _ = socket.flush();
            sleep(SETTLE);
        }
    }

    /// The client closes with an RST (SO_LINGER of zero).
    fn abort(&mut self) {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(self.client(), sockopt::Linger, &linger).unwrap();
        self.sockets.remove(0);
        sleep(SETTLE);
        self.sockets.clear();
    }
}

/// Two namespaces with a cable between them.
struct Network {
    client: Namespace,
    server: Namespace,
}

impl Network {
    const CLIENT: &str = "10.9.0.1";
    const SERVER: &str = "10.9.0.2";

    fn new() -> Self {
        let network = Self { client: Namespace::new(), server: Namespace::new() };
        network.client.ip(&format!("link add eth0 type veth peer name eth0 netns {}", network.server.path()));
        for (side, here, there) in
            [(&network.client, Self::CLIENT, Self::SERVER), (&network.server, Self::SERVER, Self::CLIENT)]
        {
            side.ip(&format!("link set eth0 address {} up", mac(here)));
            side.ip(&format!("addr add {here}/24 dev eth0"));
            side.ip(&format!("neigh replace {there} lladdr {} dev eth0 nud permanent", mac(there)));
            // Client and server, and every listener (0x1, 0x2 and 0x400 in ip-sysctl).
            side.sysctl("net/ipv4/tcp_fastopen", "1027");
        }
        sleep(Duration::from_secs(1));
        network
    }

    /// Until told otherwise, frames that `side` sends to `address` are of no use to their receiver, which still sees them.
    fn mislead(&self, side: &Namespace, address: &str, mislead: bool) {
        let mac = if mislead { mac("0.0.0.99") } else { mac(address) };
        side.ip(&format!("neigh replace {address} lladdr {mac} dev eth0 nud permanent"));
    }

    /// Starts a tap on the server's end.
    fn record(&self, file: &Path) -> Child {
        let mut tcpdump = Command::new("tcpdump");
        tcpdump.args(["-i", "eth0", "-Z", "root", "--immediate-mode", "-w"]).arg(file).arg("tcp");
        let mut tcpdump = self.server.run(|| tcpdump.stderr(Stdio::piped()).spawn()).unwrap();
        let mut lines = BufReader::new(tcpdump.stderr.as_mut().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("listening on")), "tcpdump did not start");
        tcpdump
    }
}

fn stop(mut tcpdump: Child) {
    sleep(Duration::from_secs(1));
    kill(Pid::from_raw(tcpdump.id().cast_signed()), Signal::SIGINT).unwrap();
    let mut said = String::new();
    tcpdump.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(tcpdump.wait().unwrap().success() && said.contains("0 packets dropped by kernel"), "{said}");
}

/// An address of a network card, made of the last octet of an IP address.
fn mac(address: &str) -> String {
    format!("02:00:00:00:00:{}", address.rsplit('.').next().unwrap())
}

fn address(address: SocketAddr) -> SockaddrIn {
    let SocketAddr::V4(address) = address else { unreachable!("all addresses here are of IPv4") };
    address.into()
}

/// For what is on its way.
const SETTLE: Duration = Duration::from_millis(50);
