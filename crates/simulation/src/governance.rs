//! A governance node: the whole one of the product, on simulated ground.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alys_stream_governance::misbehaviour::{Misdeed, Witness};
use alys_stream_governance::{Entrance, GovernanceConfig, GovernanceNode, Ground, Running};
use futures::FutureExt as _;
use serde_json::{Value, json};

use crate::certificates::Certificates;
use crate::fault::Kind;
use crate::federation;
use crate::journal::{Fact, Journal};
use crate::ledger::{self, Applied};
use crate::machine::Hardware;
use crate::net::Machine;
use crate::plan::Push;
use crate::planted::Planted;

/// A governance node and its machine.
#[derive(Debug)]
pub(crate) struct Governance {
    pub(crate) hardware: Hardware,
    journal: Journal,
    keys: PathBuf,
    planted: Option<Planted>,
    /// It has no sessions.
    is_plain: bool,
    /// Where its links have TLS.
    pub(crate) certificates: Option<Certificates>,
    running: Option<Running>,
}

impl Governance {
    pub(crate) fn new(
        hardware: Hardware,
        journal: &Journal,
        keys: &Path,
        planted: Option<Planted>,
        is_plain: bool,
    ) -> Self {
        Self {
            hardware,
            journal: journal.clone(),
            keys: keys.to_path_buf(),
            planted,
            is_plain,
            certificates: None,
            running: None,
        }
    }

    pub(crate) const fn is_running(&self) -> bool {
        self.running.is_some()
    }

    fn machine(&self) -> Machine {
        self.hardware.machine
    }

    fn folder(&self) -> PathBuf {
        PathBuf::from(format!("/{}", self.machine().name()))
    }

    pub(crate) async fn start(&mut self) -> bool {
        let (storage, port) = self.hardware.boot();
        let entrance: Arc<dyn Entrance> = port.listen();
        let clock = Arc::clone(&self.hardware.clock);
        let mut ground = Ground { storage, clock, entrance: Some(entrance), ..Ground::default() };
        let place = self.hardware.place.clone();
        let (journal, machine) = (self.journal.clone(), self.machine());
        ground.witness = Witness::new(move |misdeed| {
            place.strike(kind_of(misdeed));
            if misdeed == Misdeed::RefusedForGood {
                journal.note(machine, Fact::RefusedForGood);
            }
        });
        if let Some(certificates) = &self.certificates {
            ground.certificates = certificates.files(self.machine());
            ground.key_log = Some(Arc::new(certificates.secrets.clone()));
        }
        let links = self.certificates.as_ref().map_or_else(
            || "insecure: plaintext_without_authentication\n".to_owned(),
            Certificates::governance_yaml,
        );
        let ids_max = if self.planted == Some(Planted::DedupWindow) { 1 } else { 1_000_000 };
        let yaml = format!(
            "id: {id}\ndata_dir: {data}\nkeys: {keys}\nledger_ids_max: {ids_max}\n\
             {links}dialects: {dialects}\n\
             federation:\n{federation}",
            id = self.machine().name(),
            data = self.folder().display(),
            keys = self.keys.display(),
            dialects = if self.is_plain { "[plain]" } else { "[session, plain]" },
            federation = federation::yaml(2, "  "),
        );
        let config = GovernanceConfig::parse(&yaml).expect("a good file");
        match GovernanceNode::start_on(ground, config).await {
            Ok(running) => {
                self.running = Some(running);
                self.note(Fact::Started { life: self.hardware.life });
                true
            }
            Err(error) => {
                self.note(Fact::NotStarted { why: error.to_string() });
                false
            }
        }
    }

    pub(crate) fn crash(&mut self, crash: alys_stream_testkit::disk::Crash) {
        self.hardware.crash(crash);
        self.running = None;
    }

    pub(crate) const fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// What it speaks from its next start on.
    pub(crate) const fn set_plain(&mut self, is_plain: bool) {
        self.is_plain = is_plain;
    }

    /// Why it ended by itself, if it did: then whatever starts processes starts it again.
    pub(crate) fn ended(&mut self) -> Option<String> {
        self.running.as_mut()?.stopped().now_or_never()
    }

    pub(crate) async fn stop(&mut self, drain: Duration) {
        if let Some(running) = self.running.take() {
            running.shutdown(drain).await;
        }
    }

    /// Tells it to do something wrong, or to do right again.
    pub(crate) async fn misbehave(&self, patch: &Value) {
        if let Some(running) = &self.running {
            let (status, answer) = running.ask("/misbehave", Some(patch)).await;
            assert_eq!(status, 200, "{patch}: {answer}");
        }
    }

    /// How many messages are in its custody and not applied yet; none while it is down.
    pub(crate) async fn held(&self) -> u64 {
        if self.running.is_none() {
            return 0;
        }
        self.status().await["held"].as_u64().unwrap_or(u64::MAX)
    }

    /// What it says of itself; nothing while it is down.
    pub(crate) async fn status(&self) -> Value {
        let Some(running) = &self.running else { return Value::Null };
        let (_, answer) = running.ask("/status", None).await;
        serde_json::from_str(&answer).unwrap_or_default()
    }

    /// Lets it push something; for how many nodes it is on its disk now. Streams of the published
    /// protocol that live now get it too, and promise nothing.
    pub(crate) async fn push(&self, push: &Push) -> u64 {
        let Some(running) = &self.running else { return 0 };
        let (path, body) = match push {
            Push::Proposal(number) => {
                let id = format!("proposal-{number}");
                ("/push/proposal", json!({"proposal_id": id, "voting_deadline": 1_800_050_000_u64}))
            }
            Push::Update { version, height } => {
                ("/push/federation_update", json!({"version": version, "effective_height": height}))
            }
            Push::Halt => ("/push/halt", json!({})),
            Push::Unsigned { version } => ("/push/federation_update", json!({"version": version})),
        };
        let (status, answer) = running.ask(path, Some(&body)).await;
        let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
        answer["nodes"].as_u64().filter(|_| status == 200).unwrap_or(0)
    }

    /// What its ledger says, in the order of application.
    pub(crate) fn applied(&self) -> Vec<Applied> {
        let folder = self.folder().join(ledger::FOLDER);
        let disk = &self.hardware.disk;
        let files: BTreeMap<PathBuf, Vec<u8>> = disk
            .paths()
            .into_iter()
            .filter(|path| path.starts_with(&folder))
            .filter_map(|path| Some((path.clone(), disk.cached_file(&path)?)))
            .collect();
        ledger::applied(&files)
    }

    fn note(&self, fact: Fact) {
        self.journal.note(self.machine(), fact);
    }
}

/// The kind of fault that has a governance node do this.
const fn kind_of(misdeed: Misdeed) -> Kind {
    match misdeed {
        Misdeed::Delayed => Kind::SlowSigner,
        Misdeed::AckSwallowed => Kind::DropAcks,
        Misdeed::RefusedForNow => Kind::RefuseForNow,
        Misdeed::RefusedForGood => Kind::RefuseForGood,
        Misdeed::Unread => Kind::StopReading,
        Misdeed::SignedWrongly => Kind::WrongSigner,
        Misdeed::Suspended => Kind::Suspend,
        Misdeed::Cut => Kind::CutMidBatch,
        Misdeed::SentAway => Kind::Leave,
    }
}
