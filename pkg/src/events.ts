/** What an instance tells outside of calls. */

import type { BlipInfo } from "./info.js";
import type { EngineEvent } from "./protocol.js";

/** Something that happened to an instance; `message` says what, for people. */
export class BlipEvent extends Event {
  readonly message: string;

  constructor(type: keyof BlipEventMap, message: string) {
    super(type);
    this.message = message;
  }
}

/** The events by type. */
export interface BlipEventMap {
  /** The GPU was lost, or the engine on it stopped. Calls in flight wait, and are made once more. */
  devicelost: BlipEvent;
  /** The model is on a device again; `blip.info` says on which. */
  devicerestored: BlipEvent;
  /**
   * The CPU was taken instead of the GPU, which only `device: "auto"` does: by `create`, or for a GPU that was lost
   * since. `blip.info.fallbackReason` says the same.
   */
  fallback: BlipEvent;
  /** There is no room in the cache: the model is used, and will be downloaded again next time. */
  quota: BlipEvent;
  /** Something in the cache was damaged, and has been downloaded again. */
  refetched: BlipEvent;
}

/** Delivers the engine's events, those of the creation included, to listeners. */
export class Events {
  readonly #target = new EventTarget();
  /** Events from before there was anyone to listen. */
  #early: EngineEvent[] | undefined = [];
  #onInfo: (info: BlipInfo) => void = () => {};

  /** The listeners, for `addEventListener` and its opposite. */
  get target(): EventTarget {
    return this.#target;
  }

  /** Takes an event; what happens before `open` is delivered after it. */
  take(event: EngineEvent): void {
    if (this.#early !== undefined) {
      this.#early.push(event);
      return;
    }
    if (event.type === "devicerestored") this.#onInfo(event.info);
    this.#target.dispatchEvent(new BlipEvent(event.type, event.message));
  }

  /** From the next turn of the event loop on, when listeners can have been added, events are delivered. */
  open(onInfo: (info: BlipInfo) => void): void {
    this.#onInfo = onInfo;
    setTimeout(() => {
      const early = this.#early ?? [];
      this.#early = undefined;
      for (const event of early) this.take(event);
    });
  }
}
