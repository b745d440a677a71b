//! The kernel half: looks at every frame, copies those that the filter accepts into the ring of their shard, and lets
//! all of them pass. What a frame is and whether it is wanted is decided in `agent_common::{head, filter}`; nothing is parsed
//! here.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod packet;
mod runtime;

use core::arch::asm;

use agent_common::{
    counter::Counter,
    filter::{Facts, Filter, REFUSE},
    flow::{Extent, Flow, FlowKey, Orders, state},
    frame::{CAPLEN_MAX, FrameHeader, INTERFACES_MAX, LinkType, VERSION, flags},
    head::{Address, Client, Head, Kind, VLAN_ID, VLAN_PRESENT, parse_into, trie_key},
    ring::{RINGS_MAX, RingStats},
    shard::ShardKey,
};
use aya_ebpf::{
    Global,
    bindings::{BPF_NOEXIST, BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, xdp_action::XDP_PASS},
    btf_maps::{self, lpm_trie::Key},
    helpers::generated::{bpf_jiffies64, bpf_ktime_get_boot_ns, bpf_ktime_get_ns, bpf_ringbuf_query},
    macros::{btf_map, classifier, map, xdp},
    maps::{Array, HashMap, LruHashMap, PerCpuArray},
    programs::{TcContext, XdpContext},
};
use aya_log_ebpf::warn;

use crate::packet::{Linear, Packet, Whole};

/// A ring of the least size; the agent puts rings of the size it wants in its place.
type Ring = btf_maps::RingBuf<u8, 4096>;

/// One ring per shard, so that no two threads read one.
#[btf_map]
static RINGS: btf_maps::ArrayOfMaps<Ring, { RINGS_MAX + 1 }> = btf_maps::ArrayOfMaps::new();

/// Index: the shard.
#[map]
static RING_STATS: Array<RingStats> = Array::with_max_entries(RINGS_MAX as u32, 0);

/// Two slots, of which the generation names the valid one: the other can be written while frames pass.
#[map]
static FILTERS: Array<Filter> = Array::with_max_entries(2, 0);

/// The nets of a filter, as many as it has: the kernel does not compare the sizes of tries.
type Nets = btf_maps::LpmTrie<Address, u32, 1>;

/// A slot for each slot of [`FILTERS`]; a value has a bit for each set that the addresses of a prefix are in.
#[btf_map]
static SETS: btf_maps::ArrayOfMaps<Nets, 2> = btf_maps::ArrayOfMaps::new();

/// Connections, of which the kernel forgets the one that was silent longest when there is no room. The agent says how
/// many there can be.
#[map]
static FLOWS: LruHashMap<FlowKey, Flow> = LruHashMap::with_max_entries(1, 0);

#[map]
static GENERATION: Array<u32> = Array::with_max_entries(1, 0);

/// One entry for all counters: a frame costs one lookup, however many of them it moves.
#[map]
static COUNTERS: PerCpuArray<[u64; Counter::ALL.len()]> = PerCpuArray::with_max_entries(1, 0);

/// What this processor looks at. Not on the stack, which has no room for it beside the rest.
#[map]
static SUBJECT: PerCpuArray<Subject> = PerCpuArray::with_max_entries(1, 0);

/// ifindex to the agent's own number of the interface.
#[map]
static INTERFACES: HashMap<u32, u32> = HashMap::with_max_entries(INTERFACES_MAX as u32, 0);

/// Boot-clock nanoseconds at which the agent was last known to live.
#[map]
static HEARTBEAT: Array<u64> = Array::with_max_entries(1, 0);

#[unsafe(no_mangle)]
static SHARDS: Global<u32> = Global::new(1);

#[unsafe(no_mangle)]
static SHARD_KEY: Global<ShardKey> = Global::new(ShardKey([0; 12]));

/// Unread octets in a ring at which its reader is woken.
#[unsafe(no_mangle)]
static WAKE_LEVEL: Global<u64> = Global::new(1 << 20);

