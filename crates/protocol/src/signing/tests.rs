//! Real spends of both script kinds, checked by Bitcoin's own consensus code.

use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode;
use bitcoin::hashes::{Hash as _, sha256d};
use bitcoin::secp256k1::{SecretKey, ecdsa as raw};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, TxIn, TxOut, Txid};
use proptest::prelude::*;

use super::*;
use crate::federation::Member;
use crate::governance::TransactionType;
use crate::limits;

fn keypair(seed: u8) -> Keypair {
    Keypair::from_secret_key(&SECP, &SecretKey::from_slice(&[seed; 32]).unwrap())
}

/// 2 of 3: keys 1 to 3.
fn federation(script: ScriptKind) -> Federation {
    let members = (1..=3)
        .map(|seed| Member {
            id: format!("member-{seed}"),
            public_key: keypair(seed).public_key(),
            weight: 1,
        })
        .collect();
    Federation::try_new(2, members, script).unwrap()
}

/// Position of the member with key `seed`.
fn position(federation: &Federation, seed: u8) -> usize {
    let id = format!("member-{seed}");
    federation.members().iter().position(|member| member.id == id).unwrap()
}

/// A peg-out that spends `inputs` outputs of the federation.
fn request(inputs: u32) -> SignatureRequest {
    let transaction = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: (0..inputs)
            .map(|vout| TxIn {
                previous_output: OutPoint {
                    txid: Txid::from_raw_hash(sha256d::Hash::hash(b"funding")),
                    vout,
                },
                script_sig: ScriptBuf::new(),
                sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
                witness: Witness::new(),
            })
            .collect(),
        output: vec![TxOut {
            value: Amount::from_sat(90_000),
            script_pubkey: federation(ScriptKind::P2wsh).script_pubkey(),
        }],
    };
    SignatureRequest {
        tx_hex: encode::serialize_hex(&transaction),
        input_indices: (0..inputs).collect(),
        amounts: (0..inputs).map(|input| 100_000 + u64::from(input)).collect(),
        tx_type: TransactionType::Pegout.into(),
        required_signatures: 2,
        timeout_seconds: None,
    }
}

fn task(script: ScriptKind, inputs: u32) -> SigningTask {
    SigningTask::try_new(&request(inputs), &federation(script)).unwrap()
}

const BOTH: [ScriptKind; 2] = [ScriptKind::P2wsh, ScriptKind::P2tr];

/// Asks Bitcoin's own consensus code whether the transaction spends the federation's outputs.
fn consensus_accepts(task: &SigningTask, amounts: &[u64], signed: &Transaction) -> bool {
    let script = task.federation().script_pubkey();
    let spent: Vec<_> = amounts
        .iter()
        .map(|value| bitcoinconsensus::Utxo {
            script_pubkey: script.as_bytes().as_ptr(),
            script_pubkey_len: u32::try_from(script.len()).unwrap(),
            value: i64::try_from(*value).unwrap(),
        })
        .collect();
    let bytes = encode::serialize(signed);
    amounts.iter().enumerate().all(|(input, value)| {
        bitcoinconsensus::verify_with_flags(
            script.as_bytes(),
            *value,
            &bytes,
            Some(&spent),
            input,
            bitcoinconsensus::VERIFY_ALL_PRE_TAPROOT | bitcoinconsensus::VERIFY_TAPROOT,
        )
        .is_ok()
    })
}

/// Every signature by input and member, as a collector would gather them.
fn collect(task: &SigningTask, witnesses: &[WitnessData]) -> Vec<BTreeMap<usize, Vec<u8>>> {
    let mut collected = vec![BTreeMap::new(); task.inputs().len()];
    for (witness, attribution) in witnesses.iter().zip(task.attribute_all(witnesses)) {
        let attribution = attribution.expect("signature verifies");
        assert_eq!(task.attribute(witness), Some(attribution));
        collected[attribution.input].insert(attribution.member, witness.signature.to_vec());
    }
    collected
}

