//! The two kinds of context behind one trait: what a program can ask about the frame it was called for.

use core::{arch::asm, mem::MaybeUninit, ptr};

use agent_common::head::{NETWORK_OFFSET_MAX, ReadAt};
use aya_ebpf::{
    EbpfContext,
    bindings::__sk_buff,
    helpers::generated::{bpf_skb_load_bytes, bpf_xdp_get_buff_len, bpf_xdp_load_bytes},
    programs::{TcContext, XdpContext},
};
use bytemuck::Pod;

/// A frame on its way through the kernel.
pub(crate) trait Packet: EbpfContext {
    /// Most octets that [`load`](Self::load) can copy from the start of a frame.
    const LOAD_MAX: u64;

    /// Octets of the frame, those outside the linear part included.
    fn len(&self) -> u64;

    /// Where the part that can be read directly begins and ends.
    fn linear(&self) -> (usize, usize);

    /// As many octets can be read directly.
    #[inline(always)]
    fn linear_len(&self) -> u64 {
        let (start, end) = self.linear();
        (end - start) as u64
    }

    fn ifindex(&self) -> u32;

    /// Copies `1..=0xffff` octets at `offset`.
    ///
    /// # Safety
    ///
    /// `to` has room for `len` octets.
    unsafe fn load_part(&self, offset: u32, to: *mut u8, len: u64) -> bool;

    /// Copies the first `len` octets, `1..=N`: of most frames directly, which for a full one takes half as long.
    ///
    /// # Safety
    ///
    /// `to` has room for `N` octets.
    #[inline(always)]
    unsafe fn load<const N: usize>(&self, to: *mut u8, len: u64) -> bool {
        let copied = match N {
            // SAFETY: as promised.
            ..=96 => unsafe { copy::<N, 16>(self.linear(), to, len) },
            // SAFETY: as promised.
            ..=1536 => unsafe { copy::<N, 64>(self.linear(), to, len) },
            // The verifier follows each step.
            _ => false,
        };
        // SAFETY: as promised.
        copied || unsafe { self.load_all::<N>(to, len) }
    }

    /// Copies the first `len` octets, `1..=N`, wherever they are.
    ///
    /// # Safety
    ///
    /// `to` has room for `N` octets.
    unsafe fn load_all<const N: usize>(&self, to: *mut u8, len: u64) -> bool;

    /// What the stack keeps beside the frame.
    fn metadata(&self) -> Metadata;
}

/// What is known about a frame beyond its octets.
pub(crate) struct Metadata {
    /// Merged from several segments or to be cut into them.
    pub(crate) gso: bool,
    /// The tag that was taken out of the frame.
    pub(crate) vlan: Option<u16>,
}

impl Packet for XdpContext {
    /// Offset and length stop at 0xffff each (`bpf_xdp_pointer`, net/core/filter.c). Only generic XDP shows larger
    /// frames, and only where BIG TCP merges them: they are cut there, and whole with tc.
    const LOAD_MAX: u64 = 2 * 0xffff;

    #[inline(always)]
    fn len(&self) -> u64 {
        // SAFETY: the context is the one the kernel called us with.
        unsafe { bpf_xdp_get_buff_len(self.ctx) }
    }

    #[inline(always)]
    fn linear(&self) -> (usize, usize) {
        (self.data(), self.data_end())
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        self.ingress_ifindex() as u32
    }

    #[inline(always)]
    unsafe fn load_part(&self, offset: u32, to: *mut u8, len: u64) -> bool {
        // SAFETY: the caller's promise, which the verifier checks again.
        unsafe { bpf_xdp_load_bytes(self.ctx, offset, to.cast(), len as u32) == 0 }
    }

