/**
 * BLIP image captions in the browser, on WebGPU or the CPU.
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

export { Blip, type CreateOptions } from "./blip.js";
export type { ImageSource } from "./images.js";
export type { AdapterInfo, BlipInfo, ModelInfo, SelfTest, SelfTestCheck } from "./info.js";
export type { KnownWords, Quantisation } from "./manifest.js";
export type { CaptionOptions, GenerationOptions } from "./options.js";
export { BlipError, type BlipErrorCode, type Caption, type CaptionResult, ERROR_CODES, type Progress } from "./protocol.js";
export type { CaptionStream, CaptionToken } from "./stream.js";
