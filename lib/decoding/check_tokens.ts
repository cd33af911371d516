// A model's input is checked where it comes in: a token that it doesn't know would fail deep in the engine, or index another
// row of the logits.

import { UserError } from "../common/errors.ts";

/** @throws UserError that names the first of the tokens that a model of `vocab_size` tokens doesn't know, and its index */
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
