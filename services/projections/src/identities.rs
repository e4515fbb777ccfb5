//! Identities of the history in memory: most events are new, and the write path need not ask Postgres for them.
//!
//! The identities are in a Bloom filter, so it never takes a known one for new; a new one that it takes for known is
//! looked up in Postgres. It holds for the entries up to a position. What was recorded after that, by any process, it
//! does not know: the caller states which position has to be covered, and the duplicate window of the journal has to
//! cover the rest. Decision 0028 has the proof.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ledger_domain::{IdentityKey, Position};

/// Maximum size of a filter in bytes. With more than eight million identities it takes more and more new ones for known.
const MAX_BYTES: usize = 16 << 20;
/// Number of identities above which none are loaded: the filter would take most new ones for known.
const MAX_IDENTITIES: u64 = 16 << 20;
/// Size of a new part of a filter in blocks: for 2,048 identities.
const MIN_BLOCKS: usize = 64;
/// Bytes of a block, which is a line of the processor's cache.
const BLOCK_BYTES: usize = 64;
/// Number of identities for which a block is meant: of 1,000 new ones, it takes one or two for known.
const BLOCK_IDENTITIES: usize = 32;

/// A block: an identity has one bit in each word.
type Block = [u64; 8];

/// A Bloom filter that grows: each identity is in one of its parts.
#[derive(Default)]
struct IdentityFilter {
    parts: Vec<FilterPart>,
}

struct FilterPart {
    blocks: Vec<Block>,
    identities: usize,
}

/// Returns the hash that chooses the block, and the hash that chooses the bits. Keys are digests, so that few steps mix
/// them well, apart from the constant bits of a UUID.
fn hashes(key: IdentityKey) -> (u64, u64) {
    let bits = key.0.as_u128();
    let (high, low) = ((bits >> 64) as u64, bits as u64);
    let mixed = (high ^ low.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let block = mixed ^ (mixed >> 29);
    let bits = low.wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ high;
    (block.wrapping_mul(0x94d0_49bb_1331_11eb), bits ^ (bits >> 31))
}

/// Returns the bits of an identity in the words of its block.
fn pattern(hash: u64) -> Block {
    std::array::from_fn(|word| 1 << ((hash >> (6 * word)) & 63))
}

impl FilterPart {
    fn new(blocks: usize) -> Self {
        Self { blocks: vec![Block::default(); blocks], identities: 0 }
    }

    const fn is_full(&self) -> bool {
        self.identities >= self.blocks.len() * BLOCK_IDENTITIES
    }

    /// Returns the index of a block. The product of a hash and the number of blocks has it in its upper half.
    fn index(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.blocks.len() as u128) >> 64) as usize
    }

    fn contains(&self, (block, bits): (u64, u64)) -> bool {
        let block = &self.blocks[self.index(block)];
        block.iter().zip(pattern(bits)).all(|(word, bit)| word & bit != 0)
    }

    fn insert(&mut self, (block, bits): (u64, u64)) {
        let index = self.index(block);
        for (word, bit) in self.blocks[index].iter_mut().zip(pattern(bits)) {
            *word |= bit;
        }
        self.identities += 1;
    }
}

impl IdentityFilter {
    /// Creates a filter for this many identities.
    fn for_identities(expected: u64) -> Self {
        let blocks = usize::try_from(expected).unwrap_or(usize::MAX).div_ceil(BLOCK_IDENTITIES);
        let mut filter = Self::default();
        filter.grow(blocks);
        filter
    }

    /// Adds a part of this many blocks, or fewer at the maximum size.
    fn grow(&mut self, blocks: usize) {
        let room = MAX_BYTES / BLOCK_BYTES - self.parts.iter().map(|part| part.blocks.len()).sum::<usize>();
        if room > 0 {
            self.parts.push(FilterPart::new(blocks.max(MIN_BLOCKS).min(room)));
        }
    }

