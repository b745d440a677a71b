//! Capture files of any format, compressed ones too: one octet says how much of the file is left when it is read again, the
//! rest is the file.

use std::io::{self, Read};

use agent::{
    decode,
    pcap::{CAPLEN_MAX, Reader},
};

pub(crate) fn run(input: &[u8]) {
    let Some((&left, file)) = input.split_first() else { return };
    let (whole, damaged) = read(file, usize::MAX);
    // A file that is cut short holds the same frames, as far as it goes.
    let kept = file.len() * usize::from(left) / 255;
    let (part, _) = read(&file[..kept], usize::MAX);
    assert_eq!(part[..], whole[..part.len()], "{kept} of {} octets", file.len());
    // Nor does it matter in what portions it comes.
    let portion = 1 + usize::from(left % 16);
    assert_eq!(read(file, portion), (whole, damaged), "{portion} octets at a time");
}

/// Every frame up to the end or the first damage: time, length, octets. And whether there was damage.
fn read(file: &[u8], portion: usize) -> (Vec<(u64, u32, Vec<u8>)>, bool) {
    let source = Source { octets: file.to_vec(), at: 0, portion };
    let mut frames = Vec::new();
    let Ok(mut reader) = Reader::from_read("file", source) else { return (frames, true) };
    loop {
        match reader.next() {
            Ok(Some(frame)) => {
                assert!(frame.bytes.len() <= CAPLEN_MAX as usize);
                assert!(decode::supported(frame.link_type));
                frames.push((frame.timestamp.0, frame.len, frame.bytes.to_vec()));
            }
            Ok(None) => return (frames, false),
            Err(_) => {
                assert!(reader.position() <= file.len() as u64);
                return (frames, true);
            }
        }
        // Enough for what a small file says, and too little for what one can be made to unpack to.
        if frames.len() > FRAMES_MAX {
            return (frames, false);
        }
    }
}

const FRAMES_MAX: usize = 10_000;

/// A file that is read at most so many octets at a time.
struct Source {
    octets: Vec<u8>,
    at: usize,
    portion: usize,
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = self.octets.get(self.at..).unwrap_or_default();
        let len = rest.len().min(buffer.len()).min(self.portion);
        buffer[..len].copy_from_slice(&rest[..len]);
        self.at += len;
        Ok(len)
    }
}
