//! What an operator does to a node.

use std::time::Duration;

use alys_stream_actor::letters::LetterFilter;
use alys_stream_transport::balance::BalanceConfig;

use super::{Later, World, ending, number_of};
use crate::fault::{Kind, Operation, Settings};
use crate::journal::Fact;
use crate::net::Machine;

/// How long an operator waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Dead letters that are handled at once.
const LETTERS_MAX: usize = 32;

impl World {
    pub(super) async fn operate(&mut self, node: Machine, operation: Operation) {
        match operation {
            Operation::Reconfigure { settings, down, time } => {
                let before = self.site(node).node.settings();
                if self.reconfigure(node, settings, down).await && settings != before {
                    self.strikes.at(node).strike(Kind::Reconfigure);
                }
                if let Some(time) = time {
                    self.after(time, Later::Settings { node, settings: before, down });
                }
            }
            Operation::Balance { policy } => self.balance(node, policy),
            Operation::Drain { limit } => self.drain(node, limit),
            Operation::Letters { are_removed } => self.letters(node, are_removed).await,
        }
    }

    /// Starts a node again with other settings; says whether it was running.
    pub(super) async fn reconfigure(
        &mut self,
        node: Machine,
        settings: Settings,
        down: Duration,
    ) -> bool {
        self.site_mut(node).set_settings(settings);
        self.restart(node, Duration::ZERO, down).await
    }

    /// Has endpoints chosen in another way from now on.
    fn balance(&self, node: Machine, policy: &str) {
        let Some(system) = self.site(node).node.system() else { return };
        let config = serde_json::json!({ "policy": policy });
        let config: BalanceConfig = serde_json::from_value(config).expect("a policy");
        system.handle().set_balance(config).expect("good bounds");
        self.strikes.at(node).strike(Kind::Balance);
    }

    /// Waits until everything is acknowledged, while everything else goes on.
    fn drain(&mut self, node: Machine, limit: Duration) {
        let site = self.site_mut(node);
        let Some(system) = site.node.system() else { return };
        let handle = system.handle();
        // Whether it came to that is no promise.
        site.tasks.spawn(async move { drop(handle.drain(limit).await) });
        self.strikes.at(node).strike(Kind::Drain);
    }

    /// Sends dead letters again, or removes them.
    async fn letters(&mut self, node: Machine, are_removed: bool) {
        let (seed, site) = (self.plan.seed, self.site_mut(node));
        let Some(system) = site.node.system() else { return };
        let handle = system.handle();
        let page = handle.dead_letters(LetterFilter::default(), ending::PAGE);
        let Ok(Ok(page)) = tokio::time::timeout(PATIENCE, page).await else { return };
        let letters = page.letters.into_iter().take(LETTERS_MAX);
        let (ids, messages): (Vec<_>, Vec<_>) =
            letters.map(|(id, letter)| (id, letter.message.id)).unzip();
        let numbers = messages.iter().filter_map(|id| number_of(seed, id));
        if are_removed {
            site.history.purged.extend(numbers);
        } else {
            site.history.replayed.extend(numbers);
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
        if is_done && !ids.is_empty() {
            let kind = if are_removed { Kind::Purge } else { Kind::Replay };
            self.strikes.at(node).strike(kind);
        }
        let what = format!("{} dead letters are handled: {is_done}", ids.len());
        self.note(node, Fact::Fault(what));
    }
}