#[test]
fn two_of_three_spend_for_both_scripts_in_any_order() {
    for script in BOTH {
        for seeds in [[1, 2], [2, 3], [3, 1]] {
            let task = task(script, 3);
            let mut witnesses: Vec<_> =
                seeds.iter().flat_map(|seed| task.sign(&keypair(*seed))).collect();
            for _ in 0..witnesses.len() {
                witnesses.rotate_left(1);
                witnesses.swap(0, 3);
                let stacks = collect(&task, &witnesses)
                    .iter()
                    .enumerate()
                    .map(|(input, signatures)| task.witness(input, signatures).unwrap())
                    .collect();
                let signed = task.signed_transaction(stacks).unwrap();
                assert_eq!(signed.compute_txid(), task.transaction().compute_txid());
                assert!(
                    consensus_accepts(&task, &request(3).amounts, &signed),
                    "{script:?} {seeds:?}"
                );
                assert!(!consensus_accepts(&task, &[100_000, 100_001, 1], &signed));
            }
        }
    }
}

#[test]
fn inputs_may_be_requested_in_any_order() {
    for script in BOTH {
        let mut request = request(3);
        request.input_indices = vec![2, 0, 1];
        request.amounts = vec![100_002, 100_000, 100_001];
        let reordered = SigningTask::try_new(&request, &federation(script)).unwrap();
        let plain = task(script, 3);
        let (ours, theirs) = (reordered.sign(&keypair(1)), plain.sign(&keypair(1)));
        assert_eq!(ours[0], theirs[2]);
        assert_eq!(ours[1], theirs[0]);
        assert_eq!(reordered.attribute(&theirs[2]).unwrap().input, 0);
        let witnesses = [ours, reordered.sign(&keypair(3))].concat();
        let stacks = collect(&reordered, &witnesses)
            .iter()
            .enumerate()
            .map(|(input, signatures)| reordered.witness(input, signatures).unwrap())
            .collect();
        let signed = reordered.signed_transaction(stacks).unwrap();
        assert!(consensus_accepts(&reordered, &[100_000, 100_001, 100_002], &signed));
    }
}

#[test]
fn a_signature_belongs_to_its_input_and_member_alone() {
    for script in BOTH {
        let task = task(script, 2);
        for seed in 1..=3 {
            for (input, witness) in task.sign(&keypair(seed)).iter().enumerate() {
                let member = position(task.federation(), seed);
                assert_eq!(task.attribute(witness), Some(Attribution { input, member }));
            }
        }
        // A task for input 0 alone knows nothing of the signature of input 1.
        if script == ScriptKind::P2wsh {
            let mut request = request(2);
            request.input_indices.pop();
            request.amounts.pop();
            let part = SigningTask::try_new(&request, task.federation()).unwrap();
            assert!(!part.is_whole_transaction());
            let witnesses = task.sign(&keypair(1));
            assert_eq!(part.attribute(&witnesses[0]).unwrap().input, 0);
            assert_eq!(part.attribute(&witnesses[1]), None);
            assert_eq!(part.signed_transaction(vec![Witness::new()]), None);
        }
    }
}

#[test]
fn the_claimed_key_is_a_hint_and_no_more() {
    for script in BOTH {
        let task = task(script, 1);
        let honest = task.sign(&keypair(2)).remove(0);
        let expected = task.attribute(&honest);
        assert!(expected.is_some());
        for claim in [
            Bytes::new(),
            Bytes::from_static(b"nonsense"),
            Bytes::copy_from_slice(&keypair(1).public_key().serialize()),
            Bytes::copy_from_slice(&keypair(2).public_key().serialize()),
            Bytes::copy_from_slice(&keypair(2).x_only_public_key().0.serialize()),
            Bytes::copy_from_slice(&keypair(9).public_key().serialize()),
        ] {
            let witness = WitnessData { public_key: claim, ..honest.clone() };
            assert_eq!(task.attribute(&witness), expected);
        }
    }
}

