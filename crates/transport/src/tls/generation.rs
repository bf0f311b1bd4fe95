//! One generation of each side: a configuration of the library, and the judgement of peers that goes
//! with it.
//!
//! Invariants:
//! - T61: the library resumes nothing, or a peer that is revoked would come back without being
//!   looked at.

use std::fmt;
use std::sync::Arc;

use alys_stream_protocol::time::{SystemClock, UnixMillis, WallClock};
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};
use serde::Serialize;

use super::error::{TlsConfigError, TlsLoadError};
use super::fault::TlsFault;
use super::input::{Inputs, ReadFile, Wanted};
use super::pem::{Authorities, Identity, Pem, certificates, root_store};
use super::pin::Pin;
use super::reload::Side;
use super::revocation::{self, Doubt, Revocation};
use super::settings::{ClientSettings, ServerSettings, check_pins};
use super::verify::ServerVerifier;
use super::{ALPN, peer, provider};

/// What metrics and status show of a generation. Times are Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct TlsFacts {
    /// When the first certificate of our own chain expires; `None` when we show none.
    pub own_expires_at: Option<i64>,
    /// When the first of our private authorities expires; `None` with the public ones.
    pub authority_expires_at: Option<i64>,
    /// When the first new revocation list is due; `None` without lists.
    pub revocation_due_at: Option<i64>,
    /// How many revocation lists are in force.
    pub revocation_lists: usize,
    /// How many pins are in force.
    pub pins: usize,
}

/// One generation of the side that dials.
#[derive(Clone)]
pub struct ClientTls {
    number: u64,
    config: Arc<ClientConfig>,
    verifier: Arc<ServerVerifier>,
    facts: TlsFacts,
}

/// One generation of the side that listens.
#[derive(Clone)]
pub struct ServerTls {
    number: u64,
    config: Arc<ServerConfig>,
    verifier: Arc<dyn ClientCertVerifier>,
    facts: TlsFacts,
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("number", &self.number).finish_non_exhaustive()
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("number", &self.number).finish_non_exhaustive()
    }
}

impl ClientTls {
    /// Reads and checks everything once, without anything that reloads it. Blocks on files.
    ///
    /// # Errors
    ///
    /// When a setting, a file or what is in it is unusable; the error names it.
    pub fn load(settings: &ClientSettings, read: &ReadFile) -> Result<Self, TlsLoadError> {
        Self::check(settings)?;
        let inputs = Inputs::read(&Self::wanted(settings), read);
        Self::build(settings, &inputs, 1, Arc::new(SystemClock))
    }

    /// What to shake hands with.
    #[must_use]
    pub const fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    /// Which generation it is, from 1.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// What to show of it.
    #[must_use]
    pub const fn facts(&self) -> TlsFacts {
        self.facts
    }

    /// Whether a handshake would accept this server now: its name and chain, leaf first.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn still_trusted(
        &self,
        name: &ServerName<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixMillis,
    ) -> Result<(), TlsFault> {
        let (leaf, rest) = split(chain)?;
        let verified = self.verifier.verify_server_cert(leaf, rest, name, &[], unix_time(now));
        verified.map(drop).map_err(|error| TlsFault::from(&error))
    }
}

impl ServerTls {
    /// Reads and checks everything once, without anything that reloads it. Blocks on files.
    ///
    /// # Errors
    ///
    /// When a setting, a file or what is in it is unusable; the error names it.
    pub fn load(settings: &ServerSettings, read: &ReadFile) -> Result<Self, TlsLoadError> {
        Self::check(settings)?;
        let inputs = Inputs::read(&Self::wanted(settings), read);
        Self::build(settings, &inputs, 1, Arc::new(SystemClock))
    }

    /// What to shake hands with.
    #[must_use]
    pub const fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// Which generation it is, from 1.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// What to show of it.
    #[must_use]
    pub const fn facts(&self) -> TlsFacts {
        self.facts
    }

    /// Whether a handshake would accept this client now: its chain, leaf first.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn still_trusted(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixMillis,
    ) -> Result<(), TlsFault> {
        let (leaf, rest) = split(chain)?;
        let verified = self.verifier.verify_client_cert(leaf, rest, unix_time(now));
        verified.map(drop).map_err(|error| TlsFault::from(&error))
    }
}

fn split<'c, 'd>(
    chain: &'c [CertificateDer<'d>],
) -> Result<(&'c CertificateDer<'d>, &'c [CertificateDer<'d>]), TlsFault> {
    chain.split_first().ok_or_else(|| TlsFault::BadCertificate("there is none".to_owned()))
}