    /// Adds an identity. At the maximum size the filter becomes less exact.
    fn insert(&mut self, key: IdentityKey) {
        let hashes = hashes(key);
        // It was added, or it looks as if it was: both ways it is found.
        if self.parts.iter().any(|part| part.contains(hashes)) {
            return;
        }
        let full = self.parts.last().filter(|last| last.is_full()).map(|last| last.blocks.len());
        if let Some(blocks) = full {
            self.grow(blocks * 2);
        }
        if let Some(last) = self.parts.last_mut() {
            last.insert(hashes);
        }
    }

    /// Returns false if the identity was never added. Without a part, nothing is known.
    fn may_contain(&self, key: IdentityKey) -> bool {
        let hashes = hashes(key);
        self.parts.is_empty() || self.parts.iter().any(|part| part.contains(hashes))
    }
}

/// The identities of a tenant's history in memory. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct HistoryIdentities(Arc<Mutex<Option<Identities>>>);

struct Identities {
    /// Epoch of the history whose identities the filter has.
    history_epoch: u64,
    /// Number of the feed that fills the filter.
    feed: u64,
    /// True while this feed lasts. Without it, others may have projected since.
    is_fed: bool,
    is_loaded: bool,
    filter: IdentityFilter,
    /// The last position whose identity is in the filter, with those of all positions before it once it is loaded.
    position: Position,
}

/// The one source of identities: a projector, and what its tables had when it started. It ends with the value, and a later
/// feed replaces it.
pub(crate) struct IdentityFeed(FeedNumber);

/// Adds what the tables had when a feed started. Clones belong to the same feed.
#[derive(Clone)]
pub(crate) struct IdentityLoader(FeedNumber);

/// The number of a feed of some identities.
#[derive(Clone)]
struct FeedNumber {
    identities: HistoryIdentities,
    number: u64,
}

/// Work of a projector at the start of its feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TableLoad {
    /// The identities of the tables are known.
    Known,
    /// The tables have to be loaded: after the start of the process, and after another process has projected.
    Needed,
    /// The tables have too many identities to load.
    TooMany,
}

impl HistoryIdentities {
    /// Starts the feed of a projector that continues a history after a position.
    pub(crate) fn start(&self, history_epoch: u64, after: Position) -> (IdentityFeed, TableLoad) {
        let mut guard = self.lock();
        let number = guard.as_ref().map_or(0, |identities| identities.feed) + 1;
        let continues = |known: &Identities| {
            known.is_loaded && known.history_epoch == history_epoch && known.position >= after
        };
        let kept = guard.take().filter(continues);
        let is_too_many = after.get() > MAX_IDENTITIES;
        let known = guard.insert(kept.unwrap_or_else(|| Identities {
            history_epoch,
            feed: number,
            is_fed: true,
            is_loaded: after == Position::START,
            // Without a part, a filter takes no memory.
            filter: if is_too_many {
                IdentityFilter::default()
            } else {
                IdentityFilter::for_identities(after.get())
            },
            position: after,
        }));
        // The projector reads again what is after the position: an older copy of the journal may have something else there.
        (known.feed, known.is_fed, known.position) = (number, true, after);
        let load = if known.is_loaded {
            TableLoad::Known
        } else if is_too_many {
            TableLoad::TooMany
        } else {
            TableLoad::Needed
        };
        (IdentityFeed(FeedNumber { identities: self.clone(), number }), load)
    }

    /// Returns the position up to which a feed has added identities, if it lasts.
    pub(crate) fn position(&self) -> Option<Position> {
        self.lock().as_ref().filter(|identities| identities.is_fed).map(|identities| identities.position)
    }