/// 1 when there is a flow table. As with the globals that follow, the verifier removes what is off.
#[unsafe(no_mangle)]
static KEEP_FLOWS: Global<u8> = Global::new(0);

/// Octets of each direction that are copied; `u64::MAX` means all.
#[unsafe(no_mangle)]
static CUTOFF: Global<u64> = Global::new(u64::MAX);

/// 1 when frames that only acknowledge are not copied.
#[unsafe(no_mangle)]
static WITHHOLD_ACKS: Global<u8> = Global::new(0);

/// Unread octets in a ring above which connections that begin are shed; `u64::MAX` means never.
#[unsafe(no_mangle)]
static SHED_LEVEL: Global<u64> = Global::new(u64::MAX);

/// 1 when the programs are attached in a way that outlives the agent. The verifier removes what it guards where it is 0.
#[unsafe(no_mangle)]
static HEARTBEAT_NEEDED: Global<u8> = Global::new(0);

#[xdp(frags)]
fn xdpflow_xdp(context: XdpContext) -> u32 {
    tap(&context, RX);
    XDP_PASS
}

#[xdp(frags)]
fn xdpflow_xdp_ip(context: XdpContext) -> u32 {
    tap(&context, RX_IP);
    XDP_PASS
}

#[classifier]
fn xdpflow_rx(context: TcContext) -> i32 {
    tap(&context, RX);
    NEXT
}

#[classifier]
fn xdpflow_rx_ip(context: TcContext) -> i32 {
    tap(&context, RX_IP);
    NEXT
}

#[classifier]
fn xdpflow_tx(context: TcContext) -> i32 {
    tap(&context, TX);
    NEXT
}

#[classifier]
fn xdpflow_tx_ip(context: TcContext) -> i32 {
    tap(&context, TX_IP);
    NEXT
}

/// `TC_ACT_UNSPEC` and `TCX_NEXT`: as if we were not there.
const NEXT: i32 = -1;

/// Where a program is attached: known when it is compiled.
#[derive(Clone, Copy)]
struct Tap {
    link_type: LinkType,
    /// What all of its records say.
    flags: u16,
}

const RX: Tap = Tap { link_type: LinkType::ETHERNET, flags: 0 };
const RX_IP: Tap = Tap { link_type: LinkType::RAW, flags: 0 };
/// The checksum of a segment that leaves is as a rule still to be completed, by the NIC or later in the stack, and a
/// program cannot ask (`ip_summed` is not in `__sk_buff`), so none of them is vouched for.
const TX: Tap = Tap { link_type: LinkType::ETHERNET, flags: flags::CHECKSUM_PARTIAL };
const TX_IP: Tap = Tap { link_type: LinkType::RAW, ..TX };

/// Looks at one frame. Nothing that it finds changes what becomes of the frame.
#[inline(always)]
fn tap<P: Packet>(packet: &P, tap: Tap) {
    let Some(subject) = SUBJECT.get_ptr_mut(0) else { return };
    // SAFETY: this processor's, and no other program of ours runs on it meanwhile.
    let subject = unsafe { &mut *subject };
    if HEARTBEAT_NEEDED.load() != 0 && orphaned(subject.clock.coarse()) {
        return;
    }
    let Some(counters) = COUNTERS.get_ptr_mut(0) else { return };
    count(counters, Counter::Seen);
    match look(packet, tap.link_type, &mut subject.head) {
        Kind::Tcp => {}
        Kind::Other => return,
        Kind::Malformed => {
            count(counters, Counter::Malformed);
            return;
        }
    }
    let Some(&generation) = GENERATION.get(0) else { return };
    if let Some(vlan) = packet.metadata().vlan {
        subject.head.vlan = vlan & VLAN_ID | VLAN_PRESENT;
    }
    let Some(filter) = FILTERS.get(generation & 1) else { return };
    subject.facts.sample = filter.sample(&subject.head);
    if filter.asks_sets != 0 {
        subject.facts.sets = sets(generation & 1, &subject.head);
    }
    let keeps_flow = KEEP_FLOWS.load() != 0 && subject.head.is_segment();
    if keeps_flow {
        let (key, side) = FlowKey::of(&subject.head);
        (subject.key, subject.side) = (key, side as u64);
    }
    // Only who opened the connection can matter to the filter.
    let asks_flow = keeps_flow && filter.asks_client != 0;
    let client = if asks_flow { client(subject) } else { subject.head.client() };
    let walk = |at: u8, destination_is_client: bool| walk(generation, at.into(), destination_is_client.into()) as u8;
    if filter.accepts_by(&subject.head, client, walk) {
        count(counters, Counter::Matched);
        let flow = if keeps_flow { flow(subject, counters) } else { None };
        capture(packet, tap, subject, flow, filter, generation, counters);
    } else if asks_flow && subject.head.client() != Client::Unknown {
        remember_refused(subject, counters);
    }
}

