// Checks a model's input: an unknown token would fail deep in the engine, or index another row of the logits.

import { UserError } from "../common/errors.ts";

/** @throws UserError with the first token, and its index, that a model of `vocab_size` tokens doesn't know */
export function checkTokens(ids: ArrayLike<number>, vocab_size: number): void {
  for (let i = 0; i < ids.length; i++) {
    const id = ids[i]!;
    if (Number.isInteger(id) && id >= 0 && id < vocab_size) continue;
    throw new UserError(
      `the token at index ${i} is ${id}, and the model knows ${vocab_size}, 0 to ${vocab_size - 1}; ` +
        "encode the text with the model's own tokenizer",
    );
  }
}
