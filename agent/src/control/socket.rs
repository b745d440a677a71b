//! The socket of an agent: where it is, whose it is, and that it goes away.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::{
        fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    process,
};

use anyhow::{Context as _, anyhow, bail, ensure};
use rustix::{
    fs::{FlockOperation, Mode, fchmod, flock},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with},
};
use tokio::net::{UnixListener, UnixStream as Stream};

use crate::error::{Name, Reason};

/// Listens; nobody but the owner may connect. Dropping it removes it.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// What we made, so that nothing else is removed.
    identity: (u64, u64),
}

/// Where sockets are when the user names no other place: `PID.sock` in here.
pub(super) const FOLDER: &str = "/run/xdpflow";

impl Socket {
    /// Below `/run/xdpflow`, which is made when it is not there. What agents that were killed have left in there is
    /// removed.
    ///
    /// # Errors
    ///
    /// When the folder cannot be made, or is not ours alone.
    pub fn in_folder() -> anyhow::Result<Self> {
        Self::below(Path::new(FOLDER))
    }

    /// At `path`. What an agent that was killed has left there is replaced.
    ///
    /// # Errors
    ///
    /// When an agent listens there, when something else is there, and when the system refuses.
    pub fn bind(path: &Path) -> anyhow::Result<Self> {
        Self::try_bind(path).with_context(|| format!("make the control socket {}", Name(path)))
    }

    /// The next client.
    pub(super) async fn accept(&self) -> io::Result<Stream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn below(folder: &Path) -> anyhow::Result<Self> {
        let name = format!("make the folder {}", Name(folder));
        match DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => bail!("{name}: {}", Reason(&error)),
            _ => {}
        }
        let metadata = fs::symlink_metadata(folder).map_err(|error| anyhow!("{name}: {}", Reason(&error)))?;
        let ours = metadata.is_dir()
            && metadata.uid() == rustix::process::geteuid().as_raw()
            && metadata.mode().trailing_zeros() >= 6;
        ensure!(ours, "{name}: what is there is not a folder that is open to this user alone (mode 0700)");
        for path in sockets(folder) {
            // Whatever cannot be removed is none the worse for it.
            let _ = Lock::of(folder).map(|_lock| remove_stale(&path));
        }
        Self::bind(&folder.join(format!("{}.sock", process::id())))
    }

    fn try_bind(path: &Path) -> anyhow::Result<Self> {
        let address =
            SocketAddrUnix::new(path).map_err(|_| anyhow!("the path is longer than a socket's may be (107)"))?;
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        // Held until we listen: between a look at what is there and its removal nobody else may have replaced it.
        let _lock = Lock::of(folder)?;
        remove_stale(path)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(refused)?;
        // Before it has a name, which it gets with this mode (unix_bind_bsd, net/unix/af_unix.c): there is no moment at
        // which others could connect.
        fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(refused)?;
        bind(&socket, &address).map_err(refused)?;
        listen(&socket, BACKLOG).map_err(refused)?;
        let metadata = fs::symlink_metadata(path).map_err(|error| anyhow!("{}", Reason(&error)))?;
        let listener = UnixListener::from_std(socket.into())?;
        Ok(Self { listener, path: path.to_owned(), identity: (metadata.dev(), metadata.ino()) })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // One that somebody has put in its place stays. Nothing can be done about an error.
        if fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The sockets in `folder`, of living agents and of dead ones.
pub(super) fn sockets(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut sockets: Vec<_> =
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|it| it == "sock")).collect();
    sockets.sort();
    sockets
}

/// A folder, locked as long as this lives. Nothing is left of the lock.
struct Lock(#[expect(dead_code, reason = "the lock goes with its file")] File);

impl Lock {
    /// Does not wait: in a folder that anybody may write to, anybody may hold it for ever.
    fn of(folder: &Path) -> anyhow::Result<Self> {
        let file = File::open(folder).map_err(|error| anyhow!("{}: {}", Name(folder), Reason(&error)))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self(file)),
            Err(Errno::WOULDBLOCK) => {
                bail!("{} is locked: another capture is just starting there (try again)", Name(folder))
            }
            Err(error) => Err(refused(error)),
        }
    }
}

/// Makes room at `path` if all that is there is the socket of an agent that is dead.
fn remove_stale(path: &Path) -> anyhow::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => bail!("{}", Reason(&error)),
    };
    ensure!(metadata.file_type().is_socket(), "something else is there, and stays");
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| anyhow!("remove what a dead agent has left: {}", Reason(&error)))
        }
        Err(error) => bail!("{}", Reason(&error)),
        Ok(_) => bail!("another agent listens there (try another --control, or xdpflow filter show)"),
    }
}

/// Clients that wait to be served.
const BACKLOG: i32 = 16;

fn refused(error: Errno) -> anyhow::Error {
    anyhow!("{}", Reason(&error.into()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::PermissionsExt as _, net::UnixListener as StdListener};

    use super::*;

    fn folder(test: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("xdpflow-socket-{test}-{}", process::id()));
        let _ = fs::remove_dir_all(&folder);
        DirBuilder::new().mode(0o700).create(&folder).unwrap();
        folder
    }

    #[tokio::test]
    async fn nobody_else_may_connect_and_nothing_is_left() {
        let folder = folder("mode");
        let path = folder.join("s");
        let socket = Socket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let error = format!("{:#}", Socket::bind(&path).unwrap_err());
        assert!(error.contains("another agent listens there"), "{error}");
        drop(socket);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        fs::remove_dir(&folder).unwrap();
    }

    #[tokio::test]
    async fn what_a_dead_agent_left_is_replaced_and_nothing_else() {
        let folder = folder("stale");
        let path = folder.join("s");
        drop(StdListener::bind(&path).unwrap());
        drop(Socket::bind(&path).unwrap());

        fs::write(&path, "mine").unwrap();
        let error = format!("{:#}", Socket::bind(&path).unwrap_err());
        assert!(error.ends_with("something else is there, and stays"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        fs::remove_file(&path).unwrap();

        let socket = Socket::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "mine").unwrap();
        drop(socket);
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[tokio::test]
    async fn a_folder_is_ours_alone_or_not_used() {
        let folder = folder("folder");
        drop(StdListener::bind(folder.join("1.sock")).unwrap());
        let living = StdListener::bind(folder.join("2.sock")).unwrap();
        let socket = Socket::below(&folder).unwrap();
        assert_eq!(sockets(&folder).len(), 2, "the dead one's is gone");
        drop((socket, living));
        for mode in [0o755, 0o770, 0o701] {
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
            let error = Socket::below(&folder).unwrap_err().to_string();
            assert!(error.contains("(mode 0700)"), "{error}");
        }
        fs::remove_dir_all(&folder).unwrap();
        assert!(Socket::below(Path::new("/proc/xdpflow")).is_err());
        let long = folder.join("x".repeat(108));
        assert!(format!("{:#}", Socket::bind(&long).unwrap_err()).contains("107"));
    }
}
