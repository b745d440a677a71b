//! Bugs of the kind that reassemblers have, each planted alone in a copy of the tree. One that the simulation does not
//! find is a hole in the simulation.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, bail};

use crate::{command, interrupt};

/// Plants those that have one of `parts` in their names, or all.
pub(crate) fn run(parts: &[String]) -> Result<()> {
    let is_meant = |bug: &&Bug| parts.is_empty() || parts.iter().any(|part| bug.what.contains(part));
    let bugs: Vec<_> = BUGS.iter().filter(is_meant).collect();
    if bugs.is_empty() {
        bail!("no planted bug has that in its name");
    }
    let copy = command::target().join("simulate");
    let missed: Vec<_> = copy_sources(&copy)
        .and_then(|()| bugs.iter().map(|bug| Ok((bug, bug.is_found(&copy)?))).collect::<Result<Vec<_>>>())?
        .into_iter()
        .filter_map(|(bug, found)| (!found).then_some(bug.what))
        .collect();
    if !missed.is_empty() {
        bail!("{} of {} planted bugs were not found: {}", missed.len(), bugs.len(), missed.join("; "));
    }
    println!("all {} planted bugs were found", bugs.len());
    Ok(())
}

/// One place in the sources that is made wrong.
struct Bug {
    what: &'static str,
    /// In `agent/src/reassembly`.
    file: &'static str,
    /// Stands there exactly once.
    right: &'static str,
    wrong: &'static str,
}

impl Bug {
    fn is_found(&self, copy: &Path) -> Result<bool> {
        interrupt::check()?;
        let file = copy.join("agent/src/reassembly").join(self.file);
        let source = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        if source.matches(self.right).count() != 1 {
            bail!("plant \"{}\": {} does not have its line exactly once", self.what, self.file);
        }
        write(&file, &source.replace(self.right, self.wrong))?;
        let verdict = simulate(copy);
        write(&file, &source)?;
        let found = verdict?;
        println!("{} {}", if found { "found " } else { "MISSED" }, self.what);
        Ok(found)
    }
}

/// Whether the simulation in `copy` fails.
fn simulate(copy: &Path) -> Result<bool> {
    let mut build = command::cargo();
    build.current_dir(copy).env("CARGO_TARGET_DIR", copy.join("target"));
    build.env("XDPFLOW_SEEDS", SEEDS.to_string());
    build.args(["test", "--profile", "simulation", "--quiet", "--package", "agent", "--test", "simulation"]);
    let mut test = command::cargo();
    test.current_dir(copy).args(build.get_args());
    for (name, value) in build.get_envs() {
        value.map(|value| test.env(name, value));
    }
    let log = copy.join("log");
    if !command::into_log(build.arg("--no-run"), &log, LIMIT)?.success() {
        let text = fs::read_to_string(&log).unwrap_or_default();
        bail!("build the simulation with a planted bug: {}", text.trim());
    }
    let run = command::into_log(test.args(["--", "--exact", "seeds"]), &log, LIMIT);
    // One that never ends has been found as well.
    Ok(!run.is_ok_and(|status| status.success()))
}

fn copy_sources(to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    for name in ["Cargo.toml", "Cargo.lock", "agent", "agent-common", "agent-ebpf", "xtask"] {
        copy(&command::root().join(name), &to.join(name))?;
    }
    Ok(())
}

/// Leaves alone what is there already and equal, so that cargo does not build it again.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let context = || format!("copy {} to {}", from.display(), to.display());
    if from.is_dir() {
        fs::create_dir_all(to).with_context(context)?;
        for entry in fs::read_dir(from).with_context(context)? {
            let name = entry.with_context(context)?.file_name();
            copy(&from.join(&name), &to.join(&name))?;
        }
        return Ok(());
    }
    let ours = fs::read(from).with_context(context)?;
    if fs::read(to).is_ok_and(|known| known == ours) {
        return Ok(());
    }
    fs::write(to, ours).with_context(context)
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("write {}", file.display()))
}

/// Enough for every one of [`BUGS`].
const SEEDS: u64 = 3_000;

/// For a build, and for a run with a bug that makes it slow.
const LIMIT: Duration = Duration::from_secs(900);

