// Perplexity of a text: every token but the first is predicted once, in overlapping windows.

import type { GPT } from "../../model.ts";
import { UserError } from "../common/errors.ts";
import { tf } from "../common/tf.ts";
import type { Engine } from "../engine/runtime/program.ts";
import { bind } from "../engine/runtime/session.ts";
import { checkTokens } from "./check_tokens.ts";
import type { DecoderWeights } from "./decoder.ts";

/** Tokens [T + 1] -> -ln of the probability of each but the first, given those before it in the window: [T]. */
export type WindowLosses = (ids: Int32Array) => Promise<Float32Array>;

export interface EvaluateOptions {
  block_size: number;
  stride: number; // from 1 (each token sees as much as possible) to block_size (windows don't overlap)
  progress?: ((predicted: number) => void) | undefined;
}

/** The windows of a text of `count` tokens: each predicts the tokens from `from` to `end`, given those from `start` on. */
export function* windows(count: number, block_size: number, stride: number) {
  let start = 0;
  for (let from = 1; from < count; start += stride) {
    const end = Math.min(start + block_size + 1, count);
    yield { start, from, end };
    from = end;
  }
}

/**
 * The sum of -ln probability, in nats, over all tokens but the first. Each is predicted from all tokens before it,
 * but at most block_size, and more than block_size - stride of them once there are.
 */
export async function totalLoss(
  ids: readonly number[],
  losses: WindowLosses,
  { block_size, stride, progress }: EvaluateOptions,
): Promise<number> {
  let total = 0;
  for (const { start, from, end } of windows(ids.length, block_size, stride)) {
    const window = await losses(Int32Array.from(ids.slice(start, end)));
    for (const loss of window.subarray(from - start - 1)) total += loss;
    progress?.(end - 1);
  }
  return total;
}

/**
 * The model's own losses, for windows of up to block_size + 1 tokens: one program; shorter windows are padded at the end, which
 * a causal model doesn't see. A token that the model doesn't know is a UserError.
 * @param frozen how the weights are stored, as in the cached decoder; without it they are inputs, or the model isn't compiled
 */
export async function modelLosses(engine: Engine, model: GPT, frozen?: DecoderWeights): Promise<WindowLosses> {
  const { block_size: T, vocab_size: V } = model.config;
  const inputs = {
    ids: { data: new Int32Array(T), shape: [1, T], dtype: "int32" },
    targets: { data: new Int32Array(T), shape: [T], dtype: "int32" }, // their indices into the logits [T * V]
  } as const;
  const body = ({ ids, targets }: Record<"ids" | "targets", tf.Tensor>) => {
    const logits = tf.reshape(model.logits(ids), [T, V]);
    const shifted = tf.sub(logits, tf.max(logits, 1, true));
    const right = tf.gather(tf.reshape(shifted, [T * V]), targets as tf.Tensor1D);
    return tf.sub(tf.log(tf.sum(tf.exp(shifted), 1)), right); // -log softmax, safe for large logits
  };

  let run: () => Promise<Float32Array>;
  if (frozen) {
    const program = await engine.frozen(
      (_, input) => ({ losses: body({ ids: input("ids", [1, T], "int32"), targets: input("targets", [T], "int32") }) }),
      { weights: model.parameters, sizes: [], ...frozen },
    );
    const losses = new Float32Array(T);
    const [bound, outputs] = [bind(inputs), bind({ losses: { data: losses, shape: [T], dtype: "float32" } })];
    run = async () => {
      await program.run(bound, outputs);
      return losses;
    };
  } else {
    const program = await engine.program(body, { variables: model.parameters, inputs });
    run = () => program.run({ ids: inputs.ids.data, targets: inputs.targets.data });
  }
  return async (window) => {
    checkTokens(window, V);
    const length = window.length - 1;
    inputs.ids.data.fill(0).set(window.subarray(0, length));
    for (let i = 0; i < length; i++) inputs.targets.data[i] = i * V + window[i + 1]!;
    return (await run()).subarray(0, length);
  };
}

export interface Evaluation {
  tokens: number;
  bytes: number | null; // of the text in UTF-8; null if the tokens have no text
  loss: number; // nats a token; the first one is given, not predicted, and doesn't count
  perplexity: number; // e to the loss
  bits_per_byte: number | null; // over all bytes; the first token's count as 0 bits
  block_size: number;
  stride: number;
}

/**
 * @param text undefined if the tokens have none
 * @param ids its tokens
 * @param stride 0 for half of block_size
 * @throws UserError if the text is too short or the stride too long
 */
export async function evaluate(
  text: string | undefined,
  ids: readonly number[],
  losses: WindowLosses,
  { block_size, stride, progress }: EvaluateOptions,
): Promise<Evaluation> {
  const step = stride || Math.ceil(block_size / 2);
  if (step > block_size)
    throw new UserError(`--stride=${step} is beyond the context of ${block_size} tokens; lower it`);
  if (ids.length < 2) throw new UserError("the text of --evaluate is too short; it takes two tokens or more");
  const nats = await totalLoss(ids, losses, { block_size, stride: step, progress });
  const bytes = text === undefined ? null : Buffer.byteLength(text);
  const loss = nats / (ids.length - 1);
  const perplexity = Math.exp(loss);
  return {
    tokens: ids.length,
    bytes,
    loss,
    perplexity,
    bits_per_byte: bytes === null ? null : nats / Math.LN2 / bytes,
    block_size,
    stride: step,
  };
}

/** Formatted for people. */
export function describe({ tokens, bytes, loss, perplexity, bits_per_byte }: Evaluation): string {
  const count = (n: number) => n.toLocaleString("en-US");
  return [
    `tokens:        ${count(tokens)}, all but the first predicted`,
    ...(bytes === null ? [] : [`bytes:         ${count(bytes)}`]),
    `loss:          ${loss.toFixed(4)} nats/token`,
    `perplexity:    ${perplexity.toFixed(4)}`,
    ...(bits_per_byte === null ? [] : [`bits per byte: ${bits_per_byte.toFixed(4)}`]),
    "",
  ].join("\n");
}
