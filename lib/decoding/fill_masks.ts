// Fills an encoder's masked tokens: one at a time, the most confident first, so that later predictions see earlier ones (Ghazvininejad et
// al. 2019 fill several at a time, "mask-predict").

import type { GPT } from "../../model.ts";
import { tf } from "../common/tf.ts";
import type { Engine } from "../engine/runtime/program.ts";
import { bind } from "../engine/runtime/session.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import type { DecoderWeights } from "./decoder.ts";
import type { Sample, TextOptions } from "./generate.ts";
import { TokenSampler } from "./token_sampler.ts";

/** A masked token in text. */
export const MASK = "[MASK]";

/** Token ids of a text, -1 for each [MASK] in it. */
export function encodeMasked(text: string, tokenizer: Tokenizer): number[] {
  return text.split(MASK).flatMap((part, i) => [...(i > 0 ? [-1] : []), ...(part ? tokenizer.encode(part) : [])]);
}

export interface Guesser {
  /** Token ids [T] -> logits [T * V] of the token at each position. */
  run(ids: readonly number[]): Promise<Float32Array>;
  dispose(): Promise<void>;
}

/** @param frozen how the weights are stored, as in the cached decoder; without it the model runs eagerly */
export async function createGuesser(engine: Engine, model: GPT, frozen?: DecoderWeights): Promise<Guesser> {
  const { vocab_size: V } = model.config;
  if (!frozen) {
    return {
      async run(ids) {
        const logits = tf.tidy(() => model.logits(tf.tensor2d([[...ids]], undefined, "int32")));
        const values = (await logits.data()) as Float32Array;
        logits.dispose();
        return values;
      },
      async dispose() {},
    };
  }
  const program = await engine.frozen(
    ({ length: T }, input) => {
      const ids = input("ids", [1, T!], "int32");
      return { logits: model.head(model.forward(ids, { positions: input("positions", [T!], "int32") })) };
    },
    { ...frozen, weights: model.parameters, sizes: ["length"] },
  );
  return {
    async run(ids) {
      const T = ids.length;
      const logits = new Float32Array(T * V);
      const inputs = bind({
        ids: { data: Int32Array.from(ids), shape: [1, T], dtype: "int32" },
        positions: { data: Int32Array.from(ids.keys()), shape: [T], dtype: "int32" },
      });
      await program.run(inputs, bind({ logits: { data: logits, shape: [1, T, V], dtype: "float32" } }));
      return logits;
    },
    dispose: () => program.dispose(),
  };
}

/**
 * Fill the masked tokens of texts, one text after the other.
 * @param ids of the text, -1 for a masked token
 * @returns after each text the same, growing list; `tokens` are all of a text's, `logprobs` those of the filled ones, in order
 */
export async function* fillTexts(
  guess: Guesser["run"],
  tokenizer: Tokenizer,
  ids: readonly number[],
  samples: readonly number[],
  options: TextOptions & { vocab_size: number },
): AsyncGenerator<readonly Sample[]> {
  const { vocab_size: V, interrupted = () => false, random } = options;
  const known = tokenizer.vocabSize;
  const sampler = new TokenSampler(known, options);
  const likeliest = new TokenSampler(known, { temperature: 0 });
  const all: Sample[] = [];
  for (const sample of samples) {
    const tokens = [...ids];
    const logprobs = new Map<number, number>(); // by position
    for (let step = 0; tokens.includes(-1); step++) {
      if (interrupted()) return;
      const logits = await guess(tokens.map((token) => (token < 0 ? V - 1 : token)));
      const at = (place: number) => logits.subarray(place * V, place * V + known);
      const certainties = tokens.map((token, place) =>
        token < 0 ? likeliest.sample(at(place), [], 0).logprob : Number.NEGATIVE_INFINITY,
      );
      const place = certainties.indexOf(Math.max(...certainties));
      const given = tokens.filter((token) => token >= 0);
      const { token, logprob } = sampler.sample(at(place), given, random(sample, step));
      tokens[place] = token;
      logprobs.set(place, logprob);
    }
    const inOrder = [...logprobs].sort(([a], [b]) => a - b).map(([, logprob]) => logprob);
    all.push({ sample, text: tokenizer.decode(tokens), tokens, logprobs: inOrder, finish: "stop" });
    yield all;
  }
}
