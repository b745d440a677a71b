//! What an interface is, what is attached to it now, and how a capture would attach to it.

use std::{
    fmt, fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use agent_common::frame::LinkType;
use anyhow::{Context as _, Result, bail};
use aya::programs::{SchedClassifier, loaded_programs, tc::TcAttachType};

use crate::netlink;

/// A network interface of the caller's network namespace.
#[derive(Clone, Debug)]
pub struct Interface {
    pub name: String,
    pub index: u32,
    /// ARPHRD_ value: what its frames begin with.
    pub hardware: u16,
    /// Kind of a virtual interface as the kernel names it: `veth`, `vlan`, `wireguard`.
    pub kind: Option<String>,
    /// Driver of a hardware interface.
    pub driver: Option<String>,
    pub mtu: u32,
    pub state: State,
    /// With prefix length.
    pub addresses: Vec<(IpAddr, u8)>,
    /// The XDP program attached now.
    pub xdp: Option<Program>,
    /// The tcx programs attached now, in the order in which they run. Empty without the privilege to ask.
    pub tcx_ingress: Vec<Program>,
    pub tcx_egress: Vec<Program>,
}

/// Operational state (RFC 2863, `operstate`), as far as it matters here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    Up,
    /// Administratively up, with nothing at the other end.
    NoCarrier,
    Down,
}

/// What `xdpflow interfaces` says: a line for the interface, and one for each thing worth knowing.
impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let driver = self.driver.as_deref().or(self.kind.as_deref());
        let driver = driver.unwrap_or_else(|| if self.is_loopback() { "loopback" } else { "unknown" });
        writeln!(f, "{}: {}, mtu {}, driver {driver}", self.name, self.state, self.mtu)?;
        if !self.addresses.is_empty() {
            let addresses: Vec<_> = self.addresses.iter().map(|(ip, prefix)| format!("{ip}/{prefix}")).collect();
            writeln!(f, "    addresses  {}", addresses.join(", "))?;
        }
        let attached: Vec<_> = self
            .xdp
            .iter()
            .map(|program| format!("XDP {program}"))
            .chain(self.tcx_ingress.iter().map(|program| format!("tcx ingress {program}")))
            .chain(self.tcx_egress.iter().map(|program| format!("tcx egress {program}")))
            .collect();
        if !attached.is_empty() {
            writeln!(f, "    attached   {}", attached.join(", "))?;
        }
        if let Err(error) = self.link_type() {
            return writeln!(f, "    auto       cannot be captured on: {}", error.root_cause());
        }
        let (receive, reason) = self.auto();
        let sent = if self.is_loopback() { "" } else { " + tc egress" };
        writeln!(f, "    auto       {receive}{sent}: {reason}")
    }
}

impl fmt::Display for Receive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native XDP",
            Self::Generic => "generic XDP",
            Self::Tc => "tc ingress",
        })
    }
}

/// A program in the kernel.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Program {
    pub id: u32,
    /// Empty without the privilege to ask.
    pub name: String,
}

/// How frames are received.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Receive {
    Native,
    Generic,
    Tc,
}

impl Interface {
    /// All interfaces, by index.
    pub fn all() -> Result<Vec<Self>> {
        let mut interfaces: Vec<_> = netlink::dump(netlink::RTM_GETLINK, &[0; LINK_LEN], netlink::RTM_NEWLINK)
            .context("list the interfaces")?
            .iter()
            .filter_map(|link| Self::from_link(link))
            .collect();
        let addresses = netlink::dump(netlink::RTM_GETADDR, &[0; ADDRESS_LEN], netlink::RTM_NEWADDR)
            .context("list the addresses")?;
        for (index, address, prefix) in addresses.iter().filter_map(|address| parse_address(address)) {
            if let Some(interface) = interfaces.iter_mut().find(|interface| interface.index == index) {
                interface.addresses.push((address, prefix));
            }
        }
        interfaces.sort_by_key(|interface| interface.index);
        Ok(interfaces)
    }

