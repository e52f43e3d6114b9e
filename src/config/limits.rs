//! Every limit in one place, with its default and the reason for it.

use std::time::Duration;

/// Limits of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Longest request head in bytes, request line included. Default 65,536 (431 above).
    pub header_bytes: usize,
    /// Most header fields. Default 100 (431 above).
    pub header_count: usize,
    /// Longest request target in bytes. Default 16,384 (414 above): S3 presigned URLs reach 4 KiB.
    pub uri_bytes: usize,
    /// Concurrent HTTP/2 streams a connection. Default 100 (RFC 9113, 6.5.2, recommends no less).
    pub concurrent_streams: u32,
    /// Open connections of the listener. Default 10,000.
    pub connections: usize,
    /// Open connections of one workload. Default 1,000.
    pub connections_per_workload: usize,
    /// From accept to the end of the TLS handshake. Default 10 s.
    pub handshake_timeout: Duration,
    /// From the first byte of a request head to its last. Default 10 s (408 above).
    pub header_read_timeout: Duration,
    /// Without a byte in either direction: an idle connection is closed, a stalled body is cut. Default 60 s.
    pub idle_timeout: Duration,
    /// To reach the upstream, its TLS handshake included. Default 2 s (504 above).
    pub connect_timeout: Duration,
    /// From the head of a request to the last byte of its answer. Default 1 h, long enough for a large upload. 0: none.
    pub request_timeout: Duration,
    /// What is under way on a connection that has to end may take so long. Default 30 s.
    pub grace: Duration,
    /// The age at which a connection is asked to end, less up to a tenth at random. Default: none.
    pub connection_age: Option<Duration>,
    /// How long a connection may outlive the certificates that it began with. Default 0 s: not at all.
    pub unsafe_outlive_certificate: Duration,
    /// Longest body that has to be read to know what is asked (DeleteObjects). Default 2 MiB: 1,000 keys of 1,024 bytes, escaped.
    pub judged_body_bytes: usize,
    /// Control frames (SETTINGS, PING, PRIORITY, WINDOW_UPDATE, RST_STREAM) a second on an HTTP/2 connection beyond those its traffic explains. Default 1,000.
    pub control_frames_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: 65_536,
            header_count: 100,
            uri_bytes: 16_384,
            concurrent_streams: 100,
            connections: 10_000,
            connections_per_workload: 1_000,
            handshake_timeout: Duration::from_secs(10),
            header_read_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(3_600),
            grace: Duration::from_secs(30),
            connection_age: None,
            unsafe_outlive_certificate: Duration::ZERO,
            judged_body_bytes: 2 * 1024 * 1024,
            control_frames_per_second: 1_000,
        }
    }
}
