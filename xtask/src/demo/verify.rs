//! Compares what xdpflow wrote with what the endpoints sent and received.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::transcript::{Octets, Transcript};
use crate::output;

pub(crate) struct Verdict {
    /// For each of the transcripts.
    pub(crate) verified: Vec<bool>,
    pub(crate) problems: Vec<String>,
}

/// Both ends kept account: what one sent, the other must have received. Otherwise the demo's own traffic is broken.
pub(crate) fn endpoints_agree(clients: &[Transcript], servers: &[Transcript]) -> Result<(), String> {
    let mut by_endpoints: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for server in servers {
        by_endpoints.entry((server.client, server.server)).or_default().push(server);
    }
    for client in clients {
        let name = format!("{} > {}", client.client, client.server);
        // A port that its server has left may serve a second connection.
        let servers = by_endpoints.entry((client.client, client.server)).or_default();
        match servers.iter().position(|server| server.received == client.sent && server.sent == client.received) {
            Some(position) => servers.remove(position),
            None => match servers.first() {
                None => return Err(format!("{name}: the server knows nothing of it")),
                Some(server) => {
                    return Err(format!(
                        "{name}: the client sent {} octets and received {}, the server received {} and sent {}",
                        client.sent.len, client.received.len, server.received.len, server.sent.len
                    ));
                }
            },
        };
    }
    Ok(())
}

/// Looks for every transcript in the index of `dir`, for its octets in the files, and for anything that belongs to none.
pub(crate) fn output(dir: &Path, transcripts: &[Transcript]) -> Result<Verdict> {
    let mut files: BTreeSet<PathBuf> = output::files(dir)?.into_iter().collect();
    let mut records = read_index(&files)?;
    files.retain(|file| !output::is_index(file));

    let mut verdict = Verdict { verified: Vec::new(), problems: Vec::new() };
    for transcript in transcripts {
        let problems = match records.get_mut(&(transcript.client, transcript.server)).and_then(Vec::pop) {
            None => vec!["no record".to_owned()],
            Some(record) => {
                let mut problems = record.problems();
                for (name, stream, octets) in
                    [("c2s", &record.c2s, &transcript.sent), ("s2c", &record.s2c, &transcript.received)]
                {
                    if let Some(file) = &stream.file {
                        files.remove(&dir.join(file));
                    }
                    problems.extend(stream.problem(dir, octets)?.map(|problem| format!("{name}: {problem}")));
                }
                problems
            }
        };
        verdict.verified.push(problems.is_empty());
        let name = format!("{} > {} ({})", transcript.client, transcript.server, transcript.kind);
        verdict.problems.extend(problems.into_iter().map(|problem| format!("{name}: {problem}")));
    }
    for ((client, server), left) in &records {
        verdict.problems.extend(left.iter().map(|_| format!("{client} > {server}: a record of no connection of ours")));
    }
    verdict.problems.extend(files.iter().map(|file| format!("{}: a file of no record", file.display())));
    Ok(verdict)
}

/// A line of the index, as far as the demo looks at it.
#[derive(Deserialize)]
struct Record {
    event: String,
    client: Endpoint,
    server: Endpoint,
    start: String,
    started: String,
    ended: Option<String>,
    c2s: Stream,
    s2c: Stream,
}

impl Record {
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.started != "handshake" {
            problems.push(format!("started by {}", self.started));
        }
        if self.ended.as_deref() != Some("fin") {
            problems.push(format!("ended by {}", self.ended.as_deref().unwrap_or("nothing")));
        }
        problems
    }
}

#[derive(Deserialize)]
struct Endpoint {
    ip: IpAddr,
    port: u16,
}

impl Endpoint {
    fn address(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }
}

#[derive(Deserialize)]
struct Stream {
    bytes: u64,
    file: Option<PathBuf>,
    gaps: Vec<serde_json::Value>,
    trailing_gap: Option<serde_json::Value>,
}

impl Stream {
    fn problem(&self, dir: &Path, expected: &Octets) -> Result<Option<String>> {
        if !self.gaps.is_empty() {
            return Ok(Some(format!("{} gaps, the first {}", self.gaps.len(), self.gaps[0])));
        }
        if let Some(gap) = &self.trailing_gap {
            return Ok(Some(format!("a gap at its end, {gap}")));
        }
        if self.bytes != expected.len {
            return Ok(Some(format!("{} octets in the record, {} on the wire", self.bytes, expected.len)));
        }
        let written = match &self.file {
            None => Octets::read(io::empty())?,
            Some(file) => {
                let path = dir.join(file);
                let file = match File::open(&path) {
                    Err(error) => return Ok(Some(format!("{}: {error}", path.display()))),
                    Ok(file) => file,
                };
                Octets::read(file).with_context(|| format!("read {}", path.display()))?
            }
        };
        Ok((written != *expected).then(|| {
            format!(
                "{} octets with sha256 {:.16}.., expected {} with {:.16}..",
                written.len, written.sha256, expected.len, expected.sha256
            )
        }))
    }
}

