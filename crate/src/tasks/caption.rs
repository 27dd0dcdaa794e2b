//! Image to caption.

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::decoder::ModelDecoder;
use super::matching::{Convention, probability, step};
use super::options;
use super::part::Task;
use super::picture::Picture;
use super::request::Event;
use super::session::Session;
use crate::Result;
use crate::clock::now_ms;
use crate::generate::{Control, GenerateConfig, Progress, generate};
use crate::image::{ImageOptions, decode};

/// How to caption.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CaptionOptions {
    /// Text that the caption continues; it is not repeated in the result.
    pub prompt: Option<String>,
    /// Score each caption by image-text matching, as the authors advise; needs a network for `itm`.
    pub match_score: bool,
    /// How to search.
    pub generate: GenerateConfig,
    /// How the bytes of the picture become pixels.
    pub image: ImageOptions,
}

/// One caption.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Caption {
    /// The words, without the prompt.
    pub text: String,
    /// Sum of the log-probabilities of its tokens.
    pub log_prob: f32,
    /// Token ids, without the prompt and the end token.
    pub tokens: Vec<u32>,
    /// Probability that prompt and caption belong to the picture, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub match_score: Option<f32>,
}

/// The result of a caption call.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Captions {
    /// The first caption's words.
    pub text: String,
    /// As many as were asked for, best first.
    pub captions: Vec<Caption>,
    /// Where the time went.
    pub ms: Timings,
}

/// Where the time of a caption went, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Timings {
    /// Pixels to image tokens.
    pub encode: f64,
    /// Image tokens to the keys and values of cross-attention. On a GPU this is handed over and not
    /// waited for, so that its work is part of what follows.
    pub ground: f64,
    /// Image tokens to words, `ground` included.
    pub caption: f64,
    /// Not a time: how many tokens were decided on one after another, the end token included.
    pub tokens: usize,
}

/// A caption while it grows.
#[derive(Clone, Debug, PartialEq)]
pub struct CaptionProgress {
    /// The words so far.
    pub text: String,
    /// Which of several samples it is.
    pub index: usize,
}

impl CaptionOptions {
    /// Reads options from a JSON object with camelCase names; unknown ones are an error.
    ///
    /// # Errors
    /// [`ErrorKind::BadOption`](crate::ErrorKind::BadOption).
    pub fn from_json(text: &str) -> Result<Self> {
        let mut rest = options::object(text)?;
        let image = options::split(&mut rest, &["applyExif", "alpha"]);
        let mut options = Self::from_object(rest)?;
        options.image = options::read(image)?;
        Ok(options)
    }

    /// As [`from_json`](Self::from_json), without those of the picture.
    pub(super) fn from_object(mut rest: options::Object) -> Result<Self> {
        let own = options::split(&mut rest, &["prompt", "matchScore"]);
        let Own { prompt, match_score } = options::read(own)?;
        let generate = options::generation(&GenerateConfig::default(), rest)?;
        Ok(Self { prompt, match_score, generate, image: ImageOptions::default() })
    }
}

/// What is not about the search.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Own {
    prompt: Option<String>,
    match_score: bool,
}

impl Session {
    /// Captions an encoded picture file: decode, encode, generate.
    ///
    /// `on_progress` sees the caption grow, and ends the call by returning [`Control::Cancel`].
    ///
    /// # Errors
    /// [`BadImage`](crate::ErrorKind::BadImage) and [`ImageTooLarge`](crate::ErrorKind::ImageTooLarge) from
    /// the picture, and as [`caption_picture`](Self::caption_picture).
    pub async fn caption(
        &self,
        bytes: &[u8],
        options: &CaptionOptions,
        on_progress: &mut dyn FnMut(CaptionProgress) -> Control,
    ) -> Result<Captions> {
        let picture = decode(bytes, &options.image)?;
        self.caption_image(&picture, options, on_progress).await
    }

    /// Captions decoded pixels; otherwise as [`caption`](Self::caption).
    ///
    /// # Errors
    /// As [`caption_picture`](Self::caption_picture).
    pub async fn caption_image(
        &self,
        image: &RgbImage,
        options: &CaptionOptions,
        on_progress: &mut dyn FnMut(CaptionProgress) -> Control,
    ) -> Result<Captions> {
        let start = now_ms();
        let picture = self.encode_video_for(&[Task::Caption], std::slice::from_ref(image)).await?;
        let encode = now_ms() - start;
        let mut captions = self.caption_picture(&picture, options, on_progress).await?;
        captions.ms.encode = encode;
        Ok(captions)
    }

