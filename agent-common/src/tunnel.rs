//! The tunnels that can be looked into, and how a packet shows that it may be one.

use core::ops::BitOr;

use bytemuck::{Pod, Zeroable};

/// A set of tunnels.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(transparent)]
pub struct Tunnels(pub u32);

impl Tunnels {
    pub const NONE: Self = Self(0);
    pub const VXLAN: Self = Self(1 << 0);
    pub const VXLAN_GPE: Self = Self(1 << 1);
    pub const GENEVE: Self = Self(1 << 2);
    pub const GRE: Self = Self(1 << 3);
    pub const IPIP: Self = Self(1 << 4);
    pub const SIX_IN_4: Self = Self(1 << 5);
    pub const L2TP: Self = Self(1 << 6);
    pub const GTP: Self = Self(1 << 7);
    pub const TEREDO: Self = Self(1 << 8);
    pub const ETHERIP: Self = Self(1 << 9);
    pub const MPLS: Self = Self(1 << 10);
    pub const ALL: Self = Self((1 << 11) - 1);

    /// What may begin behind a UDP header whose source or destination port says so.
    pub const OVER_UDP: Self = Self(
        Self::VXLAN.0
            | Self::VXLAN_GPE.0
            | Self::GENEVE.0
            | Self::GRE.0
            | Self::L2TP.0
            | Self::GTP.0
            | Self::TEREDO.0
            | Self::MPLS.0,
    );

    /// Each by the name that users give it.
    pub const NAMES: [(&'static str, Self); 11] = [
        ("vxlan", Self::VXLAN),
        ("vxlan-gpe", Self::VXLAN_GPE),
        ("geneve", Self::GENEVE),
        ("gre", Self::GRE),
        ("ipip", Self::IPIP),
        ("6in4", Self::SIX_IN_4),
        ("l2tp", Self::L2TP),
        ("gtp", Self::GTP),
        ("teredo", Self::TEREDO),
        ("etherip", Self::ETHERIP),
        ("mpls", Self::MPLS),
    ];

    /// Whether the two have one in common.
    #[inline(always)]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The tunnel that has this IP protocol number to itself.
    #[inline(always)]
    pub const fn of_protocol(protocol: u8) -> Self {
        match protocol {
            4 => Self::IPIP,
            41 => Self::SIX_IN_4,
            47 => Self::GRE,
            97 => Self::ETHERIP,
            115 => Self::L2TP,
            137 => Self::MPLS,
            _ => Self::NONE,
        }
    }

    /// The tunnel to which IANA gave this UDP port. 8472 is VXLAN's from before it had one, and Linux's default.
    #[inline(always)]
    pub const fn of_port(port: u16) -> Self {
        match port {
            1_701 => Self::L2TP,
            2_152 => Self::GTP,
            3_544 => Self::TEREDO,
            4_754 => Self::GRE,
            4_789 | 8_472 => Self::VXLAN,
            4_790 => Self::VXLAN_GPE,
            6_081 => Self::GENEVE,
            6_635 => Self::MPLS,
            _ => Self::NONE,
        }
    }
}

impl BitOr for Tunnels {
    type Output = Self;

    #[inline(always)]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tunnel_has_a_name_and_a_number() {
        let named = Tunnels::NAMES.iter().fold(Tunnels::NONE, |set, &(_, tunnel)| set | tunnel);
        assert_eq!(named, Tunnels::ALL);
        let ports = (0..=u16::MAX).map(Tunnels::of_port).fold(Tunnels::NONE, BitOr::bitor);
        assert_eq!(ports, Tunnels::OVER_UDP);
        let protocols = (0..=u8::MAX).map(Tunnels::of_protocol).fold(Tunnels::NONE, BitOr::bitor);
        assert_eq!(ports | protocols, Tunnels::ALL);
    }
}
