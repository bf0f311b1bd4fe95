//! Federations, and signatures over their updates.

use std::collections::BTreeMap;
use std::str::FromStr;

use bitcoin::secp256k1::{Keypair, SecretKey};
use bytes::Bytes;
use prost::Message as _;

use super::*;
use crate::governance::{FederationConfig, FederationUpdateType};
use crate::session::{MemberSignature, SignatureSet};

fn keypair(seed: u8) -> Keypair {
    Keypair::from_secret_key(&SECP, &SecretKey::from_slice(&[seed; 32]).unwrap())
}

fn member(seed: u8, weight: u32) -> Member {
    Member { id: format!("member-{seed}"), public_key: keypair(seed).public_key(), weight }
}

fn federation(script: ScriptKind) -> Federation {
    Federation::try_new(2, vec![member(1, 1), member(2, 1), member(3, 1)], script).unwrap()
}

#[test]
fn scripts_do_not_depend_on_the_order_of_members() {
    for script in [ScriptKind::P2wsh, ScriptKind::P2tr] {
        let one = federation(script);
        let other =
            Federation::try_new(2, vec![member(3, 1), member(1, 1), member(2, 1)], script).unwrap();
        assert_eq!(one, other, "P6");
        assert_eq!(one.script_pubkey(), other.script_pubkey());
    }
}

/// The vector of BIP-67: the sorted 2-of-2 script of its first example, here behind P2WSH.
#[test]
fn keys_are_in_the_order_of_bip_67() {
    let keys = [
        "02ff12471208c14bd580709cb2358d98975247d8765f92bc25eab3b2763ed605f8",
        "02fe6f0a5a297eb38c391581c4413e084773ea23954d93f7753db7dc0adc188b2f",
    ];
    let members = keys
        .iter()
        .map(|key| Member {
            id: (*key).into(),
            public_key: PublicKey::from_str(key).unwrap(),
            weight: 1,
        })
        .collect();
    let federation = Federation::try_new(2, members, ScriptKind::P2wsh).unwrap();
    let script = federation.descriptor().explicit_script().unwrap();
    assert_eq!(
        script.to_hex_string(),
        "522102fe6f0a5a297eb38c391581c4413e084773ea23954d93f7753db7dc0adc188b2f\
         2102ff12471208c14bd580709cb2358d98975247d8765f92bc25eab3b2763ed605f852ae"
    );
}

#[test]
fn addresses_are_of_their_kind_and_network() {
    let wsh = federation(ScriptKind::P2wsh);
    assert!(wsh.script_pubkey().is_p2wsh());
    assert!(wsh.address(Network::Bitcoin).to_string().starts_with("bc1q"));
    let tr = federation(ScriptKind::P2tr);
    assert!(tr.script_pubkey().is_p2tr());
    assert!(tr.address(Network::Regtest).to_string().starts_with("bcrt1p"));
    assert_eq!(
        tr.descriptor().internal_key().unwrap().inner.x_only_public_key().0.serialize(),
        UNSPENDABLE_INTERNAL_KEY
    );
}

#[test]
fn members_that_make_no_federation_are_refused() {
    let check = |threshold, members: Vec<Member>, expected: FederationError| {
        let result = Federation::try_new(threshold, members, ScriptKind::P2tr);
        assert_eq!(result.unwrap_err(), expected);
    };
    check(1, vec![], FederationError::Members(0));
    check(1, (1..=21).map(|seed| member(seed, 1)).collect(), FederationError::Members(21));
    check(0, vec![member(1, 1)], FederationError::Threshold { threshold: 0, members: 1 });
    check(2, vec![member(1, 1)], FederationError::Threshold { threshold: 2, members: 1 });
    check(1, vec![member(1, 0)], FederationError::Weight("member-1".into()));
    let nameless = Member { id: String::new(), ..member(1, 1) };
    check(1, vec![nameless], FederationError::MemberId(0));
    let namesake = Member { id: "member-1".into(), ..member(2, 1) };
    check(1, vec![member(1, 1), namesake], FederationError::DuplicateId("member-1".into()));
    let negated =
        Member { id: "zz".into(), public_key: member(1, 1).public_key.negate(&SECP), weight: 1 };
    let error = Federation::try_new(1, vec![member(1, 1), negated], ScriptKind::P2tr).unwrap_err();
    assert!(matches!(error, FederationError::DuplicateKey { .. }), "{error}");
}

#[test]
fn twenty_members_fit_both_scripts() {
    for script in [ScriptKind::P2wsh, ScriptKind::P2tr] {
        let members = (1..=20).map(|seed| member(seed, 1)).collect();
        assert_eq!(Federation::try_new(14, members, script).unwrap().members().len(), 20);
    }
}

