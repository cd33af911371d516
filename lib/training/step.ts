// One step of training, whatever the model: micro-batches -> gradients -> norm, clipping, update -> EMA of the weights. Two
// programs make it: backward, which adds the gradients of one micro-batch after the other, and update (update.ts).
//
//   const step = await Step.create({ engine, loss, parameters, groups, inputs, optimizer, weight_decay: 0.1, grad_clip: 1 });
//   const { loss, gradNorm } = await step.run({ iteration, learningRate, batch: (micro) => inputs });

import { breathe } from "../common/breathe.ts";
import type { Body, Engine, Program, ProgramOptions } from "../engine/runtime/program.ts";
import { withRecompute } from "../nn/recompute.ts";
import { WeightAverage } from "./ema.ts";
import { LossScaler } from "./loss_scale.ts";
import type { Groups, Optimizer, Trained } from "./optimizers/optimizer.ts";
import { TrainingState } from "./training_state.ts";
import { Update, type UpdateOptions } from "./update.ts";

export interface StepOptions<Name extends string> extends Omit<UpdateOptions, "ema"> {
  engine: Engine;
  /** The mean loss of one micro-batch, a scalar. */
  loss: Body<Name>;
  parameters: readonly Trained[]; // in the order in which a checkpoint keeps them
  groups: Groups; // the same, by whether they decay
  inputs: ProgramOptions<Name>["inputs"]; // of a micro-batch
  optimizer: Optimizer;
  ema?: number; // decay of an average of the weights; none without it, or with 0
  half?: boolean; // products in float16, with a loss scale
  recompute?: boolean; // keep only the blocks' inputs and compute the rest twice
  microSteps?: number; // micro-batches in a step; 1 if not given
  seed?: number; // of dropout
  profile?: string | undefined; // as in ProgramOptions, of the backward program
}

/** The parts of a step, as they end. */
export type Phase = "data" | "compute" | "update";

export interface StepRun<Name extends string> {
  iteration: number; // dropout is a function of seed, iteration and micro-batch
  learningRate: number;
  /** The inputs of micro-batch number `micro`; they may stay in the same arrays. */
  batch(micro: number): Record<Name, Int32Array | Float32Array>;
  signal?: AbortSignal; // ends a step whose update hasn't begun
  /** Told when a part of the step has ended. */
  onPhase?: (phase: Phase) => void;
}

export interface StepResult {
  loss: number; // mean over the micro-batches, before the update
  gradNorm: number; // before clipping; not finite where a gradient isn't, and then nothing was changed
  gradScale: number; // each parameter's `grad` times this is its mean gradient
  /** loss and grad_norm for a log; in float16 also loss_scale and skipped_steps, and no grad_norm where the scale was at fault. */
  metrics: Record<string, number>;
  skipped?: string; // a line to report: float16 had no room for the gradient
}

export class Step<Name extends string> {
  readonly ema: WeightAverage | undefined;
  /** All that a checkpoint has to keep. */
  readonly state: TrainingState;
  /** Is an update being written? What a failure leaves then is neither the old weights nor the new ones. */
  updating = false;
  readonly #options: StepOptions<Name>;
  readonly #scaler: LossScaler | undefined;
  readonly #backward: Program<Name>;
  readonly #update: Update;

  private constructor(
    options: StepOptions<Name>,
    ema: WeightAverage | undefined,
    scaler: LossScaler | undefined,
    backward: Program<Name>,
    update: Update,
  ) {
    this.ema = ema;
    this.state = new TrainingState(options.parameters, update, ema, scaler);
    this.#options = options;
    this.#scaler = scaler;
    this.#backward = backward;
    this.#update = update;
  }

  /** Compile both programs. */
  static async create<Name extends string>(options: StepOptions<Name>): Promise<Step<Name>> {
    const { engine, loss, parameters, groups, inputs, optimizer, recompute = false, microSteps = 1 } = options;
    const scaler = options.half ? new LossScaler() : undefined;
    const backward = await engine.program<Name>((inputs, rng) => withRecompute(recompute, () => loss(inputs, rng)), {
      ...{ variables: parameters, inputs, gradients: true, accumulate: microSteps > 1 },
      ...{ half: options.half ?? false, profile: options.profile },
    });
    const ema = options.ema ? new WeightAverage(parameters, options.ema) : undefined;
    const update = await Update.create(engine, groups, optimizer, { ...options, ema });
    return new Step(options, ema, scaler, backward, update);
  }

  /**
   * Change the weights once.
   * @throws Cancelled where `signal` ended it: then the weights are those of before
   */
  async run({ iteration, learningRate, batch, signal, onPhase }: StepRun<Name>): Promise<StepResult> {
    const { parameters, microSteps = 1, seed = 0 } = this.#options;
    const lossScale = this.#scaler?.scale ?? 1;

    // 1) gradients, micro-batch by micro-batch: with several the program adds to what is there
    for (const { grad } of microSteps > 1 ? parameters : []) {
      await breathe(); // GPT-2's gradients are half a gigabyte
      grad!.fill(0);
    }
    let sum = 0;
    for (let micro = 0; micro < microSteps; micro++) {
      const inputs = batch(micro);
      onPhase?.("data");
      const [loss] = await this.#backward.run(inputs, { dropout: [seed, iteration, micro], lossScale, signal });
      onPhase?.("compute");
      sum += loss!;
    }

    // 2) with several processes: the all-reduce of every `grad` and of `sum` goes here, and the number of processes into gradScale

    // 3) the update, which can't be cancelled
    const gradScale = 1 / (microSteps * lossScale);
    this.updating = true;
    const gradNorm = await this.#update.run(learningRate, gradScale);
    this.updating = false;
    onPhase?.("update");

    const loss = sum / microSteps;
    const metrics: Record<string, number> = { loss, grad_norm: gradNorm };
    const skipped = this.#scaler?.update(metrics);
    return { loss, gradNorm, gradScale, metrics, ...(skipped && { skipped }) };
  }

  async dispose(): Promise<void> {
    await Promise.all([this.#backward.dispose(), this.#update.dispose()]);
  }
}