/// A frame as the filter sees it.
#[repr(C)]
struct Subject {
    head: Head,
    facts: Facts,
    /// Of whole segments, where flows are kept: the connection, and the side that sent it.
    key: FlowKey,
    side: u64,
    clock: Clock,
    /// The interface of the last frame that was copied, and its number: as a rule this one's, too.
    interface: [u32; 2],
}

impl Subject {
    /// Read from the map, it is neither 0 nor 1 to the verifier, which then need not look at what follows once for each.
    #[inline(always)]
    const fn side(&self) -> usize {
        (self.side & 1) as usize
    }
}

/// The boot clock as a processor knows it: asking is a third of what a frame costs that is withheld.
#[repr(C)]
struct Clock {
    /// The last answer, and the tick of the kernel's timer in which it was given.
    now: u64,
    tick: u64,
    /// How far it is ahead of the monotonic clock, which takes less time to ask: as long as the machine was suspended.
    ahead: u64,
}

impl Clock {
    #[inline(always)]
    fn exact(&mut self) -> u64 {
        // SAFETY: helpers without arguments.
        let tick = unsafe { bpf_jiffies64() };
        if self.tick != tick {
            self.tick = tick;
            // SAFETY: as before.
            let (boot, monotonic) = unsafe { (bpf_ktime_get_boot_ns(), bpf_ktime_get_ns()) };
            // It only ever grows, and an interrupt between the two answers makes it look less.
            self.ahead = self.ahead.max(boot.saturating_sub(monotonic));
        }
        // SAFETY: as before.
        self.now = unsafe { bpf_ktime_get_ns() } + self.ahead;
        self.now
    }

    /// Behind by a tick at most, 10 ms or less.
    #[inline(always)]
    fn coarse(&mut self) -> u64 {
        // SAFETY: a helper without arguments.
        if self.tick == unsafe { bpf_jiffies64() } { self.now } else { self.exact() }
    }
}

/// Some steps through the filter of this generation, for the [`Subject`] at hand. A function with external linkage and
/// without pointers: the verifier looks at it once, and not again for every way that leads to it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn walk(generation: u32, at: u32, destination_is_client: u32) -> u32 {
    let (Some(filter), Some(subject)) = (FILTERS.get(generation & 1), SUBJECT.get(0)) else { return REFUSE.into() };
    filter.walk(at as u8, &subject.head, &subject.facts, destination_is_client != 0).into()
}

/// The sets that the source and the destination are in.
#[inline(always)]
fn sets(slot: u32, head: &Head) -> [u32; 2] {
    let Some(nets) = SETS.get(slot) else { return [0, 0] };
    [head.src, head.dst].map(|address| nets.get(&Key::new(128, trie_key(address))).copied().unwrap_or(0))
}

