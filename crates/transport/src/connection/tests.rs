//! Every (state, event) pair, written down.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use expect_test::expect_file;

use super::*;
use crate::reconnect::BackoffConfig;

#[expect(clippy::disallowed_methods, reason = "an arbitrary start")]
fn start() -> Instant {
    Instant::now()
}

fn connection(now: Instant) -> Connection {
    let config = BackoffConfig { jitter: 0.0, ..BackoffConfig::default() };
    Connection::new(now, ConnectionConfig::default(), Backoff::new(config, 1))
}

fn events() -> Vec<Event> {
    let cause = || "cause".to_owned();
    vec![
        Event::Establish,
        Event::TransportUp,
        Event::ConnectFailed { cause: cause(), hurry: Hurry::Backoff },
        Event::HeldBack { why: "a turn".into(), after: Duration::from_secs(3) },
        Event::Accepted,
        Event::Refused { cause: cause(), hurry: Hurry::Permanent },
        Event::StreamOpened,
        Event::StreamClosed,
        Event::StreamRestarted,
        Event::Alive,
        Event::Acknowledged,
        Event::MinorIssues { why: "minor".into() },
        Event::Resolved,
        Event::Escalated { why: "critical".into() },
        Event::Suspended { reason: "upgrade".into(), resume_after: None },
        Event::Resumed,
        Event::Lost { cause: cause(), hurry: Hurry::Backoff },
        Event::Shutdown,
    ]
}

/// The events that lead to a state from Disconnected.
fn path(kind: StateKind) -> Vec<Event> {
    let all = events();
    let [
        establish,
        up,
        _,
        _,
        accepted,
        refused,
        opened,
        _,
        _,
        alive,
        _,
        minor,
        _,
        escalated,
        suspended,
        _,
        lost,
        _,
    ] = all.as_slice()
    else {
        panic!("the list of events has changed");
    };
    let steps: Vec<&Event> = match kind {
        StateKind::Disconnected => vec![],
        StateKind::Connecting => vec![establish],
        StateKind::Authenticating => vec![establish, up],
        StateKind::Connected => vec![establish, up, accepted],
        StateKind::Streaming => vec![establish, up, accepted, opened],
        StateKind::Healthy => vec![establish, up, accepted, opened, alive],
        StateKind::Warning => vec![establish, up, accepted, opened, alive, minor],
        StateKind::Critical => {
            vec![establish, up, accepted, opened, alive, minor, escalated]
        }
        StateKind::Reconnecting => vec![establish, up, accepted, lost],
        StateKind::Failed => vec![establish, up, refused],
        StateKind::Suspended => vec![establish, up, accepted, suspended],
    };
    steps.into_iter().cloned().collect()
}

fn at(now: Instant, kind: StateKind) -> Connection {
    let mut connection = connection(now);
    for event in path(kind) {
        connection.handle_event(now, event);
    }
    while connection.poll_action().is_some() {}
    assert_eq!(connection.state().kind(), kind);
    connection
}

fn trace(connection: &mut Connection) -> String {
    trace_edges(connection, &mut BTreeSet::new())
}

fn trace_edges(
    connection: &mut Connection,
    edges: &mut BTreeSet<(StateKind, StateKind)>,
) -> String {
    let mut steps = Vec::new();
    while let Some(action) = connection.poll_action() {
        steps.push(match action {
            Action::Report(transition) => {
                edges.insert((transition.old, transition.new));
                format!("{} ({})", transition.new, transition.why)
            }
            Action::Dial => "dial".to_owned(),
            Action::Close => "close".to_owned(),
            Action::Unpark => "unpark".to_owned(),
            Action::Proved => "proved".to_owned(),
        });
    }
    if steps.is_empty() { "·".to_owned() } else { steps.join(", ") }
}

#[test]
fn every_state_and_event() {
    let now = start();
    let (mut table, mut edges) = (String::new(), BTreeSet::new());
    for kind in StateKind::ALL {
        writeln!(table, "{kind}").unwrap();
        for event in events() {
            let name = format!("{event:?}");
            let name = name.split([' ', '{']).next().unwrap_or_default().to_owned();
            let mut connection = at(now, kind);
            connection.handle_event(now, event);
            writeln!(table, "  {name:<16} {}", trace_edges(&mut connection, &mut edges)).unwrap();
        }
        let mut connection = at(now, kind);
        let timer = connection.poll_timeout();
        connection.handle_timeout(timer.unwrap_or(now));
        let after = timer.map(|at| format!("{:?}: ", at - now)).unwrap_or_default();
        let steps = trace_edges(&mut connection, &mut edges);
        writeln!(table, "  {:<16} {after}{steps}", "(timer)").unwrap();
    }
    assert_eq!(edges.into_iter().collect::<Vec<_>>(), EDGES);
    expect_file!["table.txt"].assert_eq(&table);
}

