//! What waits for a worker. Jobs take turns, a chunk at a time, so that a short one does not wait
//! for the end of a long one.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::job::Job;
use super::segment::Piece;

/// The jobs that have pieces waiting.
#[derive(Default)]
pub(super) struct Queue {
    /// By the key of the job.
    waiting: HashMap<u64, Waiting>,
    turns: VecDeque<u64>,
}

struct Waiting {
    job: Arc<Job>,
    pieces: VecDeque<Piece>,
    item_count: usize,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Adds a piece behind the others of its job.
    pub(super) fn push_back(&mut self, job: &Arc<Job>, piece: Piece) {
        let waiting = self.of(job);
        waiting.item_count += piece.range.len();
        waiting.pieces.push_back(piece);
    }

    /// Adds a piece before the others of its job: it has waited before.
    pub(super) fn push_front(&mut self, job: &Arc<Job>, piece: Piece) {
        if piece.range.is_empty() {
            return;
        }
        let waiting = self.of(job);
        waiting.item_count += piece.range.len();
        waiting.pieces.push_front(piece);
    }

    fn of(&mut self, job: &Arc<Job>) -> &mut Waiting {
        let key = job.key;
        self.waiting.entry(key).or_insert_with(|| {
            self.turns.push_back(key);
            Waiting {
                job: Arc::clone(job),
                pieces: VecDeque::new(),
                item_count: 0,
            }
        })
    }

    /// Takes the next chunk for one of `workers` workers.
    pub(super) fn next(&mut self, workers: usize) -> Option<(Arc<Job>, Piece)> {
        let key = self.turns.pop_front()?;
        let waiting = self.waiting.get_mut(&key)?;
        let piece = waiting.pieces.front_mut()?;
        let size = waiting.job.chunk_size(waiting.item_count, workers);
        let chunk = piece.split_front(size);
        if piece.range.is_empty() {
            waiting.pieces.pop_front();
        }
        waiting.item_count -= chunk.range.len();
        let job = Arc::clone(&waiting.job);
        if waiting.pieces.is_empty() {
            self.waiting.remove(&key);
        } else {
            self.turns.push_back(key);
        }
        Some((job, chunk))
    }

    /// Takes everything that waits for one job.
    pub(super) fn remove(&mut self, job: &Arc<Job>) -> VecDeque<Piece> {
        let key = job.key;
        let Some(waiting) = self.waiting.remove(&key) else {
            return VecDeque::new();
        };
        self.turns.retain(|turn| *turn != key);
        waiting.pieces
    }

    /// Takes everything that waits.
    pub(super) fn drain(&mut self) -> Vec<(Arc<Job>, VecDeque<Piece>)> {
        self.turns.clear();
        self.waiting
            .drain()
            .map(|(_, waiting)| (waiting.job, waiting.pieces))
            .collect()
    }
}
