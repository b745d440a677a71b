//! Frames as capture files.

/// One frame as far as it was captured, and how many octets it had behind that.
pub(crate) struct Frame {
    pub(crate) time: u64,
    pub(crate) octets: Vec<u8>,
    pub(crate) cut: usize,
}

impl Frame {
    /// What it had on the wire.
    fn len(&self) -> u32 {
        (self.octets.len() + self.cut) as u32
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Format {
    Pcap {
        big_endian: bool,
        nanoseconds: bool,
    },
    Pcapng,
    /// Every other frame is of a second interface, which has another link type in another section.
    PcapngSections,
}

impl Format {
    /// Of frames with `link`; the second link is for the second section.
    pub(crate) fn encode(self, links: [u16; 2], frames: &[Frame]) -> Vec<u8> {
        match self {
            Self::Pcap { big_endian, nanoseconds } => pcap(big_endian, nanoseconds, links[0], frames),
            Self::Pcapng => [section(), interface(links[0]), frames.iter().flat_map(enhanced).collect()].concat(),
            Self::PcapngSections => {
                let (first, second) = frames.split_at(frames.len() / 2);
                [(links[0], first), (links[1], second)]
                    .map(|(link, frames)| {
                        [section(), interface(link), frames.iter().flat_map(enhanced).collect()].concat()
                    })
                    .concat()
            }
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Packing {
    None,
    Gzip,
    Zstd,
}

impl Packing {
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
        }
    }

    /// What decompresses to `octets`. Nothing is made smaller by it.
    pub(crate) fn pack(self, octets: Vec<u8>) -> Vec<u8> {
        match self {
            Self::None => octets,
            Self::Gzip => gzip(&octets),
            Self::Zstd => zstd(&octets),
        }
    }
}

fn pcap(big_endian: bool, nanoseconds: bool, link: u16, frames: &[Frame]) -> Vec<u8> {
    let u32 = |value: u32| if big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
    let u16 = |value: u16| if big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
    let (magic, unit) = if nanoseconds { (0xa1b2_3c4d, 1) } else { (0xa1b2_c3d4, 1000) };
    let mut file = [&u32(magic)[..], &u16(2), &u16(4), &u32(0), &u32(0), &u32(SNAPLEN), &u32(link.into())].concat();
    for frame in frames {
        let (seconds, fraction) = (frame.time / 1_000_000_000, frame.time % 1_000_000_000 / unit);
        for field in [seconds as u32, fraction as u32, frame.octets.len() as u32, frame.len()] {
            file.extend(u32(field));
        }
        file.extend(&frame.octets);
    }
    file
}

/// draft-ietf-opsawg-pcapng 4.1, of unknown length.
fn section() -> Vec<u8> {
    block(0x0a0d_0d0a, &[&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat())
}

/// 4.2, with if_tsresol for nanoseconds.
fn interface(link: u16) -> Vec<u8> {
    block(
        1,
        &[&link.to_le_bytes()[..], &[0, 0], &SNAPLEN.to_le_bytes(), &[9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0]].concat(),
    )
}

/// 4.3, of interface 0.
fn enhanced(frame: &Frame) -> Vec<u8> {
    let fields = [0, (frame.time >> 32) as u32, frame.time as u32, frame.octets.len() as u32, frame.len()];
    let mut body: Vec<u8> = fields.into_iter().flat_map(u32::to_le_bytes).collect();
    body.extend(&frame.octets);
    body.resize(body.len().next_multiple_of(4), 0);
    block(6, &body)
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let len = (body.len() as u32 + 12).to_le_bytes();
    [&kind.to_le_bytes()[..], &len, body, &len].concat()
}

/// RFC 1952 around stored blocks (RFC 1951 3.2.4).
fn gzip(octets: &[u8]) -> Vec<u8> {
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut blocks = octets.chunks(0xffff).peekable();
    while let Some(block) = blocks.next() {
        let len = block.len() as u16;
        file.push(u8::from(blocks.peek().is_none()));
        file.extend(len.to_le_bytes());
        file.extend((!len).to_le_bytes());
        file.extend(block);
    }
    file.extend(crc32(octets).to_le_bytes());
    file.extend((octets.len() as u32).to_le_bytes());
    file
}

/// RFC 8878 3.1.1 around raw blocks.
fn zstd(octets: &[u8]) -> Vec<u8> {
    // A single segment, whose length has eight octets.
    let mut file = [&[0x28, 0xb5, 0x2f, 0xfd, 0xe0][..], &(octets.len() as u64).to_le_bytes()].concat();
    let mut blocks = octets.chunks(0x1_0000).peekable();
    while let Some(block) = blocks.next() {
        let header = (block.len() as u32) << 3 | u32::from(blocks.peek().is_none());
        file.extend(&header.to_le_bytes()[..3]);
        file.extend(block);
    }
    file
}

/// RFC 1952 8.
fn crc32(octets: &[u8]) -> u32 {
    !octets.iter().fold(u32::MAX, |crc, octet| {
        (0..8).fold(crc ^ u32::from(*octet), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

/// More than any frame has.
const SNAPLEN: u32 = 262_144;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_frame_keeps_its_length() {
        let frame = Frame { time: 1_500_000_000_000_000_789, octets: vec![7; 4], cut: 6 };
        let format = Format::Pcap { big_endian: true, nanoseconds: true };
        let file = format.encode([1; 2], &[frame]);
        assert_eq!(file[..4], [0xa1, 0xb2, 0x3c, 0x4d]);
        assert_eq!(file[24..], [0x59, 0x68, 0x2f, 0, 0, 0, 3, 0x15, 0, 0, 0, 4, 0, 0, 0, 10, 7, 7, 7, 7]);
    }

    #[test]
    fn crc32_is_the_one_of_the_rfc() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
