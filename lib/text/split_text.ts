// A text that comes in parts, as the tokens of train.bin (the first 90 % of its characters) and of val.bin (the rest). Each part is
// encoded on its own. A character is a Unicode code point, as in Python. Leaves out where the parts come from.

import { UserError } from "../common/errors.ts";
import type { DatasetWriter } from "./write_dataset.ts";

/** How many characters a text of so many has in each file.
 * @throws UserError where that is too few */
export function splitOf(characters: number, name: string): { train: number; val: number } {
  const train = Math.floor(characters * 0.9);
  const val = characters - train;
  if (train >= 2 && val >= 2) return { train, val };
  throw new UserError(`${name} has ${characters} characters; 11 are the least that can be split 90 to 10`);
}

export class TextSplitter {
  readonly #writer: DatasetWriter;
  readonly #encode: (text: string) => Uint16Array;
  #left: number; // characters that train.bin still takes

  /** @param train characters for train.bin */
  constructor(writer: DatasetWriter, encode: (text: string) => Uint16Array, train: number) {
    this.#writer = writer;
    this.#encode = encode;
    this.#left = train;
  }

  /** More of the text, which has so many characters. */
  add(text: string, characters: number): void {
    const split = this.#left >= characters ? text.length : offsetOf(text, this.#left);
    if (split > 0) this.#writer.append("train", this.#encode(text.slice(0, split)));
    if (split < text.length) this.#writer.append("val", this.#encode(text.slice(split)));
    this.#left = Math.max(0, this.#left - characters);
  }

  /** A token that is no text, such as one between documents. */
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

/** Where the character number `index` starts, in UTF-16 units. */
function offsetOf(text: string, index: number): number {
  let offset = 0;
  for (const character of text) {
    if (index-- === 0) break;
    offset += character.length;
  }
  return offset;
}
