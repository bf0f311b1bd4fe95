//! What an operator does to the node.

use std::time::Duration;

use alys_stream_actor::letters::LetterFilter;
use alys_stream_transport::balance::BalanceConfig;

use super::{Later, World, ending, number_of};
use crate::fault::{Operation, Settings};
use crate::journal::Fact;
use crate::net::Machine;

/// How long an operator waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Dead letters that are handled at once.
const LETTERS_MAX: usize = 32;

impl World {
    pub(super) async fn operate(&mut self, operation: Operation) {
        match operation {
            Operation::Reconfigure { settings, down, time } => {
                let before = self.node.settings();
                self.reconfigure(settings, down).await;
                if let Some(time) = time {
                    self.after(time, Later::Settings { settings: before, down });
                }
            }
            Operation::Balance { policy } => self.balance(policy),
            Operation::Drain { limit } => self.drain(limit),
            Operation::Letters { are_removed } => self.letters(are_removed).await,
        }
    }

    /// Starts the node again with other settings.
    pub(super) async fn reconfigure(&mut self, settings: Settings, down: Duration) {
        let before = self.node.settings().off.map(|(gov, _)| gov);
        self.node.set_settings(settings);
        let window_max = settings.window_max.unwrap_or(0);
        self.history.window_max = self.history.window_max.max(window_max);
        self.history.off.extend(before.map(|gov| (gov, false)));
        self.history.off.extend(settings.off.map(|(gov, _)| (gov, true)));
        self.restart(Machine::NODE, Duration::ZERO, down).await;
    }

    /// Has endpoints chosen in another way from now on.
    fn balance(&self, policy: &str) {
        let Some(system) = self.node.system() else { return };
        let config = serde_json::json!({ "policy": policy });
        let config: BalanceConfig = serde_json::from_value(config).expect("a policy");
        system.handle().set_balance(config).expect("good bounds");
    }

    /// Waits until everything is acknowledged, while everything else goes on.
    fn drain(&mut self, limit: Duration) {
        let Some(system) = self.node.system() else { return };
        let handle = system.handle();
        // Whether it came to that is no promise.
        self.tasks.spawn(async move { drop(handle.drain(limit).await) });
    }

    /// Sends dead letters again, or removes them.
    async fn letters(&mut self, are_removed: bool) {
        let Some(system) = self.node.system() else { return };
        let handle = system.handle();
        let page = handle.dead_letters(LetterFilter::default(), ending::PAGE);
        let Ok(Ok(page)) = tokio::time::timeout(PATIENCE, page).await else { return };
        let letters = page.letters.into_iter().take(LETTERS_MAX);
        let (ids, messages): (Vec<_>, Vec<_>) =
            letters.map(|(id, letter)| (id, letter.message.id)).unzip();
        let numbers = messages.iter().filter_map(|id| number_of(self.plan.seed, id));
        if are_removed {
            self.history.purged.extend(numbers);
        } else {
            self.history.replayed.extend(numbers);
        }
        let handling = async {
            if are_removed {
                handle.purge_dead_letters(&ids).await.map(drop)
            } else {
                handle.replay_dead_letters(&ids).await.map(drop)
            }
        };
        let done = tokio::time::timeout(PATIENCE, handling).await;
        let is_done = matches!(done, Ok(Ok(())));
        let what = format!("{} dead letters are handled: {is_done}", ids.len());
        self.note(Machine::NODE, Fact::Fault(what));
    }
}
