//! The two text formats of `/metrics`.
//!
//! The registry writes `OpenMetrics`. The older Prometheus text differs in the names of counters
//! in comments, and has no end mark; scrapers that ask for it get it.

/// A text format for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposition {
    /// `OpenMetrics` 1.0.
    OpenMetrics,
    /// Prometheus text 0.0.4.
    Prometheus,
}

impl Exposition {
    /// What an `Accept` header asks for; Prometheus text when it does not say.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        let asked = accept.split(',').any(|range| {
            range
                .split(';')
                .next()
                .is_some_and(|kind| kind.trim() == "application/openmetrics-text")
        });
        if asked { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The value of `Content-Type`.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Turns `OpenMetrics` text into this format.
    #[must_use]
    pub fn render(self, openmetrics: String) -> String {
        match self {
            Self::OpenMetrics => openmetrics,
            Self::Prometheus => prometheus(&openmetrics),
        }
    }
}

/// `# HELP` comes before `# TYPE`, so it is held back until the type is known.
fn prometheus(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    let mut help = None;
    for line in openmetrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').map(|(_, help)| help);
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some(help) = help.take() {
                text.push_str(&format!("# HELP {name}{suffix} {help}\n"));
            }
            text.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
        } else if line != "# EOF" {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn counters_get_their_suffix_in_comments() {
        let openmetrics = "# HELP sent Messages.\n# TYPE sent counter\nsent_total 3\n\
                           # HELP depth Queue.\n# TYPE depth gauge\ndepth{priority=\"low\"} 1\n# EOF\n";
        expect![[r##"
            # HELP sent_total Messages.
            # TYPE sent_total counter
            sent_total 3
            # HELP depth Queue.
            # TYPE depth gauge
            depth{priority="low"} 1
        "##]]
        .assert_eq(&Exposition::Prometheus.render(openmetrics.to_owned()));
        assert_eq!(Exposition::OpenMetrics.render(openmetrics.to_owned()), openmetrics);
    }

    #[test]
    fn the_header_decides() {
        let prometheus_server = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2";
        assert_eq!(Exposition::accepted(prometheus_server), Exposition::OpenMetrics);
        assert_eq!(Exposition::accepted("text/plain, */*"), Exposition::Prometheus);
        assert_eq!(Exposition::accepted(""), Exposition::Prometheus);
    }
}
