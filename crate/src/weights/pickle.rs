//! The pickles that `torch.save` writes for tensors, and nothing else.
//!
//! A pickle is a program. This interpreter has the instructions that dictionaries of tensors are made
//! of; the only things that can be called make a dictionary or describe a tensor, and whatever else
//! a pickle names is an error before anything of it is interpreted. Values live in one list and refer to each
//! other by index, so nothing here recurses, and no instruction makes more than one of them.

use std::collections::HashMap;

use super::checkpoint::Dtype;
use crate::{Error, ErrorKind, Result};

/// The longest pickle that is read; that of a large model has some 150 kB.
pub(super) const LONGEST: u64 = 16 << 20;
/// Values in a pickle, names for them, and groups that are open: some 15 a tensor.
const MOST_VALUES: usize = 1 << 20;
const MOST_DIMENSIONS: usize = 8;

/// A tensor as a pickle describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pickled {
    /// The name of the file that holds its numbers, below `data/`.
    pub storage: String,
    /// Element type.
    pub dtype: Dtype,
    /// Bytes of an element.
    pub size: u64,
    /// Elements of the whole storage.
    pub elements: u64,
    /// Elements in front of its first.
    pub offset: u64,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Whether its elements lie row by row.
    pub is_contiguous: bool,
}

impl Pickled {
    /// Elements of the tensor itself.
    pub fn len(&self) -> u64 {
        self.shape.iter().map(|size| *size as u64).product()
    }
}

/// The tensors of a state dictionary, or of the one under `model`, by name and in its order.
///
/// # Errors
/// [`ErrorKind::WeightsFormat`] for anything else, and for names that are no part of a state dictionary.
pub(super) fn tensors(pickle: &[u8]) -> Result<Vec<(String, Pickled)>> {
    let mut machine = Machine::new(pickle);
    let top = machine.run()?;
    let Value::Dict(entries) = machine.value(top) else {
        return Err(refused("it holds no dictionary"));
    };
    let model = entries.iter().find_map(|(key, value)| match (machine.value(*key), machine.value(*value)) {
        (Value::Text("model"), Value::Dict(entries)) => Some(entries),
        _ => None,
    });
    let mut names = HashMap::new();
    let mut found = Vec::new();
    for (key, value) in model.unwrap_or(entries) {
        if let (Value::Text(name), Value::Tensor(tensor)) = (machine.value(*key), machine.value(*value)) {
            if names.insert(*name, ()).is_some() {
                return Err(refused(format!("it names `{name}` twice")));
            }
            found.push(((*name).to_owned(), tensor.clone()));
        }
    }
    if found.is_empty() {
        return Err(refused("its dictionary holds no tensors, nor does a dictionary `model` in it"));
    }
    Ok(found)
}

fn refused(why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::WeightsFormat, format!("weights: not a pickle of tensors: {why}"))
}

type Index = u32;

/// What a pickle can make.
#[derive(Debug)]
enum Value<'a> {
    /// Anything that tensors are not described with: None, flags, floats, lists.
    Other,
    Int(i64),
    Text(&'a str),
    Tuple(Vec<Index>),
    Dict(Vec<(Index, Index)>),
    Callable(Callable),
    StorageType(Dtype, u64),
    Storage {
        key: &'a str,
        dtype: Dtype,
        size: u64,
        elements: u64,
    },
    Tensor(Pickled),
}

/// The only things that can be called.
#[derive(Clone, Copy, Debug)]
enum Callable {
    OrderedDict,
    Tensor,
    Parameter,
}

/// (name, element type, bytes of an element) of the storages in `torch`.
const STORAGES: [(&str, Dtype, u64); 10] = [
    ("FloatStorage", Dtype::F32, 4),
    ("HalfStorage", Dtype::F16, 2),
    ("BFloat16Storage", Dtype::Bf16, 2),
    ("DoubleStorage", Dtype::F64, 8),
    ("LongStorage", Dtype::Other, 8),
    ("IntStorage", Dtype::Other, 4),
    ("ShortStorage", Dtype::Other, 2),
    ("CharStorage", Dtype::Other, 1),
    ("ByteStorage", Dtype::Other, 1),
    ("BoolStorage", Dtype::Other, 1),
];