/// Which end of the segment opened the connection: from the segment, else from what is known about the connection.
#[inline(always)]
fn client(subject: &Subject) -> Client {
    match subject.head.client() {
        Client::Unknown => {
            // SAFETY: entries are only ever overwritten, by accounts of other connections at worst.
            unsafe { FLOWS.get(&subject.key) }.map_or(Client::Unknown, |flow| flow.client(subject.side()))
        }
        client => client,
    }
}

/// The entry of the segment's connection, which is made if there is none. `None` where the kernel finds no room even so,
/// while processors fight for it: then the frame is copied as without a table.
#[inline(always)]
fn flow(subject: &Subject, counters: *mut Counters) -> Option<*mut Flow> {
    match FLOWS.get_ptr_mut(&subject.key) {
        None => {
            // Another processor may be first, with a frame of the other direction.
            if FLOWS.insert(&subject.key, &NEW_FLOW, u64::from(BPF_NOEXIST)).is_ok() {
                count(counters, Counter::FlowsCreated);
            }
            FLOWS.get_ptr_mut(&subject.key)
        }
        flow => flow,
    }
}

static NEW_FLOW: Flow = Flow::NONE;

/// Remembers who opens a connection that the filter refuses. Otherwise its data would be that of a connection whose
/// handshake was not seen, and be let through.
#[inline(always)]
fn remember_refused(subject: &Subject, counters: *mut Counters) {
    let Some(flow) = flow(subject, counters) else { return };
    // SAFETY: the map's value, as in `capture`.
    let flow = unsafe { &mut *flow };
    flow.open(&subject.head, subject.side());
    if flow.is_new() {
        flow.set(state::REFUSED);
    }
}

/// Parses the linear part, and the whole frame when the headers do not end there.
#[inline(always)]
fn look<P: Packet>(packet: &P, link_type: LinkType, head: &mut Head) -> Kind {
    clear(head);
    match parse_into(&Linear(packet), link_type, head) {
        Kind::Malformed if is_split(packet) => look_everywhere(packet, link_type, head),
        kind => kind,
    }
}

/// Whether only a part of the frame can be read directly.
#[inline(always)]
fn is_split<P: Packet>(packet: &P) -> bool {
    packet.linear_len() < packet.len()
}

/// Not inlined, so that the rare case does not double the common one's code.
#[inline(never)]
fn look_everywhere<P: Packet>(packet: &P, link_type: LinkType, head: &mut Head) -> Kind {
    clear(head);
    parse_into(&Whole(packet), link_type, head)
}

/// Makes `head` a [`Head::default`]. An assignment would call memset, which stores octet by octet here.
#[inline(always)]
fn clear(head: &mut Head) {
    const { assert!(size_of::<Head>().is_multiple_of(8) && align_of::<Head>() == 8) };
    let words: *mut u64 = (&raw mut *head).cast();
    let mut i = 0;
    while i < size_of::<Head>() / 8 {
        // SAFETY: inside of `head`, all of whose fields may be 0.
        unsafe { words.add(i).write_volatile(0) };
        i += 1;
    }
}

