//! Where everything listens: loopback, on given ports or on free ones.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;

use crate::failure::Failure;

/// Where free ports are looked for: below the ports that systems give to outgoing connections (from
/// 32 768 on at the earliest), so that none of those takes one before it is listened on.
const FREE: RangeInclusive<u16> = 10_240..=32_000;

/// How many are tried for each that is needed.
const TRIES_MAX: usize = 1000;

/// How ports are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ports {
    /// Governance nodes from `grpc` on; admin ports from `admin` on, the node's first; the node's
    /// submission port, if it needs one, just below them.
    From {
        /// The first gRPC port.
        grpc: u16,
        /// The first admin port.
        admin: u16,
    },
    /// Whatever is free now. Another process may take one before it is used; it then says so.
    Free,
}

/// What was chosen.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) node: NodePorts,
    pub(super) governance: Vec<GovernancePorts>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NodePorts {
    pub(super) admin: SocketAddr,
    pub(super) submission: SocketAddr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GovernancePorts {
    pub(super) listen: SocketAddr,
    pub(super) admin: SocketAddr,
}

impl Ports {
    pub(super) fn choose(self, governance: u16) -> Result<Chosen, Failure> {
        match self {
            Self::From { grpc, admin } => given(grpc, admin, governance),
            Self::Free => free(governance),
        }
    }
}

fn given(grpc: u16, admin: u16, governance: u16) -> Result<Chosen, Failure> {
    let at = |base: u16, offset: u16| {
        base.checked_add(offset)
            .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
            .ok_or_else(|| {
                Failure::usage(format_args!("{governance} ports from {base} on go beyond 65535"))
            })
    };
    let below = admin.checked_sub(1).filter(|port| *port > 0);
    let submission = below.ok_or_else(|| Failure::usage("--admin-port: at least 2 is needed"))?;
    let pair =
        |index| Ok(GovernancePorts { listen: at(grpc, index)?, admin: at(admin, index + 1)? });
    Ok(Chosen {
        node: NodePorts { admin: at(admin, 0)?, submission: at(submission, 0)? },
        governance: (0..governance).map(pair).collect::<Result<_, Failure>>()?,
    })
}

fn free(governance: u16) -> Result<Chosen, Failure> {
    // All of them are held until the last is known, so that no two are the same.
    let mut held = Vec::new();
    let mut take = || -> Result<SocketAddr, Failure> {
        for _ in 0..TRIES_MAX {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, fastrand::u16(FREE)));
            if let Ok(listener) = TcpListener::bind(address) {
                held.push(listener);
                return Ok(address);
            }
        }
        let (first, last) = (FREE.start(), FREE.end());
        Err(Failure::unavailable(format_args!(
            "no free port from {first} to {last} on 127.0.0.1 (choose them with --port and \
             --admin-port)"
        )))
    };
    let node = NodePorts { admin: take()?, submission: take()? };
    let governance = (0..governance)
        .map(|_| Ok(GovernancePorts { listen: take()?, admin: take()? }))
        .collect::<Result<_, Failure>>()?;
    Ok(Chosen { node, governance })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn given_ports_are_in_order() {
        let chosen = Ports::From { grpc: 50_051, admin: 9600 }.choose(2).unwrap();
        assert_eq!(chosen.node.admin.port(), 9600);
        let ports: Vec<_> =
            chosen.governance.iter().map(|at| (at.listen.port(), at.admin.port())).collect();
        assert_eq!(ports, [(50_051, 9601), (50_052, 9602)]);
    }

    #[test]
    fn ports_end_at_65535() {
        assert!(Ports::From { grpc: 65_535, admin: 9600 }.choose(2).is_err());
    }

    #[test]
    fn free_ports_differ() {
        let chosen = Ports::Free.choose(3).unwrap();
        let mut ports: BTreeSet<_> =
            chosen.governance.iter().flat_map(|at| [at.listen, at.admin]).collect();
        ports.extend([chosen.node.admin, chosen.node.submission]);
        assert_eq!(ports.len(), 8);
        assert!(ports.iter().all(|at| FREE.contains(&at.port())), "{ports:?}");
    }
}
