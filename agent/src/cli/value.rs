//! Values of flags, as people write them.

use std::{net::IpAddr, str::FromStr, time::Duration};

use agent_common::{head::VLAN_ID, tunnel::Tunnels};
use anyhow::{Context as _, bail};
use ipnet::IpNet;

use crate::filter::{CONTROL_BITS, Test};

pub(super) fn parse_host(text: &str) -> anyhow::Result<IpAddr> {
    text.parse().context("not an address (try 192.0.2.1 or 2001:db8::1; names are not looked up)")
}

pub(super) fn parse_net(text: &str) -> anyhow::Result<IpNet> {
    let net: IpNet = match text.parse::<IpAddr>() {
        Ok(address) => address.into(),
        Err(_) => text.parse().context("not a network (try 10.0.0.0/8 or 2001:db8::/32)")?,
    };
    if net.addr() != net.network() {
        bail!("bits of the address are set outside the prefix (try {})", net.trunc());
    }
    Ok(net)
}

/// A port, or the first and the last of a range.
pub(super) fn parse_ports(text: &str) -> anyhow::Result<(u16, u16)> {
    let port = |text| decimal::<u16>(text).filter(|&port| port != 0);
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let range = port(low).zip(port(high)).context("not a port (try 443, 8000-9000 or 80,443)")?;
    if range.0 > range.1 {
        bail!("the range ends before it begins (try {high}-{low})");
    }
    Ok(range)
}

pub(super) fn parse_vlan(text: &str) -> anyhow::Result<u16> {
    decimal(text).filter(|&id| id <= VLAN_ID).context("not a VLAN id: a number of at most 4095")
}

/// One in so many.
pub(super) fn parse_sample(text: &str) -> anyhow::Result<Test> {
    let of = text.strip_prefix("1/").and_then(decimal).filter(|&of| of != 0);
    Ok(Test::Sample(of.context("not a part (try 1/16)")?))
}

/// Names of TCP flags with `+` between them: the bits that they are in the header.
pub(super) fn parse_control_bits(text: &str) -> anyhow::Result<u8> {
    let bit = |name: &str| {
        let name = name.strip_prefix("tcp-").unwrap_or(name);
        // Newer tcpdumps say push.
        let name = if name == "push" { "psh" } else { name };
        CONTROL_BITS.iter().position(|known| *known == name).map(|place| 1 << place)
    };
    let bits: Option<u8> = text.split('+').map(bit).try_fold(0, |bits, bit| Some(bits | bit?));
    bits.context("not a TCP flag (try syn, fin, rst, psh, ack, urg, ece or cwr, or two that must both be set: syn+ack)")
}

pub(super) fn parse_tunnel(text: &str) -> anyhow::Result<Tunnels> {
    if text == "all" {
        return Ok(Tunnels::ALL);
    }
    let named = Tunnels::NAMES.iter().find(|(name, _)| *name == text).map(|&(_, tunnel)| tunnel);
    named.context("not a tunnel (try vxlan,gre, or all)")
}

pub(super) fn parse_duration(text: &str) -> anyhow::Result<Duration> {
    humantime::parse_duration(text).context("not a time (try 500ms, 30s, 5min or 2h)")
}

/// Bytes, with K, M or G for powers of 1024.
pub(super) fn parse_size(text: &str) -> anyhow::Result<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        _ => bail!("not a size (try 4096, 64K, 64M or 1G)"),
    };
    let number: u64 = digits.parse().context("not a size (try 4096, 64K, 64M or 1G)")?;
    number.checked_mul(1 << shift).filter(|&size| size <= 1 << 40).context("more than 1024G")
}

/// The kernel wants a power of two of pages, and refuses a record that is larger than the ring, even an empty one: with
/// less than 256 KiB no full IP packet would ever get through (`lo`, merged frames).
pub(super) fn parse_ring_size(text: &str) -> anyhow::Result<u32> {
    let size = parse_size(text)?;
    let valid = u32::try_from(size).ok().filter(|size| size.is_power_of_two() && (1 << 18..=1 << 30).contains(size));
    valid.context("not a power of two from 256K to 1G (try 64M)")
}

/// Digits alone; the standard library takes a sign as well.
fn decimal<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok().filter(|_| text.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_size("4096").unwrap(), 4096);
        assert_eq!(parse_size("64k").unwrap(), 65_536);
        assert_eq!(parse_size("2GiB").unwrap(), 2 << 30);
        for bad in ["", "M", "12X", "-1", "1.5G", "99999999G"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nets() {
        assert_eq!(parse_net("10.0.0.0/8").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(parse_net("192.0.2.1").unwrap().to_string(), "192.0.2.1/32");
        let error = parse_net("10.1.0.0/8").unwrap_err().to_string();
        assert_eq!(error, "bits of the address are set outside the prefix (try 10.0.0.0/8)");
        assert!(parse_net("10.0.0.0/33").is_err());
    }

    #[test]
    fn ports() {
        assert_eq!(parse_ports("443").unwrap(), (443, 443));
        assert_eq!(parse_ports("8000-9000").unwrap(), (8000, 9000));
        for bad in ["", "0", "-", "80-", "-80", "80-443-500", "65536", "443,80", "+80"] {
            assert!(parse_ports(bad).is_err(), "{bad}");
        }
        let error = parse_ports("90-80").unwrap_err().to_string();
        assert_eq!(error, "the range ends before it begins (try 80-90)");
    }

    #[test]
    fn control_bits() {
        for (text, bits) in [("syn", 2), ("syn+ack", 0x12), ("tcp-rst", 4), ("push", 8), ("psh", 8), ("cwr+ece", 0xc0)]
        {
            assert_eq!(parse_control_bits(text).unwrap(), bits, "{text}");
        }
        for bad in ["", "SYN", "syn+", "+", "2", "syn ack"] {
            assert!(parse_control_bits(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ring_sizes() {
        assert_eq!(parse_ring_size("64M").unwrap(), 64 << 20);
        for bad in ["1000", "48M", "128K", "2G", "0"] {
            assert!(parse_ring_size(bad).is_err(), "{bad}");
        }
    }
}
