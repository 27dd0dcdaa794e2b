//! A checkpoint that streams by becomes a container that streams out: each tensor is written as soon as
//! it has passed, and what is in memory is what is left of it in its new precision.
//!
//! The order of the input is that of the output, so its header is known before the first tensor. Copies
//! are dropped as in any conversion, but that they are copies is only known once both have passed: a head
//! is presumed to be tied to the word embedding, as it is in every published file, and a file in which it
//! is not says so in an error.

use std::collections::{BTreeMap, HashMap};

use burn::tensor::Device;
use sha2::{Digest as _, Sha256};

use super::archive::{self, LOCAL, before_data};
use super::checkpoint::{Dtype, to_f32};
use super::digests::{self, FileDigests};
use super::encode::{Encoder, FileOrder, Item, is_even, metadata};
use super::manifest::{Quantisation, hex};
use super::plan::{Field, Plan, Role, Slot};
use super::saved::{Saved, Saving};
use super::survey::{Layout, Located, Region};
use crate::config::BlipConfig;
use crate::model::Networks;
use crate::{Error, ErrorKind, Result};

/// About how many bytes of a tensor are turned into its new precision at a time.
const BAND: usize = 1 << 20;

/// Turns the bytes of a checkpoint, in order, into those of a container.
#[derive(Debug)]
pub(super) struct Stream {
    regions: Vec<Region>,
    /// What is done with tensors, in the order in which they end.
    feeds: Vec<Feed>,
    /// Indices of feeds in the order in which they begin.
    beginnings: Vec<usize>,
    items: Vec<Item>,
    order: FileOrder,
    networks: Networks,
    /// Whether the copies of a head that was presumed to be tied differ.
    pub is_untied: bool,
    state: State,
    /// The last place where no tensor was under way.
    resting: Resting,
}

/// A tensor on its way.
#[derive(Debug)]
struct Feed {
    tensor: Located,
    /// What is written for it.
    item: Option<usize>,
    /// All tensors with the same number must be equal.
    copy: Option<usize>,
}

#[derive(Debug)]
struct State {
    position: u64,
    place: Place,
    input: Sha256,
    output: FileDigests,
    /// Feeds that have begun, in the order of `beginnings`, and that have ended, in their own.
    begun: usize,
    ended: usize,
    active: Vec<Active>,
    /// Tensors that come last in the file, by item and tensor of it.
    late: BTreeMap<(usize, usize), Vec<u8>>,
    /// Digest of the first of each group of copies.
    copies: HashMap<usize, [u8; 32]>,
}

/// Where in the input the next byte is.
#[derive(Clone, Debug)]
enum Place {
    /// In front of the region with this index, or behind the last.
    Before(usize),
    /// In the header of a region, of which these bytes were read.
    Header(usize, Vec<u8>),
    /// In the data of a region, which begins at this position.
    Data(usize, u64),
}

/// What a conversion can go on from: everything up to a tensor is read and written, and nothing of the
/// next.
#[derive(Clone, Debug)]
struct Resting {
    position: u64,
    place: Place,
    ended: usize,
    input: Sha256,
    output: FileDigests,
}

/// A tensor that is passing by.
#[derive(Debug)]
struct Active {
    feed: usize,
    /// What is written, by the index of its item.
    encoder: Option<(usize, Encoder)>,
    digest: Option<Sha256>,
    /// The beginning of a band that is not complete.
    band: Vec<u8>,
    /// Bytes of a band; whole rows.
    wanted: usize,
}

/// A tensor that has passed: what is written for it, and the digest of what was read.
struct Passed {
    tensors: Vec<Vec<u8>>,
    digest: Option<[u8; 32]>,
}

