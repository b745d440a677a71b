//! The TCP checksum (RFC 9293 section 3.1).

use etherparse::checksum::Sum16BitWords;

use super::{Rest, ip::Packet};

/// Whether the checksum of a TCP segment is certainly wrong. It is not where something that it covers was cut off or is
/// not as the sender had it, and not where it was left to the hardware.
#[cold]
pub(super) fn is_bad(packet: &Packet<'_>, segment: Rest<'_>) -> bool {
    if !packet.is_summed || packet.badlen || !segment.is_whole() {
        return false;
    }
    let Ok(len) = u32::try_from(segment.wire) else { return false };
    let Ok(field) = segment.u16(16) else { return false };
    // Checksum offload: the sum of the pseudo-header alone, for the hardware to go on from. With segmentation offload
    // Windows leaves out the length, since there will be several.
    let left_to_hardware = [len, 0].iter().any(|&len| {
        let sum = !pseudo_header(packet, len).ones_complement().to_be();
        // 0 and 0xffff are one number in this arithmetic.
        sum % u16::MAX == field % u16::MAX
    });
    !left_to_hardware && pseudo_header(packet, len).add_slice(segment.bytes).ones_complement() != 0
}

/// One for both versions: the sum of `::ffff:a.b.c.d` is that of a.b.c.d.
fn pseudo_header(packet: &Packet<'_>, len: u32) -> Sum16BitWords {
    const TCP: u8 = 6;
    Sum16BitWords::new()
        .add_16bytes(bytemuck::cast(packet.src))
        .add_16bytes(bytemuck::cast(packet.dst))
        .add_4bytes(len.to_be_bytes())
        .add_2bytes([0, TCP])
}