#[test]
fn a_peer_that_accepts_and_dies_is_not_dialled_in_a_tight_loop() {
    let mut now = start();
    let mut connection = connection(now);
    connection.handle_event(now, Event::Establish);
    let mut delays = Vec::new();
    for _ in 0..6 {
        for event in [Event::TransportUp, Event::Accepted, Event::StreamOpened, Event::Alive] {
            connection.handle_event(now, event);
        }
        connection.handle_event(now, Event::Lost { cause: "gone".into(), hurry: Hurry::Backoff });
        let retry_at = connection.poll_timeout().unwrap();
        delays.push((retry_at - now).as_millis());
        now = retry_at;
        connection.handle_timeout(now);
    }
    assert_eq!(delays, [1000, 1600, 2560, 4096, 6553, 10485], "T4");
    assert_eq!(connection.attempts(), 7);
    for event in [Event::TransportUp, Event::Accepted, Event::StreamOpened, Event::Acknowledged] {
        connection.handle_event(now, event);
    }
    connection.handle_event(now, Event::Lost { cause: "gone".into(), hurry: Hurry::Backoff });
    assert_eq!(connection.poll_timeout(), Some(now + Duration::from_secs(1)), "T4");
}

#[test]
fn thirty_seconds_healthy_reset_the_backoff() {
    let now = start();
    let mut connection = at(now, StateKind::Healthy);
    connection.backoff.next_delay();
    assert_eq!(connection.poll_timeout(), Some(now + Duration::from_secs(30)));
    connection.handle_timeout(now + Duration::from_secs(30));
    assert_eq!(connection.backoff.failures(), 0);
    assert_eq!(connection.poll_timeout(), None);
}

#[test]
fn the_peer_may_ask_for_more_patience_and_the_history_is_bounded() {
    let mut now = start();
    let mut connection = connection(now);
    connection.handle_event(now, Event::Establish);
    for _ in 0..100 {
        let hurry = Hurry::NotBefore(Duration::from_secs(300));
        connection.handle_event(now, Event::ConnectFailed { cause: "busy".into(), hurry });
        assert!(connection.poll_timeout().unwrap() >= now + Duration::from_secs(300));
        now = connection.poll_timeout().unwrap();
        connection.handle_timeout(now);
    }
    assert_eq!(connection.history().count(), HISTORY_MAX);
    assert_eq!(connection.last_error(), Some("busy"));
}

#[test]
fn a_permanent_refusal_waits_longest_and_shows_until_the_peer_accepts_us() {
    let now = start();
    let mut connection = at(now, StateKind::Authenticating);
    let cause = "stale epoch".to_owned();
    connection.handle_event(now, Event::Refused { cause, hurry: Hurry::Permanent });
    assert!(connection.is_permanent());
    let retry_at = now + Duration::from_secs(120);
    assert_eq!(connection.poll_timeout(), Some(retry_at));
    connection.handle_timeout(retry_at);
    connection.handle_event(retry_at, Event::TransportUp);
    assert!(connection.is_permanent(), "TCP proves nothing");
    connection.handle_event(retry_at, Event::Accepted);
    assert!(!connection.is_permanent());
}

#[test]
fn a_dial_that_is_held_back_changes_nothing_that_is_known_of_the_peer() {
    let mut now = start();
    let mut connection = at(now, StateKind::Authenticating);
    let cause = "stale epoch".to_owned();
    connection.handle_event(now, Event::Refused { cause, hurry: Hurry::Permanent });
    let failures = connection.backoff.failures();
    for _ in 0..10 {
        now = connection.poll_timeout().unwrap();
        connection.handle_timeout(now);
        let after = Duration::from_secs(3);
        connection.handle_event(now, Event::HeldBack { why: "a turn".into(), after });
        assert_eq!(connection.poll_timeout(), Some(now + after));
        assert_eq!(connection.held_back(), Some("a turn"));
    }
    assert_eq!(connection.backoff.failures(), failures, "T57");
    assert_eq!(connection.last_error(), Some("stale epoch"), "T57");
    assert!(connection.is_permanent(), "T57");
    connection.handle_timeout(connection.poll_timeout().unwrap());
    assert_eq!(connection.held_back(), None);
}

#[test]
fn a_suspension_may_end_by_time() {
    let now = start();
    let mut connection = at(now, StateKind::Healthy);
    let resume_after = Some(Duration::from_secs(7));
    connection.handle_event(now, Event::Suspended { reason: "busy".into(), resume_after });
    while connection.poll_action().is_some() {}
    connection.handle_timeout(now + Duration::from_secs(7));
    assert_eq!(trace(&mut connection), "connected (the suspension has ended by time), unpark");
}
