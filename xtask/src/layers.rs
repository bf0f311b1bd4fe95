//! `cargo xtask layers`: who may know whom, and who may touch the world.
//!
//! The tables are in `layers/table.rs`. The first is held against `cargo metadata`, the second
//! against the sources.

use anyhow::Context as _;
use serde_json::Value;

use crate::process::Run;
use crate::text::{self, File, Finding};

mod sources;
mod table;

use table::{Knows, LAYERS, PREFIX};

/// A dependency between two packages of the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Edge {
    /// The manifest that declares it, from the root.
    manifest: String,
    from: String,
    to: String,
    /// For tests alone.
    is_dev: bool,
}

/// The packages of the workspace with their manifests, and the dependencies between them.
#[derive(Debug, Default)]
struct Graph {
    packages: Vec<(String, String)>,
    edges: Vec<Edge>,
}

/// Runs the command.
pub(crate) fn run() -> anyhow::Result<()> {
    let args = ["metadata", "--format-version", "1", "--no-deps", "--offline"];
    let metadata: Value = serde_json::from_str(&Run::cargo(&args).stdout()?)?;
    let graph = read(&metadata).context("`cargo metadata` has another shape")?;
    let files = text::files()?;
    let mut findings = check(&graph, |manifest, package| {
        let file = files.iter().find(|file| file.path == manifest);
        file.map_or(0, |file| declared_at(file, package))
    });
    findings.extend(sources::check(&files));
    text::report(findings)
}

fn read(metadata: &Value) -> Option<Graph> {
    let root = metadata["workspace_root"].as_str()?;
    let mut graph = Graph::default();
    for package in metadata["packages"].as_array()? {
        let from = package["name"].as_str()?;
        let manifest = package["manifest_path"].as_str()?;
        let manifest = manifest.strip_prefix(root)?.trim_start_matches('/');
        graph.packages.push((from.to_owned(), manifest.to_owned()));
        for dependency in package["dependencies"].as_array()? {
            // Packages of the workspace are found by path, all others by registry.
            if dependency["path"].is_null() {
                continue;
            }
            graph.edges.push(Edge {
                manifest: manifest.to_owned(),
                from: from.to_owned(),
                to: dependency["name"].as_str()?.to_owned(),
                is_dev: dependency["kind"] == "dev",
            });
        }
    }
    Some(graph)
}

/// Every package that the table does not know, and every dependency that it does not allow.
///
/// `line` finds the line of a manifest that declares a dependency.
fn check(graph: &Graph, line: impl Fn(&str, &str) -> usize) -> Vec<Finding> {
    let mut findings = Vec::new();
    let short = |name: &str| name.strip_prefix(PREFIX).unwrap_or(name).to_owned();
    for (name, manifest) in &graph.packages {
        if !LAYERS.iter().any(|layer| layer.name == short(name)) {
            let rule = format!("`{name}` is not in the table of layers");
            findings.push(Finding { path: manifest.clone(), line: 0, rule });
        }
    }
    for edge in &graph.edges {
        let (from, to) = (short(&edge.from), short(&edge.to));
        let Some(layer) = LAYERS.iter().find(|layer| layer.name == from) else {
            continue;
        };
        let is_allowed = match layer.knows {
            Knows::Anyone => true,
            Knows::Only(names) => names.contains(&to.as_str()),
        };
        let is_allowed_in_tests = edge.is_dev && layer.tests_know.contains(&to.as_str());
        if !is_allowed && !is_allowed_in_tests {
            let rule = format!("`{}` may not know `{}`", edge.from, edge.to);
            let line = line(&edge.manifest, &edge.to);
            findings.push(Finding { path: edge.manifest.clone(), line, rule });
        }
    }
    findings
}

/// The line of a manifest that declares a dependency on `package`; 0 when none does.
fn declared_at(manifest: &File, package: &str) -> usize {
    let declares = |line: &str| {
        line.strip_prefix(package).is_some_and(|rest| rest.starts_with([' ', '.', '=']))
    };
    manifest.lines().find(|(_, line)| declares(line)).map_or(0, |(number, _)| number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(from: &str, to: &str, kind: &str) -> Vec<String> {
        let metadata = json!({
            "workspace_root": "/r",
            "packages": [{
                "name": from,
                "manifest_path": "/r/crates/x/Cargo.toml",
                "dependencies": [
                    { "name": to, "path": "/r/crates/y", "kind": kind },
                    { "name": "bytes", "path": null, "kind": null },
                ],
            }],
        });
        let graph = read(&metadata).expect("the shape of cargo metadata");
        check(&graph, |_, _| 0).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_drawing_is_allowed() {
        for (from, to) in [
            ("alys-stream-messaging", "alys-stream-protocol"),
            ("alys-stream-config", "alys-stream-transport"),
            ("alys-stream-actor", "alys-stream-config"),
            ("alys-stream-governance", "alys-stream-transport"),
            ("alys-stream-node", "alys-stream-governance"),
            ("alys-stream", "alys-stream-actor"),
            ("alys-stream-tests", "alys-stream-node"),
            ("xtask", "alys-stream-protocol"),
        ] {
            assert!(found(from, to, "normal").is_empty(), "{from} -> {to}");
        }
    }

    #[test]
    fn any_other_edge_is_found() {
        for (from, to) in [
            ("alys-stream-transport", "alys-stream-messaging"),
            ("alys-stream-protocol", "alys-stream-telemetry"),
            ("alys-stream-config", "alys-stream-actor"),
            ("alys-stream-governance", "alys-stream-actor"),
            ("alys-stream-actor", "alys-stream"),
            ("alys-stream", "alys-stream-node"),
        ] {
            for kind in ["normal", "build", "dev"] {
                let expected = format!("crates/x/Cargo.toml: `{from}` may not know `{to}`");
                assert_eq!(found(from, to, kind), [expected], "{kind}");
            }
        }
    }

    #[test]
    fn tests_may_know_more() {
        assert!(found("alys-stream", "alys-stream-governance", "dev").is_empty());
        assert_eq!(found("alys-stream", "alys-stream-governance", "normal").len(), 1);
    }

    #[test]
    fn the_line_of_a_dependency_is_found() {
        let text = "[dependencies]\nalys-stream-protocol.workspace = true\nalys-stream = { path = \"x\" }\n";
        let manifest = File { path: "Cargo.toml".to_owned(), text: text.to_owned() };
        assert_eq!(declared_at(&manifest, "alys-stream"), 3);
        assert_eq!(declared_at(&manifest, "alys-stream-protocol"), 2);
        assert_eq!(declared_at(&manifest, "alys-stream-transport"), 0);
    }

    #[test]
    fn a_package_outside_the_table_is_found() {
        let expected = "crates/x/Cargo.toml: `alys-stream-novelty` is not in the table of layers";
        assert_eq!(found("alys-stream-novelty", "alys-stream-protocol", "normal"), [expected]);
    }
}
