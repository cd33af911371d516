// A transformer's block other than GPT-2's: other layers, norms elsewhere, sublayers side by side, a source to look at.

import type { tf } from "../common/tf.ts";
import type { BlockRole, ModelConfig } from "./choices.ts";
import { CrossAttention } from "./cross_attention.ts";
import { newFeedForward } from "./feed_forward.ts";
import type { ForwardArgs } from "./forward_args.ts";
import type { Scope } from "./module.ts";
import type { Position } from "./position.ts";
import { parallel, Residual, type Sublayer } from "./residual.ts";
import { tap } from "./tap.ts";
import type { Attention, FeedForward, Textbook } from "./textbook.ts";
import { isTextbookAttention, VariantAttention } from "./variant_attention.ts";

export class VariantBlock {
  readonly ln1: Residual;
  readonly attn: Attention;
  readonly lnCross: Residual | undefined;
  readonly cross: CrossAttention | undefined; // a decoder's, where it has a source
  readonly ln2: Residual | undefined; // none where both sublayers share one
  readonly mlp: FeedForward;
  readonly #isParallel: boolean;

  /** @param depth from above 0 for the first to 1 for the last */
  constructor(
    scope: Scope,
    config: ModelConfig,
    position: Position,
    depth: number,
    role: BlockRole,
    textbook: Textbook,
  ) {
    const residual = (name: string) => new Residual(scope, name, config, config.stochastic_depth * depth, textbook);
    const deviation = 0.02 / Math.sqrt(2 * config.n_layer); // as GPT-2's
    const causal = role !== "encoder";
    this.#isParallel = config.parallel_block;
    this.ln1 = residual("ln_1");
    this.attn = isTextbookAttention(config, position, causal)
      ? new textbook.CausalSelfAttention(scope.at("attn"), config)
      : new VariantAttention(scope.at("attn"), config, position, causal, deviation, textbook);
    if (role === "crossing") {
      this.lnCross = residual("ln_cross");
      this.cross = new CrossAttention(scope.at("cross_attn"), config, deviation);
    }
    this.ln2 = config.parallel_block && config.parallel_norms === 1 ? undefined : residual("ln_2");
    this.mlp = isTextbookMLP(config)
      ? new textbook.MLP(scope.at("mlp"), config)
      : newFeedForward(scope.at("mlp"), config, deviation);
  }

  /** [B, T, C] -> [B, T, C] */
  forward(x: tf.Tensor, args: ForwardArgs = {}): tf.Tensor {
    const { ln1, lnCross, cross, ln2 } = this;
    const attn: Sublayer = (x) => this.attn.forward(x, args);
    const mlp: Sublayer = (x) => this.mlp.forward(x, args);
    if (this.#isParallel) return tap("block", parallel(x, [ln1, attn], [ln2, mlp], args.rng));
    x = ln1.forward(x, attn, args.rng);
    if (cross) x = lnCross!.forward(x, (x) => cross.forward(x, args), args.rng);
    return tap("block", ln2!.forward(x, mlp, args.rng));
  }
}

/** Would GPT-2's feed-forward layer do? */
export const isTextbookMLP = ({ ffn, n_hidden }: { ffn: string; n_hidden: number }) =>
  (ffn === "gelu" || ffn === "gelu_tanh") && n_hidden === 0;