    /// The interface called `name`.
    pub fn find(name: &str) -> Result<Self> {
        Self::all()?.into_iter().find(|interface| interface.name == name).with_context(|| match name {
            "any" => "no interface is called any (repeat -i for each one to capture on)".to_owned(),
            name => format!("no interface is called {} (try xdpflow interfaces)", name.escape_debug()),
        })
    }

    /// How its frames begin, from its ARPHRD_ value. Loopback frames carry an Ethernet header of zeros.
    pub fn link_type(&self) -> Result<LinkType> {
        match self.hardware {
            ARPHRD_ETHER | ARPHRD_LOOPBACK => Ok(LinkType::ETHERNET),
            ARPHRD_PPP | ARPHRD_RAWIP | ARPHRD_TUNNEL | ARPHRD_TUNNEL6 | ARPHRD_SIT | ARPHRD_NONE => Ok(LinkType::RAW),
            other => {
                let name = &self.name;
                bail!(
                    "capture on {name}: frames of link type ARPHRD {other} are not understood (only Ethernet and raw IP)"
                )
            }
        }
    }

    /// What `--attach auto` does, and why.
    pub fn auto(&self) -> (Receive, String) {
        let Some(driver) = &self.driver else {
            let what = match &self.kind {
                Some(kind) => kind,
                None if self.is_loopback() => "loopback",
                None => "an unknown driver",
            };
            return (Receive::Tc, format!("{what} gains nothing from native XDP"));
        };
        if let Some(program) = &self.xdp {
            return (Receive::Tc, format!("XDP program {program} is attached, and hides what it drops or redirects"));
        }
        if NATIVE_DRIVERS.contains(&driver.as_str()) {
            (Receive::Native, format!("driver {driver} takes native XDP well"))
        } else {
            (Receive::Tc, format!("driver {driver} is not known to take native XDP well"))
        }
    }

    pub fn is_loopback(&self) -> bool {
        self.hardware == ARPHRD_LOOPBACK
    }

    fn from_link(link: &[u8]) -> Option<Self> {
        let hardware = u16::from_ne_bytes([*link.get(2)?, *link.get(3)?]);
        let index = u32_at(link, 4)?;
        let flags = u32_at(link, 8)?;
        let mut interface = Self {
            name: String::new(),
            index,
            hardware,
            kind: None,
            driver: None,
            mtu: 0,
            state: match (flags & IFF_UP != 0, flags & IFF_LOWER_UP != 0) {
                (false, _) => State::Down,
                (true, false) => State::NoCarrier,
                (true, true) => State::Up,
            },
            addresses: Vec::new(),
            xdp: None,
            tcx_ingress: Vec::new(),
            tcx_egress: Vec::new(),
        };
        for (kind, value) in netlink::attributes(link.get(LINK_LEN..)?) {
            match kind {
                IFLA_IFNAME => interface.name = text(value),
                IFLA_MTU => interface.mtu = u32_at(value, 0)?,
                IFLA_LINKINFO => {
                    interface.kind = netlink::attributes(value).find(|a| a.0 == IFLA_INFO_KIND).map(|a| text(a.1));
                }
                IFLA_XDP => {
                    interface.xdp = netlink::attributes(value)
                        .find(|a| a.0 == IFLA_XDP_PROG_ID)
                        .and_then(|a| u32_at(a.1, 0))
                        .filter(|&id| id != 0)
                        .map(Program::from_id);
                }
                _ => {}
            }
        }
        interface.driver = driver(&interface.name, index);
        interface.tcx_ingress = tcx(&interface.name, TcAttachType::Ingress);
        interface.tcx_egress = tcx(&interface.name, TcAttachType::Egress);
        Some(interface)
    }
}

impl Program {
    fn from_id(id: u32) -> Self {
        let program = loaded_programs().filter_map(Result::ok).find(|program| program.id() == id);
        let name = program.and_then(|program| program.name_as_str().map(str::to_owned));
        Self { id, name: name.unwrap_or_default() }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, name } = self;
        if name.is_empty() { write!(f, "id {id}") } else { write!(f, "{name} (id {id})") }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Up => "up",
            Self::NoCarrier => "no carrier",
            Self::Down => "down",
        })
    }
}