    #[inline(always)]
    unsafe fn load_all<const N: usize>(&self, to: *mut u8, len: u64) -> bool {
        const PART: usize = 0xffff;
        if N <= PART || len <= PART as u64 {
            // SAFETY: `len` is at most `N`, as promised.
            return unsafe { self.load_part(0, to, bounded(len, if N < PART { N as u64 } else { PART as u64 })) };
        }
        let rest = bounded(len - PART as u64, (N - PART) as u64);
        // SAFETY: `PART` is less than `N`.
        let second = unsafe { to.add(PART) };
        // SAFETY: the first part ends where the second begins.
        let loaded = unsafe { self.load_part(0, to, PART as u64) };
        // SAFETY: the second part ends at `N` at the latest.
        loaded && unsafe { self.load_part(PART as u32, second, rest) }
    }

    #[inline(always)]
    fn metadata(&self) -> Metadata {
        Metadata { gso: false, vlan: None }
    }
}

/// A field of the `__sk_buff` behind a context. The verifier rewrites each access on its own, so that two of them must
/// not become one, which is what volatile is for.
macro_rules! field {
    ($context:expr, $field:ident) => {{
        let skb: *mut __sk_buff = $context.skb.skb;
        // SAFETY: the context is the one the kernel called us with.
        unsafe { ptr::read_volatile(&raw const (*skb).$field) }
    }};
}

impl Packet for TcContext {
    const LOAD_MAX: u64 = agent_common::frame::CAPLEN_MAX as u64;

    #[inline(always)]
    fn len(&self) -> u64 {
        u64::from(Self::len(self))
    }

    #[inline(always)]
    fn linear(&self) -> (usize, usize) {
        (self.data(), self.data_end())
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        field!(self, ifindex)
    }

    #[inline(always)]
    unsafe fn load_part(&self, offset: u32, to: *mut u8, len: u64) -> bool {
        // SAFETY: the caller's promise, which the verifier checks again.
        unsafe { bpf_skb_load_bytes(self.as_ptr(), offset, to.cast(), len as u32) == 0 }
    }

    #[inline(always)]
    unsafe fn load_all<const N: usize>(&self, to: *mut u8, len: u64) -> bool {
        // SAFETY: `len` is at most `N`, as promised.
        unsafe { self.load_part(0, to, bounded(len, N as u64)) }
    }

    #[inline(always)]
    fn metadata(&self) -> Metadata {
        Metadata {
            gso: field!(self, gso_size) != 0,
            vlan: (field!(self, vlan_present) != 0).then(|| field!(self, vlan_tci) as u16),
        }
    }
}

/// Copies the first `len` octets of a linear part, at least `BLOCK` and at most `N`, in blocks of so many, of which the last
/// overlaps the one before it. False, and not all of it is copied, where there are fewer.
///
/// # Safety
///
/// `to` has room for `N` octets.
#[inline(always)]
unsafe fn copy<const N: usize, const BLOCK: usize>((start, end): (usize, usize), to: *mut u8, len: u64) -> bool {
    let mut last = len.wrapping_sub(BLOCK as u64) as usize;
    // As in `bounded`.
    // SAFETY: one instruction that changes nothing.
    unsafe { asm!("{0} = {0}", inout(reg) last, options(pure, nomem, nostack)) };
    if last > N - BLOCK {
        return false;
    }
    // SAFETY: the block ends at `N` at the latest.
    if !unsafe { copy_block::<BLOCK>(start + last, end, to.add(last)) } {
        return false;
    }
    let mut i = 0;
    while i + BLOCK <= N && i < last {
        // SAFETY: as before.
        if !unsafe { copy_block::<BLOCK>(start + i, end, to.add(i)) } {
            return false;
        }
        i += BLOCK;
    }
    true
}

/// # Safety
///
/// `to` has room for `BLOCK` octets.
#[inline(always)]
unsafe fn copy_block<const BLOCK: usize>(from: usize, linear_end: usize, to: *mut u8) -> bool {
    let mut end = from;
    // As in `read_at`.
    // SAFETY: an addition.
    unsafe { asm!("{0} += {1}", inout(reg) end, const BLOCK, options(pure, nomem, nostack)) };
    if end > linear_end {
        return false;
    }
    macro_rules! words {
        ($($at:literal)*) => {
            // Words although they lie anywhere, as in `load_word`.
            // SAFETY: the verifier has seen the comparison, and `to` has the room.
            unsafe {
                asm!($(concat!("{0} = *(u64 *)({1} + ", $at, ")"), concat!("*(u64 *)({2} + ", $at, ") = {0}"),)*
                    out(reg) _, in(reg) from, in(reg) to, options(nostack));
            }
        };
    }
    match BLOCK {
        16 => words!(0 8),
        64 => words!(0 8 16 24 32 40 48 56),
        _ => return false,
    }
    true
}

