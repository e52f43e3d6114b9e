//! The S3 store of the demo: an existing S3 server, embedded, on a thread of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::thread;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use s3s::S3Result;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tokio::net::TcpListener;

/// Serves the buckets that are folders below `root`, and says where. It ends with the process.
pub(super) fn serve(root: &Path) -> Result<SocketAddr, String> {
    let files = FileSystem::new(root).map_err(|error| format!("the store cannot use its folder: {error:?}"))?;
    let mut builder = S3ServiceBuilder::new(files);
    // Without keys of its own the store answers every signed request with 501: the AWS CLI and boto3 always sign.
    builder.set_auth(SimpleAuth::from_single("demo", "demo"));
    builder.set_access(Unsigned);
    let service = builder.build();
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| error.to_string())?;
    listener.set_nonblocking(true).map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    thread::spawn(move || {
        runtime.block_on(async move {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            while let Ok((stream, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    // A connection that fails is the client's business.
                    let _ended = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
    });
    Ok(address)
}

/// Lets unsigned requests in too: `curl` does not sign. A signature that is there is still verified.
struct Unsigned;

impl S3Access for Unsigned {
    // What `async_trait` makes of `async fn check`.
    fn check<'a, 'b, 'c, 'f>(
        &'a self,
        _context: &'b mut S3AccessContext<'c>,
    ) -> Pin<Box<dyn Future<Output = S3Result<()>> + Send + 'f>>
    where
        'a: 'f,
        'b: 'f,
        'c: 'f,
        Self: 'f,
    {
        Box::pin(async { Ok(()) })
    }
}
