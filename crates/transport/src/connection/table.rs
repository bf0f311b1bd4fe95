//! The table: what each event does in each state. A total `match`, one function per event, each
//! total over the states (T24).

use std::time::{Duration, Instant};

use super::{Action, Connection, Event, Hurry, State};

impl Connection {
    /// Feeds one event. Any work it causes is returned by [`Connection::poll_action`].
    pub fn handle_event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Establish => self.establish(now),
            Event::TransportUp => self.transport_up(now),
            Event::ConnectFailed { cause, hurry } => self.connect_failed(now, cause, hurry),
            Event::HeldBack { why, after } => self.hold_back(now, why, after),
            Event::Accepted => self.accepted(now),
            Event::Refused { cause, hurry } => self.refused(now, cause, hurry),
            Event::StreamOpened => self.stream_opened(now),
            Event::StreamClosed => self.stream_closed(now),
            Event::StreamRestarted => self.stream_restarted(now),
            Event::Alive => self.alive(now, "a heartbeat was answered"),
            Event::Acknowledged => {
                self.backoff.reset();
                self.alive(now, "a message was acknowledged");
            }
            Event::MinorIssues { why } => self.minor_issues(now, why),
            Event::Resolved => self.resolved(now),
            Event::Escalated { why } => self.escalated(now, why),
            Event::Suspended { reason, resume_after } => self.suspend(now, &reason, resume_after),
            Event::Resumed => self.resume(now),
            Event::Lost { cause, hurry } => self.lost(now, cause, hurry),
            Event::Shutdown => self.shut_down(now),
        }
    }

    fn establish(&mut self, now: Instant) {
        match self.state {
            State::Disconnected => self.dial(now, "established"),
            State::Reconnecting { .. } | State::Failed { .. } => {
                self.dial(now, "reconnect was asked for");
            }
            State::Connecting { .. }
            | State::Authenticating { .. }
            | State::Connected
            | State::Streaming
            | State::Healthy { .. }
            | State::Warning
            | State::Critical { .. }
            | State::Suspended { .. } => {}
        }
    }

    fn transport_up(&mut self, now: Instant) {
        match self.state {
            State::Connecting { .. } => {
                let give_up_at = now + self.config.authenticate_timeout;
                self.enter(now, State::Authenticating { give_up_at }, "TCP and TLS are up");
            }
            State::Disconnected
            | State::Authenticating { .. }
            | State::Connected
            | State::Streaming
            | State::Healthy { .. }
            | State::Warning
            | State::Critical { .. }
            | State::Reconnecting { .. }
            | State::Failed { .. }
            | State::Suspended { .. } => {}
        }
    }

    fn connect_failed(&mut self, now: Instant, cause: String, hurry: Hurry) {
        match self.state {
            State::Connecting { .. } => self.fail(now, cause, hurry),
            State::Disconnected
            | State::Authenticating { .. }
            | State::Connected
            | State::Streaming
            | State::Healthy { .. }
            | State::Warning
            | State::Critical { .. }
            | State::Reconnecting { .. }
            | State::Failed { .. }
            | State::Suspended { .. } => {}
        }
    }

    /// T57: neither the backoff, nor the last error, nor whether that is permanent, changes.
    fn hold_back(&mut self, now: Instant, why: String, after: Duration) {
        match self.state {
            State::Connecting { .. } => {
                self.enter(now, State::Failed { retry_at: now + after }, why.clone());
                self.held_back = Some(why);
            }
            State::Disconnected
            | State::Authenticating { .. }
            | State::Connected
            | State::Streaming
            | State::Healthy { .. }
            | State::Warning
            | State::Critical { .. }
            | State::Reconnecting { .. }
            | State::Failed { .. }
            | State::Suspended { .. } => {}
        }
    }

    fn accepted(&mut self, now: Instant) {
        match self.state {
            State::Authenticating { .. } => {
                self.permanent = false;
                self.enter(now, State::Connected, "accepted by the peer");
            }
            State::Disconnected
            | State::Connecting { .. }
            | State::Connected
            | State::Streaming
            | State::Healthy { .. }
            | State::Warning
            | State::Critical { .. }
            | State::Reconnecting { .. }
            | State::Failed { .. }
            | State::Suspended { .. } => {}
        }
    }

    fn refused(&mut self, now: Instant, cause: String, hurry: Hurry) {
        match self.state {
            State::Authenticating { .. } => self.fail(now, cause, hurry),
            State::Disconnected
            | State::Connecting { .. }
            | State::Connected
            | State::Streaming
            | State::Healthy { .. }
            | State::Warning
            | State::Critical { .. }
            | State::Reconnecting { .. }
            | State::Failed { .. }
            | State::Suspended { .. } => {}
        }
    }

    fn stream_opened(&mut self, now: Instant) {
        match self.state {
            State::Connected => self.enter(now, State::Streaming, "stream opened"),
            State::Disconnected
            | State::Connecting { .. }
            | State::Authenticating { .. }
            | State::Streaming
            | State::Healthy { .. }
            | State::Warning
            | State::Critical { .. }
            | State::Reconnecting { .. }
            | State::Failed { .. }
            | State::Suspended { .. } => {}
        }
    }

    fn stream_closed(&mut self, now: Instant) {
        match self.state {
            State::Streaming => self.enter(now, State::Connected, "stream closed politely"),
            State::Healthy { .. } => {
                // The table leads from Healthy to Connected by way of Streaming.
                self.enter(now, State::Streaming, "stream closing politely");
                self.enter(now, State::Connected, "stream closed politely");
            }
            State::Disconnected
            | State::Connecting { .. }
            | State::Authenticating { .. }
            | State::Connected
            | State::Warning
            | State::Critical { .. }
            | State::Reconnecting { .. }
            | State::Failed { .. }
            | State::Suspended { .. } => {}
        }
    }

    fn stream_restarted(&mut self, now: Instant) {
        match self.state {
            State::Healthy { .. } => self.enter(now, State::Streaming, "stream restarted"),
            State::Disconnected
            | State::Connecting { .. }
            | State::Authenticating { .. }
            | State::Connected
            | State::Streaming
            | State::Warning
            | State::Critical { .. }
            | State::Reconnecting { .. }
            | State::Failed { .. }
            | State::Suspended { .. } => {}
        }
    }

    fn alive(&mut self, now: Instant, why: &str) {
        match self.state {
            State::Streaming => {
                let reset_at = Some(now + self.config.healthy_reset);
                self.enter(now, State::Healthy { reset_at }, why);
            }
            State::Disconnected
            | State::Connecting { .. }
            | State::Authenticating { .. }
            | State::Connected
            | State::Healthy { .. }
            | State::Warning
            | State::Critical { .. }
            | State::Reconnecting { .. }
            | State::Failed { .. }
            | State::Suspended { .. } => {}
        }
    }

    fn minor_issues(&mut self, now: Instant, why: String) {
        match self.state {
            State::Healthy { .. } => self.enter(now, State::Warning, why),
            State::Disconnected
            | State::Connecting { .. }
            | State::Authenticating { .. }
            | State::Connected
            | State::Streaming
            | State::Warning
            | State::Critical { .. }
            | State::Reconnecting { .. }
            | State::Failed { .. }
            | State::Suspended { .. } => {}
        }
    }

    fn resolved(&mut self, now: Instant) {
        match self.state {
            State::Warning => {
                let reset_at = Some(now + self.config.healthy_reset);
                self.enter(now, State::Healthy { reset_at }, "no issue any more");
            }
            State::Critical { .. } => {
                self.enter(now, State::Warning, "no critical issue any more");
            }
            State::Disconnected
            | State::Connecting { .. }
            | State::Authenticating { .. }
            | State::Connected
            | State::Streaming
            | State::Healthy { .. }
            | State::Reconnecting { .. }
            | State::Failed { .. }
            | State::Suspended { .. } => {}
        }
    }

    fn escalated(&mut self, now: Instant, why: String) {
        match self.state {
            State::Warning => {
                let give_up_at = now + self.config.critical_max;
                self.enter(now, State::Critical { give_up_at }, why);
            }
            State::Disconnected
            | State::Connecting { .. }
            | State::Authenticating { .. }
            | State::Connected
            | State::Streaming
            | State::Healthy { .. }
            | State::Critical { .. }
            | State::Reconnecting { .. }
            | State::Failed { .. }
            | State::Suspended { .. } => {}
        }
    }

    fn suspend(&mut self, now: Instant, reason: &str, resume_after: Option<Duration>) {
        let resume_at = resume_after.map(|after| now + after);
        let why = format!("governance suspends: {reason}");
        match self.state {
            State::Connected => self.enter(now, State::Suspended { resume_at }, why),
            State::Streaming | State::Healthy { .. } | State::Warning | State::Critical { .. } => {
                self.enter(now, State::Connected, "the stream is parked");
                self.enter(now, State::Suspended { resume_at }, why);
            }
            // Asked again: only the timer moves.
            State::Suspended { .. } => self.state = State::Suspended { resume_at },
            State::Disconnected
            | State::Connecting { .. }
            | State::Authenticating { .. }
            | State::Reconnecting { .. }
            | State::Failed { .. } => {}
        }
    }

    fn resume(&mut self, now: Instant) {
        match self.state {
            State::Suspended { .. } => {
                self.enter(now, State::Connected, "governance resumes");
                self.actions.push_back(Action::Unpark);
            }
            State::Disconnected
            | State::Connecting { .. }
            | State::Authenticating { .. }
            | State::Connected
            | State::Streaming
            | State::Healthy { .. }
            | State::Warning
            | State::Critical { .. }
            | State::Reconnecting { .. }
            | State::Failed { .. } => {}
        }
    }

    fn lost(&mut self, now: Instant, cause: String, hurry: Hurry) {
        match self.state {
            State::Connected
            | State::Streaming
            | State::Healthy { .. }
            | State::Warning
            | State::Suspended { .. } => self.lose(now, cause, hurry),
            State::Critical { .. } => self.reconnect(now, cause, hurry),
            // Not accepted yet, so it has failed rather than been lost.
            State::Connecting { .. } | State::Authenticating { .. } => self.fail(now, cause, hurry),
            State::Disconnected | State::Reconnecting { .. } | State::Failed { .. } => {}
        }
    }

    fn shut_down(&mut self, now: Instant) {
        match self.state {
            State::Disconnected => {}
            State::Connecting { .. }
            | State::Authenticating { .. }
            | State::Connected
            | State::Streaming
            | State::Healthy { .. }
            | State::Warning
            | State::Critical { .. }
            | State::Reconnecting { .. }
            | State::Failed { .. }
            | State::Suspended { .. } => {
                self.actions.push_back(Action::Close);
                self.enter(now, State::Disconnected, "shut down");
            }
        }
    }
}
