//! `braze-datadog top`: what the page shows, in a terminal. It asks a running forwarder's admin port every few seconds,
//! on this machine or another one, and needs nothing else of it.
//!
//! [`told`] is what the port says, [`view`] what somebody looks at and what keys do, [`draw`] how that is drawn;
//! all three are pure. [`session`] is the terminal and the loop, `fetch` the requests.

pub mod draw;
mod fetch;
pub mod session;
pub mod told;
pub mod view;
