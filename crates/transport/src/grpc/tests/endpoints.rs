//! What holds an endpoint back, and what is shown of it: breaker, budget, spread, permanent
//! refusals, keepalive, issues.

use std::sync::Mutex;

use super::*;
use crate::connection::ConnectionConfig;
use crate::reconnect::{
    BackoffConfig, BreakerConfig, BreakerState, DialSpreadConfig, Dials, DialsConfig,
    RetryBudgetConfig,
};

/// What an operator would be alerted on.
#[derive(Debug, Default)]
struct Alerts {
    needs_operator: Mutex<Vec<bool>>,
    breaker: Mutex<Vec<&'static str>>,
}

impl Observer for Alerts {
    fn breaker(&self, _endpoint: &str, state: BreakerState) {
        crate::lock(&self.breaker).push(state.as_str());
    }

    fn needs_operator(&self, _endpoint: &str, needs: bool) {
        crate::lock(&self.needs_operator).push(needs);
    }
}

struct Watched {
    handle: EndpointHandle,
    alerts: Arc<Alerts>,
    _tasks: JoinSet<()>,
}

/// Drives an endpoint that hardly waits between attempts.
fn watch(config: EndpointConfig, change: impl FnOnce(&mut EndpointSettings)) -> Watched {
    watch_with(config, change, None)
}

fn watch_with(
    config: EndpointConfig,
    change: impl FnOnce(&mut EndpointSettings),
    dials: Option<Arc<Dials>>,
) -> Watched {
    let first = Duration::from_millis(1);
    let backoff = BackoffConfig { first, backoff_max: 600 * first, ..BackoffConfig::default() };
    let mut settings = EndpointSettings { backoff, ..EndpointSettings::default() };
    change(&mut settings);
    let alerts = Arc::new(Alerts::default());
    let observer = Arc::clone(&alerts);
    let parts = EndpointParts {
        config,
        identity: NodeIdentity {
            node_id: "node-1".into(),
            software: "test/1".into(),
            public_key: "02".repeat(33),
            node_type: NodeType::Bridge,
            region: None,
            auth: None,
        },
        tls: None,
        exchange: Memory::with(0, 0),
        observer,
        clock: Arc::new(SystemClock),
        seed: 1,
        settings,
        shutdown: CancellationToken::new(),
    };
    let (mut driver, handle) = EndpointDriver::try_new(parts).unwrap();
    if let Some(dials) = dials {
        driver = driver.with_dials(dials);
    }
    let mut tasks = JoinSet::new();
    tasks.spawn(driver.run());
    Watched { handle, alerts, _tasks: tasks }
}

async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// How long until the next attempt.
fn wait(status: &EndpointStatus) -> Duration {
    let now = WallClock::now(&SystemClock).0;
    Duration::from_millis(status.retry_at_ms.expect("T30").saturating_sub(now))
}

#[tokio::test]
async fn an_endpoint_that_fails_five_times_is_left_alone() {
    let open = Duration::from_secs(60);
    let config = plaintext(nobody().await);
    let watched = watch(config, |settings| {
        settings.breaker = BreakerConfig { open, ..BreakerConfig::default() };
    });
    let open = |status: &EndpointStatus| {
        status.breaker == BreakerState::Open && status.state == StateKind::Failed
    };
    let status = wait_for(&watched.handle, open).await;
    assert_eq!(status.attempts, 5);
    assert!(wait(&status) > Duration::from_secs(25), "half of a minute at least: {status:?}");
    assert!(status.breaker_until_ms.is_some());
    assert!(!status.permanent);
    assert_eq!(*crate::lock(&watched.alerts.breaker), ["open"]);
    // An operator does not wait for it.
    watched.handle.reconnect_now();
    wait_for(&watched.handle, |status| status.attempts == 6 && open(status)).await;
}

#[tokio::test]
async fn a_failure_that_only_an_operator_can_mend_waits_longest_and_alerts() {
    let url = format!("https://{}", nobody().await);
    let mut tasks = JoinSet::new();
    let mute = foreign(&mut tasks, b"").await;
    let config = EndpointConfig::new("one", url.parse().unwrap());
    let config = EndpointConfig { url: format!("https://{mute}").parse().unwrap(), ..config };
    let watched = watch(config, |settings| {
        settings.backoff.backoff_max = Duration::from_secs(120);
    });
    let status = wait_for(&watched.handle, |status| status.permanent).await;
    assert_eq!((status.state, status.attempts), (StateKind::Failed, 1));
    assert!(
        status.last_error.as_ref().is_some_and(|error| error.contains("TLS is not configured"))
    );
    assert!(wait(&status) > Duration::from_secs(90), "{status:?}");
    assert_eq!(*crate::lock(&watched.alerts.needs_operator), [true]);
}

/// An HTTP/2 peer that answers the first call with GOAWAY `ENHANCE_YOUR_CALM`.
const TOO_MANY_PINGS: &[u8] = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00\
    \x00\x00\x16\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x0btoo_many_pings";

