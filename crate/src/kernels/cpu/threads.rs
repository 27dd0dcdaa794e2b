//! Work shared among threads: rayon's natively with the feature `cli`, none in the browser.
#![allow(unsafe_code, reason = "threads write different parts of one result")]

use std::marker::PhantomData;
use std::ops::Range;

/// Runs `work` on ranges that cover `0..items`, of at least `least` items but for the last, at the
/// same time where there are threads.
pub fn split(items: usize, least: usize, work: impl Fn(Range<usize>) + Sync) {
    #[cfg(feature = "cli")]
    {
        use rayon::prelude::*;
        let threads = rayon::current_num_threads();
        // A few pieces a thread, so that one that was interrupted does not hold up the rest.
        let pieces = if threads == 1 { 1 } else { (items / least.max(1)).clamp(1, 4 * threads) };
        if pieces > 1 {
            let size = items.div_ceil(pieces);
            let pieces = (0..items.div_ceil(size)).into_par_iter();
            return pieces.for_each(|piece| work(piece * size..((piece + 1) * size).min(items)));
        }
    }
    let _ = least;
    if items > 0 {
        work(0..items);
    }
}

/// A result that threads write different parts of.
#[derive(Debug)]
pub struct Shared<'a, T> {
    first: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: it gives out nothing by itself; whoever calls `part` answers for exclusiveness.
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    /// The elements of a slice.
    pub fn new(slice: &'a mut [T]) -> Self {
        Self { first: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    /// Where `range` of the slice begins, for whoever writes only some of it.
    ///
    /// # Panics
    /// If the slice ends before.
    #[cfg(feature = "train")]
    pub fn pointer(&self, range: Range<usize>) -> *mut T {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {}", self.len);
        // SAFETY: within the slice, or right behind it.
        unsafe { self.first.add(range.start) }
    }

    /// `range` of the slice.
    ///
    /// # Panics
    /// If the slice ends before.
    ///
    /// # Safety
    /// Nobody else has any of `range` at the same time.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "exclusive by the caller's promise")]
    pub unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {}", self.len);
        // SAFETY: within the slice, which is borrowed for as long; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(range.start), range.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_worked_on_once() {
        for (items, least) in [(0, 1), (1, 1), (7, 2), (100, 1), (1000, 300)] {
            let mut seen = vec![0; items];
            let shared = Shared::new(&mut seen);
            split(items, least, |range| {
                // SAFETY: ranges do not overlap, which this test is about: a data race would show as
                // a count other than one.
                unsafe { shared.part(range) }.iter_mut().for_each(|count| *count += 1);
            });
            assert!(seen.iter().all(|count| *count == 1), "{items} {least}");
        }
    }
}
