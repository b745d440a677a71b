//! The other end: what `xdpflow filter` asks of an agent.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow, bail};
use serde_json::Value;

use super::{
    PATIENCE, Request, Status, decode, encode,
    socket::{FOLDER, sockets},
};
use crate::error::{Name, Reason};

/// What the agent at `path` answers, and the line it said it in.
///
/// # Errors
///
/// When there is no agent, and when it refuses.
pub fn ask<T: for<'a> serde::Deserialize<'a>>(path: &Path, request: &Request) -> anyhow::Result<(T, String)> {
    let line = exchange(path, request).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            anyhow!("ask the capture at {}: none runs there (xdpflow filter show lists those that do)", Name(path))
        }
        io::ErrorKind::WouldBlock => anyhow!("ask the capture at {}: it does not answer", Name(path)),
        _ => anyhow!("ask the capture at {}: {}", Name(path), Reason(&error)),
    })?;
    let told = || format!("understand the capture at {}", Name(path));
    let answer: Value = decode(&line).with_context(told)?;
    if let Some(error) = answer.get("error").and_then(Value::as_str) {
        bail!("{error}");
    }
    let text = String::from_utf8(line).with_context(told)?;
    Ok((serde_json::from_value(answer).with_context(told)?, text))
}

/// Where the only agent listens that runs here.
///
/// # Errors
///
/// When there is none, or a choice.
pub fn only_one() -> anyhow::Result<PathBuf> {
    if let Err(error) = fs::read_dir(FOLDER)
        && error.kind() != io::ErrorKind::NotFound
    {
        bail!("look for captures in {FOLDER}: {} (try sudo)", Reason(&error));
    }
    let mut running: Vec<_> =
        sockets(Path::new(FOLDER)).into_iter().filter(|path| UnixStream::connect(path).is_ok()).collect();
    match running.len() {
        0 => bail!("no capture runs whose control socket is in {FOLDER} (try --control PATH for another)"),
        1 => Ok(running.remove(0)),
        count => {
            let list: Vec<_> = running.iter().map(|path| describe(path)).collect();
            bail!("{count} captures run: choose one with --control: {}", list.join(", "))
        }
    }
}

fn describe(path: &Path) -> String {
    match ask::<Status>(path, &Request::Show) {
        Ok((status, _)) => format!("{} ({})", Name(path), status.interfaces.join(" ")),
        Err(_) => Name(path).to_string(),
    }
}

fn exchange(path: &Path, request: &Request) -> io::Result<Vec<u8>> {
    let request = encode(request).map_err(io::Error::other)?;
    let mut stream = UnixStream::connect(path)?;
    // It may wait for others that hang, then take its time itself.
    stream.set_read_timeout(Some(3 * PATIENCE))?;
    stream.set_write_timeout(Some(3 * PATIENCE))?;
    // An agent that has heard enough answers before it has read all.
    let sent = stream.write_all(&request);
    let mut line = Vec::new();
    (&stream).take(ANSWER_MAX).read_to_end(&mut line)?;
    if line.is_empty() {
        sent?;
        return Err(io::Error::other("it ended"));
    }
    Ok(line)
}

/// The arguments of a process are no longer than 6 MiB, and JSON can make six octets of one.
const ANSWER_MAX: u64 = 40 << 20;
