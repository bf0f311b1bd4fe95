//! The limit of a link: a bare group-committed log in front of a bare gRPC stream, over the same
//! TLS, in the same batches, with the same disk under both ends.
//!
//! It promises next to nothing: no identity is checked twice, no priorities, no retries, no
//! checksum, nothing survives a restart. Whatever a link does beside is measured against it.
//!
//! - [`log`]: records in, durable together, in the order given.
//! - [`codec`]: the bytes of a batch.
//! - [`near`]: the end that accepts and sends; [`far`]: the end that stores and acknowledges.

mod codec;
pub(super) mod far;
mod log;
pub(super) mod near;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use alys_stream_transport::tls::{self, Authorities, Identity, Pem};
use bytes::Bytes;

use crate::failure::Failure;

/// Most records of a batch, as in a session.
const BATCH_RECORDS_MAX: usize = alys_stream_protocol::limits::BATCH_RECORDS_MAX;

/// Most payload bytes of a batch, as in a session.
const BATCH_BYTES_MAX: usize = alys_stream_protocol::limits::BATCH_BYTES_MAX;

/// HTTP/2 windows and frames, as in a session.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
const FRAME_BYTES: u32 = 64 * 1024;

/// Path of the one method.
const METHOD: &str = "/alys.bench.Bare/Open";

/// What is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    id: [u8; 16],
    payload: Bytes,
}

/// Records with consecutive numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Batch {
    /// The number of the first one.
    first: u64,
    records: Vec<Record>,
}

/// What an end of it is told on its command line.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// The minted folder, for certificates
    #[arg(long)]
    minted: PathBuf,
    /// Where its log is; without one nothing is stored
    #[arg(long)]
    log: Option<PathBuf>,
    /// Where the far end listens
    #[arg(long)]
    address: std::net::SocketAddr,
}

/// The name that the certificate of the far end is for.
const FAR_NAME: &str = "127.0.0.1";

impl Args {
    fn client(&self) -> Result<Arc<rustls::ClientConfig>, Failure> {
        let read = Files::read(&self.minted, "node")?;
        let authority = read.authority();
        tls::client_config(Authorities::Private(&[authority]), Some(read.identity()))
            .map_err(Failure::config)
    }

    fn server(&self) -> Result<Arc<rustls::ServerConfig>, Failure> {
        let read = Files::read(&self.minted, "governance-1")?;
        let authority = read.authority();
        tls::server_config(read.identity(), &[authority]).map_err(Failure::config)
    }
}

/// The minted files of one end.
struct Files {
    authority: Vec<u8>,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Files {
    fn read(minted: &Path, who: &str) -> Result<Self, Failure> {
        let read = |path: PathBuf| {
            std::fs::read(&path).map_err(|error| Failure::file("read", &path, &error))
        };
        Ok(Self {
            authority: read(minted.join("ca/ca.pem"))?,
            certificate: read(minted.join(who).join("tls.pem"))?,
            key: read(minted.join(who).join("tls-key.pem"))?,
        })
    }

    fn authority(&self) -> Pem<'_> {
        Pem { label: "ca.pem", bytes: &self.authority }
    }

    fn identity(&self) -> Identity<'_> {
        Identity {
            certificates: Pem { label: "tls.pem", bytes: &self.certificate },
            key: Pem { label: "tls-key.pem", bytes: &self.key },
        }
    }
}