impl Stream {
    /// # Errors
    /// What is wrong with names, shapes and element types.
    pub fn new(
        config: &BlipConfig,
        layout: Layout,
        quantisation: Quantisation,
        may_be_tied: bool,
    ) -> Result<Self> {
        let Layout { mut tensors, regions } = layout;
        // The order in which tensors end.
        let key = |tensor: &Located| (tensor.region, tensor.range.end, tensor.range.start);
        tensors.sort_by(|a, b| key(a).cmp(&key(b)).then_with(|| a.entry.name.cmp(&b.entry.name)));
        let entries: Vec<_> = tensors.iter().map(|tensor| tensor.entry.clone()).collect();
        let plan = Plan::new(config, &entries, &census_device())?;
        if !plan.networks.vision {
            let message = "weights: the tensors of the image encoder are missing";
            return Err(Error::new(ErrorKind::WeightsMissing, message));
        }
        let slots = plan.slots();
        let slot_of = |path: &str| slots.get(&(path, Field::Values)).copied();
        let tied = slot_of("lm.decoder").zip(slot_of("text_decoder.word_embeddings.weight"));
        let tied = tied.filter(|_| may_be_tied && !plan.networks.tied_lm);
        let mut networks = plan.networks.clone();
        networks.tied_lm |= tied.is_some();
        let group_of = copies(&plan, tied);
        let mut items = Vec::new();
        let mut feeds = Vec::new();
        for (tensor, role) in tensors.into_iter().zip(&plan.roles) {
            let (slot, fills) = match role {
                Role::Ignored => continue,
                Role::Fills(slot) => (*slot, tied.is_none_or(|(head, _)| head != *slot)),
                Role::Repeats(slot) => (*slot, false),
            };
            if slot.field == Field::Scales || matches!(tensor.entry.dtype, Dtype::I8 | Dtype::U8) {
                let message = format!("weights: `{}` is quantised already", tensor.entry.name);
                return Err(Error::new(ErrorKind::WeightsFormat, message));
            }
            let item = fills.then_some(items.len());
            if fills {
                let about = &plan.parameters[slot.parameter];
                items.push(Item::new(about, plan.part(slot), quantisation)?);
            }
            feeds.push(Feed { tensor, item, copy: group_of.get(&slot).copied() });
        }
        let order = FileOrder::new(items.iter(), &metadata(quantisation));
        let mut beginnings: Vec<usize> = (0..feeds.len()).collect();
        beginnings
            .sort_by_key(|index| (feeds[*index].tensor.region, feeds[*index].tensor.range.start, *index));
        let resting = Resting {
            position: 0,
            place: Place::Before(0),
            ended: 0,
            input: Sha256::new(),
            output: FileDigests::default(),
        };
        let state = State::at(&resting, BTreeMap::new(), HashMap::new());
        Ok(Self { regions, feeds, beginnings, items, order, networks, is_untied: false, state, resting })
    }

    /// Bytes of the container.
    pub fn output_bytes(&self) -> u64 {
        self.order.total
    }

    /// Bytes of the input so far.
    pub fn position(&self) -> u64 {
        self.state.position
    }

    /// The networks of the file.
    pub fn networks(&self) -> &Networks {
        &self.networks
    }

    /// Tensors that have passed, and all.
    pub fn progress(&self) -> (usize, usize) {
        (self.state.ended, self.feeds.len())
    }

