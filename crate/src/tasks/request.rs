//! Every task by its name, options and results as JSON: what crosses into a browser's page.

use serde::Serialize;
use serde_json::Value;

use super::ask::AskOptions;
use super::caption::CaptionOptions;
use super::classify::ClassifyOptions;
use super::dialogue::DialogueOptions;
use super::embed::EmbedOptions;
use super::explain::{ExplainOptions, Maps};
use super::matching::{Head, MatchOptions};
use super::nlvr2::Nlvr2Options;
use super::options;
use super::part::Task;
use super::picture::Picture;
use super::session::Session;
use crate::generate::Control;
use crate::{Error, ErrorKind, Result};

/// What happens on the way to an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event<'a> {
    /// A text grew by a token.
    Token {
        /// The text so far; a beam search may take words back.
        text: &'a str,
        /// Which of several texts it is.
        index: usize,
    },
    /// A step of several is done.
    Step {
        /// Steps that are done.
        done: usize,
        /// Steps in all.
        total: usize,
    },
}

/// What is asked of a session: a task with its options.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Request {
    /// See [`Session::caption_picture`].
    Caption(CaptionOptions),
    /// See [`Session::ask`].
    Ask(AskOptions),
    /// See [`Session::match_texts`].
    Match(MatchOptions),
    /// See [`Session::classify`].
    Classify(ClassifyOptions),
    /// See [`Session::embed`].
    Embed(EmbedOptions),
    /// See [`Session::explain`].
    Explain(ExplainOptions),
    /// See [`Session::nlvr2`]; of exactly two pictures.
    Nlvr2(Nlvr2Options),
    /// See [`Session::dialogue`].
    Dialogue(DialogueOptions),
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// `{"results": …}`, one entry a picture where the task has pictures.
    pub json: String,
    /// Arrays that JSON would blow up, in the order of the results.
    pub floats: Vec<Vec<f32>>,
}

impl Request {
    /// Reads a request: an object with the options, and the name of the task under `task`.
    ///
    /// # Errors
    /// [`ErrorKind::BadOption`] for an unknown task or option, or a value out of its range.
    pub fn from_json(text: &str) -> Result<Self> {
        let mut rest = options::object(text)?;
        let task = rest.remove("task");
        Ok(match task.as_ref().and_then(Value::as_str) {
            Some("caption") => Self::Caption(CaptionOptions::from_object(rest)?),
            Some("ask") => Self::Ask(AskOptions::from_object(rest)?),
            Some("match") => Self::Match(options::read(rest)?),
            Some("classify") => Self::Classify(options::read(rest)?),
            Some("embed") => Self::Embed(options::read(rest)?),
            Some("explain") => Self::Explain(options::read(rest)?),
            Some("nlvr2") => Self::Nlvr2(options::read(rest)?),
            Some("dialogue") => Self::Dialogue(options::read(rest)?),
            _ => {
                let message = format!("there is no task {}", task.unwrap_or_default());
                return Err(Error::new(ErrorKind::BadOption, message));
            }
        })
    }
}

impl Session {
    /// The tasks whose image encoders a request looks at pictures with, for
    /// [`encode_for`](Self::encode_for); none where any will do.
    ///
    /// # Errors
    /// [`ErrorKind::TaskUnsupported`] where the request leaves the choice and there is nothing to choose.
    pub fn tasks_of(&self, request: &Request) -> Result<Vec<Task>> {
        Ok(match request {
            Request::Caption(options) if options.match_score => vec![Task::Caption, Task::Itm],
            Request::Caption(_) => vec![Task::Caption],
            Request::Ask(_) => vec![Task::Vqa],
            Request::Match(options) => {
                let (itm, itc) = self.heads(options.heads.as_deref())?;
                let both = [(itm, Task::Itm), (itc, Task::Itc)];
                both.into_iter().filter_map(|(wanted, task)| wanted.then_some(task)).collect()
            }
            Request::Classify(options) => vec![match options.head {
                Head::Itm => Task::Itm,
                Head::Itc => Task::Itc,
            }],
            Request::Embed(options) => self.embed_tasks(options)?,
            Request::Explain(_) | Request::Dialogue(_) => vec![Task::Itm],
            Request::Nlvr2(_) => vec![Task::Nlvr2],
        })
    }