const fn unix_time(now: UnixMillis) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_millis(now.0))
}

impl Side for ClientTls {
    type Settings = ClientSettings;

    fn check(settings: &ClientSettings) -> Result<(), TlsLoadError> {
        settings.check()
    }

    fn reload(settings: &ClientSettings) -> super::ReloadConfig {
        settings.reload
    }

    fn wanted(settings: &ClientSettings) -> Vec<Wanted> {
        let one = |key, path: &Option<_>| path.as_deref().map(|path| Wanted::one(key, path));
        let mut wanted = Vec::new();
        wanted.extend(one("tls.ca", &settings.ca));
        wanted.extend(one("tls.certificate", &settings.certificate));
        wanted.extend(one("tls.key", &settings.key));
        wanted.extend(one("tls.pins_file", &settings.pins_file));
        wanted.extend(settings.crls.files.iter().map(|path| Wanted::one("tls.crls", path)));
        wanted
    }

    fn build(
        settings: &ClientSettings,
        inputs: &Inputs,
        number: u64,
        clock: Arc<dyn WallClock>,
    ) -> Result<Self, TlsLoadError> {
        let private = inputs.one("tls.ca")?.map(|ca| [ca]);
        let authorities =
            private.as_ref().map_or(Authorities::Public, |ca| Authorities::Private(ca));
        let identity = inputs.one("tls.certificate")?.zip(inputs.one("tls.key")?);
        let identity = identity.map(|(certificates, key)| Identity { certificates, key });
        let mut pins = settings.pins.clone();
        if let Some(file) = inputs.one("tls.pins_file")? {
            let text = String::from_utf8_lossy(file.bytes);
            let more = Pin::read_lines(&text)
                .map_err(|source| TlsLoadError::Pin { label: file.label.to_owned(), source })?;
            pins.extend(more);
        }
        pins.sort_unstable();
        pins.dedup();
        check_pins(pins.len())?;
        let lists = lists(inputs)?;
        let facts = facts(identity, private.as_ref().map(|ca| &ca[..]), &lists, pins.len())?;
        let checks = (&lists.ders[..], &settings.crls);
        let (config, verifier) = client(&authorities, identity, pins, checks, clock)?;
        Ok(Self { number, config, verifier, facts })
    }

    fn number(&self) -> u64 {
        self.number
    }

    fn facts(&self) -> TlsFacts {
        self.facts
    }
}

impl Side for ServerTls {
    type Settings = ServerSettings;

    fn check(settings: &ServerSettings) -> Result<(), TlsLoadError> {
        settings.check()
    }

    fn reload(settings: &ServerSettings) -> super::ReloadConfig {
        settings.reload
    }

    fn wanted(settings: &ServerSettings) -> Vec<Wanted> {
        let mut wanted = vec![
            Wanted::one("tls.certificate", &settings.certificate),
            Wanted::one("tls.key", &settings.key),
            Wanted::one("tls.client_ca", &settings.client_ca),
        ];
        wanted.extend(settings.crls.files.iter().map(|path| Wanted::one("tls.crls", path)));
        wanted
    }

    fn build(
        settings: &ServerSettings,
        inputs: &Inputs,
        number: u64,
        clock: Arc<dyn WallClock>,
    ) -> Result<Self, TlsLoadError> {
        let identity = inputs.one("tls.certificate")?.zip(inputs.one("tls.key")?);
        let (certificates, key) = identity.ok_or(TlsLoadError::HalfIdentity {
            present: "tls",
            absent: "tls.certificate and tls.key",
        })?;
        let identity = Identity { certificates, key };
        let authorities = inputs.all("tls.client_ca")?;
        let lists = lists(inputs)?;
        let facts = facts(Some(identity), Some(&authorities), &lists, 0)?;
        let checks = (&lists.ders[..], &settings.crls);
        let (config, verifier) = server(identity, &authorities, checks, clock)?;
        Ok(Self { number, config, verifier, facts })
    }

    fn number(&self) -> u64 {
        self.number
    }

    fn facts(&self) -> TlsFacts {
        self.facts
    }
}

/// All revocation lists, and when the first of them is due.
struct Lists {
    ders: Vec<CertificateRevocationListDer<'static>>,
    due_at: Option<i64>,
}

