//! Frames that no socket would send, and the two kinds of file they go through. All `unsafe` of the tests is here.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::mem::size_of;
use std::net::SocketAddrV4;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::namespace::Namespace;

/// One TCP segment in an Ethernet frame. It is addressed to nobody's MAC address, so programs see it and stacks do not
/// answer it.
#[derive(Clone)]
pub(crate) struct Frame<'a> {
    pub source: SocketAddrV4,
    pub destination: SocketAddrV4,
    pub sequence: u32,
    pub acknowledgment: u32,
    pub flags: u8,
    pub window: u16,
    pub payload: &'a [u8],
}

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const PSH: u8 = 8;
pub(crate) const ACK: u8 = 16;

/// Octets of a [`Frame`] before its payload.
pub(crate) const HEADERS: usize = 14 + 20 + 20;

impl Frame<'_> {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut segment = Vec::new();
        segment.extend(self.source.port().to_be_bytes());
        segment.extend(self.destination.port().to_be_bytes());
        segment.extend(self.sequence.to_be_bytes());
        segment.extend(self.acknowledgment.to_be_bytes());
        segment.extend([5 << 4, self.flags]);
        segment.extend(self.window.to_be_bytes());
        segment.extend([0; 4]);
        segment.extend(self.payload);
        let addresses = [self.source.ip().octets(), self.destination.ip().octets()].concat();
        let len = u16::try_from(segment.len()).unwrap();
        let pseudo = [&addresses, [0, 6].as_slice(), &len.to_be_bytes(), &segment].concat();
        put(&mut segment, 16, checksum(&pseudo));

        let mut ip = vec![0x45, 0];
        ip.extend((len + 20).to_be_bytes());
        ip.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        ip.extend(addresses);
        let sum = checksum(&ip);
        put(&mut ip, 10, sum);
        [&DESTINATION, &SOURCE, [8, 0].as_slice(), &ip, &segment].concat()
    }
}

/// The frame with an 802.1Q tag.
pub(crate) fn tagged(frame: &[u8], vlan: u16) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(12);
    [addresses, &[0x81, 0], &vlan.to_be_bytes(), rest].concat()
}

/// The frame's IP packet in two fragments, of which the first ends `at` octets behind the IP header: a multiple of 8.
pub(crate) fn fragmented(frame: &[u8], at: usize) -> [Vec<u8>; 2] {
    let (headers, datagram) = frame.split_at(34);
    let (first, rest) = datagram.split_at(at);
    [(first, 1 << 13), (rest, at as u16 / 8)].map(|(part, flags_and_offset)| {
        let mut frame = [headers, part].concat();
        put(&mut frame, 16, 20 + part.len() as u16);
        put(&mut frame, 20, flags_and_offset);
        put(&mut frame, 24, 0);
        let sum = checksum(&frame[14..34]);
        put(&mut frame, 24, sum);
        frame
    })
}

/// Sends frames out of an interface.
pub(crate) struct PacketSocket(File);

impl PacketSocket {
    pub(crate) fn open(namespace: &Namespace, interface: &str) -> Self {
        namespace.run(|| Self::bind(interface)).unwrap_or_else(|error| panic!("packet socket on {interface}: {error}"))
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        assert_eq!((&self.0).write(frame).unwrap(), frame.len());
    }

    fn bind(interface: &str) -> io::Result<Self> {
        // Protocol 0: nothing is received.
        // SAFETY: takes three numbers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just opened and nobody else has it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: 0,
            sll_ifindex: if_nametoindex(interface)? as i32,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: `address` is a sockaddr_ll of `len` octets for the duration of the call.
        if unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self(socket.into()))
    }
}

/// Two interfaces made by the tun driver, one in each namespace, and a thread that carries every packet from one to the
/// other.
pub(crate) struct Cable {
    stop: Arc<AtomicBool>,
    carrier: Option<JoinHandle<()>>,
}

/// How packets of a [`Cable`] begin.
#[derive(Clone, Copy)]
pub(crate) enum Layer {
    /// tap: with an Ethernet header.
    Frames,
    /// tun: with an IP header.
    Packets,
}

impl Cable {
    /// Interface `name` in both namespaces, with these addresses. `witness` sees every packet once.
    pub(crate) fn lay(
        layer: Layer,
        name: &str,
        ends: [(&Namespace, &str); 2],
        mut witness: impl FnMut(&[u8]) + Send + 'static,
    ) -> Self {
        let [one, other] = ends.map(|(namespace, address)| {
            let file = namespace.run(|| open_tun(name, layer)).unwrap();
            namespace.ip(&format!("addr add {address} dev {name}"));
            namespace.ip(&format!("link set {name} up"));
            file
        });
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let carry = move || {
            let mut buffer = vec![0; 1 << 16];
            while !stopped.load(Ordering::Relaxed) {
                let mut ready = [&one, &other].map(|file| PollFd::new(file.as_fd(), PollFlags::POLLIN));
                poll(&mut ready, PollTimeout::from(20u8)).unwrap();
                for (from, to) in [(&one, &other), (&other, &one)] {
                    while let Ok(len) = { from }.read(&mut buffer) {
                        let packet = buffer.get(..len).unwrap_or_default();
                        witness(packet);
                        // A full queue drops, as wires do.
                        let _ = { to }.write(packet);
                    }
                }
            }
        };
        Self { stop, carrier: Some(std::thread::spawn(carry)) }
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(carrier) = self.carrier.take() {
            let _ = carrier.join();
        }
    }
}

/// Locally administered, so nobody's.
const DESTINATION: [u8; 6] = [2, 0, 0, 0, 0, 0x99];
const SOURCE: [u8; 6] = [2, 0, 0, 0, 0, 0x11];

fn open_tun(name: &str, layer: Layer) -> io::Result<File> {
    let file = File::options().read(true).write(true).open("/dev/net/tun")?;
    let layer = match layer {
        Layer::Frames => libc::IFF_TAP,
        Layer::Packets => libc::IFF_TUN,
    };
    // SAFETY: ifreq is plain data, for which zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.as_bytes()) {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (layer | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one ifreq.
    if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: F_SETFL takes a number.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| low.into()));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
