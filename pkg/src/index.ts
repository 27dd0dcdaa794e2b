/**
 * BLIP in the browser, on WebGPU or the CPU: captions, questions, matching, classification, search.
 *
 * ```js
 * import { Blip } from "blip-web";
 *
 * const blip = await Blip.create();
 * for await (const { text } of blip.captionStream(file)) show(text);
 * ```
 *
 * Importing does nothing: no download, no worker, no global is touched until `Blip.create`.
 *
 * @module
 */

export {
  Blip,
  type CreateOptions,
  type Dialogue,
  type Embedded,
  type EmbedInput,
  type ImageInput,
  type Images,
  type ModelOptions,
} from "./blip.js";
export type { CachedModel } from "./cache.js";
export { EncodedImage } from "./encoded.js";
export { BlipEvent, type BlipEventMap } from "./events.js";
export type {
  AddOptions,
  AddProgress,
  AddResult,
  FailedImage,
  Gallery,
  GalleryItem,
  GalleryOptions,
  GalleryResult,
  SearchOptions,
} from "./gallery.js";
export type { ImageSource } from "./images.js";
export type { AdapterInfo, BlipInfo, ModelInfo, SelfTest, SelfTestCheck } from "./info.js";
export type { KnownWords, Quantisation } from "./manifest.js";
export type {
  AskOptions,
  CallOptions,
  CallProgress,
  CaptionOptions,
  ClassifyOptions,
  Convention,
  DialogueOptions,
  EmbedOptions,
  EncodeOptions,
  ExplainOptions,
  GenerationOptions,
  ImageOptions,
  KnownTask,
  MatchOptions,
  Nlvr2Options,
} from "./options.js";
export { type Colour, overlay, type OverlayOptions, overlayPixels, type OverlayPixels } from "./overlay.js";
export { BlipError, type BlipErrorCode, type CacheMode, type Dtype, type DtypeName, ERROR_CODES, type Progress } from "./protocol.js";
export type {
  Answer,
  AskResult,
  Availability,
  Caption,
  CaptionResult,
  DialogueAnswer,
  Each,
  Embedding,
  Explanation,
  Label,
  Match,
  MemoryUse,
  Nlvr2Result,
  RelevanceMap,
} from "./results.js";
export type { ModelName, ModelsByTask } from "./sources.js";
export type { CaptionStream, CaptionToken } from "./stream.js";
export type { VideoOptions, VideoSource } from "./video.js";
