//! The capture file that a workload is.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    net::SocketAddrV4,
    path::Path,
};

use anyhow::{Context, Result};

/// A pcap file that grows, of Ethernet, IPv4 and TCP, with microseconds.
pub(super) struct Pcap {
    file: BufWriter<File>,
    /// Of the next frame, in microseconds since the epoch.
    time: u64,
    pub(super) frames: u64,
}

/// What differs from segment to segment.
pub(super) struct Segment<'a> {
    pub(super) src: SocketAddrV4,
    pub(super) dst: SocketAddrV4,
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) flags: u8,
    pub(super) payload: &'a [u8],
}

pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const PSH: u8 = 0x08;
pub(super) const ACK: u8 = 0x10;

impl Pcap {
    pub(super) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("write {}", path.display()))?;
        let mut file = BufWriter::with_capacity(1 << 20, file);
        for word in [0xa1b2_c3d4, 4 << 16 | 2, 0, 0, SNAPLEN, ETHERNET] {
            file.write_all(&u32::to_le_bytes(word))?;
        }
        Ok(Self { file, time: START, frames: 0 })
    }

    /// When the next frame is captured, in nanoseconds.
    pub(super) fn time(&self) -> u64 {
        self.time * 1_000
    }

    /// Lets `microseconds` pass, in which a frame comes that is not captured.
    pub(super) fn miss(&mut self, microseconds: u64) {
        self.time += microseconds;
    }

    /// Writes a frame, which takes `microseconds`.
    pub(super) fn write(&mut self, segment: &Segment<'_>, microseconds: u64) -> Result<()> {
        let options: &[u8] = if segment.flags & SYN != 0 { &SYN_OPTIONS } else { &OPTIONS };
        let tcp = 20 + options.len();
        let packet = 20 + tcp + segment.payload.len();
        let len = (14 + packet) as u32;
        let mut headers = Vec::with_capacity(16 + 14 + 20 + tcp);
        for word in [(self.time / 1_000_000) as u32, (self.time % 1_000_000) as u32, len, len] {
            headers.extend(word.to_le_bytes());
        }
        headers.extend(MACS);
        let ip = headers.len();
        headers.extend([0x45, 0]);
        headers.extend((packet as u16).to_be_bytes());
        // No two frames that are near each other have the same identification.
        headers.extend((self.frames as u16).to_be_bytes());
        headers.extend([0x40, 0, 64, 6, 0, 0]);
        headers.extend(segment.src.ip().octets());
        headers.extend(segment.dst.ip().octets());
        let sum = checksum(&headers[ip..]);
        headers[ip + 10..ip + 12].copy_from_slice(&sum.to_be_bytes());
        headers.extend(segment.src.port().to_be_bytes());
        headers.extend(segment.dst.port().to_be_bytes());
        headers.extend(segment.seq.to_be_bytes());
        headers.extend(segment.ack.to_be_bytes());
        headers.extend([(tcp as u8) << 2, segment.flags]);
        headers.extend(WINDOW.to_be_bytes());
        // The checksum is unfinished, as where a host captures what it sends.
        headers.extend([0; 4]);
        headers.extend(options);
        self.file.write_all(&headers)?;
        self.file.write_all(segment.payload)?;
        self.frames += 1;
        self.time += microseconds;
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<()> {
        self.file.flush().context("write the capture")
    }
}

/// RFC 1071.
fn checksum(header: &[u8]) -> u16 {
    let sum: u32 = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// Payload octets of a full segment: 1,500 less IPv4, TCP and the timestamps.
pub(super) const MSS: u64 = 1_448;
const SNAPLEN: u32 = 262_144;
/// LINKTYPE_ETHERNET
const ETHERNET: u32 = 1;
const WINDOW: u16 = 502;
/// 2026-11-20T00:00:00Z in microseconds.
const START: u64 = 1_795_132_800_000_000;
const MACS: [u8; 14] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
/// MSS of 1,460, SACK permitted, timestamps, a window scale of 7.
const SYN_OPTIONS: [u8; 20] = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];
/// Timestamps.
const OPTIONS: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 1];
