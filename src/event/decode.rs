//! From the bytes that Braze wrote to [`SendEvent`](super::SendEvent)s.