#[tokio::test]
async fn pings_become_rarer_when_the_peer_complains() {
    let mut tasks = JoinSet::new();
    let strict = foreign(&mut tasks, TOO_MANY_PINGS).await;
    let watched = watch(plaintext(strict), |_| {});
    let status = wait_for(&watched.handle, |status| status.keepalive_ms >= 120_000).await;
    let error = status.last_error.expect("the complaint");
    assert!(error.contains("fewer pings"), "{error}");
    let config = EndpointConfig {
        keepalive: crate::endpoint::KeepaliveProfile::StrictPeer,
        ..plaintext(nobody().await)
    };
    let watched = watch(config, |_| {});
    let status = wait_for(&watched.handle, |status| status.attempts > 0).await;
    assert_eq!(status.keepalive_ms, 300_000);
}

#[tokio::test]
async fn first_dials_are_spread_and_an_order_is_not() {
    let spread = DialSpreadConfig { at_once: 1, period: Duration::from_secs(3600) };
    let config = DialsConfig { spread, ..DialsConfig::default() };
    // With this seed the second one waits for many minutes.
    let dials = Arc::new(Dials::new(config, 1));
    let first = watch_with(plaintext(nobody().await), |_| {}, Some(Arc::clone(&dials)));
    wait_for(&first.handle, |status| status.attempts > 1).await;
    let second = watch_with(plaintext(nobody().await), |_| {}, Some(dials));
    tokio::task::yield_now().await;
    let status = second.handle.status().borrow().clone();
    assert_eq!((status.state, status.attempts), (StateKind::Disconnected, 0));
    second.handle.reconnect_now();
    wait_for(&second.handle, |status| status.attempts > 0).await;
}

#[tokio::test]
async fn repeated_dials_share_a_budget() {
    let budget = RetryBudgetConfig { ratio: 0.0, per_second: 0, ..RetryBudgetConfig::default() };
    let config = DialsConfig { budget, ..DialsConfig::default() };
    let dials = Some(Arc::new(Dials::new(config, 1)));
    let watched = watch_with(plaintext(nobody().await), |_| {}, dials);
    let status = wait_for(&watched.handle, |status| status.attempts == 2).await;
    let error = status.last_error.expect("why it waits");
    assert!(error.contains("too many endpoints are dialled again"), "{error}");
    // The last failure of the peer first: what this side waits for is what follows from it.
    assert!(error.starts_with("TCP connect") && error.contains("refused"), "{error}");
    assert_eq!(status.breaker, BreakerState::Closed, "waiting is no failure");
}

#[tokio::test]
async fn a_peer_that_speaks_http_2_and_never_answers_is_given_up_after_one_step() {
    let mut tasks = JoinSet::new();
    let mute = foreign(&mut tasks, b"\x00\x00\x00\x04\x00\x00\x00\x00\x00").await;
    let watched = watch(plaintext(mute), |settings| {
        settings.step_timeout = Duration::from_millis(200);
        settings.connection = ConnectionConfig {
            authenticate_timeout: Duration::from_secs(60),
            ..settings.connection
        };
    });
    let status = wait_for(&watched.handle, |status| status.last_error.is_some()).await;
    assert_eq!(status.last_error.as_deref(), Some("capabilities: no answer within 200ms"));
}

#[tokio::test]
async fn a_live_peer_that_refuses_everything_is_left_alone_and_tried_again() {
    // More than may be on the way at once.
    const MESSAGES: u64 = 12_000;
    let mut tasks = JoinSet::new();
    let far = Memory::with(0, 0);
    far.refuse.store(true, Ordering::Relaxed);
    let peer =
        Peer { sessions: true, exchange: Arc::clone(&far), shutdown: CancellationToken::new() };
    let address = serve(&mut tasks, peer).await;
    let breaker = BreakerConfig {
        // Longer than the status takes to show it.
        open: Duration::from_millis(1500),
        jitter: 0.0,
        ..BreakerConfig::default()
    };
    let settings = EndpointSettings { breaker, ..EndpointSettings::default() };
    let near = Memory::with(MESSAGES, 100);
    let driven = drive_with(&mut tasks, plaintext(address), None, Arc::clone(&near), settings);
    let status = wait_for(&driven.handle, |status| status.breaker == BreakerState::Open).await;
    assert!(status.is_live(), "the link itself is fine: {status:?}");
    far.refuse.store(false, Ordering::Relaxed);
    let seen = |side: &Memory| crate::lock(&side.acked).len() + crate::lock(&side.nacks).len();
    until(&near, |side| seen(side) == usize::try_from(MESSAGES).unwrap()).await;
    let refused = crate::lock(&near.nacks).len();
    assert!((20..11_600).contains(&refused), "{refused} were refused before it opened");
    wait_for(&driven.handle, |status| status.breaker == BreakerState::Closed).await;
    assert_eq!(driven.handle.status().borrow().attempts, 1);
}
