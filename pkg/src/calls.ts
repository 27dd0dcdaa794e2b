/** Calls about one image or many, as requests of a few images each. */

import { abortable } from "./abort.js";
import type { Client, RunListeners } from "./client.js";
import { EncodedImage } from "./encoded.js";
import { type ImageSource, readImage } from "./images.js";
import type { CallOptions, CheckedOptions, ImageOptions } from "./options.js";
import { BlipError, type ImagePayload, type PictureInput, type TaskAnswer, type TaskRequest } from "./protocol.js";

/** Everything that a call takes as an image. */
export type ImageInput = ImageSource | EncodedImage;

/** One image, or several. */
export type Images = ImageInput | readonly ImageInput[];

/** The most images that are read and sent at a time, which is what the engine encodes together. */
export const CHUNK = 8;
/** Texts of a request that are no more than those of an image: a call about many is cut after so many. */
const TEXTS = 64;

/** What a call is about, and how it reports. */
export interface Call extends Pick<CallOptions, "signal" | "onProgress"> {
  readonly onToken?: RunListeners["onToken"];
}

/** Whether a call was given a list. */
export function isList<Item>(value: Item | readonly Item[]): value is readonly Item[] {
  return Array.isArray(value);
}

/**
 * Asks about every image, a few at a time, so that other calls get in between and not all of the images
 * are in memory at once.
 */
export async function runAll(
  client: Client,
  images: Images,
  request: TaskRequest,
  options: ImageOptions,
  { signal, onProgress, onToken }: Call,
): Promise<TaskAnswer> {
  const list = isList(images) ? images : [images];
  const results: unknown[] = [];
  const floats: Float32Array[] = [];
  const pictures = read(client, list, signal);
  await about(images, async () => {
    for await (const { start, chunk } of pictures) {
      const listeners: RunListeners = {
        ...(onToken === undefined ? {} : { onToken: (text, index, picture) => onToken(text, index, start + picture) }),
        ...(onProgress === undefined
          ? {}
          : { onStep: (done) => onProgress({ done: start + done, total: list.length }) }),
      };
      const answer = await shifted(start, () => client.run(request, chunk, options, listeners, signal));
      results.push(...answer.results);
      floats.push(...answer.floats);
    }
  });
  onProgress?.({ done: list.length, total: list.length });
  return { results, floats };
}

/** Features of texts, some at a time. */
export async function runTexts(
  client: Client,
  texts: readonly string[],
  request: TaskRequest,
  { signal, onProgress }: Call,
): Promise<TaskAnswer> {
  const results: unknown[] = [];
  const floats: Float32Array[] = [];
  for (let start = 0; start < texts.length; start += TEXTS) {
    const some = { ...request, texts: texts.slice(start, start + TEXTS) };
    const answer = await client.run(some, [], {}, {}, signal);
    results.push(...answer.results);
    floats.push(...answer.floats);
    onProgress?.({ done: Math.min(start + TEXTS, texts.length), total: texts.length });
  }
  return { results, floats };
}

/** Encodes images to be used more than once. */
export async function encodeAll(client: Client, images: Images, { image, request }: CheckedOptions, call: Call): Promise<EncodedImage[]> {
  const list = isList(images) ? images : [images];
  const encoded: EncodedImage[] = [];
  try {
    await about(images, async () => {
      for await (const { start, chunk } of read(client, list, call.signal)) {
        const payloads = chunk.map((picture): ImagePayload => {
          if (picture.kind === "picture") throw new BlipError("bad-option", "this image is encoded already");
          return picture;
        });
        const ids = await shifted(start, () => client.encode(payloads, { ...image, ...request }, false, call.signal));
        encoded.push(...ids.map((id) => new EncodedImage(client, id)));
        call.onProgress?.({ done: encoded.length, total: list.length });
      }
    });
    return encoded;
  } catch (error) {
    for (const image of encoded) image.dispose();
    throw error;
  }
}

/** Images as requests carry them, in chunks; the next one is read while a chunk is being used. */
async function* read(
  client: Client,
  images: readonly ImageInput[],
  signal: AbortSignal | undefined,
): AsyncGenerator<{ start: number; chunk: PictureInput[] }, void, void> {
  const held = new Map<EncodedImage, { readonly picture: number; readonly letGo: () => void }>();
  const readOne = async (image: ImageInput, index: number): Promise<PictureInput> => {
    try {
      return image instanceof EncodedImage ? { kind: "picture", picture: held.get(image)!.picture } : await readImage(image, signal);
    } catch (error) {
      throw ofImage(index, error);
    }
  };
  const readChunk = (start: number): Promise<PictureInput[]> => {
    const chunk = Promise.all(images.slice(start, start + CHUNK).map((image, index) => readOne(image, start + index)));
    // Whoever waits for it hears of it; until then nobody may.
    chunk.catch(() => {});
    return abortable(chunk, signal);
  };
  try {
    images.forEach((image, index) => {
      if (!(image instanceof EncodedImage) || held.has(image)) return;
      try {
        held.set(image, image.hold(client));
      } catch (error) {
        throw ofImage(index, error);
      }
    });
    let next = readChunk(0);
    for (let start = 0; start < images.length; start += CHUNK) {
      const chunk = await next;
      next = readChunk(start + CHUNK);
      next.catch(() => {});
      yield { start, chunk };
    }
  } finally {
    for (const { letGo } of held.values()) letGo();
  }
}

/** What went wrong with an image of a list. */
function ofImage(index: number, error: unknown): unknown {
  if (!(error instanceof BlipError)) return error;
  return new BlipError(error.code, error.message, { cause: error.cause ?? error, image: index });
}

/** An error of a chunk is about an image of the whole. */
async function shifted<T>(start: number, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (start === 0 || !(error instanceof BlipError) || error.image === undefined) throw error;
    throw new BlipError(error.code, error.message, { cause: error.cause, image: start + error.image });
  }
}

/** An error says which image of a list it is about; of a single one there is nothing to say. */
async function about(images: Images, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof BlipError) || error.image === undefined) throw error;
    const { code, message, cause, image } = error;
    if (isList(images)) throw new BlipError(code, `image ${image} of the list: ${message}`, { cause, image });
    throw new BlipError(code, message, { cause });
  }
}
