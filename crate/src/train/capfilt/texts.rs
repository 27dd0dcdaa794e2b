//! What the stages say about texts, and what is made of it: pure functions of a record's texts.

use serde::{Deserialize, Serialize};

/// The synthetic caption of a picture: a line of the first stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Synthetic {
    /// The record.
    pub key: String,
    /// What the captioner said.
    pub caption: String,
    /// Sum of the log-probabilities of its tokens.
    pub log_prob: f32,
}

/// What the filter thinks of the texts of a picture: a line of the second stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Judged {
    /// The record.
    pub key: String,
    /// Each of the web's texts, in the record's order.
    pub web: Vec<Verdict>,
    /// The synthetic caption, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synthetic: Option<Verdict>,
}

/// What the filter thinks of a text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// The text.
    pub text: String,
    /// That it belongs to the picture: softmax of ITM's two logits.
    pub probability: f32,
    /// Whether that is enough.
    pub keep: bool,
}

/// Which texts of the web's pictures are learned from: the rows of the paper's Table 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Mode {
    /// The web's, as they are.
    None,
    /// The web's and the synthetic ones, unfiltered (C).
    Captioner,
    /// The web's that the filter keeps (F).
    Filter,
    /// The web's and the synthetic ones that the filter keeps (C and F).
    Both,
}

impl Mode {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Captioner => "captioner",
            Self::Filter => "filter",
            Self::Both => "both",
        }
    }

    /// Whether it needs the captioner's lines.
    pub const fn needs_captions(self) -> bool {
        matches!(self, Self::Captioner)
    }

    /// Whether it needs the filter's lines.
    pub const fn needs_decisions(self) -> bool {
        matches!(self, Self::Filter | Self::Both)
    }
}

/// The texts of a picture that are learned from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The web's.
    pub web: Vec<String>,
    /// The captioner's.
    pub synthetic: Option<String>,
}

impl Kept {
    /// Of a picture whose texts nobody judged.
    pub fn unfiltered(web: &[String], synthetic: Option<&Synthetic>) -> Self {
        Self { web: web.to_vec(), synthetic: synthetic.map(|line| line.caption.clone()) }
    }

    /// Of a picture whose texts the filter judged; the synthetic one only where it is `wanted`.
    pub fn filtered(judged: &Judged, wanted: bool) -> Self {
        let kept = |verdict: &&Verdict| verdict.keep;
        let text = |verdict: &Verdict| verdict.text.clone();
        Self {
            web: judged.web.iter().filter(kept).map(text).collect(),
            synthetic: judged.synthetic.as_ref().filter(|_| wanted).filter(kept).map(text),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.web.len() + usize::from(self.synthetic.is_some())
    }

    /// Whether nothing is left of the picture.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Texts in and out, of one origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    /// That there were.
    pub texts: usize,
    /// That were kept.
    pub kept: usize,
}

impl Flow {
    /// One more.
    pub fn count(&mut self, kept: bool) {
        self.texts += 1;
        self.kept += usize::from(kept);
    }

    /// Both together.
    pub fn add(&mut self, other: Self) {
        self.texts += other.texts;
        self.kept += other.kept;
    }

    /// The share that was dropped: of synthetic captions, the paper's noise ratio (Tables 2 and 4). 0 of
    /// nothing.
    pub fn noise_ratio(self) -> f64 {
        (self.texts - self.kept) as f64 / self.texts.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged() -> Judged {
        let verdict =
            |text: &str, probability| Verdict { text: text.into(), probability, keep: probability >= 0.5 };
        Judged {
            key: "a".into(),
            web: vec![verdict("shop now", 0.1), verdict("a dog", 0.9)],
            synthetic: Some(verdict("a brown dog", 0.5)),
        }
    }

    #[test]
    fn the_filter_keeps_what_it_takes_for_true() {
        let both = Kept::filtered(&judged(), true);
        assert_eq!(both, Kept { web: vec!["a dog".into()], synthetic: Some("a brown dog".into()) });
        let filter = Kept::filtered(&judged(), false);
        assert_eq!((filter.len(), filter.synthetic), (1, None));
        let mut none = judged();
        none.web.iter_mut().chain(&mut none.synthetic).for_each(|verdict| verdict.keep = false);
        assert!(Kept::filtered(&none, true).is_empty());
    }

    #[test]
    fn without_a_filter_everything_stays() {
        let synthetic = Synthetic { key: "a".into(), caption: "a dog".into(), log_prob: -1.0 };
        let web = ["shop now".to_owned()];
        assert_eq!(Kept::unfiltered(&web, Some(&synthetic)).len(), 2);
        assert_eq!(Kept::unfiltered(&web, None), Kept { web: web.to_vec(), synthetic: None });
    }

    #[test]
    fn lines_survive_json_and_unknown_fields_are_refused() {
        let text = serde_json::to_string(&judged()).unwrap();
        assert_eq!(serde_json::from_str::<Judged>(&text).unwrap(), judged());
        assert!(text.contains(r#""probability":0.9,"keep":true"#), "{text}");
        assert!(serde_json::from_str::<Synthetic>(r#"{"key":"a","caption":"b","logProb":0,"x":1}"#).is_err());
    }

    #[test]
    fn the_noise_ratio_is_the_share_that_was_dropped() {
        let mut flow = Flow::default();
        assert_eq!(flow.noise_ratio(), 0.0);
        [true, true, false, true].into_iter().for_each(|kept| flow.count(kept));
        flow.add(Flow { texts: 4, kept: 3 });
        assert_eq!((flow, flow.noise_ratio()), (Flow { texts: 8, kept: 6 }, 0.25));
    }
}
