//! One attempt, from the dial to the end of its stream; every step is told to the machine.

use std::sync::Arc;

use alys_stream_protocol::governance::{CapabilitiesRequest, CapabilitiesResponse};
use tonic::Code;

use super::core::{Core, now};
use super::dial::{Deadlines, Dialed, dial};
use super::error::{LinkCause, LinkError, Step};
use super::governance_client::governance_stream_client::GovernanceStreamClient;
use super::{EndpointParts, plain, sessions};
use crate::connection::Event;
use crate::endpoint::{Dialect, DialectChoice};
use crate::exchange::Exchange;
use crate::session::FEATURE;

/// Largest answer of `GetCapabilities`.
const CAPABILITIES_BYTES_MAX: usize = 64 * 1024;

pub(super) async fn attempt<X: Exchange>(parts: Arc<EndpointParts<X>>, core: Arc<Core>) {
    let begun = now();
    let deadlines = Deadlines {
        per_address: parts.settings.address_timeout,
        in_all: parts.settings.connection.connect_timeout,
    };
    let dialed = match dial(&parts.config, parts.tls.as_ref(), deadlines).await {
        Ok(dialed) => dialed,
        Err(error) => {
            core.failed(&error);
            let (cause, hurry) = (error.to_string(), error.hurry());
            return core.feed(Event::ConnectFailed { cause, hurry });
        }
    };
    core.set_facts(|facts| facts.address = Some(dialed.address.to_string()));
    core.feed(Event::TransportUp);
    let ended = match choose(&parts, &core, &dialed).await {
        Ok(dialect) => {
            core.set_facts(|facts| facts.dialect = Some(dialect));
            match dialect {
                Dialect::Session => sessions::run(&parts, &core, dialed, begun).await,
                Dialect::Plain => plain::run(&parts, &core, dialed, begun).await,
            }
        }
        Err(error) => Err(error),
    };
    core.set_controls(None);
    let error = match ended {
        // We closed it ourselves: the loop reports the shutdown.
        Ok(()) => return,
        Err(error) => error,
    };
    core.failed(&error);
    let (cause, hurry) = (error.to_string(), error.hurry());
    if core.state().is_live() {
        core.feed(Event::Lost { cause, hurry });
    } else {
        core.feed(Event::Refused { cause, hurry });
    }
}

/// What to speak: as configured, as known, or as the peer answers.
async fn choose<X: Exchange>(
    parts: &EndpointParts<X>,
    core: &Core,
    dialed: &Dialed,
) -> Result<Dialect, LinkError> {
    match parts.config.dialect {
        DialectChoice::Session => return Ok(Dialect::Session),
        DialectChoice::Plain => return Ok(Dialect::Plain),
        DialectChoice::Auto => {}
    }
    if let Some(dialect) = core.cached_dialect(parts.settings.dialect_cache) {
        return Ok(dialect);
    }
    let limit = parts.settings.step_timeout;
    let mut client = GovernanceStreamClient::new(dialed.channel.clone())
        .max_decoding_message_size(CAPABILITIES_BYTES_MAX);
    let request = CapabilitiesRequest { node_id: parts.identity.node_id.clone() };
    let answer = tokio::time::timeout(limit, client.get_capabilities(request))
        .await
        .map_err(|_| LinkError::new(Step::Capabilities, LinkCause::TimedOut(limit)))?;
    let dialect = match answer {
        Ok(answer) => offered(answer.get_ref()),
        Err(status) if status.code() == Code::Unimplemented => Dialect::Plain,
        Err(status) => {
            return Err(LinkError::from_status(Step::Capabilities, &status, &dialed.probe));
        }
    };
    core.cache_dialect(Some(dialect));
    Ok(dialect)
}

fn offered(answer: &CapabilitiesResponse) -> Dialect {
    if answer.features.iter().any(|feature| feature == FEATURE) {
        Dialect::Session
    } else {
        Dialect::Plain
    }
}
