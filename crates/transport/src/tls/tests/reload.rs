//! Reload with files in memory and paused time.

use std::time::Duration;

use alys_stream_protocol::time::{SystemClock, UnixMillis, WallClock};
use futures::FutureExt as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::disk::{Disk, chain, client_settings, disk, path, pin, server_settings};
use super::revocation::{list, lists};
use super::*;

const FAR: i32 = 4000;

/// Longer than any reload takes.
const SETTLED: Duration = Duration::from_secs(5);

struct Reloading<S: Side> {
    source: TlsSource<S>,
    /// Aborts the reloader when the test ends.
    _task: JoinSet<()>,
}

fn start<S: Side>(settings: S::Settings, disk: &Disk) -> Reloading<S> {
    let (reloader, source) =
        TlsReloader::<S>::try_new(settings, disk.reader(), Arc::new(SystemClock)).unwrap();
    let mut task = JoinSet::new();
    let offload: Offload = Arc::new(|work| {
        work();
        std::future::ready(()).boxed()
    });
    task.spawn(reloader.run(offload, CancellationToken::new()));
    Reloading { source, _task: task }
}

impl<S: Side> Reloading<S> {
    /// Lets time pass; it is paused.
    async fn settle(&self) -> u64 {
        tokio::time::advance(Duration::ZERO).await;
        let mut changes = self.source.subscribe();
        // Whether it changes or not, that much time has passed.
        _ = tokio::time::timeout(SETTLED, changes.changed()).await;
        self.source.current().number()
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_certificate_serves_new_connections_only() {
    let mut world = world();
    let disk = disk(&world);
    let server = start::<ServerTls>(server_settings(), &disk);
    let client = ClientTls::load(&client_settings(), &disk.reader()).unwrap();
    let before = server.source.current();
    world.server = world.authority.issue("gov-1b", &["gov.test"]);
    // The certificate arrives first: alone it is not usable, and nothing changes.
    disk.write("server.crt", &world.server.certificate);
    assert_eq!(server.settle().await, 1, "T62");
    let status = server.source.status();
    assert_eq!((status.generation, status.failures), (1, 1));
    let error = status.error.unwrap();
    assert!(error.contains("tls.certificate server.crt and tls.key server.key do not"), "{error}");
    disk.write("server.key", &world.server.key);
    assert_eq!(server.settle().await, 2);
    assert_eq!(server.source.status().error, None);
    let after = server.source.current();
    let seen = handshake(Arc::clone(client.config()), Arc::clone(after.config()), "gov.test").await;
    assert_eq!(seen, (Ok(()), Ok(())));
    // Who came before is as welcome as ever.
    let clients = chain(&world.client);
    before.still_trusted(&clients, SystemClock.now()).unwrap();
    after.still_trusted(&clients, SystemClock.now()).unwrap();
}

/// A clock at which every certificate of these tests has expired.
#[derive(Debug)]
struct FarAhead;

impl WallClock for FarAhead {
    fn now(&self) -> UnixMillis {
        UnixMillis(100_000_000_000_000)
    }
}

#[tokio::test]
async fn handshakes_ask_the_clock_that_was_handed_in() {
    let world = world();
    let disk = disk(&world);
    let clock: Arc<dyn WallClock> = Arc::new(FarAhead);
    let client = ClientTls::load(&client_settings(), &disk.reader()).unwrap();
    let server = ServerTls::load(&server_settings(), &disk.reader()).unwrap();
    let late =
        TlsReloader::<ClientTls>::try_new(client_settings(), disk.reader(), Arc::clone(&clock));
    let late = late.unwrap().1.current();
    let seen = handshake(Arc::clone(late.config()), Arc::clone(server.config()), "gov.test").await;
    assert_eq!(seen.0, Err(TlsFault::Expired), "T63");
    let late = TlsReloader::<ServerTls>::try_new(server_settings(), disk.reader(), clock);
    let late = late.unwrap().1.current();
    let seen = handshake(Arc::clone(client.config()), Arc::clone(late.config()), "gov.test").await;
    assert_eq!(seen.1, Err(TlsFault::Expired), "T63");
}

#[tokio::test(start_paused = true)]
async fn a_revoked_client_is_trusted_no_more() {
    let world = world();
    let disk = disk(&world);
    disk.write("crl", list(&world.authority, &[], FAR).pem().unwrap());
    let settings = ServerSettings { crls: lists(&["crl"]), ..server_settings() };
    let server = start::<ServerTls>(settings, &disk);
    disk.write("crl", list(&world.authority, &[&world.client], FAR).pem().unwrap());
    assert_eq!(server.settle().await, 2);
    let (tls, now) = (server.source.current(), SystemClock.now());
    assert_eq!(tls.still_trusted(&chain(&world.client), now), Err(TlsFault::Revoked));
    assert!(tls.still_trusted(&[], now).is_err());
    let other = chain(&world.authority.issue("x", &[]));
    assert_eq!(tls.still_trusted(&other, now), Ok(()));
    let end = u64::try_from(tls.facts().own_expires_at.unwrap()).unwrap();
    assert_eq!(tls.still_trusted(&other, UnixMillis((end + 1) * 1000)), Err(TlsFault::Expired));
}

#[tokio::test(start_paused = true)]
async fn a_peer_is_lost_when_pins_lists_or_authorities_say_so() {
    let (world, other) = (world(), world_of("Other CA"));
    let disk = disk(&world);
    disk.write("crl", list(&world.authority, &[], FAR).pem().unwrap());
    disk.write("pins", pin(&world.server).to_string());
    let settings = ClientSettings {
        crls: lists(&["crl"]),
        pins_file: Some(path("pins")),
        ..client_settings()
    };
    for (file, content, fault) in [
        ("ca", other.authority.pem.clone(), TlsFault::UnknownAuthority),
        ("crl", list(&world.authority, &[&world.server], FAR).pem().unwrap(), TlsFault::Revoked),
        (
            "pins",
            pin(&world.client).to_string(),
            TlsFault::NotPinned { presented: pin(&world.server) },
        ),
    ] {
        let good = disk.reader()(file.as_ref()).unwrap();
        let client = start::<ClientTls>(settings.clone(), &disk);
        let shaken = client.source.current();
        let servers = chain(&world.server);
        let mut trust = client.source.watch_peer(&shaken, "gov.test", &servers).unwrap();
        disk.write(file, &content);
        let lost = tokio::time::timeout(SETTLED, trust.lost(&SystemClock)).await.unwrap();
        assert_eq!(lost, fault, "{file}");
        // Who comes with an old generation is judged by the present one.
        let mut late = client.source.watch_peer(&shaken, "gov.test", &servers).unwrap();
        assert_eq!(late.lost(&SystemClock).await, fault, "{file}");
        disk.write(file, good);
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_is_not_lost_for_a_certificate_of_our_own() {
    let world = world();
    let disk = disk(&world);
    let client = start::<ClientTls>(client_settings(), &disk);
    let shaken = client.source.current();
    let mut trust = client.source.watch_peer(&shaken, "gov.test", &chain(&world.server)).unwrap();
    let next = world.authority.issue("node-1b", &["node.test"]);
    disk.write("client.key", &next.key);
    disk.write("client.crt", &next.certificate);
    assert!(tokio::time::timeout(SETTLED, trust.lost(&SystemClock)).await.is_err());
    assert_eq!(client.source.current().number(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_keeps_the_last_good_one_until_it_is_right() {
    let world = world();
    let disk = disk(&world);
    let client = start::<ClientTls>(client_settings(), &disk);
    for (wrong, part) in [(Some("garbage"), "tls.ca ca holds no"), (None, "tls.ca ca cannot be")] {
        match wrong {
            Some(text) => disk.write("ca", text),
            None => disk.remove("ca"),
        }
        assert_eq!(client.settle().await, 1, "T62");
        let error = client.source.status().error.unwrap();
        assert!(error.contains(part), "{part} in: {error}");
    }
    assert_eq!(client.source.status().failures, 2, "once for each content, not for each look");
    disk.write("ca", &world.authority.pem);
    assert_eq!(client.settle().await, 1);
    assert_eq!(client.source.status().error, None);
}

#[tokio::test(start_paused = true)]
async fn other_settings_hold_at_once_or_not_at_all() {
    let world = world();
    let disk = disk(&world);
    let client = start::<ClientTls>(client_settings(), &disk);
    let shaken = client.source.current();
    let mut trust = client.source.watch_peer(&shaken, "gov.test", &chain(&world.server)).unwrap();
    let missing = ClientSettings { pins_file: Some(path("nowhere")), ..client_settings() };
    let error = client.source.change(missing).unwrap_err();
    assert_eq!(error.key(), "tls.pins_file");
    assert_eq!(client.source.current().number(), 1);
    let pinned = ClientSettings { pins: vec![pin(&world.client)], ..client_settings() };
    client.source.change(pinned).unwrap();
    let fault = TlsFault::NotPinned { presented: pin(&world.server) };
    assert_eq!(trust.lost(&SystemClock).await, fault);
    assert_eq!(client.settle().await, 2, "the files are as they were");
}
