//! The least that a replay can cost: what the kernel takes for reading and writing the same octets.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::workload::Manifest;

/// Reads a capture, and writes files as long as its streams
#[derive(clap::Args)]
pub(crate) struct Args {
    capture: PathBuf,
    /// Lengths of files, a line each
    lengths: Option<PathBuf>,
    /// Where they are written
    output: Option<PathBuf>,
}

/// In a process of its own, so that it is measured like all others.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut buffer = vec![0; WRITE];
    let mut file = open(&args.capture)?;
    while file.read(&mut buffer[..READ]).with_context(|| format!("read {}", args.capture.display()))? > 0 {}
    let (Some(lengths), Some(output)) = (&args.lengths, &args.output) else { return Ok(()) };
    for (number, line) in fs::read_to_string(lengths)?.lines().enumerate() {
        let mut len: usize = line.parse().context("a length")?;
        let path = output.join(number.to_string());
        let mut file = File::create(&path).with_context(|| format!("write {}", path.display()))?;
        while len > 0 {
            let part = len.min(WRITE);
            file.write_all(&buffer[..part])?;
            len -= part;
        }
    }
    Ok(())
}

pub(super) fn write_lengths(manifest: &Manifest, path: &Path) -> Result<()> {
    let lengths: String = manifest.lengths().map(|len| format!("{len}\n")).collect();
    fs::write(path, lengths).with_context(|| format!("write {}", path.display()))
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("open {}", path.display()))
}

const READ: usize = 256 << 10;
const WRITE: usize = 1 << 20;
