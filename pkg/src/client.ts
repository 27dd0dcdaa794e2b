/**
 * The page's end of the protocol: numbers requests, matches answers, and settles every promise it gave
 * out, whatever happens to the engine.
 */

import { transferables } from "./images.js";
import type { BlipInfo, SelfTest } from "./info.js";
import type { ImageOptions } from "./options.js";
import {
  BlipError,
  type BlipErrorCode,
  type CreateMessage,
  type EncodeRequest,
  type EngineEvent,
  type FromEngine,
  type ImagePayload,
  type PictureInput,
  type Progress,
  type TaskAnswer,
  type TaskRequest,
  type ToEngine,
} from "./protocol.js";
import type { MemoryUse } from "./results.js";

/** A way to an engine: a worker, or an object in the same thread. */
export interface Channel {
  send(message: ToEngine, transfer: Transferable[]): void;
  close(): void | Promise<void>;
}

/** Opens a channel whose messages go to `receive`. */
export type OpenChannel = (receive: (message: FromEngine) => void) => Channel;

/** What a request reports while it runs. */
export interface RunListeners {
  readonly onToken?: (text: string, index: number, picture: number) => void;
  readonly onStep?: (done: number, total: number) => void;
}

type CallEvent = Extract<FromEngine, { type: "progress" | "token" | "step" }>;

/** How a call is followed. */
interface CallListeners {
  readonly onEvent?: (event: CallEvent) => void;
  /** Gets the value of a call that was given up before it came. */
  readonly onLate?: (value: unknown) => void;
}

interface Pending {
  done(value: unknown): void;
  event(message: CallEvent): void;
  fail(error: unknown): void;
}

/** Calls an engine over a channel. */
export class Client {
  readonly #channel: Channel;
  readonly #onEvent: (event: EngineEvent) => void;
  readonly #pending = new Map<number, Pending>();
  #nextId = 1;
  /** Why no call is taken any more. */
  #closed: BlipError | undefined;

  constructor(open: OpenChannel, onEvent: (event: EngineEvent) => void = () => {}) {
    this.#onEvent = onEvent;
    this.#channel = open((message) => this.#receive(message));
  }

  /** Creates the engine and loads its models. */
  async create(create: CreateMessage, onProgress: (progress: Progress) => void, signal?: AbortSignal): Promise<BlipInfo> {
    const onEvent = (event: CallEvent): void => {
      if (event.type === "progress") onProgress(event.progress);
    };
    return (await this.#call((id) => ({ type: "create", id, create }), [], signal, { onEvent })) as BlipInfo;
  }

  /** Encodes images, whose buffers move to the engine, and keeps them there; an id for each, or one for a video. */
  async encode(images: readonly ImagePayload[], options: EncodeRequest, video: boolean, signal?: AbortSignal): Promise<number[]> {
    const transfer = images.flatMap(transferables);
    // Nobody else knows the pictures of a call that was given up.
    const onLate = (value: unknown): void => (value as number[]).forEach((picture) => this.release(picture));
    return (await this.#call((id) => ({ type: "encode", id, images, options, video }), transfer, signal, { onLate })) as number[];
  }

  /** Answers a request about pictures, of which images move to the engine. */
  async run(
    request: TaskRequest,
    pictures: readonly PictureInput[],
    options: ImageOptions,
    { onToken, onStep }: RunListeners,
    signal?: AbortSignal,
  ): Promise<TaskAnswer> {
    const transfer = pictures.flatMap((picture) => (picture.kind === "picture" ? [] : transferables(picture)));
    const onEvent = (event: CallEvent): void => {
      if (event.type === "token") onToken?.(event.text, event.index, event.picture);
      else if (event.type === "step") onStep?.(event.done, event.total);
    };
    const value = await this.#call((id) => ({ type: "run", id, request, pictures, options }), transfer, signal, { onEvent });
    return value as TaskAnswer;
  }

  /** Lets the engine forget an encoded image. */
  release(picture: number): void {
    if (this.#closed === undefined) this.#channel.send({ type: "release", picture }, []);
  }

  /** Compares the engine's kernels with plain arithmetic. */
  async selfTest(signal?: AbortSignal): Promise<SelfTest> {
    return (await this.#call((id) => ({ type: "selfTest", id }), [], signal)) as SelfTest;
  }

  /** What the engine holds. */
  async memory(): Promise<MemoryUse> {
    return (await this.#call((id) => ({ type: "memory", id }), [])) as MemoryUse;
  }

  /** An operation of a gallery's index, which the engine's thread holds. */
  gallery(op: string, args: readonly unknown[], signal?: AbortSignal): Promise<unknown> {
    return this.#call((id) => ({ type: "gallery", id, op, args }), [], signal);
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
    signal?: AbortSignal,
    { onEvent = () => {}, onLate }: CallListeners = {},
  ): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.assertOpen();
      signal?.throwIfAborted();
      const id = this.#nextId++;
      const settle = (): void => {
        this.#pending.delete(id);
        signal?.removeEventListener("abort", onAbort);
      };
      const fail = (error: unknown): void => {
        settle();
        reject(error);
      };
      const giveUp = (error: unknown): void => {
        fail(error);
        if (onLate !== undefined) this.#pending.set(id, this.#late(id, onLate));
        this.#channel.send({ type: "abort", id }, []);
      };
      const onAbort = (): void => giveUp(signal?.reason);
      this.#pending.set(id, {
        done: (value) => {
          settle();
          resolve(value);
        },
        event: (event) => {
          // A listener that throws ends its own call, as it would in a plain function.
          try {
            onEvent(event);
          } catch (error) {
            giveUp(error);
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

  /** What is left of a call that was given up: the engine may have finished it all the same. */
  #late(id: number, onLate: (value: unknown) => void): Pending {
    const end = (): boolean => this.#pending.delete(id);
    return {
      done: (value) => {
        end();
        onLate(value);
      },
      event: () => {},
      fail: end,
    };
  }

  #receive(message: FromEngine): void {
    if (message.type === "crashed") return this.#crash(message.code, message.message);
    if (message.type === "event") return this.#onEvent(message.event);
    // No entry: the caller cancelled, and has its answer.
    const pending = this.#pending.get(message.id);
    if (message.type === "failed") {
      pending?.fail(new BlipError(message.code, message.message, { image: message.picture }));
    } else if (message.type === "done") {
      pending?.done(message.value);
    } else {
      pending?.event(message);
    }
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
