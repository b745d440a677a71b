//! Attaching and detaching: XDP or tc for what is received, tc for what is sent.

use std::{fmt, io};

use agent_common::frame::LinkType;
use anyhow::{Context as _, Result, anyhow, bail};
use aya::{
    maps::{Array, MapData, MapInfo},
    programs::{
        LinkOrder, ProgramError, ProgramInfo, SchedClassifier, Xdp, XdpMode,
        links::FdLink,
        loaded_programs,
        tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcAttachType, qdisc_add_clsact, qdisc_detach_program},
    },
};
use rustix::io::Errno;

use super::{HEARTBEAT_AGE_MAX, Kernel, NOT_PERMITTED, errno, reason};
use crate::{
    interface::{self, Interface, Receive},
    netlink,
};

/// `--attach`: how frames are received.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Attach {
    /// Native XDP on hardware whose driver takes it well, tc elsewhere.
    #[default]
    Auto,
    /// XDP in the driver.
    Native,
    /// XDP in the stack: any driver, but every frame is made linear first.
    Generic,
    /// tc ingress.
    Tc,
}

/// `--direction`: which frames are captured.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Direction {
    Rx,
    Tx,
    #[default]
    Both,
}

/// What was attached to an interface. Displays as `eth0: native XDP rx + tcx tx`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attachment {
    pub interface: String,
    pub rx: Option<Hook>,
    pub tx: Option<Hook>,
    /// Why frames are received in this way, when it was ours to choose.
    pub reason: Option<String>,
}

/// A place in the kernel where a program hangs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Hook {
    Native,
    Generic,
    Tcx,
    Clsact,
}

/// Something to detach.
#[derive(Debug)]
pub(super) struct Attached {
    interface: String,
    index: u32,
    /// Already reported as gone.
    gone: bool,
    links: Vec<Link>,
}

impl Kernel {
    /// Attaches to one interface. `number` is what its records call it. Never replaces a program of someone else.
    pub fn attach(
        &mut self,
        number: u16,
        interface: &Interface,
        mode: Attach,
        direction: Direction,
    ) -> Result<Attachment> {
        let link_type = interface.link_type()?;
        self.set_number(interface.index, number)?;
        let name = &interface.name;
        let mut attached = Attached { interface: name.clone(), index: interface.index, gone: false, links: Vec::new() };
        let attachment = self.hang(interface, link_type, mode, direction, &mut attached.links);
        // Also when it failed half way, so that detaching undoes the first half.
        self.attached.push(attached);
        attachment
    }

    /// Detaches everything and waits for the programs that are still running: what they wrote is in the rings then, and
    /// the counters have their last values.
    pub fn detach(&mut self) -> Result<()> {
        let mut result = Ok(());
        for attached in self.attached.drain(..) {
            let interface = attached.interface;
            // The qdisc goes with the link that made it, the first.
            for link in attached.links.into_iter().rev() {
                // What vanished with its interface is detached.
                if let Err(error) = link.detach()
                    && errno(&*error) != Some(Errno::NODEV)
                {
                    result = Err(anyhow!("detach from {interface}: {}", reason(&*error)));
                }
            }
        }
        self.wait_for_programs()?;
        result
    }

    /// Names of interfaces that have disappeared since the last call.
    pub fn gone(&mut self) -> Result<Vec<String>> {
        let present = self.attached.iter().filter(|attached| !attached.gone).map(|attached| attached.index);
        let gone = interface::gone(present).context("look for the interfaces")?;
        let mut names = Vec::new();
        for attached in &mut self.attached {
            if !attached.gone && gone.contains(&attached.index) {
                attached.gone = true;
                names.push(attached.interface.clone());
            }
        }
        Ok(names)
    }

    fn hang(
        &mut self,
        interface: &Interface,
        link_type: LinkType,
        mode: Attach,
        direction: Direction,
        links: &mut Vec<Link>,
    ) -> Result<Attachment> {
        let mut attachment = Attachment { interface: interface.name.clone(), rx: None, tx: None, reason: None };
        if direction != Direction::Tx {
            let (hook, link, reason) = self.attach_rx(interface, link_type, mode)?;
            links.push(link);
            attachment.rx = Some(hook);
            attachment.reason = reason;
        }
        // What leaves through the loopback comes in again at once.
        if direction == Direction::Tx || direction == Direction::Both && !interface.is_loopback() {
            let (hook, link) = self.attach_tc(interface, link_type, TcAttachType::Egress)?;
            links.push(link);
            attachment.tx = Some(hook);
        }
        Ok(attachment)
    }

