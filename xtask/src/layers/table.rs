//! The architecture as data: packages and the packages they may name, words and where they may stand.

/// What the packages of the layers begin with.
pub(crate) const PREFIX: &str = "alys-stream-";

/// Whom a package may depend on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Knows {
    Anyone,
    Only(&'static [&'static str]),
}

/// A package without its prefix.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) name: &'static str,
    pub(crate) knows: Knows,
    /// Whom its tests and examples may know besides.
    pub(crate) tests_know: &'static [&'static str],
}

const fn layer(name: &'static str, knows: &'static [&'static str]) -> Layer {
    Layer { name, knows: Knows::Only(knows), tests_know: &[] }
}

const fn free(name: &'static str) -> Layer {
    Layer { name, knows: Knows::Anyone, tests_know: &[] }
}

/// Who may know whom.
pub(crate) const LAYERS: &[Layer] = &[
    layer("protocol", &[]),
    // Siblings: none names another.
    Layer { name: "messaging", knows: Knows::Only(&["protocol"]), tests_know: &["testkit"] },
    layer("transport", &["protocol"]),
    layer("security", &["protocol"]),
    layer("telemetry", &["protocol"]),
    // Composes the configuration structs of the layers.
    layer("config", &["protocol", "messaging", "transport", "security", "telemetry"]),
    // The one place where the layers meet.
    Layer {
        name: "actor",
        knows: Knows::Only(&[
            "protocol",
            "messaging",
            "transport",
            "security",
            "telemetry",
            "config",
        ]),
        // The other side of the link, and a disk that fails.
        tests_know: &["governance", "testkit"],
    },
    Layer {
        name: "alys-stream",
        knows: Knows::Only(&[
            "protocol",
            "messaging",
            "transport",
            "security",
            "telemetry",
            "config",
            "actor",
        ]),
        tests_know: &["governance"],
    },
    // The server side of the wire: no actors and no configuration of the node.
    Layer {
        name: "governance",
        knows: Knows::Only(&["protocol", "messaging", "transport", "security", "telemetry"]),
        tests_know: &["testkit"],
    },
    layer(
        "node",
        &[
            "protocol",
            "messaging",
            "transport",
            "security",
            "telemetry",
            "config",
            "actor",
            "alys-stream",
            "governance",
        ],
    ),
    free("testkit"),
    free("simulation"),
    free("tests"),
    layer("test-clock", &[]),
    free("benches"),
    free("xtask"),
];

/// A word that only some sources may use.
#[derive(Debug)]
pub(crate) struct Seam {
    /// Paths in Rust, any of which counts.
    pub(crate) words: &'static [&'static str],
    /// Beginnings of the paths that the rule is about.
    pub(crate) within: &'static [&'static str],
    /// Beginnings of the paths that may use the word.
    pub(crate) allowed: &'static [&'static str],
    /// The rule, as it is shown.
    pub(crate) rule: &'static str,
}

/// Where the world gets in.
pub(crate) const SEAMS: &[Seam] = &[
    Seam {
        words: &["tonic", "tonic_health", "tonic_prost", "tonic_reflection"],
        within: &["crates/"],
        allowed: &[
            "crates/transport/src/grpc",
            "crates/governance/",
            "crates/node/src/submission",
            "crates/node/src/operator",
            // What the session is measured against: bare gRPC.
            "crates/node/src/command/bench/limit",
        ],
        rule: "only the gRPC drivers name tonic: `transport::grpc`, `governance`, `node::submission`, `node::operator`",
    },
    Seam {
        words: &["std::fs", "tokio::fs"],
        within: &[
            "crates/protocol/",
            "crates/messaging/",
            "crates/transport/",
            "crates/security/",
            "crates/telemetry/",
            "crates/actor/",
        ],
        allowed: &["crates/messaging/src/storage"],
        rule: "only `messaging::storage` touches the file system",
    },
    Seam {
        words: &["ractor"],
        within: &["crates/"],
        allowed: &["crates/actor/", "crates/node/", "crates/simulation/"],
        rule: "only `actor`, `node` and `simulation` name ractor",
    },
];
