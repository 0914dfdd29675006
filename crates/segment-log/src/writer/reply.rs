//! The way back to whoever appends.

use std::any::Any;

use tokio::sync::oneshot;

use crate::AppendError;

/// One append that waits for its answer.
#[derive(Debug)]
pub(crate) struct AppendReply {
    /// Kept while the frame waits, whether or not its caller still does.
    pub(crate) held: Option<Box<dyn Any + Send>>,
    pub(crate) sender: oneshot::Sender<Result<(), AppendError>>,
}

impl AppendReply {
    /// Whether the caller has given up.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Lets go of what was held, and answers.
    pub(super) fn send(self, outcome: Result<(), AppendError>) {
        drop(self.held);
        // The caller may be gone.
        let _gone = self.sender.send(outcome);
    }
}
