//! The local socket: whose it is, who may call, and that nobody's is taken.
//! Needs root, to have another user call.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "tests; another user is another process"
)]

use std::{
    fs,
    os::{
        fd::AsRawFd as _,
        unix::{
            fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
            net::UnixStream,
            process::CommandExt as _,
        },
    },
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use sluice_ops::unix::{self, BindError, PeerCred};
use tokio::{sync::mpsc, time::timeout};
use tonic::{
    Code, Request, Status,
    service::InterceptorLayer,
    transport::{Channel, Endpoint, Server},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

const SOCKET: &str = "SLUICE_TEST_SOCKET";
const PERMISSIONS: &str = "SLUICE_TEST_PERMISSIONS";
const NOBODY: u32 = 65534;

fn serve(incoming: unix::Incoming) -> mpsc::UnboundedReceiver<PeerCred> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let (_, health) = tonic_health::server::health_reporter();
    let notes = InterceptorLayer::new(move |request: Request<()>| {
        let cred = *request.extensions().get::<PeerCred>().expect("credentials");
        sender.send(cred).map_err(|_| Status::internal("gone"))?;
        unix::require_root(request)
    });
    tokio::spawn(
        Server::builder()
            .layer(notes)
            .add_service(health)
            .serve_with_incoming(incoming),
    );
    receiver
}

async fn call(path: &Path) -> Result<(), Status> {
    let endpoint = Endpoint::from_shared(format!("unix://{}", path.display())).unwrap();
    let channel: Channel = endpoint.connect().await.expect("a connection");
    HealthClient::new(channel)
        .check(HealthCheckRequest::default())
        .await
        .map(drop)
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A path in a folder that is still to be made.
fn fresh(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("a/run/agent.sock")
}

#[tokio::test]
async fn root_calls_and_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let path = fresh(&dir);
    let mut callers = serve(unix::bind(&path).unwrap());
    call(&path).await.unwrap();
    let caller = callers.recv().await.unwrap();
    assert_eq!(caller.uid, 0);
    assert_eq!(caller.pid, i32::try_from(std::process::id()).ok());
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    assert_eq!(mode(&path), 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_is_not_root_is_refused() {
    if let Some(path) = std::env::var_os(SOCKET) {
        let permissions = std::env::var_os(PERMISSIONS).is_some();
        return as_nobody(Path::new(&path), permissions).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = fresh(&dir);
    let mut callers = serve(unix::bind(&path).unwrap());

    // A copy, because the build folder may be closed to others.
    let copy = dir.path().join("caller");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    set_mode(dir.path(), 0o755);
    let run = |more: &[(&str, &str)]| {
        Command::new(&copy)
            .args(["--exact", "a_caller_that_is_not_root_is_refused"])
            .env(SOCKET, &path)
            .envs(more.iter().copied())
            .uid(NOBODY)
            .gid(NOBODY)
            .output()
            .unwrap()
    };
    let kept_out = run(&[(PERMISSIONS, "1")]);
    assert!(kept_out.status.success(), "{kept_out:?}");

    // The permissions gone, the credentials still stand.
    for open in [dir.path().join("a"), dir.path().join("a/run"), path.clone()] {
        set_mode(&open, 0o777);
    }
    let refused = run(&[]);
    assert!(refused.status.success(), "{refused:?}");
    assert_eq!(callers.recv().await.unwrap().uid, NOBODY);
    assert!(callers.try_recv().is_err(), "one call was made");
}

/// The part of the test above that another user plays.
async fn as_nobody(path: &Path, permissions: bool) {
    if permissions {
        let error = UnixStream::connect(path).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
        return;
    }
    let status = call(path).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("uid 65534"), "{status}");
    assert!(status.message().contains("root"), "{status}");
}

#[tokio::test]
async fn a_stale_socket_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = fresh(&dir);
    drop(unix::bind(&path).unwrap());
    assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());
    let _callers = serve(unix::bind(&path).unwrap());
    call(&path).await.unwrap();
}

#[tokio::test]
async fn a_live_socket_is_not_stolen() {
    let dir = tempfile::tempdir().unwrap();
    let path = fresh(&dir);
    let _callers = serve(unix::bind(&path).unwrap());
    let inode = fs::metadata(&path).unwrap().ino();
    let error = unix::bind(&path).unwrap_err();
    assert!(matches!(error, BindError::InUse { .. }), "{error}");
    assert!(error.to_string().contains(path.to_str().unwrap()));
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    call(&path).await.unwrap();
}

#[tokio::test]
async fn a_live_socket_with_a_full_queue_is_not_stolen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    set_mode(dir.path(), 0o700);
    // Never accepts, and has room for two.
    let kind = (AddressFamily::Unix, SockType::Stream);
    let hung = socket(kind.0, kind.1, SockFlag::empty(), None).unwrap();
    bind(hung.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
    listen(&hung, Backlog::new(1).unwrap()).unwrap();
    let waiting = [(); 2].map(|()| UnixStream::connect(&path).unwrap());
    let error = unix::bind(&path).unwrap_err();
    assert!(matches!(error, BindError::InUse { .. }), "{error}");
    drop(waiting);
}

#[tokio::test]
async fn what_is_not_a_socket_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    set_mode(dir.path(), 0o700);
    fs::write(&path, "precious").unwrap();
    let error = unix::bind(&path).unwrap_err();
    assert!(matches!(error, BindError::NotASocket { .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[tokio::test]
async fn a_directory_is_tightened_only_if_it_is_ours_and_empty() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    set_mode(dir.path(), 0o755);
    drop(unix::bind(&path).unwrap());
    assert_eq!(mode(dir.path()), 0o700);

    set_mode(dir.path(), 0o1777);
    let error = unix::bind(&path).unwrap_err();
    assert!(matches!(error, BindError::Shared { .. }), "{error}");
    assert!(error.to_string().contains("1777"), "{error}");
    assert_eq!(mode(dir.path()), 0o1777);

    set_mode(dir.path(), 0o700);
    std::os::unix::fs::chown(dir.path(), Some(NOBODY), None).unwrap();
    let error = unix::bind(&path).unwrap_err();
    assert!(matches!(error, BindError::Owner { .. }), "{error}");
}

#[tokio::test]
async fn a_path_that_is_too_long_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let error = unix::bind(&dir.path().join("x".repeat(200))).unwrap_err();
    assert!(matches!(error, BindError::Io { .. }), "{error}");
}

#[tokio::test]
async fn two_that_start_at_once_do_not_take_each_others_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = fresh(&dir);
    drop(unix::bind(&path).unwrap());
    let runtime = tokio::runtime::Handle::current();
    let bound: Vec<_> = std::thread::scope(|scope| {
        let starting: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let _entered = runtime.enter();
                    unix::bind(&path)
                })
            })
            .collect();
        starting
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let (won, lost): (Vec<_>, Vec<_>) = bound.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 7));
    for error in lost {
        assert!(matches!(error, Err(BindError::InUse { .. })));
    }
}

#[tokio::test]
async fn connections_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let path = fresh(&dir);
    let _callers = serve(unix::bind_with_limit(&path, 2).unwrap());
    let held: Vec<_> = [(); 2].map(|()| UnixStream::connect(&path)).into();
    let blocked = timeout(Duration::from_millis(300), call(&path)).await;
    assert!(blocked.is_err(), "a third got in");
    drop(held);
    timeout(Duration::from_secs(60), call(&path))
        .await
        .unwrap()
        .unwrap();
}
