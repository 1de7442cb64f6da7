//! Listeners: loopback TCP and the control socket.

use std::fs::Permissions;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use axum::extract::{Extension, Request};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use super::access::is_loopback_host;
use super::answer::Failure;

/// Answers under way get this long at the end; streams would never end by themselves.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why a listener could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Beyond the loopback everybody can read.
    #[error(
        "will not listen on {0}, which others can reach\nhint: use 127.0.0.1 with your nginx in front, or say --insecure"
    )]
    NotLoopback(SocketAddr),
    /// The address is taken or not ours.
    #[error(
        "could not listen on {addr}: {why}\nhint: is another controller running? `listen:` in holdfast.yaml chooses another address"
    )]
    Tcp {
        /// As asked.
        addr: SocketAddr,
        /// The system's word.
        why: io::Error,
    },
    /// The socket cannot be made there.
    #[error("could not listen on {}: {why}\nhint: `stateDir` must exist, be writable, and its path be shorter than 90 characters", path.display())]
    Unix {
        /// As asked.
        path: PathBuf,
        /// The system's word.
        why: io::Error,
    },
    /// It broke while serving.
    #[error("could not go on serving: {0}")]
    Broken(io::Error),
}

/// Opens `addr`; anything but a loopback address only with `insecure`.
///
/// # Errors
/// When it is not a loopback address, or cannot be had.
pub async fn bind_tcp(addr: SocketAddr, insecure: bool) -> Result<TcpListener, ServeError> {
    if !addr.ip().is_loopback() && !insecure {
        return Err(ServeError::NotLoopback(addr));
    }
    TcpListener::bind(addr).await.map_err(|why| ServeError::Tcp { addr, why })
}

/// Opens `addr` and serves until `shutdown`.
///
/// # Errors
/// As [`bind_tcp`], and when it breaks.
pub async fn serve_tcp(
    addr: SocketAddr,
    insecure: bool,
    router: Router,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    serve_listener(bind_tcp(addr, insecure).await?, router, shutdown).await
}

/// Serves on an open listener until `shutdown`. On the loopback, requests for other host names are refused.
///
/// # Errors
/// When it breaks.
pub async fn serve_listener(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let loopback = listener.local_addr().map_err(ServeError::Broken)?.ip().is_loopback();
    let router = router.layer(Extension(shutdown.clone()));
    let router = if loopback { router.layer(middleware::from_fn(own_name_only)) } else { router };
    let serving = axum::serve(listener, router).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    until(serving.into_future(), &shutdown).await
}

/// Serves on the socket `path` (mode 0600) until `shutdown`; what is left of an earlier run is replaced.
///
/// # Errors
/// When the socket cannot be made, or breaks.
pub async fn serve_unix(path: &Path, router: Router, shutdown: CancellationToken) -> Result<(), ServeError> {
    let failed = |why| ServeError::Unix { path: path.to_owned(), why };
    let listener = bind_unix(path).map_err(failed)?;
    let router = router.layer(Extension(shutdown.clone()));
    let serving = axum::serve(listener, router).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let end = until(serving.into_future(), &shutdown).await;
    // Gone already is as good.
    let _ = std::fs::remove_file(path);
    end
}

/// Made beside its place and moved there: nobody can open it before its mode is set, and a stale one is replaced whole.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    if std::fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket()) {
        return Err(io::Error::other("something that is not a socket is there"));
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    match std::fs::remove_file(&beside) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
        _ => {}
    }
    let listener = UnixListener::bind(&beside)?;
    std::fs::set_permissions(&beside, Permissions::from_mode(0o600))?;
    std::fs::rename(&beside, path)?;
    Ok(listener)
}

/// Serves to the end, at most [`FAREWELL`] past `shutdown`.
async fn until(serving: impl Future<Output = io::Result<()>>, shutdown: &CancellationToken) -> Result<(), ServeError> {
    let farewell = async {
        shutdown.cancelled().await;
        tokio::time::sleep(FAREWELL).await;
    };
    tokio::select! {
        end = serving => end.map_err(ServeError::Broken),
        () = farewell => Ok(()),
    }
}

async fn own_name_only(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or_default());
    // Browsers always send one; a bare health check need not.
    if host.is_none_or(is_loopback_host) {
        return next.run(request).await;
    }
    let hint = "use 127.0.0.1 or localhost; a proxy in front must send `Host: 127.0.0.1`";
    Failure::new(StatusCode::MISDIRECTED_REQUEST, "this host name is not answered to", hint).into_response()
}
