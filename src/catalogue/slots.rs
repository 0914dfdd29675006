//! Values that keep their number while others come and go.

/// Where a value lies.
pub(super) type Slot = u32;

/// Values by slot. The slot of one that is taken out goes to the next one that comes.
#[derive(Debug)]
pub(super) struct Slots<T> {
    all: Vec<Option<T>>,
    free: Vec<Slot>,
}

impl<T> Slots<T> {
    pub(super) const fn new() -> Self {
        Self { all: Vec::new(), free: Vec::new() }
    }

    pub(super) fn insert(&mut self, value: T) -> Slot {
        if let Some(slot) = self.free.pop() {
            self.all[slot as usize] = Some(value);
            return slot;
        }
        self.all.push(Some(value));
        // The bounds of a catalogue are far below 2^32.
        Slot::try_from(self.all.len() - 1).unwrap_or(Slot::MAX)
    }

    pub(super) fn remove(&mut self, slot: Slot) -> Option<T> {
        let value = self.all.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        Some(value)
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&T> {
        self.all.get(slot as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        self.all.get_mut(slot as usize)?.as_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &T)> {
        (0..).zip(&self.all).filter_map(|(slot, value)| Some((slot, value.as_ref()?)))
    }

    pub(super) fn len(&self) -> usize {
        self.all.len() - self.free.len()
    }
}
