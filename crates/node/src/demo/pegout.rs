//! Peg-out transactions: real ones, except that the outputs that they spend exist only here.
//!
//! A pure module: the same random numbers give the same transactions.

use alys_stream_protocol::governance::{SignatureRequest, TransactionType};
use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::{deserialize, serialize_hex};
use bitcoin::hashes::Hash as _;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, OutPoint, Script, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, WPubkeyHash,
    Witness,
};
use fastrand::Rng;

/// Most inputs of one peg-out.
const INPUTS_MAX: usize = 5;

/// Most users that one transaction pays.
const PAYOUTS_MAX: usize = 3;

/// What each input adds, in satoshis: at least enough for payouts, fee and change.
const INPUT_SATS: std::ops::Range<u64> = 1_000_000..500_000_000;

/// The fee, in satoshis.
const FEE_SATS: u64 = 5_000;

/// After this the federation may give up, in seconds: longer than any run waits.
const TIMEOUT_SECONDS: i32 = 600;

/// A transaction that pays users out of the federation, and the outputs that it spends.
#[derive(Debug, Clone)]
pub(crate) struct Pegout {
    unsigned: Transaction,
    spent: Vec<TxOut>,
}

impl Pegout {
    /// A random one: 1 to 5 inputs that the federation holds, replaceable by fee (BIP-125),
    /// payouts to users, and the change back to the federation.
    pub(crate) fn random(rng: &mut Rng, federation: &Script) -> Self {
        let inputs = rng.usize(1..=INPUTS_MAX);
        let spent: Vec<TxOut> = (0..inputs)
            .map(|_| TxOut {
                value: Amount::from_sat(rng.u64(INPUT_SATS)),
                script_pubkey: federation.to_owned(),
            })
            .collect();
        let total: u64 = spent.iter().map(|output| output.value.to_sat()).sum();
        let mut output: Vec<TxOut> =
            (0..rng.usize(1..=PAYOUTS_MAX)).map(|_| payout(rng, total)).collect();
        let paid: u64 = output.iter().map(|output| output.value.to_sat()).sum();
        output.push(TxOut {
            value: Amount::from_sat(total - paid - FEE_SATS),
            script_pubkey: federation.to_owned(),
        });
        let input = (0..inputs).map(|_| input(rng)).collect();
        let unsigned =
            Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input, output };
        Self { unsigned, spent }
    }

    /// Asks the federation to sign every input.
    pub(crate) fn request(&self, required_signatures: u32) -> SignatureRequest {
        SignatureRequest {
            tx_hex: serialize_hex(&self.unsigned),
            input_indices: (0..).take(self.spent.len()).collect(),
            amounts: self.spent.iter().map(|output| output.value.to_sat()).collect(),
            tx_type: TransactionType::Pegout.into(),
            required_signatures,
            timeout_seconds: Some(TIMEOUT_SECONDS),
        }
    }

    /// Checks what came back by Bitcoin's consensus rules: every script of every input runs.
    ///
    /// # Errors
    ///
    /// When it is not a transaction, not the one that was asked for, or not spendable.
    pub(crate) fn verify(&self, signed: &[u8]) -> Result<(), BadTransaction> {
        let transaction: Transaction =
            deserialize(signed).map_err(|_| BadTransaction::Unreadable)?;
        let mut stripped = transaction;
        for input in &mut stripped.input {
            input.witness = Witness::new();
        }
        if stripped != self.unsigned {
            return Err(BadTransaction::Different);
        }
        // Taproot signatures cover all spent outputs, so the interpreter wants to see all of them.
        let outputs: Vec<_> = self.spent.iter().map(consensus_output).collect();
        let flags = bitcoinconsensus::VERIFY_ALL_PRE_TAPROOT | bitcoinconsensus::VERIFY_TAPROOT;
        for (input, spent) in self.spent.iter().enumerate() {
            let script = spent.script_pubkey.as_bytes();
            let value = spent.value.to_sat();
            bitcoinconsensus::verify_with_flags(
                script,
                value,
                signed,
                Some(&outputs),
                input,
                flags,
            )
            .map_err(|error| BadTransaction::Script { input, error })?;
        }
        Ok(())
    }
}

/// A signed transaction that Bitcoin, or we, would not take.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadTransaction {
    /// Not the encoding of a transaction.
    #[error("the bytes are not a transaction")]
    Unreadable,
    /// Signed, but something else.
    #[error("the signed transaction differs from the requested one")]
    Different,
    /// A script refused.
    #[error("input {input} does not satisfy its script: {error:?}")]
    Script {
        /// Which input.
        input: usize,
        /// What the interpreter said.
        error: bitcoinconsensus::Error,
    },
}

