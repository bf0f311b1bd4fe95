//! Dead letters of what governance pushed, tried once more because an operator says so.

use alys_stream_messaging::dead_letter::DeadLetter;
use alys_stream_messaging::outbox::EndpointId;

use super::super::Delivery;
use super::attempt::Outcome;
use super::{Duty, content};
use crate::collector::Source;
use crate::exchange::decode;

/// Whether a letter is of something that governance pushed, and not of ours.
pub(crate) fn is_pushed(letter: &DeadLetter) -> bool {
    decode(&letter.message.payload)
        .is_ok_and(|(kind, response)| kind == letter.message.kind && content(&response).is_some())
}

impl Delivery {
    /// Has an actor deal with it now. Says why it did not.
    pub(in super::super) async fn try_again(&self, letter: &DeadLetter) -> Result<(), String> {
        let (_, response) = decode(&letter.message.payload)?;
        let content = content(&response).ok_or("no actor deals with it")?;
        // Its endpoint by name: the numbers of endpoints do not outlive a process.
        let name = letter.attempts.first().map(|attempt| attempt.endpoint.as_str());
        let index = self.endpoints.iter().position(|slot| Some(slot.name.as_str()) == name);
        let endpoint = index.and_then(|index| u16::try_from(index).ok()).map(EndpointId);
        let source = endpoint.map_or(Source::Log(letter.log), |it| Source::Plain(it.0));
        let place = Some((letter.log, letter.seq));
        let duty = Duty { content, source, entry: None, place, message: letter.message.clone() };
        match self.deal_with(&duty, 0).await? {
            Outcome::Done => Ok(()),
            Outcome::Kept => Err("more endpoints must say the same".to_owned()),
            Outcome::Unknown => Err("nobody known has signed it".to_owned()),
            Outcome::Later(reason) | Outcome::Never(reason) => Err(reason),
        }
    }
}
