//! The captures, by the row of the byte contract that each stands for. Their names say what happens in them; what should
//! become of it follows from what the two ends said.

mod closing;
mod files;
mod gaps;
mod links;
mod opening;
mod order;
mod packets;
mod probes;

use super::{
    capture::Capture,
    conversation::{Conversation, Side},
};

/// What the rows are about. Letters are for what the contract has beside its rows.
pub(crate) const ROWS: [(&str, &str); 31] = [
    ("1", "segments in order"),
    ("2", "sequence numbers that wrap, streams of more than 4 GiB"),
    ("3", "segments out of order"),
    ("4", "overlap with what is delivered"),
    ("5", "overlap with what is queued"),
    ("6", "hole that the peer has acknowledged"),
    ("7", "hole that nobody fills, or late"),
    ("8", "one direction captured"),
    ("9", "FIN, also empty and out of order"),
    ("10", "RST, forged or not"),
    ("11", "SYN on endpoints that are known"),
    ("12", "what comes after the end"),
    ("13", "connection under way"),
    ("14", "data in SYN or SYN-ACK"),
    ("15", "simultaneous open, split handshake"),
    ("16", "keep-alive probe"),
    ("17", "zero-window probe"),
    ("18", "urgent data"),
    ("19", "TCP checksum"),
    ("20", "payload length: padding, snaplen, offload"),
    ("21", "segment far from everything known"),
    ("22", "IP fragments"),
    ("23", "ACK or RST of an unknown connection"),
    ("24", "a limit is reached"),
    ("25", "clock that steps"),
    ("26", "long silence"),
    ("29", "each frame twice"),
    ("L", "link types"),
    ("I", "IP headers"),
    ("T", "tunnels"),
    ("F", "capture files"),
];

pub(crate) fn all() -> Vec<Capture> {
    [
        order::captures(),
        gaps::captures(),
        closing::captures(),
        opening::captures(),
        probes::captures(),
        packets::captures(),
        links::captures(),
        files::captures(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A conversation that begins with a handshake.
fn open(say: impl FnOnce(&mut Conversation)) -> Conversation {
    begun(Conversation::new(), say)
}

fn begun(mut conversation: Conversation, say: impl FnOnce(&mut Conversation)) -> Conversation {
    conversation.handshake();
    say(&mut conversation);
    conversation
}

/// One without, or with another than the usual.
fn bare(mut conversation: Conversation, say: impl FnOnce(&mut Conversation)) -> Conversation {
    say(&mut conversation);
    conversation
}

/// A few segments either way, and an end: for captures that are not about the conversation.
fn chat(conversation: Conversation) -> Conversation {
    begun(conversation, |it| {
        it.client(0..77);
        it.ack(Side::Server);
        it.server(0..1400);
        it.server(1400..1500);
        it.ack(Side::Client);
        it.client(77..80);
        it.server(1500..1501);
        it.close();
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_row_has_captures_and_every_capture_a_row() {
        let rows: BTreeSet<&str> = ROWS.into_iter().map(|(row, _)| row).collect();
        let captured: BTreeSet<&str> = all().iter().map(|capture| capture.row).collect();
        assert_eq!(rows, captured);
    }

    #[test]
    fn names_are_unique() {
        let all = all();
        let names: BTreeSet<&str> = all.iter().map(|capture| capture.name).collect();
        assert_eq!(names.len(), all.len());
    }

    #[test]
    fn a_gap_has_a_cause() {
        for mut capture in all() {
            let gaps = capture.streams().iter().any(|stream| !stream.is_empty() && !stream.gaps().is_empty());
            assert_eq!(gaps, capture.cause.is_some(), "{}", capture.name);
        }
    }
}
