//! The router: what a message of some kind deserves, and who is meant by one that came in. Pure.
//!
//! Unknown kinds are refused with their number, in both directions, never guessed.

use std::collections::BTreeMap;
use std::time::Duration;

use alys_stream_protocol::message::{Message, MessageKind, Priority};
use alys_stream_protocol::time::UnixMillis;
use serde::Deserialize;

/// When a message is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// One governance node acknowledged it.
    Any,
    /// So many acknowledged it; unsent copies are then withdrawn.
    Quorum(u16),
    /// Every enabled endpoint acknowledged it, was removed, or its deadline passed.
    All,
}

/// How safe a message is when it counts as accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// On stable storage.
    #[default]
    Fsync,
    /// Written, not synced.
    Os,
    /// Never logged; a newer message of the same kind replaces an older one.
    Memory,
}

/// How the outbox treats a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// When it is settled.
    pub policy: Policy,
    /// Whether acknowledgements are not enough: it stays until its answer is there
    /// ([`crate::Outbox::handle_concluded`]) or its deadline passes.
    pub awaits_answer: bool,
}

/// What a message of one kind deserves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindRoute {
    /// How the outbox treats it.
    pub route: Route,
    /// Its priority, unless the sender names one.
    pub priority: Priority,
    /// How safe it is when accepted.
    pub durability: Durability,
    /// How long it may take, unless the sender names a deadline.
    pub deadline: Option<Duration>,
    /// The same at priority `Critical`.
    pub deadline_critical: Option<Duration>,
}

impl KindRoute {
    /// The deadline of a message that names none.
    #[must_use]
    pub fn deadline_at(&self, now: UnixMillis, priority: Priority) -> Option<UnixMillis> {
        let after = match priority {
            Priority::Critical => self.deadline_critical.or(self.deadline),
            Priority::High | Priority::Normal | Priority::Low => self.deadline,
        };
        after.map(|after| now.saturating_add(after))
    }
}

/// Overrides for one kind. What is absent stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KindConfig {
    /// When a message of this kind is settled: `any`, `all` or `quorum: N`.
    pub policy: Option<Policy>,
    /// `low`, `normal`, `high` or `critical`.
    #[serde(deserialize_with = "priority")]
    pub priority: Option<Priority>,
    /// `fsync`, `os` or `memory`.
    pub durability: Option<Durability>,
    /// How long it may take.
    #[serde(with = "humantime_serde")]
    pub deadline: Option<Duration>,
}

/// Overrides per kind, by name (`signature_request`, `pegin_notification`, `status_update`,
/// `application`) or, for applications, by number.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RouterConfig {
    /// The overrides.
    pub kinds: BTreeMap<String, KindConfig>,
}

/// A router that cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouterError {
    /// The configuration names a kind that is not sent.
    #[error(
        "kinds.{name} is not a kind that is sent: use signature_request, pegin_notification, \
         status_update, application, or a number from 1000 on"
    )]
    UnknownName {
        /// What it names.
        name: String,
    },
    /// A quorum of nobody.
    #[error("kinds.{name}.policy asks for a quorum of 0: use at least 1")]
    EmptyQuorum {
        /// The kind.
        name: String,
    },
    /// Memory class, but it must not be lost.
    #[error("kinds.{name}.durability is memory, but its policy needs a log: use fsync or os")]
    Volatile {
        /// The kind.
        name: String,
    },
}

/// A kind that is not routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("messages of kind {} are not routed in this direction", .0.0)]
pub struct UnknownKind(
    /// Its number.
    pub MessageKind,
);

/// Who is meant by a message from governance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// The link itself: registrations, heartbeats, bare acknowledgements.
    Link,
    /// Whoever awaits the answer to a request.
    Requester,
    /// Signs and broadcasts Bitcoin transactions.
    Bridge,
    /// Produces blocks.
    Chain,
    /// Talks to other nodes.
    Network,
    /// Keeps history.
    Storage,
    /// Follows the chain.
    Sync,
    /// The application that defined the kind.
    Application,
}

impl Target {
    /// The word used in metrics and output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Requester => "requester",
            Self::Bridge => "bridge",
            Self::Chain => "chain",
            Self::Network => "network",
            Self::Storage => "storage",
            Self::Sync => "sync",
            Self::Application => "application",
        }
    }
}

/// Knows what every kind deserves.
#[derive(Debug, Clone)]
pub struct Router {
    kinds: BTreeMap<MessageKind, KindRoute>,
    application: KindRoute,
}

const SIGNATURE_REQUEST: KindRoute = KindRoute {
    route: Route { policy: Policy::All, awaits_answer: true },
    priority: Priority::High,
    durability: Durability::Fsync,
    deadline: Some(Duration::from_secs(120)),
    deadline_critical: Some(Duration::from_secs(30)),
};

