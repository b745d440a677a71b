//! What captures are kept in.

use super::{Capture, Conversation, chat};
use crate::conformance::{
    file::{Format, Packing},
    link::Link,
};

pub(super) fn captures() -> Vec<Capture> {
    let formats = [
        ("pcap, microseconds", Format::Pcap { big_endian: false, nanoseconds: false }),
        ("pcap, nanoseconds", Format::Pcap { big_endian: false, nanoseconds: true }),
        ("pcap, microseconds, big-endian", Format::Pcap { big_endian: true, nanoseconds: false }),
        ("pcap, nanoseconds, big-endian", Format::Pcap { big_endian: true, nanoseconds: true }),
        ("pcapng", Format::Pcapng),
    ];
    let talk = || chat(Conversation::new());
    let mut captures: Vec<Capture> =
        formats.map(|(name, format)| Capture::new("F", name, talk()).format(format)).into();
    captures.extend([
        Capture::new("F", "pcapng, two sections, of two link types", talk())
            .format(Format::PcapngSections)
            .second_link(Link::LinuxCooked),
        Capture::new("F", "pcap, gzip", talk()).packing(Packing::Gzip),
        Capture::new("F", "pcapng, gzip", talk()).format(Format::Pcapng).packing(Packing::Gzip),
        Capture::new("F", "pcap, zstd", talk()).packing(Packing::Zstd),
        Capture::new("F", "two files of two taps, one for each direction", talk()).one_file_for_each_direction(),
        Capture::new("F", "cut short in the last frame", talk()).truncated(10),
        Capture::of("F", "two hundred connections at once", many()),
    ]);
    captures
}

fn many() -> Vec<Conversation> {
    (0..200).map(|n| chat(Conversation::new().port(20_000 + n))).collect()
}
