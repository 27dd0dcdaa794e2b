/** Images that stay encoded in an engine, to be asked about more than once. */

import type { Client } from "./client.js";
import { BlipError } from "./protocol.js";

/**
 * An image, or a clip, that was encoded before: usable wherever an image is, by the instance that made it.
 * It takes memory on the device until it is disposed of, with the instance at the latest.
 */
export class EncodedImage {
  readonly #client: Client;
  #picture: number | undefined;
  /** Calls that are on their way to the engine. */
  #holders = 0;
  #isDisposed = false;

  /** @internal Made by `Blip.encode`. */
  constructor(client: Client, picture: number) {
    this.#client = client;
    this.#picture = picture;
  }

  /**
   * Its number in the engine of `client`, which stays until `letGo`, even when it is disposed of meanwhile.
   *
   * @internal
   * @throws BlipError `bad-option` when it belongs to another instance, or was disposed of.
   */
  hold(client: Client): { readonly picture: number; readonly letGo: () => void } {
    if (this.#isDisposed || this.#picture === undefined) throw new BlipError("bad-option", "this encoded image was disposed of");
    if (client !== this.#client) throw new BlipError("bad-option", "this encoded image belongs to another instance");
    this.#holders++;
    const letGo = (): void => {
      this.#holders--;
      this.#release();
    };
    return { picture: this.#picture, letGo };
  }

  /** Frees it; calls that were made with it still end. Safe to repeat. */
  dispose(): void {
    this.#isDisposed = true;
    this.#release();
  }

  /** For `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  #release(): void {
    if (!this.#isDisposed || this.#holders > 0 || this.#picture === undefined) return;
    this.#client.release(this.#picture);
    this.#picture = undefined;
  }
}