/// Those of `indices` that no interface of the namespace has any more.
pub fn gone(indices: impl IntoIterator<Item = u32>) -> io::Result<Vec<u32>> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice::index_to_name_inlined, socket_with};
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    Ok(indices.into_iter().filter(|&index| index_to_name_inlined(&socket, index).is_err()).collect())
}

/// From sysfs, which may show another network namespace than ours; then the index differs.
fn driver(name: &str, index: u32) -> Option<String> {
    let folder = format!("/sys/class/net/{name}");
    let shown: u32 = fs::read_to_string(format!("{folder}/ifindex")).ok()?.trim().parse().ok()?;
    if shown != index {
        return None;
    }
    let driver = fs::read_link(format!("{folder}/device/driver")).ok()?;
    Some(driver.file_name()?.to_string_lossy().into_owned())
}

fn tcx(name: &str, direction: TcAttachType) -> Vec<Program> {
    let Ok((_, programs)) = SchedClassifier::query_tcx(name, direction) else { return Vec::new() };
    programs
        .iter()
        .map(|program| Program { id: program.id(), name: program.name_as_str().unwrap_or_default().to_owned() })
        .collect()
}

fn parse_address(message: &[u8]) -> Option<(u32, IpAddr, u8)> {
    let (prefix, index) = (*message.get(1)?, u32_at(message, 4)?);
    let find = |kind| netlink::attributes(message.get(ADDRESS_LEN..)?).find(|a| a.0 == kind).map(|a| a.1);
    // On a point-to-point link IFA_ADDRESS is the peer's.
    let octets = find(IFA_LOCAL).or_else(|| find(IFA_ADDRESS))?;
    let address = match octets.len() {
        4 => IpAddr::V4(Ipv4Addr::from(*octets.first_chunk::<4>()?)),
        _ => IpAddr::V6(Ipv6Addr::from(*octets.first_chunk::<16>()?)),
    };
    Some((index, address, prefix))
}

fn text(value: &[u8]) -> String {
    let value = value.split(|&octet| octet == 0).next().unwrap_or_default();
    String::from_utf8_lossy(value).into_owned()
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// Hardware drivers whose native XDP is old, passes frames of every size they have buffers for, and costs the link at
/// most a short pause. Others work with `--attach native`.
const NATIVE_DRIVERS: [&str; 11] =
    ["bnxt_en", "ena", "i40e", "ice", "igb", "igc", "ixgbe", "mlx4_en", "mlx5_core", "nfp", "sfc"];

/// `struct ifinfomsg` and `struct ifaddrmsg`.
const LINK_LEN: usize = 16;
const ADDRESS_LEN: usize = 8;

const IFF_UP: u32 = 1;
const IFF_LOWER_UP: u32 = 1 << 16;

const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_PROG_ID: u16 = 4;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

const ARPHRD_ETHER: u16 = 1;
const ARPHRD_PPP: u16 = 512;
const ARPHRD_RAWIP: u16 = 519;
const ARPHRD_TUNNEL: u16 = 768;
const ARPHRD_TUNNEL6: u16 = 769;
const ARPHRD_LOOPBACK: u16 = 772;
const ARPHRD_SIT: u16 = 776;
const ARPHRD_NONE: u16 = 0xfffe;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_found_and_taken_by_tc() {
        let lo = Interface::find("lo").unwrap();
        assert!(lo.is_loopback());
        assert_eq!(lo.link_type().unwrap(), LinkType::ETHERNET);
        assert_eq!(lo.auto().0, Receive::Tc);
        assert!(gone([lo.index]).unwrap().is_empty());
    }

    #[test]
    fn an_unknown_link_type_is_refused_by_name() {
        let lo = Interface::find("lo").unwrap();
        let error = Interface { hardware: 801, name: "mon0".to_owned(), ..lo }.link_type().unwrap_err();
        assert_eq!(
            error.to_string(),
            "capture on mon0: frames of link type ARPHRD 801 are not understood (only Ethernet and raw IP)"
        );
    }

    #[test]
    fn an_index_that_nobody_has_is_gone() {
        assert_eq!(gone([u32::MAX >> 1]).unwrap(), [u32::MAX >> 1]);
    }
}
