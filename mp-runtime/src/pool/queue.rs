//! What waits for a worker. Jobs take turns, a chunk at a time, so that a short one does not wait
//! for the end of a long one.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use super::job::Job;
use super::segment::{CHUNK_BYTES, Piece};

/// So many void turns are always passed over rather than looked for.
const VOID_TURNS: usize = 64;

/// The jobs that have pieces waiting.
#[derive(Clone, Default)]
pub(super) struct Queue {
    /// By the key of the job.
    waiting: HashMap<u64, Waiting, BuildHasherDefault<KeyHasher>>,
    /// Turns, and whose they are. That of a job that waits no more is void, and is passed over.
    turns: VecDeque<(u64, u64)>,
    last_turn: u64,
    item_count: usize,
}

/// Keys are counted up, so that their bits are as good as any.
#[derive(Clone, Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64((*byte).into()));
    }

    fn write_u64(&mut self, key: u64) {
        // Fibonacci hashing: the table looks at the highest bits as well (Knuth, 6.4).
        self.0 = (self.0 ^ key).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[derive(Clone)]
struct Waiting {
    job: Arc<Job>,
    /// The first of its pieces, which is mostly the only one, ...
    first: Option<Piece>,
    /// ... and the others.
    more: VecDeque<Piece>,
    item_count: usize,
    turn: u64,
}

impl Waiting {
    fn push_back(&mut self, piece: Piece) {
        match self.first {
            None => self.first = Some(piece),
            Some(_) => self.more.push_back(piece),
        }
    }

    fn push_front(&mut self, piece: Piece) {
        if let Some(second) = self.first.replace(piece) {
            self.more.push_front(second);
        }
    }

    fn into_pieces(self) -> VecDeque<Piece> {
        let mut pieces = self.more;
        self.first
            .into_iter()
            .for_each(|piece| pieces.push_front(piece));
        pieces
    }
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many items wait.
    pub(super) fn item_count(&self) -> usize {
        self.item_count
    }

    /// Adds a piece behind the others of its job.
    pub(super) fn push_back(&mut self, job: &Arc<Job>, piece: Piece) {
        if !piece.range.is_empty() {
            self.of(job, piece.range.len()).push_back(piece);
        }
    }

    /// Adds a piece before the others of its job: it has waited before.
    pub(super) fn push_front(&mut self, job: &Arc<Job>, piece: Piece) {
        if !piece.range.is_empty() {
            self.of(job, piece.range.len()).push_front(piece);
        }
    }

    /// What waits of a job that gets so many items more.
    fn of(&mut self, job: &Arc<Job>, more: usize) -> &mut Waiting {
        let waiting = self.waiting.entry(job.key).or_insert_with(|| {
            self.last_turn += 1;
            self.turns.push_back((self.last_turn, job.key));
            Waiting {
                job: Arc::clone(job),
                first: None,
                more: VecDeque::new(),
                item_count: 0,
                turn: self.last_turn,
            }
        });
        waiting.item_count += more;
        self.item_count += more;
        waiting
    }

    /// Whose turn it is.
    fn front(&mut self) -> Option<u64> {
        loop {
            let &(turn, key) = self.turns.front()?;
            // A job that came back has another turn.
            if self.waiting.get(&key).is_some_and(|own| own.turn == turn) {
                return Some(key);
            }
            self.turns.pop_front();
        }
    }

    /// Looks at what comes next: the job, the piece that the chunk is a part of, and how many items
    /// the chunk has at most.
    pub(super) fn peek(&mut self, workers: usize) -> Option<(&Arc<Job>, &Piece, usize)> {
        let key = self.front()?;
        let waiting = self.waiting.get(&key)?;
        let size = waiting.job.chunk_size(waiting.item_count, workers);
        Some((&waiting.job, waiting.first.as_ref()?, size))
    }

    /// Takes the next chunk for one of `workers` workers, of at most so many items.
    pub(super) fn next(&mut self, workers: usize, most: usize) -> Option<(Arc<Job>, Piece)> {
        let size = self.peek(workers)?.2;
        self.take(size.min(most), CHUNK_BYTES)
    }

    /// Takes a chunk of so many items of what comes next, or of fewer, if there are not so many in one
    /// piece or they have more bytes than this; one at least.
    pub(super) fn take(&mut self, size: usize, most_bytes: usize) -> Option<(Arc<Job>, Piece)> {
        let key = self.front()?;
        self.turns.pop_front();
        let mut waiting = self.waiting.remove(&key)?;
        let mut piece = waiting.first.take()?;
        let chunk = piece.split_front(size, most_bytes);
        waiting.first = match piece.range.is_empty() {
            true => waiting.more.pop_front(),
            false => Some(piece),
        };
        waiting.item_count -= chunk.range.len();
        self.item_count -= chunk.range.len();
        if waiting.first.is_none() {
            return Some((waiting.job, chunk));
        }
        let job = Arc::clone(&waiting.job);
        self.last_turn += 1;
        waiting.turn = self.last_turn;
        self.turns.push_back((self.last_turn, key));
        self.waiting.insert(key, waiting);
        Some((job, chunk))
    }

    /// Takes everything that waits for one job.
    pub(super) fn remove(&mut self, job: &Job) -> VecDeque<Piece> {
        let Some(waiting) = self.waiting.remove(&job.key) else {
            return VecDeque::new();
        };
        self.item_count -= waiting.item_count;
        // Now and then the void ones go, so that they do not outgrow the others.
        if self.turns.len() > 2 * self.waiting.len() + VOID_TURNS {
            let Queue { waiting, turns, .. } = self;
            turns.retain(|(turn, key)| waiting.get(key).is_some_and(|own| own.turn == *turn));
        }
        waiting.into_pieces()
    }

    /// Takes everything that waits.
    pub(super) fn drain(&mut self) -> Vec<(Arc<Job>, VecDeque<Piece>)> {
        self.turns.clear();
        self.item_count = 0;
        self.waiting
            .drain()
            .map(|(_, waiting)| (Arc::clone(&waiting.job), waiting.into_pieces()))
            .collect()
    }
}
