//! A disk that can be made to stall.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, umount2};

use crate::capture::Scratch;

/// An ext4 file system in a file in memory.
pub(crate) struct Disk {
    mount: PathBuf,
    _scratch: Scratch,
}

impl Disk {
    /// Sparse, so `size` costs what is written.
    pub(crate) fn new(size: &str) -> Self {
        // Its only stalls are those asked for.
        let scratch = Scratch::in_memory();
        let image = scratch.path().join("image");
        let mount = scratch.path().join("disk");
        std::fs::create_dir(&mount).unwrap();
        run("truncate", &[Path::new("-s"), size.as_ref(), &image]);
        run("mkfs.ext4", &["-q".as_ref(), &image]);
        run("mount", &["-o".as_ref(), "loop".as_ref(), &image, &mount]);
        Self { mount, _scratch: scratch }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.mount
    }

    /// Every write from now on blocks in the kernel until the guard is dropped.
    pub(crate) fn freeze(&self) -> Frozen<'_> {
        run("fsfreeze", &["-f".as_ref(), &self.mount]);
        Frozen(self)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(&self.mount, MntFlags::MNT_DETACH);
    }
}

pub(crate) struct Frozen<'a>(&'a Disk);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        run("fsfreeze", &["-u".as_ref(), &self.0.mount]);
    }
}

fn run(program: &str, args: &[&Path]) {
    let output = Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}
