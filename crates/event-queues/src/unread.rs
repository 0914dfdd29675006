//! What a run that ends has not read to its end: it makes the run fail, once everything else was counted.

/// How many files or objects, and why the first of them.
#[derive(Debug)]
pub(crate) struct Unread {
    /// What is counted: one of them.
    what: &'static str,
    count: u64,
    first: String,
}

impl Unread {
    pub(crate) const fn new(what: &'static str) -> Self {
        Self { what, count: 0, first: String::new() }
    }

    /// Adds one, with its name and why.
    pub(crate) fn add(&mut self, problem: String) {
        self.count += 1;
        if self.count == 1 {
            self.first = problem;
        }
    }

    /// # Errors
    /// When there is any.
    pub(crate) fn ensure_none(&self) -> Result<(), String> {
        let Self { what, count, first } = self;
        match count {
            0 => Ok(()),
            1 => Err(format!("one {what} was not read to its end, and all others were counted: {first}")),
            _ => Err(format!(
                "{count} {what}s were not read to their end (each is told above), and all others were counted; the first: \
                 {first}"
            )),
        }
    }
}