    fn attach_rx(
        &mut self,
        interface: &Interface,
        link_type: LinkType,
        mode: Attach,
    ) -> Result<(Hook, Link, Option<String>)> {
        let tc = |kernel: &mut Self| kernel.attach_tc(interface, link_type, TcAttachType::Ingress);
        match mode {
            Attach::Native => {
                self.attach_xdp(interface, link_type, XdpMode::Driver).map(|link| (Hook::Native, link, None))
            }
            Attach::Generic => {
                self.attach_xdp(interface, link_type, XdpMode::Skb).map(|link| (Hook::Generic, link, None))
            }
            Attach::Tc => tc(self).map(|(hook, link)| (hook, link, None)),
            Attach::Auto => {
                let (receive, mut reason) = interface.auto();
                if receive == Receive::Native {
                    match self.attach_xdp(interface, link_type, XdpMode::Driver) {
                        Ok(link) => return Ok((Hook::Native, link, Some(reason))),
                        Err(error) => reason = error.to_string(),
                    }
                }
                tc(self).map(|(hook, link)| (hook, link, Some(reason)))
            }
        }
    }

    fn attach_xdp(&mut self, interface: &Interface, link_type: LinkType, mode: XdpMode) -> Result<Link> {
        let name = &interface.name;
        let mode_name = if mode == XdpMode::Driver { "native" } else { "generic" };
        let program: &mut Xdp =
            self.program(if link_type == LinkType::ETHERNET { "xdpflow_xdp" } else { "xdpflow_xdp_ip" })?;
        if program.fd().is_err() {
            program.load().map_err(|error| loading("XDP", &error))?;
        }
        let attached = program.attach_to_if_index(interface.index, mode).and_then(|id| program.take_link(id));
        let link = match attached {
            Ok(link) => link,
            Err(error) => {
                // Someone may have come between the list of interfaces and us.
                let foreign = Interface::find(name).ok().and_then(|interface| interface.xdp);
                let hint = if mode == XdpMode::Driver { "--attach generic" } else { "--attach tc" };
                match (errno(&error), foreign) {
                    (Some(Errno::BUSY | Errno::EXIST), Some(program)) => {
                        bail!(
                            "attach XDP to {name} in {mode_name} mode: XDP program {program} is attached to it (try --attach tc)"
                        )
                    }
                    _ => bail!("attach XDP to {name} in {mode_name} mode: {} (try {hint})", reason(&error)),
                }
            }
        };
        // Where links are refused aya goes by netlink, which would outlive us; dropping that link undoes it.
        let link: FdLink = link.try_into().map_err(|_| {
            anyhow!("attach XDP to {name} in {mode_name} mode: the kernel refuses a link (try --attach tc)")
        })?;
        Ok(Link::Fd(link))
    }

    fn attach_tc(
        &mut self,
        interface: &Interface,
        link_type: LinkType,
        direction: TcAttachType,
    ) -> Result<(Hook, Link)> {
        let (clsact, sweep) = (self.clsact, self.sweep);
        let name = &interface.name;
        let program_name = match (direction, link_type) {
            (TcAttachType::Egress, LinkType::ETHERNET) => "xdpflow_tx",
            (TcAttachType::Egress, _) => "xdpflow_tx_ip",
            (_, LinkType::ETHERNET) => "xdpflow_rx",
            (_, _) => "xdpflow_rx_ip",
        };
        let side = if direction == TcAttachType::Egress { "egress" } else { "ingress" };
        let program: &mut SchedClassifier = self.program(program_name)?;
        if program.fd().is_err() {
            program.load().map_err(|error| loading("tc", &error))?;
        }
        let (hook, options, made) = if clsact {
            if sweep {
                // Nothing of that name there is the usual case.
                let _ = qdisc_detach_program(name, direction, program_name);
            }
            let made = match qdisc_add_clsact(name) {
                Ok(()) => true,
                Err(error) if errno(&error) == Some(Errno::EXIST) => false,
                Err(error) => bail!("add a clsact qdisc to {name}: {}", reason(&error)),
            };
            (Hook::Clsact, TcAttachOptions::Netlink(NlOptions { priority: 1, ..NlOptions::default() }), made)
        } else {
            // First, since a program that decides ends the chain; ours only passes on.
            (Hook::Tcx, TcAttachOptions::TcxOrder(LinkOrder::first()), false)
        };
        let link = program
            .attach_with_options(name, direction, options)
            .and_then(|id| program.take_link(id))
            .map_err(|error| anyhow!("attach tc {side} to {name}: {}", reason(&error)))?;
        Ok((
            hook,
            if clsact { Link::Filter { link, index: interface.index, made } } else { Link::Fd(link.try_into()?) },
        ))
    }