const PEGIN_NOTIFICATION: KindRoute = KindRoute {
    route: Route { policy: Policy::All, awaits_answer: false },
    priority: Priority::Normal,
    durability: Durability::Fsync,
    deadline: None,
    deadline_critical: None,
};

const STATUS_UPDATE: KindRoute = KindRoute {
    route: Route { policy: Policy::All, awaits_answer: false },
    priority: Priority::Low,
    durability: Durability::Memory,
    deadline: None,
    deadline_critical: None,
};

const APPLICATION: KindRoute = KindRoute {
    route: Route { policy: Policy::Any, awaits_answer: false },
    priority: Priority::Normal,
    durability: Durability::Fsync,
    deadline: None,
    deadline_critical: None,
};

impl Default for Router {
    fn default() -> Self {
        Self {
            kinds: BTreeMap::from([
                (MessageKind::SIGNATURE_REQUEST, SIGNATURE_REQUEST),
                (MessageKind::PEGIN_NOTIFICATION, PEGIN_NOTIFICATION),
                (MessageKind::STATUS_UPDATE, STATUS_UPDATE),
            ]),
            application: APPLICATION,
        }
    }
}

impl Router {
    /// Applies a configuration to the defaults.
    ///
    /// # Errors
    ///
    /// When it names a kind that is not sent, or contradicts itself.
    pub fn try_new(config: &RouterConfig) -> Result<Self, RouterError> {
        let mut this = Self::default();
        // First the default of all application kinds, so that single ones start from it.
        if let Some(overrides) = config.kinds.get("application") {
            this.application = apply(this.application, "application", overrides)?;
        }
        for (name, overrides) in config.kinds.iter().filter(|(name, _)| *name != "application") {
            let kind = this
                .kind_named(name)
                .ok_or_else(|| RouterError::UnknownName { name: name.clone() })?;
            let base = this.kinds.get(&kind).copied().unwrap_or(this.application);
            this.kinds.insert(kind, apply(base, name, overrides)?);
        }
        Ok(this)
    }

    fn kind_named(&self, name: &str) -> Option<MessageKind> {
        let published =
            self.kinds.keys().find(|kind| !kind.is_application() && kind.as_str() == name);
        published
            .copied()
            .or_else(|| name.parse().ok().map(MessageKind).filter(|kind| kind.is_application()))
    }

    /// What a message of this kind deserves on its way out.
    ///
    /// # Errors
    ///
    /// When the kind is not sent by applications.
    pub fn outbound(&self, kind: MessageKind) -> Result<KindRoute, UnknownKind> {
        match self.kinds.get(&kind) {
            Some(route) => Ok(*route),
            None if kind.is_application() => Ok(self.application),
            None => Err(UnknownKind(kind)),
        }
    }

    /// Fills in the deadline of a message that names none.
    ///
    /// # Errors
    ///
    /// When the kind is not sent by applications.
    pub fn prepare(
        &self,
        now: UnixMillis,
        message: &mut Message,
    ) -> Result<KindRoute, UnknownKind> {
        let route = self.outbound(message.kind)?;
        if message.deadline.is_none() {
            message.deadline = route.deadline_at(now, message.priority);
        }
        Ok(route)
    }

    /// Who is meant by a message of this kind on its way in.
    ///
    /// # Errors
    ///
    /// When governance does not send this kind.
    pub fn inbound(&self, kind: MessageKind) -> Result<&'static [Target], UnknownKind> {
        match kind {
            MessageKind::ACKNOWLEDGEMENT
            | MessageKind::REGISTRATION_ACK
            | MessageKind::HEARTBEAT_ACK => Ok(&[Target::Link]),
            MessageKind::SIGNATURE_RESPONSE => Ok(&[Target::Requester, Target::Bridge]),
            MessageKind::FEDERATION_UPDATE => {
                Ok(&[Target::Chain, Target::Bridge, Target::Network, Target::Storage])
            }
            MessageKind::PROPOSAL_NOTIFICATION => Ok(&[Target::Chain, Target::Sync]),
            MessageKind::ERROR_RESPONSE => Ok(&[Target::Requester]),
            kind if kind.is_application() => Ok(&[Target::Application]),
            kind => Err(UnknownKind(kind)),
        }
    }
}

fn apply(base: KindRoute, name: &str, config: &KindConfig) -> Result<KindRoute, RouterError> {
    let name = || name.to_owned();
    let policy = config.policy.unwrap_or(base.route.policy);
    if policy == Policy::Quorum(0) {
        return Err(RouterError::EmptyQuorum { name: name() });
    }
    let durability = config.durability.unwrap_or(base.durability);
    if durability == Durability::Memory && base.route.awaits_answer {
        return Err(RouterError::Volatile { name: name() });
    }
    Ok(KindRoute {
        route: Route { policy, ..base.route },
        priority: config.priority.unwrap_or(base.priority),
        durability,
        deadline: config.deadline.or(base.deadline),
        // One who names a deadline means it for every priority.
        deadline_critical: config.deadline.or(base.deadline_critical),
    })
}

