//! Frames of real captures that everybody agrees about: TCP in IP, without tags, options of IPv4, extension headers or
//! fragments.

use std::{
    fs, iter,
    path::{Path, PathBuf},
};

use agent::pcap::Merge;
use agent_common::frame::LinkType;

/// So many of each capture, those that follow one another.
const FRAMES_MAX: usize = 300;

/// Those of the repository, and of the corpus beside it where it is there.
pub(crate) fn frames() -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut paths = vec![root.join("xtask/demo/recorded.pcap"), root.join("agent/tests/golden/troubles.pcap")];
    let corpus = root.ancestors().skip(1).map(|folder| folder.join("shared/corpus/pcap")).find(|path| path.is_dir());
    corpus.into_iter().for_each(|corpus| find(&corpus, &mut paths));
    let mut frames = Vec::new();
    for path in paths {
        let Ok(mut merges) = Merge::open(&[path], 1) else { continue };
        let mut merge = merges.remove(0);
        let mut taken = 0;
        while taken < FRAMES_MAX
            && let Some(frame) = merge.next()
        {
            if frame.link_type == LinkType::ETHERNET && frame.len as usize == frame.bytes.len() && is_plain(frame.bytes)
            {
                frames.push(frame.bytes.to_vec());
                taken += 1;
            }
        }
    }
    frames
}

fn find(folder: &Path, paths: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort_unstable();
    for path in entries {
        if path.is_dir() { find(&path, paths) } else { paths.push(path) }
    }
}

fn is_plain(frame: &[u8]) -> bool {
    let is_tcp = |tcp: &[u8], len: usize| {
        let header = usize::from(tcp.get(12).copied().unwrap_or(0) >> 4) * 4;
        20 <= header && header <= len && len <= tcp.len()
    };
    match frame {
        [_, _, _, _, _, _, _, _, _, _, _, _, 0x08, 0x00, ip @ ..] if ip.len() >= 40 => {
            let len = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
            let is_fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff != 0;
            ip[0] == 0x45 && !is_fragment && ip[9] == 6 && len >= 40 && is_tcp(&ip[20..], len - 20)
        }
        [_, _, _, _, _, _, _, _, _, _, _, _, 0x86, 0xdd, ip @ ..] if ip.len() >= 60 => {
            let len = usize::from(u16::from_be_bytes([ip[4], ip[5]]));
            ip[0] >> 4 == 6 && ip[6] == 6 && len >= 20 && is_tcp(&ip[40..], len)
        }
        _ => false,
    }
}

/// A pcap file of Ethernet frames, cut to `snaplen` octets each, of which the seconds are the numbers, from 0 on.
pub(crate) fn file(frames: &[Vec<u8>], snaplen: impl Fn(&[u8]) -> usize) -> Vec<u8> {
    let mut file = [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 262_144, 1].map(u32::to_le_bytes).concat();
    for (number, frame) in (0_u32..).zip(frames) {
        let kept = &frame[..snaplen(frame)];
        file.extend([number, 0, kept.len() as u32, frame.len() as u32].map(u32::to_le_bytes).concat());
        file.extend(kept);
    }
    file
}

/// Octets before the payload of a plain frame.
pub(crate) fn headers(frame: &[u8]) -> usize {
    let tcp = if frame[12] == 0x08 { 34 } else { 54 };
    tcp + usize::from(frame[tcp + 12] >> 4) * 4
}

/// The numbers of the frames that are left in such a file.
pub(crate) fn numbers(file: &[u8]) -> Vec<usize> {
    let mut rest = &file[24..];
    let word = |at: usize, rest: &[u8]| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap()) as usize;
    iter::from_fn(|| {
        let number = word(0, rest.get(..16)?);
        rest = &rest[16 + word(8, rest)..];
        Some(number)
    })
    .collect()
}
