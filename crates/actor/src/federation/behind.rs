//! What each neighbour has not dealt with yet, in order: one that is away, hangs or refuses holds
//! back what is meant for it, and nothing that is meant for others.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alys_stream_messaging::router::Target;

use super::{InForce, Scheduled};
use crate::neighbours::{Neighbours, TargetError};

/// Who is told of the federation in force, as the router has it, and Sync of the event.
const TARGETS: [Target; 5] =
    [Target::Chain, Target::Bridge, Target::Network, Target::Storage, Target::Sync];

/// Changes that wait for one neighbour. Beyond it the oldest goes: it was replaced this often.
const WORDS_MAX: usize = 64;

#[derive(Debug, Clone)]
enum Word {
    InForce(Arc<InForce>),
    Scheduled(Arc<Scheduled>),
}

/// What is to be told, by neighbour.
#[derive(Debug)]
pub(super) struct Behind {
    queues: [Queue; TARGETS.len()],
}

#[derive(Debug)]
struct Queue {
    target: Target,
    words: Mutex<Words>,
    /// Whoever holds it tells.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Words {
    /// With numbers, since the first may be replaced while it is told.
    list: VecDeque<(u64, Word)>,
    next: u64,
}

impl Default for Behind {
    fn default() -> Self {
        let queue = |target| Queue { target, words: Mutex::default(), turn: Default::default() };
        Self { queues: TARGETS.map(queue) }
    }
}

impl Behind {
    fn of(&self, target: Target) -> impl Iterator<Item = &Queue> {
        self.queues.iter().filter(move |queue| queue.target == target)
    }

    /// A federation came into force: everybody is to know.
    pub(super) fn handle_in_force(&self, in_force: &Arc<InForce>) {
        for queue in &self.queues {
            queue.push(Word::InForce(Arc::clone(in_force)));
        }
    }

    /// An update waits for its height: Chain is to know.
    pub(super) fn handle_scheduled(&self, scheduled: &Arc<Scheduled>) {
        self.of(Target::Chain).for_each(|queue| queue.push(Word::Scheduled(Arc::clone(scheduled))));
    }

    /// A neighbour began anew: it knows nothing. Network spreads every change, for those who check
    /// each by the one before; everybody else needs what stands.
    pub(super) fn handle_new_life(
        &self,
        target: Target,
        in_force: &Arc<InForce>,
        scheduled: &[Arc<Scheduled>],
    ) {
        for queue in self.of(target) {
            if target != Target::Network {
                queue.lock().list.clear();
            }
            if queue.lock().list.is_empty() {
                queue.push(Word::InForce(Arc::clone(in_force)));
            }
        }
        if target == Target::Chain {
            scheduled.iter().for_each(|it| self.handle_scheduled(it));
        }
    }

    /// Tells one of them; see [`Behind::catch_up`].
    ///
    /// # Errors
    ///
    /// As [`Behind::catch_up`].
    ///
    /// # Cancel safety
    ///
    /// As [`Behind::catch_up`].
    pub(super) async fn catch_up_one(
        &self,
        target: Target,
        neighbours: &Neighbours,
    ) -> Result<(), TargetError> {
        for queue in self.of(target) {
            queue.catch_up(neighbours).await?;
        }
        Ok(())
    }

    /// Tells all of them at the same time, each in order.
    ///
    /// # Errors
    ///
    /// When one has not dealt with something: the first such in the order of the targets. What it
    /// has not dealt with stays for the next call.
    ///
    /// # Cancel safety
    ///
    /// When it is dropped, what was not dealt with yet is told again by the next call.
    pub(super) async fn catch_up(&self, neighbours: &Neighbours) -> Result<(), TargetError> {
        let all = self.queues.iter().map(|queue| queue.catch_up(neighbours));
        futures::future::join_all(all).await.into_iter().collect()
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Words> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, word: Word) {
        let mut words = self.lock();
        words.next += 1;
        let number = words.next;
        words.list.push_back((number, word));
        if words.list.len() > WORDS_MAX {
            words.list.pop_front();
            let target = self.target.as_str();
            tracing::error!(target, "it deals with no change of the federation: one is left out");
        }
    }

    fn first(&self) -> Option<(u64, Word)> {
        self.lock().list.front().cloned()
    }

    async fn catch_up(&self, neighbours: &Neighbours) -> Result<(), TargetError> {
        let _turn = self.turn.lock().await;
        while let Some((number, word)) = self.first() {
            let told = match &word {
                Word::InForce(in_force) => neighbours.tell_in_force(self.target, in_force).await,
                Word::Scheduled(scheduled) => neighbours.tell_scheduled(scheduled).await,
            };
            let mut words = self.lock();
            match told {
                Ok(()) => {}
                // It will never deal with this one, and something newer takes its place.
                Err(error) if !error.is_for_now() && words.list.len() > 1 => {
                    tracing::error!(%error, "a change of the federation is passed over");
                }
                Err(error) => return Err(error),
            }
            words.list.pop_front_if(|(first, _)| *first == number);
        }
        Ok(())
    }
}
