/**
 * Model repositories of Hugging Face: a checkpoint is converted while it is downloaded; one that was
 * converted before it was published, which a `blip.json` tells, is taken as it is.
 *
 * The result is a model like any other, with a manifest, and is kept as such. The hub's own digests of the
 * files are compared before it becomes visible. A conversion that was interrupted goes on from its last
 * checkpoint, which is kept beside the pieces that it had written.
 */

import { type Entry, alone, begin, commit, forget, readEntry } from "./cache.js";
import { CHUNK, type Chunks } from "./chunks.js";
import { gitName, sha256 } from "./digest.js";
import { DownloadError, HASTY, PATIENT, join, readFile, readRange } from "./download.js";
import { type Manifest, type ModelFile, limitTasks, parseManifest } from "./manifest.js";
import { type ChunkedFile, Cutter, chunkCount, chunkSize } from "./pour.js";
import { BlipError } from "./protocol.js";
import { preparePublished } from "./published.js";
import { type Prepared, type RemoteModel, type StoreOptions, Steps, prepareFiles } from "./remote.js";
import {
  COMMIT,
  CONFIG,
  SMALL_FILE,
  VOCABULARY,
  type Answer,
  type Digests,
  type HubSource,
  type Repository,
  contents,
  fileOf,
  lookUp,
  patient,
} from "./repository.js";

/** A checkpoint on its way to our container: `Conversion` of the wasm module. */
export interface Conversion {
  /** `[start, end)` of the file, needed before anything can be streamed; undefined when enough is known. */
  wants(): Float64Array | undefined;
  give(bytes: Uint8Array): void;
  /** Bytes of the container, once nothing is wanted any more. */
  outputBytes(): number;
  /** Takes the next bytes of the file and returns the next of the container, maybe none. */
  push(bytes: Uint8Array): Uint8Array;
  /** Bytes of the file so far. */
  position(): number;
  /** What `resume` goes on from; somewhat behind `position`. */
  checkpoint(): Uint8Array;
  /** After `resume`: the first byte of the file to push, and how many of the container are written. */
  resumeInput(): number;
  resumeOutput(): number;
  /** Whether it failed because the head is not tied to the word embedding: begin again with `untied`. */
  isUntied(): boolean;
  /** JSON of the file's SHA-256 and the text of the manifest. */
  finish(vocab: Uint8Array): string;
  free(): void;
}

/** The class of conversions. */
export interface ConversionModule {
  new (fileName: string, totalBytes: number, configJson: string, optionsJson: string): Conversion;
  resume(checkpoint: Uint8Array): Conversion;
  /** A repository's vocabulary as this library stores it. */
  vocabulary(bytes: Uint8Array, configJson: string): Uint8Array;
}

/** Everything that a conversion needs to know. */
interface Job {
  readonly key: string;
  readonly source: HubSource;
  readonly repository: Repository;
  readonly options: StoreOptions;
  readonly chunks: Chunks;
  /** What the pieces of the container are called. */
  readonly name: string;
}

const MANIFEST = "blip.json";

/** Bytes of the file between two checkpoints, which are what a reload may lose. */
const BETWEEN_CHECKPOINTS = 1 << 25;
/** The number of the piece that holds the checkpoint. */
const CHECKPOINT = -1;
const PIECE = 1 << 20;

/**
 * Looks a repository up; nothing is converted before `open`.
 *
 * @throws BlipError `download-failed` or `bad-config`.
 */
