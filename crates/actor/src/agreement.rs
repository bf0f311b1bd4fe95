//! Whether what one endpoint says is acted on: once, and only if the others do not contradict.
//!
//! Pure. Governance says the same thing through several endpoints. Each thing has a [`Topic`] (a
//! version, a proposal, a request) and a content, known by its digest. The policy says how many
//! enabled endpoints must have brought a content before it is acted on: `any` one of them, or the
//! `majority`. Two contents under one topic are a conflict: from then on none is acted on.
//!
//! Only digests are held, never contents: whoever brings the last vote that was needed brings the
//! content too, and the others are kept where they are (in the inbox) until then.
//!
//! Not here: whether a content is signed. Ask that first, or anybody could contradict anything.
//!
//! Forgetting, so that memory is bounded and nothing acts twice:
//! - A topic with an end (a proposal's deadline, a request's) is forgotten at its end, and refused
//!   from then on.
//! - Versions are forgotten below the mark that the durable federation history keeps
//!   ([`Agreement::handle_version_settled`]), and refused by it from then on.
//! - A topic is never forgotten for room: when there is none, new topics wait.
//!
//! Invariants:
//! - A14: of one topic at most one content is acted on, at most once.
//! - A15: what an endpoint says counts once, and only while it is enabled.

use std::collections::{BTreeMap, BTreeSet};

use alys_stream_messaging::outbox::EndpointId;
use alys_stream_protocol::message::MessageId;
use alys_stream_protocol::time::UnixMillis;

use crate::federation::Version;

mod content;
#[cfg(test)]
mod tests;

pub use alys_stream_config::AgreementPolicy;
pub use content::ContentDigest;

/// Most topics at one time: 200 bytes each.
pub const TOPICS_MAX: usize = 4096;

/// Most open topics that one endpoint brought up and nobody else has confirmed: a flood by one of
/// them leaves room for the others.
pub const TOPICS_PER_ENDPOINT_MAX: usize = 512;

/// Most different contents of one topic that are remembered; a second one makes the conflict.
const CONTENTS_MAX: usize = 2;

/// What is spoken about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// A federation update, by its version.
    Federation(Version),
    /// A proposal, by its id.
    Proposal(String),
    /// What governance says about one of our requests, beside signatures: those are gathered, each
    /// endpoint's for itself.
    Request(MessageId),
}

/// What is to be done about something that an endpoint said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observed {
    /// Act on it, now and only now.
    Agreed,
    /// It was acted on before.
    Duplicate,
    /// Keep it: so many endpoints more must say the same.
    Waiting {
        /// How many.
        missing: usize,
    },
    /// The endpoints contradict each other: drop it.
    Conflict {
        /// Whether this is the first time that it shows: raise an alert.
        is_new: bool,
        /// Whether one of the contents was acted on already.
        is_applied: bool,
    },
    /// Its end has passed: drop it.
    Expired,
    /// The endpoint is not among the enabled ones: drop it.
    NotEnabled,
    /// No room for a new topic: try again later.
    Full,
}

#[derive(Debug)]
struct Discussion {
    /// Who said what. The second content makes the conflict.
    contents: BTreeMap<ContentDigest, BTreeSet<EndpointId>>,
    applied: Option<ContentDigest>,
    is_conflict: bool,
    until: Option<UnixMillis>,
    /// Who brought it up.
    first: EndpointId,
    /// Whether nobody else has said anything about it.
    is_alone: bool,
}

/// What the endpoints said.
#[derive(Debug)]
pub struct Agreement {
    policy: AgreementPolicy,
    enabled: BTreeSet<EndpointId>,
    topics: BTreeMap<Topic, Discussion>,
    /// Ends of topics, earliest first.
    ends: BTreeSet<(UnixMillis, Topic)>,
    /// How many topics each endpoint brought up that nobody else said anything about.
    alone: BTreeMap<EndpointId, usize>,
    /// Versions up to this one are settled.
    settled: Option<Version>,
}

impl Agreement {
    /// Nothing was said yet.
    #[must_use]
    pub fn new(policy: AgreementPolicy, enabled: impl IntoIterator<Item = EndpointId>) -> Self {
        Self {
            policy,
            enabled: enabled.into_iter().collect(),
            topics: BTreeMap::new(),
            ends: BTreeSet::new(),
            alone: BTreeMap::new(),
            settled: None,
        }
    }

    /// How many topics are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// How many endpoints it takes now.
    #[must_use]
    pub fn needed(&self) -> usize {
        self.policy.needed(self.enabled.len())
    }

    /// These endpoints are enabled from now on. Returns the topics that wait and have enough votes
    /// now: what was kept of them is to be observed again.
    pub fn handle_enabled(&mut self, enabled: impl IntoIterator<Item = EndpointId>) -> Vec<Topic> {
        self.enabled = enabled.into_iter().collect();
        let needed = self.needed();
        let has_enough = |discussion: &Discussion| {
            let is_open = discussion.applied.is_none() && !discussion.is_conflict;
            is_open && discussion.contents.values().any(|who| self.votes(who) >= needed)
        };
        let ready = self.topics.iter().filter(|(_, discussion)| has_enough(discussion));
        ready.map(|(topic, _)| topic.clone()).collect()
    }

