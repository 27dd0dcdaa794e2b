//! From the names and shapes in a file to what has to be done with each tensor.
//!
//! Everything that can be wrong with names, shapes and element types is found here, before a byte of
//! data is read.

use std::collections::{BTreeMap, HashMap};

use burn::tensor::Device;

use super::checkpoint::Dtype;
use super::keymap::{Meaning, meaning};
use super::quantise::row_sizes;
use super::schema::{Kind, Parameter, Part, schema};
use crate::config::BlipConfig;
use crate::kernels::Format;
use crate::model::{DecoderNetwork, Networks};
use crate::{Error, ErrorKind, Result};

/// What a file says about a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name in the file.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Its dimensions, outermost first.
    pub shape: Vec<usize>,
}

/// What to do with every tensor of a file.
#[derive(Debug)]
pub(super) struct Plan {
    /// The parameters to be filled, in the order of [`schema`].
    pub parameters: Vec<Parameter>,
    /// What each tensor of the file is for, in the order they were given.
    pub roles: Vec<Role>,
    /// The networks, as far as names tell: equal copies look like parameters of their own.
    pub networks: Networks,
}

/// What a tensor of a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Nothing: left over from training.
    Ignored,
    /// It fills this place.
    Fills(Slot),
    /// It must equal what fills this place.
    Repeats(Slot),
}

/// A place in a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Slot {
    /// Index of the parameter.
    pub parameter: usize,
    /// Index of its part.
    pub part: usize,
    /// Scales come first, as in files.
    pub field: Field,
}

/// A quantised matrix is stored as two tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Field {
    /// `X.weight.scales`.
    Scales,
    /// `X.weight`: codes, or plain numbers.
    Values,
}

/// What follows the name of a quantised matrix in the name of its scales.
pub(super) const SCALES: &str = ".scales";

/// The tensors of a file by what they stand for in our words; of two for the same thing, both.
type Named<'a> = BTreeMap<(String, Field), Vec<(usize, &'a Entry)>>;

impl Plan {
    /// # Errors
    /// [`ErrorKind::WeightsUnknown`], [`ErrorKind::WeightsShape`] and [`ErrorKind::WeightsMissing`]
    /// name the tensors concerned.
    pub fn new(config: &BlipConfig, entries: &[Entry], device: &Device) -> Result<Self> {
        config.validate()?;
        let named = by_meaning(entries)?;
        let networks = networks_of(&named, config)?;
        let parameters = schema(config, &networks, device);
        let mut roles = vec![Role::Ignored; entries.len()];
        let mut faults = Faults::default();
        let mut used = 0;
        for (parameter, about) in parameters.iter().enumerate() {
            let mut format = None;
            for (part, expected) in about.parts.iter().enumerate() {
                for field in [Field::Values, Field::Scales] {
                    let key = (expected.path.clone(), field);
                    let found = named.get(&key).map(Vec::as_slice).unwrap_or_default();
                    used += usize::from(!found.is_empty());
                    let slot = Slot { parameter, part, field };
                    for (nth, (index, entry)) in found.iter().enumerate() {
                        roles[*index] = if nth == 0 { Role::Fills(slot) } else { Role::Repeats(slot) };
                        faults.check_entry(about.kind, expected, field, entry);
                    }
                    faults.check_part(
                        expected,
                        field,
                        found,
                        &mut format,
                        named.get(&(key.0, Field::Values)),
                    );
                }
            }
        }
        if used < named.len() {
            let parts = || parameters.iter().flat_map(|parameter| &parameter.parts);
            let known: std::collections::HashSet<&str> = parts().map(|part| &*part.path).collect();
            let unknown = named.keys().filter(|(path, _)| !known.contains(&**path));
            faults.unknown.extend(unknown.map(|(path, field)| label(path, *field)));
        }
        faults.into_result()?;
        Ok(Self { parameters, roles, networks })
    }