export async function prepareRepository(source: HubSource, options: StoreOptions, chunks: Chunks): Promise<Prepared> {
  const { endpoint, repo, revision = "main" } = source;
  const { vision, text } = options.dtype;
  const key = `${endpoint}/${repo}@${revision} ${vision}/${text}`;
  const stored = await readEntry(chunks.cache, "model", key);
  // A commit never changes.
  if (stored !== undefined && COMMIT.test(revision)) return prepareStored(stored, { source, options, chunks });
  const published = `${endpoint}/${repo}/resolve/${revision}/${MANIFEST}`;
  const known = stored ?? (await readEntry(chunks.cache, "model", published));
  let answer: Answer;
  try {
    answer = await lookUp(source, known === undefined ? options : { ...options, patience: HASTY });
  } catch (error) {
    if (known === undefined || !(error instanceof DownloadError && error.transient)) throw error;
    return known === stored ? prepareStored(known, { source, options, chunks }) : preparePublished(published, options, chunks);
  }
  if (fileOf(answer, MANIFEST) !== undefined) return preparePublished(published, options, chunks);
  const repository = contents(source, answer);
  if (stored?.commit === repository.commit) return prepareStored(stored, { source, options, chunks, repository });
  const job: Job = { key, source, repository, options, chunks, name: `${repo}@${repository.commit} ${vision}/${text}` };
  const total = repository.weights.bytes;
  const held = (await savedCheckpoint(job))?.input ?? 0;
  return { key, total, held, open: () => openConverted(job) };
}

async function openConverted(job: Job): Promise<RemoteModel> {
  const { key, options, chunks, source, repository } = job;
  const steps = new Steps(options.onProgress, repository.weights.bytes);
  steps.file = repository.weights.name;
  const convertAlone = async (): Promise<Entry> => {
    if (!chunks.writable) return convert(job, steps);
    return alone(key, options.signal, async () => {
      await chunks.refresh();
      const made = await readEntry(chunks.cache, "model", key);
      return made?.commit === repository.commit ? made : convert(job, steps);
    });
  };
  const entry = await convertAlone();
  steps.report(repository.weights.bytes, false);
  // What follows is reading what was just written: nothing that a progress bar should show again.
  const quiet = { ...options, onProgress: () => {} };
  return { ...(await prepareStored(entry, { source, options: quiet, chunks, repository }).open()), fromCache: false };
}

/** A converted model as a model with a manifest, whose damaged pieces are converted again. */
function prepareStored(
  entry: Entry,
  { source, options, chunks, repository }: Pick<Job, "source" | "options" | "chunks"> & { repository?: Repository },
): Prepared {
  const full = parseManifest(entry.manifest, entry.key);
  const manifest = options.tasks === undefined ? full : limitTasks(full, options.tasks);
  const job = async (): Promise<Job> => {
    const at: HubSource = entry.commit === undefined ? source : { ...source, revision: entry.commit };
    const name = entry.files[full.files.weights.sha256]?.name ?? "";
    return { key: entry.key, source, repository: repository ?? contents(at, await lookUp(at, options)), options, chunks, name };
  };
  const prepared = prepareFiles({
    entry,
    stored: entry,
    manifest,
    file: (file) => containerFile(file, entry, full, job),
    options,
    chunks,
  });
  const open = async (): Promise<RemoteModel> => {
    const model = await prepared.open();
    const pourWeights: RemoteModel["pourWeights"] = async (push) => {
      try {
        await model.pourWeights(push);
      } catch (error) {
        // Another version of the converter cannot repair it; the next load converts anew.
        const isDamaged = error instanceof BlipError && error.code === "integrity";
        if (isDamaged && chunks.cache !== undefined) await forget(chunks.cache, "model", entry.key);
        throw error;
      }
    };
    return { ...model, pourWeights };
  };
  return { ...prepared, open };
}

function containerFile(file: ModelFile, entry: Entry, manifest: Manifest, job: () => Promise<Job>): ChunkedFile {
  const { path, bytes, sha256: digest, chunks } = file;
  return {
    path,
    name: entry.files[digest]?.name ?? digest,
    bytes,
    chunk: chunkSize(file),
    sha256: digest,
    ...(chunks === undefined ? {} : { digests: chunks.sha256 }),
    proven: true,
    read: digest === manifest.files.vocab.sha256 ? (start, end) => readVocabulary(job, start, end) : (start, end) => readContainer(job, start, end),
  };
}