    /// Returns those keys that the history up to a position may have. `None`: the identities up to there are not known.
    pub(crate) fn possibly_known(
        &self,
        keys: &[IdentityKey],
        history_epoch: u64,
        up_to: Position,
    ) -> Option<Vec<IdentityKey>> {
        let guard = self.lock();
        let identities = guard.as_ref()?;
        let is_usable =
            identities.is_fed && identities.is_loaded && identities.history_epoch == history_epoch;
        if !is_usable || identities.position < up_to {
            return None;
        }
        Some(keys.iter().copied().filter(|key| identities.filter.may_contain(*key)).collect())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Identities>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IdentityFeed {
    /// Adds the record at a position, with the identity of its event, if it is one. If positions are missing before it,
    /// none are known from there on.
    pub(crate) fn add(&self, position: Position, key: Option<IdentityKey>) {
        self.0.with(|identities| {
            if position > identities.position.next() {
                identities.is_loaded = false;
                return;
            }
            if let Some(key) = key {
                identities.filter.insert(key);
            }
            identities.position = identities.position.max(position);
        });
    }

    /// Adopts an epoch: its history is the same one as before.
    pub(crate) fn adopt(&self, history_epoch: u64) {
        self.0.with(|identities| identities.history_epoch = history_epoch);
    }

    /// Returns what adds the identities of the tables.
    pub(crate) fn loader(&self) -> IdentityLoader {
        IdentityLoader(self.0.clone())
    }
}

impl Drop for IdentityFeed {
    fn drop(&mut self) {
        self.0.with(|identities| identities.is_fed = false);
    }
}

impl IdentityLoader {
    /// Adds identities that the tables have. Returns false if a later feed has replaced this one.
    pub(crate) fn load(&self, keys: &[IdentityKey]) -> bool {
        self.0.with(|identities| keys.iter().for_each(|key| identities.filter.insert(*key))).is_some()
    }

    /// Declares that the identities that the tables had when the feed started are added.
    pub(crate) fn complete(&self) {
        self.0.with(|identities| identities.is_loaded = true);
    }
}

impl FeedNumber {
    /// Changes the identities, unless a later feed has replaced this one.
    fn with<T>(&self, change: impl FnOnce(&mut Identities) -> T) -> Option<T> {
        let mut guard = self.identities.lock();
        guard.as_mut().filter(|identities| identities.feed == self.number).map(change)
    }
}

#[cfg(test)]
mod tests {
    use ledger_domain::{EventId, Identity, Source};

    use super::*;

    fn key(number: u64) -> IdentityKey {
        let source = Source::parse("urn:test").expect("a source");
        let id = EventId::parse(&number.to_string()).expect("an id");
        Identity { source, id }.key()
    }

    fn position(number: u64) -> Position {
        Position::new(number)
    }

    /// Starts a feed that has to be loaded.
    fn unloaded(identities: &HistoryIdentities, history_epoch: u64, after: u64) -> IdentityFeed {
        let (feed, load) = identities.start(history_epoch, position(after));
        assert_eq!(load, TableLoad::Needed);
        feed
    }

    #[test]
    fn a_filter_contains_all_that_was_added_and_little_else() {
        // From empty, so that it grows several times.
        for expected in [0, 20_000] {
            let mut filter = IdentityFilter::for_identities(expected);
            (0..20_000).for_each(|number| filter.insert(key(number)));

            assert!((0..20_000).all(|number| filter.may_contain(key(number))));
            let wrong = (20_000..40_000).filter(|number| filter.may_contain(key(*number))).count();
            assert!(wrong < 400, "{wrong} of 20,000 new identities are taken for known");
        }
    }

    #[test]
    fn a_filter_has_a_maximum_size() {
        let mut filter = IdentityFilter::for_identities(u64::MAX);
        filter.grow(1_000);
        let bytes: usize = filter.parts.iter().map(|part| part.blocks.len() * BLOCK_BYTES).sum();
        assert_eq!(bytes, MAX_BYTES);
    }

    #[test]
    fn identities_are_known_up_to_the_last_position_once_they_are_loaded() {
        let identities = HistoryIdentities::default();
        let feed = unloaded(&identities, 1, 2);
        feed.add(position(3), Some(key(3)));
        let ask = |up_to| identities.possibly_known(&[key(1), key(3), key(9)], 1, position(up_to));

        assert!(feed.loader().load(&[key(1), key(2)]));
        assert_eq!(ask(3), None);
        feed.loader().complete();

        assert_eq!(ask(3), Some(vec![key(1), key(3)]));
        assert_eq!(ask(4), None);
        assert_eq!(identities.possibly_known(&[key(1)], 2, position(3)), None);
    }

    #[test]
    fn an_empty_history_need_not_be_loaded() {
        let identities = HistoryIdentities::default();
        let (feed, load) = identities.start(1, Position::START);
        feed.add(position(1), None);

        assert_eq!(load, TableLoad::Known);
        assert_eq!(identities.possibly_known(&[key(1)], 1, position(1)), Some(Vec::new()));
    }

    #[test]
    fn a_projector_loads_again_only_what_others_have_projected() {
        let identities = HistoryIdentities::default();
        let feed = unloaded(&identities, 1, 2);
        feed.loader().complete();
        feed.add(position(3), Some(key(3)));

        assert_eq!(identities.start(1, position(3)).1, TableLoad::Known);
        assert_eq!(identities.start(1, position(2)).1, TableLoad::Known);
        let behind = unloaded(&identities, 1, 5);
        assert_eq!(identities.possibly_known(&[key(3)], 1, position(3)), None);
        behind.loader().complete();
        unloaded(&identities, 2, 5);
    }

    #[test]
    fn a_feed_that_was_replaced_adds_nothing() {
        let identities = HistoryIdentities::default();
        let (first, second) = (unloaded(&identities, 1, 2), unloaded(&identities, 1, 2));

        assert!(!first.loader().load(&[key(1)]));
        first.add(position(9), Some(key(9)));
        first.loader().complete();
        drop(first);
        assert_eq!(identities.possibly_known(&[key(1)], 1, position(2)), None);
        assert!(second.loader().load(&[key(1)]));
        second.loader().complete();

        assert_eq!(identities.possibly_known(&[key(1)], 1, position(2)), Some(vec![key(1)]));
    }

    #[test]
    fn after_a_position_is_left_out_none_are_known_until_they_are_loaded() {
        let identities = HistoryIdentities::default();
        let (feed, _) = identities.start(1, Position::START);

        feed.add(position(2), Some(key(2)));

        assert_eq!(identities.possibly_known(&[key(1)], 1, Position::START), None);
        unloaded(&identities, 1, 1);
    }

    #[test]
    fn identities_are_not_used_after_the_end_of_their_feed_until_the_next_one() {
        let identities = HistoryIdentities::default();
        let (feed, _) = identities.start(1, Position::START);
        feed.add(position(1), Some(key(1)));
        let ask = || identities.possibly_known(&[key(1), key(2)], 1, position(1));
        assert_eq!((ask(), identities.position()), (Some(vec![key(1)]), Some(position(1))));

        // As at a handover: another process projects from here.
        drop(feed);
        assert_eq!((ask(), identities.position()), (None, None));
        let (_feed, load) = identities.start(1, position(1));

        assert_eq!((ask(), load), (Some(vec![key(1)]), TableLoad::Known));
    }

    #[test]
    fn identities_of_another_history_are_not_used_until_the_feed_adopts_it() {
        let identities = HistoryIdentities::default();
        let (feed, _) = identities.start(1, Position::START);
        feed.add(position(1), Some(key(1)));
        let ask = || identities.possibly_known(&[key(2)], 2, position(1));

        assert_eq!(ask(), None);
        feed.adopt(2);

        assert_eq!(ask(), Some(Vec::new()));
    }

    #[test]
    fn too_many_identities_are_not_loaded_and_take_no_memory() {
        let identities = HistoryIdentities::default();

        let (feed, load) = identities.start(1, position(MAX_IDENTITIES + 1));
        feed.add(position(MAX_IDENTITIES + 2), Some(key(1)));

        assert_eq!(load, TableLoad::TooMany);
        assert_eq!(identities.possibly_known(&[key(2)], 1, position(1)), None);
        assert!(identities.lock().as_ref().is_some_and(|identities| identities.filter.parts.is_empty()));
        assert!(IdentityFilter::default().may_contain(key(1)), "nothing is known without a part");
        // The tables went back: Postgres has lost its last batches.
        let loaded = unloaded(&identities, 1, MAX_IDENTITIES);
        loaded.loader().load(&[key(1)]);
        loaded.loader().complete();
        let known = identities.possibly_known(&[key(1), key(2)], 1, position(MAX_IDENTITIES));
        assert_eq!(known, Some(vec![key(1)]));
    }
}