#[test]
fn what_does_not_verify_is_not_attributed() {
    for script in BOTH {
        let task = task(script, 2);
        let good = task.sign(&keypair(1)).remove(0);
        assert!(task.attribute(&good).is_some());
        // A stranger's key.
        assert_eq!(task.attribute(&task.sign(&keypair(9))[0]), None);
        // The same key, another transaction.
        let mut other = request(2);
        other.amounts[0] += 1;
        let other = SigningTask::try_new(&other, task.federation()).unwrap();
        assert_eq!(task.attribute(&other.sign(&keypair(1))[0]), None);
        // Another declared type, and types that do not exist.
        let declared = good.sig_type;
        for sig_type in [0, 1, 2, 3, 77, -1].into_iter().filter(|number| *number != declared) {
            assert_eq!(task.attribute(&WitnessData { sig_type, ..good.clone() }), None);
        }
        // Every truncation, and every flipped byte.
        for cut in 0..good.signature.len() {
            let signature = good.signature.slice(..cut);
            assert_eq!(task.attribute(&WitnessData { signature, ..good.clone() }), None);
            let mut bytes = good.signature.to_vec();
            bytes[cut] ^= 1;
            let flipped = WitnessData { signature: bytes.into(), ..good.clone() };
            assert_eq!(task.attribute(&flipped), None, "byte {cut}");
        }
    }
}

#[test]
fn only_the_hash_type_for_everything_is_accepted() {
    let task_of = |script| task(script, 1);
    let ecdsa = task_of(ScriptKind::P2wsh).sign(&keypair(1)).remove(0);
    let mut bytes = ecdsa.signature.to_vec();
    assert_eq!(bytes.pop(), Some(1));
    for hash_type in [None, Some(0), Some(2), Some(3), Some(0x81)] {
        let signature = bytes.iter().copied().chain(hash_type).collect::<Vec<_>>().into();
        let witness = WitnessData { signature, ..ecdsa.clone() };
        assert_eq!(task_of(ScriptKind::P2wsh).attribute(&witness), None);
    }
    let schnorr = task_of(ScriptKind::P2tr).sign(&keypair(1)).remove(0);
    for hash_type in [0, 1, 0x81] {
        let signature = [&schnorr.signature[..], &[hash_type]].concat().into();
        let witness = WitnessData { signature, ..schnorr.clone() };
        assert_eq!(task_of(ScriptKind::P2tr).attribute(&witness), None);
    }
}

#[test]
fn a_high_s_is_refused_even_though_it_is_mathematically_valid() {
    let order: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xfe, 0xba, 0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36,
        0x41, 0x41,
    ];
    let task = task(ScriptKind::P2wsh, 1);
    let good = task.sign(&keypair(1)).remove(0);
    let low = ecdsa::Signature::from_slice(&good.signature).unwrap().signature;
    let mut compact = low.serialize_compact();
    // s := order - s
    let mut borrow = 0;
    for byte in (0..32).rev() {
        let difference = i32::from(order[byte]) - i32::from(compact[32 + byte]) - borrow;
        borrow = i32::from(difference < 0);
        compact[32 + byte] = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    let high = raw::Signature::from_compact(&compact).unwrap();
    let mut back = high;
    back.normalize_s();
    assert_eq!(back, low, "the test makes the twin of the signature");
    let signature = ecdsa::Signature::sighash_all(high).to_vec().into();
    assert_eq!(task.attribute(&WitnessData { signature, ..good }), None);
}

#[test]
fn der_with_padding_is_refused() {
    let task = task(ScriptKind::P2wsh, 1);
    let good = task.sign(&keypair(1)).remove(0);
    let mut padded = good.signature.to_vec();
    // One more zero in front of r: lengths of the sequence and of r grow by one.
    padded[1] += 1;
    padded[3] += 1;
    padded.insert(4, 0);
    let witness = WitnessData { signature: padded.into(), ..good };
    assert_eq!(task.attribute(&witness), None);
}

