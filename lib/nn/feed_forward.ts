// The choices of `ffn`: an MLP, a gated MLP, or a mixture of gated experts.

import { tf } from "../common/tf.ts";

import { activations } from "./activation.ts";
import type { ActivationName, FeedForwardName, GatedName, ModelConfig } from "./choices.ts";
import { dropout } from "./dropout.ts";
import type { ForwardArgs } from "./forward_args.ts";
import { asRows } from "./fused.ts";
import { Linear, residualDeviation, type Scope } from "./module.ts";
import type { Parameter } from "./parameter.ts";
import { capacityOf, experts, expertsWithin, route } from "./routing.ts";
import { tap } from "./tap.ts";
import type { Sublayer, TextbookLayers } from "./textbook.ts";

export type FeedForwardConfig = Pick<ModelConfig, "n_layer" | "n_embd" | "n_hidden" | "bias" | "dropout">;

/**
 * activation(x W) W2, of any width; GPT-2's is model.ts'. A gated one is (activation(x V) * x W) W2 (Shazeer 2020, equation 6): its
 * three matrices have as many weights as the other two with 8 C / 3 hidden units, rounded up to a multiple of 32.
 */
export class MLP implements Sublayer {
  readonly cGate: Linear | undefined; // V
  readonly cFc: Linear; // W
  readonly cProj: Linear; // W2
  readonly #activation: (x: tf.Tensor) => tf.Tensor;
  readonly #dropout: number;

  constructor(scope: Scope, ffn: ActivationName | GatedName, config: FeedForwardConfig) {
    const { n_embd: C, n_hidden, bias, dropout } = config;
    const gated = isGated(ffn);
    const F = n_hidden || (gated ? gatedHidden(C) : 4 * C);
    this.#activation = activations[gated ? GATES[ffn] : ffn];
    if (gated) this.cGate = new Linear(scope.at("c_gate"), C, F, bias);
    this.cFc = new Linear(scope.at("c_fc"), C, F, bias);
    this.cProj = new Linear(scope.at("c_proj"), F, C, bias, { deviation: residualDeviation(config) });
    this.#dropout = dropout;
  }

  forward(x: tf.Tensor, { rng }: ForwardArgs = {}): tf.Tensor {
    const hidden = this.cGate
      ? tf.mul(this.#activation(this.cGate.forward(x)), this.cFc.forward(x))
      : this.#activation(this.cFc.forward(x));
    return dropout(this.cProj.forward(tap("mlp", hidden)), this.#dropout, rng);
  }
}

/** Hidden units of a gated MLP by default. */
const gatedHidden = (C: number) => 32 * Math.ceil((8 * C) / 3 / 32);

/**
 * A mixture of experts: the weighted sum of those that the router chooses for each token (routing.ts), plus a shared expert if there is
 * one (DeepSeekMoE, Dai et al. 2024). Each is a gated MLP, "swiglu", without biases.
 */
export class Mixture implements Sublayer {
  readonly router: Linear;
  readonly gate: Parameter; // [E, C, F]
  readonly fc: Parameter; // [E, C, F]
  readonly proj: Parameter; // [E, F, C]
  readonly shared: MLP | undefined;
  readonly inactive: number;
  readonly #active: number;
  readonly #capacity: number;
  readonly #dropout: number;
  readonly #balanced: boolean; // does its router have losses?

  constructor(scope: Scope, config: ModelConfig) {
    const { n_embd: C, n_expert: E, n_expert_active, n_shared_hidden } = config;
    const F = config.n_hidden || gatedHidden(C);
    const all = scope.at("experts");
    this.#active = n_expert_active;
    this.#capacity = config.expert_capacity_factor;
    this.#dropout = config.dropout;
    this.#balanced = config.router_aux_coef + config.router_z_coef > 0;
    this.inactive = (E - n_expert_active) * 3 * C * F;
    this.router = new Linear(scope.at("router"), C, E, false, { role: "router" });
    this.gate = all.parameter("c_gate", [E, C, F], { normal: 0.02 }, "hidden");
    this.fc = all.parameter("c_fc", [E, C, F], { normal: 0.02 }, "hidden");
    this.proj = all.parameter("c_proj", [E, F, C], { normal: residualDeviation(config) }, "hidden");
    if (n_shared_hidden === 0) return;
    const shared = { ...config, n_hidden: n_shared_hidden, bias: false, dropout: 0 };
    this.shared = new MLP(scope.at("shared"), "swiglu", shared);
  }

  forward(x: tf.Tensor, { routers, rng, training = false }: ForwardArgs = {}): tf.Tensor {
    const logits = this.router.forward(x);
    if (training && this.#balanced) routers?.push(logits);
    const weights = { gate: this.gate.value, fc: this.fc.value, proj: this.proj.value };
    const rows = asRows(x);
    const routes = route(asRows(logits), this.#active);
    tap("chosen", routes.chosen);
    const mixed =
      training && this.#capacity > 0
        ? expertsWithin(rows, routes, weights, capacityOf(this.#capacity, routes.chosen))
        : experts(rows, routes, weights);
    const all = tf.reshape(mixed, x.shape);
    return dropout(this.shared ? tf.add(all, this.shared.forward(x)) : all, this.#dropout, rng);
  }
}

/** The gates' activations. */
const GATES: Record<GatedName, ActivationName> = { swiglu: "silu", geglu: "gelu", geglu_tanh: "gelu_tanh" };
const isGated = (ffn: FeedForwardName): ffn is GatedName => Object.hasOwn(GATES, ffn);

/** The layer that `ffn` names: model.ts' own for GPT-2's. */
export function newFeedForward(scope: Scope, config: ModelConfig, textbook: TextbookLayers): Sublayer {
  const { ffn, n_hidden } = config;
  if (ffn === "moe") return new Mixture(scope, config);
  const isTextbook = (ffn === "gelu" || ffn === "gelu_tanh") && n_hidden === 0;
  return isTextbook ? new textbook.MLP(scope, config) : new MLP(scope, ffn, config);
}
