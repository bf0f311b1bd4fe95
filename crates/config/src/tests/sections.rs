//! What each section may say, in the light of the others.

use super::*;

/// Keys of two members: the points 1·G and 2·G.
const KEY_1: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
const KEY_2: &str = "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5";

/// Checks a federation with something in place of `members`.
#[track_caller]
fn check_federation(threshold: u32, members: &str, expected: Expect) {
    let section = format!("{{network: regtest, threshold: {threshold}, members: [{members}]}}");
    check_with(&format!("federation: {section}\n"), expected);
}

#[test]
fn node_and_endpoints() {
    let with_id = |id: &str| GOOD.replace("node-1", id);
    check(&with_id("''"), expect!["node.yaml: node.id: 0 bytes; give 1 to 128"]);
    check(
        &with_id("'node 1'"),
        expect![[
            r#"node.yaml: node.id: "node 1" has white space or control characters; use letters, digits, dots and hyphens"#
        ]],
    );
    check(
        &with_id("node-1, node_type: miner"),
        expect![[
            r#"node.yaml:1: node.node_type: "miner" is not known here; known values are validator, observer, bridge, signer"#
        ]],
    );
    check(
        &with_id("node-1, public_key: 02ff"),
        expect![
            "node.yaml: node.public_key: not a compressed secp256k1 public key; give its 66 hexadecimal digits, which begin with 02 or 03"
        ],
    );
    check(
        "node: {id: a}\ndata_dir: data\nendpoints: []\n",
        expect![
            "node.yaml: endpoints: no endpoint; list at least one governance node, with `name` and `url`"
        ],
    );
    check_with(
        "  - {name: gov-1, url: 'https://b.example:9443'}\n",
        expect![[
            r#"node.yaml: endpoints[1].name: "gov-1" is the name of endpoints[0] too; give each one its own name"#
        ]],
    );
    check_with(
        "  - {name: gov-2, url: 'https://gov-1.example:9443'}\n",
        expect![
            "node.yaml: endpoints[1].url: endpoints[0] has the same address; list each governance node once"
        ],
    );
    check(
        &GOOD.replace("{name", "{enabled: false, name"),
        expect!["node.yaml: endpoints: none is enabled; set `enabled: true` for at least one"],
    );
    check(&GOOD.replace("data\n", "''\n"), expect!["node.yaml: data_dir: empty; name a folder"]);
}

#[test]
fn urls() {
    let with_url = |url: &str| GOOD.replace("'https://gov-1.example:9443'", url);
    check(
        &with_url("gov-1.example:9443"),
        expect![[
            r#"node.yaml:4: endpoints[0].url: "gov-1.example:9443" has no usable scheme; expected https://host:port; correct the value"#
        ]],
    );
    check(
        &with_url("'https://'"),
        expect![[
            r#"node.yaml:4: endpoints[0].url: "https://" is not a URL; expected https://host:port; correct the value"#
        ]],
    );
    check(
        &with_url("'https://gov-1.example:9443/path'"),
        expect![[
            r#"node.yaml:4: endpoints[0].url: "https://gov-1.example:9443/path" has a path or a query; expected https://host:port and nothing after it; correct the value"#
        ]],
    );
    check(
        &with_url("'https://me:secret@gov-1.example:9443'"),
        expect![
            "node.yaml:4: endpoints[0].url: the URL holds a user name; credentials do not belong there, expected https://host:port; correct the value"
        ],
    );
}

