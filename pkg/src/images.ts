/**
 * Whatever a page has as a picture, as bytes for the engine.
 *
 * Encoded images stay encoded: Rust decodes them, so that a caption does not depend on how a browser
 * scales or colours pixels. Only what has no encoded form left (canvas, video, bitmap, a shown `<img>`)
 * is read back as pixels.
 */

import { BlipError, type ImagePayload } from "./protocol.js";

/** Every source that can be read as an image. A string is an address, which may be a `data:` or `blob:` URL. */
export type ImageSource =
  | Blob
  | ArrayBuffer
  | ArrayBufferView
  | URL
  | string
  | ImageData
  | ImageBitmap
  | HTMLImageElement
  | HTMLCanvasElement
  | OffscreenCanvas
  | HTMLVideoElement
  | VideoFrame;

type Drawable = ImageBitmap | HTMLImageElement | HTMLCanvasElement | OffscreenCanvas | HTMLVideoElement | VideoFrame;

/**
 * Reads an image source. The result owns its memory, so it can be transferred; the source is left as it was.
 *
 * @throws BlipError `download-failed` for an address, `bad-image` for anything that is not a picture.
 */
export async function readImage(source: ImageSource, signal?: AbortSignal): Promise<ImagePayload> {
  if (typeof source === "string" || source instanceof URL) return encoded(await download(source, signal));
  if (source instanceof Blob) return encoded(new Uint8Array(await readBlob(source)));
  if (source instanceof ArrayBuffer) return encoded(new Uint8Array(source.slice(0)));
  if (ArrayBuffer.isView(source)) {
    return encoded(new Uint8Array(source.buffer, source.byteOffset, source.byteLength).slice());
  }
  if (isA(source, "ImageData")) return readPixels(source as ImageData);
  if (isA(source, "HTMLImageElement")) await decoded(source as HTMLImageElement);
  // Of a clip whose data has not come yet browsers draw nothing, and do not say so.
  if (isA(source, "HTMLVideoElement") && (source as HTMLVideoElement).readyState < HAVE_CURRENT_DATA) {
    throw new BlipError("bad-image", "the <video> has no pixels yet: its event `loadeddata` has to come first");
  }
  const size = drawnSize(source as Drawable);
  if (size === undefined) {
    throw new BlipError("bad-image", `cannot read an image from ${describe(source)}`);
  }
  return draw(source as Drawable, size);
}

/** The `readyState` from which on a <video> shows a frame. */
const HAVE_CURRENT_DATA = 2;

/** The buffers of a payload, to be moved instead of copied to the worker. */
export function transferables(image: ImagePayload): Transferable[] {
  return [(image.kind === "encoded" ? image.bytes : image.rgba).buffer as ArrayBuffer];
}

function encoded(bytes: Uint8Array): ImagePayload {
  return { kind: "encoded", bytes };
}

async function download(source: string | URL, signal?: AbortSignal): Promise<Uint8Array> {
  const shown = shorten(String(source));
  try {
    const response = await fetch(source, signal === undefined ? {} : { signal });
    if (!response.ok) throw new BlipError("download-failed", `${shown}: HTTP status ${response.status}`);
    return new Uint8Array(await response.arrayBuffer());
  } catch (error) {
    if (error instanceof BlipError || signal?.aborted === true) throw error;
    const message = error instanceof Error ? error.message : String(error);
    throw new BlipError("download-failed", `${shown}: ${message}`, { cause: error });
  }
}

async function readBlob(blob: Blob): Promise<ArrayBuffer> {
  try {
    return await blob.arrayBuffer();
  } catch (error) {
    // A picked file that was moved or changed since.
    throw new BlipError("bad-image", "the file can no longer be read", { cause: error });
  }
}

/** Pixels of another colour space are converted by the browser, as those of a canvas are. */
function readPixels(image: ImageData): ImagePayload {
  const read = pixels(image);
  // Where this property is missing there is no other space.
  if ((image.colorSpace ?? "srgb") === "srgb") return read;
  const { width, height } = image;
  return painted(image, { width, height }, (context) => context.putImageData(image, 0, 0));
}

function pixels(image: ImageData): ImagePayload {
  const data: unknown = image.data;
  if (!(data instanceof Uint8ClampedArray)) {
    throw new BlipError("bad-image", "ImageData has a pixel format other than 8-bit RGBA");
  }
  return { kind: "pixels", rgba: new Uint8Array(data), width: image.width, height: image.height };
}

async function decoded(element: HTMLImageElement): Promise<void> {
  try {
    await element.decode();
  } catch (error) {
    throw new BlipError("bad-image", `the browser cannot decode ${shorten(element.currentSrc || "the <img>")}`, { cause: error });
  }
}

interface Size {
  readonly width: number;
  readonly height: number;
}

/** The size in pixels of what `drawImage` would paint, or nothing when it cannot paint the source. */
function drawnSize(source: Drawable): Size | undefined {
  if (isA(source, "HTMLImageElement")) {
    const image = source as HTMLImageElement;
    return { width: image.naturalWidth, height: image.naturalHeight };
  }
  if (isA(source, "HTMLVideoElement")) {
    const video = source as HTMLVideoElement;
    return { width: video.videoWidth, height: video.videoHeight };
  }
  if (isA(source, "VideoFrame")) {
    const frame = source as VideoFrame;
    return { width: frame.displayWidth, height: frame.displayHeight };
  }
  if (isA(source, "ImageBitmap") || isA(source, "HTMLCanvasElement") || isA(source, "OffscreenCanvas")) {
    const { width, height } = source as ImageBitmap | HTMLCanvasElement | OffscreenCanvas;
    return { width, height };
  }
  return undefined;
}

function draw(source: Drawable, size: Size): ImagePayload {
  const { width, height } = size;
  if (width === 0 || height === 0) {
    throw new BlipError("bad-image", `${describe(source)} has no pixels yet (${width} x ${height})`);
  }
  return painted(source, size, (context) => context.drawImage(source, 0, 0, width, height));
}

/** What `paint` leaves on a canvas of this size. */
function painted(source: Drawable | ImageData, { width, height }: Size, paint: (context: CanvasRenderingContext2D) => void): ImagePayload {
  try {
    const context = canvas(width, height).getContext("2d", { willReadFrequently: true }) as CanvasRenderingContext2D | null;
    if (context === null) throw new Error("no 2D context");
    paint(context);
    return pixels(context.getImageData(0, 0, width, height, { colorSpace: "srgb" }));
  } catch (error) {
    if (error instanceof BlipError) throw error;
    // A SecurityError of a cross-origin picture, or a size the browser has no canvas for.
    const message = error instanceof Error ? error.message : String(error);
    throw new BlipError("bad-image", `cannot read the pixels of ${describe(source)} (${width} x ${height}): ${message}`, {
      cause: error,
    });
  }
}

function canvas(width: number, height: number): OffscreenCanvas | HTMLCanvasElement {
  if (typeof OffscreenCanvas !== "undefined") return new OffscreenCanvas(width, height);
  return Object.assign(document.createElement("canvas"), { width, height });
}

/** `instanceof` by name: most of these classes do not exist in a worker or outside a browser. */
function isA(value: unknown, className: string): boolean {
  const constructor: unknown = (globalThis as Record<string, unknown>)[className];
  return typeof constructor === "function" && value instanceof constructor;
}

function describe(value: unknown): string {
  if (value === null || typeof value !== "object") return String(value);
  return value.constructor?.name ?? "an object";
}

function shorten(url: string): string {
  return url.length > 120 ? `${url.slice(0, 117)}...` : url;
}
