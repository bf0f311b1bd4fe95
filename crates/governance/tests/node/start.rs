//! Starting, bad input, strangers.

use std::time::Duration;

use alys_stream_governance::{GovernanceNode, StartErrorKind};
use alys_stream_protocol::governance::{HealthRequest, HealthResponse};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::client::{connect, unary};
use crate::world::{Authority, LONG, World, stop};

async fn is_healthy(
    world: &World,
    running: &alys_stream_governance::Running,
    authority: &Authority,
) -> bool {
    let Ok(channel) = connect(running.local_addr(), world.client_tls(authority)).await else {
        return false;
    };
    let health: Result<HealthResponse, _> =
        unary(&channel, "/governance.v1.GovernanceStream/Health", HealthRequest::default()).await;
    health.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused_and_hurt_nobody() {
    let world = World::new();
    let running = world.start().await;
    assert!(
        !is_healthy(&world, &running, &Authority::new()).await,
        "a certificate of another authority"
    );

    for garbage in
        ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\0\0\0\0", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
    {
        let mut stream = TcpStream::connect(running.local_addr()).await.unwrap();
        stream.write_all(garbage.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // An error is as good as an end: the connection is over.
        drop(tokio::time::timeout(LONG, stream.read_to_end(&mut answer)).await.unwrap());
    }
    assert!(is_healthy(&world, &running, &world.authority).await);
    let metrics = crate::admin::http(running.admin_addr(), "GET", "/metrics", "").await.1;
    assert!(metrics.contains("refused_connections_total"), "{metrics}");
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plaintext_garbage_hurts_nobody_either() {
    let world = World::new();
    let mut config = world.config();
    config.tls = None;
    config.insecure =
        Some(alys_stream_governance::config::Insecure::PlaintextWithoutAuthentication);
    let running = GovernanceNode::start(config).await.unwrap();
    let mut stream = TcpStream::connect(running.local_addr()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    drop(tokio::time::timeout(LONG, stream.read_to_end(&mut answer)).await.unwrap());
    assert!(
        crate::admin::http(running.admin_addr(), "GET", "/healthz", "").await.0.contains("200")
    );
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_mistake_is_one_line_with_its_cure() {
    let world = World::new();
    let start = |change: &dyn Fn(&mut alys_stream_governance::GovernanceConfig)| {
        let mut config = world.config();
        change(&mut config);
        GovernanceNode::start(config)
    };
    let check = async |started: Result<
        alys_stream_governance::Running,
        alys_stream_governance::StartError,
    >,
                       kind,
                       parts: &[&str]| {
        let error = started.unwrap_err();
        let line = error.to_string();
        assert_eq!(error.kind(), kind, "{line}");
        assert!(!line.contains('\n'), "{line}");
        for part in parts {
            assert!(line.contains(part), "{part} in: {line}");
        }
    };
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let started = start(&|config| config.listen = address).await;
    check(started, StartErrorKind::Unavailable, &["listen", &address.to_string(), "free the port"])
        .await;
    let missing = world.path("nowhere.crt");
    let started = start(&|config| {
        config.tls.as_mut().unwrap().certificate.clone_from(&missing);
    })
    .await;
    check(started, StartErrorKind::Config, &["tls.certificate", "nowhere.crt"]).await;
    let other = world.path("ca.crt");
    let started = start(&|config| config.tls.as_mut().unwrap().key.clone_from(&other)).await;
    check(started, StartErrorKind::Config, &["tls.key", "private key"]).await;

    let running = world.start().await;
    check(start(&|_| {}).await, StartErrorKind::Io, &["data_dir", "in use"]).await;
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_that_says_nothing_is_let_go() {
    let world = World::new();
    let running = world.start().await;
    let mut silent = TcpStream::connect(running.local_addr()).await.unwrap();
    let mut answer = Vec::new();
    let ended =
        tokio::time::timeout(Duration::from_secs(20), silent.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "the handshake has a deadline");
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_tools_find_health_and_reflection() {
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};
    use tonic_reflection::pb::v1::{server_reflection_request, server_reflection_response};

    let world = World::new();
    let running = world.start().await;
    let channel = connect(running.local_addr(), world.client_tls(&world.authority)).await.unwrap();
    for service in ["", "governance.v1.GovernanceStream", "alys.stream.v1.StreamService"] {
        let request = tonic_health::pb::HealthCheckRequest { service: service.to_owned() };
        let health: tonic_health::pb::HealthCheckResponse =
            unary(&channel, "/grpc.health.v1.Health/Check", request).await.unwrap();
        assert_eq!(health.status, i32::from(ServingStatus::Serving), "{service}");
    }

    let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let mut reflection =
        crate::client::open::<ServerReflectionRequest, ServerReflectionResponse>(&channel, path)
            .await
            .unwrap();
    let message_request =
        Some(server_reflection_request::MessageRequest::ListServices(String::new()));
    let request = ServerReflectionRequest { host: String::new(), message_request };
    reflection.requests.send(request).await.unwrap();
    let listed = reflection.responses.message().await.unwrap().unwrap().message_response.unwrap();
    let server_reflection_response::MessageResponse::ListServicesResponse(listed) = listed else {
        panic!("{listed:?}")
    };
    let names: Vec<String> = listed.service.into_iter().map(|service| service.name).collect();
    for name in
        ["governance.v1.GovernanceStream", "alys.stream.v1.StreamService", "grpc.health.v1.Health"]
    {
        assert!(names.iter().any(|known| known == name), "{name} in {names:?}");
    }
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_speaks_plain_only_says_so() {
    use alys_stream_protocol::governance::{CapabilitiesRequest, CapabilitiesResponse};

    let world = World::with_extra("dialects: [plain]\n");
    let running = world.start().await;
    let channel = connect(running.local_addr(), world.client_tls(&world.authority)).await.unwrap();
    let path = "/governance.v1.GovernanceStream/GetCapabilities";
    let capabilities: CapabilitiesResponse =
        unary(&channel, path, CapabilitiesRequest::default()).await.unwrap();
    assert!(capabilities.features.is_empty());
    let refused = crate::client::open::<
        alys_stream_protocol::session::Frame,
        alys_stream_protocol::session::Frame,
    >(&channel, "/alys.stream.v1.StreamService/Open");
    assert_eq!(refused.await.err().map(|status| status.code()), Some(tonic::Code::Unimplemented));
    stop(running).await;
}
