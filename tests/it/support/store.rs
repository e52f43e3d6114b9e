//! An S3 store in the test's own process: s3s-fs, which checks signatures. The demo has the same.
#![cfg(feature = "demo")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use s3s::S3Result;
use s3s::auth::SimpleAuth;
use s3s::host::{S3Host, VirtualHost};
use s3s::service::S3ServiceBuilder;
use tokio::net::TcpListener;

use super::recorder::on_own_thread;

/// An S3 store on a folder.
#[derive(Debug)]
pub(crate) struct S3Store {
    pub(crate) address: SocketAddr,
    root: PathBuf,
}

impl S3Store {
    pub(crate) const ACCESS_KEY: &str = "test-access-key";
    pub(crate) const SECRET_KEY: &str = "test-secret-key";

    /// Serves `root`, a folder that exists; each bucket is a folder in it. With `domains`, buckets are named by the Host too, whatever its port.
    pub(crate) fn start(root: &Path, domains: &[&str]) -> Self {
        let files = s3s_fs::FileSystem::new(root).expect("is a folder");
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(Self::ACCESS_KEY, Self::SECRET_KEY));
        if !domains.is_empty() {
            builder.set_host(Domains(domains.iter().map(|domain| (*domain).to_owned()).collect()));
        }
        let service = builder.build();
        let address = on_own_thread(async move |listener: TcpListener| {
            while let Ok((stream, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(
                    async move { http1::Builder::new().serve_connection(TokioIo::new(stream), service).await },
                );
            }
        });
        Self { address, root: root.to_owned() }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn create_bucket(&self, bucket: &str) {
        std::fs::create_dir_all(self.root.join(bucket)).expect("the folder can be made");
    }

    /// An object's bytes as they lie on disk; `None` when there is none.
    pub(crate) fn object(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        std::fs::read(self.root.join(bucket).join(key)).ok()
    }
}

/// `BUCKET.domain:port`. s3s' own would need the port that clients use, which is the sidecar's.
struct Domains(Vec<String>);

impl S3Host for Domains {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let mut below =
            self.0.iter().filter_map(|domain| Some((domain, name.strip_suffix(domain)?.strip_suffix('.')?)));
        Ok(match below.next() {
            Some((domain, bucket)) => VirtualHost::new(domain.as_str()).with_bucket(bucket),
            None => VirtualHost::new(name),
        })
    }
}