fn update() -> FederationUpdate {
    let wire = |seed, active| FederationMember {
        member_id: format!("member-{seed}"),
        public_key: Bytes::copy_from_slice(&keypair(seed).public_key().serialize()),
        weight: 1,
        active,
    };
    FederationUpdate {
        update_type: FederationUpdateType::MemberAdd.into(),
        members: vec![wire(1, true), wire(2, true), wire(4, true), wire(3, false)],
        effective_height: 900_000,
        update_signature: Bytes::new(),
        config: Some(FederationConfig {
            signature_threshold: 2,
            member_count: 3,
            parameters: BTreeMap::from([
                ("version".to_owned(), "7".to_owned()),
                ("note".to_owned(), "rotation".to_owned()),
            ]),
        }),
    }
}

fn signed_by(mut update: FederationUpdate, seeds: &[u8]) -> FederationUpdate {
    let signatures = seeds
        .iter()
        .map(|seed| sign_update(&update, &format!("member-{seed}"), &keypair(*seed)))
        .collect();
    update.update_signature = SignatureSet { signatures }.encode_to_vec().into();
    update
}

#[test]
fn an_update_with_enough_weight_is_verified() {
    let verified =
        federation(ScriptKind::P2tr).verify_update(&signed_by(update(), &[3, 1])).unwrap();
    assert_eq!((verified.weight, verified.threshold), (2, 2));
    assert_eq!(verified.signers.into_iter().collect::<Vec<_>>(), ["member-1", "member-3"]);
    assert_eq!(update_version(&update()).unwrap(), 7);
}

#[test]
fn weights_count_instead_of_heads() {
    let federation =
        Federation::try_new(3, vec![member(1, 2), member(2, 1), member(3, 1)], ScriptKind::P2wsh)
            .unwrap();
    assert_eq!(federation.verify_update(&signed_by(update(), &[1, 2])).unwrap().weight, 3);
    assert!(federation.verify_update(&signed_by(update(), &[2, 3])).is_err());
}

fn set_parameter(update: &mut FederationUpdate, key: &str, value: &str) {
    let config = update.config.as_mut().unwrap();
    config.parameters.insert(key.into(), value.into());
}

fn under_signed(update: &FederationUpdate) -> VerifiedWeight {
    match federation(ScriptKind::P2wsh).verify_update(update) {
        Err(UpdateError::UnderSigned(verified)) => verified,
        other => panic!("expected an under-signed update, got {other:?}"),
    }
}

#[test]
fn too_little_weight_is_refused() {
    assert_eq!(under_signed(&signed_by(update(), &[1])).weight, 1);
    let federation = federation(ScriptKind::P2wsh);
    assert!(matches!(federation.verify_update(&update()), Err(UpdateError::Unsigned)));
    let mut garbled = update();
    garbled.update_signature = Bytes::from_static(&[0xff, 1, 2]);
    assert!(matches!(federation.verify_update(&garbled), Err(UpdateError::Unreadable(_))));
    let crowd = signed_by(update(), &[1; 41]);
    assert!(matches!(federation.verify_update(&crowd), Err(UpdateError::TooMany(41))));
}

#[test]
fn a_member_counts_once() {
    let verified = under_signed(&signed_by(update(), &[1, 1, 1]));
    assert_eq!((verified.weight, verified.invalid), (1, 0), "P7");
}

#[test]
fn an_unknown_member_counts_nothing_and_the_update_cannot_vouch_for_itself() {
    // Member 4 is named by the update, but not in the federation in force.
    let verified = under_signed(&signed_by(update(), &[1, 4]));
    assert_eq!((verified.weight, verified.unknown), (1, 1), "P7");
}

#[test]
fn a_signature_under_a_borrowed_name_is_invalid_and_does_not_shadow_the_real_one() {
    let mut update = update();
    let borrowed =
        MemberSignature { member_id: "member-2".into(), ..sign_update(&update, "", &keypair(1)) };
    let set = |signatures| Bytes::from(SignatureSet { signatures }.encode_to_vec());
    let first = sign_update(&update, "member-1", &keypair(1));
    update.update_signature = set(vec![first.clone(), borrowed.clone()]);
    assert_eq!(under_signed(&update).invalid, 1);
    let second = sign_update(&update, "member-2", &keypair(2));
    update.update_signature = set(vec![borrowed, second, first]);
    assert_eq!(federation(ScriptKind::P2wsh).verify_update(&update).unwrap().invalid, 1);
}

