//! The two ways to reach the tools: a request at a time over HTTP, and a stream of bytes.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use http_body_util::combinators::BoxBody;
use rmcp::RoleServer;
use rmcp::service::{ServerInitializeError, serve_server_with_ct};
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::host::Host;
use crate::service::Tools;

/// The largest message, bytes: room for a file that somebody writes in one piece, and no more.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Answers one request of Streamable HTTP: with JSON, or with an event stream once there is progress to tell. There are no sessions, so
/// that any instance can answer any request.
///
/// The caller has let the request in: who may come is not asked here, nor from which page (`Origin`) or by which name (`Host`).
/// It ends with `stop`, and a call ends with its caller, unless it has begun to write.
pub async fn answer<H: Host>(
    tools: Tools<H>,
    request: Request<Full<Bytes>>,
    stop: CancellationToken,
) -> Response<BoxBody<Bytes, Infallible>> {
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_max_request_body_bytes(MESSAGE_BYTES_MAX)
        .with_cancellation_token(stop)
        .disable_allowed_hosts();
    let service =
        StreamableHttpService::new(move || Ok(tools.clone()), Arc::new(NeverSessionManager::default()), config);
    service.handle(request).await
}

/// Serves one client over bytes (a message per line), until it hangs up or `stop`. Fails with a sentence if it never began.
pub async fn serve_stream<H: Host>(
    tools: Tools<H>,
    read: impl AsyncRead + Send + Unpin + 'static,
    write: impl AsyncWrite + Send + Unpin + 'static,
    stop: CancellationToken,
) -> Result<(), String> {
    let transport = AsyncRwTransport::<RoleServer, _, _>::new(read, write).with_max_line_length(MESSAGE_BYTES_MAX);
    // The library cancels the token that it is given when the connection ends: that one must not be the caller's.
    let ended = stop.child_token();
    let _ending = ended.clone().drop_guard();
    let begun = serve_server_with_ct(tools.until(ended.clone()), transport, ended).await;
    let running = match begun {
        Ok(running) => running,
        // It hung up without a word: a client may look whether the command is there.
        Err(ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
        Err(error) => return Err(format!("the client did not begin as the protocol demands: {error}")),
    };
    match running.waiting().await {
        Ok(_ended) => Ok(()),
        Err(error) => Err(format!("the connection broke: {error}")),
    }
}
