// Draws the project's pictures: echarts' options -> SVG, SVG -> PNG, both without a browser. Their contents come from
// lib/monitor/plots.ts and lib/bench/scaling_report.ts. Importing it loads echarts (half a second), or throws a UserError if echarts
// isn't installed: import it only when a picture is wanted.

import { createRequire } from "node:module";
import { join } from "node:path";

import type { EChartsOption } from "echarts";

import { writeResult } from "../common/atomic.ts";
import { UserError } from "../common/errors.ts";
import { needPackages } from "../common/extra_packages.ts";
import { runName, stamp } from "../common/file_names.ts";
import { visible } from "../common/printable.ts";

needPackages("can't draw a picture", "echarts");
const echarts = await import("echarts");

export type Option = EChartsOption;

export interface Size {
  width: number; // in pixels
  height: number;
}

/** Colours that the colour-blind can tell apart, too (Okabe and Ito 2008, without those too pale for a line on white), then four
 * darker ones for more than six series. */
export const PALETTE = [
  ...(["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"] as const),
  ...(["#444444", "#882255", "#332288", "#999933"] as const),
] as const;
export const PALE = "#b8b8b8"; // for background lines
export const INK = "#333333";

/** The colour of the i-th series. */
export const colorOf = (i: number): string => PALETTE[i % PALETTE.length]!;

const FORMATS = ["svg", "png"] as const;
export type Format = (typeof FORMATS)[number];

const FAMILY = "DejaVu Sans";
export const FONT = `${FAMILY}, Verdana, sans-serif`;
const PIXELS = 8192; // a side of a PNG, at most

/** Widths of the characters from " " to "~" in DejaVu Sans: base 36, in 32nds of the font's size. */
const WIDTHS = "adfrkup9ccgracabkkkkkkkkkkbbrrrhwmmmpkipo99lisopjpmkknmwmkmcbcrggkkikkbkk99j9vkkkkdhdkjqjjhkbkr";

/** The width of a text in pixels; an upper estimate for what is not ASCII. */
export function textWidth(text: string, size: number): number {
  const widths = Array.from(text, (character) => {
    const width = Number.parseInt(WIDTHS[character.codePointAt(0)! - 32] ?? "", 36) / 32;
    return Number.isNaN(width) ? (character >= "\u2e80" ? 1 : 0.85) : width;
  });
  return size * widths.reduce((sum, width) => sum + width, 0);
}

// else it measures all text in a narrower font, and neighbouring texts overlap
echarts.setPlatformAPI({
  measureText: (text, font = "") => ({ width: textWidth(text, Number(/([\d.]+)px/.exec(font)?.[1] ?? 12)) }),
});

/** Options that all pictures share; a picture's own option overrides them. */
const COMMON = {
  backgroundColor: "#ffffff",
  animation: false,
  textStyle: { fontFamily: FONT, color: INK },
};

/** A self-contained SVG document. */
export function drawSvg(option: Option, { width, height }: Size): string {
  const chart = echarts.init(null, null, { renderer: "svg", ssr: true, width, height });
  try {
    chart.setOption({ ...COMMON, ...option });
    return visible(still(chart.renderToSVGString())); // XML knows no control characters
  } finally {
    chart.dispose(); // else its timer keeps the process alive
  }
}

/**
 * Removes what only a mouse needs and what is invisible (a frame of width 0, which some viewers and the PNG renderer draw as a
 * hairline), and positions text in a way that every viewer understands.
 */
function still(svg: string): string {
  return svg
    .replace(/<style\s*>.*?<\/style>\s*/s, "")
    .replaceAll(/ (?:class="zr[^"]*"|ecmeta_\w+="[^"]*"|pointer-events="visible"|xml:space="preserve")/g, "")
    .replaceAll("></path>", "/>")
    .replaceAll(/<path [^>]*fill-opacity="0"[^>]*stroke-width="0"\/>\n?/g, "")
    .replaceAll(/ stroke="[^"]*"([^>]*?) stroke-width="0"/g, "$1")
    .replaceAll(/<text dominant-baseline="central"([^>]*)>/g, (_, attributes: string) => {
      const size = Number(/font-size:([\d.]+)px/.exec(attributes)?.[1] ?? 12);
      const y = Number(/ y="([^"]*)"/.exec(attributes)?.[1] ?? 0);
      return `<text${attributes.replace(/ y="[^"]*"/, "")} y="${(y + 0.36 * size).toFixed(2)}">`;
    });
}

/**
 * The picture as a PNG file's bytes, `scale` pixels for each of the SVG's. Brings its own font instead of the
 * system's, and 35 MB of native code, loaded at the first call.
 * @throws UserError if that code isn't installed, or the picture is too large
 */
export async function svgToPng(svg: string, { scale = 2 }: { scale?: number } = {}): Promise<Buffer> {
  const { createCanvas, GlobalFonts, loadImage } = await loadCanvas();
  const { resolve } = createRequire(import.meta.url);
  for (const file of ["DejaVuSans.ttf", "DejaVuSans-Bold.ttf"]) {
    GlobalFonts.registerFromPath(resolve(`dejavu-fonts-ttf/ttf/${file}`), FAMILY);
  }
  const image = await loadImage(Buffer.from(svg));
  const [width, height] = [Math.round(image.width * scale), Math.round(image.height * scale)];
  if (Math.max(width, height) > PIXELS) {
    throw new UserError(`a PNG of ${width} x ${height} pixels is too large (${PIXELS} at most); take SVG`);
  }
  const canvas = createCanvas(width, height);
  canvas.getContext("2d").drawImage(image, 0, 0, width, height);
  return canvas.toBuffer("image/png");
}

async function loadCanvas() {
  needPackages("can't draw a PNG", "@napi-rs/canvas", "dejavu-fonts-ttf");
  try {
    return await import("@napi-rs/canvas");
  } catch (error) {
    const why = "@napi-rs/canvas has no program for this machine in node_modules";
    throw new UserError(`can't draw a PNG: ${why}; run: npm ci, or take --formats=svg`, { cause: error });
  }
}

/** The picture as a file's bytes. */
export async function encode(svg: string, format: Format): Promise<string | Buffer> {
  return format === "svg" ? `${svg}\n` : svgToPng(svg);
}

/**
 * Write a picture as visualizations/{kind}_{name}_{date}_{time}.svg or .png in a run's folder; gives the files' paths.
 * @throws UserError if that fails
 */
export async function writePlot(
  outDir: string,
  kind: string,
  svg: string,
  { formats = FORMATS, date = new Date() }: { formats?: readonly Format[]; date?: Date } = {},
): Promise<string[]> {
  const folder = join(outDir, "visualizations");
  const base = join(folder, `${kind}_${runName(outDir)}_${stamp(date)}`);
  const files: [path: string, bytes: string | Buffer][] = [];
  for (const format of formats) files.push([`${base}.${format}`, await encode(svg, format)]);
  for (const [path, bytes] of files) writeResult(path, bytes, `can't write a picture to ${folder}`);
  return files.map(([path]) => path);
}
