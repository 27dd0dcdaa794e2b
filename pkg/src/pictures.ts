/**
 * Images on their way through an engine. A picture keeps what it was made of, so that an engine that takes
 * the place of a lost one can encode it again.
 */

import { BATCH, type Engine, type EnginePicture } from "./engine.js";
import { BlipError, type EncodeRequest, type ImagePayload, toBlipError } from "./protocol.js";

/** What encoding together may take before others have their turn, in milliseconds. */
const TURN = 500;

/** An image, or the frames of a clip, and its handle in the present engine. */
export class Picture {
  readonly images: readonly ImagePayload[];
  /** How they are read, as the engine wants it. */
  readonly options: string;
  readonly video: boolean;
  /** Which of a call's images it is. */
  readonly index: number;
  /** Whether the page has given up its handle. */
  released = false;
  /** Milliseconds that its part of encoding took, the last time. */
  ms = 0;
  /** The handle, and which engine it belongs to. */
  handle: { readonly value: number; readonly epoch: number } | undefined;

  constructor(index: number, images: readonly ImagePayload[], options: EncodeRequest, video = false) {
    this.index = index;
    this.images = images;
    this.options = JSON.stringify({ ...options, video });
    this.video = video;
  }
}

/** An image that cannot be read, and which of several it was. */
export class PictureError extends BlipError {
  constructor(index: number, thrown: unknown) {
    const { code, message } = toBlipError(thrown);
    super(code, message, { cause: thrown, image: index });
  }
}

/** Encodes pictures that have no handle yet, several at a time. */
export class Encoder {
  /** How many images fit into a turn; one, until it is known better. */
  #pace = 1;
  /** Handles that nobody needs any more, to be freed when the engine is not at work. */
  readonly #dropped: { readonly value: number; readonly epoch: number }[] = [];

  /**
   * Encodes those of `pictures` that have no handle of engine `epoch`, as many as fit into a turn; returns
   * whether all have one now. `request` is the JSON of what they are encoded for.
   *
   * @throws PictureError for an image that cannot be read; whatever else the engine throws.
   */
  async encodeSome(engine: Engine, epoch: number, pictures: readonly Picture[], request?: string): Promise<boolean> {
    // The same one may be in a list twice.
    const missing = [...new Set(pictures)].filter(({ handle }) => handle?.epoch !== epoch);
    const [first] = missing;
    if (first === undefined) return true;
    const end = missing.findIndex(({ video, options }) => video || options !== first.options);
    const alike = first.video ? 1 : end < 0 ? missing.length : end;
    const batch = missing.slice(0, Math.min(alike, this.#pace, BATCH));
    const begun = performance.now();
    try {
      await encode(engine, epoch, batch, request);
    } catch (thrown) {
      if (!isAboutAnImage(thrown)) throw thrown;
      if (batch.length === 1) throw new PictureError(first.index, thrown);
      // Which one of them it was, the caller wants to know.
      for (const picture of batch) {
        await encode(engine, epoch, [picture], request).catch((error: unknown) => {
          throw isAboutAnImage(error) ? new PictureError(picture.index, error) : error;
        });
      }
    }
    const each = (performance.now() - begun) / batch.length;
    for (const picture of batch) picture.ms = each;
    this.#pace = Math.max(1, Math.min(BATCH, Math.floor(TURN / Math.max(each, 1))));
    return missing.length === batch.length;
  }

  /** Notes that a picture is not needed any more. */
  drop(picture: Picture): void {
    if (picture.handle !== undefined) this.#dropped.push(picture.handle);
    picture.handle = undefined;
  }

  /** Frees what was dropped; handles of an engine that is gone are gone with it. */
  sweep(engine: Engine, epoch: number): void {
    for (const handle of this.#dropped.splice(0)) if (handle.epoch === epoch) engine.release(handle.value);
  }
}

async function encode(engine: Engine, epoch: number, pictures: readonly Picture[], request: string | undefined): Promise<void> {
  const [first] = pictures;
  if (first === undefined) return;
  const handles = await engine.encode(pictures.flatMap(({ images }) => images.map(engineImage)), first.options, request);
  pictures.forEach((picture, index) => {
    // An engine that was given up may answer late.
    if ((picture.handle?.epoch ?? 0) <= epoch) picture.handle = { value: handles[index]!, epoch };
  });
}

function engineImage(image: ImagePayload): EnginePicture {
  return image.kind === "encoded" ? image.bytes : image;
}

function isAboutAnImage(thrown: unknown): boolean {
  return ["bad-image", "image-too-large"].includes(toBlipError(thrown).code);
}
