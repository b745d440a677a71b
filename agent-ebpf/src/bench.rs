//! What the programs are measured against, and with; no part of the agent.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

#[expect(dead_code, reason = "what is measured reads more of a frame")]
mod packet;
mod runtime;

use aya_ebpf::{
    Global,
    bindings::{
        BPF_RB_NO_WAKEUP,
        xdp_action::{XDP_DROP, XDP_PASS},
    },
    helpers::generated::{bpf_ktime_get_ns, bpf_redirect},
    macros::{classifier, map, xdp},
    maps::{Array, ProgramArray, RingBuf},
    programs::{TcContext, XdpContext},
};

use crate::packet::Packet as _;

/// How many frames [`rotate`] makes of one: a power of two.
#[unsafe(no_mangle)]
static FRAMES: Global<u32> = Global::new(4096);

/// The frame of number `i` comes from the address `SOURCE + (i << SHIFT)` and goes to `DESTINATION + (i << SHIFT)`.
#[unsafe(no_mangle)]
static SOURCE: Global<u32> = Global::new(0);

#[unsafe(no_mangle)]
static DESTINATION: Global<u32> = Global::new(0);

#[unsafe(no_mangle)]
static SHIFT: Global<u32> = Global::new(0);

/// Not one for each processor: a run may go on on another one, and must not leave frames out.
#[map]
static COUNT: Array<u32> = Array::with_max_entries(1, 0);

/// The program that is measured.
#[map]
static TARGET: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Gives the frame other addresses than it had, and calls the program that is measured. What that takes is known by
/// calling [`pass`] in this way.
#[xdp(frags)]
fn rotate(context: XdpContext) -> u32 {
    if vary(&context).is_some() {
        // SAFETY: the map's programs are of this one's type. It comes back only when there is none.
        let _ = unsafe { TARGET.tail_call(&context, 0) };
    }
    XDP_PASS
}

/// Does nothing.
#[xdp(frags)]
fn pass(_context: XdpContext) -> u32 {
    XDP_PASS
}

/// What is copied by [`copy_64`] and its like.
#[map]
static COPIES: RingBuf = RingBuf::with_byte_size(64 << 20, 0);

/// The least that a capture can cost: a record is reserved, the frame copied into it as the agent's program does, and
/// submitted.
#[xdp(frags)]
fn copy_64(context: XdpContext) -> u32 {
    copy::<96>(&context, 64);
    XDP_PASS
}

#[xdp(frags)]
fn copy_1514(context: XdpContext) -> u32 {
    copy::<1536>(&context, 1_514);
    XDP_PASS
}

#[inline(always)]
fn copy<const N: usize>(context: &XdpContext, len: u64) {
    let Some(mut record) = COPIES.reserve_bytes(N, 0) else { return };
    // SAFETY: the record has room for `N` octets.
    if unsafe { context.load::<N>(record.as_mut_ptr().cast(), len) } {
        record.submit(BPF_RB_NO_WAKEUP.into());
    } else {
        record.discard(BPF_RB_NO_WAKEUP.into());
    }
}

/// Does nothing, where tc calls it.
#[classifier]
fn pass_tc(_context: TcContext) -> i32 {
    NEXT
}

/// `TC_ACT_UNSPEC`.
const NEXT: i32 = -1;

/// Where [`generate`] sends frames.
#[unsafe(no_mangle)]
static INTERFACE: Global<u32> = Global::new(0);

/// The payload of each.
#[unsafe(no_mangle)]
static PAYLOAD: Global<u32> = Global::new(0);

/// How many in a second.
#[unsafe(no_mangle)]
static RATE: Global<u64> = Global::new(0);

/// How many in all.
#[unsafe(no_mangle)]
static LIMIT: Global<u64> = Global::new(0);

/// How many [`generate`] has sent, of which no two are sent at the same time, when it began, and when it sent the last.
#[map]
static SENT: Array<[u64; 3]> = Array::with_max_entries(1, 0);

/// Sends the frame as the next segment of one of so many connections as [`FRAMES`] says, each in its turn, or drops it as
/// long as none is due: to begin a run takes the kernel many milliseconds. Addresses are the same for all, so that the
/// header's checksum stays right.
#[xdp(frags)]
fn generate(context: XdpContext) -> u32 {
    match next(&context) {
        // SAFETY: it takes numbers alone.
        Some(()) => unsafe { bpf_redirect(INTERFACE.load(), 0) as u32 },
        None => XDP_DROP,
    }
}

#[inline(always)]
fn next(context: &XdpContext) -> Option<()> {
    let sent = SENT.get_ptr_mut(0)?;
    // SAFETY: nobody else writes it.
    let [number, mut begun, _] = unsafe { *sent };
    // SAFETY: it takes nothing.
    let now = unsafe { bpf_ktime_get_ns() };
    if begun == 0 {
        begun = now;
    }
    // What divides by zero would need a panic.
    let due = number.wrapping_mul(1_000_000_000).checked_div(RATE.load())?;
    let (start, end) = (context.data(), context.data_end());
    if number >= LIMIT.load() || now.wrapping_sub(begun) < due || start + PORTS + 8 > end {
        return None;
    }
    // SAFETY: as before.
    unsafe { *sent = [number.wrapping_add(1), begun, now] };
    let round = number.checked_div(FRAMES.load().into())?;
    let port = 1_024_u16.wrapping_add((number & u64::from(FRAMES.load().wrapping_sub(1))) as u16);
    let seq = (round as u32).wrapping_mul(PAYLOAD.load());
    // SAFETY: the frame has these octets; the verifier has seen the comparison.
    unsafe { ((start + PORTS) as *mut u16).write_unaligned(port.to_be()) };
    // SAFETY: as before.
    unsafe { ((start + PORTS + 4) as *mut u32).write_unaligned(seq.to_be()) };
    Some(())
}

#[inline(always)]
fn vary(context: &XdpContext) -> Option<()> {
    let count = COUNT.get_ptr_mut(0)?;
    // SAFETY: there is one run at a time.
    let number = unsafe { *count };
    // SAFETY: as before.
    unsafe { *count = number.wrapping_add(1) };
    // An odd factor makes a permutation of the numbers below a power of two: no two frames in a row are neighbours.
    let number = (number.wrapping_mul(0x9e37_79b1) & (FRAMES.load() - 1)) << (SHIFT.load() & 31);
    let (start, end) = (context.data(), context.data_end());
    if start + ADDRESSES + 8 > end {
        return None;
    }
    let addresses = (start + ADDRESSES) as *mut [u16; 4];
    let halves = |address: u32| [((address >> 16) as u16).to_be(), (address as u16).to_be()];
    let [a, b] = halves(SOURCE.load().wrapping_add(number));
    let [c, d] = halves(DESTINATION.load().wrapping_add(number));
    // SAFETY: the frame has these octets; the verifier has seen the comparison.
    unsafe { addresses.write_unaligned([a, b, c, d]) };
    Some(())
}

/// Behind an Ethernet header and twelve octets of IPv4.
const ADDRESSES: usize = 26;

/// Behind an Ethernet header and twenty octets of IPv4.
const PORTS: usize = 34;
