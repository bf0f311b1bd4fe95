//! When changed files are tried. Pure.
//!
//! Not what is in them: it compares fingerprints.
//!
//! ```text
//! in force ──other content──▶ changing ──unchanged for the debounce──▶ tried ──usable──▶ in force
//!    ▲                          │  ▲ changed again                        │
//!    └──────back as it was──────┘  └──────────── changed again ◀── refused ◀─unusable
//! ```

use std::time::Instant;

use crate::tls::input::Fingerprint;
use crate::tls::settings::ReloadConfig;

/// What to do with what was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Wait,
    /// Build a generation of it.
    Try,
    /// It is as it was: what was wrong is not any more.
    Restored,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    InForce,
    Changing { print: Fingerprint, since: Instant },
    Refused { print: Fingerprint },
}

#[derive(Debug)]
pub(super) struct Settle {
    config: ReloadConfig,
    in_force: Fingerprint,
    state: State,
}

impl Settle {
    pub(super) const fn new(config: ReloadConfig, in_force: Fingerprint) -> Self {
        Self { config, in_force, state: State::InForce }
    }

    /// Feeds what was read at `now`.
    pub(super) fn handle_read(&mut self, now: Instant, read: Fingerprint) -> Step {
        let step = |step, state| (step, state);
        let (step, state) = match self.state {
            State::InForce if read == self.in_force => step(Step::Wait, State::InForce),
            State::Changing { .. } | State::Refused { .. } if read == self.in_force => {
                step(Step::Restored, State::InForce)
            }
            State::Refused { print } if read == print => step(Step::Wait, self.state),
            State::Changing { print, since } if read == print => {
                let settled = now.saturating_duration_since(since) >= self.config.debounce;
                step(if settled { Step::Try } else { Step::Wait }, self.state)
            }
            State::InForce | State::Changing { .. } | State::Refused { .. } => {
                step(Step::Wait, State::Changing { print: read, since: now })
            }
        };
        self.state = state;
        step
    }

    /// Feeds what became of a try.
    pub(super) const fn handle_built(&mut self, print: Fingerprint, usable: bool) {
        if usable {
            self.in_force = print;
            self.state = State::InForce;
        } else {
            self.state = State::Refused { print };
        }
    }

    /// When to read again.
    pub(super) fn wake_at(&self, now: Instant) -> Instant {
        match self.state {
            State::Changing { since, .. } => (since + self.config.debounce).max(now),
            State::InForce | State::Refused { .. } => now + self.config.poll,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::time::Duration;

    use expect_test::{Expect, expect};

    use super::*;

    /// Reads at these milliseconds, files of these contents; every other letter than `x` is usable.
    #[expect(clippy::disallowed_methods, reason = "any start will do")]
    fn check(script: &[(u64, u8)], expect: &Expect) {
        let start = Instant::now();
        let mut settle = Settle::new(ReloadConfig::default(), [b'a'; 32]);
        let mut trace = String::new();
        for (at, content) in script {
            let now = start + Duration::from_millis(*at);
            let step = settle.handle_read(now, [*content; 32]);
            if step == Step::Try {
                settle.handle_built([*content; 32], *content != b'x');
            }
            let wake = settle.wake_at(now).saturating_duration_since(start).as_millis();
            writeln!(trace, "{at} {}: {step:?}, again at {wake}", char::from(*content)).unwrap();
        }
        expect.assert_eq(&trace);
    }

    #[test]
    fn a_change_is_tried_once_it_stays() {
        check(
            &[(0, b'a'), (2000, b'b'), (2300, b'c'), (2500, b'c'), (2800, b'c'), (4800, b'c')],
            &expect![[r#"
                0 a: Wait, again at 2000
                2000 b: Wait, again at 2500
                2300 c: Wait, again at 2800
                2500 c: Wait, again at 2800
                2800 c: Try, again at 4800
                4800 c: Wait, again at 6800
            "#]],
        );
    }

    #[test]
    fn what_is_unusable_is_tried_once() {
        check(
            &[(0, b'x'), (500, b'x'), (2500, b'x'), (4500, b'b'), (5000, b'b')],
            &expect![[r#"
                0 x: Wait, again at 500
                500 x: Try, again at 2500
                2500 x: Wait, again at 4500
                4500 b: Wait, again at 5000
                5000 b: Try, again at 7000
            "#]],
        );
    }

    #[test]
    fn back_as_it_was_needs_no_try() {
        check(
            &[(0, b'x'), (500, b'x'), (2500, b'a'), (4500, b'b'), (4600, b'a')],
            &expect![[r#"
                0 x: Wait, again at 500
                500 x: Try, again at 2500
                2500 a: Restored, again at 4500
                4500 b: Wait, again at 5000
                4600 a: Restored, again at 6600
            "#]],
        );
    }
}