    /// Takes the next bytes of the input and returns the next of the container.
    ///
    /// # Errors
    /// [`ErrorKind::WeightsNotFinite`] and [`ErrorKind::WeightsFormat`], naming the tensor, and
    /// [`ErrorKind::OutOfMemory`].
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        if self.state.output.bytes() == 0 {
            self.state.output.add(&self.order.header);
            out.extend_from_slice(&self.order.header);
        }
        loop {
            let room = self.settle(&mut out)?;
            if bytes.is_empty() {
                self.rest();
                return Ok(out);
            }
            let length = usize::try_from(room).map_or(bytes.len(), |room| room.min(bytes.len()));
            let (now, later) = bytes.split_at(length);
            self.take(now)?;
            bytes = later;
        }
    }

    /// The digest of the input, and the digests of the output, after the last byte.
    ///
    /// # Errors
    /// [`ErrorKind::WeightsFormat`] when bytes are missing.
    pub fn finish(&self) -> Result<(String, FileDigests)> {
        let State { ended, output, input, .. } = &self.state;
        if *ended < self.feeds.len() || output.bytes() != self.order.total {
            let message = format!("weights: the file ends after {ended} of {} tensors", self.feeds.len());
            return Err(Error::new(ErrorKind::WeightsFormat, message));
        }
        Ok((hex(&input.clone().finalize().into()), output.clone()))
    }

    /// Takes bytes that all mean the same: up to the next place where a tensor begins or ends.
    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        let Self { state, feeds, items, .. } = self;
        state.input.update(bytes);
        state.position += bytes.len() as u64;
        match &mut state.place {
            Place::Before(_) => Ok(()),
            Place::Header(_, header) => {
                header.extend_from_slice(bytes);
                Ok(())
            }
            Place::Data(..) => {
                let mut active = state.active.iter_mut();
                active.try_for_each(|active| active.take(bytes, feeds[active.feed].tensor.entry.dtype, items))
            }
        }
    }

    /// Does what is due at this position, and returns how many bytes there are to the next such place.
    fn settle(&mut self, out: &mut Vec<u8>) -> Result<u64> {
        loop {
            let position = self.state.position;
            let place = match &self.state.place {
                Place::Before(index) => match self.regions.get(*index) {
                    None => return Ok(u64::MAX),
                    Some(region) if position < region.start => return Ok(region.start - position),
                    Some(region) if region.has_header => Place::Header(*index, Vec::new()),
                    Some(region) => Place::Data(*index, region.start),
                },
                Place::Header(index, header) => {
                    let length = if header.len() < LOCAL { LOCAL } else { before_data(header)? };
                    if header.len() < length {
                        return Ok((length - header.len()) as u64);
                    }
                    let region = self.regions[*index];
                    if position + region.size > region.limit {
                        return Err(archive::refused("an entry overlaps what follows it"));
                    }
                    Place::Data(*index, position)
                }
                Place::Data(index, start) => {
                    let (index, within) = (*index, position - start);
                    self.pass(index, within, out)?;
                    let size = self.regions[index].size;
                    if within < size {
                        return Ok(self.next_stop(index, within).min(size - within));
                    }
                    Place::Before(index + 1)
                }
            };
            self.state.place = place;
        }
    }

    /// Bytes to where the next tensor of the region begins or ends.
    fn next_stop(&self, region: usize, within: u64) -> u64 {
        let next = self.beginnings.get(self.state.begun).map(|index| &self.feeds[*index].tensor);
        let begins = next.filter(|tensor| tensor.region == region).map(|tensor| tensor.range.start);
        let ends = self.state.active.iter().map(|active| self.feeds[active.feed].tensor.range.end);
        let stop = ends.chain(begins).min();
        stop.map_or(u64::MAX, |stop| stop.saturating_sub(within))
    }

    /// Ends and begins the tensors that end and begin at this place of the region.
    fn pass(&mut self, region: usize, within: u64, out: &mut Vec<u8>) -> Result<()> {
        loop {
            self.end_all(within, out)?;
            // Between the two nothing may be under way.
            self.rest();
            let before = self.state.begun;
            while let Some(index) = self.beginnings.get(self.state.begun) {
                let Feed { tensor, item, copy } = &self.feeds[*index];
                if (tensor.region, tensor.range.start) != (region, within) {
                    break;
                }
                let item = item.map(|item| (item, &self.items[item]));
                self.state.active.push(Active::new(*index, tensor, item, copy.is_some())?);
                self.state.begun += 1;
            }
            // One without elements ends where it begins.
            if self.state.begun == before {
                return Ok(());
            }
        }
    }

    /// Writes the tensors that end at this place of the current region.
    fn end_all(&mut self, within: u64, out: &mut Vec<u8>) -> Result<()> {
        let mut ended = Vec::new();
        for index in (0..self.state.active.len()).rev() {
            if self.feeds[self.state.active[index].feed].tensor.range.end == within {
                ended.push(self.state.active.swap_remove(index));
            }
        }
        if ended.is_empty() {
            return Ok(());
        }
        ended.sort_by_key(|active| active.feed);
        for active in ended {
            self.end(active, out)?;
        }
        if self.state.ended == self.feeds.len() {
            for bytes in self.order.late.iter().filter_map(|place| self.state.late.get(place)) {
                self.state.output.add(bytes);
                out.extend_from_slice(bytes);
            }
        }
        Ok(())
    }

    /// Notes this place as one to go on from, if nothing is under way.
    fn rest(&mut self) {
        let State { position, place, ended, input, output, active, .. } = &self.state;
        if active.is_empty() && !matches!(place, Place::Header(..)) {
            let (input, output) = (input.clone(), output.clone());
            self.resting =
                Resting { position: *position, place: place.clone(), ended: *ended, input, output };
        }
    }

    /// Writes a tensor that has passed.
    fn end(&mut self, active: Active, out: &mut Vec<u8>) -> Result<()> {
        let feed = &self.feeds[active.feed];
        let Passed { tensors, digest } = active.finish(feed.tensor.entry.dtype, &self.items)?;
        if let (Some(group), Some(digest)) = (feed.copy, digest)
            && *self.state.copies.entry(group).or_insert(digest) != digest
        {
            return Err(self.contradiction(group));
        }
        for (tensor, bytes) in tensors.into_iter().enumerate() {
            let item = feed.item.unwrap_or_default();
            if !is_even(&self.items[item].entries[tensor]) {
                self.state.late.insert((item, tensor), bytes);
                continue;
            }
            self.state.output.add(&bytes);
            if out.is_empty() {
                *out = bytes;
            } else {
                out.extend_from_slice(&bytes);
            }
        }
        self.state.ended += 1;
        Ok(())
    }

    fn contradiction(&mut self, group: usize) -> Error {
        let members: Vec<&Feed> = self.feeds.iter().filter(|feed| feed.copy == Some(group)).collect();
        self.is_untied = members.iter().any(|feed| feed.tensor.entry.name.ends_with(UNTIED_HEAD))
            && members
                .iter()
                .any(|feed| feed.item.is_some_and(|item| self.items[item].name().ends_with(EMBEDDING)));
        let names: Vec<_> = members.iter().map(|feed| format!("`{}`", feed.tensor.entry.name)).collect();
        let hint = if self.is_untied { ": convert it as untied" } else { "" };
        let message =
            format!("weights: {} are one parameter with different values{hint}", names.join(" and "));
        Error::new(ErrorKind::WeightsFormat, message)
    }
}