/// Copies a frame into the ring of its shard, or counts why not.
#[inline(always)]
fn capture<P: Packet>(
    packet: &P,
    tap: Tap,
    subject: &mut Subject,
    flow: Option<*mut Flow>,
    filter: &Filter,
    generation: u32,
    counters: *mut Counters,
) {
    let mut wanted = u64::MAX;
    let mut advances = false;
    if let Some(flow) = flow {
        // SAFETY: the map's value. Processors that see one direction at once may lose each other's changes, except for
        // those of the counts, which are atomic.
        let flow = unsafe { &mut *flow };
        let extent;
        // What lies behind the datagram does not count, and to ask for the length takes as long as to parse the frame.
        let linear = packet.linear_len();
        let len = if subject.head.end() <= linear { linear } else { packet.len() };
        (extent, advances) = account(flow, subject, len, counters);
        match extent {
            Extent::Whole => {}
            Extent::Headers => wanted = subject.head.payload.into(),
            Extent::Nothing(reason) => {
                flow.hear(subject.side(), advances, subject.clock.coarse());
                count(counters, reason);
                return;
            }
        }
    }
    let len = packet.len();
    wanted = wanted.min(len);
    let timestamp = subject.clock.exact();
    if let Some(flow) = flow {
        // SAFETY: as before.
        unsafe { (*flow).hear(subject.side(), advances, timestamp) };
    }
    let head = &subject.head;
    let shard = shard(head);
    let Some(ring) = RINGS.get(shard) else { return };
    let Some(stats) = RING_STATS.get_ptr_mut(shard) else { return };
    let snaplen = if filter.snaplen == 0 { u64::from(CAPLEN_MAX) } else { u64::from(filter.snaplen) };
    let caplen = wanted.min(snaplen).min(P::LOAD_MAX);
    let metadata = packet.metadata();
    let mut flags = tap.flags;
    if metadata.vlan.is_some() {
        flags |= flags::VLAN;
    }
    if metadata.gso {
        // Segments are merged only with a checksum that is completed when they are cut apart again (skb_gso_segment).
        flags |= flags::CHECKSUM_PARTIAL;
    }
    // SAFETY: the map's value.
    let refused = unsafe { &raw const (*stats).refused };
    let mut header = FrameHeader {
        version: VERSION,
        header_len: size_of::<FrameHeader>() as u8,
        link_type: tap.link_type,
        flags,
        interface: interface(packet.ifindex(), &mut subject.interface),
        timestamp,
        len: len as u32,
        caplen: caplen as u32,
        generation,
        vlan: metadata.vlan.unwrap_or(0),
        // SAFETY: as before; other processors only ever add to it.
        refused: unsafe { refused.read_volatile() },
        ..FrameHeader::default()
    };
    if let Some(flow) = flow {
        // SAFETY: as before.
        tell(&mut header, unsafe { &*flow }, subject.side());
    }
    match write(ring, stats, packet, &header, caplen) {
        Ok(()) => {
            if caplen < wanted {
                count(counters, Counter::Cut);
            }
            if let Some(flow) = flow {
                // SAFETY: as before.
                let flow = unsafe { &mut *flow };
                if SHED_LEVEL.load() != u64::MAX && flow.state & (state::SHED | state::ANNOUNCED) == state::SHED {
                    count(counters, Counter::ShedAnnounced);
                }
                flow.set(state::ANNOUNCED);
            }
        }
        Err(Refusal::RingFull) => {
            count(counters, Counter::RingFull);
            // SAFETY: the map's value.
            add(unsafe { &raw mut (*stats).refused }, 1);
            if let Some(flow) = flow {
                // SAFETY: as before.
                add(unsafe { &raw mut (*flow).sides[subject.side()].lost }, head.payload_len(wanted));
            }
        }
        Err(Refusal::Unreadable) => {
            let times = count(counters, Counter::Unreadable);
            // The first, the second, the fourth: a frame that cannot be read is news, a million of them are not.
            if times & (times - 1) == 0 {
                warn!(packet, "cannot read {} octets of a frame of {} ({} such frames)", caplen, len, times);
            }
        }
    }
}

/// Accounts for a segment that matched, and decides what is copied of it.
#[inline(always)]
fn account(flow: &mut Flow, subject: &Subject, len: u64, counters: *mut Counters) -> (Extent, bool) {
    let (head, side) = (&subject.head, subject.side());
    let begins = flow.begins(head);
    flow.open(head, side);
    // Decided by its first SYN and never again, so that nothing of which octets were copied is shed.
    if SHED_LEVEL.load() != u64::MAX
        && begins
        && flow.is_new()
        && RINGS.get(shard(head)).is_some_and(|ring| level(ring) > SHED_LEVEL.load())
    {
        flow.set(state::SHED);
        count(counters, Counter::ShedConnections);
    }
    let payload = head.payload_len(len);
    let ordinary = flow.is_ordinary(head, side, payload);
    let (begin, advances) = flow.note(head, side, payload);
    if payload > 0 {
        add(&raw mut flow.sides[side].bytes, payload);
    }
    add(&raw mut flow.sides[side].segments, 1);
    let orders = Orders { acks: WITHHOLD_ACKS.load() != 0, cutoff: CUTOFF.load(), shed: SHED_LEVEL.load() != u64::MAX };
    (flow.extent(head, side, payload, begin, ordinary, orders), advances)
}