#[test]
fn urls_and_protection() {
    let with_url = |url: &str| GOOD.replace("'https://gov-1.example:9443'", url);
    check(
        &with_url("'http://127.0.0.1:9443'"),
        expect![
            "node.yaml: endpoints[0].url: http://127.0.0.1:9443 has no TLS; use https://, or insecure: plaintext for a peer on this machine"
        ],
    );
    check(
        &with_url("'http://gov-1.example:9443', insecure: plaintext"),
        expect![
            "node.yaml: endpoints[0].insecure: insecure: plaintext is allowed to a loopback address only, and http://gov-1.example:9443 is none; use https://"
        ],
    );
    check(&with_url("'http://127.0.0.1:9443', insecure: plaintext"), expect!["ok"]);
    let anywhere = "insecure_plaintext_to_other_machines_anyone_can_read_and_forge: true";
    check(
        &with_url(&format!("'http://gov-1.example:9443', insecure: plaintext, {anywhere}")),
        expect!["ok"],
    );
    check(
        &with_url(&format!("'https://gov-1.example:9443', {anywhere}")),
        expect![
            "node.yaml: endpoints[0].insecure_plaintext_to_other_machines_anyone_can_read_and_forge: does nothing without insecure: plaintext; remove it"
        ],
    );
    check(
        &with_url("'https://127.0.0.1:9443', insecure: plaintext"),
        expect![
            "node.yaml: endpoints[0].insecure: https://127.0.0.1:9443 asks for TLS and insecure: plaintext for none; remove one of them"
        ],
    );
    check(
        &with_url("'https://127.0.0.1:9443', weight: 0"),
        expect![
            "node.yaml: endpoints[0].weight: weight 0 would never be chosen; use 1 or more, or enabled: false"
        ],
    );
    check(
        &with_url("'https://127.0.0.1:9443', server_name: 'a b'"),
        expect![[
            r#"node.yaml: endpoints[0].server_name: server_name "a b" is neither a DNS name nor an IP address; correct it"#
        ]],
    );
    check(
        &with_url("'https://127.0.0.1:9443', dialect: sessionn"),
        expect![[
            r#"node.yaml:4: endpoints[0].dialect: "sessionn" is not known here; did you mean `session`?"#
        ]],
    );
    check(
        &GOOD.replace("gov-1,", "'gov/1',"),
        expect![[
            r#"node.yaml: endpoints[0].name: endpoint name "gov/1" is not usable: 1 to 64 of letters, digits, '-', '_', '.'; correct it"#
        ]],
    );
}

#[test]
fn dead_letters() {
    check_with(
        "dead_letters: {bytes_max: 16777216, age_max: 1h, on_corruption: halt}\n",
        expect!["ok"],
    );
    check_with(
        "dead_letters: {bytes_max: 1000000}\n",
        expect![
            "node.yaml: dead_letters.bytes_max: 1000000 bytes are less than one segment; give at least 16777216"
        ],
    );
    check_with(
        "dead_letters: {bytes_max: 33554432, segment_bytes: 67108864}\n",
        expect![
            "node.yaml: dead_letters.bytes_max: 33554432 bytes are less than one segment; give at least 67108864"
        ],
    );
    check_with(
        "dead_letters: {segment_bytes: 1}\n",
        expect!["node.yaml: dead_letters.segment_bytes: 1 bytes; give 8396800 to 1073741824"],
    );
    check_with(
        "dead_letters: {age_max: 30s}\n",
        expect![
            "node.yaml: dead_letters.age_max: 30 s are over before anybody has looked; give at least 1min, or leave it out to keep them"
        ],
    );
    check_with(
        "dead_letters: {age_max: old}\n",
        expect![[
            r#"node.yaml:5: dead_letters.age_max: expected a duration such as 30s or 5min, found the text "old"; correct the value"#
        ]],
    );
    check_with(
        "dead_letters: {max_age: 1h}\n",
        expect![
            "node.yaml:5: dead_letters.max_age: unknown key; known keys are segment_bytes, bytes_max, age_max, on_corruption"
        ],
    );
}

#[test]
fn balance() {
    check_with(
        "balance: {policy: priority, weights: load_report, outlier: {enabled: false}}\n",
        expect!["ok"],
    );
    check_with(
        "balance: {policy: best}\n",
        expect![[
            r#"node.yaml:5: balance.policy: "best" is not known here; known values are round_robin, priority, latency, least_connections, weighted_round_robin, peak_ewma"#
        ]],
    );
    check_with(
        "balance: {region: eu}\n",
        expect![[
            r#"node.yaml: balance.region: no endpoint is in the region "eu"; correct it, name the `region` of endpoints, or leave it out"#
        ]],
    );
    check_with(
        "balance: {slow_start: {from: 0}}\n",
        expect!["node.yaml: balance.slow_start.from: is 0; give 0.01 to 1"],
    );
    check_with(
        "balance: {outlier: {ejected_share_max: 50}}\n",
        expect!["node.yaml: balance.outlier.ejected_share_max: is 50; give 0 to 1"],
    );
    check_with(
        "balance: {outlier: {window: 0s}}\n",
        expect!["node.yaml: balance.outlier.window: is 0; give more than 0"],
    );
    check_with(
        "balance: {outlier: {ejection: 10min}}\n",
        expect![
            "node.yaml: balance.outlier.ejection_max: (300s) is shorter than outlier.ejection (600s); make it as long as `ejection`, or longer"
        ],
    );
    check_with(
        "balance: {ewma: {decay: 2d}}\n",
        expect!["node.yaml: balance.ewma.decay: 172800 s are more than a day; give at most 24h"],
    );
}