/** Bytes of the vocabulary, once more from the repository. */
async function* readVocabulary(job: () => Promise<Job>, start: number, end: number): AsyncGenerator<Uint8Array, void, void> {
  const known = await job();
  const { vocab } = await smallFiles(known, await converter(known));
  yield vocab.subarray(start, end);
}

/** Bytes of the container, once more from the repository: everything before them is converted too. */
async function* readContainer(job: () => Promise<Job>, start: number, end: number): AsyncGenerator<Uint8Array, void, void> {
  const known = await job();
  const module = await converter(known);
  const { config } = await smallFiles(known, module);
  for (const untied of [false, true]) {
    const conversion = await startConversion(known, module, config, untied);
    let at = 0;
    try {
      for await (const bytes of output(known, conversion, 0)) {
        const wanted = bytes.subarray(Math.max(0, start - at), Math.max(0, end - at));
        at += bytes.length;
        if (wanted.length > 0) yield wanted;
        if (at >= end) return;
      }
    } catch (error) {
      if (untied || !conversion.isUntied()) throw error;
    } finally {
      conversion.free();
    }
  }
}

/** Downloads and converts the checkpoint of a repository; the pieces of the result are kept. */
async function convert(job: Job, steps: Steps): Promise<Entry> {
  const { key, source, repository, options, chunks, name } = job;
  const { signal } = options;
  const module = await converter(job);
  const { config, vocab } = await smallFiles(job, module);
  const about = { key, id: source.repo, commit: repository.commit, saved: new Date().toISOString() };
  const started: Entry = { ...about, manifest: "", files: { [name]: { name, bytes: repository.weights.bytes, chunk: CHUNK } } };
  await begin(chunks, started);
  const finished = await stream(job, module, { config, vocab }, steps);
  signal.throwIfAborted();
  const { sha256: expected } = repository.weights;
  if (expected !== undefined && finished.inputSha256 !== expected) {
    for (let index = 0; index < chunkCount(finished); index++) await chunks.drop(name, index);
    await chunks.drop(name, CHECKPOINT);
    const found = finished.inputSha256;
    throw new BlipError("integrity", `${fileUrl(job, repository.weights.name)}: has the SHA-256 ${found}, the repository says ${expected}`);
  }
  const manifest = parseManifest(finished.manifest, key);
  const { weights, vocab: words } = manifest.files;
  if (chunkSize(weights) !== CHUNK) throw new BlipError("internal", `a conversion cuts its result into ${chunkSize(weights)} bytes`);
  const entry: Entry = {
    ...about,
    id: manifest.id,
    manifest: finished.manifest,
    files: {
      [weights.sha256]: { name, bytes: weights.bytes, chunk: CHUNK },
      [words.sha256]: { name: words.sha256, bytes: words.bytes, chunk: chunkSize(words) },
    },
  };
  const cutter = new Cutter({ bytes: words.bytes, chunk: chunkSize(words) }, 0);
  for (const piece of cutter.take(vocab)) await keep(chunks, words.sha256, piece);
  if (chunks.writable) await commit(chunks, entry);
  await chunks.drop(name, CHECKPOINT);
  return entry;
}

/** What a conversion ends with. */
interface Finished {
  readonly inputSha256: string;
  readonly manifest: string;
  readonly bytes: number;
  readonly chunk: number;
}

/** Converts, from the checkpoint where there is one, and once more where the head turns out not to be tied. */
async function stream(job: Job, module: ConversionModule, { config, vocab }: SmallFiles, steps: Steps): Promise<Finished> {
  for (let untied = false; ; untied = true) {
    const running = (untied ? undefined : await resume(job, module)) ?? (await fromTheBeginning(job, module, config, untied));
    try {
      return await streamFrom(job, running, vocab, steps);
    } catch (error) {
      if (untied || !running.conversion.isUntied()) throw error;
    } finally {
      running.conversion.free();
    }
  }
}

