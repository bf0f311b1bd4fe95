//! The certificates of a run: who vouches for whom, what each machine shows, and what is wrong with
//! it.
//!
//! They are the files that the product reads, in memory. Their bytes follow from the state here: keys
//! are made of numbers, and Ed25519 signs the same text in the same way. Certificates are valid by
//! the clocks of the machines, which the product judges them by.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alys_stream_actor::TlsFiles;
use alys_stream_transport::tls::{ClientSettings, Doubt, Pin, ReadFile, Revocation, peer_identity};

use crate::extras::Tls;
use crate::fault::Kind;
use crate::net::Machine;
use crate::plan::FIRST_NODE;
use crate::strikes::{Place, Strikes};
use crate::tap::sealed::Secrets;

mod issue;

/// An authority that nobody trusts.
const FOREIGN: u8 = 200;

/// A key that nobody has.
const UNUSED: u8 = 200;

/// What is wrong with the files of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// An authority signed its certificate that nobody trusts.
    Foreign,
    /// Its certificate cannot be read.
    Missing,
    /// Its certificate is cut off.
    Torn,
    /// Its key is another one than that of its certificate.
    OtherKey,
    /// Its certificate is for another name.
    OtherName,
    /// Its certificate expires so many seconds after the beginning of the run.
    Expires(u64),
    /// Its certificate is not valid yet.
    Early,
    /// It trusts another authority.
    OtherAuthority,
    /// It pins keys that nobody has.
    OtherPins,
    /// Its revocation lists are old.
    OldLists,
}

#[derive(Debug, Clone, Copy, Default)]
struct Holder {
    /// Which of its keys it has.
    key: u8,
    flaw: Option<Flaw>,
}

#[derive(Debug)]
struct State {
    tls: Tls,
    holders: BTreeMap<Machine, Holder>,
    trusted: BTreeSet<u8>,
    /// Who signs.
    issuer: u8,
    /// Keys that are revoked.
    revoked: BTreeSet<(Machine, u8)>,
    /// What files hold, until something changes.
    made: BTreeMap<(Machine, PathBuf), Vec<u8>>,
    /// The faults that strike once a machine reads a file.
    unread: BTreeMap<(Machine, &'static str), (Kind, Place)>,
    strikes: Strikes,
}

/// The certificates of all machines. Clones are the same ones.
#[derive(Debug, Clone)]
pub(crate) struct Certificates {
    state: Arc<Mutex<State>>,
    pub(crate) secrets: Secrets,
}

impl Certificates {
    pub(crate) fn new(tls: Tls, machines: impl Iterator<Item = Machine>, strikes: Strikes) -> Self {
        let holders = machines.map(|machine| (machine, Holder::default())).collect();
        let state = State {
            tls,
            holders,
            trusted: BTreeSet::from([0]),
            issuer: 0,
            revoked: BTreeSet::new(),
            made: BTreeMap::new(),
            unread: BTreeMap::new(),
            strikes,
        };
        Self { state: Arc::new(Mutex::new(state)), secrets: Secrets::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        state.made.clear();
        state
    }

    /// What reads the files of a machine.
    pub(crate) fn files(&self, machine: Machine) -> ReadFile {
        let (state, machine) = (Arc::clone(&self.state), holder(machine));
        Arc::new(move |path| {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let place = (machine, path.to_owned());
            if let Some(made) = state.made.get(&place) {
                return Ok(made.clone());
            }
            state.notice(machine, path);
            let made = state.file(machine, path)?;
            state.made.insert(place, made.clone());
            Ok(made)
        })
    }

    /// How a process of a node speaks TLS.
    pub(crate) fn of_node(&self, machine: Machine) -> TlsFiles {
        let Tls { are_pinned, are_listed } = self.lock().tls;
        let path = |name: &str| Some(PathBuf::from(name));
        let mut settings = ClientSettings {
            ca: path("ca"),
            certificate: path("certificate"),
            key: path("key"),
            pins_file: are_pinned.then(|| "pins".into()),
            ..ClientSettings::default()
        };
        if are_listed {
            settings.crls =
                Revocation { files: vec!["lists".into()], expired: Doubt::Refuse, ..settings.crls };
        }
        TlsFiles { settings, read: self.files(machine) }
    }

    /// The section of the configuration of a governance node.
    pub(crate) fn governance_yaml(&self) -> String {
        let are_listed = self.lock().tls.are_listed;
        let lists = if are_listed { ", crls: {files: [lists], expired: refuse}" } else { "" };
        format!(
            "tls: {{certificate: certificate, key: key, client_ca: ca, require_node_name: true{lists}}}\n"
        )
    }

    /// A machine gets a new key, and a certificate for it.
    pub(crate) fn renew(&self, machine: Machine) {
        let mut state = self.change();
        let holder = state.holders.entry(machine).or_default();
        holder.key = holder.key.wrapping_add(1);
        let is_node = machine.identity().is_some();
        let kind = if is_node { Kind::RenewNode } else { Kind::RenewGovernance };
        state.expect([machine], "certificate", (kind, machine));
    }

    /// Whatever shows the present certificate of a machine is not to be trusted any more.
    pub(crate) fn revoke(&self, machine: Machine) {
        let mut state = self.change();
        let key = state.holders.get(&machine).copied().unwrap_or_default().key;
        state.revoked.insert((machine, key));
        let all: Vec<Machine> = state.holders.keys().copied().collect();
        state.expect(all, "lists", (Kind::Revoke, machine));
    }

    /// Something becomes wrong with the files of a machine, or nothing is any more.
    pub(crate) fn set_flaw(&self, machine: Machine, flaw: Option<Flaw>) {
        let mut state = self.change();
        state.holders.entry(machine).or_default().flaw = flaw;
        if let Some(flaw) = flaw {
            state.expect([machine], flaw.file(), (flaw.kind(), machine));
        }
    }

    /// A new authority is trusted beside the others; its number.
    pub(crate) fn add_authority(&self) -> u8 {
        let mut state = self.change();
        let next = state.trusted.last().map_or(0, |last| last + 1);
        state.trusted.insert(next);
        let all: Vec<Machine> = state.holders.keys().copied().collect();
        state.expect(all, "ca", (Kind::RotateAuthority, FIRST_NODE));
        next
    }

    /// An authority signs all certificates anew.
    pub(crate) fn issue_by(&self, authority: u8) {
        let mut state = self.change();
        state.issuer = state.issuer.max(authority);
    }

    /// Nobody trusts the authorities before this one any more.
    pub(crate) fn trust_from(&self, authority: u8) {
        self.change().trusted.retain(|it| *it >= authority);
    }

    /// Takes back whatever is wrong.
    pub(crate) fn mend(&self) {
        let mut state = self.change();
        let State { holders, revoked, unread, .. } = &mut *state;
        unread.clear();
        for (machine, holder) in holders {
            holder.flaw = None;
            while revoked.contains(&(*machine, holder.key)) {
                holder.key = holder.key.wrapping_add(1);
            }
        }
    }
}

/// A second process of a node has its certificate.
fn holder(machine: Machine) -> Machine {
    machine.identity().unwrap_or(machine)
}

impl Flaw {
    /// The kind of fault that it is.
    pub(crate) const fn kind(self) -> Kind {
        match self {
            Self::Foreign | Self::Missing | Self::Torn | Self::OtherKey | Self::OtherName => {
                Kind::BadCertificate
            }
            Self::Expires(_) | Self::Early => Kind::OutOfDate,
            Self::OtherAuthority | Self::OtherPins | Self::OldLists => Kind::BadTrust,
        }
    }