const BUGS: &[Bug] = &[
    Bug {
        what: "a keep-alive's octet is data",
        file: "stream/window.rs",
        right: "if piece.len() > 1 || piece.fin {",
        wrong: "if piece.len() > 0 || piece.fin {",
    },
    Bug {
        what: "sequence numbers do not wrap",
        file: "../segment.rs",
        right: "self.0.wrapping_sub(base.0).cast_signed()",
        wrong: "self.0.saturating_sub(base.0).cast_signed()",
    },
    Bug {
        what: "the FIN's position is one too high",
        file: "stream.rs",
        right: "            self.fin = Fin::at(end);\n",
        wrong: "            self.fin = Fin::at(end + 1);\n",
    },
    Bug {
        what: "an empty FIN out of order is forgotten",
        file: "stream.rs",
        right: "if piece.fin && self.fin.offset().is_none() && end >= self.captured_end() {",
        wrong: "if piece.fin && self.fin.offset().is_none() && end >= self.captured_end() && end <= self.edge() {",
    },
    Bug {
        what: "gaps are declared in half the hold",
        file: "stream/hole.rs",
        right: "&& at.after(cx.config.gap_hold) <= cx.now",
        wrong: "&& at.after(cx.config.gap_hold / 2) <= cx.now",
    },
    Bug {
        what: "gaps are declared in twice the hold",
        file: "stream/hole.rs",
        right: "&& at.after(cx.config.gap_hold) <= cx.now",
        wrong: "&& at.after(cx.config.gap_hold * 2) <= cx.now",
    },
    Bug {
        what: "an acknowledged gap reaches to the next segment",
        file: "stream/hole.rs",
        right: "let upto = extra.matured.min(behind);",
        wrong: "let upto = behind;",
    },
    Bug {
        what: "the peer's denial of a hole is not heard",
        file: "stream/hole.rs",
        right: "self.acked < least && extra.last_ack < opened && opened",
        wrong: "self.acked < least && opened",
    },
    Bug {
        what: "no gap timeout",
        file: "stream/hole.rs",
        right: "opened.after(cx.config.gap_timeout) <= cx.now {",
        wrong: "opened.after(cx.config.gap_timeout * 1_000) <= cx.now {",
    },
    Bug {
        what: "ACKs beyond the window are believed",
        file: "stream/hole.rs",
        right: "        let window = window.saturating_add(1);\n        if asked {",
        wrong: "        let window = window.max(1 << 30);\n        if asked {",
    },
    Bug {
        what: "every RST is believed",
        file: "connection.rs",
        right: "answers_syn || stream.may_reset(segment.seq, peer)",
        wrong: "answers_syn || stream.may_reset(segment.seq, peer) || true",
    },
    Bug {
        what: "no RST is believed",
        file: "connection.rs",
        right: "answers_syn || stream.may_reset(segment.seq, peer)",
        wrong: "answers_syn && stream.may_reset(segment.seq, peer)",
    },
    Bug {
        what: "a window's worth of RSTs too many is believed",
        file: "stream/window.rs",
        right: "(0..i64::from(peer.window) << shift)",
        wrong: "(-(1 << 20)..i64::from(peer.window) << shift)",
    },
    Bug {
        what: "reuse is not recognised by a SYN-ACK",
        file: "connection/pending.rs",
        right: "            syn && answers\n",
        wrong: "            false && syn && answers\n",
    },
    Bug {
        what: "a SYN splits a connection at once",
        file: "connection.rs",
        right: "            if self.reset().is_some() {\n                return Outcome::Reused",
        wrong: "            if true {\n                return Outcome::Reused",
    },
    Bug {
        what: "the linger absorbs nothing",
        file: "mod.rs",
        right: "if !syn || same || segment",
        wrong: "if false && !syn || same || segment",
    },
    Bug {
        what: "the linger absorbs a new connection",
        file: "mod.rs",
        right: "if !syn || same || segment",
        wrong: "if true || same || segment",
    },
    Bug {
        what: "late octets count twice",
        file: "stream.rs",
        right: "cx.stats.late += len;",
        wrong: "cx.stats.late += 2 * len;",
    },
    Bug {
        what: "a stream's late octets count twice",
        file: "stream.rs",
        right: "extra.late += len;",
        wrong: "extra.late += 2 * len;",
    },
    Bug {
        what: "late octets do not shrink their gap",
        file: "stream.rs",
        right: "cx.stats.limit_gaps += u64::from(extra.gaps.fill(start, until));",
        wrong: "",
    },
    Bug {
        what: "late octets are duplicates",
        file: "gaps.rs",
        right: "let gap = self.known.get(at).filter(|gap| gap.offset.max(start) < end)?;",
        wrong: "let gap = self.known.get(at).filter(|gap| gap.offset.max(start) + 1 < end)?;",
    },
    Bug {
        what: "duplicates are not counted",
        file: "stream.rs",
        right: "cx.stats.duplicate += octets.len() as u64 - late;",
        wrong: "cx.stats.duplicate += 0;",
    },
    Bug {
        what: "a gap's cause is never the ring",
        file: "stream/hole.rs",
        right: "_ if ring_full => GapCause::RingFull,",
        wrong: "_ if ring_full && false => GapCause::RingFull,",
    },
    Bug {
        what: "what the snaplen cut off was not captured",
        file: "stream.rs",
        right: "            self.skip_to(edge, GapCause::Snaplen, cx);\n        }\n    }\n",
        wrong: "            self.skip_to(edge, GapCause::NotCaptured, cx);\n        }\n    }\n",
    },
    Bug {
        what: "the last copy of queued octets wins",
        file: "assembler.rs",
        right: "if overlap == Overlap::Last && conflict > 0 {",
        wrong: "if conflict > 0 {",
    },
    Bug {
        what: "the first copy of queued octets always wins",
        file: "assembler.rs",
        right: "if overlap == Overlap::Last && conflict > 0 {",
        wrong: "if false {",
    },
    Bug {
        what: "conflicts are not counted",
        file: "stream.rs",
        right: "extra.conflict += inserted.conflict;",
        wrong: "extra.conflict += 0;",
    },
    Bug {
        what: "a stream's queue has no limit",
        file: "stream.rs",
        right: "while let Some(extra) = &self.extra\n            && (extra.assembler.charged()",
        wrong: "while let Some(extra) = &self.extra\n            && false && (extra.assembler.charged()",
    },
    Bug {
        what: "all queues have no limit",
        file: "mod.rs",
        right: "while self.queues.total > self.config.max_total_queue",
        wrong: "while self.queues.total > self.config.max_total_queue * 4",
    },
    Bug {
        what: "half of a stream's queue is its limit",
        file: "stream.rs",
        right: "(extra.assembler.charged() > cx.config.max_stream_queue as usize",
        wrong: "(2 * extra.assembler.charged() > cx.config.max_stream_queue as usize",
    },
    Bug {
        what: "connections are not evicted",
        file: "mod.rs",
        right: "while self.table.len() >= self.config.max_connections.max(1) as usize",
        wrong: "while self.table.len() > self.config.max_connections.max(1) as usize",
    },
    Bug {
        what: "idle connections stay",
        file: "connection.rs",
        right: "if self.last_seen.after(self.idle_timeout(core.config)) <= core.now {",
        wrong: "if false {",
    },
    Bug {
        what: "a half-closed connection has all the time",
        file: "connection.rs",
        right: "            config.fin_timeout\n",
        wrong: "            config.idle_timeout\n",
    },
    Bug {
        what: "an established connection has the time of a handshake",
        file: "connection.rs",
        right: "            config.idle_timeout\n        }\n    }\n}\n",
        wrong: "            config.handshake_timeout\n        }\n    }\n}\n",
    },
    Bug {
        what: "the hold of a pickup is never over",
        file: "stream/hole.rs",
        right: "extra.pickup_since.after(cx.config.pickup_hold) <= cx.now",
        wrong: "extra.pickup_since.after(cx.config.pickup_hold * 1_000_000) <= cx.now",
    },
    Bug {
        what: "there is no hold of a pickup",
        file: "stream/hole.rs",
        right: "extra.pickup_since.after(cx.config.pickup_hold) <= cx.now",
        wrong: "extra.pickup_since <= cx.now",
    },
    Bug {
        what: "a clock step lets timers fire",
        file: "../steady.rs",
        right: "let stepped = passed > step || latest.since(time) > step;",
        wrong: "let stepped = latest.since(time) > step;",
    },
    Bug {
        what: "an RST is final at once",
        file: "connection.rs",
        right: "if since.after(core.config.rst_hold) <= core.now {",
        wrong: "if since <= core.now {",
    },
    Bug {
        what: "octets behind an ignored RST are dropped",
        file: "connection.rs",
        right: "if !self.stream(reverse).held_was_acked(reset.acked[reverse as usize]) {",
        wrong: "if true || !self.stream(reverse).held_was_acked(reset.acked[reverse as usize]) {",
    },
    Bug {
        what: "segments are not counted",
        file: "connection.rs",
        right: "            None => self.count_segment(direction),\n",
        wrong: "            None => if octets(segment) > 0 { self.count_segment(direction) },\n",
    },
    Bug {
        what: "a picked-up connection continues none",
        file: "mod.rs",
        right: "                self.given_up.remove(fingerprint);\n                Some(serial)\n",
        wrong: "                self.given_up.remove(fingerprint);\n                Some(serial).filter(|_| false)\n",
    },
    Bug {
        what: "updates come twice as often",
        file: "connection.rs",
        right: "if self.updated.after(core.config.update_interval) <= core.now {",
        wrong: "if self.updated.after(core.config.update_interval / 2) <= core.now {",
    },
    Bug {
        what: "the end of a stream that was acknowledged is not told",
        file: "stream.rs",
        right: "if !self.is_located() || end <= self.next {",
        wrong: "if !self.is_located() || end <= self.next + 1_000 {",
    },
    Bug {
        what: "data of a SYN is dropped",
        file: "connection.rs",
        right: "octets: segment.payload,",
        wrong: "octets: if syn { &[] } else { segment.payload },",
    },
    Bug {
        what: "a gap's cause is never a fragment",
        file: "stream/hole.rs",
        right: "_ if fragmented => GapCause::Fragment,",
        wrong: "_ if fragmented && false => GapCause::Fragment,",
    },
    Bug {
        what: "a fragment is the cause of every gap before it",
        file: "stream/hole.rs",
        right: "self.fragmented.iter().any(|offset| (start..end).contains(offset));",
        wrong: "self.fragmented.iter().any(|&offset| offset >= start);",
    },
    Bug {
        what: "a frame captured twice is a retransmission",
        file: "twins.rs",
        right: "    twin.is_some()\n",
        wrong: "    twin.is_some() && false\n",
    },
    Bug {
        what: "a retransmission with another identification is a copy",
        file: "twins.rs",
        right: "(len & 0xffff) << 16 | u64::from(id);",
        wrong: "(len & 0xffff) << 16 | u64::from(id & 0);",
    },
    Bug {
        what: "a copy may come a second later",
        file: "twins.rs",
        right: "const WITHIN: u32 = 10_000_000 >> 10;",
        wrong: "const WITHIN: u32 = 1_000_000_000 >> 10;",
    },
    Bug {
        what: "an identification of 0 is one",
        file: "twins.rs",
        right: "segment.ip_id.filter(|&id| id != 0)",
        wrong: "segment.ip_id.filter(|_| true)",
    },
    Bug {
        what: "what the strict checks refuse is not counted",
        file: "connection.rs",
        right: "        core.stats.strict += segment.payload.len() as u64;\n",
        wrong: "",
    },
    Bug {
        what: "the strict checks refuse nothing",
        file: "connection.rs",
        right: "let Err(refusal) = strict.judge(segment, direction, beyond_window, core.config) else",
        wrong: "let Err(refusal) = strict.judge(segment, direction, beyond_window, &Config::default()) else",
    },
    Bug {
        what: "an interface is no part of the key",
        file: "table.rs",
        right: "let interface = if self.interface {",
        wrong: "let interface = if self.interface && false {",
    },
    Bug {
        what: "a VLAN is no part of the key",
        file: "table.rs",
        right: "origin.vlan.filter(|_| self.vlan)",
        wrong: "origin.vlan.filter(|_| self.vlan && false)",
    },
    Bug {
        what: "a VLAN is always part of the key",
        file: "table.rs",
        right: "origin.vlan.filter(|_| self.vlan)",
        wrong: "origin.vlan.filter(|_| self.vlan || true)",
    },
    Bug {
        what: "late octets are counted on their gap once",
        file: "gaps.rs",
        right: "gap.late += octets;",
        wrong: "gap.late = octets;",
    },
    Bug {
        what: "urgent segments count twice",
        file: "stream.rs",
        right: "self.extra.get_or_insert_default().urgent += 1;",
        wrong: "self.extra.get_or_insert_default().urgent += 2;",
    },
    Bug {
        what: "the MSS is read backwards",
        file: "../decode/tcp.rs",
        right: "Some(u16::from_be_bytes([*high, *low]))",
        wrong: "Some(u16::from_be_bytes([*low, *high]))",
    },
    Bug {
        what: "fragments that overlap are joined",
        file: "../decode/fragments.rs",
        right: "if overlaps || contradicts {",
        wrong: "if false && (overlaps || contradicts) {",
    },
    Bug {
        what: "a fragment seen twice drops its datagram",
        file: "../decode/fragments.rs",
        right: "return Inserted::Duplicate;",
        wrong: "return Inserted::Overlap(1);",
    },
    Bug {
        what: "fragments are joined in the wrong order",
        file: "../decode/fragments.rs",
        right: "for piece in self.pieces.values() {",
        wrong: "for piece in self.pieces.values().rev() {",
    },
    Bug {
        what: "fragments wait for ever",
        file: "../decode/fragments.rs",
        right: "expires: self.clock.now().after(self.config.timeout)",
        wrong: "expires: self.clock.now().after(u64::MAX)",
    },
    Bug {
        what: "the note's ACK is ignored",
        file: "connection/accounts.rs",
        right: "        self.handle_withheld(direction.reverse(), note.segments[1], note.peer_ack, heard, false, core);\n",
        wrong: "        self.handle_withheld(direction.reverse(), note.segments[1], None, heard, false, core);\n",
    },
    Bug {
        what: "how far the kernel has counted is ignored",
        file: "connection/accounts.rs",
        right: "            stream.note_reach(reach, segments.wrapping_sub(earlier), window);\n",
        wrong: "            stream.note_reach(reach & 0, segments.wrapping_sub(earlier), window);\n",
    },
    Bug {
        what: "nobody is asked",
        file: "connection/accounts.rs",
        right: "        if !self.has_flow {\n            return;",
        wrong: "        if self.has_flow || !self.has_flow {\n            return;",
    },
    Bug {
        what: "one octet behind the cut-off is delivered",
        file: "stream/wall.rs",
        right: "config.cutoff.unwrap_or(u64::MAX) }",
        wrong: "config.cutoff.map_or(u64::MAX, |octets| octets + 1) }",
    },
    Bug {
        what: "the kernel cuts an octet too early",
        file: "../../../agent-common/src/flow.rs",
        right: "begin as u64 >= orders.cutoff {",
        wrong: "begin as u64 + len >= orders.cutoff {",
    },
    Bug {
        what: "that a connection was shed is told late",
        file: "connection/accounts.rs",
        right: "if note.shed && (!self.has_flow || self.is_own_syn(segment, direction)) {",
        wrong: "if note.shed && self.has_flow {",
    },
    Bug {
        what: "the cause of what was shed is the cut-off",
        file: "stream/wall.rs",
        right: "{ GapCause::Shed } else { GapCause::Cutoff }",
        wrong: "{ GapCause::Cutoff } else { GapCause::Cutoff }",
    },
    Bug {
        what: "what a full ring has cost is not noted",
        file: "connection/accounts.rs",
        right: "            stream.note_lost(lost.wrapping_sub(before));\n",
        wrong: "            _ = before;\n",
    },
    Bug {
        what: "several withheld ACKs have one window",
        file: "connection.rs",
        right: "window.saturating_mul(acks).clamp",
        wrong: "window.saturating_mul(acks.min(1)).clamp",
    },
    Bug {
        what: "bare ACKs are withheld of what no ring has heard of",
        file: "../../../agent-common/src/flow.rs",
        right: "let only_acknowledges = orders.acks && ordinary && announced && ",
        wrong: "let only_acknowledges = orders.acks && ordinary && ",
    },
    Bug {
        what: "the kernel withholds a FIN",
        file: "../../../agent-common/src/flow.rs",
        right: "let passes = control & (control::SYN | control::FIN | control::RST) != 0;",
        wrong: "let passes = control & (control::SYN | control::RST) != 0;",
    },
    Bug {
        what: "what the kernel has heard is no sign of life",
        file: "connection/accounts.rs",
        right: "        self.last_seen = self.last_seen.max(heard);\n",
        wrong: "",
    },
    Bug {
        what: "a SYN does not begin new accounts",
        file: "../../../agent-common/src/flow.rs",
        right: "            *self = Self::NONE;\n",
        wrong: "",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_has_a_place_in_the_sources() {
        let folder = command::root().join("agent/src/reassembly");
        let astray = BUGS.iter().filter(|bug| {
            let source = fs::read_to_string(folder.join(bug.file)).unwrap_or_default();
            source.matches(bug.right).count() != 1
        });
        assert_eq!(astray.map(|bug| bug.what).collect::<Vec<_>>(), [""; 0]);
    }
}
