/** What a repository of Hugging Face holds at a commit, as its API tells it. */

import { DownloadError, PATIENT, readFile } from "./download.js";
import type { StoreOptions } from "./remote.js";
import type { ModelSource } from "./sources.js";

/** Where a repository is. */
export type HubSource = Extract<ModelSource, { kind: "hub" }>;

/** What a repository holds at one commit. */
export interface Repository {
  readonly commit: string;
  readonly licence: string;
  readonly weights: { readonly name: string; readonly bytes: number; readonly sha256?: string };
  /** The hub's digests of small files by name, where it has some. */
  readonly digests: Readonly<Record<string, Digests>>;
}

/** What a file must be: git's name of it, or where the hub keeps it outside of git, its SHA-256. */
export interface Digests {
  readonly git?: string;
  readonly sha256?: string;
}

/** Weights files by preference; what else a repository may hold is for other programs. */
const WEIGHTS = ["model.safetensors", "pytorch_model.bin"];
/** The configuration of a model, beside its weights. */
export const CONFIG = "config.json";
/** Its vocabulary, likewise. */
export const VOCABULARY = "vocab.txt";
/** SPDX expressions of what models are published under; as in `crate/src/hub/repository.rs`. */
const LICENCES = ["BSD-3-Clause", "BSD-2-Clause", "MIT", "Apache-2.0", "CC0-1.0", "CC-BY-4.0"];
/** The most bytes of a file that is read as a whole. */
export const SMALL_FILE = 1 << 24;
/** What names a commit. */
export const COMMIT = /^[0-9a-f]{40}$/;

/**
 * Asks the hub what a repository holds.
 *
 * @throws DownloadError.
 */
export async function lookUp({ endpoint, repo, revision = "main" }: HubSource, options: StoreOptions): Promise<Answer> {
  const url = `${endpoint}/api/models/${repo}/revision/${encodeURIComponent(revision)}?blobs=true`;
  let text: string;
  try {
    text = new TextDecoder().decode(await readFile(url, SMALL_FILE, { ...patient(options), httpCache: "no-cache" }));
  } catch (error) {
    if (!(error instanceof DownloadError) || error.transient) throw error;
    throw new DownloadError(`there is no public repository ${repo} with a revision ${revision} (${error.message})`, { cause: error });
  }
  let answer: Partial<Answer> | null;
  try {
    answer = JSON.parse(text) as Partial<Answer> | null;
  } catch (error) {
    // A network that wants to be logged in to answers in the hub's place.
    throw new DownloadError(`${url}: not the answer of a model hub`, { transient: true, cause: error });
  }
  const { sha, siblings, cardData } = answer ?? {};
  if (typeof sha !== "string" || !COMMIT.test(sha) || !Array.isArray(siblings)) {
    throw new DownloadError(`${url}: not the answer of a model hub`);
  }
  return { sha, siblings, ...(cardData === undefined ? {} : { cardData }) };
}

/** The checkpoint among the files of a repository, and what goes with it. */
export function contents({ repo }: HubSource, answer: Answer): Repository {
  const { sha, cardData } = answer;
  const weights = WEIGHTS.map((name) => fileOf(answer, name)).find((file) => file !== undefined);
  const missing = [CONFIG, VOCABULARY].filter((name) => fileOf(answer, name) === undefined);
  if (weights === undefined) missing.push(WEIGHTS.join(" or "));
  if (weights === undefined || missing.length > 0) {
    throw new DownloadError(`${repo} at ${sha} has no ${missing.join(", no ")}`);
  }
  const bytes = weights.lfs?.size ?? weights.size;
  if (typeof bytes !== "number" || !Number.isSafeInteger(bytes) || bytes <= 0) {
    throw new DownloadError(`${repo} at ${sha}: the hub does not say how long ${weights.rfilename} is`);
  }
  const { sha256: digest } = digestsOf(weights);
  return {
    commit: sha,
    licence: spdx(cardData?.license),
    weights: { name: weights.rfilename, bytes, ...(digest === undefined ? {} : { sha256: digest }) },
    digests: Object.fromEntries([CONFIG, VOCABULARY].map((name) => [name, digestsOf(fileOf(answer, name))])),
  };
}

/** Git has a pointer in the place of a file that is kept outside of it. */
function digestsOf(file: Sibling | undefined): Digests {
  const { blobId, lfs } = file ?? {};
  if (typeof lfs?.sha256 === "string") return { sha256: lfs.sha256 };
  return typeof blobId === "string" && (lfs ?? null) === null ? { git: blobId } : {};
}

/** The hub writes licences in small letters; one that is not known here is no expression to rely on. */
function spdx(tag: unknown): string {
  const known = typeof tag === "string" ? LICENCES.find((licence) => licence.toLowerCase() === tag.toLowerCase()) : undefined;
  return known ?? "NOASSERTION";
}

/** What the hub says of a file. */
export function fileOf({ siblings }: Answer, name: string): Sibling | undefined {
  return siblings.find((file) => file?.rfilename === name) ?? undefined;
}

/** What is read of the hub's answer. */
export interface Answer {
  readonly sha: string;
  readonly siblings: readonly (Sibling | null)[];
  readonly cardData?: { readonly license?: unknown };
}

/** What is read of what it says of a file. */
export interface Sibling {
  readonly rfilename: string;
  readonly size?: unknown;
  /** Git's name of what is in the repository. */
  readonly blobId?: unknown;
  readonly lfs?: { readonly sha256?: unknown; readonly size?: unknown };
}

/** How patient a download of these options is. */
export function patient({ signal, patience = PATIENT }: StoreOptions): { signal: AbortSignal; patience: typeof PATIENT } {
  return { signal, patience };
}
