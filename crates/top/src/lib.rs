//! Shows a forwarder's admin port in a terminal.
//!
//! [`TopState`] is the state of the view and its reaction to keys, [`draw`] draws it; both are pure. [`run`] is the terminal
//! and the loop.
//!
//! ```
//! use admin_api::Status;
//! use ratatui::{Terminal, backend::TestBackend};
//! use top::{Paint, TopState, draw};
//!
//! let mut state = TopState::new("http://127.0.0.1:8081");
//! let answer = r#"{"version": "1.2.3", "headline": {"state": "flowing", "words": "Sends flow: 5 a second"}}"#;
//! state.answered(Ok(serde_json::from_str::<Status>(answer)?));
//!
//! let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
//! terminal.draw(|frame| draw(frame, &state, Paint { has_colours: false })).unwrap();
//! assert!(terminal.backend().to_string().contains("✓ Sends flow: 5 a second"));
//! # Ok::<(), serde_json::Error>(())
//! ```

mod cells;
mod draw;
mod search_results;
mod state;
mod table;
mod terminal;
mod time_zone;

pub use self::draw::{Paint, draw};
pub use self::state::{KeyEffect, Pane, Sort, TopState};
pub use self::terminal::{TopError, run};
