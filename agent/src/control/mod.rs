//! Asking a capture that runs, and changing its filter: one JSON line each way through a unix socket. README.md has the
//! protocol.

mod client;
mod server;
mod socket;

use std::{collections::BTreeMap, fmt, time::Duration};

use agent_common::filter::Node;
use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

pub use self::{
    client::{ask, only_one},
    server::{Change, Order, What, one_line, read_again, serve},
    socket::Socket,
};
use crate::filter::Filter;

/// Version of the protocol, `v` in every line.
pub const VERSION: u64 = 1;

/// Most octets of a request.
pub const REQUEST_MAX: usize = 64 << 10;

/// Most clients that are served at a time; others wait.
pub const CLIENTS_MAX: usize = 8;

/// How long a client may take to ask, an answer to be found, and the client to read it: each for itself.
pub const PATIENCE: Duration = Duration::from_millis(if cfg!(test) { 1_500 } else { 10_000 });

/// What a client wants.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "do", rename_all = "lowercase")]
pub enum Request {
    Show,
    Set(Words),
}

/// A filter as it was typed.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Words {
    pub words: Vec<String>,
    /// Where it was typed: what relative paths are relative to.
    pub directory: String,
}

/// What words mean.
#[derive(Clone, Debug)]
pub struct Parsed {
    pub filter: Filter,
    /// In plain words, a line for each part.
    pub meaning: String,
    /// A part of it is in files, which may say something else the next time.
    pub reads_files: bool,
}

/// The one parser of words.
pub type Parse = fn(&Words) -> anyhow::Result<Parsed>;

/// What [`Request::Show`] is answered with.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Status {
    pub pid: u32,
    pub interfaces: Vec<String>,
    #[serde(flatten)]
    pub words: Words,
    pub meaning: String,
    #[serde(flatten)]
    pub in_force: InForce,
    /// Since when; RFC 3339, UTC.
    pub since: String,
    /// How often the filter was changed.
    pub changes: u64,
    pub snaplen: u32,
    pub decap: Vec<String>,
    /// The kernel's, by name, since the capture began.
    pub counters: BTreeMap<String, u64>,
    /// Of these, what was counted while every frame went by the filter in force.
    pub counters_of_generation: BTreeMap<String, u64>,
}

/// What [`Request::Set`] is answered with: which filter is in force now, and its size.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct InForce {
    pub generation: u32,
    /// Questions that a frame may be asked.
    pub comparisons: usize,
    /// Sets of nets among them, and the nets in these.
    pub sets: u32,
    pub nets: usize,
}

impl InForce {
    pub fn new(generation: u32, filter: &Filter) -> Self {
        let is_used = |node: &&Node| **node != Node::default();
        let (bits, nets) = filter
            .sets
            .iter()
            .filter(|(.., bits)| *bits != 0)
            .fold((0, 0), |(all, nets), (.., bits)| (all | bits, nets + 1));
        Self {
            generation,
            comparisons: filter.graph.nodes.iter().filter(is_used).count(),
            sets: bits.count_ones(),
            nets,
        }
    }
}

/// Of the size alone; the generation stands before it in its own words.
impl fmt::Display for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { comparisons, sets, nets, .. } = *self;
        let plural = |count: u64| if count == 1 { "" } else { "s" };
        write!(f, "{comparisons} comparison{}", plural(comparisons as u64))?;
        if sets > 0 {
            write!(f, ", {sets} set{} of {nets} net{}", plural(sets.into()), plural(nets as u64))?;
        }
        Ok(())
    }
}

/// For a person to read.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, interfaces, words, meaning, in_force, since, changes, snaplen, decap, counters, .. } = self;
        writeln!(f, "capture     process {pid} on {}", interfaces.join(", "))?;
        let flags: Vec<_> = words.words.iter().map(|word| quoted(word)).collect();
        writeln!(f, "filter      {}", if flags.is_empty() { "none: all TCP".to_owned() } else { flags.join(" ") })?;
        writeln!(f, "size        {in_force}")?;
        writeln!(f, "generation  {}, changed {changes} times, this one since {since}", in_force.generation)?;
        if *snaplen > 0 {
            writeln!(f, "snaplen     {snaplen}")?;
        }
        if !decap.is_empty() {
            writeln!(f, "tunnels     {}", decap.join(", "))?;
        }
        let list = |counters: &BTreeMap<String, u64>| {
            counters.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
        };
        writeln!(f, "counters    {}", list(counters))?;
        if *changes > 0 {
            writeln!(f, "            of generation {}: {}", in_force.generation, list(&self.counters_of_generation))?;
        }
        write!(f, "\n{}", meaning.trim_end())
    }
}

