//! Which brackets are open while a value of any depth is passed over.

/// The kind of every open bracket, one bit each.
#[derive(Debug, Default)]
pub(super) struct Nesting {
    /// The innermost 64 levels since the last spill; the lowest bit is the innermost.
    innermost: u64,
    depth: usize,
    spilled: Vec<u64>,
}

impl Nesting {
    pub(super) fn clear(&mut self) {
        self.depth = 0;
        self.spilled.clear();
    }

    #[inline]
    pub(super) fn push(&mut self, object: bool) {
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.spilled.push(self.innermost);
        }
        self.innermost = self.innermost << 1 | u64::from(object);
        self.depth += 1;
    }

    #[inline]
    pub(super) const fn in_object(&self) -> bool {
        self.innermost & 1 == 1
    }

    /// Returns whether that was the outermost.
    #[inline]
    pub(super) fn pop(&mut self) -> bool {
        self.innermost >>= 1;
        self.depth -= 1;
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.innermost = self.spilled.pop().unwrap_or_default();
        }
        self.depth == 0
    }
}
