//! Opening the sockets that the configuration names, or adopting those of another process.
//!
//! Either every socket is open or none: an error closes what was opened before it.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tracing::{info, warn};

use super::unix;
use crate::config;

/// The port in the unix socket's name when there is no TCP listener.
const PORT_DEFAULT: u16 = 6432;

/// Every open listener.
#[derive(Debug)]
pub struct Listeners {
    pub(super) tcp: Vec<Listener<TcpListener>>,
    pub(super) unix: Vec<Listener<UnixListener>>,
    /// Who may send a PROXY header (nobody listed: all); `None`: headers are not expected.
    pub(super) proxies: Option<Arc<[IpNet]>>,
    unix_file: Option<UnixFile>,
}

/// One socket.
#[derive(Debug)]
pub(super) struct Listener<S> {
    /// `tcp:<address>` or `unix:<path>`.
    pub(super) name: String,
    pub(super) socket: S,
}

/// The file of the unix socket, to be removed only while it is still ours.
#[derive(Debug)]
struct UnixFile {
    path: PathBuf,
    device_and_inode: Option<(u64, u64)>,
}

/// Why a listener can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Nothing to listen on.
    #[error("neither proxy.listen nor proxy.unix_socket_dir names anything to listen on")]
    Nothing,
    /// An entry of `proxy.listen` is no address.
    #[error("proxy.listen: \"{address}\" is not host:port: {source}")]
    Address {
        /// As configured.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The address can't be had.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// Address or path.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// `proxy.unix_socket_mode` is no file mode.
    #[error("proxy.unix_socket_mode: \"{0}\" is not an octal file mode such as 0770")]
    Mode(String),
    /// An entry of `proxy.proxy_protocol_from` is no network.
    #[error("proxy.proxy_protocol_from: \"{0}\" is not a network such as 10.0.0.0/8")]
    Network(String),
}

impl Listeners {
    /// Opens every listener of `proxy`. Resolves host names, so it may block.
    pub fn bind(proxy: &config::Proxy) -> Result<Listeners, BindError> {
        Listeners::adopt(Vec::new(), proxy)
    }

    /// The same, taking over those of `inherited` (see [`Listeners::fds`]) that `proxy` names too;
    /// the others are closed.
    pub fn adopt(
        mut inherited: Vec<(String, OwnedFd)>,
        proxy: &config::Proxy,
    ) -> Result<Listeners, BindError> {
        let mut listeners = Listeners {
            tcp: Vec::new(),
            unix: Vec::new(),
            proxies: networks(proxy)?,
            unix_file: None,
        };
        for address in &proxy.listen {
            listeners.open_tcp(address, proxy, &mut inherited)?;
        }
        if !proxy.unix_socket_dir.is_empty() {
            listeners.open_unix(proxy, &mut inherited)?;
        }
        if listeners.tcp.is_empty() && listeners.unix.is_empty() {
            return Err(BindError::Nothing);
        }
        Ok(listeners)
    }

