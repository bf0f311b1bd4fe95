//! Bad configurations and the one line each of them gets; and the good one.

use std::path::Path;

use expect_test::{Expect, expect};

use super::*;

mod connections;
mod files;
mod sections;

/// The shortest configuration, with room for more below it.
const GOOD: &str = "\
node: {id: node-1}
data_dir: data
endpoints:
  - {name: gov-1, url: 'https://gov-1.example:9443'}
";

#[track_caller]
fn check(yaml: &str, expected: Expect) {
    let line = match NodeConfig::parse(Path::new("node.yaml"), yaml) {
        Ok(_) => "ok".to_owned(),
        Err(error) => error.to_string(),
    };
    assert!(!line.contains('\n'), "{line}");
    expected.assert_eq(&line);
}

/// Checks the good configuration with something added.
#[track_caller]
fn check_with(yaml: &str, expected: Expect) {
    check(&format!("{GOOD}{yaml}"), expected);
}

#[test]
fn the_shortest_one() {
    check(GOOD, expect!["ok"]);
}

#[test]
fn not_yaml() {
    check("", expect!["node.yaml:1: node: missing; add it"]);
    check(
        "just words",
        expect![[
            r#"node.yaml:1: expected a mapping, found the text "just words"; correct the value"#
        ]],
    );
    check(
        "node: [1, 2",
        expect![
            "node.yaml: not readable as YAML (did not find expected ',' or ']' at line 2 column 1, while parsing a flow sequence at line 1 column 7); correct the text there"
        ],
    );
    check(
        "node:\n\tid: a\n",
        expect![
            "node.yaml: not readable as YAML (found character that cannot start any token at line 2 column 1, while scanning for the next token); correct the text there"
        ],
    );
    check(
        "node: *nobody\n",
        expect![
            "node.yaml: not readable as YAML (unknown anchor at line 1 column 7); correct the text there"
        ],
    );
    check(
        "{}\n---\n{}\n",
        expect![
            "node.yaml: not readable as YAML (deserializing from YAML containing more than one document is not supported); correct the text there"
        ],
    );
    check(
        &"[".repeat(500),
        expect![
            "node.yaml: not readable as YAML (recursion limit exceeded at line 1 column 129); correct the text there"
        ],
    );
}

#[test]
fn keys() {
    check_with(
        "buffers: {}\n",
        expect!["node.yaml:5: buffers: unknown key; did you mean `buffer`?"],
    );
    check_with(
        "telepathy: true\n",
        expect![
            "node.yaml:5: telepathy: unknown key; known keys are node, data_dir, endpoints, tls, transport, federation, agreement, buffer, dead_letters, balance, router, submission, admin, log, shutdown"
        ],
    );
    check_with(
        "admin: {listne: '127.0.0.1:1'}\n",
        expect!["node.yaml:5: admin.listne: unknown key; did you mean `listen`?"],
    );
    check_with(
        "buffer: {quota_byte: 1}\n",
        expect!["node.yaml:5: buffer.quota_byte: unknown key; did you mean `quota_bytes`?"],
    );
    check_with(
        "admin: {}\nadmin: {}\n",
        expect!["node.yaml: admin: given twice; remove one of the two"],
    );
    check_with(
        "  - {name: gov-2, ulr: 'https://a'}\n",
        expect!["node.yaml:5: endpoints[1].ulr: unknown key; did you mean `url`?"],
    );
    check_with("  - {name: gov-2}\n", expect!["node.yaml:5: endpoints[1].url: missing; add it"]);
    check("data_dir: data\nendpoints: []\n", expect!["node.yaml:1: node: missing; add it"]);
    check(
        "node: {}\ndata_dir: data\nendpoints: []\n",
        expect!["node.yaml:1: node.id: missing; add it"],
    );
    check_with(
        "1: 2\n",
        expect![
            "node.yaml:5: 1: unknown key; known keys are node, data_dir, endpoints, tls, transport, federation, agreement, buffer, dead_letters, balance, router, submission, admin, log, shutdown"
        ],
    );
}

#[test]
fn types() {
    check_with(
        "admin: 9600\n",
        expect![
            "node.yaml:5: admin: expected a mapping, found the number `9600`; correct the value"
        ],
    );
    check_with("admin:\n", expect!["ok"]);
    check_with(
        "admin: {listen: 'localhost:9600'}\n",
        expect![
            "node.yaml:5: admin.listen: not an address; give an IP address and a port, such as 127.0.0.1:9600"
        ],
    );
    check_with(
        "submission: {listen: '9601'}\n",
        expect![[
            r#"node.yaml:5: submission.listen: "9601" is not an address (write unix:PATH or HOST:PORT); correct the value"#
        ]],
    );
    check_with(
        "shutdown: {drain: 30}\n",
        expect![[
            r#"node.yaml:5: shutdown.drain: expected a duration such as 30s or 5min, found the text "30"; correct the value"#
        ]],
    );
    check_with(
        "shutdown: {drain: soon}\n",
        expect![[
            r#"node.yaml:5: shutdown.drain: expected a duration such as 30s or 5min, found the text "soon"; correct the value"#
        ]],
    );
    check_with(
        "log: {format: jsno}\n",
        expect![[r#"node.yaml:5: log.format: "jsno" is not known here; did you mean `json`?"#]],
    );
    check_with(
        "log: {format: xml}\n",
        expect![[
            r#"node.yaml:5: log.format: "xml" is not known here; known values are text, json"#
        ]],
    );
    check_with(
        "  - {name: gov-2, url: 'https://b', enabled: 3}\n",
        expect![
            "node.yaml:5: endpoints[1].enabled: expected a boolean, found the number `3`; correct the value"
        ],
    );
    check_with(
        "buffer: {quota_bytes: -1}\n",
        expect![
            "node.yaml:5: buffer.quota_bytes: expected a whole number that is not negative, found the number `-1`; correct the value"
        ],
    );
    check_with(
        "tls: [a.pem]\n",
        expect!["node.yaml:5: tls: expected a mapping, found a list; correct the value"],
    );
    let pasted = "tls: {ca: [\"-----BEGIN PRIVATE KEY-----\"]}\n";
    check_with(
        pasted,
        expect!["node.yaml:5: tls.ca: expected a path, found a list; correct the value"],
    );
    let pasted = "buffer: {quota_bytes: \"-----BEGIN PRIVATE KEY-----\"}\n";
    check_with(
        pasted,
        expect![
            "node.yaml:5: buffer.quota_bytes: expected a whole number that is not negative, found the content of a file; correct the value"
        ],
    );
}

#[test]
fn an_error_is_one_line_whatever_it_quotes() {
    let error = NodeConfig::parse(Path::new("a\nb.yaml"), "x: 1\n").expect_err("unknown key");
    assert!(error.to_string().starts_with("a b.yaml:1: x: unknown key"), "{error}");
}
