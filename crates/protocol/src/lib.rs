//! What may appear on the wire between an Alys node and its governance nodes.
//!
//! This crate turns bytes into checked values and back, and knows what makes a signature valid.
//! A tool may depend on it alone, to decode a capture or to check a message.
//!
//! What is said on the wire:
//! - [`governance`]: the published contract `governance.v1`, generated, never extended.
//! - [`session`]: the delivery session `alys.stream.v1`, generated, and records ⇄ messages.
//! - [`submission`]: the local interface of a node, `alys.node.v1`, generated.
//!
//! What it means:
//! - [`message`]: what an application hands over, and the identities that go with it.
//! - [`seq_set`]: sets of sequence numbers as intervals: acknowledgements, dedup, resume.
//! - [`validate`]: typed checks of every message kind, both ways.
//! - [`federation`]: who signs: members, threshold, scripts, addresses, signatures over updates.
//! - [`signing`]: what is signed: transactions, signature hashes, attribution, witnesses.
//! - [`limits`]: every bound. [`time`]: wall time.
//!
//! Architecture invariants:
//! - It knows nothing about connections, files, tasks or tonic, and reads no clock outside of
//!   [`time::SystemClock`].
//! - Whatever a peer sends, nothing here panics: every refusal is a typed error.
//! - Encoded payloads are shared [`bytes::Bytes`]: never copied, never encoded again.
//! - Secrets do not appear in `Debug` output or in errors.
//!
//! # Examples
//!
//! A governance node checks a request, signs it, and the node attributes the signatures:
//!
//! ```
//! use alys_stream_protocol::{federation::Federation, governance, signing::SigningTask, validate};
//! use bitcoin::secp256k1::Keypair;
//!
//! fn sign(
//!     request: &governance::SignatureRequest,
//!     federation: &Federation,
//!     keypair: &Keypair,
//! ) -> Result<usize, Box<dyn std::error::Error>> {
//!     validate::signature_request(request)?;
//!     let task = SigningTask::try_new(request, federation)?;
//!     let signatures = task.sign(keypair);
//!     Ok(task.attribute_all(&signatures).iter().flatten().count())
//! }
//! ```

pub mod federation;
pub mod governance;
pub mod limits;
pub mod message;
pub mod seq_set;
pub mod session;
pub mod signing;
pub mod submission;
pub mod time;
pub mod validate;
