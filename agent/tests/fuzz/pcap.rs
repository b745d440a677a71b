//! Capture files of any format: one octet says how much of the file is left when it is read again, the rest is the file.

use std::{env, fs, process};

use agent::{
    decode,
    pcap::{CAPLEN_MAX, Reader},
};

pub(crate) fn run(input: &[u8]) {
    let Some((&left, file)) = input.split_first() else { return };
    let whole = read(file);
    // A file that is cut short holds the same frames, as far as it goes.
    let kept = file.len() * usize::from(left) / 255;
    let part = read(&file[..kept]);
    assert_eq!(part[..], whole[..part.len()], "{kept} of {} octets", file.len());
}

/// Every frame up to the end or the first damage.
fn read(file: &[u8]) -> Vec<(u64, u32, Vec<u8>)> {
    let path = env::temp_dir().join(format!("xdpflow-fuzz-{}", process::id()));
    fs::write(&path, file).expect("a file of our own");
    let mut frames = Vec::new();
    if let Ok(mut reader) = Reader::open(&path) {
        while let Ok(Some(frame)) = reader.next() {
            assert!(frame.bytes.len() <= CAPLEN_MAX as usize);
            assert!(decode::supported(frame.link_type));
            frames.push((frame.timestamp.0, frame.len, frame.bytes.to_vec()));
            assert!(frames.len() <= file.len(), "frames without octets of the file");
        }
        assert!(reader.position() <= file.len() as u64);
    }
    frames
}
