//! `health:` as written.

use super::given::{Given, section};
use super::scalars::{Count, Later, Port, Statuses, Text, Time};
use crate::source::yaml::UniqueMap;

section! {
    /// When a replica counts as healthy.
    RawHealth {
        /// GET a path.
        "http" http: RawHttp,
        /// A connection is accepted.
        "tcp" tcp: RawTcp,
        /// The gRPC health service.
        "grpc" grpc: Later,
        /// The image's own HEALTHCHECK.
        "container" container: RawContainer,
        /// It runs this long without a restart.
        "running" running: Time,
        /// Between probes; default 1s.
        "interval" interval: Time,
        /// Of one probe; default 2s.
        "timeout" timeout: Time,
        /// Good answers in a row; default 2.
        "successes" successes: Count,
        /// Bad answers in a row; default 3.
        "failures" failures: Count,
        /// From start to healthy; default 2m.
        "deadline" deadline: Time,
    }
}

section! {
    /// `http:`.
    RawHttp {
        /// Starts with `/`; default `/`.
        "path" path: Text,
        /// Statuses that are good; default 200-399.
        "expect" expect: Statuses,
        /// Another container port.
        "port" port: Port,
        /// The Host header.
        "host" host: Text,
        /// Further headers.
        "headers" headers: UniqueMap<Given<Text>>,
    }
}

section! {
    /// `tcp:`.
    RawTcp {
        /// Another container port.
        "port" port: Port,
    }
}

section! {
    /// `container: {}`.
    RawContainer {}
}