const UNTIED_HEAD: &str = ".predictions.decoder.weight";
const EMBEDDING: &str = ".word_embeddings.weight";

/// Where a schema is made that nothing is put on.
fn census_device() -> Device {
    #[cfg(feature = "flex")]
    return Device::flex();
    #[cfg(not(feature = "flex"))]
    Device::default()
}

/// Places that are stored more than once, by a number for each set of copies.
fn copies(plan: &Plan, tied: Option<(Slot, Slot)>) -> HashMap<Slot, usize> {
    let mut groups = HashMap::new();
    if let Some((head, table)) = tied {
        groups.extend([(head, 0), (table, 0)]);
    }
    for role in &plan.roles {
        if let Role::Repeats(slot) = role {
            let next = groups.len() + 1;
            groups.entry(*slot).or_insert(next);
        }
    }
    groups
}

impl Active {
    fn new(feed: usize, tensor: &Located, item: Option<(usize, &Item)>, is_copied: bool) -> Result<Self> {
        let row = item.map_or(1, |(_, item)| item.part.columns * tensor.entry.dtype.size()).max(1);
        let wanted = (BAND / row).max(1) * row;
        let digest = is_copied.then(|| {
            // Equal bytes of another type or shape are something else.
            Sha256::new_with_prefix(format!("{:?}{:?}", tensor.entry.dtype, tensor.entry.shape))
        });
        let encoder = item.map(|(index, item)| Ok((index, item.encode(false)?))).transpose()?;
        Ok(Self { feed, encoder, digest, band: Vec::new(), wanted })
    }

    /// Takes the next bytes of its tensor.
    fn take(&mut self, mut bytes: &[u8], dtype: Dtype, items: &[Item]) -> Result<()> {
        if let Some(digest) = &mut self.digest {
            digest.update(bytes);
        }
        while !bytes.is_empty() && self.encoder.is_some() {
            let (now, later) = bytes.split_at((self.wanted - self.band.len()).min(bytes.len()));
            self.band.extend_from_slice(now);
            bytes = later;
            if self.band.len() == self.wanted {
                self.encode(dtype, items)?;
            }
        }
        Ok(())
    }

