/** Models as streams of verified bytes, out of the cache or from where they are published. */

import { isBusy } from "./cache.js";
import { Chunks } from "./chunks.js";
import type { Manifest } from "./manifest.js";
import { preparePublished } from "./published.js";
import type { Prepared, RemoteModel, StoreOptions } from "./remote.js";
import type { ModelSource } from "./sources.js";

export type { RemoteModel, StoreEvent, StoreOptions } from "./remote.js";

/** What a model would cost now. */
export interface Estimate {
  /** Bytes that would come from the network. */
  readonly downloadBytes: number;
  /** Bytes that are here already. */
  readonly cachedBytes: number;
  /** Whether another tab is downloading it. */
  readonly busy: boolean;
  /** What its manifest says; of a repository that was not converted yet, nothing. */
  readonly manifest?: Manifest;
}

/**
 * Finds a model, and reads all of it but the weights; those of a repository are downloaded and converted
 * here, because a manifest knows their digests only then.
 *
 * @throws BlipError `download-failed`, `integrity` or `bad-config`; what a conversion finds wrong.
 */
export async function openModel(source: ModelSource, options: StoreOptions): Promise<RemoteModel> {
  return (await prepare(source, options)).open();
}

/**
 * How much of a model is in the cache and how much would be downloaded; asks for little and stores nothing.
 *
 * @throws BlipError `download-failed` or `bad-config`.
 */
export async function estimate(
  source: ModelSource,
  options: Pick<StoreOptions, "cache" | "dtype" | "signal" | "tasks" | "patience">,
): Promise<Estimate> {
  const { key, total, held, manifest } = await prepare(source, { ...options, onProgress: () => {}, onEvent: () => {} });
  // What others download is of use to this one only through the cache.
  const shared = options.cache === "auto" || options.cache === "cache";
  return {
    downloadBytes: total - held,
    cachedBytes: held,
    busy: shared && (await isBusy(key)),
    ...(manifest === undefined ? {} : { manifest }),
  };
}

async function prepare(source: ModelSource, options: StoreOptions): Promise<Prepared> {
  options.signal.throwIfAborted();
  const chunks = await Chunks.open(options.cache, (message) => options.onEvent({ type: "quota", message }));
  if (source.kind === "manifest") return preparePublished(source.url, options, chunks);
  // Most pages never need it.
  const { prepareRepository } = await import("./hub.js");
  return prepareRepository(source, options, chunks);
}