/// At most a quarter of the total each, so that the change is never negative.
fn payout(rng: &mut Rng, total: u64) -> TxOut {
    let value = Amount::from_sat(rng.u64(10_000..=total / 4));
    let mut hash = [0_u8; 20];
    rng.fill(&mut hash);
    TxOut { value, script_pubkey: ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array(hash)) }
}

fn input(rng: &mut Rng) -> TxIn {
    let mut txid = [0_u8; 32];
    rng.fill(&mut txid);
    TxIn {
        previous_output: OutPoint::new(Txid::from_byte_array(txid), rng.u32(0..4)),
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::new(),
    }
}

fn consensus_output(output: &TxOut) -> bitcoinconsensus::Utxo {
    let script = output.script_pubkey.as_bytes();
    bitcoinconsensus::Utxo {
        script_pubkey: script.as_ptr(),
        // A federation script has 34 bytes, and the supply of Bitcoin is below 2^51 satoshis.
        script_pubkey_len: u32::try_from(script.len()).unwrap_or(u32::MAX),
        value: i64::try_from(output.value.to_sat()).unwrap_or(i64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use alys_stream_protocol::federation::{Federation, Member, ScriptKind};
    use alys_stream_protocol::signing::SigningTask;
    use bitcoin::consensus::encode::serialize;
    use bitcoin::secp256k1::{Keypair, Secp256k1, SecretKey};

    use super::*;

    fn federation(script: ScriptKind) -> (Federation, Vec<Keypair>) {
        let secp = Secp256k1::new();
        let keys: Vec<Keypair> = (1..=3_u8)
            .map(|byte| {
                Keypair::from_secret_key(&secp, &SecretKey::from_slice(&[byte; 32]).unwrap())
            })
            .collect();
        let member = |(index, key): (usize, &Keypair)| Member {
            id: format!("m{index}"),
            public_key: key.public_key(),
            weight: 1,
        };
        let members = keys.iter().enumerate().map(member).collect();
        (Federation::try_new(2, members, script).unwrap(), keys)
    }

    fn sign(pegout: &Pegout, federation: &Federation, keys: &[Keypair]) -> Transaction {
        let task = SigningTask::try_new(&pegout.request(2), federation).unwrap();
        let mut by_input: Vec<BTreeMap<usize, Vec<u8>>> =
            vec![BTreeMap::new(); task.inputs().len()];
        for key in keys {
            for signature in task.sign(key) {
                let at = task.attribute(&signature).expect("our own signature is valid");
                by_input[at.input].insert(at.member, signature.signature.to_vec());
            }
        }
        let mut signed = pegout.unsigned.clone();
        for (input, signatures) in by_input.iter().enumerate() {
            signed.input[input].witness = task.witness(input, signatures).unwrap();
        }
        signed
    }

    #[test]
    fn two_of_three_satisfy_consensus() {
        for script in [ScriptKind::P2wsh, ScriptKind::P2tr] {
            let (federation, keys) = federation(script);
            let mut rng = Rng::with_seed(7);
            for _ in 0..10 {
                let pegout = Pegout::random(&mut rng, &federation.script_pubkey());
                let signed = sign(&pegout, &federation, &keys[..2]);
                pegout.verify(&serialize(&signed)).unwrap();
            }
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let (federation, keys) = federation(ScriptKind::P2wsh);
        let mut rng = Rng::with_seed(7);
        let pegout = Pegout::random(&mut rng, &federation.script_pubkey());
        let mut signed = sign(&pegout, &federation, &keys[..2]);
        assert!(matches!(pegout.verify(b"nonsense"), Err(BadTransaction::Unreadable)));
        let unsigned = serialize(&pegout.unsigned);
        assert!(matches!(pegout.verify(&unsigned), Err(BadTransaction::Script { input: 0, .. })));
        signed.output[0].value = Amount::from_sat(1);
        assert!(matches!(pegout.verify(&serialize(&signed)), Err(BadTransaction::Different)));
    }

    #[test]
    fn the_seed_decides() {
        let (federation, _) = federation(ScriptKind::P2wsh);
        let script = federation.script_pubkey();
        let one = Pegout::random(&mut Rng::with_seed(3), &script);
        let two = Pegout::random(&mut Rng::with_seed(3), &script);
        assert_eq!(one.unsigned, two.unsigned);
    }
}
