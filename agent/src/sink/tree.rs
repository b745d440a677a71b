//! Files and folders below the directory.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};

use crate::{
    reassembly::Direction,
    sink::{
        Output,
        handles::{Handles, Key},
        name::Namer,
        record::Identity,
    },
};

/// Folder of the streams that still grow.
pub(super) const OPEN: &str = "open/";

/// Makes, opens and moves the files of streams. Paths that it takes and gives are relative to the directory.
pub(super) struct Tree {
    dir: PathBuf,
    namer: Namer,
    /// What makes a name unique that is taken: run and shard.
    suffix: String,
    sync: bool,
    names_taken: u64,
    /// Files that grow.
    pub(super) handles: Handles,
}

/// What a new file is for, and where it is made.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// A stream that grows: in `open/`.
    Open,
    /// A stream that is complete: where it stays.
    Folder,
}

/// A direction of a connection, and how many connections on the same endpoints have had files before it.
#[derive(Clone, Copy)]
pub(super) struct Stream<'a> {
    pub(super) identity: &'a Identity,
    pub(super) direction: Direction,
    pub(super) number: u32,
}

impl Stream<'_> {
    pub(super) const fn key(&self) -> Key {
        (self.identity.serial, self.direction)
    }
}

impl Tree {
    pub(super) fn new(output: &Output, shard: u32, handles: Handles) -> Self {
        Self {
            dir: output.dir.clone(),
            namer: Namer::new(output.names, output.clock),
            suffix: format!(".{}-{shard}", output.run),
            sync: output.sync,
            names_taken: 0,
            handles,
        }
    }

    /// [`Stream::number`] of a connection that gets its first file.
    pub(super) fn number(&mut self, identity: &Identity) -> u32 {
        self.namer.number(identity)
    }

    pub(super) fn names_taken(&self) -> u64 {
        self.names_taken
    }

    /// Makes the file of a stream.
    pub(super) fn create(&mut self, stream: Stream<'_>, place: Place) -> io::Result<(File, String)> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        self.claim(stream, place, |tree, path| tree.handles.make_room(|| options.open(path)))
    }

    /// Opens the file of a stream again.
    pub(super) fn open(&mut self, path: &str) -> io::Result<File> {
        let path = self.dir.join(path);
        self.handles.make_room(|| OpenOptions::new().write(true).open(&path))
    }

    /// Moves a file that grew to where it stays.
    pub(super) fn settle(&mut self, stream: Stream<'_>, path: &str) -> io::Result<String> {
        let from = self.dir.join(path);
        let ((), path) = self.claim(stream, Place::Folder, |_, to| rename_new(&from, to))?;
        Ok(path)
    }

    pub(super) fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.dir.join(path))
    }

    /// Makes the name of a file survive a power loss.
    pub(super) fn sync(&self, path: &str) -> io::Result<()> {
        sync_folder(&self.dir, path)
    }

    /// Has `make` make something under the name of a stream, which it must not do when the name is taken. That costs one
    /// more call at most, for a name that nothing else has.
    fn claim<T>(
        &mut self,
        stream: Stream<'_>,
        place: Place,
        make: impl Fn(&mut Self, &Path) -> io::Result<T>,
    ) -> io::Result<(T, String)> {
        let make = |tree: &mut Self, path: &str| {
            let full = tree.dir.join(path);
            match make(tree, &full) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    make_folders(&tree.dir, path, tree.sync)?;
                    make(tree, &full)
                }
                result => result,
            }
        };
        let mut path = match place {
            Place::Open => OPEN.to_owned(),
            Place::Folder => self.namer.folder(stream.identity),
        };
        path += &self.namer.name(stream.identity, stream.number, stream.direction);
        match make(self, &path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                self.names_taken += 1;
                path += &format!("{}-{}", self.suffix, stream.identity.serial);
                Ok((make(self, &path)?, path))
            }
            result => Ok((result?, path)),
        }
    }
}

/// Renames a file unless the new name is taken.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // NFS does not know the flag. A link is never made over a name, either. (A rename over an empty file would do
        // everywhere, but ext4 then starts to write the file out before it returns, auto_da_alloc in ext4(5).)
        Err(Errno::INVAL | Errno::NOSYS) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        result => Ok(result?),
    }
}

/// Makes the folders that `path` names below `dir`, but not `dir`: that it is gone is an error.
fn make_folders(dir: &Path, path: &str, sync: bool) -> io::Result<()> {
    for (end, _) in path.match_indices('/') {
        let folder = &path[..end];
        match DirBuilder::new().mode(0o700).create(dir.join(folder)) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            Ok(()) if sync => sync_folder(dir, folder)?,
            _ => {}
        }
    }
    Ok(())
}

fn sync_folder(dir: &Path, path: &str) -> io::Result<()> {
    let folder = path.rfind('/').map_or("", |end| &path[..end]);
    File::open(dir.join(folder))?.sync_all()
}
