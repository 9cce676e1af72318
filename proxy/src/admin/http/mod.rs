//! The admin HTTP: health, metrics and the JSON API that `pgherd ctl` speaks.
//!
//! [`access`] decides who may ask, [`api`] answers, [`bounded`] bounds connections. What is served
//! stands in `openapi.json`; a test holds the two together.

mod access;
mod api;
mod bounded;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpListener;

use crate::hub::Hub;
use access::Access;
use bounded::Bounded;

/// The API's description.
const OPENAPI: &str = include_str!("../openapi.json");

/// Serves `admin.listen` until the process stops; returns at once when it is empty.
/// It refuses to listen beyond loopback without a token. Not cancel safe.
pub async fn serve(hub: Arc<Hub>) -> io::Result<()> {
    let (listen, token_file) = {
        let config = hub.config.load();
        (config.admin.listen.clone(), config.admin.token_file.clone())
    };
    if listen.is_empty() {
        return Ok(());
    }
    let token = match token_file.as_str() {
        "" => None,
        file => Some(super::token::read(Path::new(file))?),
    };
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host(&listen).await?.collect();
    if token.is_none() && addresses.iter().any(|a| !a.ip().is_loopback()) {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "admin.listen = \"{listen}\" is not a loopback address: set admin.token_file, so \
                 that not everybody can stop this proxy"
            ),
        ));
    }
    let listener = TcpListener::bind(addresses.as_slice()).await?;
    serve_on(hub, listener, Access::new(token)).await
}

/// Serves `listener`. Not cancel safe.
async fn serve_on(hub: Arc<Hub>, listener: TcpListener, access: Access) -> io::Result<()> {
    let address = listener.local_addr()?;
    tracing::info!(%address, "admin HTTP listens");
    let stopping = hub.stopping.clone();
    axum::serve(Bounded::new(listener), api::router(hub, Arc::new(access)))
        .with_graceful_shutdown(stopping.cancelled_owned())
        .await
}

#[cfg(test)]
mod tests;