struct Machine<'a> {
    rest: &'a [u8],
    values: Vec<Value<'a>>,
    stack: Vec<Index>,
    /// Heights of the stack where a group begins.
    marks: Vec<usize>,
    memo: HashMap<u32, Index>,
}

/// The value that stands for all of [`Value::Other`].
const OTHER: Index = 0;

impl<'a> Machine<'a> {
    fn new(pickle: &'a [u8]) -> Self {
        let values = vec![Value::Other];
        Self { rest: pickle, values, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() }
    }

    fn value(&self, index: Index) -> &Value<'a> {
        &self.values[index as usize]
    }

    /// Runs to the end and returns what is left.
    fn run(&mut self) -> Result<Index> {
        if self.byte()? != 0x80 {
            return Err(refused("it does not begin like one"));
        }
        let protocol = self.byte()?;
        if !(2..=5).contains(&protocol) {
            return Err(refused(format!("protocol {protocol}, expected 2 to 5")));
        }
        loop {
            let instruction = self.byte()?;
            if instruction == b'.' {
                return self.pop();
            }
            self.step(instruction)?;
            let kept = [self.values.len(), self.stack.len(), self.marks.len(), self.memo.len()];
            if kept.iter().any(|count| *count > MOST_VALUES) {
                return Err(refused(format!("more than {MOST_VALUES} values")));
            }
        }
    }

    fn step(&mut self, instruction: u8) -> Result<()> {
        match instruction {
            // FRAME: the length is a hint for readers of streams.
            0x95 => drop(self.take(8)?),
            b'(' => self.marks.push(self.stack.len()),
            b'N' | 0x88 | 0x89 => self.stack.push(OTHER),
            b'G' => {
                self.take(8)?;
                self.stack.push(OTHER);
            }
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()));
            }
            b'K' => {
                let value = self.byte()?;
                self.push(Value::Int(value.into()));
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()));
            }
            0x8a => self.long()?,
            b'X' => {
                let length = u32::from_le_bytes(self.array()?);
                self.text(length as usize)?;
            }
            0x8c => {
                let length = self.byte()?;
                self.text(length.into())?;
            }
            b')' => self.push(Value::Tuple(Vec::new())),
            0x85..=0x87 => {
                let members = self.pop_many(usize::from(instruction) - 0x84)?;
                self.push(Value::Tuple(members));
            }
            b't' => {
                let members = self.pop_group()?;
                self.push(Value::Tuple(members));
            }
            b']' => self.stack.push(OTHER),
            b'a' => {
                self.pop()?;
                self.top()?;
            }
            b'e' => {
                self.pop_group()?;
                self.top()?;
            }
            b'}' => self.push(Value::Dict(Vec::new())),
            b's' => {
                let pair = self.pop_many(2)?;
                self.set(&pair)?;
            }
            b'u' => {
                let pairs = self.pop_group()?;
                self.set(&pairs)?;
            }
            b'q' => {
                let slot = self.byte()?;
                self.remember(slot.into())?;
            }
            b'r' => {
                let slot = u32::from_le_bytes(self.array()?);
                self.remember(slot)?;
            }
            0x94 => self.remember(self.memo.len() as u32)?,
            b'h' => {
                let slot = self.byte()?;
                self.recall(slot.into())?;
            }
            b'j' => {
                let slot = u32::from_le_bytes(self.array()?);
                self.recall(slot)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.name(module, name)?;
            }
            0x93 => {
                let words = self.pop_many(2)?;
                let (Value::Text(module), Value::Text(name)) = (self.value(words[0]), self.value(words[1]))
                else {
                    return Err(refused("a name that is no text"));
                };
                let (module, name) = (*module, *name);
                self.name(module, name)?;
            }
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.push(storage);
            }
            b'R' => {
                let pair = self.pop_many(2)?;
                self.call(pair[0], pair[1])?;
            }
            // The attributes of a dictionary: `_metadata` of a state dictionary.
            b'b' => {
                self.pop()?;
                let object = self.top()?;
                if !matches!(self.value(object), Value::Dict(_)) {
                    return Err(refused("attributes of something that is no dictionary"));
                }
            }
            other => return Err(refused(format!("the instruction 0x{other:02x}, which no tensors need"))),
        }
        Ok(())
    }

    fn push(&mut self, value: Value<'a>) {
        self.stack.push(self.values.len() as Index);
        self.values.push(value);
    }

    /// The lowest place that may be taken from the stack.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Index> {
        self.stack[self.floor()..].last().copied().ok_or_else(|| refused("a value is missing"))
    }

    fn pop(&mut self) -> Result<Index> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Index>> {
        match self.stack.len().checked_sub(count) {
            Some(start) if start >= self.floor() => Ok(self.stack.split_off(start)),
            _ => Err(refused("a value is missing")),
        }
    }

    fn pop_group(&mut self) -> Result<Vec<Index>> {
        let start = self.marks.pop().ok_or_else(|| refused("the beginning of a group is missing"))?;
        Ok(self.stack.split_off(start))
    }

    fn remember(&mut self, slot: u32) -> Result<()> {
        let top = self.top()?;
        self.memo.insert(slot, top);
        Ok(())
    }

    fn recall(&mut self, slot: u32) -> Result<()> {
        let value =
            self.memo.get(&slot).ok_or_else(|| refused(format!("nothing was remembered as {slot}")))?;
        self.stack.push(*value);
        Ok(())
    }

    /// Keys and values by turns, into the dictionary on top of the stack.
    fn set(&mut self, pairs: &[Index]) -> Result<()> {
        let target = self.top()?;
        let (pairs, []) = pairs.as_chunks::<2>() else {
            return Err(refused("a key without a value"));
        };
        match &mut self.values[target as usize] {
            Value::Dict(entries) => entries.extend(pairs.iter().map(|[key, value]| (*key, *value))),
            _ => return Err(refused("entries of something that is no dictionary")),
        }
        Ok(())
    }

    fn long(&mut self) -> Result<()> {
        let length = usize::from(self.byte()?);
        let bytes = self.take(length)?;
        // Longer ones exist (random states); none is a dimension.
        if length > 8 {
            self.stack.push(OTHER);
            return Ok(());
        }
        let negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
        let mut wide = [if negative { 0xFF } else { 0 }; 8];
        wide[..length].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(wide)));
        Ok(())
    }

    fn text(&mut self, length: usize) -> Result<()> {
        let bytes = self.take(length)?;
        let text = std::str::from_utf8(bytes).map_err(|_| refused("a text that is not UTF-8"))?;
        self.push(Value::Text(text));
        Ok(())
    }

    /// What a pickle refers to by name.
    fn name(&mut self, module: &str, name: &str) -> Result<()> {
        let storage = || match module {
            "torch" => STORAGES.iter().find(|(known, ..)| *known == name),
            _ => None,
        };
        let value = match (module, name) {
            ("collections", "OrderedDict") => Value::Callable(Callable::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Value::Callable(Callable::Tensor),
            ("torch._utils", "_rebuild_parameter") => Value::Callable(Callable::Parameter),
            _ => match storage() {
                Some((_, dtype, size)) => Value::StorageType(*dtype, *size),
                None => {
                    let name: String = format!("{module}.{name}").chars().take(200).collect();
                    return Err(refused(format!(
                        "it names `{name}`, which is no part of a state dictionary"
                    )));
                }
            },
        };
        self.push(value);
        Ok(())
    }

    /// `("storage", type, key, device, elements)`.
    fn storage(&self, id: Index) -> Result<Value<'a>> {
        let Value::Tuple(members) = self.value(id) else {
            return Err(refused("a storage without a description"));
        };
        let [kind, storage_type, key, _device, elements] = members[..] else {
            return Err(refused("a storage with another description than expected"));
        };
        match (self.value(kind), self.value(storage_type), self.value(key), self.value(elements)) {
            (
                Value::Text("storage"),
                Value::StorageType(dtype, size),
                Value::Text(key),
                Value::Int(elements),
            ) => {
                let elements =
                    u64::try_from(*elements).map_err(|_| refused("a storage of negative length"))?;
                Ok(Value::Storage { key, dtype: *dtype, size: *size, elements })
            }
            _ => Err(refused("a storage with another description than expected")),
        }
    }

    fn call(&mut self, callable: Index, arguments: Index) -> Result<()> {
        let (Value::Callable(callable), Value::Tuple(arguments)) =
            (self.value(callable), self.value(arguments))
        else {
            return Err(refused("a call of something that cannot be called"));
        };
        match (callable, &arguments[..]) {
            (Callable::OrderedDict, []) => self.push(Value::Dict(Vec::new())),
            (Callable::Tensor, [storage, offset, shape, strides, ..]) => {
                let tensor = self.tensor(*storage, *offset, *shape, *strides)?;
                self.push(Value::Tensor(tensor));
            }
            (Callable::Parameter, [tensor, ..]) if matches!(self.value(*tensor), Value::Tensor(_)) => {
                self.stack.push(*tensor);
            }
            _ => return Err(refused(format!("{callable:?} is called with other arguments than expected"))),
        }
        Ok(())
    }

    fn tensor(&self, storage: Index, offset: Index, shape: Index, strides: Index) -> Result<Pickled> {
        let odd = || refused("a tensor with another description than expected");
        let (Value::Storage { key, dtype, size, elements }, Value::Int(offset)) =
            (self.value(storage), self.value(offset))
        else {
            return Err(odd());
        };
        let (shape, strides) = (self.sizes(shape)?, self.sizes(strides)?);
        let offset = u64::try_from(*offset).map_err(|_| odd())?;
        if shape.len() != strides.len() || shape.len() > MOST_DIMENSIONS {
            return Err(odd());
        }
        let mut expected = 1u64;
        let mut is_contiguous = true;
        for (size, stride) in shape.iter().zip(&strides).rev() {
            // Of a dimension of one, the stride means nothing.
            is_contiguous &= *size <= 1 || *stride == expected;
            expected = expected.checked_mul(*size).ok_or_else(odd)?;
        }
        let inside = expected == 0 || offset.checked_add(expected).is_some_and(|end| end <= *elements);
        if is_contiguous && !inside {
            return Err(refused(format!(
                "a tensor of {expected} elements in a storage of {elements}, {offset} from its beginning"
            )));
        }
        let shape = shape.into_iter().map(|size| usize::try_from(size).map_err(|_| odd()));
        Ok(Pickled {
            storage: (*key).to_owned(),
            dtype: *dtype,
            size: *size,
            elements: *elements,
            offset,
            shape: shape.collect::<Result<_>>()?,
            is_contiguous,
        })
    }

    fn sizes(&self, tuple: Index) -> Result<Vec<u64>> {
        let Value::Tuple(members) = self.value(tuple) else { return Err(refused("a shape that is none")) };
        let size = |member: &Index| match self.value(*member) {
            Value::Int(size) => u64::try_from(*size).map_err(|_| refused("a negative size")),
            _ => Err(refused("a size that is no number")),
        };
        members.iter().map(size).collect()
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (now, later) =
            self.rest.split_first_chunk::<N>().ok_or_else(|| refused("it ends within an instruction"))?;
        self.rest = later;
        Ok(*now)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (now, later) =
            self.rest.split_at_checked(length).ok_or_else(|| refused("it ends within an instruction"))?;
        self.rest = later;
        Ok(now)
    }

    fn line(&mut self) -> Result<&'a str> {
        let end = self.rest.iter().position(|byte| *byte == b'\n');
        let end = end.ok_or_else(|| refused("it ends within a name"))?;
        let line = self.take(end + 1)?;
        std::str::from_utf8(&line[..end]).map_err(|_| refused("a name that is not UTF-8"))
    }
}

#[cfg(test)]
mod tests;
