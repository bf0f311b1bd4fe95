//! Why a call was refused, as a gRPC status: the code says whether to ask again, the text says why.
//!
//! | refusal | code |
//! |---|---|
//! | a field is wrong, the message is too large, its kind is not known | `InvalidArgument` |
//! | signatures are asked for, and no federation is configured | `FailedPrecondition` |
//! | the buffer or the disk is full | `ResourceExhausted` |
//! | the disk failed: stored or not, send again with the same identifiers | `Internal` |
//! | starting, restarting, stopping | `Unavailable` |

use alys_stream_actor::SendError;
use alys_stream_actor::submit::SubmitError;
use tonic::Status;

/// The status for a refusal.
pub(crate) fn of_send(error: &SendError) -> Status {
    match error {
        SendError::Invalid { source: SubmitError::NoFederation, .. } => {
            Status::failed_precondition(error.to_string())
        }
        SendError::Invalid { .. } => Status::invalid_argument(error.to_string()),
        SendError::TooLarge { .. } | SendError::UnknownKind { .. } => {
            Status::invalid_argument(error.to_string())
        }
        SendError::Backpressure { .. } => Status::resource_exhausted(error.to_string()),
        SendError::Io(_) => Status::internal(error.to_string()),
        SendError::Unavailable => Status::unavailable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn codes_say_whether_to_ask_again() {
        for (error, code) in [
            (SendError::Invalid { index: 0, source: SubmitError::Empty }, Code::InvalidArgument),
            (
                SendError::Invalid { index: 1, source: SubmitError::NoFederation },
                Code::FailedPrecondition,
            ),
            (SendError::Io("disk".to_owned()), Code::Internal),
            (SendError::Unavailable, Code::Unavailable),
        ] {
            let status = of_send(&error);
            assert_eq!(status.code(), code, "{error}");
            assert!(error.to_string().ends_with(status.message()), "{status}");
        }
    }
}
