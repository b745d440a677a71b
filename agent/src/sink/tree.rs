//! Files and folders below the directory.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, linkat, openat, renameat_with},
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
    /// Where something was made last, by [`Place`], with a slash at its end: a name in an open folder is found sooner than
    /// one behind all folders of a path.
    folders: [(String, Option<File>); 2],
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
            folders: Default::default(),
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
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        self.claim(stream, place, |handles, folder, name| {
            handles.make_room(|| Ok(openat(folder, name, flags, Mode::RUSR | Mode::WUSR)?.into()))
        })
    }

    /// Opens the file of a stream again.
    pub(super) fn open(&mut self, path: &str) -> io::Result<File> {
        let path = self.dir.join(path);
        self.handles.make_room(|| OpenOptions::new().write(true).open(&path))
    }

    /// Moves a file that grew to where it stays.
    pub(super) fn settle(&mut self, stream: Stream<'_>, path: &str) -> io::Result<String> {
        let from = self.dir.join(path);
        let ((), path) = self.claim(stream, Place::Folder, |_, folder, name| rename_new(&from, folder, name))?;
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
        make: impl Fn(&mut Handles, &File, &str) -> io::Result<T>,
    ) -> io::Result<(T, String)> {
        let make = |tree: &mut Self, path: &str| {
            let name = path.rfind('/').map_or(path, |end| &path[end + 1..]);
            let made = tree.enter(place, path).and_then(|(handles, folder)| make(handles, folder, name));
            match made {
                // An open folder may be gone as well.
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    tree.folders[place as usize].1 = None;
                    make_folders(&tree.dir, path, tree.sync)?;
                    let (handles, folder) = tree.enter(place, path)?;
                    make(handles, folder, name)
                }
                result => result,
            }
        };
        let mut path = match place {
            Place::Open => OPEN.to_owned(),
            Place::Folder => self.namer.folder(stream.identity),
        };
        self.namer.name(&mut path, stream.identity, stream.number, stream.direction);
        match make(self, &path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                self.names_taken += 1;
                path += &format!("{}-{}", self.suffix, stream.identity.serial);
                Ok((make(self, &path)?, path))
            }
            result => Ok((result?, path)),
        }
    }

    /// The folder of `path`, open.
    fn enter(&mut self, place: Place, path: &str) -> io::Result<(&mut Handles, &File)> {
        let path = path.rfind('/').map_or("", |end| &path[..=end]);
        let (known, folder) = &mut self.folders[place as usize];
        if known != path {
            *folder = None;
            path.clone_into(known);
        }
        let folder = match folder {
            Some(folder) => folder,
            none => {
                let path = self.dir.join(path);
                none.insert(self.handles.make_room(|| File::open(&path))?)
            }
        };
        Ok((&mut self.handles, folder))
    }
}

/// Renames a file unless the new name in `folder` is taken.
fn rename_new(from: &Path, folder: &File, to: &str) -> io::Result<()> {
    match renameat_with(CWD, from, folder, to, RenameFlags::NOREPLACE) {
        // NFS does not know the flag. A link is never made over a name, either. (A rename over an empty file would do
        // everywhere, but ext4 then starts to write the file out before it returns, auto_da_alloc in ext4(5).)
        Err(Errno::INVAL | Errno::NOSYS) => {
            linkat(CWD, from, folder, to, AtFlags::empty())?;
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