/// Puts what is known about the connection into the header of a record.
#[inline(always)]
fn tell(header: &mut FrameHeader, flow: &Flow, side: usize) {
    let (own, peer, state) = (&flow.sides[side], &flow.sides[side ^ 1], flow.state);
    header.flags |= flags::FLOW;
    if state & state::CUT << side != 0 {
        header.flags |= flags::CUTOFF;
    }
    if state & state::SHED != 0 {
        header.flags |= flags::SHED;
    }
    match flow.client(side) {
        Client::Source => header.flags |= flags::CLIENT_SOURCE,
        Client::Destination => header.flags |= flags::CLIENT_DESTINATION,
        Client::Unknown => {}
    }
    header.lost = own.lost;
    header.reach = own.reach();
    header.segments = [own.segments, peer.segments];
    if state & state::ACKED << (side ^ 1) != 0 {
        header.flags |= flags::PEER_ACKED;
        (header.peer_ack, header.peer_ack_time, header.peer_window) = (peer.ack, peer.ack_time, peer.window);
    }
}

#[inline(always)]
fn shard(head: &Head) -> u32 {
    // Of one, nothing is to be computed.
    if SHARDS.load() == 1 { 0 } else { ShardKey::pick(SHARD_KEY.load().hash(head), SHARDS.load()) }
}

/// Why a frame that matched is not in a ring.
enum Refusal {
    RingFull,
    Unreadable,
}

/// Writes one record of the least size class that has room for the frame. The size of a reservation must be a constant,
/// hence the classes: a bare ACK with its options and tags over either IP, four steps up to a full Ethernet frame, then
/// jumbo frames, and merged ones up to a full IP packet (64 KiB + 512), what drivers make of BIG TCP (192 KiB + 512),
/// and its limit.
#[inline(always)]
fn write<P: Packet>(
    ring: &Ring,
    stats: *mut RingStats,
    packet: &P,
    header: &FrameHeader,
    caplen: u64,
) -> Result<(), Refusal> {
    macro_rules! classes {
        ($($capacity:literal)*) => {
            $(if caplen <= $capacity { return write_class::<P, $capacity>(ring, stats, packet, header, caplen); })*
        };
    }
    classes! { 96 256 576 1024 1536 3072 5120 9216 17408 33792 66048 131072 }
    if P::LOAD_MAX > 131_072 {
        classes! { 197120 }
        return write_class::<P, { CAPLEN_MAX as usize }>(ring, stats, packet, header, caplen);
    }
    Err(Refusal::Unreadable)
}

/// A ring record as it is reserved: the frame, then room that nobody reads.
#[repr(C)]
struct Record<const N: usize> {
    header: FrameHeader,
    bytes: [u8; N],
}

#[inline(always)]
fn write_class<P: Packet, const N: usize>(
    ring: &Ring,
    stats: *mut RingStats,
    packet: &P,
    header: &FrameHeader,
    caplen: u64,
) -> Result<(), Refusal> {
    let size = size_of::<Record<N>>();
    let Some(mut reserved) = ring.reserve_bytes(size, 0) else { return Err(Refusal::RingFull) };
    let record: *mut Record<N> = reserved.as_mut_ptr().cast();
    // SAFETY: the reservation has room for the record and is ours until it is submitted.
    unsafe { (*record).header = *header };
    // SAFETY: as before.
    let bytes: *mut u8 = unsafe { (&raw mut (*record).bytes).cast() };
    // SAFETY: `bytes` has room for `N` octets.
    if !unsafe { packet.load::<N>(bytes, caplen) } {
        reserved.discard(u64::from(BPF_RB_NO_WAKEUP));
        return Err(Refusal::Unreadable);
    }
    let wakeup = wakeup(ring, stats, distance(bytes, stats), size as u64);
    reserved.submit(wakeup);
    Ok(())
}

