//! Dialogues: the place of the given answer among the candidates (VisDial, paper §5.5).

use serde::Serialize;

use super::examples::{Examples, Left, OnExample, one_picture};
use super::ranked::Ranked;
use crate::generate::Control;
use crate::tasks::{DialogueOptions, Session, Task, Turn};
use crate::train::data::Record;
use crate::{Error, ErrorKind, Result};

/// Dialogues.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DialogueReport {
    /// Where the given answers are placed, over all rounds with candidates.
    pub ranks: Ranked,
    /// Examples that were left out.
    pub left: Left,
}

/// Ranks the candidates of every round that has some, after the rounds before it.
///
/// Of equal scores the candidate that was named first stands first; an answer that is no candidate counts
/// as placed behind all of them.
///
/// # Errors
/// [`ErrorKind::TaskUnsupported`] without a network that can,
/// [`ErrorKind::BadOption`] when no example has a dialogue with candidates,
/// [`ErrorKind::Aborted`] when told to stop, and what the device fails with.
pub async fn dialogues(
    session: &Session,
    examples: &Examples<'_>,
    on_example: OnExample<'_>,
) -> Result<DialogueReport> {
    session.part(Task::Itm)?;
    let lacks = |record: &Record| {
        let rounds = record.texts.dialogue.iter().flat_map(|dialogue| &dialogue.rounds);
        let has = rounds.into_iter().any(|round| !round.candidates.is_empty());
        one_picture(record).or((!has).then_some("no dialogue with candidates"))
    };
    let (mut ranks, mut left) = (Vec::new(), Left::default());
    for index in examples.indices() {
        if let Some(record) = examples.read(index, lacks, &mut left)
            && let (Some(dialogue), Some(image)) = (&record.texts.dialogue, record.images.first())
        {
            let picture = session.encode(image).await?;
            let mut history: Vec<Turn> = Vec::new();
            for round in &dialogue.rounds {
                if !round.candidates.is_empty() {
                    let options = DialogueOptions {
                        caption: dialogue.caption.clone(),
                        history: history.clone(),
                        question: round.question.clone(),
                        candidates: round.candidates.clone(),
                    };
                    let mut on_step = |_: usize, _: usize| Control::Continue;
                    let replies = session.dialogue(&picture, &options, &mut on_step).await?;
                    let place = replies.iter().position(|reply| reply.text == round.answer);
                    ranks.push(1 + place.unwrap_or(replies.len()));
                }
                let (question, answer) = (round.question.clone(), round.answer.clone());
                history.push(Turn { question, answer });
            }
        }
        examples.tell(on_example, index + 1)?;
    }
    if ranks.is_empty() {
        return Err(Error::new(ErrorKind::BadOption, "no example has a dialogue with candidates"));
    }
    Ok(DialogueReport { ranks: Ranked::of(&ranks)?, left })
}
