//! Segments that came through the ring of one shard and belong to another: fragments are told apart by their addresses
//! alone, and tunnels by what is outside, before anybody knows the endpoints inside.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
    mpsc::{Receiver, Sender, channel},
};

use agent_common::shard::ShardKey;

use crate::segment::{OwnedSegment, Segment};

/// What one shard has of the mail: its own box, and a way to those of the others.
#[derive(Debug)]
pub struct Mailbox {
    key: ShardKey,
    shard: usize,
    /// By shard, this one included.
    slots: Vec<Slot>,
    letters: Receiver<Letter>,
    waiting: Arc<AtomicUsize>,
}

/// The way into a mailbox.
#[derive(Clone, Debug)]
struct Slot {
    letters: Sender<Letter>,
    /// Octets of the letters that are waiting, as allocated.
    waiting: Arc<AtomicUsize>,
}

/// A segment for another shard.
#[derive(Debug)]
pub struct Letter {
    segment: OwnedSegment,
    begun: bool,
}

/// What [`Mailbox::send`] did with a segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sent {
    /// It is this shard's own.
    Ours,
    Away,
    /// Its owner has too much mail.
    Full,
}

/// Most octets that wait in one box.
const WAITING_MAX: usize = 16 << 20;

impl Mailbox {
    /// One for each of `shards`, which `key` divides connections among.
    pub fn for_shards(shards: u32, key: ShardKey) -> Vec<Self> {
        let (slots, boxes): (Vec<_>, Vec<_>) = (0..shards)
            .map(|_| {
                let (sender, receiver) = channel();
                (Slot { letters: sender, waiting: Arc::default() }, receiver)
            })
            .unzip();
        let own = slots.clone();
        let mailbox =
            |((shard, letters), Slot { waiting, .. })| Self { key, shard, slots: slots.clone(), letters, waiting };
        boxes.into_iter().enumerate().zip(own).map(mailbox).collect()
    }

    /// Hands a segment to the shard that owns its connection, copied.
    pub fn send(&self, segment: &Segment<'_>) -> Sent {
        self.post(segment, false)
    }

    /// Tells that shard about a segment of which the first fragment has come.
    pub fn send_begun(&self, segment: &Segment<'_>) -> Sent {
        self.post(segment, true)
    }

    /// The next letter, if there is one.
    pub fn receive(&self) -> Option<Letter> {
        let letter = self.letters.try_recv().ok()?;
        self.waiting.fetch_sub(letter.size(), Ordering::Relaxed);
        Some(letter)
    }

    /// What is still to come, once this shard has nothing more to send. It ends when that is true of all of them, or when
    /// the others ended otherwise.
    pub fn receive_rest(mut self) -> impl Iterator<Item = Letter> {
        self.slots.clear();
        let Self { letters, waiting, .. } = self;
        letters.into_iter().inspect(move |letter| {
            waiting.fetch_sub(letter.size(), Ordering::Relaxed);
        })
    }

    fn post(&self, segment: &Segment<'_>, begun: bool) -> Sent {
        let owner = ShardKey::pick(self.key.hash(&segment.head()), self.slots.len() as u32) as usize;
        if owner == self.shard {
            return Sent::Ours;
        }
        let Some(slot) = self.slots.get(owner) else { return Sent::Full };
        let letter = Letter { segment: segment.into(), begun };
        let size = letter.size();
        // Several may send at once, so the limit may be passed by a letter for each shard.
        if slot.waiting.load(Ordering::Relaxed) + size > WAITING_MAX {
            return Sent::Full;
        }
        slot.waiting.fetch_add(size, Ordering::Relaxed);
        // A shard that is gone reads no more mail.
        if slot.letters.send(letter).is_ok() { Sent::Away } else { Sent::Full }
    }
}

impl Letter {
    pub fn segment(&self) -> Segment<'_> {
        self.segment.lend()
    }

    /// Whether it only tells of the first fragment of a segment.
    pub fn is_begun(&self) -> bool {
        self.begun
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.segment().payload.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::{Endpoint, Flags, Origin, SeqNum, Timestamp};

    fn segment(port: u16, payload: &[u8]) -> Segment<'_> {
        Segment {
            timestamp: Timestamp(1),
            src: Endpoint::v4([10, 9, 0, 1], port),
            dst: Endpoint::v4([10, 9, 0, 2], 80),
            seq: SeqNum(1),
            ack: SeqNum(0),
            flags: Flags::ACK,
            window: 1_024,
            window_scale: None,
            mss: None,
            ip_id: None,
            payload,
            missing: 0,
            origin: Origin::default(),
            flow: None,
        }
    }

    /// A port whose connections belong to `shard` of `shards`.
    fn port(shard: u32, shards: u32) -> u16 {
        let owner = |port: &u16| ShardKey::pick(ShardKey::FIXED.hash(&segment(*port, &[]).head()), shards);
        (1..u16::MAX).find(|port| owner(port) == shard).expect("a port for every shard")
    }

    #[test]
    fn a_segment_goes_to_its_owner() {
        let boxes = Mailbox::for_shards(3, ShardKey::FIXED);
        for (shard, expected) in [(0, Sent::Away), (1, Sent::Ours), (2, Sent::Away)] {
            assert_eq!(boxes[1].send(&segment(port(shard, 3), b"mail")), expected);
        }
        for (shard, letters) in [(0, 1), (1, 0), (2, 1)] {
            let received: Vec<_> = std::iter::from_fn(|| boxes[shard].receive()).collect();
            assert_eq!(received.len(), letters, "shard {shard}");
            assert!(received.iter().all(|letter| letter.segment().payload == b"mail"));
        }
    }

    #[test]
    fn a_full_box_refuses_until_it_is_read() {
        let boxes = Mailbox::for_shards(2, ShardKey::FIXED);
        let payload = vec![7; 1 << 20];
        let segment = segment(port(0, 2), &payload);
        let sent = (0..16).filter(|_| boxes[1].send(&segment) == Sent::Away).count();
        assert_eq!(sent, 15, "a letter is larger than its payload");
        assert_eq!(boxes[1].send(&segment), Sent::Full);
        assert!(boxes[0].receive().is_some());
        assert_eq!(boxes[1].send(&segment), Sent::Away);
    }

    #[test]
    fn the_rest_ends_when_all_have_sent_theirs() {
        let boxes = Mailbox::for_shards(4, ShardKey::FIXED);
        let counts = std::thread::scope(|scope| {
            let threads: Vec<_> = boxes
                .into_iter()
                .map(|mailbox| {
                    scope.spawn(move || {
                        let others = (0..4).map(|shard| mailbox.send(&segment(port(shard, 4), b"last")));
                        let away = others.filter(|sent| *sent == Sent::Away).count();
                        (away, mailbox.receive_rest().count())
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("a count")).collect::<Vec<_>>()
        });
        assert_eq!(counts, [(3, 3); 4]);
    }
}
