// Loss scaling (Micikevicius et al. 2018, section 3.2): a loss multiplied by a large number has gradients as much
// larger, so that fewer of them underflow in float16. The number is adapted during training, with the constants of
// torch.amp.GradScaler.

const START = 65_536;
const GROWTH = 2;
const GROWTH_INTERVAL = 2000; // good steps in a row
const BACKOFF = 0.5;
const LEAST = 1; // below it the gradients overflow float16 without any scale

/** Its state in a checkpoint. */
export interface LossScale {
  scale: number;
  good_steps: number;
  skipped_steps: number;
}

export class LossScaler {
  /** Factor of the next step's loss: a power of 2, so that it rounds nothing. */
  scale = START;
  /** Steps in a row since the scale changed. */
  goodSteps = 0;
  /** Steps of the run that were skipped. */
  skipped = 0;

  /**
   * Adapt to a step's `loss` and `grad_norm`. If a gradient isn't finite the norm isn't either, and the optimizer has skipped the
   * step, which is harmless as long as the scale caused it. Adds loss_scale (the next step's) and skipped_steps to the metrics, and
   * removes the norm from those of a skipped step. Another scale can't fix a loss that is NaN or a scale below 1: then the norm
   * stays, and the run is ended because of it.
   * @returns a line to report, if any
   */
  update(metrics: Record<string, number>): string | undefined {
    const line = Number.isFinite(metrics.loss) ? this.#judge(metrics) : undefined;
    metrics.loss_scale = this.scale;
    metrics.skipped_steps = this.skipped;
    return line;
  }

  #judge(metrics: Record<string, number>): string | undefined {
    if (Number.isFinite(metrics.grad_norm)) {
      if (++this.goodSteps === GROWTH_INTERVAL) {
        if (Number.isFinite(Math.fround(this.scale * GROWTH))) this.scale *= GROWTH; // it is a float32 in the graph
        this.goodSteps = 0;
      }
      return undefined;
    }
    const before = this.scale;
    this.scale *= BACKOFF;
    this.goodSteps = 0;
    this.skipped++;
    if (this.scale < LEAST) return `the gradient is too large for float16 even with a loss scale of ${before}`;
    delete metrics.grad_norm;
    return `the gradient is too large for float16; the step is skipped, and the loss scale is ${this.scale} now`;
  }

  state(): LossScale {
    return { scale: this.scale, good_steps: this.goodSteps, skipped_steps: this.skipped };
  }

  /** Restore from a checkpoint; the initial scale if it has none. */
  restore({ scale, good_steps, skipped_steps }: LossScale = new LossScaler().state()): void {
    this.scale = scale;
    this.goodSteps = good_steps;
    this.skipped = skipped_steps;
  }
}