    /// The file that it is in.
    const fn file(self) -> &'static str {
        match self {
            Self::Foreign
            | Self::Missing
            | Self::Torn
            | Self::OtherName
            | Self::Expires(_)
            | Self::Early => "certificate",
            Self::OtherKey => "key",
            Self::OtherAuthority => "ca",
            Self::OtherPins => "pins",
            Self::OldLists => "lists",
        }
    }
}

impl State {
    /// A fault at a machine strikes once one of these reads the file.
    fn expect(
        &mut self,
        readers: impl IntoIterator<Item = Machine>,
        file: &'static str,
        (kind, at): (Kind, Machine),
    ) {
        let place = self.strikes.at(at);
        let unread = readers.into_iter().map(|reader| ((reader, file), (kind, place.clone())));
        self.unread.extend(unread);
    }

    /// A machine reads a file.
    fn notice(&mut self, machine: Machine, path: &Path) {
        let mut files = self
            .unread
            .extract_if(.., |(reader, file), _| *reader == machine && Path::new(file) == path);
        if let Some((_, (kind, place))) = files.next() {
            place.strike(kind);
        }
    }

    fn file(&self, machine: Machine, path: &Path) -> io::Result<Vec<u8>> {
        let Holder { key, flaw } = self.holders.get(&machine).copied().unwrap_or_default();
        let has = |it| flaw == Some(it);
        let text = match path.to_str().unwrap_or_default() {
            "ca" if has(Flaw::OtherAuthority) => issue::authority(FOREIGN).1,
            "ca" => self.trusted.iter().map(|number| issue::authority(*number).1).collect(),
            "certificate" if has(Flaw::Missing) => return Err(io::ErrorKind::NotFound.into()),
            "certificate" => {
                let pem = issue::certificate(self.issuer(flaw), machine, key, flaw).pem();
                let end = if has(Flaw::Torn) { pem.len() / 2 } else { pem.len() };
                pem.get(..end).unwrap_or_default().to_owned()
            }
            "key" if has(Flaw::OtherKey) => issue::key(machine, UNUSED).serialize_pem(),
            "key" => issue::key(machine, key).serialize_pem(),
            "pins" => self.pins(has(Flaw::OtherPins)),
            "lists" => self.lists(has(Flaw::OldLists)),
            _ => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(text.into_bytes())
    }

    fn issuer(&self, flaw: Option<Flaw>) -> u8 {
        if flaw == Some(Flaw::Foreign) { FOREIGN } else { self.issuer }
    }

    /// The present key of each governance node, and the next one.
    fn pins(&self, are_others: bool) -> String {
        let pin = |machine, key| {
            let certificate = issue::certificate(self.issuer, machine, key, None);
            let identity = peer_identity(certificate.der()).expect("a certificate");
            format!("{}\n", Pin::new(identity.key_sha256))
        };
        let peers = self.holders.iter().filter(|(machine, _)| machine.identity().is_none());
        let keys = peers.flat_map(|(machine, holder)| {
            let first = if are_others { UNUSED } else { holder.key };
            [(*machine, first), (*machine, first.wrapping_add(1))]
        });
        keys.map(|(machine, key)| pin(machine, key)).collect()
    }

    /// A revocation list of each authority.
    fn lists(&self, are_old: bool) -> String {
        let list = |authority: &u8| issue::list(*authority, &self.revoked, are_old);
        self.trusted.iter().chain([&FOREIGN]).map(list).collect()
    }
}
