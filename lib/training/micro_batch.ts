// The micro-batch size. All of a step but its matrix products is bound by memory bandwidth, so a batch goes through the graph in
// parts that stay near the caches; their gradients add up to the batch's. Memory for activations shrinks with it.

/** Tokens at once: fewer starve the matrix products, more leave the cache (docs/validation/speed.md has the measurements). */
const TOKENS = 1024;

/**
 * Sequences of T tokens to compute at once, of a batch of B: as asked for, or the largest part of B that stays within
 * TOKENS. It depends on the shapes alone, so that the same settings give the same bits on every machine.
 */
export function microBatchSize(B: number, T: number, asked: number): number {
  if (asked > 0) return asked;
  for (let rows = Math.min(B, Math.max(1, Math.floor(TOKENS / T))); ; rows--) if (B % rows === 0) return rows;
}
