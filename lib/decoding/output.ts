// Output of sample.ts for samples generated side by side: as text, one after the other, or as a line of JSON each.

import type { Sample } from "./generate.ts";

/** Writes the samples of one prompt, in order. */
export interface Output {
  /** Called after each step, with the samples so far. */
  update(samples: readonly Sample[]): void;
}

const SEPARATOR = "\n---------------\n";

/** The first sample as it grows; each further one once those before it are complete. */
export function textOutput(prompt: string, write: (text: string) => void, separator = SEPARATOR): Output {
  let current = 0;
  let written = -1; // characters written of the current sample; -1: not begun
  return {
    update(samples) {
      for (; current < samples.length; current++, written = -1) {
        const { text, finish } = samples[current]!;
        if (written < 0) write(prompt);
        if (text.length > written) write(text.slice(Math.max(0, written)));
        written = text.length;
        if (finish === undefined) return;
        write(separator);
      }
    },
  };
}

/**
 * One JSON object a line, when a sample is complete: {sample, prompt, text, tokens, logprobs, finish, seconds}; the last are
 * those since this call.
 */
export function jsonOutput(prompt: string, write: (text: string) => void): Output {
  const start = performance.now();
  let current = 0;
  return {
    update(samples) {
      for (; samples[current]?.finish !== undefined; current++) {
        const { sample, text, tokens, logprobs, finish } = samples[current]!;
        const seconds = Number(((performance.now() - start) / 1000).toFixed(4));
        write(`${JSON.stringify({ sample, prompt, text, tokens, logprobs, finish, seconds })}\n`);
      }
    },
  };
}
