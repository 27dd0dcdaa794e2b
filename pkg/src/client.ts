/**
 * The page's end of the protocol: numbers requests, matches answers, and settles every promise it gave
 * out, whatever happens to the engine.
 */

import type { BlipInfo, SelfTest } from "./info.js";
import type { EngineOptions } from "./options.js";
import { transferables } from "./images.js";
import {
  BlipError,
  type BlipErrorCode,
  type CaptionResult,
  type CreateMessage,
  type FromEngine,
  type ImagePayload,
  type Progress,
  type ToEngine,
} from "./protocol.js";

/** A way to an engine: a worker, or an object in the same thread. */
export interface Channel {
  send(message: ToEngine, transfer: Transferable[]): void;
  close(): void | Promise<void>;
}

/** Opens a channel whose messages go to `receive`. */
export type OpenChannel = (receive: (message: FromEngine) => void) => Channel;

type Answer = Extract<FromEngine, { type: "created" | "captioned" | "selfTested" }>;
type Event = Extract<FromEngine, { type: "progress" | "token" }>;

interface Pending {
  answer(message: Answer): void;
  event(message: Event): void;
  fail(error: unknown): void;
}

/** Calls an engine over a channel. */
export class Client {
  readonly #channel: Channel;
  readonly #pending = new Map<number, Pending>();
  #nextId = 1;
  /** Why no call is taken any more. */
  #closed: BlipError | undefined;

  constructor(open: OpenChannel) {
    this.#channel = open((message) => this.#receive(message));
  }

  /** Creates the engine and loads its model. */
  async create(create: CreateMessage, onProgress: (progress: Progress) => void, signal?: AbortSignal): Promise<BlipInfo> {
    const answer = await this.#call(
      (id) => ({ type: "create", id, create }),
      [],
      (event) => event.type === "progress" && onProgress(event.progress),
      signal,
    );
    if (answer.type !== "created") throw unexpected(answer);
    return answer.info;
  }

  /** Captions an image, whose buffer moves to the engine. */
  async caption(
    image: ImagePayload,
    options: EngineOptions,
    onToken: (text: string, index: number) => void,
    signal?: AbortSignal,
  ): Promise<CaptionResult> {
    const answer = await this.#call(
      (id) => ({ type: "caption", id, image, options }),
      transferables(image),
      (event) => event.type === "token" && onToken(event.text, event.index),
      signal,
    );
    if (answer.type !== "captioned") throw unexpected(answer);
    return answer.result;
  }

  /** Compares the engine's kernels with plain arithmetic. */
  async selfTest(signal?: AbortSignal): Promise<SelfTest> {
    const answer = await this.#call((id) => ({ type: "selfTest", id }), [], () => {}, signal);
    if (answer.type !== "selfTested") throw unexpected(answer);
    return answer.result;
  }

  /** Refuses calls on a closed client. */
  assertOpen(): void {
    if (this.#closed !== undefined) throw this.#closed;
  }

  /** Rejects what is pending with `disposed` and closes the channel; later calls of `close` do nothing. */
  async close(): Promise<void> {
    if (this.#closed !== undefined) return;
    this.#closed = new BlipError("disposed", "this instance was disposed of; create a new one");
    this.#failAll(this.#closed);
    await this.#channel.close();
  }

  #call(
    request: (id: number) => ToEngine,
    transfer: Transferable[],
    onEvent: (event: Event) => void,
    signal: AbortSignal | undefined,
  ): Promise<Answer> {
    return new Promise((resolve, reject) => {
      this.assertOpen();
      signal?.throwIfAborted();
      const id = this.#nextId++;
      const settle = (): void => {
        this.#pending.delete(id);
        signal?.removeEventListener("abort", onAbort);
      };
      const onAbort = (): void => {
        settle();
        reject(signal?.reason);
        this.#channel.send({ type: "abort", id }, []);
      };
      const fail = (error: unknown): void => {
        settle();
        reject(error);
      };
      this.#pending.set(id, {
        answer: (answer) => {
          settle();
          resolve(answer);
        },
        event: (event) => {
          // A listener that throws ends its own call, as it would in a plain function.
          try {
            onEvent(event);
          } catch (error) {
            fail(error);
            this.#channel.send({ type: "abort", id }, []);
          }
        },
        fail,
      });
      signal?.addEventListener("abort", onAbort);
      try {
        this.#channel.send(request(id), transfer);
      } catch (error) {
        fail(error);
      }
    });
  }

  #receive(message: FromEngine): void {
    if (message.type === "crashed") {
      this.#crash(message.code, message.message);
      return;
    }
    // No entry: the caller cancelled, and has its answer.
    const pending = this.#pending.get(message.id);
    if (message.type === "failed") pending?.fail(new BlipError(message.code, message.message));
    else if (message.type === "progress" || message.type === "token") pending?.event(message);
    else pending?.answer(message);
  }

  #crash(code: BlipErrorCode, message: string): void {
    if (this.#closed !== undefined) return;
    this.#closed = new BlipError("disposed", `this instance cannot be used any more, create a new one: ${message}`);
    this.#failAll(new BlipError(code, message));
    void this.#channel.close();
  }

  #failAll(error: BlipError): void {
    for (const pending of [...this.#pending.values()]) pending.fail(error);
  }
}

function unexpected(answer: Answer): BlipError {
  return new BlipError("internal", `the engine answered with \`${answer.type}\``);
}
