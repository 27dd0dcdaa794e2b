/** Where models come from: what `CreateOptions.model` may say, made into addresses on the page. */

import { BlipError } from "./protocol.js";

/** One place that has a model. Structured-clonable; the address is absolute. */
export type ModelSource =
  /** The address of a `blip.json`. */
  | { readonly kind: "manifest"; readonly url: string }
  /** A model repository of Hugging Face, whose file is converted while it is downloaded. */
  | { readonly kind: "hub"; readonly repo: string; readonly revision?: string; readonly endpoint: string };

/** A source, and what it is loaded for; without `tasks`, for everything that it was trained for. */
export interface PlannedSource {
  readonly source: ModelSource;
  readonly tasks?: readonly TaskName[];
}

/** Every source of an instance; several when tasks come from different models. */
export interface ModelPlan {
  readonly sources: readonly PlannedSource[];
}

/** What a network can be trained for, as manifests name it. */
export const TASKS = ["caption", "vqa", "itm", "itc", "nlvr2"] as const;

/** One of `TASKS`. */
export type TaskName = (typeof TASKS)[number];

/** A model by name, folder, address or repository. */
export type ModelName = string | URL;

/** Different models for different tasks. */
export type ModelsByTask = Readonly<Partial<Record<TaskName, ModelName>>>;

/** What goes with `model` in `CreateOptions`. */
export interface ResolveOptions {
  /** Where model directories are; default: `models/` of the package. */
  readonly modelBase?: string | URL | undefined;
  /** Address of a `blip.json` or of its directory with a final slash; used instead of `model`. */
  readonly modelUrl?: string | URL | undefined;
  /** Where repositories are; default: https://huggingface.co. */
  readonly endpoint?: string | URL | undefined;
}

const HUB = "https://huggingface.co";
const FOLDER = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;
const REPOSITORY = /^([A-Za-z0-9][A-Za-z0-9._-]*\/[A-Za-z0-9][A-Za-z0-9._-]*)(?:@([A-Za-z0-9][A-Za-z0-9._/-]*))?$/;

/**
 * The sources that `model` names:
 *
 * - `tiny`: a directory of `modelBase`;
 * - `owner/name` or `owner/name@revision`: a repository of `endpoint`;
 * - an address, or a path that begins with `/`, `./` or `../`: a `blip.json`, or its directory with a final slash;
 * - `{caption, vqa, itm, itc, nlvr2}`: any of these for each task; equal ones are loaded once.
 *
 * Addresses are relative to `base`, the page's.
 *
 * @throws BlipError `bad-option`.
 */
export function resolveModel(model: ModelName | ModelsByTask, options: ResolveOptions, base: string): ModelPlan {
  if (options.modelUrl !== undefined) return { sources: [{ source: manifestAt("modelUrl", options.modelUrl, base) }] };
  if (typeof model === "string" || model instanceof URL) return { sources: [{ source: resolveOne(model, options, base) }] };
  if (typeof model !== "object" || model === null) throw unknown(model);
  const merged = new Map<string, { source: ModelSource; tasks: TaskName[] }>();
  for (const key of Object.keys(model)) {
    if (!(TASKS as readonly string[]).includes(key)) {
      throw new BlipError("bad-option", `model.${key} is not a task; tasks are ${TASKS.join(", ")}`);
    }
  }
  for (const task of TASKS) {
    const name = model[task];
    if (name === undefined) continue;
    const source = resolveOne(name, options, base);
    const known = merged.get(JSON.stringify(source));
    if (known === undefined) merged.set(JSON.stringify(source), { source, tasks: [task] });
    else known.tasks.push(task);
  }
  if (merged.size === 0) throw new BlipError("bad-option", "model names no task");
  return { sources: [...merged.values()] };
}

function resolveOne(model: unknown, options: ResolveOptions, base: string): ModelSource {
  if (model instanceof URL) return manifestAt("model", model, base);
  if (typeof model !== "string") throw unknown(model);
  if (/^(?:[a-z][a-z0-9+.-]*:|\.{0,2}\/)/i.test(model)) return manifestAt("model", model, base);
  if (FOLDER.test(model)) {
    const folders = options.modelBase === undefined ? packaged(base) : absolute("modelBase", options.modelBase, base);
    return { kind: "manifest", url: `${folders.endsWith("/") ? folders : `${folders}/`}${model}/blip.json` };
  }
  const [, repo, revision] = REPOSITORY.exec(model) ?? [];
  if (repo === undefined || revision?.includes("..")) throw unknown(model);
  const endpoint = absolute("endpoint", options.endpoint ?? HUB, base).replace(/\/+$/, "");
  return { kind: "hub", repo, ...(revision === undefined ? {} : { revision }), endpoint };
}

/**
 * The models inside the package. Bundlers that put a path of the building machine in the place of the
 * script's address leave only the page to go by: then `models/` beside it.
 */
function packaged(base: string): string {
  // Two steps: bundlers look for a file when they see a path and the script's address in one `new URL`.
  const script = new URL(import.meta.url);
  const { href, protocol } = new URL("../models/", script);
  return protocol === "file:" && !base.startsWith("file:") ? new URL("models/", base).href : href;
}

function manifestAt(option: string, address: string | URL, base: string): ModelSource {
  const url = absolute(option, address, base);
  return { kind: "manifest", url: url.endsWith("/") ? `${url}blip.json` : url };
}

/** Addresses are relative to the page, not to the worker that will fetch them. */
function absolute(option: string, address: string | URL, base: string): string {
  try {
    return new URL(address, base).href;
  } catch (error) {
    throw new BlipError("bad-option", `${option} is not an address: ${String(address)}`, { cause: error });
  }
}

function unknown(model: unknown): BlipError {
  const shown = typeof model === "string" ? JSON.stringify(model) : String(model);
  const expected = "the name of a model directory, a repository as owner/name, an address, or these by task";
  return new BlipError("bad-option", `model is ${shown}, expected ${expected}`);
}
