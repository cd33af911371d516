// Draws the losses that a run printed as a picture.
//
//   tsx train.ts config/train_shakespeare_char_cpu.ts | tee run.log
//   tsx tools/plot_loss.ts --log=run.log --to=loss.svg
//
// Grey: the loss of every logged step, as it was drawn. Lines: the estimates on both splits.

import { readFileSync } from "node:fs";

import * as echarts from "echarts";

import { configure } from "../configurator.ts";
import { writeFileAtomic } from "../engine/atomic.ts";
import { main, UserError } from "../engine/errors.ts";

const defaults = {
  log: "", // what train.ts printed
  to: "loss.svg", // the picture
  title: "",
};

await main(async () => {
  const config = await configure(import.meta.url, defaults, { usage: "Plot the losses of a run." });
  if (config.log === "") throw new UserError("--log names no file; give what train.ts printed: --log=run.log");
  const text = readFileSync(config.log, "utf8");
  const steps = [...text.matchAll(/^step (\d+): train loss ([\d.]+), val loss ([\d.]+)/gm)].map((match) =>
    match.map(Number),
  );
  const losses = [...text.matchAll(/^iter (\d+): loss ([\d.]+)/gm)].map(([, iter, loss]) => [
    Number(iter),
    Number(loss),
  ]);
  if (steps.length === 0)
    throw new UserError(`${config.log} has no line "step …: train loss …"; is it train.ts' output?`);

  const chart = echarts.init(null, null, { renderer: "svg", ssr: true, width: 760, height: 400 });
  const estimate = (name: string, column: number, color: string) => ({
    name,
    type: "line" as const,
    data: steps.map((row) => [row[1]!, row[column]!]),
    symbolSize: 6,
    itemStyle: { color },
    lineStyle: { width: 2 },
  });
  chart.setOption({
    backgroundColor: "#ffffff",
    animation: false,
    title: { text: config.title, left: "center", top: 0, textStyle: { fontSize: 14, fontWeight: "normal" } },
    legend: { top: 30 },
    grid: { left: 56, right: 24, top: 64, bottom: 48 },
    xAxis: { type: "value", name: "step", nameLocation: "middle", nameGap: 28, max: "dataMax" },
    yAxis: { type: "value", name: "loss (nats a character)", nameLocation: "middle", nameGap: 36, scale: true },
    series: [
      { name: "each batch", type: "line", data: losses, showSymbol: false, color: "#bbbbbb", lineStyle: { width: 1 } },
      estimate("train", 2, "#1f6fb4"),
      estimate("validation", 3, "#d1495b"),
    ],
  });
  writeFileAtomic(config.to, chart.renderToSVGString());
  chart.dispose();
  console.log(`wrote ${config.to}: ${steps.length} evaluations, ${losses.length} steps`);
});
