//! A stage over many shards: skips what is finished, shares the rest with other processes.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::claim::Claim;
use super::result::{Made, Place, Report, Skipped, is_disk_full, unwritable};
use super::share::Share;
use crate::generate::Control;
use crate::{Error, ErrorKind, Result};

/// What is done to a shard.
pub trait Stage {
    /// The name of a shard's result.
    fn result_name(&self, shard: &Path) -> String;

    /// What the result of a shard depends on.
    ///
    /// # Errors
    /// When an input is missing or cannot be read.
    fn made(&self, shard: &Path) -> Result<Made>;

    /// Writes the result of a shard to `out`. Tells of each record that is done, and stops when told to.
    ///
    /// # Errors
    /// [`ErrorKind::Aborted`] when told to stop; otherwise when the shard as a whole cannot be done. A
    /// record that cannot be done is skipped, with its reason.
    fn run(
        &self,
        shard: &Path,
        out: &Path,
        on_record: &mut dyn FnMut(usize, usize) -> Control,
    ) -> Result<Outcome>;
}

/// What came of a shard, beside its result.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Numbers for the report.
    pub counts: Map<String, Value>,
    /// Records that are not in the result.
    pub skipped: Vec<Skipped>,
}

/// Which shards, where to, and for whom.
#[derive(Clone, Debug)]
pub struct Work {
    /// The shards, in an order that every process has the same.
    pub shards: Vec<PathBuf>,
    /// The folder of results.
    pub out: PathBuf,
    /// Which of them this process does; other processes may do the rest, or help with these.
    pub share: Share,
    /// Results that were made of something else are made again, instead of being an error.
    pub redo: bool,
    /// After so many shards that were not finished before, the process stops, as if there were no more.
    pub stop_after: Option<usize>,
}

/// What happens on the way.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A shard begins.
    Begin {
        /// Its file.
        shard: &'a Path,
    },
    /// A record of it is done.
    Record {
        /// So many are.
        done: usize,
        /// Of so many.
        total: usize,
    },
    /// It is finished, now or already before.
    Finished {
        /// Its file.
        shard: &'a Path,
        /// What became of it.
        report: &'a Report,
        /// Whether it was finished when this process came to it.
        before: bool,
    },
    /// It cannot be done; the next one is.
    Failed {
        /// Its file.
        shard: &'a Path,
        /// Why.
        error: &'a Error,
    },
    /// Another process has it: this one comes back to it at the end.
    Busy {
        /// Its file.
        shard: &'a Path,
    },
}

/// What became of the shards of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Finished by this process.
    pub finished: usize,
    /// Finished before, or by another process meanwhile.
    pub before: usize,
    /// Not to be done.
    pub failed: usize,
    /// Left for another time, because of [`Work::stop_after`].
    pub left: usize,
    /// Records of finished shards that are not in their results.
    pub skipped: usize,
}