#[test]
fn every_field_is_signed() {
    type Change = fn(&mut FederationUpdate);
    let changes: [Change; 14] = [
        |u| u.update_type = FederationUpdateType::MemberRemove.into(),
        |u| u.update_type = -1,
        |u| u.effective_height += 1,
        |u| u.members[0].member_id.push('x'),
        |u| u.members[0].public_key = u.members[1].public_key.clone(),
        |u| u.members[0].weight += 1,
        |u| u.members[0].active = false,
        |u| u.members.swap(0, 1),
        |u| drop(u.members.pop()),
        |u| u.config = None,
        |u| u.config.as_mut().unwrap().signature_threshold = 1,
        |u| u.config.as_mut().unwrap().member_count = 1,
        |u| set_parameter(u, "version", "8"),
        |u| set_parameter(u, "more", ""),
    ];
    for (position, change) in changes.iter().enumerate() {
        let mut tampered = signed_by(update(), &[1, 2, 3]);
        change(&mut tampered);
        assert_eq!(under_signed(&tampered).invalid, 3, "change {position}");
    }
}

#[test]
fn the_order_of_parameters_on_the_wire_does_not_matter() {
    let update = signed_by(update(), &[1, 2]);
    let bare = FederationUpdate { config: None, ..update.clone() };
    // Field 5 (config): threshold 2, count 3, and the entries in both orders.
    let version = [&[0x1a, 12, 0x0a, 7][..], b"version", &[0x12, 1], b"7"].concat();
    let note = [&[0x1a, 16, 0x0a, 4][..], b"note", &[0x12, 8], b"rotation"].concat();
    for entries in [[&version, &note], [&note, &version]] {
        let config = [&[0x08, 2, 0x10, 3][..], entries[0], entries[1]].concat();
        let mut wire = bare.encode_to_vec();
        wire.extend([0x2a, u8::try_from(config.len()).unwrap()]);
        wire.extend(config);
        let decoded = FederationUpdate::decode(wire.as_slice()).unwrap();
        assert_eq!(update_digest(&decoded), update_digest(&update));
        assert!(federation(ScriptKind::P2tr).verify_update(&decoded).is_ok());
    }
}

/// The layout of the module's table, put together by hand.
#[test]
fn the_digest_covers_the_documented_bytes() {
    use sha2::Digest as _;
    let update = FederationUpdate {
        update_type: 3,
        members: vec![FederationMember {
            member_id: "ab".into(),
            public_key: Bytes::from_static(&[9, 8, 7]),
            weight: 5,
            active: true,
        }],
        effective_height: 258,
        update_signature: Bytes::from_static(b"not covered"),
        config: Some(FederationConfig {
            signature_threshold: 2,
            member_count: 1,
            parameters: BTreeMap::from([("k".into(), "v".into())]),
        }),
    };
    let text = "616c79732d73747265616d2f66656465726174696f6e2d7570646174652f7631\
                03000000 0201000000000000 0100000000000000 \
                0200000000000000 6162 0300000000000000 090807 05000000 01 \
                01 02000000 01000000 0100000000000000 \
                0100000000000000 6b 0100000000000000 76";
    let bytes = hex::decode(text.replace(' ', "")).unwrap();
    assert_eq!(update_digest(&update), <[u8; 32]>::from(sha2::Sha256::digest(bytes)));
}

#[test]
fn a_version_is_a_decimal_number() {
    let with = |text: &str| {
        let mut update = update();
        update.config.as_mut().unwrap().parameters.insert("version".into(), text.into());
        update_version(&update)
    };
    assert_eq!(with("18446744073709551615").unwrap(), u64::MAX);
    for text in ["", "+1", "-1", "1.0", "18446744073709551616", "v1"] {
        assert!(matches!(with(text), Err(UpdateError::Version)), "{text}");
    }
    let none = FederationUpdate { config: None, ..update() };
    assert!(matches!(update_version(&none), Err(UpdateError::NoVersion)));
}

#[test]
fn an_update_announces_its_active_members() {
    let next = Federation::try_from_update(&update(), ScriptKind::P2tr).unwrap();
    assert_eq!(next.threshold(), 2);
    let mut ids: Vec<_> = next.members().iter().map(|member| member.id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["member-1", "member-2", "member-4"]);
    let mut wrong = update();
    wrong.members[0].public_key = Bytes::from_static(&[2; 32]);
    let error = Federation::try_from_update(&wrong, ScriptKind::P2tr).unwrap_err();
    assert!(matches!(error, FederationError::Key { .. }), "{error}");
}
