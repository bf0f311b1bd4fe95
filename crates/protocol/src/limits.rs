//! Every bound of the wire, with the relations between them asserted at compile time.

/// Largest payload of one message, in bytes. Larger ones are refused at `send`.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What headers, keys and trace context may add to a payload in one frame, in bytes.
pub const RECORD_OVERHEAD_BYTES_MAX: usize = 4 * 1024;

/// Largest gRPC message that either side decodes, in bytes: one record of the largest size, or a
/// batch, plus framing.
pub const FRAME_BYTES_MAX: usize = MESSAGE_BYTES_MAX + 64 * 1024;

/// Most records in one batch. Batches never wait to fill.
pub const BATCH_RECORDS_MAX: usize = 128;

/// A batch ends with the record that reaches this many payload bytes.
pub const BATCH_BYTES_MAX: usize = 64 * 1024;

/// A payload longer than this goes in parts, where both sides can; so nothing that is on its way is
/// longer than a batch.
pub const WHOLE_BYTES_MAX: usize = BATCH_BYTES_MAX;

/// Longest part, in bytes: one batch. Lower lets urgent messages past sooner, higher costs fewer
/// frames.
pub const CHUNK_BYTES: usize = BATCH_BYTES_MAX;

/// A batch shorter than this, in encoded bytes, is not compressed: it would hardly shrink.
pub const COMPRESSED_BYTES_MIN: usize = 1024;

/// Messages a receiver grants before anything is acknowledged: some batches for each sync of its
/// disk that may be under way. Lower costs it more syncs, higher lets more wait there.
pub const CREDIT_MESSAGES: u32 = 4096;

/// Bytes a receiver grants before anything is acknowledged.
pub const CREDIT_BYTES: u64 = 8 * 1024 * 1024;

/// Longest ordering key, in bytes.
pub const ORDERING_KEY_BYTES_MAX: usize = 256;

/// Longest `traceparent`, in bytes; version 00 has 55.
pub const TRACEPARENT_BYTES_MAX: usize = 256;

/// Longest identifier of a node, an endpoint or a member, in bytes.
pub const NODE_ID_BYTES_MAX: usize = 128;

/// Longest free text (reasons, error details), in bytes; longer ones are refused.
pub const TEXT_BYTES_MAX: usize = 4 * 1024;

/// Most inputs of one signature request.
pub const SIGNATURE_INPUTS_MAX: usize = 1024;

/// Largest transaction of one signature request, in bytes: Bitcoin's standardness limit of
/// 400 000 weight units is 100 000 bytes without witness, 400 000 with.
pub const TRANSACTION_BYTES_MAX: usize = 400_000;

/// Most members of a federation: `OP_CHECKMULTISIG` takes at most 20 keys.
pub const FEDERATION_MEMBERS_MAX: usize = 20;

/// All the money there can be, in satoshis: 21 million bitcoins.
pub const SATOSHIS_MAX: u64 = 2_100_000_000_000_000;

/// Longest request id, in bytes; ours are UUIDs of 36.
pub const REQUEST_ID_BYTES_MAX: usize = 128;

/// Longest word of a list, of a map key, or of a version, in bytes.
pub const WORD_BYTES_MAX: usize = 256;

/// Most entries of a list or map that no other bound is named for.
pub const LIST_ITEMS_MAX: usize = 256;

/// Longest address of a node, in bytes.
pub const URL_BYTES_MAX: usize = 2048;

/// Largest credential of a registration, in bytes.
pub const CREDENTIAL_BYTES_MAX: usize = 16 * 1024;

/// Largest `PeginNotification.extra_data`, in bytes.
pub const EXTRA_DATA_BYTES_MAX: usize = 64 * 1024;

/// Largest `ProposalNotification.proposal_data`, in bytes.
pub const PROPOSAL_DATA_BYTES_MAX: usize = 1024 * 1024;

/// Largest signature or key of one signer, in bytes; the published kinds need at most 96.
pub const SIGNATURE_BYTES_MAX: usize = 128;

/// Most signatures in one answer: every member for every input.
pub const SIGNATURES_MAX: usize = SIGNATURE_INPUTS_MAX * FEDERATION_MEMBERS_MAX;

/// Largest `FederationUpdate.update_signature`, in bytes.
pub const UPDATE_SIGNATURE_BYTES_MAX: usize = 16 * 1024;

/// Most ranges in one acknowledgement, cursor or credit report.
pub const RANGES_MAX: usize = 16 * 1024;

/// The first kind that applications may define.
pub const APPLICATION_KIND_MIN: u32 = 1000;

const _: () = {
    assert!(MESSAGE_BYTES_MAX + RECORD_OVERHEAD_BYTES_MAX <= FRAME_BYTES_MAX);
    assert!(BATCH_BYTES_MAX <= MESSAGE_BYTES_MAX);
    assert!(CHUNK_BYTES > 0 && CHUNK_BYTES + RECORD_OVERHEAD_BYTES_MAX <= FRAME_BYTES_MAX);
    assert!(CHUNK_BYTES <= WHOLE_BYTES_MAX);
    assert!(CREDIT_BYTES >= MESSAGE_BYTES_MAX as u64);
    assert!(TRANSACTION_BYTES_MAX * 2 + RECORD_OVERHEAD_BYTES_MAX <= MESSAGE_BYTES_MAX);
    assert!(EXTRA_DATA_BYTES_MAX + RECORD_OVERHEAD_BYTES_MAX <= MESSAGE_BYTES_MAX);
    assert!(PROPOSAL_DATA_BYTES_MAX + RECORD_OVERHEAD_BYTES_MAX <= MESSAGE_BYTES_MAX);
    assert!(UPDATE_SIGNATURE_BYTES_MAX >= 2 * FEDERATION_MEMBERS_MAX * (NODE_ID_BYTES_MAX + 72));
    assert!(ORDERING_KEY_BYTES_MAX + TRACEPARENT_BYTES_MAX < RECORD_OVERHEAD_BYTES_MAX);
};
