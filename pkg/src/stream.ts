/** A caption as it is being written. */

import type { CaptionResult } from "./protocol.js";

/** A step: the whole text so far (a beam search may take words back), and which of several captions it is. */
export interface CaptionToken {
  readonly text: string;
  readonly index: number;
}

/** Starts the caption behind a stream. */
export type StartCaption = (
  onToken: (text: string, index: number) => void,
  signal: AbortSignal,
) => Promise<CaptionResult>;

/**
 * Iterates over the tokens of one caption, once. Leaving the loop early cancels the rest, and an error of
 * the caption is thrown by the loop. `result` is the finished caption.
 */
export class CaptionStream implements AsyncIterable<CaptionToken> {
  /** The finished caption; rejects as the loop would. */
  readonly result: Promise<CaptionResult>;
  readonly #controller = new AbortController();
  readonly #tokens: CaptionToken[] = [];
  #finished = false;
  #wake: () => void = () => {};

  constructor(start: StartCaption, signal?: AbortSignal) {
    const onToken = (text: string, index: number): void => {
      this.#tokens.push({ text, index });
      this.#wake();
    };
    const cancel = (): void => this.#controller.abort(signal?.reason);
    if (signal?.aborted === true) cancel();
    signal?.addEventListener("abort", cancel, { once: true });
    this.result = start(onToken, this.#controller.signal).finally(() => {
      signal?.removeEventListener("abort", cancel);
      this.#finished = true;
      this.#wake();
    });
    // The loop reports it; whoever reads `result` gets it as well.
    this.result.catch(() => {});
  }

  /** The tokens, once; whoever stops early cancels the caption. */
  async *[Symbol.asyncIterator](): AsyncGenerator<CaptionToken, void, undefined> {
    try {
      for (;;) {
        const token = this.#tokens.shift();
        if (token !== undefined) yield token;
        else if (this.#finished) break;
        else await new Promise<void>((resolve) => (this.#wake = resolve));
      }
      await this.result;
    } finally {
      this.#controller.abort();
    }
  }
}
