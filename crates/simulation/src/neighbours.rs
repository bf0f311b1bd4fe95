//! The neighbours of a simulated node: they note what they are told, and now and then do not deal with
//! it. The Chain tells of heights besides.

use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alys_stream_actor::neighbours::{Answer, Asks, NeighbourActors, NotHandled, Plug};
use ractor::{Actor, ActorProcessingErr, ActorRef, Message};
use tokio::task::JoinSet;

use crate::fault::{Conduct, Kind};
use crate::journal::{Actor as Name, Fact, Journal};
use crate::net::Machine;
use crate::node::WANTED_PANIC;
use crate::plan::Plan;
use crate::planted::Planted;
use crate::strikes::Place;

mod heard;

/// With the bug `AnswerUnhandled`, how long after its answer the Chain deals with what it was told.
const UNHANDLED_FOR: Duration = Duration::from_secs(1);

/// With the bug `ActTooEarly`, how many blocks the Chain is ahead of itself.
const AHEAD: u64 = 1_000;

/// The height of the chain so long after the beginning: there is a block in every second.
pub(crate) const fn height(elapsed: Duration) -> u64 {
    elapsed.as_secs()
}

/// What the neighbours of a node do instead of dealing with what they are told. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Moods(Arc<Mutex<Mood>>);

#[derive(Debug, Default)]
struct Mood {
    bad: Option<(Name, Conduct)>,
    /// What is not answered.
    held: Vec<Answer>,
}

impl Moods {
    fn lock(&self) -> MutexGuard<'_, Mood> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of them deals with nothing any more, or all with everything.
    pub(crate) fn set(&self, bad: Option<(Name, Conduct)>) {
        *self.lock() = Mood { bad, held: Vec::new() };
    }
}

/// Writes down what one actor is told.
#[derive(Debug, Clone)]
struct Notes {
    who: Machine,
    actor: Name,
    journal: Journal,
    seed: u64,
    planted: Option<Planted>,
    moods: Moods,
    place: Place,
}

/// Those of one process of a node.
pub(crate) fn plugs(
    (who, place): (Machine, &Place),
    journal: &Journal,
    plan: &Plan,
    moods: &Moods,
) -> NeighbourActors {
    let notes = |actor| Notes {
        who,
        actor,
        journal: journal.clone(),
        seed: plan.seed,
        planted: plan.planted,
        moods: moods.clone(),
        place: place.clone(),
    };
    NeighbourActors {
        chain: plug(notes(Name::Chain), plan.extras.has_blocks),
        bridge: plug(notes(Name::Bridge), false),
        network: plug(notes(Name::Network), false),
        storage: plug(notes(Name::Storage), false),
        sync: plug(notes(Name::Sync), false),
    }
}

fn plug<M: Heard>(notes: Notes, has_blocks: bool) -> Plug<M> {
    Plug::actor(move |asks| {
        let asks = has_blocks.then_some(asks);
        (Noting { notes: notes.clone(), asks, messages: PhantomData }, ())
    })
}

impl Notes {
    /// Deals with something, by writing it down; or does not.
    fn deal(&self, what: String, answer: Answer, tasks: &mut JoinSet<()>) {
        let mut mood = self.moods.lock();
        let conduct = mood.bad.filter(|(actor, _)| *actor == self.actor).map(|(_, how)| how);
        if conduct.is_some() {
            self.place.strike(Kind::Neighbour);
        }
        match conduct {
            None => {
                drop(mood);
                self.note(what, tasks);
                drop(answer.send(Ok(())));
            }
            Some(Conduct::Defers) => {
                drop(answer.send(Err(NotHandled::Later("as told".to_owned()))));
            }
            Some(Conduct::Hangs) => mood.held.push(answer),
            Some(Conduct::Dies) => {
                // Once: whoever starts it again would not do so for ever.
                mood.bad = None;
                drop(mood);
                std::panic::panic_any(WANTED_PANIC);
            }
        }
    }

    fn note(&self, what: String, tasks: &mut JoinSet<()>) {
        let (who, actor, journal) = (self.who, self.actor, self.journal.clone());
        let note = move || journal.note(who, Fact::Told { actor, what });
        if self.planted == Some(Planted::AnswerUnhandled) && actor == Name::Chain {
            tasks.spawn(async move {
                tokio::time::sleep(UNHANDLED_FOR).await;
                note();
            });
        } else {
            note();
        }
    }
}

/// What such an actor is told.
trait Heard: Message {
    /// Deals with what it is to deal with, and answers what it is asked.
    fn deal(self, notes: &Notes, tasks: &mut JoinSet<()>);
}

/// The actor. What it was told is in the journal and survives it.
#[derive(Debug)]
struct Noting<M> {
    notes: Notes,
    /// Whom to tell heights, if there are blocks.
    asks: Option<Asks>,
    messages: PhantomData<fn(M)>,
}

impl<M: Heard> Actor for Noting<M> {
    type Msg = M;
    type State = JoinSet<()>;
    type Arguments = ();

    async fn pre_start(
        &self,
        _myself: ActorRef<M>,
        (): (),
    ) -> Result<Self::State, ActorProcessingErr> {
        let mut tasks = JoinSet::new();
        if let Some(asks) = self.asks.clone() {
            let is_ahead = self.notes.planted == Some(Planted::ActTooEarly);
            let ahead = if is_ahead { AHEAD } else { 0 };
            tasks.spawn(tell_heights(asks, self.notes.journal.clone(), ahead));
        }
        Ok(tasks)
    }

    async fn handle(
        &self,
        _myself: ActorRef<M>,
        message: M,
        tasks: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        message.deal(&self.notes, tasks);
        Ok(())
    }
}

/// Tells of every block.
async fn tell_heights(asks: Asks, journal: Journal, ahead: u64) {
    loop {
        asks.height(height(journal.elapsed()) + ahead);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
