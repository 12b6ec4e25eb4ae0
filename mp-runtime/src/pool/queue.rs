//! What waits for a worker. Jobs take turns, a chunk at a time, so that a short one does not wait
//! for the end of a long one.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use super::job::Job;
use super::segment::Piece;

/// The jobs that have pieces waiting.
#[derive(Clone, Default)]
pub(super) struct Queue {
    /// By the key of the job.
    waiting: HashMap<u64, Waiting>,
    /// Keys by turn, so that the place of one among ten thousand is found at once.
    turns: BTreeMap<u64, u64>,
    last_turn: u64,
    item_count: usize,
}

#[derive(Clone)]
struct Waiting {
    job: Arc<Job>,
    pieces: VecDeque<Piece>,
    item_count: usize,
    turn: u64,
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
            self.of(job, piece.range.len()).pieces.push_back(piece);
        }
    }

    /// Adds a piece before the others of its job: it has waited before.
    pub(super) fn push_front(&mut self, job: &Arc<Job>, piece: Piece) {
        if !piece.range.is_empty() {
            self.of(job, piece.range.len()).pieces.push_front(piece);
        }
    }

    /// What waits of a job that gets so many items more.
    fn of(&mut self, job: &Arc<Job>, more: usize) -> &mut Waiting {
        let waiting = self.waiting.entry(job.key).or_insert_with(|| {
            self.last_turn += 1;
            self.turns.insert(self.last_turn, job.key);
            Waiting {
                job: Arc::clone(job),
                pieces: VecDeque::new(),
                item_count: 0,
                turn: self.last_turn,
            }
        });
        waiting.item_count += more;
        self.item_count += more;
        waiting
    }

    /// Takes the next chunk for one of `workers` workers, of at most so many items.
    pub(super) fn next(&mut self, workers: usize, most: usize) -> Option<(Arc<Job>, Piece)> {
        let (_, key) = self.turns.pop_first()?;
        let waiting = self.waiting.get_mut(&key)?;
        let piece = waiting.pieces.front_mut()?;
        let size = waiting.job.chunk_size(waiting.item_count, workers);
        let chunk = piece.split_front(size.min(most));
        if piece.range.is_empty() {
            waiting.pieces.pop_front();
        }
        waiting.item_count -= chunk.range.len();
        self.item_count -= chunk.range.len();
        let job = Arc::clone(&waiting.job);
        if waiting.pieces.is_empty() {
            self.waiting.remove(&key);
        } else {
            self.last_turn += 1;
            waiting.turn = self.last_turn;
            self.turns.insert(self.last_turn, key);
        }
        Some((job, chunk))
    }

    /// Takes everything that waits for one job.
    pub(super) fn remove(&mut self, job: &Job) -> VecDeque<Piece> {
        let Some(waiting) = self.waiting.remove(&job.key) else {
            return VecDeque::new();
        };
        self.turns.remove(&waiting.turn);
        self.item_count -= waiting.item_count;
        waiting.pieces
    }

    /// Takes everything that waits.
    pub(super) fn drain(&mut self) -> Vec<(Arc<Job>, VecDeque<Piece>)> {
        self.turns.clear();
        self.item_count = 0;
        self.waiting
            .drain()
            .map(|(_, waiting)| (waiting.job, waiting.pieces))
            .collect()
    }
}