/// A wakeup per record costs several times the record, so the reader is woken once, when the level crosses the mark, and
/// otherwise looks by itself every few milliseconds. The level itself is asked for by the records that cross one of the
/// boundaries that divide the ring into steps: `place` and `size` tell. Processors that reserve at the same moment see each
/// other's records, so the window is two steps wide; who is missed even so is found by the reader's timer.
#[inline(always)]
fn wakeup(ring: &Ring, stats: *mut RingStats, place: u64, size: u64) -> u64 {
    let mark = WAKE_LEVEL.load();
    let step = (mark / 8).max(1);
    if (place & (step - 1)) + size < step {
        return u64::from(BPF_RB_NO_WAKEUP);
    }
    let level = level(ring);
    // SAFETY: the map's value.
    let level_max = unsafe { &raw mut (*stats).level_max };
    // A store for every record would have the processors fight for the line.
    // SAFETY: as before; losing a race costs the exact maximum, which is only a hint.
    if level > unsafe { level_max.read_volatile() } {
        // SAFETY: as before.
        unsafe { level_max.write_volatile(level) };
    }
    u64::from(if level >= mark && level < mark + 2 * step.max(size) { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP })
}

/// How far apart two places in memory are: the verifier lets pointers be subtracted, and nothing else that would tell
/// where in its ring a record is.
#[inline(always)]
fn distance(from: *mut u8, to: *mut RingStats) -> u64 {
    let mut distance = from;
    // SAFETY: a subtraction.
    unsafe { asm!("{0} -= {1}", inout(reg) distance, in(reg) to, options(pure, nomem, nostack)) };
    distance as u64
}

/// Octets of a ring that nobody has read.
#[inline(always)]
fn level(ring: &Ring) -> u64 {
    let ring: *const Ring = ring;
    // SAFETY: a ring of ours.
    unsafe { bpf_ringbuf_query(ring.cast_mut().cast(), u64::from(BPF_RB_AVAIL_DATA)) }
}

/// The agent's number of an interface, looked up where it is not the `last` one. `u16::MAX` for one that it has not named,
/// which happens in test runs alone.
#[inline(always)]
fn interface(ifindex: u32, last: &mut [u32; 2]) -> u16 {
    if last[0] != ifindex {
        // SAFETY: entries are written before a program is attached to the interface, and never removed.
        let Some(&number) = (unsafe { INTERFACES.get(ifindex) }) else { return u16::MAX };
        *last = [ifindex, number];
    }
    last[1] as u16
}

/// Whether the agent has been dead for five seconds: it moves the heartbeat every second.
#[inline(always)]
fn orphaned(now: u64) -> bool {
    HEARTBEAT.get(0).is_none_or(|&beat| now.saturating_sub(beat) > 5_000_000_000)
}

type Counters = [u64; Counter::ALL.len()];

#[inline(always)]
fn count(counters: *mut Counters, counter: Counter) -> u64 {
    // SAFETY: this processor's counters, and no other program of ours runs on it meanwhile.
    let value = unsafe { &mut (*counters)[counter as usize] };
    *value += 1;
    *value
}

/// Atomically: processors share rings and flows. LLVM knows only fetch-and-add for this target, which old kernels lack.
#[inline(always)]
fn add(to: *mut u64, value: u64) {
    // SAFETY: adds to the u64 behind the pointer.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) to, in(reg) value, options(nostack)) };
}
