//! Files of events, read in place.