/** A conversion that can go on. */
interface Running {
  readonly conversion: Conversion;
  readonly cutter: Cutter;
  /** The first byte of the file to push. */
  readonly input: number;
}

async function fromTheBeginning(job: Job, module: ConversionModule, config: string, untied: boolean): Promise<Running> {
  const conversion = await startConversion(job, module, config, untied);
  return { conversion, cutter: new Cutter({ bytes: conversion.outputBytes(), chunk: CHUNK }, 0), input: 0 };
}

async function streamFrom(job: Job, { conversion, cutter, input }: Running, vocab: Uint8Array, steps: Steps): Promise<Finished> {
  const { chunks, name } = job;
  let noted = input;
  for await (const bytes of output(job, conversion, input)) {
    for (const piece of cutter.take(bytes)) await keep(chunks, name, piece);
    const at = conversion.position();
    steps.report(at, false);
    if (at - noted < BETWEEN_CHECKPOINTS || !chunks.writable) continue;
    noted = at;
    const checkpoint = pack(conversion.checkpoint(), at, cutter.rest);
    await chunks.put(name, CHECKPOINT, checkpoint, await sha256(checkpoint), false);
  }
  const { inputSha256, manifest } = JSON.parse(conversion.finish(vocab)) as { inputSha256: string; manifest: string };
  return { inputSha256, manifest, bytes: conversion.outputBytes(), chunk: CHUNK };
}

/** Pushes the file from byte `input` on through a conversion: what comes out, also where that is nothing. */
async function* output(job: Job, conversion: Conversion, input: number): AsyncGenerator<Uint8Array, void, void> {
  const { name, bytes: total } = job.repository.weights;
  const { signal, patience = PATIENT } = job.options;
  // Kept in the browser's own cache, a file of this size would push out everything else.
  const read = readRange(fileUrl(job, name), [input, total, total], { signal, patience, httpCache: "no-store" });
  for await (const bytes of read) {
    for (let at = 0; at < bytes.length; at += PIECE) yield conversion.push(bytes.subarray(at, at + PIECE));
    signal.throwIfAborted();
  }
}

async function startConversion(job: Job, module: ConversionModule, config: string, untied: boolean): Promise<Conversion> {
  const { repository, source, options } = job;
  const { name, bytes: total } = repository.weights;
  const origin = { repo: source.repo, revision: repository.commit, file: name };
  const settings = { id: source.repo, licence: repository.licence, quantisation: options.dtype, untied, source: origin };
  const conversion = new module(name, total, config, JSON.stringify(settings));
  try {
    for (let wanted = conversion.wants(); wanted !== undefined; wanted = conversion.wants()) {
      const [start = 0, end = 0] = wanted;
      const pieces: Uint8Array[] = [];
      for await (const piece of readRange(fileUrl(job, name), [start, end, total], patient(options))) pieces.push(piece);
      conversion.give(join(pieces, end - start));
    }
  } catch (error) {
    conversion.free();
    throw error;
  }
  return conversion;
}

/** The conversion at its last checkpoint, if everything that it had written is still there. */
async function resume(job: Job, module: ConversionModule): Promise<Running | undefined> {
  const saved = await savedCheckpoint(job);
  if (saved === undefined) return undefined;
  let conversion: Conversion;
  try {
    conversion = module.resume(saved.state);
  } catch {
    // Another version wrote it.
    return undefined;
  }
  const written = conversion.resumeOutput();
  const index = Math.floor(written / CHUNK);
  const head = await headOf(job, index, written - index * CHUNK, saved.rest);
  let complete = head !== undefined;
  for (let before = 0; before < index; before++) complete &&= job.chunks.has(job.name, before);
  if (head === undefined || !complete) {
    conversion.free();
    return undefined;
  }
  const cutter = new Cutter({ bytes: conversion.outputBytes(), chunk: CHUNK }, index, head);
  return { conversion, cutter, input: conversion.resumeInput() };
}