    fn encode(&mut self, dtype: Dtype, items: &[Item]) -> Result<()> {
        if let Some((item, encoder)) = &mut self.encoder {
            encoder.push(&items[*item], &to_f32(dtype, &self.band)?)?;
            self.band.clear();
        }
        Ok(())
    }

    /// The bytes of what is written for it, and the digest of what was read.
    fn finish(mut self, dtype: Dtype, items: &[Item]) -> Result<Passed> {
        if !self.band.is_empty() {
            self.encode(dtype, items)?;
        }
        let digest = self.digest.map(|digest| digest.finalize().into());
        let tensors = match self.encoder {
            Some((item, encoder)) => encoder.finish(&items[item])?.0,
            None => Vec::new(),
        };
        Ok(Passed { tensors, digest })
    }
}

impl State {
    fn at(
        resting: &Resting,
        late: BTreeMap<(usize, usize), Vec<u8>>,
        copies: HashMap<usize, [u8; 32]>,
    ) -> Self {
        let Resting { position, place, ended, input, output } = resting.clone();
        // Where nothing is under way, what has begun has ended.
        Self { position, place, input, output, begun: ended, ended, active: Vec::new(), late, copies }
    }
}

impl Stream {
    /// Bytes of the input and of the output at the place that [`save`](Self::save) saves.
    pub fn resting(&self) -> (u64, u64) {
        (self.resting.position, self.resting.output.bytes())
    }

    /// What [`restore`](Self::restore) goes on from: the last place where no tensor was under way.
    pub fn save(&self, out: &mut Saved) {
        let Resting { position, place, ended, input, output } = &self.resting;
        let (region, data) = match place {
            Place::Before(region) | Place::Header(region, _) => (*region, u64::MAX),
            Place::Data(region, data) => (*region, *data),
        };
        for number in [*position, region as u64, data, *ended as u64] {
            out.number(number);
        }
        out.bytes(&digests::save(input));
        out.bytes(&output.save());
        // What was written of later tensors will be written again.
        let items = self.feeds[..*ended].iter().filter(|feed| feed.item.is_some()).count();
        let late: Vec<_> = self.state.late.iter().filter(|((item, _), _)| *item < items).collect();
        out.number(late.len() as u64);
        for ((item, tensor), bytes) in late {
            out.number(*item as u64);
            out.number(*tensor as u64);
            out.bytes(bytes);
        }
        out.number(self.state.copies.len() as u64);
        for (group, digest) in &self.state.copies {
            out.number(*group as u64);
            out.bytes(digest);
        }
    }

    /// Goes on from a place that was saved of the same conversion; nothing when it is none of it.
    pub fn restore(&mut self, saved: &mut Saving<'_>) -> Option<()> {
        let [position, region, data, ended] =
            [saved.number()?, saved.number()?, saved.number()?, saved.number()?];
        let (region, ended) = (usize::try_from(region).ok()?, usize::try_from(ended).ok()?);
        let input = digests::restore(saved.bytes()?)?;
        let output = FileDigests::restore(saved.bytes()?)?;
        let mut late = BTreeMap::new();
        for _ in 0..saved.number()? {
            let place = (usize::try_from(saved.number()?).ok()?, usize::try_from(saved.number()?).ok()?);
            late.insert(place, saved.bytes()?.to_vec());
        }
        let mut copies = HashMap::new();
        for _ in 0..saved.number()? {
            copies.insert(usize::try_from(saved.number()?).ok()?, saved.bytes()?.try_into().ok()?);
        }
        let place = if data == u64::MAX { Place::Before(region) } else { Place::Data(region, data) };
        let is_inside = match place {
            Place::Data(region, data) => {
                let size = self.regions.get(region)?.size;
                position.checked_sub(data).is_some_and(|within| within <= size)
            }
            _ => position <= self.regions.get(region).map_or(u64::MAX, |region| region.start),
        };
        if !is_inside || ended > self.feeds.len() || output.bytes() > self.order.total {
            return None;
        }
        self.resting = Resting { position, place, ended, input, output };
        self.state = State::at(&self.resting, late, copies);
        Some(())
    }
}