    /// The place of a part by its name in our words, if the plan has it.
    pub fn slots(&self) -> HashMap<(&str, Field), Slot> {
        let mut slots = HashMap::new();
        for (parameter, about) in self.parameters.iter().enumerate() {
            for (part, expected) in about.parts.iter().enumerate() {
                for field in [Field::Scales, Field::Values] {
                    slots.insert((&*expected.path, field), Slot { parameter, part, field });
                }
            }
        }
        slots
    }

    /// How the matrices among these tensors, which the plan was made for, are stored; each way once.
    pub fn formats(&self, entries: &[Entry]) -> Vec<Format> {
        let mut formats = Vec::new();
        for (role, entry) in self.roles.iter().zip(entries) {
            if let Role::Fills(Slot { parameter, field: Field::Values, .. }) = role
                && self.parameters[*parameter].kind == Kind::Matrix
                && let Some(format) = format_of(entry.dtype)
                && !formats.contains(&format)
            {
                formats.push(format);
            }
        }
        formats
    }

    /// The part at a place.
    pub fn part(&self, slot: Slot) -> &Part {
        &self.parameters[slot.parameter].parts[slot.part]
    }
}

/// How a matrix of that element type is stored; `None` when it is no matrix's.
pub(super) fn format_of(dtype: Dtype) -> Option<Format> {
    match dtype {
        Dtype::F32 | Dtype::F16 | Dtype::Bf16 | Dtype::F64 => Some(Format::Float),
        Dtype::I8 => Some(Format::Q8),
        Dtype::U8 => Some(Format::Q4),
        Dtype::Other => None,
    }
}

fn by_meaning(entries: &[Entry]) -> Result<Named<'_>> {
    let mut named = Named::new();
    let mut unknown = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let (stem, field) = match entry.name.strip_suffix(SCALES) {
            Some(stem) => (stem, Field::Scales),
            None => (&*entry.name, Field::Values),
        };
        match meaning(stem) {
            Meaning::Parameter(path) => named.entry((path, field)).or_default().push((index, entry)),
            Meaning::Ignored => {}
            Meaning::Unknown => unknown.push(entry.name.clone()),
        }
    }
    if unknown.is_empty() {
        return Ok(named);
    }
    let message = format!("weights: {} tensors belong to no BLIP model: {}", unknown.len(), list(&unknown));
    Err(Error::new(ErrorKind::WeightsUnknown, message))
}

fn networks_of(named: &Named<'_>, config: &BlipConfig) -> Result<Networks> {
    let has = |prefix: &str| named.keys().any(|(path, _)| path.starts_with(prefix));
    let text_encoder = has("text_encoder.");
    let decoder = if !has("text_decoder.") && !has("lm.") {
        None
    } else {
        let key = "text_decoder.layers.0.crossattention.key.weight";
        let missing =
            || Error::new(ErrorKind::WeightsMissing, format!("weights: 1 tensors are missing: {key}"));
        let (_, entry) = named.get(&(key.to_owned(), Field::Values)).ok_or_else(missing)?[0];
        // A width beyond any model's is found not to fit, like any other wrong shape.
        let stored = entry.shape.get(1).copied().ok_or_else(missing)?.clamp(1, 1 << 20);
        // A quantised matrix does not say where its padding starts; there are only two candidates.
        let (vision, text) = (config.vision_config.hidden_size, config.text_config.hidden_size);
        let candidates = if text_encoder { [text, vision] } else { [vision, text] };
        let padded = |format: Format| {
            candidates.into_iter().find(|width| row_sizes(format, *width).0 == stored).unwrap_or(stored)
        };
        let grounding_width = match format_of(entry.dtype) {
            Some(format @ (Format::Q8 | Format::Q4)) => padded(format),
            _ => stored,
        };
        Some(DecoderNetwork::Own { grounding_width })
    };
    let twin =
        |path: &str| path.contains(".crossattention.first.") || path.contains(".crossattention.second.");
    let nlvr2 = has("nlvr2.") || named.keys().any(|(path, _)| twin(path));
    let tied_lm = !named.contains_key(&("lm.decoder".to_owned(), Field::Values));
    Ok(Networks {
        vision: has("vision."),
        text_encoder,
        decoder,
        tied_lm,
        itc: has("itc."),
        itm: has("itm."),
        nlvr2,
    })
}

