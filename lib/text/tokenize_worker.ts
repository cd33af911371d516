// A worker thread that tokenizes pieces of files with GPT-2's byte pairs; tokenize_pool.ts starts it and describes the messages.

import { parentPort } from "node:worker_threads";

import { UserError } from "../common/errors.ts";
import { shownPath } from "./dataset.ts";
import { noTally, type Piece, readPiece } from "./documents.ts";
import { END_OF_TEXT_TOKEN } from "./end_of_text.ts";
import { GPT2_META } from "./meta.ts";
import type { Answer, Question } from "./tokenize_pool.ts";
import { createTokenizer } from "./tokenizer.ts";

const { encode } = await createTokenizer(GPT2_META);

parentPort?.on("message", async (question: Question) => {
  try {
    const tokenized = await tokenize(question);
    answer(tokenized, [tokenized.tokens.buffer, tokenized.ends.buffer]);
  } catch (error) {
    if (!(error instanceof UserError)) throw error; // a bug of ours: ends this thread, and the pool throws it
    answer({ problem: error.message });
  }
});

function answer(message: Answer, transfer: ArrayBuffer[] = []): void {
  parentPort?.postMessage(message, transfer);
}

/** @throws UserError with the file's name */
function encodeOf({ path }: Piece, text: string): number[] {
  try {
    return encode(text);
  } catch (error) {
    throw error instanceof UserError ? new UserError(`${shownPath(path)}: ${error.message}`) : error;
  }
}

async function tokenize({ piece, reading }: Question) {
  const tally = noTally();
  let tokens = new Uint16Array(1 << 19); // grown where need be
  let length = 0;
  const ends: number[] = [];
  for await (const part of readPiece(piece, reading, tally)) {
    const document = encodeOf(piece, part.text);
    if (length + document.length + 1 > tokens.length) {
      const larger = new Uint16Array(2 * (length + document.length + 1));
      larger.set(tokens.subarray(0, length));
      tokens = larger;
    }
    tokens.set(document, length);
    length += document.length;
    if (!part.ends) continue;
    tokens[length++] = END_OF_TEXT_TOKEN;
    ends.push(length);
  }
  return { tokens: tokens.slice(0, length), ends: Uint32Array.from(ends), tally };
}
