//! What a governance node can be told to do wrong, for tests and demonstrations.
//!
//! Standing flags ([`Misbehaviour`]) hold until they are changed; [`Acts`] happen once.
//! Both arrive as one JSON object (`POST /misbehave`), the flags also in the configuration.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Standing flags; the default is an honest node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Misbehaviour {
    /// Milliseconds that a signature request waits before it is signed. 0: none.
    pub delay_ms: u64,
    /// Whether acknowledgements are swallowed: what was received is stored, the peer never hears.
    pub drop_acks: bool,
    /// Whether, and how, everything is refused.
    #[serde(with = "serde_yaml::with::singleton_map_recursive")]
    pub refuse: Option<Refuse>,
    /// Whether streams are not read any more, so that flow control fills up.
    pub stop_reading: bool,
    /// Whether signatures are well-formed but do not verify.
    pub wrong_signatures: bool,
    /// Whether peers are asked to send nothing.
    pub suspended: bool,
    /// Whether the next stream that brings so many records is cut in the middle of a batch.
    pub disconnect_mid_batch: Option<DisconnectMidBatch>,
}

/// How a message is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Refuse {
    /// For now: the peer may send it again.
    Retryable {
        /// Milliseconds to wait before that. 0 leaves it to the peer.
        #[serde(default)]
        after_ms: u32,
    },
    /// For good.
    Terminal,
}

impl Refuse {
    pub(crate) const fn misdeed(self) -> Misdeed {
        match self {
            Self::Retryable { .. } => Misdeed::RefusedForNow,
            Self::Terminal => Misdeed::RefusedForGood,
        }
    }
}

/// When a stream is cut; happens once, then the flag is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DisconnectMidBatch {
    /// Records that still get through on the stream that is cut.
    pub after_records: u64,
}

/// Something that was really done wrong: a flag that nothing meets does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Misdeed {
    /// A signature request waits before it is signed.
    Delayed,
    /// An acknowledgement was swallowed.
    AckSwallowed,
    /// Something was refused for now.
    RefusedForNow,
    /// Something was refused for good.
    RefusedForGood,
    /// A live stream is not read.
    Unread,
    /// Signatures that do not verify were made.
    SignedWrongly,
    /// A live stream was asked for silence.
    Suspended,
    /// A stream was cut in the middle of a batch.
    Cut,
    /// A live stream or connection was ended, or its peer was asked to leave.
    SentAway,
}

/// Who hears of every [`Misdeed`]: a simulation that counts them. Nobody by default.
#[derive(Clone, Default)]
pub struct Witness(Option<Arc<dyn Fn(Misdeed) + Send + Sync>>);

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Witness").field(&self.0.is_some()).finish()
    }
}

impl Witness {
    /// Hears of everything.
    #[must_use]
    pub fn new(hear: impl Fn(Misdeed) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(hear)))
    }

    pub(crate) fn hear(&self, misdeed: Misdeed) {
        if let Some(hear) = &self.0 {
            hear(misdeed);
        }
    }
}

/// What happens once, to every live stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Acts {
    /// Ends every stream.
    pub close: bool,
    /// Sends GOAWAY on every connection; streams go on until their peer leaves.
    pub goaway: bool,
    /// Asks peers to finish and go elsewhere, and ends their streams after this long.
    pub drain: Option<Duration>,
}

