/** Frames of a clip, chosen as the original chooses them or evenly, as one encoded image. */

import { abortable } from "./abort.js";
import type { Client } from "./client.js";
import { EncodedImage } from "./encoded.js";
import { type ImageSource, readImage } from "./images.js";
import { each } from "./iterate.js";
import type { CheckedOptions, EncodeOptions } from "./options.js";
import { BlipError, type ImagePayload } from "./protocol.js";

/** A clip: a `<video>` that can be sought, its frames, or frames as they come (which may be closed when the next is asked for). */
export type VideoSource = HTMLVideoElement | readonly ImageSource[] | AsyncIterable<ImageSource>;

/** How to encode a clip. */
export interface VideoOptions extends EncodeOptions {
  /** How many frames, 1 to 32 (default 8); the original takes 8 for retrieval and 16 for questions. */
  frames?: number;
  /**
   * `even` (default) takes the middles of as many equal stretches. `orig` takes steps of `⌊n / frames⌋` from
   * the first frame on, as the original does: the end of the clip may be missed.
   */
  sampling?: "even" | "orig";
}

/** The most frames that the engine takes: `FRAMES` of the crate. */
const MOST = 32;
/** Frames of a stream that are kept for each one that is wanted: of a longer stream, every second, fourth, … */
const KEPT = 4;
/** Milliseconds that a `<video>` may take to show another frame. */
const SEEK_LIMIT = 30_000;

/** Encodes frames of `source`. */
export async function encodeVideo(
  client: Client,
  source: VideoSource,
  { request, image }: CheckedOptions,
  { signal, onProgress }: VideoOptions,
): Promise<EncodedImage> {
  const { frames = 8, sampling = "even", ...rest } = request as { frames?: unknown; sampling?: unknown };
  if (typeof frames !== "number" || !Number.isInteger(frames) || frames < 1 || frames > MOST) {
    throw new BlipError("bad-option", `option \`frames\` is ${String(frames)}, expected a whole number from 1 to ${MOST}`);
  }
  if (sampling !== "even" && sampling !== "orig") {
    throw new BlipError("bad-option", `option \`sampling\` is ${String(sampling)}, expected "even" or "orig"`);
  }
  const chosen = await choose(source, frames, sampling, signal);
  onProgress?.({ done: 0, total: 1 });
  // The same frame may come twice, and its memory can be moved once.
  const images = chosen.map((frame, index) => (chosen.indexOf(frame) === index ? frame : structuredClone(frame)));
  const [picture] = await client.encode(images, { ...image, ...rest }, true, signal);
  const encoded = new EncodedImage(client, picture!);
  try {
    onProgress?.({ done: 1, total: 1 });
  } catch (error) {
    encoded.dispose();
    throw error;
  }
  return encoded;
}

/** Which of `n` frames are taken; the same numbers as `frame_indices` of the crate. */
export function frameIndices(n: number, frames: number, sampling: "even" | "orig"): number[] {
  if (n === 0) return [];
  const index = (i: number): number =>
    sampling === "even" ? Math.floor(((2 * i + 1) * n) / (2 * frames)) : i * Math.floor(n / frames);
  return Array.from({ length: frames }, (_, i) => index(i));
}

function choose(source: VideoSource, frames: number, sampling: "even" | "orig", signal?: AbortSignal): Promise<ImagePayload[]> {
  if (Array.isArray(source)) return chooseOfList(source as readonly ImageSource[], frames, sampling, signal);
  if (typeof HTMLVideoElement !== "undefined" && source instanceof HTMLVideoElement) {
    return chooseOfElement(source, frames, sampling, signal);
  }
  if (typeof source === "object" && source !== null && Symbol.asyncIterator in source) {
    return chooseOfStream(source, frames, sampling, signal);
  }
  throw new BlipError("bad-image", "a clip is a <video>, a list of images, or an async iterable of images");
}

async function chooseOfList(list: readonly ImageSource[], frames: number, sampling: "even" | "orig", signal?: AbortSignal): Promise<ImagePayload[]> {
  if (list.length === 0) throw new BlipError("bad-image", "the clip has no frames");
  const read = new Map<number, Promise<ImagePayload>>();
  const indices = frameIndices(list.length, frames, sampling);
  for (const index of indices) if (!read.has(index)) read.set(index, readImage(list[index]!, signal));
  return abortable(Promise.all(indices.map((index) => read.get(index)!)), signal);
}

async function chooseOfStream(stream: AsyncIterable<ImageSource>, frames: number, sampling: "even" | "orig", signal?: AbortSignal): Promise<ImagePayload[]> {
  let kept: ImagePayload[] = [];
  let step = 1;
  let n = 0;
  for await (const frame of each(stream, signal)) {
    if (n % step === 0) {
      kept.push(await abortable(readImage(frame, signal), signal));
      if (kept.length >= 2 * KEPT * frames) {
        kept = kept.filter((_, index) => index % 2 === 0);
        step *= 2;
      }
    }
    n++;
  }
  if (n === 0) throw new BlipError("bad-image", "the clip has no frames");
  return frameIndices(n, frames, sampling).map((index) => kept[Math.min(Math.floor(index / step), kept.length - 1)]!);
}

async function chooseOfElement(video: HTMLVideoElement, frames: number, sampling: "even" | "orig", signal?: AbortSignal): Promise<ImagePayload[]> {
  if (video.readyState === 0) await event(video, "loadedmetadata", signal);
  const { duration, currentTime, paused } = video;
  if (!Number.isFinite(duration) || duration <= 0) throw new BlipError("bad-image", "the <video> has no end, or no frames");
  video.pause();
  try {
    const chosen: ImagePayload[] = [];
    for (let i = 0; i < frames; i++) {
      await seek(video, ((sampling === "even" ? i + 0.5 : i) / frames) * duration, signal);
      chosen.push(await readImage(video, signal));
    }
    return chosen;
  } finally {
    video.currentTime = currentTime;
    if (!paused) void video.play().catch(() => {});
  }
}

async function seek(video: HTMLVideoElement, time: number, signal?: AbortSignal): Promise<void> {
  if (video.currentTime === time && video.readyState >= 2 && !video.seeking) return;
  const sought = event(video, "seeked", signal);
  video.currentTime = time;
  await sought;
}

/** Waits for an event of an element that may fail instead. */
function event(video: HTMLVideoElement, type: "loadedmetadata" | "seeked", signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const ended = new AbortController();
    const settle = (then: () => void): void => {
      clearTimeout(timer);
      ended.abort();
      then();
    };
    const fail = (why: string): void => settle(() => reject(new BlipError("bad-image", `the <video> cannot be read: ${why}`)));
    const timer = setTimeout(() => fail(`no \`${type}\` within ${SEEK_LIMIT / 1000} s`), SEEK_LIMIT);
    const on = { once: true, signal: ended.signal };
    video.addEventListener(type, () => settle(resolve), on);
    video.addEventListener("error", () => fail(video.error?.message ?? "an error"), on);
    signal?.addEventListener("abort", () => settle(() => reject(signal.reason)), on);
    if (signal?.aborted === true) settle(() => reject(signal.reason));
  });
}
