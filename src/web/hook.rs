//! `POST /hooks/git`: the host of the repository says that it moved. Only the signature of the body counts: what it
//! says is never looked at, for all it can say is "look again".

mod signature;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::body::{Body, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use futures_util::StreamExt as _;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::App;
use super::answer::{Done, Failure};
use crate::model::secret::Secret;
use crate::model::snapshot::Why;
use signature::Key;

/// The most that is read of a body: what GitHub sends at most, and more than the others do.
const CAP: u64 = 25 * 1024 * 1024;

/// A body has to be there by then: GitHub, GitLab and Bitbucket wait no longer for the answer either.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bodies that are read at the same time.
const READERS: usize = 8;

/// Deliveries that are read at once after a silence, and each second from then on. A busy monorepo sends a few a
/// second; what is refused costs nothing but the time to the next poll.
const BURST: f64 = 50.0;
const EACH_SECOND: f64 = 20.0;

/// Seconds until a refused delivery may come again.
const LATER: u32 = 1;

/// Who may say that the repository moved, and how often.
#[derive(Debug)]
pub struct Hook {
    key: Key,
    bucket: Mutex<Bucket>,
    readers: Semaphore,
}

impl Hook {
    /// For hosts that know `secret`.
    ///
    /// # Errors
    /// When it is empty, or is a damaged signing token of GitLab.
    pub fn new(secret: &Secret<String>) -> Result<Self, Why> {
        let bucket = Mutex::new(Bucket { left: BURST, at: Instant::now() });
        Ok(Self { key: Key::new(secret)?, bucket, readers: Semaphore::new(READERS) })
    }

    /// Whether a delivery is from who knows the secret. What costs nothing to refuse is refused first: it takes
    /// nothing from those that are signed.
    async fn check(&self, headers: &HeaderMap, body: Body) -> Result<(), Failure> {
        let mut proof = self.key.proof(headers)?;
        if body.size_hint().lower() > CAP {
            return Err(too_big());
        }
        let Ok(_reading) = self.readers.try_acquire() else {
            return Err(
                Failure::new(StatusCode::SERVICE_UNAVAILABLE, "too many deliveries at once", POLLED).later(LATER)
            );
        };
        let reading = async {
            let (mut chunks, mut read) = (body.into_data_stream(), 0);
            while let Some(chunk) = chunks.next().await {
                let chunk = chunk.map_err(|_| {
                    Failure::new(StatusCode::BAD_REQUEST, "the body ended before its end", "send it again")
                })?;
                read += chunk.len() as u64;
                if read > CAP {
                    return Err(too_big());
                }
                proof.update(&chunk);
            }
            Ok(())
        };
        tokio::time::timeout(PATIENCE, reading).await.map_err(|_| {
            let what = format!("the body was not there within {} s", PATIENCE.as_secs());
            Failure::new(StatusCode::REQUEST_TIMEOUT, what, "send it again")
        })??;
        proof.holds()?;
        // Last, so that whoever does not know the secret takes nothing from those who do.
        if self.bucket.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now()) {
            return Ok(());
        }
        let what = "too many deliveries in a short time";
        Err(Failure::new(StatusCode::TOO_MANY_REQUESTS, what, POLLED).later(LATER))
    }
}

const POLLED: &str = "nothing is lost: the repository is polled too (`git.interval`)";

fn too_big() -> Failure {
    let what = format!("the body is longer than {} MiB", CAP / 1024 / 1024);
    Failure::new(StatusCode::PAYLOAD_TOO_LARGE, what, "send push events only")
}

pub(super) async fn git(State(app): State<App>, request: Request) -> Result<(StatusCode, Json<Done>), Failure> {
    let Some(hook) = &app.hook else {
        return Err(Failure::not_found(
            "webhooks are not taken here",
            "name a file with a secret as `git.webhookSecretFile` in holdfast.yaml; they come over HTTP (`listen`)",
        ));
    };
    let (head, body) = request.into_parts();
    hook.check(&head.headers, body).await?;
    app.handle.look_again();
    tracing::debug!("holdfast  a webhook says that the repository moved");
    Ok((StatusCode::ACCEPTED, Json(Done::new("the repository is looked at now"))))
}

