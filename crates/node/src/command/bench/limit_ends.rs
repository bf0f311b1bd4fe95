//! The two ends of the limit, each in a process of its own.

use bytes::Bytes;
use tokio::time::Instant;

use super::end::{self, Order, Orders, Stat};
use super::limit;
use super::limit::far::FarEnd;
use super::limit::near::NearEnd;
use super::load::{self, Link, Load, Loaded};
use super::pace::{self, Acknowledges};
use crate::failure::Failure;

/// Runs the end that stores and acknowledges, until the parent has no more orders.
///
/// # Errors
///
/// When it cannot start, or an order is not for it.
pub(super) async fn far(args: limit::Args) -> Result<(), Failure> {
    let far = FarEnd::start(&args).await?;
    let mut orders = Orders::begin()?;
    while let Some(order) = orders.next().await {
        match order {
            Order::Stat if far.is_serving() => {
                end::answer(&Stat { syncs: far.syncs(), ..Stat::default() })?;
            }
            other @ (Order::Load(_)
            | Order::Pace(_)
            | Order::Fill { .. }
            | Order::Blast(_)
            | Order::Drain
            | Order::AwaitUp { .. }
            | Order::Strike { .. }
            | Order::Heard
            | Order::Stat) => return Err(end::unknown(&other)),
        }
    }
    Ok(())
}

/// Runs the end that accepts and sends, until the parent has no more orders.
///
/// # Errors
///
/// When it cannot start, or an order does not succeed.
pub(super) async fn near(args: limit::Args) -> Result<(), Failure> {
    let near = NearEnd::start(&args).await?;
    let mut orders = Orders::begin()?;
    while let Some(order) = orders.next().await {
        match order {
            Order::Load(load) => end::answer(&load::run(&near, &load).await?)?,
            Order::Pace(pace) => end::answer(&pace::run(&near, &pace).await?)?,
            Order::Blast(load) => end::answer(&blast(&near, &load).await?)?,
            Order::Stat => {
                let owed = near.owed();
                end::answer(&Stat { syncs: near.syncs(), owed, ..Stat::default() })?;
            }
            other @ (Order::Fill { .. }
            | Order::Drain
            | Order::AwaitUp { .. }
            | Order::Strike { .. }
            | Order::Heard) => return Err(end::unknown(&other)),
        }
    }
    Ok(())
}

/// Offers batches, as many at a time as the window allows.
async fn blast(near: &NearEnd, load: &Load) -> Result<Loaded, Failure> {
    let payload = vec![0x5a; load.payload];
    let started = Instant::now();
    let (mut messages, mut acked) = (0, near.acked());
    while started.elapsed().as_millis() < u128::from(load.millis) {
        let payloads = (0..load.together).map(|_| Bytes::copy_from_slice(&payload)).collect();
        near.send(payloads).await;
        messages += u64::try_from(load.together).unwrap_or(0);
        while near.owed() > load.window {
            acked.changed().await.map_err(|_| Failure::unavailable("the bare stream ended"))?;
        }
    }
    load::acknowledged(near).await?;
    Ok(Loaded { messages, seconds: started.elapsed().as_secs_f64() })
}

impl Link for NearEnd {
    async fn send(&self, payloads: Vec<Bytes>) -> Result<(), Failure> {
        Self::send(self, payloads).await;
        Ok(())
    }

    fn owed(&self) -> u64 {
        Self::owed(self)
    }
}

impl Acknowledges for NearEnd {
    async fn through(&self, payload: Bytes) -> Result<(), Failure> {
        let end = Self::send(self, vec![payload]).await;
        let mut acked = self.acked();
        let acked = acked.wait_for(|acked| *acked >= end).await;
        acked.map(drop).map_err(|_| Failure::unavailable("the bare stream ended"))
    }
}
