//! Working memory that a kernel needs again at every call.

use std::cell::RefCell;

thread_local! {
    static FLOATS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Lends `len` floats that belong to this thread and hold whatever was left in them.
///
/// They are kept for the next call: a decoding step allocates nothing but its results, and a browser
/// could not return the memory anyway.
pub(super) fn with<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    // Taken out, not borrowed: should `work` come back here, it gets memory of its own.
    let mut floats = FLOATS.take();
    if floats.len() < len {
        floats.resize(len, 0.0);
    }
    let result = work(&mut floats[..len]);
    FLOATS.set(floats);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_lent_again_and_never_twice_at_once() {
        let first = with(100, |a| {
            a.fill(1.0);
            with(50, |b| b.fill(2.0));
            assert!(a.iter().all(|x| *x == 1.0));
            a.as_ptr()
        });
        assert_eq!(with(80, |a| (a.len(), a.as_ptr())), (80, first));
    }
}
