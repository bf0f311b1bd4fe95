//! Which neighbours began anew: each of them is to be told what stands.

use alys_stream_messaging::router::Target;
use tokio::sync::watch;

/// Notices every new life of every neighbour.
#[derive(Debug)]
pub(crate) struct Lives {
    pub(super) bridge: watch::Receiver<u64>,
    pub(super) chain: watch::Receiver<u64>,
    pub(super) network: watch::Receiver<u64>,
    pub(super) storage: watch::Receiver<u64>,
    pub(super) sync: watch::Receiver<u64>,
}

impl Lives {
    /// The next neighbour that begins anew.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: whoever was not given out is given out by the next call.
    pub(crate) async fn next(&mut self) -> Target {
        let Self { bridge, chain, network, storage, sync } = self;
        // Chain and Bridge first: they may have to stand still.
        tokio::select! {
            biased;
            target = anew(chain, Target::Chain) => target,
            target = anew(bridge, Target::Bridge) => target,
            target = anew(network, Target::Network) => target,
            target = anew(storage, Target::Storage) => target,
            target = anew(sync, Target::Sync) => target,
        }
    }
}

async fn anew(lives: &mut watch::Receiver<u64>, target: Target) -> Target {
    match lives.changed().await {
        Ok(()) => target,
        // Nobody can come any more.
        Err(_) => std::future::pending().await,
    }
}
