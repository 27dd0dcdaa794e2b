/** Iteration that can be cancelled while it waits. */

import { abortable } from "./abort.js";

/**
 * The items of a source, one after another. A wait for the next one ends when `signal` is aborted, and whoever
 * leaves early tells the source so.
 */
export async function* each<Item>(
  source: Iterable<Item> | AsyncIterable<Item>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Item, void, void> {
  const iterator = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
  let hasEnded = false;
  try {
    for (;;) {
      signal?.throwIfAborted();
      const { done, value } = await abortable(Promise.resolve(iterator.next()), signal);
      hasEnded = done === true;
      if (hasEnded) return;
      yield value as Item;
    }
  } finally {
    // Not waited for: a source that is stuck may never answer.
    if (!hasEnded) (async () => iterator.return?.())().catch(() => {});
  }
}

/** The items of a source in groups of `size`, the last one perhaps smaller; otherwise as {@link each}. */
export async function* groups<Item>(
  source: Iterable<Item> | AsyncIterable<Item>,
  size: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<Item[], void, void> {
  let group: Item[] = [];
  for await (const item of each(source, signal)) {
    group.push(item);
    if (group.length < size) continue;
    yield group;
    group = [];
  }
  if (group.length > 0) yield group;
}