#[test]
fn buffer() {
    check_with(
        "buffer: {index_cache_bytes: 0}\n",
        expect!["node.yaml: buffer.index_cache_bytes: 0 bytes; give 262144 to 1073741824"],
    );
    check_with(
        "buffer: {id_group_messages: 1000}\n",
        expect![
            "node.yaml: buffer.id_group_messages: 1000 messages; give 128 to 1048576 in steps of 128"
        ],
    );
    check_with(
        "buffer: {segment_bytes: 4096}\n",
        expect!["node.yaml: buffer.segment_bytes: 4096 bytes; give 8396800 to 1073741824"],
    );
    check_with(
        "buffer: {quota_bytes: 1000000}\n",
        expect![
            "node.yaml: buffer.quota_bytes: 1000000 bytes have no room for one message of the largest size; give at least 4198400"
        ],
    );
    check_with(
        "buffer: {quota_bytes: 8GiB}\n",
        expect![[
            r#"node.yaml:5: buffer.quota_bytes: expected a whole number that is not negative, found the text "8GiB"; correct the value"#
        ]],
    );
    check_with(
        "buffer: {on_corruption: ignore}\n",
        expect![[
            r#"node.yaml:5: buffer.on_corruption: "ignore" is not known here; known values are quarantine, halt"#
        ]],
    );
}

#[test]
fn router() {
    check_with("router: {kinds: {signature_request: {policy: {quorum: 1}}}}\n", expect!["ok"]);
    check_with("router: {kinds: {1007: {policy: any, priority: high}}}\n", expect!["ok"]);
    check_with(
        "router: {kinds: {signature_request: {policy: {quorum: 2}}}}\n",
        expect![
            "node.yaml: router.kinds.signature_request.policy: a quorum of 2 can never be reached with the 1 endpoints that are enabled; lower it, or enable more endpoints"
        ],
    );
    check_with(
        "router: {kinds: {signature_request: {policy: {quorum: 0}}}}\n",
        expect![
            "node.yaml: router.kinds.signature_request.policy: asks for a quorum of 0; use at least 1"
        ],
    );
    check_with(
        "router: {kinds: {signature_request: {durability: memory}}}\n",
        expect![
            "node.yaml: router.kinds.signature_request.durability: is memory, but its policy needs a log; use fsync or os"
        ],
    );
    check_with(
        "router: {kinds: {signature_request: {prioritty: low}}}\n",
        expect![
            "node.yaml:5: router.kinds.signature_request.prioritty: unknown key; did you mean `priority`?"
        ],
    );
    check_with(
        "router: {kinds: {signature_request: {priority: urgent}}}\n",
        expect![[
            r#"node.yaml:5: router.kinds.signature_request.priority: "urgent" is not known here; known values are low, normal, high, critical"#
        ]],
    );
    check_with(
        "router: {kinds: {signature_requests: {}}}\n",
        expect![
            "node.yaml: router.kinds.signature_requests: is not a kind that is sent; use signature_request, pegin_notification, status_update, application, or a number from 1000 on"
        ],
    );
    check_with(
        "router: {kinds: {application: {deadline: never}}}\n",
        expect![[
            r#"node.yaml:5: router.kinds.application.deadline: expected a duration such as 30s or 5min, found the text "never"; correct the value"#
        ]],
    );
}

#[test]
fn agreement() {
    check_with("agreement: {federation: majority, proposals: any}\n", expect!["ok"]);
    check_with(
        "agreement: {federation: most}\n",
        expect![[
            r#"node.yaml:5: agreement.federation: "most" is not known here; known values are any, majority"#
        ]],
    );
    check_with(
        "agreement: {halts: any}\n",
        expect!["node.yaml:5: agreement.halts: unknown key; known keys are federation, proposals"],
    );
}