/// What is wrong, so that one error names all of it.
#[derive(Default)]
struct Faults {
    shapes: Vec<String>,
    missing: Vec<String>,
    unknown: Vec<String>,
}

impl Faults {
    /// A tensor against what its place needs.
    fn check_entry(&mut self, kind: Kind, part: &Part, field: Field, entry: &Entry) {
        let name = label(&part.path, field);
        let format = format_of(entry.dtype);
        let expected = match (field, format) {
            (Field::Scales, _) if entry.dtype != Dtype::F16 => {
                return self.shapes.push(format!("`{name}` has another element type than f16"));
            }
            // Their shape follows from the codes'.
            (Field::Scales, _) => return,
            (Field::Values, None) => {
                let accepted = "a float (f32, f16, bf16 or f64), or codes (i8 or u8)";
                return self.shapes.push(format!("`{name}` has an element type that is not {accepted}"));
            }
            (Field::Values, Some(Format::Q8 | Format::Q4)) if kind != Kind::Matrix => {
                return self.shapes.push(format!("`{name}` is quantised, expected a float"));
            }
            (Field::Values, Some(format @ (Format::Q8 | Format::Q4))) => {
                vec![part.rows, row_sizes(format, part.columns).0]
            }
            (Field::Values, Some(_)) => part.shape.clone(),
        };
        let flattened = kind == Kind::Matrix && entry.shape == [part.rows, part.columns];
        if entry.shape != expected && !(flattened && format == Some(Format::Float)) {
            self.shapes.push(format!("`{name}` has the shape {:?}, expected {expected:?}", entry.shape));
        }
    }

    /// Whether what belongs together is there and fits together.
    fn check_part(
        &mut self,
        part: &Part,
        field: Field,
        found: &[(usize, &Entry)],
        format: &mut Option<Format>,
        values: Option<&Vec<(usize, &Entry)>>,
    ) {
        let name = label(&part.path, field);
        let own = values.and_then(|found| format_of(found[0].1.dtype));
        match (field, own) {
            (Field::Values, _) if found.is_empty() => self.missing.push(name),
            (Field::Values, Some(own)) if *format.get_or_insert(own) != own => {
                self.shapes.push(format!("`{name}` is stored in another format than what belongs beside it"));
            }
            (Field::Scales, Some(own @ (Format::Q8 | Format::Q4))) => {
                let expected = [part.rows, row_sizes(own, part.columns).1];
                match found.iter().find(|(_, entry)| entry.shape != expected) {
                    Some((_, entry)) => self
                        .shapes
                        .push(format!("`{name}` has the shape {:?}, expected {expected:?}", entry.shape)),
                    None if found.is_empty() => self.missing.push(name),
                    None => {}
                }
            }
            (Field::Scales, Some(_)) if !found.is_empty() => self.unknown.push(name),
            _ => {}
        }
    }

    fn into_result(self) -> Result<()> {
        for (kind, verb, names) in [
            (ErrorKind::WeightsShape, "do not fit the configuration", self.shapes),
            (ErrorKind::WeightsMissing, "are missing", quoted(self.missing)),
            (ErrorKind::WeightsUnknown, "belong to no part of this model", quoted(self.unknown)),
        ] {
            if !names.is_empty() {
                let message = format!("weights: {} tensors {verb}: {}", names.len(), listed(&names));
                return Err(Error::new(kind, message));
            }
        }
        Ok(())
    }
}

fn label(path: &str, field: Field) -> String {
    format!("{path}{}", if field == Field::Scales { SCALES } else { "" })
}

fn quoted(names: Vec<String>) -> Vec<String> {
    names.into_iter().map(|name| format!("`{name}`")).collect()
}

fn list(names: &[String]) -> String {
    listed(&quoted(names.to_vec()))
}

/// The first few, and how many more there are.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let mut text = names[..names.len().min(SHOWN)].join(", ");
    if names.len() > SHOWN {
        text += &format!(" and {} more", names.len() - SHOWN);
    }
    text
}
