//! A capture: conversations, how their packets travel, and the file that they are captured to.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{
    conversation::{Conversation, Side},
    expected::Stream,
    file::{Format, Frame, Packing},
    link::Link,
    packet::Packet,
    segment::Segment,
    tunnel::Tunnel,
};

pub(crate) struct Capture {
    /// The row of the table that it stands for.
    pub(crate) row: &'static str,
    pub(crate) name: &'static str,
    conversations: Vec<Conversation>,
    /// For xdpflow, where what the capture is about has to be asked for.
    pub(crate) flags: &'static [&'static str],
    /// What all gaps are put down to.
    pub(crate) cause: Option<&'static str>,
    /// xdpflow's exit status.
    pub(crate) status: i32,
    link: Link,
    second_link: Option<Link>,
    tunnels: Vec<Tunnel>,
    format: Format,
    packing: Packing,
    /// Of short frames, and with what.
    padding: Option<u8>,
    /// So many octets follow each frame, as a frame check sequence would.
    trailer: usize,
    /// Each frame is there once more, so many milliseconds later.
    mirrored: Option<u64>,
    /// In two files, of two taps which saw one direction each.
    by_direction: bool,
    /// So many octets are missing at the end of the file.
    truncated: usize,
}

impl Capture {
    pub(crate) fn new(row: &'static str, name: &'static str, conversation: Conversation) -> Self {
        Self::of(row, name, vec![conversation])
    }

    pub(crate) fn of(row: &'static str, name: &'static str, conversations: Vec<Conversation>) -> Self {
        Self {
            row,
            name,
            conversations,
            flags: &[],
            cause: None,
            status: 0,
            link: Link::Ethernet,
            second_link: None,
            tunnels: Vec::new(),
            format: Format::Pcap { big_endian: false, nanoseconds: true },
            packing: Packing::None,
            padding: None,
            trailer: 0,
            mirrored: None,
            by_direction: false,
            truncated: 0,
        }
    }

    pub(crate) fn flags(self, flags: &'static [&'static str]) -> Self {
        Self { flags, ..self }
    }

    pub(crate) fn cause(self, cause: &'static str) -> Self {
        Self { cause: Some(cause), ..self }
    }

    pub(crate) fn link(self, link: Link) -> Self {
        Self { link, ..self }
    }

    /// From the middle on.
    pub(crate) fn second_link(self, link: Link) -> Self {
        Self { second_link: Some(link), ..self }
    }

    /// The innermost first.
    pub(crate) fn tunnels(self, tunnels: &[Tunnel]) -> Self {
        Self { tunnels: tunnels.to_vec(), flags: &["--decap", "all"], ..self }
    }

    pub(crate) fn format(self, format: Format) -> Self {
        Self { format, ..self }
    }

    pub(crate) fn packing(self, packing: Packing) -> Self {
        Self { packing, ..self }
    }

    pub(crate) fn padding(self, octet: u8) -> Self {
        Self { padding: Some(octet), ..self }
    }

    pub(crate) fn trailer(self, len: usize) -> Self {
        Self { trailer: len, ..self }
    }

    pub(crate) fn mirrored(self, milliseconds: u64) -> Self {
        Self { mirrored: Some(milliseconds), ..self }
    }

    pub(crate) fn one_file_for_each_direction(self) -> Self {
        Self { by_direction: true, ..self }
    }

    pub(crate) fn truncated(self, octets: usize) -> Self {
        Self { truncated: octets, status: 1, ..self }
    }

    pub(crate) fn streams(&mut self) -> Vec<Stream> {
        self.conversations.iter_mut().flat_map(Conversation::streams).collect()
    }

    /// How many of them there are to xdpflow.
    pub(crate) fn connections(&self) -> usize {
        self.conversations.iter().map(|conversation| conversation.connections).sum()
    }

    /// Writes the files into `dir`.
    pub(crate) fn write(&self, dir: &Path) -> Result<Vec<PathBuf>> {
        let frames = self.frames();
        let taps: Vec<Vec<Frame>> = if self.by_direction {
            let (client, server): (Vec<_>, Vec<_>) = frames.into_iter().partition(|(side, _)| *side == Side::Client);
            [client, server].map(|tap| tap.into_iter().map(|(_, frame)| frame).collect()).into()
        } else {
            vec![frames.into_iter().map(|(_, frame)| frame).collect()]
        };
        let mut paths = Vec::new();
        for (number, frames) in taps.iter().enumerate() {
            let mut octets = self.format.encode(self.link_types(), frames);
            octets.truncate(octets.len() - self.truncated);
            let suffix = if matches!(self.format, Format::Pcap { .. }) { "pcap" } else { "pcapng" };
            let path = dir.join(format!("{number}.{suffix}{}", self.packing.suffix()));
            fs::write(&path, self.packing.pack(octets)).with_context(|| format!("write {}", path.display()))?;
            paths.push(path);
        }
        Ok(paths)
    }

    fn link_types(&self) -> [u16; 2] {
        let v6 = self.conversations.iter().any(|conversation| conversation.end(Side::Client).ip.is_ipv6());
        let v6 = match self.tunnels.last() {
            None => v6,
            Some(outermost) => *outermost == Tunnel::IpInIpv6,
        };
        [self.link, self.second_link.unwrap_or(self.link)].map(|link| link.number(v6))
    }

    /// In the order of the capture, with who sent them.
    fn frames(&self) -> Vec<(Side, Frame)> {
        let mut segments: Vec<(&Conversation, &Segment)> =
            self.conversations.iter().flat_map(|it| it.segments().iter().map(move |segment| (it, segment))).collect();
        segments.sort_by_key(|(_, segment)| segment.order);
        let half = segments.len() / 2;
        let mut frames: Vec<(u64, Side, Frame)> = Vec::new();
        for (number, (conversation, segment)) in segments.into_iter().enumerate() {
            let link = if number < half { self.link } else { self.second_link.unwrap_or(self.link) };
            for (part, packet) in (0..).zip(self.packets(conversation, segment)) {
                let mut octets = link.frame(&packet.octets, segment.side == Side::Client);
                if let Some(padding) = self.padding
                    && packet.cut == 0
                    && octets.len() < MIN_FRAME
                {
                    octets.resize(MIN_FRAME, padding);
                }
                octets.resize(octets.len() + self.trailer, 0xcc);
                let frame = Frame { time: segment.time + part * PART, octets, cut: packet.cut };
                frames.push((segment.order + part * PART, segment.side, frame));
            }
        }
        if let Some(milliseconds) = self.mirrored {
            let later = milliseconds * 1_000_000;
            let again = frames.iter().map(|(order, side, Frame { time, octets, cut })| {
                (order + later, *side, Frame { time: time + later, octets: octets.clone(), cut: *cut })
            });
            frames.extend(again.collect::<Vec<_>>());
            frames.sort_by_key(|(order, ..)| *order);
        }
        frames.into_iter().map(|(_, side, frame)| (side, frame)).collect()
    }

    fn packets(&self, conversation: &Conversation, segment: &Segment) -> Vec<Packet> {
        self.tunnels.iter().fold(Packet::of(conversation, segment), |inner, tunnel| {
            let outer = |Packet { octets, cut }: Packet| {
                tunnel.wrap(&octets, segment.ip_id).into_iter().map(move |octets| Packet { octets, cut })
            };
            inner.into_iter().flat_map(outer).collect()
        })
    }
}

/// Of Ethernet, without the frame check sequence (IEEE 802.3 3.2.8).
const MIN_FRAME: usize = 60;

/// Between the frames of one segment.
const PART: u64 = 10_000;
