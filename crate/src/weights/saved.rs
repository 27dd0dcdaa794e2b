//! Numbers and bytes one after the other, with a digest in front: what is put aside of a conversion.

use super::manifest::sha256;

/// What is written.
#[derive(Debug, Default)]
pub(super) struct Saved(Vec<u8>);

impl Saved {
    pub fn number(&mut self, number: u64) {
        self.0.extend(number.to_le_bytes());
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend(bytes);
    }

    /// All of it, after its digest.
    pub fn finish(self) -> Vec<u8> {
        [&sha256(&self.0)[..], &self.0].concat()
    }
}

/// What is read, in the order it was written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Saving<'a>(&'a [u8]);

impl<'a> Saving<'a> {
    /// What was saved; nothing when it was damaged.
    pub fn open(saved: &'a [u8]) -> Option<Self> {
        let (digest, rest) = saved.split_first_chunk::<32>()?;
        (sha256(rest) == *digest).then_some(Self(rest))
    }

    pub fn number(&mut self) -> Option<u64> {
        let (now, later) = self.0.split_first_chunk::<8>()?;
        self.0 = later;
        Some(u64::from_le_bytes(*now))
    }

    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (now, later) = self.0.split_at_checked(length)?;
        self.0 = later;
        Some(now)
    }

    pub fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_read_and_damage_is_noticed() {
        let mut saved = Saved::default();
        saved.number(7);
        saved.bytes(b"abc");
        let saved = saved.finish();
        let mut saving = Saving::open(&saved).unwrap();
        assert_eq!((saving.number(), saving.text(), saving.number()), (Some(7), Some("abc"), None));
        for at in 0..saved.len() {
            let mut damaged = saved.clone();
            damaged[at] ^= 1;
            assert!(Saving::open(&damaged).is_none());
        }
        assert!(Saving::open(&saved[..20]).is_none());
    }
}