    /// Captions a picture that is already encoded.
    ///
    /// While captions are scored against the picture, `on_progress` is asked as well, with the last words
    /// that it was told.
    ///
    /// # Errors
    /// [`TaskUnsupported`](crate::ErrorKind::TaskUnsupported) when the model has no captioner,
    /// [`BadOption`](crate::ErrorKind::BadOption) for options it cannot follow,
    /// [`Aborted`](crate::ErrorKind::Aborted) when cancelled, and what the device fails with.
    pub async fn caption_picture(
        &self,
        picture: &Picture,
        options: &CaptionOptions,
        on_progress: &mut dyn FnMut(CaptionProgress) -> Control,
    ) -> Result<Captions> {
        let mut last = CaptionProgress { text: String::new(), index: 0 };
        let mut on_event = |event: Event<'_>| {
            if let Event::Token { text, index } = event {
                last = CaptionProgress { text: text.to_owned(), index };
            }
            on_progress(last.clone())
        };
        self.caption_told(picture, options, &mut on_event).await
    }

    /// As [`caption_picture`](Self::caption_picture), told of tokens and then of captions that are scored.
    pub(super) async fn caption_told(
        &self,
        picture: &Picture,
        options: &CaptionOptions,
        on_event: &mut dyn FnMut(Event<'_>) -> Control,
    ) -> Result<Captions> {
        let part = self.part(Task::Caption)?;
        if options.match_score {
            self.part(Task::Itm)?;
        }
        let text = &part.config.text_config;
        options.generate.validate()?;
        options::check_length(&options.generate, text)?;
        let start = now_ms();
        let prompt = part.tokenizer.encode_prompt(options.prompt.as_deref())?;
        let grounding = self.caption_grounding(picture, part).await?;
        let ground = now_ms() - start;
        let mut decoder = ModelDecoder::new(&part.model, &self.device, grounding, text);
        // Samples grow side by side: the longest one counts.
        let mut tokens = vec![0; options.generate.num_captions];
        let mut report = |progress: Progress<'_>| {
            tokens[progress.index] += 1;
            let so_far = part.tokenizer.decode(progress.ids, true);
            on_event(Event::Token { text: &so_far, index: progress.index })
        };
        let found =
            generate(&mut decoder, &prompt, text.sep_token_id, &options.generate, &mut report).await?;
        let mut captions: Vec<Caption> = found
            .into_iter()
            .map(|h| Caption {
                text: part.tokenizer.decode(&h.ids, true),
                log_prob: h.log_prob,
                tokens: h.ids,
                match_score: None,
            })
            .collect();
        if options.match_score {
            let begin = options.prompt.as_deref().unwrap_or_default();
            let texts: Vec<String> = captions
                .iter()
                .map(|caption| format!("{begin} {}", caption.text).trim().to_owned())
                .collect();
            let mut on_step = |done: usize, total: usize| on_event(Event::Step { done, total });
            // Before the matcher looks at the picture, which takes longer than all that follows.
            step(&mut on_step, 0, texts.len())?;
            let logits = self.itm_logits(picture, &texts, Convention::Orig, &mut on_step).await?;
            for (caption, logits) in captions.iter_mut().zip(logits) {
                caption.match_score = Some(probability(logits));
            }
        }
        let text = captions.first().map(|caption| caption.text.clone()).unwrap_or_default();
        let tokens = tokens.into_iter().max().unwrap_or_default();
        let ms = Timings { encode: 0.0, ground, caption: now_ms() - start, tokens };
        Ok(Captions { text, captions, ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::LengthRule;
    use crate::image::Alpha;

    #[test]
    fn options_come_from_one_flat_object() {
        let json = r#"{"prompt":"a photo of","numBeams":3,"lengthRule":"orig","alpha":"discard"}"#;
        let options = CaptionOptions::from_json(json).unwrap();
        assert_eq!(options.prompt.as_deref(), Some("a photo of"));
        assert_eq!((options.generate.num_beams, options.generate.length_rule), (3, LengthRule::Orig));
        assert_eq!((options.image.alpha, options.image.apply_exif), (Alpha::Discard, true));
        assert_eq!(CaptionOptions::from_json("{}").unwrap(), CaptionOptions::default());
    }

    #[test]
    fn bad_options_have_their_code() {
        for json in ["", "[]", r#"{"beams":3}"#, r#"{"numBeams":0}"#, r#"{"prompt":3}"#, r#"{"alpha":"red"}"#]
        {
            assert_eq!(CaptionOptions::from_json(json).unwrap_err().code(), "bad-option", "{json}");
        }
    }
}
