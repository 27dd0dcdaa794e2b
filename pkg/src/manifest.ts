/** `blip.json`: what a model directory holds, checked before anything else is downloaded. */

import { BlipError } from "./protocol.js";

/** One file of a model: where, how long, and the digest it must have. */
export interface ModelFile {
  /** Relative to the manifest, inside its directory. */
  readonly path: string;
  readonly bytes: number;
  /** SHA-256 in lower-case hexadecimal. */
  readonly sha256: string;
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
  readonly knows?: KnownWords;
  readonly json: string;
}

/** The versions that are read; the first had one element type for all, `dtype`. */
const FORMAT_VERSIONS: readonly unknown[] = [1, 2];

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
    fail(`\`formatVersion\` is ${String(version)}, this version reads ${FORMAT_VERSIONS.join(" and ")}`);
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
  const file = (name: string): ModelFile => {
    const entry = record(files[name]) ?? fail(`\`files.${name}\` is missing`);
    const { path, bytes, sha256 } = entry;
    if (typeof path !== "string" || !isInside(path)) return fail(`\`files.${name}.path\` is not a path inside the directory`);
    if (typeof bytes !== "number" || !Number.isSafeInteger(bytes) || bytes < 0) {
      return fail(`\`files.${name}.bytes\` is not a size`);
    }
    if (typeof sha256 !== "string" || !/^[0-9a-f]{64}$/.test(sha256)) return fail(`\`files.${name}.sha256\` is not a SHA-256`);
    return { path, bytes, sha256 };
  };
  const knows = root["knows"];
  return {
    id: text("id"),
    tasks: strings(root["tasks"]) ?? fail("`tasks` is not a list of names"),
    quantisation: quantisation(),
    licence: text("licence"),
    files: { weights: file("weights"), vocab: file("vocab") },
    ...(knows === undefined ? {} : { knows: words(knows) ?? fail("`knows` is not lists of words by kind") }),
    json,
  };
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