impl Acts {
    /// Whether nothing is to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The acts in a request body; every other key is a flag.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ActFields {
    close: bool,
    goaway: bool,
    drain: Option<DrainField>,
    suspend: bool,
    resume: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DrainField {
    #[serde(default)]
    deadline_ms: u64,
}

/// A request to misbehave that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}; send a JSON object such as {{\"delay_ms\": 200}}, as GET /misbehave shows it")]
pub struct InvalidMisbehaviour(pub String);

impl Misbehaviour {
    /// Applies a JSON object to these flags: absent keys stay, `null` resets. The keys `close`,
    /// `goaway`, `drain` (`{"deadline_ms": N}`), `suspend` and `resume` are acts.
    ///
    /// # Errors
    ///
    /// When `patch` is no object, or has an unknown key or a value of the wrong type.
    pub fn patched(&self, patch: serde_json::Value) -> Result<(Self, Acts), InvalidMisbehaviour> {
        let invalid = |error: serde_json::Error| InvalidMisbehaviour(error.to_string());
        let serde_json::Value::Object(patch) = patch else {
            return Err(InvalidMisbehaviour("not a JSON object".to_owned()));
        };
        let mut flags = serde_json::to_value(self).map_err(invalid)?;
        let mut acts = serde_json::Map::new();
        for (key, value) in patch {
            if ["close", "goaway", "drain", "suspend", "resume"].contains(&key.as_str()) {
                acts.insert(key, value);
            } else if let Some(flags) = flags.as_object_mut() {
                drop(if value.is_null() { flags.remove(&key) } else { flags.insert(key, value) });
            }
        }
        let mut flags: Self = serde_json::from_value(flags).map_err(invalid)?;
        let acts: ActFields = serde_json::from_value(acts.into()).map_err(invalid)?;
        if acts.suspend {
            flags.suspended = true;
        }
        if acts.resume {
            flags.suspended = false;
        }
        let drain = acts.drain.map(|drain| Duration::from_millis(drain.deadline_ms));
        Ok((flags, Acts { close: acts.close, goaway: acts.goaway, drain }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(from: &Misbehaviour, patch: serde_json::Value) -> (Misbehaviour, Acts) {
        from.patched(patch).unwrap()
    }

    #[test]
    fn absent_keys_stay_and_null_resets() {
        let honest = Misbehaviour::default();
        let (slow, acts) =
            check(&honest, json!({"delay_ms": 200, "refuse": {"retryable": {"after_ms": 5}}}));
        assert!(acts.is_empty());
        assert_eq!(slow.refuse, Some(Refuse::Retryable { after_ms: 5 }));
        let (slow, _) = check(&slow, json!({"drop_acks": true, "refuse": null}));
        assert_eq!(
            slow,
            Misbehaviour { delay_ms: 200, drop_acks: true, ..Misbehaviour::default() }
        );
        let (terminal, _) = check(&slow, json!({"refuse": "terminal"}));
        assert_eq!(terminal.refuse, Some(Refuse::Terminal));
    }

    #[test]
    fn yaml_and_json_read_alike() {
        for (text, expected) in [
            ("refuse: {retryable: {after_ms: 5}}", Some(Refuse::Retryable { after_ms: 5 })),
            ("refuse: {retryable: {}}", Some(Refuse::Retryable { after_ms: 0 })),
            ("refuse: terminal", Some(Refuse::Terminal)),
            ("refuse: null", None),
            ("{}", None),
        ] {
            let flags: Misbehaviour = serde_yaml::from_str(text).unwrap();
            assert_eq!(flags.refuse, expected, "{text}");
            let json = serde_json::to_string(&flags).unwrap();
            assert_eq!(serde_json::from_str::<Misbehaviour>(&json).unwrap(), flags);
            assert_eq!(serde_yaml::from_str::<Misbehaviour>(&json).unwrap(), flags);
        }
    }

    #[test]
    fn acts_are_not_flags() {
        let (flags, acts) = check(
            &Misbehaviour::default(),
            json!({"close": true, "drain": {"deadline_ms": 50}, "suspend": true}),
        );
        assert!(flags.suspended && acts.close && !acts.goaway);
        assert_eq!(acts.drain, Some(Duration::from_millis(50)));
        assert!(!check(&flags, json!({"resume": true})).0.suspended);
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = Misbehaviour::default().patched(json!({"delay": 3})).unwrap_err();
        assert!(error.to_string().contains("`delay`"), "{error}");
        assert!(Misbehaviour::default().patched(json!([1])).is_err());
    }
}
