// Makes a dataset from texts of any length, in characters or GPT-2's tokens: the texts are read twice, once to count and once to encode, in
// constant memory. Left out: threads and a random choice of documents for validation; data/openwebtext has both.

import { UserError } from "../common/errors.ts";
import { CharacterCount, characterEncoder, characterMeta } from "./characters.ts";
import { END_OF_TEXT_TOKEN } from "./end_of_text.ts";
import { GPT2_META, type TextSource } from "./meta.ts";
import { countCharacters, splitOf, TextSplitter } from "./split_text.ts";
import type { SourcedText } from "./text.ts";
import { createTokenizer } from "./tokenizer.ts";
import { DatasetWriter, type PreparedMeta } from "./write_dataset.ts";

/** The documents of a dataset, in parts. */
export interface Texts {
  source: Omit<TextSource, "characters">;
  /** All of them from the start, at each call. `begins`: does a document other than the first begin? */
  read(): AsyncIterable<{ text: string; begins: boolean }> | Iterable<{ text: string; begins: boolean }>;
}

/** A text as the only document. */
export function onlyText({ text, source }: SourcedText): Texts {
  return { source, read: () => [{ text, begins: false }] };
}

/** What separates documents in characters: an empty line. In GPT-2's tokens it is <|endoftext|>. */
export const BETWEEN = "\n\n";

/** Write train.bin (the first 90 % of the characters), val.bin (the rest) and meta.json into `directory`; returns meta.json's
 * content. @throws UserError if the texts are too short or have too many different characters; then nothing is written */
export async function prepareTexts(
  { source, read }: Texts,
  kind: "char" | "gpt2",
  directory: string,
): Promise<PreparedMeta> {
  // 1) the number of characters, and the distinct ones
  const count = new CharacterCount();
  for await (const { text, begins } of read()) {
    if (begins && kind === "char") count.add(BETWEEN);
    count.add(text);
  }
  const itos = kind === "char" ? count.vocabulary(source.name) : [];
  const split = splitOf(count.total, source.name);
  const tokenizer = kind === "gpt2" ? await createTokenizer(GPT2_META) : undefined;
  const encode = tokenizer ? (text: string) => Uint16Array.from(tokenizer.encode(text)) : characterEncoder(itos);

  // 2) the tokens
  const writer = new DatasetWriter(directory);
  try {
    const splitter = new TextSplitter(writer, encode, split.train);
    let characters = 0;
    const add = (text: string) => {
      const more = countCharacters(text);
      characters += more;
      splitter.add(text, more);
    };
    for await (const { text, begins } of read()) {
      if (begins && kind === "char") add(BETWEEN);
      else if (begins) splitter.addToken(END_OF_TEXT_TOKEN);
      add(text);
    }
    if (characters !== count.total) throw new UserError(`${source.name} changed while it was read; start again`);
    const from = { ...source, characters };
    const { train, val } = writer.tokens;
    if (train < 2 || val < 2) {
      throw new UserError(
        `${source.name} has ${characters} characters, too few to be split 90 to 10; use a longer text`,
      );
    }
    const counts = { train_tokens: train, val_tokens: val };
    const meta = kind === "char" ? characterMeta(itos, from, writer.tokens) : { ...GPT2_META, source: from, ...counts };
    writer.finish(meta);
    return meta;
  } finally {
    writer.close();
  }
}