    /// Does what a request asks, for each of the pictures.
    ///
    /// # Errors
    /// Those of the task.
    pub async fn answer(
        &self,
        request: &Request,
        pictures: &[Picture],
        on_event: &mut dyn FnMut(Event<'_>) -> Control,
    ) -> Result<Answer> {
        // What was encoded for another task, side by side.
        self.look(&self.tasks_of(request)?, pictures).await?;
        let mut floats = Vec::new();
        let json = match request {
            Request::Caption(options) => {
                let mut results = Vec::with_capacity(pictures.len());
                for picture in pictures {
                    results.push(self.caption_told(picture, options, on_event).await?);
                }
                to_json(&results)?
            }
            Request::Ask(options) => {
                let mut results = Vec::with_capacity(pictures.len());
                for picture in pictures {
                    results.push(self.ask(picture, options, on_event).await?);
                }
                to_json(&results)?
            }
            Request::Match(options) => {
                let mut results = Vec::with_capacity(pictures.len());
                for picture in pictures {
                    results.push(self.match_texts(picture, options, &mut steps(on_event)).await?);
                }
                to_json(&results)?
            }
            Request::Classify(options) => {
                to_json(&self.classify(pictures, options, &mut steps(on_event)).await?)?
            }
            Request::Embed(options) => {
                let mut results = self.embed(pictures, options, &mut steps(on_event)).await?;
                floats.extend(results.iter_mut().map(|embedding| std::mem::take(&mut embedding.values)));
                to_json(&results)?
            }
            Request::Explain(options) => {
                let mut results = Vec::with_capacity(pictures.len());
                for picture in pictures {
                    let mut found = self.explain(picture, options, &mut steps(on_event)).await?;
                    let Maps { tokens, words, sentence } = std::mem::take(&mut found.maps);
                    floats.extend([tokens, words, sentence]);
                    results.push(found);
                }
                to_json(&results)?
            }
            Request::Nlvr2(options) => {
                let [first, second] = pictures else {
                    let message = format!("nlvr2 is about two pictures, not {}", pictures.len());
                    return Err(Error::new(ErrorKind::BadOption, message));
                };
                to_json(&[self.nlvr2([first, second], options, &mut steps(on_event)).await?])?
            }
            Request::Dialogue(options) => {
                let mut results = Vec::with_capacity(pictures.len());
                for picture in pictures {
                    results.push(self.dialogue(picture, options, &mut steps(on_event)).await?);
                }
                to_json(&results)?
            }
        };
        Ok(Answer { json, floats })
    }
}

/// A callback for steps out of one for events.
fn steps(on_event: &mut dyn FnMut(Event<'_>) -> Control) -> impl FnMut(usize, usize) -> Control {
    |done, total| on_event(Event::Step { done, total })
}

fn to_json(results: &impl Serialize) -> Result<String> {
    let json = serde_json::to_string(results)
        .map_err(|e| Error::new(ErrorKind::Internal, "a result cannot be written as JSON").with_source(e))?;
    Ok(format!("{{\"results\":{json}}}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_an_object_with_its_task() {
        let request = Request::from_json(r#"{"task":"match","texts":["a cat"],"heads":["itc"]}"#).unwrap();
        assert!(matches!(request, Request::Match(options) if options.texts == ["a cat"]));
        for json in [
            "",
            "[]",
            "{}",
            r#"{"task":"dream"}"#,
            r#"{"task":3}"#,
            r#"{"task":"match","texts":["a"],"unknown":1}"#,
            r#"{"task":"caption","numBeams":0}"#,
            r#"{"task":"ask"}"#,
        ] {
            assert_eq!(Request::from_json(json).unwrap_err().code(), "bad-option", "{json}");
        }
    }
}
