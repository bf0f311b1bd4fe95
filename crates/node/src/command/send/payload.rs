//! The options of each kind of message, and the message that they make.

use std::path::PathBuf;

use alys_stream_protocol::governance::{
    NodeStatus, PeginNotification, SignatureRequest, StatusUpdate, SyncStatus, TransactionType,
};
use alys_stream_protocol::submission::{ApplicationMessage, submission};
use bytes::Bytes;
use clap::ValueEnum;

use crate::failure::Failure;

#[derive(Debug, clap::Args)]
pub(super) struct Pegin {
    /// The Bitcoin transaction, 64 hexadecimal digits as Bitcoin prints it
    #[arg(long, value_name = "HEX")]
    txid: String,
    /// Its output
    #[arg(long, value_name = "INDEX")]
    vout: u32,
    /// How much, in satoshis
    #[arg(long, value_name = "SATS")]
    amount: u64,
    /// Who gets it on the sidechain: 20 bytes in hexadecimal
    #[arg(long, value_name = "HEX")]
    evm_address: String,
    /// How deep the transaction is
    #[arg(long, value_name = "BLOCKS", default_value_t = 6)]
    confirmations: u32,
    /// Anything else, in hexadecimal
    #[arg(long, value_name = "HEX")]
    extra_data: Option<String>,
}

impl Pegin {
    pub(super) fn into_payload(self) -> Result<submission::Payload, Failure> {
        let extra_data = self.extra_data.map(|text| from_hex("--extra-data", &text)).transpose()?;
        Ok(submission::Payload::PeginNotification(PeginNotification {
            btc_txid: self.txid,
            vout: self.vout,
            amount: self.amount,
            evm_address: self.evm_address,
            confirmations: self.confirmations,
            extra_data,
        }))
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct Status {
    /// How it is doing
    #[arg(long, value_enum, default_value_t = Doing::Active)]
    status: Doing,
    /// Height of its newest block
    #[arg(long, value_name = "BLOCK")]
    height: u64,
    /// Whether it follows the chain
    #[arg(long, value_enum, default_value_t = Sync::Synced)]
    sync: Sync,
    /// How many peers it has
    #[arg(long, value_name = "N", default_value_t = 0)]
    connections: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Doing {
    Starting,
    Syncing,
    Active,
    Degraded,
    Offline,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sync {
    Synced,
    Syncing,
    Stalled,
    Error,
}

impl Status {
    pub(super) fn into_payload(self) -> submission::Payload {
        let status = match self.status {
            Doing::Starting => NodeStatus::Starting,
            Doing::Syncing => NodeStatus::Syncing,
            Doing::Active => NodeStatus::Active,
            Doing::Degraded => NodeStatus::Degraded,
            Doing::Offline => NodeStatus::Offline,
        };
        let sync_status = match self.sync {
            Sync::Synced => SyncStatus::Synced,
            Sync::Syncing => SyncStatus::Syncing,
            Sync::Stalled => SyncStatus::Stalled,
            Sync::Error => SyncStatus::Error,
        };
        submission::Payload::StatusUpdate(StatusUpdate {
            status: status.into(),
            block_height: self.height,
            sync_status: sync_status.into(),
            connection_count: self.connections,
            metrics: None,
        })
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct Signature {
    /// The unsigned transaction in hexadecimal
    #[arg(long, value_name = "HEX")]
    tx: String,
    /// What each input to sign is worth, in satoshis; once per input, in order
    #[arg(long = "amount", value_name = "SATS", required = true)]
    amounts: Vec<u64>,
    /// Which inputs to sign; once per input [default: the first ones, one per amount]
    #[arg(long = "input", value_name = "INDEX")]
    inputs: Vec<u32>,
    /// How many signatures per input [default: the federation's threshold]
    #[arg(long, value_name = "N", default_value_t = 1, hide_default_value = true)]
    required: u32,
    /// What the transaction is for
    #[arg(long = "type", value_enum, default_value_t = Purpose::Pegout)]
    purpose: Purpose,
    /// After how many seconds the federation may give up
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<i32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Purpose {
    Pegin,
    Pegout,
    FederationChange,
    Emergency,
}

impl Signature {
    pub(super) fn into_payload(self) -> Result<submission::Payload, Failure> {
        let input_indices = if self.inputs.is_empty() {
            (0..).take(self.amounts.len()).collect()
        } else {
            self.inputs
        };
        if input_indices.len() != self.amounts.len() {
            return Err(Failure::usage(format_args!(
                "{} times --input and {} times --amount (give one amount per input, in order)",
                input_indices.len(),
                self.amounts.len()
            )));
        }
        let tx_type = match self.purpose {
            Purpose::Pegin => TransactionType::Pegin,
            Purpose::Pegout => TransactionType::Pegout,
            Purpose::FederationChange => TransactionType::FederationChange,
            Purpose::Emergency => TransactionType::Emergency,
        };
        Ok(submission::Payload::SignatureRequest(SignatureRequest {
            tx_hex: self.tx,
            input_indices,
            amounts: self.amounts,
            tx_type: tx_type.into(),
            required_signatures: self.required,
            timeout_seconds: self.timeout,
        }))
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct App {
    /// The kind, from 1000 on
    #[arg(long, value_name = "NUMBER")]
    kind: u32,
    #[command(flatten)]
    body: Body,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Body {
    /// The message as text
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// The message in hexadecimal
    #[arg(long, value_name = "HEX")]
    hex: Option<String>,
    /// A file with the message
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl App {
    pub(super) fn into_payload(self) -> Result<submission::Payload, Failure> {
        let Body { text, hex, file } = self.body;
        let payload = match (text, hex, file) {
            (Some(text), _, _) => text.into(),
            (None, Some(hex), _) => from_hex("--hex", &hex)?,
            (None, None, Some(path)) => {
                std::fs::read(&path).map_err(|error| Failure::file("read", &path, &error))?.into()
            }
            (None, None, None) => Bytes::new(),
        };
        let kind = self.kind;
        Ok(submission::Payload::Application(ApplicationMessage { kind, payload }))
    }
}

/// Reads hexadecimal digits.
pub(super) fn from_hex(what: &str, text: &str) -> Result<Bytes, Failure> {
    hex::decode(text)
        .map(Bytes::from)
        .map_err(|error| Failure::usage(format_args!("{what}: not hexadecimal: {error}")))
}
