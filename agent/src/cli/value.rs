//! Values of flags, as people write them.

use std::{net::IpAddr, time::Duration};

use agent_common::tunnel::Tunnels;
use anyhow::{Context as _, bail};
use ipnet::IpNet;

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
    fn ring_sizes() {
        assert_eq!(parse_ring_size("64M").unwrap(), 64 << 20);
        for bad in ["1000", "48M", "128K", "2G", "0"] {
            assert!(parse_ring_size(bad).is_err(), "{bad}");
        }
    }
}
