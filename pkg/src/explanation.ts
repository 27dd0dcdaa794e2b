/** The answer of `explain`: maps by token, by word, and of the whole text. */

import { BlipError, type TaskAnswer } from "./protocol.js";
import type { Explanation } from "./results.js";

/** An explanation as the engine answers: its maps come apart. */
interface Row {
  readonly method: string;
  readonly layer: number;
  readonly grid: readonly [number, number];
  readonly frames: number;
  readonly probability: number;
  readonly tokens: readonly { readonly text: string; readonly id: number; readonly word: number | null }[];
  readonly words: readonly { readonly text: string; readonly tokens: readonly number[] }[];
}

/** Arrays of maps of each explanation: of the tokens, of the words, of the text. */
const ARRAYS = 3;

/**
 * The explanations of an answer.
 *
 * @throws BlipError `internal` when there are not the numbers that the maps need.
 */
export function explanations({ results, floats }: TaskAnswer): Explanation[] {
  return (results as Row[]).map((row, index) => {
    const [tokens, words, sentence] = floats.slice(index * ARRAYS, (index + 1) * ARRAYS);
    if (tokens === undefined || words === undefined || sentence === undefined) throw short();
    const map = (maps: Float32Array, row: number): Float32Array => {
      const found = maps.subarray(row * sentence.length, (row + 1) * sentence.length);
      if (found.length !== sentence.length) throw short();
      return found;
    };
    return {
      ...row,
      tokens: row.tokens.map((token, index) => ({ ...token, map: map(tokens, index) })),
      words: row.words.map((word, index) => ({ ...word, map: map(words, index) })),
      sentence,
    };
  });
}

function short(): BlipError {
  return new BlipError("internal", "an explanation came without its maps");
}
