//! Capture files, written and read in the plainest way.

use crate::frame::Frame;

pub(crate) const ETHERNET: u16 = 1;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Order {
    Little,
    Big,
}

impl Order {
    pub(crate) fn u16(self, number: u16) -> [u8; 2] {
        if self == Self::Little { number.to_le_bytes() } else { number.to_be_bytes() }
    }

    pub(crate) fn u32(self, number: u32) -> [u8; 4] {
        if self == Self::Little { number.to_le_bytes() } else { number.to_be_bytes() }
    }
}

/// What a pcap file says about all of its frames.
#[derive(Clone, Copy)]
pub(crate) struct Pcap {
    pub order: Order,
    /// Else microseconds.
    pub nanoseconds: bool,
    pub link_type: u16,
}

impl Pcap {
    pub(crate) const PLAIN: Self = Self { order: Order::Little, nanoseconds: true, link_type: ETHERNET };

    pub(crate) fn write(self, frames: &[Frame]) -> Vec<u8> {
        let Self { order, nanoseconds, link_type } = self;
        let magic = if nanoseconds { 0xa1b2_3c4d } else { 0xa1b2_c3d4 };
        let mut file = Vec::new();
        file.extend(order.u32(magic));
        file.extend([order.u16(2), order.u16(4)].concat());
        for field in [0, 0, SNAPLEN, link_type.into()] {
            file.extend(order.u32(field));
        }
        for frame in frames {
            let unit = if nanoseconds { 1 } else { 1_000 };
            let (seconds, fraction) = (frame.at / SECOND, frame.at % SECOND / unit);
            let len = frame.bytes.len() as u32;
            for field in [seconds as u32, fraction as u32, len, len] {
                file.extend(order.u32(field));
            }
            file.extend(&frame.bytes);
        }
        file
    }

    /// Place of a record in the file.
    pub(crate) fn offset(frames: &[Frame], record: usize) -> usize {
        24 + frames[..record].iter().map(|frame| 16 + frame.bytes.len()).sum::<usize>()
    }
}

/// A section of a pcapng file.
pub(crate) struct Section {
    order: Order,
    bytes: Vec<u8>,
}

impl Section {
    /// With an interface for each link type, all with `resolution` (an exponent of 10, negated).
    pub(crate) fn new(order: Order, resolution: u8, link_types: &[u16]) -> Self {
        let mut section = Self { order, bytes: Vec::new() };
        // Of unknown length, as tcpdump and dumpcap leave it.
        let magic = [order.u32(0x1a2b_3c4d).as_slice(), &order.u16(1), &order.u16(0), &[0xff; 8]].concat();
        section.block(0x0a0d_0d0a, &magic);
        for link_type in link_types {
            let mut interface = [order.u16(*link_type), order.u16(0)].concat();
            interface.extend(order.u32(SNAPLEN));
            section.option(&mut interface, 2, b"eth0");
            section.option(&mut interface, 9, &[resolution]);
            section.option(&mut interface, 0, b"");
            section.block(1, &interface);
        }
        section
    }

    /// An enhanced packet block, with a comment behind the frame. `ticks` count what the resolution says.
    pub(crate) fn frame(&mut self, interface: u32, ticks: u64, bytes: &[u8]) {
        let len = bytes.len() as u32;
        let mut packet = Vec::new();
        for field in [interface, (ticks >> 32) as u32, ticks as u32, len, len] {
            packet.extend(self.order.u32(field));
        }
        packet.extend(padded(bytes));
        self.option(&mut packet, 1, b"seen");
        self.option(&mut packet, 0, b"");
        self.block(6, &packet);
    }

    /// A block of any type.
    pub(crate) fn block(&mut self, kind: u32, body: &[u8]) {
        let body = padded(body);
        let len = self.order.u32(body.len() as u32 + 12);
        self.bytes.extend([&self.order.u32(kind), &len, body.as_slice(), &len].concat());
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn option(&self, body: &mut Vec<u8>, code: u16, value: &[u8]) {
        body.extend(self.order.u16(code));
        body.extend(self.order.u16(value.len() as u16));
        body.extend(padded(value));
    }
}

/// Reads what tcpdump writes: little-endian, microseconds, Ethernet, whole frames.
pub(crate) fn read(file: &[u8]) -> Vec<Frame> {
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    assert_eq!((word(0), word(20)), (0xa1b2_c3d4, ETHERNET.into()), "another kind of file than tcpdump's");
    let (mut frames, mut at) = (Vec::new(), 24);
    while at < file.len() {
        let (caplen, len) = (word(at + 8) as usize, word(at + 12) as usize);
        assert_eq!(caplen, len, "a frame was cut");
        let time = u64::from(word(at)) * SECOND + u64::from(word(at + 4)) * 1_000;
        frames.push(Frame { at: time, bytes: file[at + 16..at + 16 + len].to_vec() });
        at += 16 + len;
    }
    frames
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().next_multiple_of(4), 0);
    padded
}

const SNAPLEN: u32 = 262_144;
pub(crate) const SECOND: u64 = 1_000_000_000;