fn lists(inputs: &Inputs) -> Result<Lists, TlsLoadError> {
    let mut lists = Lists { ders: Vec::new(), due_at: None };
    for input in inputs.all("tls.crls")? {
        for list in revocation::read(input)? {
            lists.due_at = lists.due_at.into_iter().chain(list.due_at).min();
            lists.ders.push(list.der);
        }
    }
    Ok(lists)
}

fn facts(
    identity: Option<Identity<'_>>,
    authorities: Option<&[Pem<'_>]>,
    lists: &Lists,
    pins: usize,
) -> Result<TlsFacts, TlsLoadError> {
    let first = |pem: Pem<'_>| -> Result<Option<i64>, TlsLoadError> {
        let chain = certificates(pem)?;
        Ok(chain.iter().filter_map(|certificate| peer::expires_at(certificate).ok()).min())
    };
    let own_expires_at = match identity {
        Some(identity) => first(identity.certificates)?,
        None => None,
    };
    let mut authority_expires_at: Option<i64> = None;
    for pem in authorities.unwrap_or_default() {
        authority_expires_at = authority_expires_at.into_iter().chain(first(*pem)?).min();
    }
    Ok(TlsFacts {
        own_expires_at,
        authority_expires_at,
        revocation_due_at: lists.due_at,
        revocation_lists: lists.ders.len(),
        pins,
    })
}

fn parameters<E: std::error::Error + Send + Sync + 'static>(error: E) -> TlsConfigError {
    TlsConfigError::Parameters(error.into())
}

/// T63: the clock by which the library judges certificates.
#[derive(Debug)]
struct Judging(Arc<dyn WallClock>);

impl TimeProvider for Judging {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time(self.0.now()))
    }
}

/// Revocation lists, and what holds when they do not say.
type Checks<'a> = (&'a [CertificateRevocationListDer<'static>], &'a Revocation);

/// The configuration of the side that dials, and its verifier.
pub(super) fn client(
    authorities: &Authorities<'_>,
    identity: Option<Identity<'_>>,
    pins: Vec<Pin>,
    (lists, policy): Checks<'_>,
    clock: Arc<dyn WallClock>,
) -> Result<(Arc<ClientConfig>, Arc<ServerVerifier>), TlsConfigError> {
    let roots = Arc::new(authorities.roots()?);
    let mut verifier =
        WebPkiServerVerifier::builder_with_provider(roots, provider()).with_crls(lists.to_vec());
    if policy.unknown == Doubt::Accept {
        verifier = verifier.allow_unknown_revocation_status();
    }
    if policy.expired == Doubt::Refuse {
        verifier = verifier.enforce_revocation_expiration();
    }
    let verifier = Arc::new(ServerVerifier::new(verifier.build().map_err(parameters)?, pins));
    let builder = ClientConfig::builder_with_details(provider(), Arc::new(Judging(clock)))
        .with_protocol_versions(&[&TLS13])
        .map_err(parameters)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::<ServerVerifier>::clone(&verifier));
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let (chain, key) = identity.read()?;
            builder.with_client_auth_cert(chain, key).map_err(|source| identity.refused(source))?
        }
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    // T61
    config.resumption = Resumption::disabled();
    Ok((Arc::new(config), verifier))
}

/// The configuration of the side that listens, and its verifier.
pub(super) fn server(
    identity: Identity<'_>,
    authorities: &[Pem<'_>],
    (lists, policy): Checks<'_>,
    clock: Arc<dyn WallClock>,
) -> Result<(Arc<ServerConfig>, Arc<dyn ClientCertVerifier>), TlsConfigError> {
    let roots = Arc::new(root_store(authorities)?);
    let mut verifier =
        WebPkiClientVerifier::builder_with_provider(roots, provider()).with_crls(lists.to_vec());
    if policy.unknown == Doubt::Accept {
        verifier = verifier.allow_unknown_revocation_status();
    }
    if policy.expired == Doubt::Refuse {
        verifier = verifier.enforce_revocation_expiration();
    }
    let verifier = verifier.build().map_err(parameters)?;
    let (chain, key) = identity.read()?;
    let mut config = ServerConfig::builder_with_details(provider(), Arc::new(Judging(clock)))
        .with_protocol_versions(&[&TLS13])
        .map_err(parameters)?
        .with_client_cert_verifier(Arc::clone(&verifier))
        .with_single_cert(chain, key)
        .map_err(|source| identity.refused(source))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // T61
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok((Arc::new(config), verifier))
}
