/**
 * React hooks: `blip-web/react`.
 *
 * Nothing is created while rendering. On a server every hook says `idle`; in the browser an instance is
 * created in an effect, shared by all components that name the same one, and disposed of after the last of
 * them is gone. React is an optional peer dependency, used by this file alone.
 *
 * @module
 */
"use client";

import { useCallback, useEffect, useMemo, useState, useSyncExternalStore } from "react";
import { Blip, type CreateOptions } from "./blip.js";
import type { ImageInput } from "./calls.js";
import type { CaptionOptions } from "./options.js";
import type { CaptionResult, Progress } from "./protocol.js";

/** Options of {@link useBlip}: those of `Blip.create`, and which instance is meant. */
export interface UseBlipOptions extends Omit<CreateOptions, "signal" | "onProgress"> {
  /**
   * Components with equal keys share an instance, made with the options of the first. Left out, the key is
   * made of the options themselves, except for functions.
   */
  key?: string;
  /** Creates nothing while this is false, such as before a visitor agreed to a download. Default true. */
  enabled?: boolean;
}

/** What {@link useBlip} knows; a new object whenever something changed. */
export interface BlipState {
  /** `idle` on a server and while `enabled` is false. */
  readonly status: "idle" | "loading" | "ready" | "error";
  /** The instance, once `status` is `ready`. It is shared: the hook disposes of it, components must not. */
  readonly blip: Blip | undefined;
  /** The latest step of the creation. */
  readonly progress: Progress | undefined;
  /** Why the creation failed, such as a `BlipError`. */
  readonly error: unknown;
}

const IDLE: BlipState = { status: "idle", blip: undefined, progress: undefined, error: undefined };
const LOADING: BlipState = { ...IDLE, status: "loading" };

/** An instance, or one in the making, and the components that look at it. */
interface Shared {
  state: BlipState;
  readonly listeners: Set<() => void>;
  readonly controller: AbortController;
}

const shared = new Map<string, Shared>();

/**
 * An instance of `Blip`, created once for all components with the same key.
 *
 * ```tsx
 * const { blip, status, progress, error } = useBlip({ model: "Salesforce/blip-image-captioning-base" });
 * ```
 */
export function useBlip(options: UseBlipOptions = {}): BlipState {
  const { key: named, enabled = true, ...create } = options;
  const key = named ?? keyOf(create);
  const subscribe = useCallback(
    (onChange: () => void) => (enabled ? attach(key, create, onChange) : nothing),
    // The key stands for the options.
    [key, enabled],
  );
  const snapshot = (): BlipState => (enabled ? (shared.get(key)?.state ?? LOADING) : IDLE);
  return useSyncExternalStore(subscribe, snapshot, () => IDLE);
}

/** What {@link useCaption} knows; a new object whenever something changed. */
export interface CaptionState {
  readonly status: "idle" | "running" | "done" | "error";
  /** The text so far, or the whole caption once `status` is `done`. */
  readonly text: string;
  /** The finished caption. */
  readonly result: CaptionResult | undefined;
  /** Why there is none. */
  readonly error: unknown;
}

const NO_CAPTION: CaptionState = { status: "idle", text: "", result: undefined, error: undefined };
const BEGUN: CaptionState = { ...NO_CAPTION, status: "running" };

/**
 * The caption of an image while it is being written. Another image, other options or unmounting cancel it.
 *
 * @param blip the instance; `undefined` waits for one.
 * @param image the image; `undefined` or `null` is none. Another object is another image.
 * @param options compared by their values. `signal` and `onToken` are the hook's own.
 */
export function useCaption(
  blip: Blip | undefined,
  image: ImageInput | null | undefined,
  options: Omit<CaptionOptions, "signal" | "onToken"> = {},
): CaptionState {
  const values = JSON.stringify(options);
  // One object for each thing to caption: a state that belongs to another one is not shown.
  const work = useMemo(() => ({}), [blip, image, values]);
  const [current, setCurrent] = useState({ work, state: NO_CAPTION });
  useEffect(() => {
    if (blip === undefined || image === undefined || image === null) return;
    const controller = new AbortController();
    const show = (state: CaptionState): void => {
      if (!controller.signal.aborted) setCurrent({ work, state });
    };
    const follow = async (): Promise<void> => {
      try {
        const stream = blip.captionStream(image, { ...options, signal: controller.signal });
        for await (const { text, index } of stream) if (index === 0) show({ ...BEGUN, text });
        const result = await stream.result;
        show({ status: "done", text: result.text, result, error: undefined });
      } catch (error) {
        show({ ...NO_CAPTION, status: "error", error });
      }
    };
    void follow();
    return () => controller.abort(new DOMException("the component no longer shows this caption", "AbortError"));
    // `work` stands for all that is read.
  }, [work]);
  if (current.work === work && current.state !== NO_CAPTION) return current.state;
  return blip === undefined || image === undefined || image === null ? NO_CAPTION : BEGUN;
}

/** Two sets of options with equal values have equal keys; functions and signals have no value to compare. */
function keyOf(create: CreateOptions): string {
  const entries = Object.entries(create).filter(([, value]) => value !== undefined && typeof value !== "function");
  return JSON.stringify(entries.sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** Looks at the instance of `key`, which is created by the first look; returns how to look away. */
function attach(key: string, options: CreateOptions, onChange: () => void): () => void {
  const entry = shared.get(key) ?? begin(key, options);
  entry.listeners.add(onChange);
  return () => {
    entry.listeners.delete(onChange);
    // Strict mode and a change of route look away and back at once: only who is gone for good is let go.
    setTimeout(() => release(key, entry), 0);
  };
}

function begin(key: string, options: CreateOptions): Shared {
  const entry: Shared = { state: LOADING, listeners: new Set(), controller: new AbortController() };
  shared.set(key, entry);
  const { signal } = entry.controller;
  const show = (state: BlipState): void => {
    if (signal.aborted) return;
    entry.state = state;
    for (const listener of [...entry.listeners]) listener();
  };
  const onProgress = (progress: Progress): void => show({ ...LOADING, progress });
  const create = async (): Promise<void> => {
    try {
      const blip = await Blip.create({ ...options, signal, onProgress });
      if (signal.aborted) await blip.dispose();
      else show({ ...IDLE, status: "ready", blip, progress: { phase: "ready" } });
    } catch (error) {
      show({ ...IDLE, status: "error", error });
    }
  };
  void create();
  return entry;
}

/** Lets go of an instance that nobody looks at; a failed one as well, so that the next look tries again. */
function release(key: string, entry: Shared): void {
  if (entry.listeners.size > 0 || entry.controller.signal.aborted) return;
  if (shared.get(key) === entry) shared.delete(key);
  entry.controller.abort(new DOMException("no component uses this instance", "AbortError"));
  void entry.state.blip?.dispose();
}

const nothing = (): void => {};
