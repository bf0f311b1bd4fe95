//! Pins: on top of validation, never instead of it.

use super::disk::{client_settings, disk, path, pin, server_settings, shake};
use super::*;

#[tokio::test]
async fn a_valid_server_needs_a_pinned_key() {
    let world = world();
    let disk = disk(&world);
    let pinned = |pins| ClientSettings { pins, ..client_settings() };
    let (right, wrong) = (pin(&world.server), pin(&world.client));
    let seen = shake(&disk, &pinned(vec![wrong, right]), &server_settings()).await;
    assert_eq!(seen, (Ok(()), Ok(())));
    let (client, server) = shake(&disk, &pinned(vec![wrong]), &server_settings()).await;
    assert_eq!(client, Err(TlsFault::NotPinned { presented: right }), "a valid chain");
    assert!(server.is_err(), "{server:?}");
}

#[tokio::test]
async fn a_pinned_key_still_needs_a_valid_certificate() {
    let (world, other) = (world(), world_of("Other CA"));
    let disk = disk(&world);
    disk.write("ca", &other.authority.pem);
    let settings = ClientSettings { pins: vec![pin(&world.server)], ..client_settings() };
    let (client, _) = shake(&disk, &settings, &server_settings()).await;
    assert_eq!(client, Err(TlsFault::UnknownAuthority), "T21");
}

#[tokio::test]
async fn pins_of_a_file_count_like_the_others() {
    let world = world();
    let disk = disk(&world);
    disk.write("pins", format!("# the server\n{}\n", pin(&world.server)));
    let settings = ClientSettings {
        pins: vec![pin(&world.client)],
        pins_file: Some(path("pins")),
        ..client_settings()
    };
    assert_eq!(shake(&disk, &settings, &server_settings()).await.0, Ok(()));
    assert_eq!(ClientTls::load(&settings, &disk.reader()).unwrap().facts().pins, 2);
    disk.write("pins", "# the server\nnothing to be shown\n");
    let error = ClientTls::load(&settings, &disk.reader()).unwrap_err();
    assert!(error.to_string().starts_with("tls.pins_file pins: line 2 is not a pin; expected"));
    let said = format!("{error} {error:?}");
    assert!(!said.contains("nothing"), "a file of secrets may be named by mistake: {said}");
    assert_eq!(error.key(), "tls.pins_file");
}
