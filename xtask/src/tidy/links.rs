//! Links between the pages of the repository lead somewhere. Links to elsewhere are not followed.

use crate::text::{File, Finding};

/// What the links of every page miss. `exists` is asked about paths from the root.
pub(crate) fn check(files: &[File], exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for page in files.iter().filter(|file| file.is(&[".md"]) && !file.is_recorded()) {
        for (line, target) in targets(&page.text) {
            let Some(path) = resolve(&page.path, target) else {
                findings.push(page.finding(line, format!("{target}: leaves the repository")));
                continue;
            };
            if !path.is_empty() && !exists(&path) {
                findings.push(page.finding(line, format!("{target}: leads nowhere")));
            }
        }
    }
    findings
}

/// Local link targets with their lines, without what stands in code.
fn targets(text: &str) -> Vec<(usize, &str)> {
    let mut targets = Vec::new();
    let mut in_code = false;
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
            continue;
        }
        if in_code {
            continue;
        }
        // Every second piece between backquotes is code.
        for prose in line.split('`').step_by(2) {
            let ends = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
            let local = ends.map(|(target, _)| target.trim()).filter(|target| is_local(target));
            targets.extend(local.map(|target| (number, target)));
        }
    }
    targets
}

fn is_local(target: &str) -> bool {
    !target.contains("://") && !target.starts_with("mailto:") && !target.starts_with('#')
}

/// The path from the root that `target` means on `page`; none when it climbs out.
fn resolve(page: &str, target: &str) -> Option<String> {
    let target = target.split(['#', ' ']).next().unwrap_or_default();
    let folder = page.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let page = File { path: path.to_owned(), text: text.to_owned() };
        let there = ["README.md", "docs", "docs/guide.md", "docs/decisions/0001-a.md"];
        check(&[page], |path| there.contains(&path)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn links_that_lead_somewhere_pass() {
        let text =
            "[a](docs/guide.md#part) [b](./docs/) ![c](https://example.org/x.png) [d](#here)\n";
        assert!(found("README.md", text).is_empty());
        assert!(
            found("docs/decisions/0001-a.md", "[up](../guide.md) [top](../../README.md)")
                .is_empty()
        );
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        assert_eq!(found("README.md", "\n[a](guide.md)"), ["README.md:2: guide.md: leads nowhere"]);
        assert_eq!(found("README.md", "[a](../x)"), ["README.md:1: ../x: leaves the repository"]);
    }

    #[test]
    fn code_is_not_prose() {
        assert!(
            found("README.md", "```rust\nlet x = a[i](nothing);\n```\n`a[i](nothing)`").is_empty()
        );
    }
}
