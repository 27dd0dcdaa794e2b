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

/** A parsed manifest; `json` is the text that Rust reads for itself. */
export interface Manifest {
  readonly id: string;
  readonly tasks: readonly string[];
  readonly dtype: string;
  readonly licence: string;
  readonly files: { readonly weights: ModelFile; readonly vocab: ModelFile };
  readonly knows?: KnownWords;
  readonly json: string;
}

const FORMAT_VERSION = 1;

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
  if (root["formatVersion"] !== FORMAT_VERSION) {
    fail(`\`formatVersion\` is ${String(root["formatVersion"])}, this version reads ${FORMAT_VERSION}`);
  }
  const text = (name: string): string => {
    const value = root[name];
    return typeof value === "string" && value !== "" ? value : fail(`\`${name}\` is missing or not text`);
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
    dtype: text("dtype"),
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