#[test]
fn a_version_of_the_federation() {
    let with = |version: &str| {
        let member = format!("{{id: a, public_key: {KEY_1}}}");
        format!(
            "federation: {{network: regtest, version: {version}, threshold: 1, members: [{member}]}}\n"
        )
    };
    check_with(&with("7"), expect!["ok"]);
    check_with(
        &with("-1"),
        expect![
            "node.yaml:5: federation.version: expected a whole number that is not negative, found the number `-1`; correct the value"
        ],
    );
    check_with(
        &with("second"),
        expect![[
            r#"node.yaml:5: federation.version: expected a whole number that is not negative, found the text "second"; correct the value"#
        ]],
    );
}

#[test]
fn federation() {
    let both = format!("{{id: a, public_key: {KEY_1}}}, {{id: b, public_key: {KEY_2}}}");
    check_federation(2, &both, expect!["ok"]);
    check_federation(
        3,
        &both,
        expect![
            "node.yaml: federation.threshold: a threshold of 3 does not fit 2 members (expected 1 to 2); correct it, or add the missing members"
        ],
    );
    check_federation(
        0,
        &both,
        expect![
            "node.yaml: federation.threshold: a threshold of 0 does not fit 2 members (expected 1 to 2); correct it, or add the missing members"
        ],
    );
    check_federation(
        1,
        "",
        expect![
            "node.yaml: federation.members: a federation has 1 to 20 members, not 0; correct the members"
        ],
    );
    check_federation(
        1,
        "{id: a, public_key: zz}",
        expect![
            "node.yaml: federation.members[0].public_key: not a compressed secp256k1 public key; give its 66 hexadecimal digits, which begin with 02 or 03"
        ],
    );
    let twice = format!("{{id: a, public_key: {KEY_1}}}, {{id: a, public_key: {KEY_2}}}");
    check_federation(
        1,
        &twice,
        expect!["node.yaml: federation.members: member id a occurs twice; correct the members"],
    );
    let twice = format!("{{id: a, public_key: {KEY_1}}}, {{id: b, public_key: {KEY_1}}}");
    check_federation(
        1,
        &twice,
        expect![
            "node.yaml: federation.members: members a and b have the same key; correct the members"
        ],
    );
    let weightless = format!("{{id: a, public_key: {KEY_1}, weight: 0}}");
    check_federation(
        1,
        &weightless,
        expect![
            "node.yaml: federation.members: member a has weight 0 (expected at least 1; inactive members are left out); correct the members"
        ],
    );
    check_with(
        "federation: {network: mainnet, threshold: 1, members: []}\n",
        expect![[
            r#"node.yaml:5: federation.network: "mainnet" is not known here; known values are bitcoin, testnet, testnet4, signet, regtest"#
        ]],
    );
}

#[test]
fn local_interfaces() {
    check_with(
        "submission: {listen: '0.0.0.0:9601'}\n",
        expect![
            "node.yaml: submission.listen: 0.0.0.0:9601 can be reached from other machines; use unix:PATH or 127.0.0.1:PORT: the interface has no authentication"
        ],
    );
    check_with(
        "submission: {listen: 'node.example:9601'}\n",
        expect![
            "node.yaml: submission.listen: node.example:9601 can be reached from other machines; use unix:PATH or 127.0.0.1:PORT: the interface has no authentication"
        ],
    );
    check_with(
        "submission: {listen: '127.0.0.1:9600'}\n",
        expect![
            "node.yaml: admin.listen: 127.0.0.1:9600 is the address of `submission.listen` too; choose another port"
        ],
    );
    check_with("submission: {listen: '[::1]:9600'}\n", expect!["ok"]);
    let long = format!("submission: {{listen: 'unix:/{}'}}\n", "a".repeat(120));
    let line = NodeConfig::parse(Path::new("node.yaml"), &format!("{GOOD}{long}"))
        .expect_err("too long")
        .to_string();
    assert!(line.starts_with("node.yaml: submission.listen: the socket /aaa"), "{line}");
    assert!(line.ends_with("name a shorter path, or use 127.0.0.1:PORT"), "{line}");
    check_with(
        "log: {filter: 'a=loud'}\n",
        expect![[
            r#"node.yaml: log.filter: "a=loud" is not a log filter (error parsing level filter: expected one of "off", "error", "warn", "info", "debug", "trace", or a number 0-5); give a level such as "info", or a list such as "info,alys_stream_transport=debug""#
        ]],
    );
    check_with(
        "shutdown: {drain: 2h}\n",
        expect![
            "node.yaml: shutdown.drain: 7200 s are more than one hour; give at most 1h: what is not delivered stays in the buffer"
        ],
    );
}
