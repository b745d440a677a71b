//! The real binary between real sockets, in network namespaces. Needs root, and touches nothing outside its own
//! namespaces and its own folders below target/tmp and /dev/shm.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world fails there")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is a program that reports to a person")]

mod capture;
mod chance;
mod conversation;
mod deadline;
mod disk;
mod foreign;
mod handmade;
mod link;
mod namespace;
mod packet;
mod record;
mod recording;
mod runner;

mod attach;
mod control;
mod cutoff;
mod filter;
mod interface;
mod lifecycle;
mod loss;
mod overload;
mod select;
mod tunnel;
mod usage;
mod withheld;

use std::process::ExitCode;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::Uid;

fn main() -> ExitCode {
    let options = match runner::Options::from_args() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    if Uid::effective().is_root() {
        // File systems mounted from here on vanish with this process.
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        // Control sockets of our captures, and of no others.
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=0755")).unwrap();
    }
    runner::run(
        &options,
        &[
            attach::TESTS,
            control::TESTS,
            cutoff::TESTS,
            interface::TESTS,
            filter::TESTS,
            lifecycle::TESTS,
            loss::TESTS,
            overload::TESTS,
            select::TESTS,
            tunnel::TESTS,
            usage::TESTS,
            withheld::TESTS,
        ],
    )
}
