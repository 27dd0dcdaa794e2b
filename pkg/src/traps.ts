/**
 * A panic inside the module traps in a callback of the event loop, where no promise sees it: the call
 * that caused it would stay pending for ever. The trap does reach the global error handlers.
 */

import type { EngineHost } from "./host.js";

/**
 * Reports traps of modules of this thread to `host` while it has work; other errors of the page are none of
 * ours. Returns a function that stops watching.
 */
export function watchForTraps(host: EngineHost): () => void {
  const onError = (event: Event): void => {
    const thrown: unknown = (event as Partial<ErrorEvent>).error ?? (event as Partial<PromiseRejectionEvent>).reason;
    if (!host.busy || !(thrown instanceof WebAssembly.RuntimeError)) return;
    // It is dealt with: a worker's page must not hear of it as of a worker that stopped.
    event.preventDefault();
    host.trap(thrown);
  };
  // Absent where there is no browser; then there are no such events either.
  globalThis.addEventListener?.("error", onError);
  globalThis.addEventListener?.("unhandledrejection", onError);
  return () => {
    globalThis.removeEventListener?.("error", onError);
    globalThis.removeEventListener?.("unhandledrejection", onError);
  };
}
