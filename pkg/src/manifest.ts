/** `blip.json`: what a model directory holds, checked before anything else is downloaded. */

import { BlipError } from "./protocol.js";

/** One file of a model: where, how long, and the digest it must have. */
export interface ModelFile {
  /** Relative to the manifest, inside its directory. */
  readonly path: string;
  readonly bytes: number;
  /** SHA-256 in lower-case hexadecimal. */
  readonly sha256: string;
  /** Digests of its pieces of `size` bytes, the last one as long as what is left; absent in small files. */
  readonly chunks?: { readonly size: number; readonly sha256: readonly string[] };
}

/** Text networks in a file of their own, over the image encoder of `files.weights`. */
export interface ModelNetworks {
  readonly tasks: readonly string[];
  readonly weights: ModelFile;
}

/** Words by kind (`nouns`, `colours`, …) that a model was trained on. */
export type KnownWords = Readonly<Record<string, readonly string[]>>;

/** How the matrices of a model are stored: `q4`, `q8`, `f16` or `f32`, by side. */
export interface Quantisation {
  /** The image encoder. */
  readonly vision: string;
  /** The text networks and the heads. */
  readonly text: string;
}

/** A parsed manifest; `json` is the text that Rust reads for itself. */
export interface Manifest {
  readonly id: string;
  readonly tasks: readonly string[];
  readonly quantisation: Quantisation;
  readonly licence: string;
  readonly files: { readonly weights: ModelFile; readonly vocab: ModelFile };
  /** Further networks, in the order in which their files follow `files.weights`. */
  readonly networks: readonly ModelNetworks[];
  readonly knows?: KnownWords;
  readonly json: string;
}

/** The versions that are read: the first had one element type for all, `dtype`, the third may have `networks`. */
const FORMAT_VERSIONS: readonly unknown[] = [1, 2, 3];

/** The most bytes of a chunk: one is held in memory while it is checked. */
const CHUNK_LIMIT = 1 << 26;

/**
 * Reads a manifest.
 *
 * @throws BlipError `bad-config`, naming the field and the address.
 */
export function parseManifest(json: string, url: string): Manifest {
  const fail = (what: string): never => {
    throw new BlipError("bad-config", `${url}: ${what}`);
  };
  let parsed: unknown;
  try {
    parsed = JSON.parse(json);
  } catch (error) {
    throw new BlipError("bad-config", `${url}: not a JSON model manifest`, { cause: error });
  }
  const root = record(parsed) ?? fail("expected a JSON object");
  const version = root["formatVersion"];
  if (!FORMAT_VERSIONS.includes(version)) {
    fail(`\`formatVersion\` is ${String(version)}, this version reads ${FORMAT_VERSIONS.join(", ")}`);
  }
  const text = (name: string, value: unknown = root[name]): string => {
    return typeof value === "string" && value !== "" ? value : fail(`\`${name}\` is missing or not text`);
  };
  const quantisation = (): Quantisation => {
    if (version === 1) return { vision: text("dtype"), text: text("dtype") };
    const sides = record(root["quantisation"]) ?? fail("`quantisation` is missing");
    return {
      vision: text("quantisation.vision", sides["vision"]),
      text: text("quantisation.text", sides["text"]),
    };
  };
  const files = record(root["files"]) ?? fail("`files` is missing");
  const file = (name: string, value: unknown): ModelFile => {
    const entry = record(value) ?? fail(`\`${name}\` is missing`);
    const { path, bytes, sha256, chunks } = entry;
    if (typeof path !== "string" || !isInside(path)) return fail(`\`${name}.path\` is not a path inside the directory`);
    if (!isSize(bytes)) return fail(`\`${name}.bytes\` is not a size`);
    if (!isDigest(sha256)) return fail(`\`${name}.sha256\` is not a SHA-256`);
    if (chunks === undefined || chunks === null) return { path, bytes, sha256 };
    return { path, bytes, sha256, chunks: readChunks(chunks, bytes) ?? fail(`\`${name}.chunks\` does not fit the file`) };
  };
  const networks = (): ModelNetworks[] => {
    const list = root["networks"] ?? [];
    if (!Array.isArray(list)) return fail("`networks` is not a list");
    return list.map((item: unknown, index) => {
      const name = `networks[${index}]`;
      const entry = record(item) ?? fail(`\`${name}\` is not an object`);
      return {
        tasks: strings(entry["tasks"]) ?? fail(`\`${name}.tasks\` is not a list of names`),
        weights: file(`${name}.weights`, entry["weights"]),
      };
    });
  };
  const knows = root["knows"];
  return {
    id: text("id"),
    tasks: strings(root["tasks"]) ?? fail("`tasks` is not a list of names"),
    quantisation: quantisation(),
    licence: text("licence"),
    files: { weights: file("files.weights", files["weights"]), vocab: file("files.vocab", files["vocab"]) },
    networks: networks(),
    ...(knows === undefined ? {} : { knows: words(knows) ?? fail("`knows` is not lists of words by kind") }),
    json,
  };
}

/** The files of weights, in the order in which an engine takes them. */
export function weightFiles(manifest: Manifest): readonly ModelFile[] {
  return [manifest.files.weights, ...manifest.networks.map(({ weights }) => weights)];
}

/** The manifest without the further networks that serve none of `tasks`; the image encoder's file always stays. */
export function limitTasks(manifest: Manifest, tasks: readonly string[]): Manifest {
  const wanted = (network: ModelNetworks): boolean => network.tasks.some((task) => tasks.includes(task));
  const networks = manifest.networks.filter(wanted);
  if (networks.length === manifest.networks.length) return manifest;
  const root = JSON.parse(manifest.json) as { networks: unknown[] };
  const json = JSON.stringify({ ...root, networks: root.networks.filter((_, index) => wanted(manifest.networks[index]!)) });
  return { ...manifest, networks, json };
}

function readChunks(value: unknown, bytes: number): ModelFile["chunks"] {
  const entry = record(value);
  const size = entry?.["size"];
  const sha256 = strings(entry?.["sha256"]);
  if (!isSize(size) || size === 0 || size > CHUNK_LIMIT || sha256 === undefined) return undefined;
  return sha256.every(isDigest) && sha256.length === Math.ceil(bytes / size) ? { size, sha256 } : undefined;
}

function isSize(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function isDigest(value: unknown): value is string {
  return typeof value === "string" && /^[0-9a-f]{64}$/.test(value);
}

function record(value: unknown): Record<string, unknown> | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : undefined;
}

function strings(value: unknown): string[] | undefined {
  return Array.isArray(value) && value.every((item) => typeof item === "string") ? value : undefined;
}

/** Entries that are lists of words; anything else a manifest notes beside them is not shown. */
function words(value: unknown): KnownWords | undefined {
  const entries = record(value);
  if (entries === undefined) return undefined;
  return Object.fromEntries(
    Object.entries(entries).flatMap(([kind, list]) => {
      const items = strings(list);
      return items === undefined ? [] : [[kind, items] as const];
    }),
  );
}

/** A manifest must not make the page fetch from elsewhere. */
function isInside(path: string): boolean {
  return /^[A-Za-z0-9._-]+(\/[A-Za-z0-9._-]+)*$/.test(path) && !path.split("/").some((part) => part === "." || part === "..");
}
