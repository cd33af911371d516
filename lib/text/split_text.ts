// Splits a text that arrives in parts into the tokens of train.bin (the first 90 % of its characters) and val.bin (the rest). Each part is
// encoded separately. A character is a Unicode code point, as in Python. Left out: the source of the parts.

import { UserError } from "../common/errors.ts";
import type { DatasetWriter } from "./write_dataset.ts";

/** The numbers of characters in each file, for a text of this length.
 * @throws UserError if it is too short */
export function splitOf(characters: number, name: string): { train: number; val: number } {
  const train = Math.floor(characters * 0.9);
  const val = characters - train;
  if (train >= 2 && val >= 2) return { train, val };
  throw new UserError(`${name} has ${characters} characters; 11 are the least that can be split 90 to 10`);
}

export class TextSplitter {
  readonly #writer: DatasetWriter;
  readonly #encode: (text: string) => Uint16Array;
  #left: number; // characters left for train.bin

  /** @param train characters for train.bin */
  constructor(writer: DatasetWriter, encode: (text: string) => Uint16Array, train: number) {
    this.#writer = writer;
    this.#encode = encode;
    this.#left = train;
  }

  /** Add a part of the text with this many characters. */
  add(text: string, characters: number): void {
    const split = this.#left >= characters ? text.length : offsetOf(text, this.#left);
    if (split > 0) this.#writer.append("train", this.#encode(text.slice(0, split)));
    if (split < text.length) this.#writer.append("val", this.#encode(text.slice(split)));
    this.#left = Math.max(0, this.#left - characters);
  }

  /** A token without text, such as one between documents. */
  addToken(token: number): void {
    this.#writer.append(this.#left > 0 ? "train" : "val", Uint16Array.of(token));
  }
}

/** Code points in a text. */
export function countCharacters(text: string): number {
  let count = text.length;
  for (let i = 0; i < text.length - 1; i++) {
    const isPair = (text.charCodeAt(i) & 0xfc00) === 0xd800 && (text.charCodeAt(i + 1) & 0xfc00) === 0xdc00;
    if (!isPair) continue;
    count--;
    i++;
  }
  return count;
}

/** The UTF-16 offset of character number `index`. */
function offsetOf(text: string, index: number): number {
  let offset = 0;
  for (const character of text) {
    if (index-- === 0) break;
    offset += character.length;
  }
  return offset;
}