    fn program<'a, T>(&'a mut self, name: &str) -> Result<&'a mut T>
    where
        &'a mut T: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
    {
        let program = self.ebpf.program_mut(name);
        Ok(program.with_context(|| format!("load the eBPF half: it has no program {name}"))?.try_into()?)
    }
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.interface)?;
        match (self.rx, self.tx) {
            (Some(rx), Some(tx)) => write!(f, "{rx} rx + {tx} tx"),
            (Some(rx), None) => write!(f, "{rx} rx"),
            (None, Some(tx)) => write!(f, "{tx} tx"),
            (None, None) => f.write_str("nothing"),
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native XDP",
            Self::Generic => "generic XDP",
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        })
    }
}

/// What keeps a program attached.
#[derive(Debug)]
enum Link {
    /// Ends with its descriptor, and so with the process.
    Fd(FdLink),
    /// Stays until it is removed.
    Filter {
        link: SchedClassifierLink,
        index: u32,
        /// Whether the qdisc is ours.
        made: bool,
    },
}

impl Link {
    fn detach(self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        use aya::programs::links::Link as _;
        match self {
            Self::Fd(link) => Ok(link.detach()?),
            Self::Filter { link, index, made } => {
                link.detach()?;
                if made && !has_filters(index)? {
                    netlink::change(netlink::RTM_DELQDISC, &tc_message(index, CLSACT_HANDLE, CLSACT))?;
                }
                Ok(())
            }
        }
    }
}

/// Whether anybody's filter hangs on the interface's clsact qdisc.
fn has_filters(index: u32) -> io::Result<bool> {
    for parent in [CLSACT_INGRESS, CLSACT_EGRESS] {
        let request = tc_message(index, 0, parent);
        if !netlink::dump(netlink::RTM_GETTFILTER, &request, netlink::RTM_NEWTFILTER)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `struct tcmsg`.
fn tc_message(index: u32, handle: u32, parent: u32) -> [u8; 20] {
    let words = [0, index, handle, parent, 0].map(u32::to_ne_bytes);
    bytemuck::cast(words)
}

/// Whether every kernel half of this name that is loaded has lost its agent, so that a filter that carries our name is
/// a leftover. An agent writes its heartbeat before it attaches, and then every second. One that we may not ask about
/// (that takes CAP_SYS_ADMIN) lives.
pub(super) fn no_agent_lives(now: u64) -> bool {
    loaded_programs().all(|program| {
        let Ok(program) = program else { return false };
        let ours =
            program.name_as_str().is_some_and(|name| name.starts_with("xdpflow_rx") || name.starts_with("xdpflow_tx"));
        !ours || heartbeat(&program).is_some_and(|beat| now.saturating_sub(beat) > HEARTBEAT_AGE_MAX)
    })
}

/// When the agent that loaded `program` last showed that it lives.
fn heartbeat(program: &ProgramInfo) -> Option<u64> {
    let maps = program.map_ids().ok().flatten()?;
    let id =
        maps.into_iter().find(|&id| MapInfo::from_id(id).is_ok_and(|map| map.name_as_str() == Some("HEARTBEAT")))?;
    let map = aya::maps::Map::Array(MapData::from_id(id).ok()?);
    Array::<_, u64>::try_from(map).ok()?.get(&0, 0).ok()
}

fn loading(what: &str, error: &ProgramError) -> anyhow::Error {
    if let ProgramError::LoadError { io_error, verifier_log } = error {
        let log = verifier_log.to_string();
        // The reason comes last, but for what the verifier says about itself.
        let statistics = ["processed ", "stack depth ", "verification time "];
        let last = log
            .lines()
            .rfind(|line| !statistics.iter().any(|start| line.starts_with(start)) && !line.trim().is_empty());
        return match last {
            Some(line) if line.ends_with("for !root") => anyhow!("load the {what} programs: {NOT_PERMITTED}"),
            Some(line) => anyhow!("load the {what} programs: {}: {line}", reason(io_error)),
            None => anyhow!("load the {what} programs: {}", reason(io_error)),
        };
    }
    anyhow!("load the {what} programs: {}", reason(error))
}

/// Of include/uapi/linux/pkt_sched.h.
const CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const CLSACT_INGRESS: u32 = 0xffff_fff2;
const CLSACT_EGRESS: u32 = 0xffff_fff3;
