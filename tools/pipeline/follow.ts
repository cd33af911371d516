// Shows the progress of train.ts in another process, from its metrics.jsonl.

import type { Progress } from "../../lib/common/progress.ts";
import { evaluationLine } from "../../lib/monitor/console.ts";
import { type MetricsEvent, MetricsReader } from "../../lib/monitor/metrics_file.ts";

const LOOK = 300; // ms between polls

/** Follow the run that is about to begin in `outDir`. The returned function ends that, after a last poll. */
export function followTraining(outDir: string, bar: Progress): () => void {
  const reader = new MetricsReader(outDir);
  reader.read(); // skip an earlier run's lines
  const look = () => {
    for (const event of reader.read()) show(event, bar);
  };
  const timer = setInterval(look, LOOK);
  return () => {
    clearInterval(timer);
    look();
  };
}

function show(event: MetricsEvent, bar: Progress): void {
  if (event.event === "start") {
    bar.log(`device: ${event.facts.device}`);
    bar.log(`number of parameters: ${(Number(event.facts.parameters) / 1e6).toFixed(2)}M`);
  } else if (event.event === "evaluate") {
    bar.log(evaluationLine(event.iter, event as Record<string, unknown>));
  } else if (event.event === "step") {
    const { iter, loss, tokens_per_s } = event;
    bar.update(
      iter + 1,
      `loss ${Number(loss).toFixed(4)}, ${Math.round(Number(tokens_per_s)).toLocaleString("en-US")} tokens/s`,
    );
  }
}
