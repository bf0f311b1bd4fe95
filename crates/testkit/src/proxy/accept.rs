//! Accepts connections, or does not.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Admission, Counts, Orders, link};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 128;

/// A port that stays ours while nobody listens on it: a socket is bound to it for as long as this
/// lives, so that neither another process nor an outgoing connection takes it.
#[derive(Debug)]
pub(super) struct Place {
    bound: TcpSocket,
}

impl Place {
    pub(super) fn reserve(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { bound: bind(address)? })
    }

    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.bound.local_addr()
    }

    pub(super) fn listen(&self) -> io::Result<TcpListener> {
        bind(self.address()?)?.listen(BACKLOG)
    }
}

/// Two sockets may be bound to one address when both say so and at most one listens.
fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

#[derive(Debug)]
pub(super) struct Acceptor {
    pub(super) place: Place,
    pub(super) listener: Option<TcpListener>,
    pub(super) peer: SocketAddr,
    pub(super) orders: watch::Receiver<Orders>,
    pub(super) obeyed: watch::Sender<u64>,
    pub(super) tally: watch::Sender<Counts>,
}

/// Until nobody can give orders any more, or the port is lost; then every connection ends.
pub(super) async fn run(mut acceptor: Acceptor) {
    let mut links = JoinSet::new();
    loop {
        let orders = *acceptor.orders.borrow_and_update();
        match orders.admission {
            Admission::Refuse => acceptor.listener = None,
            Admission::Pass | Admission::Silent if acceptor.listener.is_none() => {
                let Ok(listener) = acceptor.place.listen() else { return };
                acceptor.listener = Some(listener);
            }
            Admission::Pass | Admission::Silent => {}
        }
        acceptor.obeyed.send_replace(orders.serial);
        tokio::select! {
            biased;
            changed = acceptor.orders.changed() => if changed.is_err() { return },
            Some(_) = links.join_next(), if !links.is_empty() => {}
            accepted = accept(acceptor.listener.as_ref()) => {
                // One that was gone before it was accepted is nobody's business.
                if let Ok((stream, _)) = accepted {
                    links.spawn(link::run(link::Link {
                        is_silent: orders.admission == Admission::Silent,
                        cuts_before: orders.cuts,
                        peer: acceptor.peer,
                        orders: acceptor.orders.clone(),
                        tally: link::Tally::new(acceptor.tally.clone()),
                    }, stream));
                }
            }
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}