fn priority<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Priority>, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Word {
        Low,
        Normal,
        High,
        Critical,
    }
    Ok(Option::<Word>::deserialize(from)?.map(|word| match word {
        Word::Low => Priority::Low,
        Word::Normal => Priority::Normal,
        Word::High => Priority::High,
        Word::Critical => Priority::Critical,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Router, String> {
        let config: RouterConfig = serde_json::from_str(json).map_err(|e| e.to_string())?;
        Router::try_new(&config).map_err(|e| e.to_string())
    }

    #[test]
    fn defaults_are_those_of_the_design() {
        let router = Router::default();
        let signature = router.outbound(MessageKind::SIGNATURE_REQUEST).unwrap();
        assert_eq!(signature.route, Route { policy: Policy::All, awaits_answer: true });
        let at = |priority| signature.deadline_at(UnixMillis(0), priority).unwrap().0;
        assert_eq!((at(Priority::Normal), at(Priority::Critical)), (120_000, 30_000));
        let status = router.outbound(MessageKind::STATUS_UPDATE).unwrap();
        assert_eq!(status.durability, Durability::Memory);
        assert_eq!(router.outbound(MessageKind(1234)).unwrap().route.policy, Policy::Any);
    }

    #[test]
    fn unknown_kinds_are_refused_with_their_number() {
        let router = Router::default();
        assert_eq!(router.outbound(MessageKind(77)), Err(UnknownKind(MessageKind(77))));
        assert_eq!(
            router.outbound(MessageKind::HEARTBEAT),
            Err(UnknownKind(MessageKind::HEARTBEAT))
        );
        let error = router.inbound(MessageKind::SIGNATURE_REQUEST).unwrap_err();
        assert_eq!(error.to_string(), "messages of kind 20 are not routed in this direction");
    }

    #[test]
    fn whatever_arrives_has_the_targets_of_the_design_and_no_other() {
        use Target::{Application, Bridge, Chain, Link, Network, Requester, Storage, Sync};
        let targets: [(MessageKind, &[Target]); 8] = [
            (MessageKind::ACKNOWLEDGEMENT, &[Link]),
            (MessageKind::REGISTRATION_ACK, &[Link]),
            (MessageKind::HEARTBEAT_ACK, &[Link]),
            (MessageKind::SIGNATURE_RESPONSE, &[Requester, Bridge]),
            (MessageKind::FEDERATION_UPDATE, &[Chain, Bridge, Network, Storage]),
            (MessageKind::PROPOSAL_NOTIFICATION, &[Chain, Sync]),
            (MessageKind::ERROR_RESPONSE, &[Requester]),
            (MessageKind(1000), &[Application]),
        ];
        let router = Router::default();
        let known: Vec<u32> = targets.iter().map(|(kind, _)| kind.0).collect();
        for (kind, expected) in targets {
            assert_eq!(router.inbound(kind), Ok(expected), "{kind}");
        }
        for kind in (0..1000).filter(|kind| !known.contains(kind)).map(MessageKind) {
            assert_eq!(router.inbound(kind), Err(UnknownKind(kind)));
        }
    }

    #[test]
    fn a_configuration_overrides_what_it_names() {
        let router = parse(
            r#"{"kinds": {"signature_request": {"policy": {"quorum": 2}, "deadline": "45s"},
                "application": {"priority": "low"}, "1007": {"policy": "all", "durability": "os"}}}"#,
        )
        .unwrap();
        let signature = router.outbound(MessageKind::SIGNATURE_REQUEST).unwrap();
        assert_eq!(signature.route, Route { policy: Policy::Quorum(2), awaits_answer: true });
        assert_eq!(signature.deadline_critical, Some(Duration::from_secs(45)));
        let single = router.outbound(MessageKind(1007)).unwrap();
        assert_eq!((single.priority, single.durability), (Priority::Low, Durability::Os));
        assert_eq!(router.outbound(MessageKind(1008)).unwrap().route.policy, Policy::Any);
    }

    #[test]
    fn contradictions_are_errors_that_name_the_key() {
        for (json, part) in [
            (r#"{"kinds": {"heartbeat": {}}}"#, "kinds.heartbeat"),
            (r#"{"kinds": {"999": {}}}"#, "kinds.999"),
            (r#"{"kinds": {"1000": {"policy": {"quorum": 0}}}}"#, "kinds.1000.policy"),
            (r#"{"kinds": {"signature_request": {"durability": "memory"}}}"#, "durability"),
            (r#"{"kinds": {"1000": {"prio": "low"}}}"#, "prio"),
        ] {
            let error = parse(json).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