    /// The addresses in fact listened on, TCP only: tells the port where 0 was asked for.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.tcp.iter().filter_map(|listener| listener.socket.local_addr().ok()).collect()
    }

    /// Closes every socket and removes the unix socket's file. After a hand-over drop the value
    /// instead: the file belongs to the new process.
    pub fn close(self) {
        let Some(file) = &self.unix_file else { return };
        if file.device_and_inode == identity(&file.path) && file.device_and_inode.is_some() {
            let _ = std::fs::remove_file(&file.path);
        }
    }

    fn open_tcp(
        &mut self,
        configured: &str,
        proxy: &config::Proxy,
        inherited: &mut Vec<(String, OwnedFd)>,
    ) -> Result<(), BindError> {
        let resolved = resolve(configured)
            .map_err(|source| BindError::Address { address: configured.to_owned(), source })?;
        let mut failed = None;
        let opened_before = self.tcp.len();
        for address in resolved {
            let socket = match take(inherited, &format!("tcp:{address}")).map(Socket::from) {
                Some(socket) => Ok(socket.into()),
                None => bind_tcp(address, backlog(proxy)),
            };
            match socket {
                Ok(socket) => {
                    // The port is another one where 0 was asked for.
                    let address = socket.local_addr().unwrap_or(address);
                    let name = format!("tcp:{address}");
                    info!(%address, "listening");
                    self.tcp.push(Listener { name, socket });
                }
                // A host without IPv6 still resolves localhost to ::1.
                Err(source) if is_absent(&source) => failed = Some((address, source)),
                Err(source) => {
                    return Err(BindError::Bind { address: address.to_string(), source });
                }
            }
        }
        match failed {
            Some((address, source)) if self.tcp.len() == opened_before => {
                Err(BindError::Bind { address: address.to_string(), source })
            }
            Some((address, source)) => {
                warn!(%address, error = %source, "not listening");
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn open_unix(
        &mut self,
        proxy: &config::Proxy,
        inherited: &mut Vec<(String, OwnedFd)>,
    ) -> Result<(), BindError> {
        let mode = u32::from_str_radix(&proxy.unix_socket_mode, 8)
            .ok()
            .filter(|mode| *mode <= 0o777)
            .ok_or_else(|| BindError::Mode(proxy.unix_socket_mode.clone()))?;
        let port = self.addresses().first().map_or(PORT_DEFAULT, SocketAddr::port);
        let path = unix::path(&proxy.unix_socket_dir, port);
        let name = format!("unix:{}", path.display());
        let socket = match take(inherited, &name) {
            Some(fd) => UnixListener::from(fd),
            None => unix::bind(&path, mode, backlog(proxy)).map_err(|source| BindError::Bind {
                address: path.display().to_string(),
                source,
            })?,
        };
        let adopted = socket.set_nonblocking(true);
        adopted.map_err(|source| BindError::Bind { address: name.clone(), source })?;
        info!(path = %path.display(), "listening");
        self.unix.push(Listener { name, socket });
        self.unix_file = Some(UnixFile { device_and_inode: identity(&path), path });
        Ok(())
    }
}

fn backlog(proxy: &config::Proxy) -> i32 {
    i32::try_from(proxy.listen_backlog).unwrap_or(i32::MAX)
}

/// The inherited socket `name`, if it is one that listens.
fn take(inherited: &mut Vec<(String, OwnedFd)>, name: &str) -> Option<OwnedFd> {
    let at = inherited.iter().position(|(known, _)| known == name)?;
    let (_, fd) = inherited.swap_remove(at);
    let socket = SockRef::from(&fd);
    let usable = socket.is_listener().unwrap_or(false) && socket.set_nonblocking(true).is_ok();
    usable.then_some(fd)
}

/// `host:port`; the host `*` stands for every address of this machine, as in `listen_addresses`.
fn resolve(configured: &str) -> io::Result<Vec<SocketAddr>> {
    let Some(port) = configured.strip_prefix("*:") else {
        return Ok(configured.to_socket_addrs()?.collect());
    };
    let v4 = format!("0.0.0.0:{port}");
    let v6 = format!("[::]:{port}");
    Ok(v4.to_socket_addrs()?.chain(v6.to_socket_addrs()?).collect())
}

fn bind_tcp(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for old connections in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `*` opens both families itself.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

/// The machine does not have such an address or family.
fn is_absent(error: &io::Error) -> bool {
    let family = rustix::io::Errno::AFNOSUPPORT.raw_os_error();
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(family)
}

fn networks(proxy: &config::Proxy) -> Result<Option<Arc<[IpNet]>>, BindError> {
    let parse = |text: &String| {
        let address = || text.parse::<std::net::IpAddr>().map(IpNet::from);
        text.parse::<IpNet>().or_else(|_| address()).map_err(|_| BindError::Network(text.clone()))
    };
    let all = proxy.proxy_protocol_from.iter().map(parse).collect::<Result<Arc<[_]>, _>>()?;
    Ok(proxy.proxy_protocol.then_some(all))
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = std::fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}