/// Close records by endpoints; the latest first, so that reused endpoints come off the end in order of time.
fn read_index(files: &BTreeSet<PathBuf>) -> Result<BTreeMap<(SocketAddr, SocketAddr), Vec<Record>>> {
    let mut records: BTreeMap<_, Vec<Record>> = BTreeMap::new();
    for path in files.iter().filter(|file| output::is_index(file)) {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        for (number, line) in text.lines().enumerate() {
            let record: Record = serde_json::from_str(line)
                .with_context(|| format!("read line {} of {}", number + 1, path.display()))?;
            if record.event == "close" {
                records.entry((record.client.address(), record.server.address())).or_default().push(record);
            }
        }
    }
    for same in records.values_mut() {
        same.sort_by(|a, b| b.start.cmp(&a.start));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// What `output` says of one connection, after `spoil` did something to what xdpflow wrote.
    fn check(name: &str, spoil: impl FnOnce(&Path, &mut serde_json::Value)) -> Vec<String> {
        let dir = std::env::temp_dir().join(format!("xtask-verify-{}-{name}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("up"), "GET /").unwrap();
        let mut record = serde_json::json!({
            "event": "close", "start": "2026-11-20T07:30:05.123456789Z", "started": "handshake", "ended": "fin",
            "client": { "ip": "fd09::1", "port": 40_000 }, "server": { "ip": "fd09::2", "port": 8080 },
            "c2s": { "bytes": 5, "file": "up", "gaps": [] }, "s2c": { "bytes": 0, "file": null, "gaps": [] },
        });
        spoil(&dir, &mut record);
        writeln!(File::create(dir.join("connections.jsonl")).unwrap(), "{record}").unwrap();
        let verdict = output(&dir, &[transcript("GET /", "")]).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        verdict.problems
    }

    fn transcript(sent: &str, received: &str) -> Transcript {
        Transcript {
            kind: String::new(),
            client: "[fd09::1]:40000".parse().unwrap(),
            server: "[fd09::2]:8080".parse().unwrap(),
            sent: Octets::read(sent.as_bytes()).unwrap(),
            received: Octets::read(received.as_bytes()).unwrap(),
        }
    }

    #[test]
    fn ends_that_saw_the_same_agree_and_a_port_may_serve_twice() {
        let clients = [transcript("GET /", "one"), transcript("GET /", "two")];
        let servers = [transcript("two", "GET /"), transcript("one", "GET /")];
        endpoints_agree(&clients, &servers).unwrap();

        let error = |servers: &[Transcript]| endpoints_agree(&clients, servers).unwrap_err();
        assert!(error(&[]).ends_with("knows nothing of it"));
        assert!(
            error(&servers[..1]).ends_with("the client sent 5 octets and received 3, the server received 5 and sent 3")
        );
    }

    #[test]
    fn what_is_right_passes() {
        assert_eq!(check("right", |_, _| ()), [""; 0]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        type Spoil = fn(&Path, &mut serde_json::Value);
        let cases: [(&str, Spoil); 9] = [
            ("expected 5 with", |dir, _| fs::write(dir.join("up"), "GET !").unwrap()),
            ("No such file", |dir, _| fs::remove_file(dir.join("up")).unwrap()),
            ("a file of no record", |dir, _| fs::write(dir.join("other"), "").unwrap()),
            ("4 octets in the record", |_, record| record["c2s"]["bytes"] = 4.into()),
            ("1 gaps", |_, record| record["s2c"]["gaps"] = serde_json::json!([{ "offset": 0, "len": 1 }])),
            ("a gap at its end", |_, record| {
                record["c2s"]["trailing_gap"] = serde_json::json!({ "offset": 5, "len": 1 })
            }),
            ("started by midstream", |_, record| record["started"] = "midstream".into()),
            ("ended by rst", |_, record| record["ended"] = "rst".into()),
            ("a record of no connection", |_, record| record["client"]["port"] = 40_001.into()),
        ];
        for (number, (problem, spoil)) in cases.into_iter().enumerate() {
            let problems = check(&format!("wrong{number}"), spoil);
            assert!(problems.iter().any(|found| found.contains(problem)), "{problem}: {problems:?}");
        }
    }
}
