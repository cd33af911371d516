// The state of a training run, to save and to restore: weights, optimizer, EMA of the weights and loss scale (float16). Left out: the
// iteration, which train.ts counts.

import { breathe } from "../common/breathe.ts";
import type { Variable } from "../engine/runtime/program.ts";
import type { Metadata } from "./checkpoint.ts";
import type { WeightAverage } from "./ema.ts";
import type { LossScaler } from "./loss_scale.ts";
import type { StateTensor } from "./optimizers/optimizer.ts";

/** The optimizer's state, and how many updates it has made. */
interface OptimizerState {
  steps: number;
  tensors(): readonly StateTensor[];
}

/** Reads a tensor by name, as an opened checkpoint does. */
interface Reader {
  read(name: string, shape: readonly number[], into: Float32Array): void;
}

export class TrainingState {
  readonly #weights: readonly Variable[];
  readonly #optimizer: OptimizerState;
  readonly #ema: WeightAverage | undefined;
  readonly #scaler: LossScaler | undefined;

  constructor(
    weights: readonly Variable[],
    optimizer: OptimizerState,
    ema: WeightAverage | undefined,
    scaler: LossScaler | undefined,
  ) {
    this.#weights = weights;
    this.#optimizer = optimizer;
    this.#ema = ema;
    this.#scaler = scaler;
  }

  /** The tensors of a checkpoint. */
  tensors(): StateTensor[] {
    return [...this.#weights, ...this.#optimizer.tensors(), ...(this.#ema?.tensors() ?? [])];
  }

  /** Its part of ckpt.json. */
  metadata(): Pick<Metadata, "optimizer_steps" | "ema_steps" | "loss_scale"> {
    return {
      optimizer_steps: this.#optimizer.steps,
      ...(this.#ema && { ema_steps: this.#ema.steps }),
      ...(this.#scaler && { loss_scale: this.#scaler.state() }),
    };
  }

  /** Read the weights of a checkpoint. */
  async readWeights(from: Reader): Promise<void> {
    await readAll(from, this.#weights);
  }

  /** Read all but the weights. */
  async readRest(from: Reader, metadata: Metadata): Promise<void> {
    this.#scaler?.restore(metadata.loss_scale);
    await readAll(from, this.#optimizer.tensors());
    this.#optimizer.steps = metadata.optimizer_steps;
    await this.readAverage(from, metadata);
  }

  /** Read the EMA of the weights; if a checkpoint has none, it starts at the present weights. */
  async readAverage(from: Reader, metadata: Metadata): Promise<void> {
    if (!this.#ema) return;
    if (metadata.ema_steps === undefined) this.#ema.restart();
    else {
      await readAll(from, this.#ema.tensors());
      this.#ema.steps = metadata.ema_steps;
    }
  }

  /** State that a resumed run has and its checkpoint lacks, or the other way round: a line each. */
  differences({ ema_steps, loss_scale }: Metadata): string[] {
    const [ema, scaler, averaged, scaled] = [
      this.#ema,
      this.#scaler,
      ema_steps !== undefined,
      loss_scale !== undefined,
    ];
    return [
      ...(ema && !averaged ? ["the checkpoint has no average of the weights: it starts at these (ema)"] : []),
      ...(!ema && averaged ? ["the checkpoint's EMA of the weights ends here; --ema would continue it"] : []),
      ...(scaler && !scaled ? [`float16 from here on, the loss scale starts at ${scaler.scale} (dtype)`] : []),
      ...(!scaler && scaled ? ["float32 from here on; the checkpoint is of a run in float16 (dtype)"] : []),
    ];
  }
}

async function readAll(from: Reader, tensors: Iterable<StateTensor>): Promise<void> {
  for (const { name, shape, data } of tensors) {
    await breathe();
    from.read(name, shape, data);
  }
}
