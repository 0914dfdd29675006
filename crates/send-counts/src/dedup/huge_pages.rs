//! The slots of an index, on huge pages where there are many.
//!
//! A random slot also misses the TLB. With 4 KiB pages the TLB covers a few MiB, with 2 MiB pages an index over millions of ids. In a
//! virtual machine a TLB miss costs several times as much; in a nested one, microseconds after every pause.

use std::ops::{Deref, DerefMut, Range};

use memmap2::MmapMut;

/// A huge page of x86-64, and of arm64 with pages of 4 KiB, in bytes.
const HUGE_PAGE: usize = 2 << 20;

/// A slice of slots.
#[derive(Debug)]
pub(super) struct Slots(Memory);

#[derive(Debug)]
enum Memory {
    Heap(Box<[u64]>),
    /// The slots are these bytes of the map.
    Pages(MmapMut, Range<usize>),
}

impl Slots {
    /// So many slots with the same value.
    pub(super) fn filled(count: usize, value: u64) -> Self {
        let Some(pages) = huge_pages(count) else { return Self(Memory::Heap(vec![value; count].into())) };
        let mut slots = Self(pages);
        slots.fill(value);
        slots
    }
}

/// Room for so many slots that begins where a huge page does, if they fill one and the system gives it. Where it has no huge pages
/// (it may be told so: `/sys/kernel/mm/transparent_hugepage/enabled`), small ones do.
fn huge_pages(slots: usize) -> Option<Memory> {
    let bytes = slots * size_of::<u64>();
    if bytes < HUGE_PAGE {
        return None;
    }
    // What is never written takes no memory.
    let map = MmapMut::map_anon(bytes + HUGE_PAGE).ok()?;
    #[cfg(target_os = "linux")]
    let _none = map.advise(memmap2::Advice::HugePage);
    let start = map.as_ptr().align_offset(HUGE_PAGE);
    (start <= HUGE_PAGE).then_some(Memory::Pages(map, start..start + bytes))
}

impl Deref for Slots {
    type Target = [u64];

    #[inline]
    fn deref(&self) -> &[u64] {
        match &self.0 {
            Memory::Heap(slots) => slots,
            Memory::Pages(map, bytes) => bytemuck::cast_slice(&map[bytes.clone()]),
        }
    }
}

impl DerefMut for Slots {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u64] {
        match &mut self.0 {
            Memory::Heap(slots) => slots,
            Memory::Pages(map, bytes) => bytemuck::cast_slice_mut(&mut map[bytes.clone()]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_hold_what_is_written_wherever_they_lie() {
        const MANY: usize = HUGE_PAGE / size_of::<u64>();
        for count in [1, 1024, MANY - 1, MANY, 4 * MANY] {
            let mut slots = Slots::filled(count, 7);
            assert_eq!(matches!(slots.0, Memory::Pages(..)), count >= MANY, "{count}");
            assert_eq!((slots.len(), slots.iter().all(|slot| *slot == 7)), (count, true));
            (0..).zip(slots.iter_mut()).for_each(|(at, slot)| *slot = at);
            assert!((0..).zip(slots.iter()).all(|(at, slot)| *slot == at), "{count}");
            assert!(count < MANY || slots.as_ptr().cast::<u8>().align_offset(HUGE_PAGE) == 0);
        }
    }
}
