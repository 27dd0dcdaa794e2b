//! Which shards a process does: one of several equal shares, by the number of its task.

use std::fmt;
use std::str::FromStr;

use crate::{Error, ErrorKind, Result};

/// One of `of` shares: every shard whose index leaves the remainder `nth`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// From 0.
    pub nth: usize,
    /// At least 1.
    pub of: usize,
}

impl Share {
    /// Everything.
    pub const ALL: Self = Self { nth: 0, of: 1 };

    /// The share with that number, from 0.
    ///
    /// # Errors
    /// [`ErrorKind::BadOption`] when there are not so many.
    pub fn new(nth: usize, of: usize) -> Result<Self> {
        if nth < of {
            return Ok(Self { nth, of });
        }
        Err(bad(format!("share {nth} of {of}: expected a number from 0, less than how many there are")))
    }

    /// The share that a cluster's scheduler gives this process, in the variables that `get` reads, with the
    /// name of the one that said so; nothing where there is no scheduler.
    ///
    /// - Slurm arrays: `SLURM_ARRAY_TASK_ID` among `SLURM_ARRAY_TASK_COUNT`, counted from
    ///   `SLURM_ARRAY_TASK_MIN` in steps of `SLURM_ARRAY_TASK_STEP`.
    /// - Kubernetes indexed jobs: `JOB_COMPLETION_INDEX` among `JOB_COMPLETIONS`, which Kubernetes does not
    ///   set: the job's template has to.
    ///
    /// # Errors
    /// [`ErrorKind::BadOption`] for numbers that do not fit together.
    pub fn from_environment(get: impl Fn(&str) -> Option<String>) -> Result<Option<(Self, &'static str)>> {
        let number = |name: &str| match get(name).filter(|value| !value.trim().is_empty()) {
            None => Ok(None),
            Some(value) => value
                .trim()
                .parse::<usize>()
                .map(Some)
                .map_err(|_| bad(format!("{name} is `{value}`, expected a number"))),
        };
        if let Some(id) = number("SLURM_ARRAY_TASK_ID")? {
            let missing = || bad("SLURM_ARRAY_TASK_ID is set without SLURM_ARRAY_TASK_COUNT".to_owned());
            let of = number("SLURM_ARRAY_TASK_COUNT")?.ok_or_else(missing)?;
            let (first, step) = (number("SLURM_ARRAY_TASK_MIN")?, number("SLURM_ARRAY_TASK_STEP")?);
            let (first, step) = (first.unwrap_or(0), step.unwrap_or(1).max(1));
            let nth = id.checked_sub(first).filter(|nth| nth.is_multiple_of(step)).map(|nth| nth / step);
            // A list such as 1,5,7 has no place that its numbers tell.
            let nth = nth.filter(|nth| *nth < of).ok_or_else(|| {
                bad(format!("task {id} of an array of {of} from {first} in steps of {step}: name --shard"))
            })?;
            return Ok(Some((Self { nth, of }, "SLURM_ARRAY_TASK_ID")));
        }
        if let Some(nth) = number("JOB_COMPLETION_INDEX")? {
            let missing = || {
                let message = "JOB_COMPLETION_INDEX is set, and how many there are is not: set \
                               JOB_COMPLETIONS, or name --shard";
                bad(message.to_owned())
            };
            let of = number("JOB_COMPLETIONS")?.ok_or_else(missing)?;
            return Ok(Some((Self::new(nth, of)?, "JOB_COMPLETION_INDEX")));
        }
        Ok(None)
    }

    /// Whether the shard with that index is in it.
    pub fn has(self, index: usize) -> bool {
        index % self.of == self.nth
    }
}

impl FromStr for Share {
    type Err = Error;

    /// `3/16`: the fourth of sixteen.
    fn from_str(text: &str) -> Result<Self> {
        let numbers = text.split_once('/').and_then(|(nth, of)| {
            Some((nth.trim().parse::<usize>().ok()?, of.trim().parse::<usize>().ok()?))
        });
        match numbers {
            Some((nth, of)) => Self::new(nth, of),
            None => Err(bad(format!("a share is `{text}`, expected two numbers such as 3/16"))),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.nth, self.of)
    }
}

fn bad(message: String) -> Error {
    Error::new(ErrorKind::BadOption, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<Option<Share>> {
        let get = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Ok(Share::from_environment(get)?.map(|(share, _)| share))
    }

    #[test]
    fn every_shard_is_in_one_share() {
        for of in 1..6 {
            for index in 0..20 {
                let having = (0..of).filter(|nth| Share::new(*nth, of).unwrap().has(index)).count();
                assert_eq!(having, 1, "shard {index} of {of} shares");
            }
        }
        assert!((0..20).all(|index| Share::ALL.has(index)));
    }

    #[test]
    fn a_share_is_two_numbers() {
        let share: Share = " 3/16".parse().unwrap();
        assert_eq!((share, share.to_string().as_str()), (Share { nth: 3, of: 16 }, "3/16"));
        for text in ["", "3", "16/16", "0/0", "-1/4", "a/b", "1/2/3"] {
            assert_eq!(text.parse::<Share>().unwrap_err().code(), "bad-option", "{text}");
        }
    }

    #[test]
    fn schedulers_say_which_share_it_is() {
        assert_eq!(from(&[]).unwrap(), None);
        assert_eq!(from(&[("SLURM_ARRAY_TASK_ID", " ")]).unwrap(), None);
        let slurm = |id, count, min, step| {
            from(&[
                ("SLURM_ARRAY_TASK_ID", id),
                ("SLURM_ARRAY_TASK_COUNT", count),
                ("SLURM_ARRAY_TASK_MIN", min),
                ("SLURM_ARRAY_TASK_STEP", step),
            ])
        };
        assert_eq!(slurm("1", "16", "1", "1").unwrap(), Some(Share { nth: 0, of: 16 }));
        assert_eq!(slurm("9", "4", "1", "4").unwrap(), Some(Share { nth: 2, of: 4 }));
        let short = [("SLURM_ARRAY_TASK_ID", "3"), ("SLURM_ARRAY_TASK_COUNT", "4")];
        assert_eq!(from(&short).unwrap(), Some(Share { nth: 3, of: 4 }));
        assert!(slurm("7", "3", "1", "1").is_err(), "of the list 1,5,7 nobody knows the middle");
        assert!(slurm("2", "4", "1", "2").is_err() && slurm("x", "4", "0", "1").is_err());
        assert!(from(&[("SLURM_ARRAY_TASK_ID", "1")]).is_err());
        let kubernetes = [("JOB_COMPLETION_INDEX", "0"), ("JOB_COMPLETIONS", "2")];
        assert_eq!(from(&kubernetes).unwrap(), Some(Share { nth: 0, of: 2 }));
        let error = from(&kubernetes[..1]).unwrap_err();
        assert!(error.to_string().contains("JOB_COMPLETIONS"), "{error}");
    }
}
