//! Many nets in a few sets, with one question: which sets is this address in?

use std::collections::{BTreeSet, HashMap};

use agent_common::{filter::SETS_MAX, head::Address};
use ipnet::IpNet;

/// Nets by prefix, as the kernel's trie holds them: each with the bits of all sets that it lies in, so that the longest
/// prefix that matches tells them all.
#[derive(Clone, Debug, Default)]
pub struct Sets {
    nets: HashMap<(u8, u128), u32>,
    /// Of the prefixes; longest first.
    lengths: Vec<u8>,
}

impl Sets {
    /// `sets` by number.
    pub fn new<'a>(sets: impl IntoIterator<Item = &'a [IpNet]>) -> Self {
        let mut nets: HashMap<(u8, u128), u32> = HashMap::new();
        for (number, set) in sets.into_iter().enumerate() {
            assert!(number < SETS_MAX, "the compiler of filters sees to that");
            for net in set {
                *nets.entry(prefix(net)).or_default() |= 1 << number;
            }
        }
        // The nets of IPv6 that enclose the mapped addresses do not hold them: as for a single net.
        nets.entry((MAPPED, mask(MAPPED_PREFIX, MAPPED))).or_default();
        let lengths: BTreeSet<u8> = nets.keys().map(|&(length, _)| length).collect();
        let mut spread: Vec<_> = nets.keys().copied().collect();
        // Shorter ones first: what encloses a net is complete when its turn comes.
        spread.sort_unstable();
        for (length, address) in spread {
            let least = if length >= MAPPED && mask(address, MAPPED) == MAPPED_PREFIX { MAPPED } else { 0 };
            let parent =
                lengths.range(least..length).rev().find_map(|&shorter| nets.get(&(shorter, mask(address, shorter))));
            let bits = parent.copied().unwrap_or(0);
            *nets.entry((length, address)).or_default() |= bits;
        }
        Self { nets, lengths: lengths.into_iter().rev().collect() }
    }

    /// A bit for each set that `address` is in.
    pub fn of(&self, address: &Address) -> u32 {
        let address = u128::from_be_bytes(bytemuck::cast(*address));
        self.lengths.iter().find_map(|&length| self.nets.get(&(length, mask(address, length)))).copied().unwrap_or(0)
    }

    /// Every prefix, its length, and its bits.
    pub fn iter(&self) -> impl Iterator<Item = (Address, u8, u32)> + '_ {
        self.nets.iter().map(|(&(length, address), &bits)| (bytemuck::cast(address.to_be_bytes()), length, bits))
    }

    pub fn len(&self) -> usize {
        self.nets.len()
    }

    pub fn is_empty(&self) -> bool {
        self.nets.is_empty()
    }
}

/// Where IPv4 addresses are: `::ffff:0:0/96`.
const MAPPED: u8 = 96;
const MAPPED_PREFIX: u128 = 0xffff << 32;

fn prefix(net: &IpNet) -> (u8, u128) {
    match net {
        IpNet::V4(net) => {
            let length = MAPPED + net.prefix_len();
            (length, mask(net.addr().to_ipv6_mapped().to_bits(), length))
        }
        IpNet::V6(net) => (net.prefix_len(), mask(net.addr().to_bits(), net.prefix_len())),
    }
}

fn mask(address: u128, length: u8) -> u128 {
    address & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::Endpoint;

    #[test]
    fn an_address_is_in_every_set_with_a_net_around_it() {
        let nets = |text: &[&str]| -> Vec<IpNet> { text.iter().map(|net| net.parse().unwrap()).collect() };
        let sets = [
            nets(&["10.0.0.0/8", "2001:db8::/32"]),
            nets(&["10.1.0.0/16", "10.1.2.3/32"]),
            nets(&["::/0"]),
            nets(&["0.0.0.0/0"]),
        ];
        let sets = Sets::new(sets.iter().map(Vec::as_slice));
        for (address, expected) in [
            ("10.1.2.3", 0b1011),
            ("10.1.2.4", 0b1011),
            ("10.2.0.1", 0b1001),
            ("11.0.0.1", 0b1000),
            ("2001:db8::1", 0b0101),
            ("2001:db9::1", 0b0100),
        ] {
            let endpoint = Endpoint::new(address.parse().unwrap(), 0);
            assert_eq!(sets.of(&endpoint.address), expected, "{address}");
        }
        assert_eq!(Sets::default().of(&[0, 0]), 0);
    }
}