impl Work {
    /// Does the stage for every shard of the process's share.
    ///
    /// When it returns, each of them is finished, by this process or by another, or counted as failed or
    /// left: a shard that another process is busy with is waited for, and done if that process dies.
    ///
    /// # Errors
    /// [`ErrorKind::BadOption`] when two shards would have one result, or a result was made of something
    /// else, unless `redo`; [`ErrorKind::Quota`] on a full disk, where every shard that was finished stays;
    /// [`ErrorKind::Aborted`] when told to stop, and what the device fails with.
    pub fn run(&self, stage: &dyn Stage, on_event: &mut dyn FnMut(Event<'_>) -> Control) -> Result<Done> {
        self.check_names(stage)?;
        std::fs::create_dir_all(&self.out).map_err(|error| unwritable(&self.out, error))?;
        let (mut done, mut busy) = (Done::default(), Vec::new());
        let own = |(index, _): &(usize, &PathBuf)| self.share.has(*index);
        for (_, shard) in self.shards.iter().enumerate().filter(own) {
            if self.stop_after.is_some_and(|most| done.finished >= most) {
                done.left += 1;
                continue;
            }
            match Claim::try_of(&self.out, &stage.result_name(shard))? {
                Some(claim) => self.do_shard(stage, shard, &claim, &mut done, on_event)?,
                None => {
                    heed(on_event(Event::Busy { shard }))?;
                    busy.push(shard);
                }
            }
        }
        for shard in busy {
            if self.stop_after.is_some_and(|most| done.finished >= most) {
                done.left += 1;
                continue;
            }
            let claim = Claim::wait_for(&self.out, &stage.result_name(shard))?;
            self.do_shard(stage, shard, &claim, &mut done, on_event)?;
        }
        Ok(done)
    }

    fn do_shard(
        &self,
        stage: &dyn Stage,
        shard: &Path,
        claim: &Claim,
        done: &mut Done,
        on_event: &mut dyn FnMut(Event<'_>) -> Control,
    ) -> Result<()> {
        let place = Place::new(&self.out, &stage.result_name(shard));
        if claim.is_alone() {
            place.sweep();
        }
        match self.result(stage, shard, &place, on_event) {
            Ok((report, before)) => {
                done.finished += usize::from(!before);
                done.before += usize::from(before);
                done.skipped += report.skipped.len();
                heed(on_event(Event::Finished { shard, report: &report, before }))
            }
            Err(error) if is_disk_full(&error) => {
                let message = "the disk is full; every shard that was finished stays";
                Err(Error::new(ErrorKind::Quota, message).with_source(error))
            }
            Err(error) if concerns_one_shard(error.kind()) => {
                done.failed += 1;
                heed(on_event(Event::Failed { shard, error: &error }))
            }
            Err(error) => Err(error),
        }
    }

    /// The report of a shard, and whether there was one before.
    fn result(
        &self,
        stage: &dyn Stage,
        shard: &Path,
        place: &Place,
        on_event: &mut dyn FnMut(Event<'_>) -> Control,
    ) -> Result<(Report, bool)> {
        let made = stage.made(shard)?;
        if let Some(report) = place.finished()? {
            match made.difference(&report.made) {
                None => return Ok((report, true)),
                Some(difference) if !self.redo => {
                    let message = format!(
                        "`{}` was made of something else: {difference}; name another folder, or let it be \
                         made again (--redo)",
                        place.path().display()
                    );
                    return Err(Error::new(ErrorKind::BadOption, message));
                }
                Some(_) => {}
            }
        }
        heed(on_event(Event::Begin { shard }))?;
        let unfinished = place.unfinished();
        let mut on_record = |done, total| on_event(Event::Record { done, total });
        let outcome = stage
            .run(shard, &unfinished, &mut on_record)
            .and_then(|Outcome { counts, skipped }| place.finish(made, counts, skipped));
        if outcome.is_err() {
            // Best effort: what failed matters more. After a full disk, this is what makes room.
            let _ = std::fs::remove_file(&unfinished);
        }
        Ok((outcome?, false))
    }

    fn check_names(&self, stage: &dyn Stage) -> Result<()> {
        let mut names = HashSet::new();
        for shard in &self.shards {
            let name = stage.result_name(shard);
            if names.contains(&name) {
                let message =
                    format!("two shards would be written to `{name}`: the second is `{}`", shard.display());
                return Err(Error::new(ErrorKind::BadOption, message));
            }
            names.insert(name);
        }
        Ok(())
    }
}

/// Whether the next shard may well do better.
fn concerns_one_shard(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Io | ErrorKind::BadImage | ErrorKind::ImageTooLarge | ErrorKind::Integrity)
}

fn heed(control: Control) -> Result<()> {
    match control {
        Control::Continue => Ok(()),
        Control::Cancel => Err(Error::new(ErrorKind::Aborted, "stopped between two shards")),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::fs;

    use super::super::result::Content;
    use super::*;

    /// Counts the bytes of a shard; a shard with `bad` in it cannot be done, and one with `full` finds no
    /// room.
    #[derive(Default)]
    struct Counting {
        option: u32,
        ran: RefCell<Vec<String>>,
    }

    impl Stage for Counting {
        fn result_name(&self, shard: &Path) -> String {
            shard.with_extension("count").file_name().unwrap().to_string_lossy().into_owned()
        }

        fn made(&self, shard: &Path) -> Result<Made> {
            let options = serde_json::json!({ "option": self.option }).as_object().unwrap().clone();
            let inputs = vec![Content::of(shard)?];
            Ok(Made { stage: "counting".into(), version: 1, inputs, model: None, options })
        }

        fn run(
            &self,
            shard: &Path,
            out: &Path,
            on_record: &mut dyn FnMut(usize, usize) -> Control,
        ) -> Result<Outcome> {
            let text = fs::read_to_string(shard).unwrap();
            self.ran.borrow_mut().push(text.clone());
            fs::write(out, "half").unwrap();
            match &*text {
                "bad" => return Err(Error::new(ErrorKind::Io, "no tar")),
                "full" => return Err(Error::new(ErrorKind::Quota, "no room")),
                _ => {}
            }
            heed(on_record(1, 1))?;
            fs::write(out, text.len().to_string()).unwrap();
            let skipped = vec![Skipped { key: "k".into(), reason: "r".into() }; usize::from(text == "ccc")];
            Ok(Outcome { counts: Map::new(), skipped })
        }
    }

    fn work(name: &str, shards: &[&str]) -> Work {
        let folder = std::env::temp_dir().join(format!("blip-work-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let write = |(nth, text): (usize, &&str)| {
            let path = folder.join(format!("{nth}.tar"));
            fs::write(&path, text).unwrap();
            path
        };
        let shards = shards.iter().enumerate().map(write).collect();
        Work { shards, out: folder.join("out"), share: Share::ALL, redo: false, stop_after: None }
    }

    fn quiet(_: Event<'_>) -> Control {
        Control::Continue
    }

    fn visible(work: &Work) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(&work.out)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|name| name != ".locks")
            .collect();
        names.sort();
        names
    }

    #[test]
    fn finished_shards_are_not_done_again() {
        let (work, stage) = (work("again", &["a", "bb", "ccc"]), Counting::default());
        let done = work.run(&stage, &mut quiet).unwrap();
        assert_eq!(done, Done { finished: 3, skipped: 1, ..Done::default() });
        assert_eq!(fs::read_to_string(work.out.join("2.count")).unwrap(), "3");
        let done = work.run(&stage, &mut quiet).unwrap();
        assert_eq!(done, Done { before: 3, skipped: 1, ..Done::default() });
        assert_eq!(stage.ran.borrow().len(), 3);
        // One whose result was damaged is.
        fs::write(work.out.join("1.count"), "9").unwrap();
        assert_eq!(work.run(&stage, &mut quiet).unwrap().finished, 1);
        assert_eq!(fs::read_to_string(work.out.join("1.count")).unwrap(), "2");
    }

    #[test]
    fn other_options_and_other_inputs_are_noticed() {
        let work = work("options", &["a", "bb"]);
        work.run(&Counting::default(), &mut quiet).unwrap();
        let other = Counting { option: 7, ..Counting::default() };
        let error = work.run(&other, &mut quiet).unwrap_err();
        assert!(error.code() == "bad-option" && error.to_string().contains("option option was 0 and is 7"));
        let again = Work { redo: true, ..work.clone() };
        assert_eq!(again.run(&other, &mut quiet).unwrap().finished, 2);
        fs::write(&work.shards[1], "b").unwrap();
        let error = work.run(&other, &mut quiet).unwrap_err();
        assert!(error.to_string().contains("`1.tar` has changed"), "{error}");
        assert_eq!(
            again.run(&other, &mut quiet).unwrap(),
            Done { finished: 1, before: 1, ..Done::default() }
        );
    }

    #[test]
    fn shares_do_every_shard_once_and_a_process_can_stop_early() {
        let (work, stage) = (work("shares", &["a", "b", "c", "d", "e"]), Counting::default());
        for nth in [1, 0] {
            let share = Share::new(nth, 2).unwrap();
            let done = Work { share, ..work.clone() }.run(&stage, &mut quiet).unwrap();
            assert_eq!(done.finished, 3 - nth);
        }
        assert_eq!(*stage.ran.borrow(), ["b", "d", "a", "c", "e"]);
        let few = Work { stop_after: Some(2), out: work.out.join("few"), ..work };
        let done = few.run(&stage, &mut quiet).unwrap();
        assert_eq!(done, Done { finished: 2, left: 3, ..Done::default() });
        let done = few.run(&stage, &mut quiet).unwrap();
        assert_eq!(done, Done { finished: 2, before: 2, left: 1, ..Done::default() });
    }

    #[test]
    fn a_shard_that_cannot_be_done_is_counted_and_leaves_nothing() {
        let (work, stage) = (work("bad", &["a", "bad", "ccc"]), Counting::default());
        let mut failed = Vec::new();
        let done = work.run(&stage, &mut |event| {
            if let Event::Failed { shard, error } = event {
                failed.push((shard.to_owned(), error.to_string()));
            }
            Control::Continue
        });
        assert_eq!(done.unwrap(), Done { finished: 2, failed: 1, skipped: 1, ..Done::default() });
        assert_eq!(failed, [(work.shards[1].clone(), "no tar".to_owned())]);
        let names = ["0.count", "0.count.report.json", "2.count", "2.count.report.json"];
        assert_eq!(visible(&work), names);
    }

    #[test]
    fn a_full_disk_stops_and_keeps_what_was_finished() {
        let (work, stage) = (work("full", &["a", "full", "ccc"]), Counting::default());
        assert_eq!(work.run(&stage, &mut quiet).unwrap_err().code(), "quota");
        assert_eq!(visible(&work), ["0.count", "0.count.report.json"]);
        fs::write(&work.shards[1], "room").unwrap();
        assert_eq!(
            work.run(&stage, &mut quiet).unwrap(),
            Done { finished: 2, before: 1, skipped: 1, ..Done::default() }
        );
    }

    #[test]
    fn who_is_told_to_stop_leaves_nothing_half_done() {
        let (work, stage) = (work("stop", &["a", "b"]), Counting::default());
        let mut records = 0;
        let error = work.run(&stage, &mut |event| {
            records += usize::from(matches!(event, Event::Record { .. }));
            if records == 2 { Control::Cancel } else { Control::Continue }
        });
        assert_eq!(error.unwrap_err().code(), "aborted");
        assert_eq!(visible(&work), ["0.count", "0.count.report.json"]);
    }

    #[test]
    fn a_shard_that_another_process_has_is_waited_for() {
        let work = work("busy", &["a", "b"]);
        fs::create_dir_all(&work.out).unwrap();
        let claim = Claim::try_of(&work.out, "0.count").unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        let other = std::thread::spawn(move || {
            // Dies when the other shard is done, without having done its own.
            receiver.recv().unwrap();
            drop(claim);
        });
        let (stage, mut busy) = (Counting::default(), 0);
        let done = work.run(&stage, &mut |event| {
            match event {
                Event::Busy { .. } => busy += 1,
                Event::Finished { shard, .. } if shard == work.shards[1] => sender.send(()).unwrap(),
                _ => {}
            }
            Control::Continue
        });
        other.join().unwrap();
        assert_eq!((done.unwrap().finished, busy), (2, 1));
        assert_eq!(*stage.ran.borrow(), ["b", "a"]);
    }

    #[test]
    fn two_shards_of_one_name_are_refused() {
        let mut work = work("names", &["a"]);
        work.shards.push(work.out.join("0.tar"));
        assert_eq!(work.run(&Counting::default(), &mut quiet).unwrap_err().code(), "bad-option");
    }
}
