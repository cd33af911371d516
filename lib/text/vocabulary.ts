// Two vocabularies beside each other, a model's and a dataset's: do their tokens mean the same, what differs, and which
// rows of the model's tables are kept where it is to learn the dataset's.

import { UserError } from "../common/errors.ts";
import { listCharacters, type Meta } from "./meta.ts";
import { createTokenizer } from "./tokenizer.ts";

/** What a vocabulary consists of, such as "65 characters". */
export function describeTokens({ kind, vocab_size }: Meta): string {
  if (kind === "gpt2") return `GPT-2's ${vocab_size.toLocaleString("en-US")} tokens`;
  return `${vocab_size} ${kind === "char" ? "characters" : "tokens without a text"}`;
}

/**
 * What differs between a model's tokens and a dataset's, in words; undefined where each means the same to both. A model whose
 * tokens have no text takes a dataset that says what as many tokens mean.
 */
export function difference(model: Meta, dataset: Meta): string | undefined {
  if (model.kind === "char" && dataset.kind === "char") return characterDifference(model.itos, dataset.itos);
  if (model.kind === dataset.kind || model.kind === "ids") {
    if (model.vocab_size === dataset.vocab_size) return undefined;
  }
  return `the model knows ${describeTokens(model)}, the dataset has ${describeTokens(dataset)}`;
}

function characterDifference(model: readonly string[], dataset: readonly string[]): string | undefined {
  const [known, used] = [new Set(model), new Set(dataset)];
  const unknown = dataset.filter((character) => !known.has(character));
  const unused = model.filter((character) => !used.has(character));
  const parts = [
    ...(unknown.length > 0
      ? [
          `${unknown.length} of the dataset's ${dataset.length} characters are unknown to the model (${listCharacters(unknown)})`,
        ]
      : []),
    ...(unused.length > 0
      ? [`${unused.length} of the model's ${model.length} aren't in the dataset (${listCharacters(unused)})`]
      : []),
  ];
  if (parts.length > 0) return parts.join(", and ");
  const moved = dataset.filter((character, id) => model[id] !== character);
  const [first] = moved;
  if (first === undefined) return undefined;
  const numbers = `${listCharacters([first])} is ${dataset.indexOf(first)} in the dataset and ${model.indexOf(first)} in the model`;
  return `the characters are the same, but ${moved.length} of the ${dataset.length} have other numbers: ${numbers}`;
}

/**
 * Which of a model's tokens means the same as each of a dataset's.
 * @returns [dataset.vocab_size] the model's token, -1 where it has none
 * @throws UserError where only one of them says what its tokens mean
 */
export async function knownTokens(model: Meta, dataset: Meta): Promise<Int32Array> {
  const known = new Int32Array(dataset.vocab_size).fill(-1);
  if (model.kind === "char" && dataset.kind === "char") {
    const ids = new Map(model.itos.map((character, id) => [character, id]));
    for (const [id, character] of dataset.itos.entries()) known[id] = ids.get(character) ?? -1;
  } else if (model.kind === dataset.kind) {
    for (let id = 0; id < Math.min(model.vocab_size, dataset.vocab_size); id++) known[id] = id; // more of them, or fewer
  } else if (model.kind === "char" && dataset.kind === "gpt2") {
    for (const [id, token] of await wholeTokens(dataset, model.itos)) known[token] = id;
  } else if (model.kind === "gpt2" && dataset.kind === "char") {
    for (const [id, token] of await wholeTokens(model, dataset.itos)) known[id] = token;
  } else {
    throw new UserError(`${difference(model, dataset)}: which of them are the same isn't known`);
  }
  return known;
}

/** Those of the characters that are a single one of GPT-2's tokens: their number, and the token. */
async function wholeTokens(gpt2: Meta, characters: readonly string[]): Promise<[number, number][]> {
  const { encode } = await createTokenizer(gpt2);
  const pairs: [number, number][] = [];
  for (const [id, character] of characters.entries()) {
    const [token, ...more] = encode(character);
    if (token !== undefined && more.length === 0) pairs.push([id, token]);
  }
  return pairs;
}