/// A word as a shell takes it, on one line.
fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_=+./:,@%".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let word = word.replace('\'', r"'\''");
    format!("'{}'", word.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect::<String>())
}

/// A line of either kind.
#[derive(Deserialize, Serialize)]
struct Versioned<T> {
    v: u64,
    #[serde(flatten)]
    content: T,
}

/// An answer that is none.
#[derive(Deserialize, Serialize)]
struct Refusal {
    error: String,
}

/// A line with its end.
fn encode(content: impl Serialize) -> anyhow::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(&Versioned { v: VERSION, content }).context("write a line")?;
    line.push(b'\n');
    Ok(line)
}

/// What a line says, of whichever kind it is. Fields that are not known mean nothing.
fn decode<T: for<'a> Deserialize<'a>>(line: &[u8]) -> anyhow::Result<T> {
    let value: serde_json::Value = serde_json::from_slice(line).context("not a line of JSON")?;
    let version = value.get("v").and_then(serde_json::Value::as_u64);
    let version = version.context("no version (v) in it")?;
    ensure!(version == VERSION, "version {version}, and this xdpflow speaks {VERSION}");
    Ok(serde_json::from_value(value)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_what_the_readme_says() {
        let set = Request::Set(Words { words: vec!["--port".into(), "443".into()], directory: "/root".into() });
        for (request, line) in [
            (Request::Show, "{\"v\":1,\"do\":\"show\"}\n"),
            (set, "{\"v\":1,\"do\":\"set\",\"words\":[\"--port\",\"443\"],\"directory\":\"/root\"}\n"),
        ] {
            assert_eq!(String::from_utf8(encode(&request).unwrap()).unwrap(), line);
            assert_eq!(decode::<Request>(line.as_bytes()).unwrap(), request);
            assert!(include_str!("../../../README.md").contains(line.trim_end()), "{line}");
        }
        // Later versions add fields.
        assert_eq!(decode::<Request>(br#"{"v":1,"do":"show","colour":true}"#).unwrap(), Request::Show);
    }

    #[test]
    fn what_is_no_request_is_named() {
        for (line, error) in [
            ("", "not a line of JSON"),
            ("show", "not a line of JSON"),
            ("{\"do\":\"show\"}", "no version (v) in it"),
            ("{\"v\":\"1\",\"do\":\"show\"}", "no version (v) in it"),
            ("{\"v\":2,\"do\":\"show\"}", "version 2, and this xdpflow speaks 1"),
            ("{\"v\":1}", "missing field `do`"),
            ("{\"v\":1,\"do\":\"stop\"}", "unknown variant `stop`, expected `show` or `set`"),
            ("{\"v\":1,\"do\":\"set\"}", "missing field `words`"),
            ("[1]", "no version (v) in it"),
        ] {
            assert_eq!(decode::<Request>(line.as_bytes()).unwrap_err().to_string(), error, "{line}");
        }
        let deep = "[".repeat(REQUEST_MAX);
        assert_eq!(decode::<Request>(deep.as_bytes()).unwrap_err().to_string(), "not a line of JSON");
    }

    #[test]
    fn a_size_counts_what_is_used() {
        use crate::filter::{End, Expression, Set, Test, compile};
        use agent_common::tunnel::Tunnels;

        assert_eq!(InForce::new(1, &Filter::everything()).to_string(), "0 comparisons");
        let port = |port| Expression::Test(Test::Ports(End::Either, port, port));
        let nets = ["10.0.0.0/8", "192.0.2.0/24"].map(|net| net.parse().unwrap()).to_vec();
        let set = Expression::Test(Test::Set(End::Either, Set { name: "mine".into(), nets }.into()));
        let filter = compile(&Expression::Or(vec![port(1), port(2), set]), 0, Tunnels::NONE).unwrap();
        let size = InForce::new(7, &filter);
        assert_eq!((size.generation, size.sets, size.nets), (7, 1, 2));
        assert!(size.to_string().ends_with(" comparisons, 1 set of 2 nets"), "{size}");
    }
}
