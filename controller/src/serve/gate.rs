//! What a caller without a certificate may reach: the service that it gets one
//! from, and health.

use std::{
    future::{Ready, ready},
    task::{Context, Poll},
    time::SystemTime,
};

use futures_util::future::Either;
use sluice_mtls::Caller;
use sluice_proto::identity::v1::identity_service_server::SERVICE_NAME as IDENTITY;
use tonic::{Status, body::Body};
use tower::{Layer, Service};

const HEALTH: &str = "grpc.health.v1.Health";

/// In front of every service, so that none can forget it.
pub(super) fn layer() -> Gate<()> {
    Gate { inner: () }
}

/// As a layer with nothing behind it, as a service with the services.
#[derive(Clone, Debug)]
pub(super) struct Gate<S> {
    inner: S,
}

impl<S> Layer<S> for Gate<()> {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate { inner }
    }
}

impl<S, B> Service<http::Request<B>> for Gate<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<Ready<Result<S::Response, S::Error>>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        match may_pass(&request) {
            Ok(()) => Either::Right(self.inner.call(request)),
            Err(status) => Either::Left(ready(Ok(status.into_http()))),
        }
    }
}

fn may_pass<B>(request: &http::Request<B>) -> Result<(), Status> {
    if is_for_everybody(request.uri().path()) {
        return Ok(());
    }
    let caller = request.extensions().get::<Caller>();
    let caller = caller.ok_or_else(|| Status::internal("the connection has no caller"))?;
    match caller.peer(SystemTime::now()) {
        Ok(_) => Ok(()),
        Err(stranger) => Err(Status::unauthenticated(stranger.to_string())),
    }
}

fn is_for_everybody(path: &str) -> bool {
    let mut parts = path.split('/');
    parts.next() == Some("") && matches!(parts.next(), Some(IDENTITY | HEALTH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_services_are_for_everybody() {
        for open in [
            "/sluice.identity.v1.IdentityService/IssueNodeCertificate",
            "/grpc.health.v1.Health/Check",
        ] {
            assert!(is_for_everybody(open), "{open}");
        }
        for closed in [
            "",
            "/",
            "/sluice.capture.v1.CaptureDiscoveryService/StreamCaptureState",
            "/sluice.identity.v1.IdentityServiceX/IssueNodeCertificate",
            "//sluice.identity.v1.IdentityService/IssueNodeCertificate",
            "grpc.health.v1.Health/Check",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        ] {
            assert!(!is_for_everybody(closed), "{closed}");
        }
    }

    #[test]
    fn without_a_caller_nothing_else_is_reached() {
        let request = http::Request::builder().uri("/a.b/C").body(()).unwrap();
        assert!(may_pass(&request).is_err());
    }
}
