use std::{
    fs,
    io::Write as _,
    sync::atomic::{AtomicU32, Ordering},
};

use flate2::write::GzEncoder;
use zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer, zstd_sys::ZSTD_EndDirective};

use super::{decompressor::Compression, input::ByteOrder, *};

/// A file that is gone afterwards.
pub(super) struct Temporary(pub(super) PathBuf);

impl Temporary {
    pub(super) fn new(bytes: &[u8]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("xdpflow-pcap-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::write(&path, bytes).unwrap();
        Self(path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// What is remembered of a frame.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Seen {
    timestamp: u64,
    len: u32,
    bytes: Vec<u8>,
    link_type: u16,
    interface: u16,
}

fn seen(timestamp: u64, len: u32, bytes: &[u8]) -> Seen {
    Seen { timestamp, len, bytes: bytes.to_vec(), link_type: 1, interface: 0 }
}

/// All frames, and how reading ended.
fn read(bytes: &[u8]) -> (Vec<Seen>, Option<String>) {
    let file = Temporary::new(bytes);
    let line = |error: Error| error.to_string().replace(&file.0.display().to_string(), "x.pcap");
    let mut frames = Vec::new();
    let mut reader = match Reader::open(&file.0) {
        Ok(reader) => reader,
        Err(error) => return (frames, Some(line(error))),
    };
    let size = bytes.len() as u64;
    assert_eq!(reader.size(), Some(size));
    let compressed = Compression::of(bytes.first_chunk().copied().unwrap_or_default()).is_some();
    loop {
        match reader.next() {
            Ok(Some(frame)) => frames.push(Seen {
                timestamp: frame.timestamp.0,
                len: frame.len,
                bytes: frame.bytes.to_vec(),
                link_type: frame.link_type.0,
                interface: frame.origin.interface,
            }),
            Ok(None) => {
                assert_eq!(reader.position(), size);
                return (frames, None);
            }
            Err(error) => return (frames, Some(line(error))),
        }
        // What is compressed is taken in blocks, and frames are found before they are given out.
        assert!((u64::from(!compressed)..=size).contains(&reader.position()));
    }
}

#[track_caller]
fn check(bytes: &[u8], frames: &[Seen]) {
    assert_eq!(read(bytes), (frames.to_vec(), None));
}

#[track_caller]
fn check_error(bytes: &[u8], frames: usize, error: &str) {
    let (seen, actual) = read(bytes);
    assert_eq!((seen.len(), actual.as_deref()), (frames, Some(error)));
}

/// Writes fields in one byte order.
pub(super) struct Writer {
    order: ByteOrder,
    pub(super) bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn new(order: ByteOrder) -> Self {
        Self { order, bytes: Vec::new() }
    }

    fn u16(mut self, value: u16) -> Self {
        self.bytes.extend(match self.order {
            ByteOrder::Little => value.to_le_bytes(),
            ByteOrder::Big => value.to_be_bytes(),
        });
        self
    }

    fn u32(mut self, value: u32) -> Self {
        self.bytes.extend(match self.order {
            ByteOrder::Little => value.to_le_bytes(),
            ByteOrder::Big => value.to_be_bytes(),
        });
        self
    }

    fn u64(self, value: u64) -> Self {
        let (high, low) = ((value >> 32) as u32, value as u32);
        match self.order {
            ByteOrder::Little => self.u32(low).u32(high),
            ByteOrder::Big => self.u32(high).u32(low),
        }
    }

    fn octets(mut self, octets: &[u8]) -> Self {
        self.bytes.extend(octets);
        self
    }

    fn padded(self, octets: &[u8]) -> Self {
        let padding = octets.len().next_multiple_of(4) - octets.len();
        self.octets(octets).octets(&[0, 0, 0][..padding])
    }

    pub(super) fn file_header(self, magic: u32, link_type: u32) -> Self {
        self.u32(magic).u16(2).u16(4).u32(0).u32(0).u32(65_535).u32(link_type)
    }

    pub(super) fn record(self, seconds: u32, fraction: u32, len: u32, bytes: &[u8]) -> Self {
        self.u32(seconds).u32(fraction).u32(bytes.len() as u32).u32(len).octets(bytes)
    }

    fn block(self, kind: u32, body: impl FnOnce(Self) -> Self) -> Self {
        let body = body(Self::new(self.order)).bytes;
        let len = 12 + body.len() as u32;
        self.u32(kind).u32(len).octets(&body).u32(len)
    }

    pub(super) fn section(self) -> Self {
        // With a comment; the length of the section is not known.
        self.block(u32::from_be_bytes(ng::SECTION_HEADER), |body| {
            body.u32(0x1a2b_3c4d).u16(1).u16(0).u64(u64::MAX).option(1, b"a comment").option(0, &[])
        })
    }

    fn option(self, code: u16, value: &[u8]) -> Self {
        self.u16(code).u16(value.len() as u16).padded(value)
    }

    pub(super) fn interface(self, link_type: u16, snaplen: u32, options: impl FnOnce(Self) -> Self) -> Self {
        self.block(1, |body| options(body.u16(link_type).u16(0).u32(snaplen)))
    }

    pub(super) fn packet(self, interface: u32, ticks: u64, len: u32, bytes: &[u8]) -> Self {
        self.block(6, |body| {
            let body = body.u32(interface).u32((ticks >> 32) as u32).u32(ticks as u32);
            body.u32(bytes.len() as u32).u32(len).padded(bytes).option(2, &[0, 0, 0, 1]).option(0, &[])
        })
    }
}

const ORDERS: [ByteOrder; 2] = [ByteOrder::Little, ByteOrder::Big];
const SECOND: u64 = 1_000_000_000;

#[test]
fn classic() {
    for order in ORDERS {
        for (magic, unit) in [(0xa1b2_c3d4, 1_000), (0xa1b2_3c4d, 1)] {
            // The frame check sequence, its length in the upper half, is not the link type's business.
            for link_type in [1, 0x4400_0001] {
                let file = Writer::new(order).file_header(magic, link_type);
                check(&file.bytes, &[]);
                let file = file
                    .record(1_700_000_000, 123_456, 60, b"one")
                    .record(0, 0, 0, b"")
                    // Nonsense, all of it: no limit is met on the way.
                    .record(u32::MAX, u32::MAX, u32::MAX, b"two");
                let frames = [
                    seen(1_700_000_000 * SECOND + 123_456 * unit, 60, b"one"),
                    seen(0, 0, b""),
                    seen(u64::from(u32::MAX) * (SECOND + unit), u32::MAX, b"two"),
                ];
                check(&file.bytes, &frames);
            }
        }
        let file = Writer::new(order).file_header(0xa1b2_cd34, 1);
        let file = file.u32(7).u32(8).u32(3).u32(60).u32(2).u16(0x0800).u16(0).octets(b"one");
        check(&file.bytes, &[seen(7 * SECOND + 8_000, 60, b"one")]);
    }
}

#[test]
fn lengths_change_places_with_the_version() {
    // Of a frame of 60 octets, 3 are captured; of the other all are.
    for (minor, first, second) in
        [(2, (60, 3), (3, 3)), (3, (60, 3), (3, 3)), (3, (3, 60), (3, 3)), (4, (3, 60), (3, 3))]
    {
        let file = Writer::new(ByteOrder::Big).u32(0xa1b2_c3d4).u16(2).u16(minor);
        let file = file.u32(0).u32(0).u32(65_535).u32(1);
        let file = file.u32(1).u32(0).u32(first.0).u32(first.1).octets(b"one");
        let file = file.u32(2).u32(0).u32(second.0).u32(second.1).octets(b"two");
        check(&file.bytes, &[seen(SECOND, 60, b"one"), seen(2 * SECOND, 3, b"two")]);
    }
}

#[test]
fn what_is_odd_and_no_damage() {
    // More captured than there was, more than the snaplen, a second and a half in the microseconds.
    let file = Writer::new(ByteOrder::Little).u32(0xa1b2_c3d4).u16(2).u16(4).u32(0).u32(0).u32(2).u32(1);
    let file = file.record(7, 1_500_000, 1, b"three");
    check(&file.bytes, &[seen(8_500_000_000, 1, b"three")]);

    let secrets = |file: Writer| file.block(10, |body| body.u32(0x544c_534b).u32(6).padded(b"secret"));
    let file = Writer::new(ByteOrder::Big)
        // A section that says how long it is, wrongly.
        .block(u32::from_be_bytes(ng::SECTION_HEADER), |body| body.u32(0x1a2b_3c4d).u16(1).u16(0).u64(4))
        // An interface of its own statistics and one that stays silent, whatever it is.
        .interface(1, 2, |options| options.option(2, b"eth0").option(0x8bad, &[7; 9]).option(9, &[6]).option(0, &[]))
        .interface(105, 0, |options| options)
        .block(5, |body| body.u32(0).u64(1).option(4, &[0; 8]).option(0, &[]));
    let file = secrets(file)
        .block(0x4000_0bad, |body| body.u32(1).octets(&[1; 8]))
        .packet(0, 0, 1, b"three")
        .packet(0, 1, 0, b"")
        // A systemd journal entry, a process of macOS's tcpdump.
        .block(9, |body| body.padded(b"__REALTIME_TIMESTAMP=1\n"))
        .block(0x8000_0001, |body| body.u32(501).option(2, b"curl").option(0, &[]));
    check(&file.bytes, &[seen(0, 1, b"three"), seen(1_000, 0, b"")]);
}

/// Two sections, the second of the other byte order, with all kinds of packet blocks and with blocks to skip.
fn next_generation(order: ByteOrder) -> (Vec<u8>, Vec<Seen>) {
    let other = if order == ByteOrder::Little { ByteOrder::Big } else { ByteOrder::Little };
    let first = Writer::new(order)
        .section()
        .interface(1, 0, |options| options.option(2, b"eth0").option(0, &[]))
        .packet(0, 1_700_000_000_123_456, 60, b"one")
        // A custom block, an empty one, name resolution.
        .block(0x0bad, |body| body.octets(&[7; 40]))
        .block(0x4bad, |body| body)
        .interface(101, 0, |options| options.option(9, &[9]))
        .packet(1, 1_700_000_000_123_456_789, 2, b"ip")
        .block(4, |body| body.u32(0))
        .block(3, |body| body.u32(5).padded(b"three"));
    let second = Writer::new(other)
        .section()
        .interface(228, 4, |options| options.option(9, &[3]).octets(&[0xff; 4]))
        .block(3, |body| body.u32(9).padded(b"four"))
        .block(2, |body| body.u16(0).u16(9).u32(0).u32(1_500).u32(5).u32(6).padded(b"fives"))
        .interface(1, 0, |options| options.option(14, Writer::new(other).u64(100).bytes.as_slice()))
        .packet(1, 5_000_000, 3, b"six");
    let frames = vec![
        seen(1_700_000_000_123_456_000, 60, b"one"),
        Seen { link_type: 101, interface: 1, ..seen(1_700_000_000_123_456_789, 2, b"ip") },
        // A simple packet has no time of its own, and all of a section are of its first interface.
        seen(1_700_000_000_123_456_789, 5, b"three"),
        Seen { link_type: 228, ..seen(1_700_000_000_123_456_789, 9, b"four") },
        Seen { link_type: 228, ..seen(1_500_000_000, 6, b"fives") },
        Seen { interface: 1, ..seen(105 * SECOND, 3, b"six") },
    ];
    ([first.bytes, second.bytes].concat(), frames)
}

#[test]
fn sections_of_either_byte_order() {
    for order in ORDERS {
        let (file, frames) = next_generation(order);
        check(&file, &frames);
    }
}

#[test]
fn clocks() {
    type Options<'a> = &'a [(u16, &'a [u8])];
    let cases: [(Options<'_>, u64, u64); 16] = [
        (&[], 1_500_000, 1_500_000_000),
        (&[], u64::MAX, u64::MAX),
        (&[(9, &[0])], 7, 7 * SECOND),
        (&[(9, &[3])], 1_500, 1_500_000_000),
        (&[(9, &[6])], 1_500_000, 1_500_000_000),
        (&[(9, &[9])], u64::MAX, u64::MAX),
        (&[(9, &[12])], 1_500_000_000_999, 1_500_000_000),
        (&[(9, &[127])], u64::MAX, 0),
        (&[(9, &[0x80])], 7, 7 * SECOND),
        (&[(9, &[0x8a])], 1_536, 1_500_000_000),
        (&[(9, &[0xff])], u64::MAX, 0),
        (&[(9, &[0])], u64::MAX, u64::MAX),
        // An option of a wrong length is not one.
        (&[(9, &[0, 0])], 1_500_000, 1_500_000_000),
        (&[(14, &(-1_i64).to_le_bytes())], 1_500_000, 500_000_000),
        (&[(14, &i64::MIN.to_le_bytes())], 1_500_000, 0),
        (&[(14, &i64::MAX.to_le_bytes()), (9, &[0])], u64::MAX, u64::MAX),
    ];
    for (options, ticks, expected) in cases {
        let file = Writer::new(ByteOrder::Little)
            .section()
            .interface(1, 0, |body| options.iter().fold(body, |body, (code, value)| body.option(*code, value)))
            .packet(0, ticks, 1, b"x");
        check(&file.bytes, &[seen(expected, 1, b"x")]);
    }
}

#[test]
fn larger_than_the_buffer() {
    let large = vec![0x5a; 600_000];
    let largest = vec![0xa5; CAPLEN_MAX as usize];
    let file = Writer::new(ByteOrder::Little).file_header(0xa1b2_c3d4, 1);
    let file = file.record(1, 0, 9, b"small").record(2, 0, 600_000, &large).record(3, 0, 9, &largest);
    let file = file.record(4, 0, 5, b"small");
    let mut frames = vec![seen(SECOND, 9, b"small"), seen(2 * SECOND, 600_000, &large)];
    frames.extend([seen(3 * SECOND, 9, &largest), seen(4 * SECOND, 5, b"small")]);
    check(&file.bytes, &frames);

    let file = Writer::new(ByteOrder::Big).section().interface(1, 0, |options| options);
    let file = file.packet(0, 1_000_000, 9, b"small").block(0x0bad, |body| body.octets(&vec![0; 3 << 20]));
    let file =
        file.packet(0, 2_000_000, 600_000, &large).packet(0, 3_000_000, 9, &largest).packet(0, 4_000_000, 5, b"small");
    check(&file.bytes, &frames);

    // Many, so that records lie across the end of a block in every way.
    let mut file = Writer::new(ByteOrder::Little).file_header(0xa1b2_c3d4, 1);
    let mut frames = Vec::new();
    for i in 0..3_000_u32 {
        let bytes = vec![i as u8; (i * 7 % 1_500) as usize];
        file = file.record(i, 0, 1_500, &bytes);
        frames.push(seen(u64::from(i) * SECOND, 1_500, &bytes));
    }
    check(&file.bytes, &frames);
}

#[test]
fn errors() {
    let classic = || Writer::new(ByteOrder::Little).file_header(0xa1b2_c3d4, 1).record(1, 2, 60, &[0; 60]);
    let file = classic().record(1, 2, 60, &[0; 60]).bytes;
    check_error(
        &file[..100 + 28],
        1,
        "read x.pcap: record at offset 100 ends after 28 of 76 octets (the file is cut short)",
    );
    check_error(
        &classic().record(1, 2, 60, &[]).u32(0).bytes,
        2,
        "read x.pcap: record at offset 116 ends after 4 of 16 octets (the file is cut short)",
    );
    check_error(
        &classic().u32(1).u32(2).u32(CAPLEN_MAX + 1).u32(60).bytes,
        1,
        "read x.pcap: record at offset 100 claims 1048577 octets, and frames have at most 1048576 (the file is damaged)",
    );
    check_error(
        &file[..20],
        0,
        "read x.pcap: file header at offset 0 ends after 20 of 24 octets (the file is cut short)",
    );
    check_error(
        &Writer::new(ByteOrder::Little).u32(0xa1b2_c3d4).u16(1).octets(&[0; 30]).bytes,
        0,
        "read x.pcap: file header at offset 0 is of an unknown version (the file is damaged)",
    );
    check_error(
        &Writer::new(ByteOrder::Big).file_header(0xa1b2_c3d4, 127).bytes,
        0,
        "read x.pcap: link type 127 (IEEE802_11_RADIOTAP) is not supported",
    );
    check_error(b"", 0, "read x.pcap: empty, and so neither a pcap nor a pcapng file");
    for nothing in [&b"abc"[..], b"hello, world"] {
        check_error(nothing, 0, "read x.pcap: neither a pcap nor a pcapng file");
    }
    for (magic, with, by) in [
        (&[0x04, 0x22, 0x4d, 0x18][..], "lz4", "unlz4"),
        (&[0xfd, b'7', b'z', b'X'], "xz", "unxz"),
        (b"BZh9", "bzip2", "bunzip2"),
    ] {
        check_error(magic, 0, &format!("read x.pcap: compressed with {with} (decompress it with {by} first)"));
    }
    let missing = Reader::open("/nonexistent/x.pcap").err().unwrap().to_string();
    assert_eq!(missing, "read /nonexistent/x.pcap: no such file or directory");

    // The section takes 48 octets, the interface 20, the packet 48.
    let ng = || Writer::new(ByteOrder::Little).section().interface(1, 0, |options| options).packet(0, 1, 3, b"one");
    let damaged = |why: &str| format!("read x.pcap: block at offset 116 {why} (the file is damaged)");
    assert_eq!(ng().bytes.len(), 116);
    check_error(
        &ng().u32(6).bytes,
        1,
        "read x.pcap: block at offset 116 ends after 4 of 8 octets (the file is cut short)",
    );
    check_error(&ng().u32(6).u32(11).bytes, 1, &damaged("is too short for its fields"));
    check_error(&ng().block(6, |body| body.u32(0)).bytes, 1, &damaged("is too short for its fields"));
    check_error(&ng().block(1, |body| body.u32(0)).bytes, 1, &damaged("is too short for its fields"));
    check_error(&ng().packet(1, 0, 3, b"two").bytes, 1, &damaged("names an interface that was not described"));
    check_error(&ng().packet(u32::MAX, 0, 3, b"two").bytes, 1, &damaged("names an interface that was not described"));
    check_error(
        &ng().section().packet(0, 0, 3, b"two").bytes,
        1,
        "read x.pcap: block at offset 164 names an interface that was not described (the file is damaged)",
    );
    check_error(&ng().u32(6).u32(12).u32(16).bytes, 1, &damaged("does not end with its length"));
    check_error(
        &ng().block(6, |body| body.u32(0).u32(0).u32(0).u32(9).u32(9).padded(b"short")).bytes,
        1,
        &damaged("is shorter than the frame in it"),
    );
    check_error(
        &ng().block(6, |body| body.u32(0).u32(0).u32(0).u32(u32::MAX).u32(9)).bytes,
        1,
        "read x.pcap: frame in block at offset 116 claims 4294967295 octets, and frames have at most 1048576 (the file is damaged)",
    );
    check_error(
        &ng().u32(6).u32(u32::MAX).bytes,
        1,
        "read x.pcap: block at offset 116 claims 4294967296 octets, and frames have at most 1048576 (the file is damaged)",
    );
    check_error(
        &ng().u32(0x0bad).u32(u32::MAX).octets(&[0; 100]).bytes,
        1,
        "read x.pcap: block at offset 116 ends after 108 of 4294967296 octets (the file is cut short)",
    );
    let section = |magic, version| ng().octets(&ng::SECTION_HEADER).u32(28).u32(magic).u16(version).octets(&[0; 14]);
    check_error(&section(0x1a2b_3c4e, 1).bytes, 1, &damaged("has no byte-order magic"));
    check_error(&section(0x1a2b_3c4d, 2).bytes, 1, &damaged("is of an unknown version"));
    // An interface of another kind is harmless until it has a frame.
    let other = ng().interface(105, 0, |options| options).packet(0, 1, 3, b"two");
    assert_eq!(read(&other.bytes).1, None);
    let other = other.packet(1, 1, 3, b"two").packet(0, 1, 3, b"one").packet(1, 1, 3, b"two");
    let left_out = "read x.pcap: link type 105 (IEEE802_11) is not supported (frames left out: 2)";
    check_error(&other.bytes, 3, left_out);
    // Damage is told first.
    let damaged = Temporary::new(&other.octets(&[0]).bytes);
    let mut reader = Reader::open(&damaged.0).unwrap();
    let mut errors = Vec::new();
    loop {
        match reader.next() {
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(error) => errors.push(error.cause),
        }
    }
    assert!(matches!(errors[..], [Cause::CutShort { .. }, Cause::LeftOut { frames: 2, .. }]), "{errors:?}");
}

/// Files, and where the whole frames in them end.
fn samples() -> Vec<(Vec<u8>, Vec<usize>)> {
    let mut samples = Vec::new();
    for order in ORDERS {
        let mut file = Writer::new(order).file_header(0xa1b2_c3d4, 1);
        let mut ends = Vec::new();
        for i in 0..4_u32 {
            file = file.record(i, i, 60, &vec![i as u8; 5 * i as usize]);
            ends.push(file.bytes.len());
        }
        samples.push((file.bytes, ends));
        let (file, frames) = next_generation(order);
        let ends = (0..=file.len()).fold(Vec::new(), |mut ends, end| {
            if ends.len() < frames.len() && read(&file[..end]).0.len() > ends.len() {
                ends.push(end);
            }
            ends
        });
        assert_eq!(ends.len(), frames.len());
        samples.push((file, ends));
    }
    samples
}

#[test]
fn cut_anywhere() {
    for (file, ends) in samples() {
        let (frames, _) = read(&file);
        for cut in 0..file.len() {
            let (seen, error) = read(&file[..cut]);
            let whole = ends.iter().filter(|&&end| end <= cut).count();
            assert_eq!(seen, frames[..whole], "cut at {cut}");
            let error = error.unwrap_or_default();
            let said = error.contains("cut short") || error.contains("neither a pcap");
            // Between two records or blocks nobody can know that there were more.
            assert!(said || error.is_empty(), "cut at {cut}: {error}");
            if ends.contains(&cut) {
                assert_eq!(error, "", "cut at {cut}");
            } else if whole > 0 && ends[whole - 1] + 1 == cut {
                assert!(said, "cut at {cut}");
            }
        }
    }
}

#[test]
fn damaged_anywhere() {
    let (mut errors, mut changed) = (0, 0);
    for (file, ends) in samples() {
        let (frames, _) = read(&file);
        for at in 0..file.len() {
            for value in [0x00, 0x01, 0x7f, 0xff, file[at] ^ 0x01, file[at] ^ 0x80] {
                let mut damaged = file.clone();
                damaged[at] = value;
                let (seen, error) = read(&damaged);
                let before = ends.iter().filter(|&&end| end <= at).count();
                assert!(seen.len() >= before, "{value:#x} at {at}: {error:?}");
                assert_eq!(seen[..before], frames[..before], "{value:#x} at {at}");
                errors += usize::from(error.is_some());
                changed += usize::from(error.is_none() && seen != frames);
            }
        }
    }
    assert!(errors > 1_000 && changed > 1_000, "{errors} {changed}");
}

/// Compresses a piece at a time; says how much there was to write behind each.
type Compress = fn(&[&[u8]]) -> (Vec<u8>, Vec<usize>);

fn gzip(pieces: &[&[u8]]) -> (Vec<u8>, Vec<usize>) {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
    let write = |piece: &&[u8]| {
        encoder.write_all(piece).unwrap();
        encoder.flush().unwrap();
        encoder.get_ref().len()
    };
    let ends = pieces.iter().map(write).collect();
    (encoder.finish().unwrap(), ends)
}

fn zstd(pieces: &[&[u8]]) -> (Vec<u8>, Vec<usize>) {
    let mut context = CCtx::create();
    context.set_parameter(CParameter::ChecksumFlag(true)).unwrap();
    let mut file = Vec::new();
    let mut write = |piece: &[u8], directive| {
        let mut block = vec![0; zstd_safe::compress_bound(piece.len()) + 64];
        let mut output = OutBuffer::around(&mut block[..]);
        assert_eq!(context.compress_stream2(&mut output, &mut InBuffer::around(piece), directive), Ok(0));
        let len = output.pos();
        file.extend(&block[..len]);
        file.len()
    };
    let ends = pieces.iter().map(|piece| write(piece, ZSTD_EndDirective::ZSTD_e_flush)).collect();
    write(&[], ZSTD_EndDirective::ZSTD_e_end);
    (file, ends)
}

const COMPRESSIONS: [(&str, Compress); 2] = [("gzip", gzip), ("zstd", zstd)];

/// The compressed `file`, and where the frames in it end that end at `ends` uncompressed.
fn compress(by: Compress, file: &[u8], ends: &[usize]) -> (Vec<u8>, Vec<usize>) {
    let starts = [0].iter().chain(ends);
    let pieces: Vec<_> = starts.zip(ends.iter().chain([&file.len()])).map(|(&start, &end)| &file[start..end]).collect();
    let (compressed, mut after) = by(&pieces);
    after.truncate(ends.len());
    (compressed, after)
}

#[test]
fn compressed() {
    for (_, by) in COMPRESSIONS {
        for (file, ends) in samples() {
            let (frames, _) = read(&file);
            check(&compress(by, &file, &ends).0, &frames);
            // In several pieces, one of them empty, divided within a frame.
            let (start, end) = file.split_at(ends[1] - 3);
            check(&[by(&[start]).0, by(&[]).0, by(&[end]).0].concat(), &frames);
        }
        // Larger than all buffers, and it compresses to next to nothing.
        let zeros = vec![0; CAPLEN_MAX as usize];
        let mut file = Writer::new(ByteOrder::Little).file_header(0xa1b2_c3d4, 1);
        for i in 0..20 {
            file = file.record(i, 0, CAPLEN_MAX, &zeros);
        }
        let compressed = by(&[&file.bytes]).0;
        assert!(compressed.len() < file.bytes.len() / 500);
        let frames: Vec<_> = (0..20).map(|i| seen(i * SECOND, CAPLEN_MAX, &zeros)).collect();
        check(&compressed, &frames);
    }
    let (file, _) = &samples()[0];
    let (frames, _) = read(file);
    // Zeros behind gzip, as tapes leave them; a skippable frame in front of zstd, as pzstd writes it.
    check(&[&gzip(&[file]).0[..], &[0; 1_000]].concat(), &frames);
    check(&[&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4], &zstd(&[file]).0[..]].concat(), &frames);
}

#[test]
fn compressed_and_cut_anywhere() {
    for (with, by) in COMPRESSIONS {
        for (file, ends) in samples() {
            let (frames, _) = read(&file);
            let (compressed, ends) = compress(by, &file, &ends);
            for cut in 0..compressed.len() {
                let (seen, error) = read(&compressed[..cut]);
                let whole = ends.iter().filter(|&&end| end <= cut).count();
                assert!(seen.len() >= whole && frames.starts_with(&seen), "{with} cut at {cut}");
                // Wherever it ends, something is missing: the checksum at least.
                let error = error.unwrap_or_else(|| panic!("{with} cut at {cut}"));
                let expected =
                    if cut < 4 { "neither a pcap" } else { "of the decompressed data (the file is cut short)" };
                assert!(error.contains(expected), "{with} cut at {cut}: {error}");
            }
        }
    }
}

#[test]
fn compressed_and_damaged_anywhere() {
    for (with, by) in COMPRESSIONS {
        let mut errors = 0;
        for (file, ends) in samples() {
            let (frames, _) = read(&file);
            let (compressed, ends) = compress(by, &file, &ends);
            for at in 0..compressed.len() {
                for value in [0x00, 0xff, compressed[at] ^ 0x01, compressed[at] ^ 0x80] {
                    let mut damaged = compressed.clone();
                    damaged[at] = value;
                    let (seen, error) = read(&damaged);
                    let before = ends.iter().filter(|&&end| end <= at).count();
                    assert!(seen.len() >= before, "{with}, {value:#x} at {at}: {error:?}");
                    assert_eq!(seen[..before], frames[..before], "{with}, {value:#x} at {at}");
                    // There is a checksum: what is not as it was does not go unnoticed.
                    assert!(error.is_some() || seen == frames, "{with}, {value:#x} at {at}");
                    errors += usize::from(error.is_some());
                }
            }
        }
        assert!(errors > 1_000, "{with}: {errors}");
    }
}

#[test]
fn errors_of_compressed_files() {
    let file = Writer::new(ByteOrder::Little).file_header(0xa1b2_c3d4, 1).record(1, 2, 60, &[7; 60]);
    for (with, by) in COMPRESSIONS {
        // The capture was cut short before it was compressed.
        check_error(
            &by(&[&file.bytes[..99]]).0,
            0,
            "read x.pcap: record at offset 24 of the decompressed data ends after 75 of 76 octets (the file is cut short)",
        );
        let whole = by(&[&file.bytes]).0;
        check_error(
            &whole[..whole.len() - 1],
            1,
            &format!(
                "read x.pcap: the {with} data ends too early, at offset 100 of the decompressed data (the file is cut short)"
            ),
        );
        for note in [&b"a note"[..], b"\n", b"PK\x03\x04"] {
            check_error(
                &[&whole, note].concat(),
                1,
                &format!(
                    "read x.pcap: behind the {with} data, which ends at offset 100 of the decompressed data, stands something else (ignored)"
                ),
            );
        }
        // Another piece, damaged in its header, is not something else.
        let mut other = by(&[b"more"]).0;
        other[4..].fill(0xff);
        other[2..4].copy_from_slice(&whole[2..4]);
        let (seen, error) = read(&[&whole[..], &other].concat());
        let error = error.unwrap();
        assert!(seen.len() == 1 && error.contains(&format!("the {with} data goes wrong behind offset 100")), "{error}");
        // Nobody does that twice on purpose.
        let undo = if with == "gzip" { "gunzip" } else { "unzstd" };
        check_error(
            &by(&[&whole]).0,
            0,
            &format!("read x.pcap: compressed with {with} (decompress it with {undo} first)"),
        );
        check_error(&by(&[b"hello"]).0, 0, "read x.pcap: neither a pcap nor a pcapng file");
        check_error(&by(&[]).0, 0, "read x.pcap: neither a pcap nor a pcapng file");
    }
    let mut whole = gzip(&[&file.bytes]).0;
    let checksum = whole.len() - 8;
    whole[checksum] ^= 1;
    check_error(
        &whole,
        1,
        "read x.pcap: the gzip data goes wrong behind offset 100 of the decompressed data: incorrect data check (the file is damaged)",
    );
    // A frame that asks for a window of 256 MiB (RFC 8878 section 3.1.1.1.2), and a block behind it.
    check_error(
        &[0x28, 0xb5, 0x2f, 0xfd, 0x00, 18 << 3, 0x01, 0x00, 0x00],
        0,
        "read x.pcap: the zstd data at offset 0 of the decompressed data takes more than 128 MiB of memory (decompress it first, with unzstd --long=31)",
    );
}