    /// An endpoint said something. `until` is when it loses its meaning; from then on it is refused.
    pub fn handle_said(
        &mut self,
        now: UnixMillis,
        endpoint: EndpointId,
        topic: Topic,
        content: ContentDigest,
        until: Option<UnixMillis>,
    ) -> Observed {
        if !self.enabled.contains(&endpoint) {
            return Observed::NotEnabled;
        }
        if until.is_some_and(|until| until <= now) {
            return Observed::Expired;
        }
        self.handle_timeout(now);
        if let Topic::Federation(version) = topic
            && self.settled.is_some_and(|settled| version <= settled)
        {
            return Observed::Duplicate;
        }
        if !self.topics.contains_key(&topic) && !self.open(endpoint, &topic, until) {
            return Observed::Full;
        }
        let needed = self.needed();
        let Some(discussion) = self.topics.get_mut(&topic) else {
            return Observed::Full;
        };
        let is_known = discussion.contents.contains_key(&content);
        if is_known || discussion.contents.len() < CONTENTS_MAX {
            // A15: a set, so nobody counts twice.
            discussion.contents.entry(content).or_default().insert(endpoint);
        }
        if discussion.first != endpoint && std::mem::replace(&mut discussion.is_alone, false) {
            release(&mut self.alone, discussion.first);
        }
        if discussion.contents.len() > 1 {
            let is_new = !std::mem::replace(&mut discussion.is_conflict, true);
            return Observed::Conflict { is_new, is_applied: discussion.applied.is_some() };
        }
        if discussion.applied.is_some() {
            return Observed::Duplicate;
        }
        let who = discussion.contents.get(&content);
        let votes = who.map_or(0, |who| who.intersection(&self.enabled).count());
        if votes < needed {
            return Observed::Waiting { missing: needed - votes };
        }
        discussion.applied = Some(content);
        Observed::Agreed
    }

    /// Something was acted on by an earlier process: it will not be acted on again.
    pub fn restore(
        &mut self,
        topic: Topic,
        content: ContentDigest,
        until: Option<UnixMillis>,
        endpoint: EndpointId,
    ) {
        self.handle_ended(&topic);
        if let Some(until) = until {
            self.ends.insert((until, topic.clone()));
        }
        let contents = BTreeMap::from([(content, BTreeSet::from([endpoint]))]);
        let discussion = Discussion {
            contents,
            applied: Some(content),
            is_conflict: false,
            until,
            first: endpoint,
            is_alone: false,
        };
        self.topics.insert(topic, discussion);
    }

    /// What was agreed on could not be acted on after all; the next one who says it has it acted on
    /// again.
    pub fn handle_not_applied(&mut self, topic: &Topic) {
        if let Some(discussion) = self.topics.get_mut(topic) {
            discussion.applied = None;
        }
    }

    /// Versions up to this one are settled for good, durably: nothing about them is needed any more.
    pub fn handle_version_settled(&mut self, version: Version) {
        self.settled = self.settled.max(Some(version));
        let up_to = ..=Topic::Federation(version);
        let settled: Vec<_> = self.topics.range(up_to).map(|(topic, _)| topic.clone()).collect();
        for topic in settled {
            self.handle_ended(&topic);
        }
    }

    /// A topic is over: nothing about it is needed any more.
    pub fn handle_ended(&mut self, topic: &Topic) {
        let Some(ended) = self.topics.remove(topic) else {
            return;
        };
        if ended.is_alone {
            release(&mut self.alone, ended.first);
        }
        if let Some(until) = ended.until {
            self.ends.remove(&(until, topic.clone()));
        }
    }

    /// When the next topic loses its meaning.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<UnixMillis> {
        self.ends.first().map(|(until, _)| *until)
    }

    /// Forgets what has lost its meaning.
    pub fn handle_timeout(&mut self, now: UnixMillis) {
        while self.ends.first().is_some_and(|(until, _)| *until <= now) {
            if let Some((_, topic)) = self.ends.pop_first() {
                self.handle_ended(&topic);
            }
        }
    }

    fn open(&mut self, endpoint: EndpointId, topic: &Topic, until: Option<UnixMillis>) -> bool {
        let alone = self.alone.entry(endpoint).or_default();
        if self.topics.len() >= TOPICS_MAX || *alone >= TOPICS_PER_ENDPOINT_MAX {
            return false;
        }
        *alone += 1;
        if let Some(until) = until {
            self.ends.insert((until, topic.clone()));
        }
        self.topics.insert(
            topic.clone(),
            Discussion {
                contents: BTreeMap::new(),
                applied: None,
                is_conflict: false,
                until,
                first: endpoint,
                is_alone: true,
            },
        );
        true
    }

    fn votes(&self, who: &BTreeSet<EndpointId>) -> usize {
        who.intersection(&self.enabled).count()
    }
}

fn release(alone: &mut BTreeMap<EndpointId, usize>, endpoint: EndpointId) {
    if let Some(count) = alone.get_mut(&endpoint) {
        *count = count.saturating_sub(1);
    }
}