#[test]
fn a_witness_waits_for_what_is_required() {
    for script in BOTH {
        let mut request = request(1);
        request.required_signatures = 3;
        let demanding = SigningTask::try_new(&request, &federation(script)).unwrap();
        assert_eq!(demanding.required(), 3);
        let mut modest = request.clone();
        modest.required_signatures = 1;
        let modest = SigningTask::try_new(&modest, &federation(script)).unwrap();
        assert_eq!(modest.required(), 2, "the script asks for two");
        let mut signatures = BTreeMap::new();
        for seed in 1..=3 {
            let is_enough = |needed: usize| signatures.len() >= needed;
            assert_eq!(modest.witness(0, &signatures).is_some(), is_enough(2));
            assert_eq!(demanding.witness(0, &signatures).is_some(), is_enough(3));
            let witness = modest.sign(&keypair(seed)).remove(0);
            let member = modest.attribute(&witness).unwrap().member;
            signatures.insert(member, witness.signature.to_vec());
        }
        // With three at hand the stack still holds the two that the script counts.
        let stack = demanding.witness(0, &signatures).unwrap();
        assert!(!stack.is_empty());
        let signed = demanding.signed_transaction(vec![stack]).unwrap();
        assert!(consensus_accepts(&demanding, &[100_000], &signed));
        assert_eq!(demanding.witness(1, &signatures), None);
        signatures.insert(3, vec![0; 64]);
        assert_eq!(demanding.witness(0, &signatures), None, "there is no fourth member");
    }
}

#[test]
fn signing_is_deterministic() {
    for script in BOTH {
        assert_eq!(task(script, 2).sign(&keypair(1)), task(script, 2).sign(&keypair(1)), "P9");
    }
}

/// What a task says about a request for two inputs, spoilt.
fn refusal(script: ScriptKind, spoil: impl FnOnce(&mut SignatureRequest)) -> SigningError {
    let mut request = request(2);
    spoil(&mut request);
    SigningTask::try_new(&request, &federation(script)).unwrap_err()
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let wsh = |spoil: fn(&mut SignatureRequest)| refusal(ScriptKind::P2wsh, spoil);
    assert_eq!(wsh(|r| r.input_indices[1] = 0), SigningError::DuplicateInput(0));
    assert_eq!(wsh(|r| r.input_indices[1] = 2), SigningError::InputRange { index: 2, inputs: 2 });
    assert_eq!(wsh(|r| r.input_indices.clear()), SigningError::Inputs(0));
    assert_eq!(wsh(|r| r.input_indices = (0..1025).collect()), SigningError::Inputs(1025));
    assert_eq!(wsh(|r| r.amounts.truncate(1)), SigningError::Amounts { amounts: 1, inputs: 2 });
    assert_eq!(wsh(|r| r.amounts[0] = u64::MAX), SigningError::Amount(u64::MAX));
    for required in [0, 4] {
        assert_eq!(
            refusal(ScriptKind::P2wsh, |r| r.required_signatures = required),
            SigningError::Required { required, members: 3 }
        );
    }
    let part = |r: &mut SignatureRequest| {
        r.input_indices.truncate(1);
        r.amounts.truncate(1);
    };
    assert_eq!(refusal(ScriptKind::P2tr, part), SigningError::Partial { requested: 1, inputs: 2 });
}

#[test]
fn transactions_that_cannot_be_read_are_refused() {
    let with = |text: String| refusal(ScriptKind::P2wsh, |r| r.tx_hex = text);
    let bytes = limits::TRANSACTION_BYTES_MAX + 1;
    assert_eq!(with("00".repeat(bytes)), SigningError::TransactionBytes { bytes });
    let whole = request(2).tx_hex;
    assert_eq!(with(format!("{whole}0")), SigningError::Hex(hex::FromHexError::OddLength));
    for text in ["zz", "é"] {
        assert!(matches!(with(text.into()), SigningError::Hex(_)), "{text}");
    }
    for text in [String::new(), "00".into(), format!("{whole}00")] {
        assert!(matches!(with(text.clone()), SigningError::Transaction(_)), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn arbitrary_signatures_never_panic_and_are_never_attributed(
        signature in prop::collection::vec(any::<u8>(), 0..100),
        public_key in prop::collection::vec(any::<u8>(), 0..40),
        sig_type in 0..4,
    ) {
        let witness = WitnessData { signature: signature.into(), public_key: public_key.into(), sig_type };
        for script in BOTH {
            prop_assert_eq!(task(script, 1).attribute(&witness), None);
        }
    }

    #[test]
    fn arbitrary_transactions_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let request = SignatureRequest { tx_hex: hex::encode(bytes), ..request(1) };
        for script in BOTH {
            let task = SigningTask::try_new(&request, &federation(script));
            prop_assert!(task.is_err() || !task.unwrap().inputs().is_empty());
        }
    }
}