/// A token bucket.
#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn take(&mut self, now: Instant) -> bool {
        let passed = now.duration_since(self.at).as_secs_f64();
        self.at = now;
        self.left = passed.mul_add(EACH_SECOND, self.left).min(BURST);
        let there = self.left >= 1.0;
        if there {
            self.left -= 1.0;
        }
        there
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use axum::http::HeaderValue;
    use futures_util::stream;

    use super::*;

    fn hook() -> Hook {
        Hook::new(&Secret::new("s3cret".into())).unwrap()
    }

    fn shown() -> HeaderMap {
        HeaderMap::from_iter([("x-gitlab-token".parse().unwrap(), HeaderValue::from_static("s3cret"))])
    }

    async fn status(hook: &Hook, body: Body) -> StatusCode {
        hook.check(&shown(), body).await.map_or_else(|failure| failure.status(), |()| StatusCode::ACCEPTED)
    }

    fn trickle(chunk: &'static [u8], pause: Duration) -> Body {
        Body::from_stream(stream::unfold((), move |()| async move {
            tokio::time::sleep(pause).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(chunk)), ()))
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_given_up_and_its_place_is_free_again() {
        let hook = hook();
        let began = Instant::now();
        for body in [Body::from_stream(stream::pending::<std::io::Result<Bytes>>()), trickle(b"x", PATIENCE / 100)] {
            assert_eq!(status(&hook, body).await, StatusCode::REQUEST_TIMEOUT);
        }
        assert_eq!(began.elapsed().as_secs(), 2 * PATIENCE.as_secs());
        assert_eq!(hook.readers.available_permits(), READERS);
        assert_eq!(status(&hook, Body::from("{}")).await, StatusCode::ACCEPTED);
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_bodies_are_read_at_once() {
        let hook = std::sync::Arc::new(hook());
        let pending = || Body::from_stream(stream::pending::<std::io::Result<Bytes>>());
        let slow: Vec<_> = (0..READERS)
            .map(|_| {
                let (hook, body) = (std::sync::Arc::clone(&hook), pending());
                tokio::spawn(async move { status(&hook, body).await })
            })
            .collect();
        while hook.readers.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(status(&hook, Body::from("{}")).await, StatusCode::SERVICE_UNAVAILABLE);
        for slow in slow {
            assert_eq!(slow.await.unwrap(), StatusCode::REQUEST_TIMEOUT);
        }
        assert_eq!(status(&hook, Body::from("{}")).await, StatusCode::ACCEPTED);
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_then_twenty_a_second_and_what_is_not_signed_costs_none() {
        let hook = hook();
        let unsigned = HeaderMap::new();
        let forged = HeaderValue::from_str(&format!("sha256={}", "0".repeat(64))).unwrap();
        let forged = HeaderMap::from_iter([("x-hub-signature-256".parse().unwrap(), forged)]);
        for _ in 0..1000 {
            assert!(hook.check(&unsigned, Body::empty()).await.is_err());
            assert!(hook.check(&forged, Body::from("{}")).await.is_err());
        }
        let mut passed = 0;
        for _ in 0..1000 {
            passed += u32::from(status(&hook, Body::from("{}")).await == StatusCode::ACCEPTED);
        }
        assert_eq!(passed, 50);
        tokio::time::advance(Duration::from_millis(1010)).await;
        for _ in 0..1000 {
            passed += u32::from(status(&hook, Body::from("{}")).await == StatusCode::ACCEPTED);
        }
        assert_eq!(passed, 70);
        tokio::time::advance(Duration::from_secs(3600)).await;
        for _ in 0..1000 {
            passed += u32::from(status(&hook, Body::from("{}")).await == StatusCode::ACCEPTED);
        }
        assert_eq!(passed, 120, "a long silence saves up no more than one burst");
    }

    #[tokio::test(start_paused = true)]
    async fn the_cap_is_kept_to_the_byte() {
        const PIECE: usize = 64 * 1024;
        static PIECES: [u8; PIECE] = [0; PIECE];
        let stream_of = |bytes: usize| {
            let lengths = (0..bytes.div_ceil(PIECE)).map(move |n| PIECE.min(bytes - n * PIECE));
            let chunks = lengths.map(|length| Ok::<_, std::io::Error>(Bytes::from_static(&PIECES[..length])));
            Body::from_stream(stream::iter(chunks))
        };
        let cap = usize::try_from(CAP).unwrap();
        assert_eq!(status(&hook(), stream_of(cap)).await, StatusCode::ACCEPTED);
        assert_eq!(status(&hook(), stream_of(cap + 1)).await, StatusCode::PAYLOAD_TOO_LARGE);
    }
}