/// A frame read directly: its linear part, where the headers are as a rule.
pub(crate) struct Linear<'a, P>(pub(crate) &'a P);

impl<P: Packet> ReadAt for Linear<'_, P> {
    #[inline(always)]
    fn read_at<T: Pod>(&self, offset: usize) -> Option<T> {
        let (start, linear_end) = self.0.linear();
        let start = start + offset;
        let mut end = start;
        // LLVM turns `start + 1 > linear_end` into `start >= linear_end`, from which the verifier learns nothing.
        // SAFETY: an addition.
        unsafe { asm!("{0} += {1}", inout(reg) end, const size_of::<T>(), options(pure, nomem, nostack)) };
        if end > linear_end {
            return None;
        }
        let mut value = MaybeUninit::<T>::uninit();
        let mut i = 0;
        while i < size_of::<T>() {
            // SAFETY: the verifier proves that `start..end` lies inside the frame, and `value` has room for as much.
            unsafe { load_word::<T>(start + i, value.as_mut_ptr().byte_add(i)) };
            i += align_of::<T>();
        }
        // SAFETY: all of it is written, and any octets are a `T`.
        Some(unsafe { value.assume_init() })
    }

    #[inline(always)]
    fn network_offset(&self, mut offset: usize) -> usize {
        let (start, _) = self.0.linear();
        // The difference of two packet pointers is a number that the verifier knows nothing about, until the mask.
        // SAFETY: the result is the offset that came in.
        unsafe {
            asm!("{0} += {1}", "{0} -= {1}", "{0} &= {2}", inout(reg) offset, in(reg) start, const NETWORK_OFFSET_MAX,
                options(pure, nomem, nostack));
        }
        offset
    }
}

/// Copies as many octets as a `T` is aligned to, at once, although they lie anywhere: the processors that run this can, and
/// the verifier knows. LLVM, which does not, would load them one by one.
///
/// # Safety
///
/// So many octets can be read at `from` and written at `to`, which is aligned as a `T`.
#[inline(always)]
unsafe fn load_word<T>(from: usize, to: *mut T) {
    macro_rules! load {
        ($type:ty, $name:literal) => {{
            let word: u64;
            // SAFETY: as promised.
            unsafe {
                asm!(concat!("{0} = *(", $name, " *)({1} + 0)"), out(reg) word, in(reg) from,
                    options(pure, readonly, nostack));
                to.cast::<$type>().write(word as $type);
            }
        }};
    }
    match align_of::<T>() {
        8 => load!(u64, "u64"),
        4 => load!(u32, "u32"),
        2 => load!(u16, "u16"),
        _ => load!(u8, "u8"),
    }
}

/// A frame read through helpers: all of it, an order of magnitude slower.
pub(crate) struct Whole<'a, P>(pub(crate) &'a P);

impl<P: Packet> ReadAt for Whole<'_, P> {
    #[inline(always)]
    fn read_at<T: Pod>(&self, offset: usize) -> Option<T> {
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: `value` has room for a `T`.
        let loaded = unsafe { self.0.load_part(offset as u32, value.as_mut_ptr().cast(), size_of::<T>() as u64) };
        // SAFETY: the helper has written all of it, and any octets are a `T`.
        loaded.then(|| unsafe { value.assume_init() })
    }
}

/// `value`, at least 1 and at most `max`, compared where LLVM cannot undo it: the verifier loses a bound that LLVM
/// proved by other means, or moved to a copy of the register.
#[inline(always)]
fn bounded(mut value: u64, max: u64) -> u64 {
    // SAFETY: one instruction that changes nothing.
    unsafe { asm!("{0} = {0}", inout(reg) value, options(pure, nomem, nostack)) };
    value.clamp(1, max)
}