/** The first bytes of a piece, which was complete or the last when the checkpoint was written. */
async function headOf(
  { chunks, name }: Job,
  index: number,
  length: number,
  rest: Cutter["rest"],
): Promise<Uint8Array | undefined> {
  if (length === 0) return new Uint8Array();
  if (rest.index === index && rest.bytes.length >= length) return rest.bytes.subarray(0, length);
  const stored = await chunks.get(name, index);
  return stored?.sound && stored.bytes.length >= length ? stored.bytes.subarray(0, length) : undefined;
}

/** What a stored checkpoint holds: bytes of the file so far, the conversion's state, and the piece that was not full. */
interface Checkpoint {
  readonly input: number;
  readonly state: Uint8Array;
  readonly rest: Cutter["rest"];
}

const CHECKPOINT_HEAD = 16;

function pack(state: Uint8Array, input: number, { index, bytes }: Cutter["rest"]): Uint8Array {
  const head = new DataView(new ArrayBuffer(CHECKPOINT_HEAD));
  head.setFloat64(0, input);
  head.setUint32(8, state.length);
  head.setUint32(12, index);
  return join([new Uint8Array(head.buffer), state, bytes], CHECKPOINT_HEAD + state.length + bytes.length);
}

async function savedCheckpoint({ chunks, name }: Job): Promise<Checkpoint | undefined> {
  const saved = await chunks.get(name, CHECKPOINT);
  if (!saved?.sound || saved.bytes.length < CHECKPOINT_HEAD) return undefined;
  const { bytes } = saved;
  const head = new DataView(bytes.buffer, bytes.byteOffset, CHECKPOINT_HEAD);
  const end = CHECKPOINT_HEAD + head.getUint32(8);
  const rest = { index: head.getUint32(12), bytes: bytes.subarray(end) };
  return { input: head.getFloat64(0), state: bytes.subarray(CHECKPOINT_HEAD, end), rest };
}

/** Keeps a piece, in memory where nowhere else: a conversion is not repeated because a cache is full. */
async function keep(chunks: Chunks, name: string, { index, bytes }: { index: number; bytes: Uint8Array }): Promise<void> {
  await chunks.put(name, index, bytes, await sha256(bytes), true);
}

interface SmallFiles {
  readonly config: string;
  readonly vocab: Uint8Array;
}

/** Configuration and vocabulary, the latter as this library stores it. */
async function smallFiles(job: Job, module: ConversionModule): Promise<SmallFiles> {
  const [config, words] = await Promise.all([CONFIG, VOCABULARY].map((file) => readSmall(job, file)));
  const text = new TextDecoder().decode(config);
  return { config: text, vocab: module.vocabulary(words ?? new Uint8Array(), text) };
}

/** A small file, compared with the hub's digest of it; read once more, past the browser's cache, where it differs. */
async function readSmall(job: Job, file: string): Promise<Uint8Array> {
  const url = fileUrl(job, file);
  for (const httpCache of ["default", "reload"] as const) {
    const bytes = await readFile(url, SMALL_FILE, { ...patient(job.options), httpCache });
    if (await isIntact(bytes, job.repository.digests[file])) return bytes;
  }
  throw new BlipError("integrity", `${url}: differs from the digest that the repository has of it`);
}

/** Whether bytes have one of their digests, as far as there is one and it can be computed. */
async function isIntact(bytes: Uint8Array, { git, sha256: expected }: Digests = {}): Promise<boolean> {
  if (expected !== undefined) return (await sha256(bytes)) === expected;
  return git === undefined || ((await gitName(bytes)) ?? git) === git;
}

function fileUrl({ source, repository }: Pick<Job, "source" | "repository">, file: string): string {
  return `${source.endpoint}/${source.repo}/resolve/${repository.commit}/${file}`;
}

/** A module with memory of its own, which goes with the last conversion in it. */
async function converter({ options }: Job): Promise<ConversionModule> {
  if (options.conversion === undefined) throw new BlipError("internal", "repositories need a module that converts");
  return options.conversion();
}

